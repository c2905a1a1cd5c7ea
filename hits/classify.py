"""What fetched the image: user agent and headers in; class, reason and client out.

Pure: no Flask, no database, no clock, nothing kept but a bounded cache. First match wins:

1. a header announces a prefetch: prefetch
2. Apple Mail Privacy Protection, by its exact user agent: prefetch
3. Gmail's fetch at delivery, by the end of its user agent: prefetch
4. Gmail's image proxy, sent by a person who opened the mail: open
5. Yahoo's image proxy: open
6. mail clients, and the image proxies of smaller mail providers: open
7. crawlers, link previews, camo proxies, headless browsers, tools and HTTP libraries: bot
8. a browser: open
9. anything else, no user agent included: open

What is an open by these rules, but came sooner than a person can, is a prefetch after all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from hits.user_agents import (
    APPLE_MAIL,
    APPLE_MPP,
    BROWSERS,
    CRAWLER,
    DESKTOP,
    DESKTOP_MAIL_CLIENTS,
    GMAIL_PREFETCH_END,
    LISTED_CRAWLERS,
    MAIL_CLIENTS,
    MAIL_PROXIES,
    MOBILE,
    NO_DEVICE,
    ORDINARY_BROWSER,
    ROBOT,
    SYSTEMS,
    TABLET,
    TOOL,
)

# Raise it with every change of a rule, and of the release of crawler-user-agents: stored hits
# whose rules are older can then be found and classified again.
RULES_VERSION: Final = 1

USER_AGENT_CHARACTERS_MAX: Final = 1000
AGENTS_CACHED_MAX: Final = 2048
TOO_SOON_SECONDS_MAX: Final = 3.0
CLOCK_SKEW_SECONDS_MAX: Final = 10.0

HitClass = Literal["open", "prefetch", "bot"]
Reason = Literal[
    "prefetch-header",
    "apple-mpp",
    "gmail-prefetch",
    "gmail-proxy",
    "yahoo-proxy",
    "mail-client",
    "crawler",
    "tool",
    "browser",
    "unknown",
    "too-soon",
    "forged-token",
]
# The class that goes with a reason; a forged token is noted whatever the class.
CLASS_OF_REASON: Final[Mapping[Reason, HitClass]] = {
    "prefetch-header": "prefetch",
    "apple-mpp": "prefetch",
    "gmail-prefetch": "prefetch",
    "gmail-proxy": "open",
    "yahoo-proxy": "open",
    "mail-client": "open",
    "crawler": "bot",
    "tool": "bot",
    "browser": "open",
    "unknown": "open",
    "too-soon": "prefetch",
}

# What a request tells of itself beside its user agent, as bits that are stored with a hit.
PREFETCH_HEADER: Final = 1
TOO_SOON: Final = 2
FORGED_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Agent:
    """What a user-agent string says by itself.

    browser, os and device are named as Umami names them, with mail clients among the browsers;
    None is unknown, and all three are None for bots and, but for browser, for a provider's proxy.
    own_machine: the person's own machine fetched, so its address may tell the person's country.
    """

    reason: Reason
    browser: str | None = None
    os: str | None = None
    device: str | None = None
    own_machine: bool = False

    @property
    def hit_class(self) -> HitClass:
        """The class that goes with the reason."""
        return CLASS_OF_REASON[self.reason]


class Verdict(NamedTuple):
    """What one hit is. Look a country up only where own_machine is true."""

    hit_class: HitClass
    reason: Reason
    own_machine: bool


def classify_hit(agent: Agent, signals: int = 0) -> Verdict:
    """Return the verdict on one hit from its agent and its signals, PREFETCH_HEADER and so on.

    A prefetch that a header announces comes from the person's own browser, so own_machine stays
    as the agent has it. What comes too soon is a gateway that the mail passes (gophish#1390,
    #973), whatever its agent says. A forged token is the reason to be told, and changes no class.
    """
    verdict = Verdict(agent.hit_class, agent.reason, agent.own_machine)
    if signals & PREFETCH_HEADER:
        verdict = Verdict("prefetch", "prefetch-header", agent.own_machine)
    elif signals & TOO_SOON and agent.hit_class == "open":
        verdict = Verdict("prefetch", "too-soon", False)
    return verdict._replace(reason="forged-token") if signals & FORGED_TOKEN else verdict


def is_too_soon(seconds_since_sent: float) -> bool:
    """Tell whether a hit came before a person can have opened the mail.

    A sender's clock may be ahead of ours, so a little below zero is at once. Far below zero the
    time of sending is wrong or was only planned, and proves nothing.
    """
    return -CLOCK_SKEW_SECONDS_MAX <= seconds_since_sent <= TOO_SOON_SECONDS_MAX


def classify_agent(user_agent: str) -> Agent:
    """Return what a user-agent string says. Never raises, whatever the string.

    Only the first USER_AGENT_CHARACTERS_MAX characters count, so that no string is slow: store no
    more than these, and classifying again sees what the first time saw.
    """
    # HTTP does not count the blanks around a header's value, so neither does an exact match.
    return _classify_cut(user_agent[:USER_AGENT_CHARACTERS_MAX].strip(" \t"))


@lru_cache(maxsize=AGENTS_CACHED_MAX)
def _classify_cut(user_agent: str) -> Agent:
    lowered = user_agent.lower()
    return (
        _mail_provider(user_agent, lowered)
        or _mail_client(user_agent, lowered)
        or _bot(user_agent, lowered)
        or _browser(lowered)
    )


def _mail_provider(user_agent: str, lowered: str) -> Agent | None:
    """Apply rules 2 to 5, and rule 6 to the smaller providers' proxies."""
    if user_agent == APPLE_MPP:
        return Agent("apple-mpp", browser="apple-mail")
    if user_agent.endswith(GMAIL_PREFETCH_END):
        return Agent("gmail-prefetch", browser="gmail-proxy")
    match _first_name(MAIL_PROXIES, lowered):
        case None:
            return None
        case "gmail-proxy":
            return Agent("gmail-proxy", browser="gmail-proxy")
        case "yahoo-proxy":
            return Agent("yahoo-proxy", browser="yahoo-proxy")
        case name:
            return Agent("mail-client", browser=name)


def _mail_client(user_agent: str, lowered: str) -> Agent | None:
    name = _first_name(MAIL_CLIENTS, lowered)
    if name is None and APPLE_MAIL.fullmatch(user_agent):
        name = "apple-mail"
    if name is None:
        return None
    device = _device(lowered) or ("desktop" if name in DESKTOP_MAIL_CLIENTS else None)
    return Agent("mail-client", name, _system(lowered), device, own_machine=True)


def _bot(user_agent: str, lowered: str) -> Agent | None:
    # Nothing but a browser's own words is a browser, whatever a list says: crawler-user-agents
    # 1.67 lists a build of Android 15 that ordinary telephones carry.
    if ORDINARY_BROWSER.fullmatch(user_agent):
        return None
    if TOOL.search(lowered) and not ROBOT.search(lowered):
        return Agent("tool")
    if CRAWLER.search(lowered) or any(names.search(user_agent) for names in LISTED_CRAWLERS):
        return Agent("crawler")
    return None


def _browser(lowered: str) -> Agent:
    name = _first_name(BROWSERS, lowered)
    reason: Reason = "unknown" if name is None else "browser"
    return Agent(reason, name, _system(lowered), _device(lowered), own_machine=True)


def _system(lowered: str) -> str | None:
    return _first_name(SYSTEMS, lowered)


def _device(lowered: str) -> str | None:
    """Return desktop, mobile or tablet; Umami's laptop needs a screen's width."""
    if NO_DEVICE.search(lowered):
        return None
    if TABLET.search(lowered):
        return "tablet"
    if MOBILE.search(lowered):
        return "mobile"
    # Android's browsers say Mobile on a telephone and nothing on a tablet. Its other programs
    # say nothing on either.
    if "android" in lowered:
        return "tablet" if lowered.startswith("mozilla/") else "mobile"
    return "desktop" if DESKTOP.search(lowered) else None


def _first_name(rows: Iterable[tuple[str, ...]], lowered: str) -> str | None:
    """Return the name of the first row whose other words all stand in the user agent."""
    for name, *words in rows:
        if all(word in lowered for word in words):
            return name
    return None
