"""Who may do what: one table of roles and actions for a user, one for a team's member.

`auth` asks it for each request; the tests of every route are generated from it.
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a user is on this server."""

    ADMIN = "admin"
    USER = "user"
    VIEW_ONLY = "view-only"


class TeamRole(StrEnum):
    """What a user is in a team."""

    OWNER = "team-owner"
    MANAGER = "team-manager"
    MEMBER = "team-member"
    VIEW_ONLY = "team-view-only"


class Action(StrEnum):
    """What can be allowed."""

    READ_PIXEL = "read-pixel"
    CREATE_PIXEL = "create-pixel"
    CHANGE_PIXEL = "change-pixel"
    CREATE_TEAM = "create-team"
    READ_TEAM = "read-team"
    CHANGE_TEAM = "change-team"
    DELETE_TEAM = "delete-team"
    MANAGE_MEMBERS = "manage-members"
    MANAGE_OWNERS = "manage-owners"
    MANAGE_USERS = "manage-users"


# What each role may do; for a user, to what is their own.
ROLE_ACTIONS: dict[Role, frozenset[Action]] = {
    Role.ADMIN: frozenset(Action),
    Role.USER: frozenset(
        {Action.READ_PIXEL, Action.CREATE_PIXEL, Action.CHANGE_PIXEL, Action.CREATE_TEAM}
    ),
    Role.VIEW_ONLY: frozenset({Action.READ_PIXEL}),
}

# What each role in a team may do there. To create a pixel takes the user's own right as well.
TEAM_ROLE_ACTIONS: dict[TeamRole, frozenset[Action]] = {
    TeamRole.OWNER: frozenset(Action) - {Action.CREATE_TEAM, Action.MANAGE_USERS},
    TeamRole.MANAGER: frozenset(Action)
    - {Action.CREATE_TEAM, Action.MANAGE_USERS, Action.MANAGE_OWNERS, Action.DELETE_TEAM},
    TeamRole.MEMBER: frozenset(
        {Action.READ_TEAM, Action.READ_PIXEL, Action.CREATE_PIXEL, Action.CHANGE_PIXEL}
    ),
    TeamRole.VIEW_ONLY: frozenset({Action.READ_TEAM, Action.READ_PIXEL}),
}


def needed_for(role: TeamRole) -> Action:
    """Return what it takes to give a role in a team, or to take it."""
    return Action.MANAGE_OWNERS if role == TeamRole.OWNER else Action.MANAGE_MEMBERS
