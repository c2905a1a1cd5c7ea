"""The names that are stored of a user agent, and what stands for an agent that isn't kept."""

from __future__ import annotations

from typing import Final, NamedTuple

from hits.classify import classify_agent

# Stands for a text that one sender too many, or too often, brought for the first time.
OTHER: Final = "other"
NAME_CHARACTERS_MAX = 100


class AgentNames(NamedTuple):
    """What a user agent is called, None where that is unknown."""

    browser: str | None = None
    os: str | None = None
    device: str | None = None


def agent_names_of(user_agent: str) -> AgentNames:
    """Return what today's rules read in a user agent."""
    if user_agent == OTHER:
        return AgentNames(OTHER, OTHER, OTHER)
    says = classify_agent(user_agent)
    names = (says.browser, says.os, says.device)
    return AgentNames(*(name and name[:NAME_CHARACTERS_MAX] for name in names))
