"""Who may do what: one table of roles and actions for a user, one for a team's member.

An API key may do what its user may, as far as its scope reaches: that goes by method and route.

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


class Scope(StrEnum):
    """How far an API key reaches, of all that its user may do."""

    READ = "read"
    WRITE = "write"
    ALL = "all"


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


# Every key may ask what it is good for.
RULE_OF_EVERY_KEY = "/api/auth/verify"
# No key of any scope: with one of these a key could outlive its own end, or make a wider one.
RULES_OF_NO_KEY = (
    "/api/auth/login",
    "/api/auth/logout",
    "/api/me/password",
    "/api/me/api-keys",
)
# What a key of scope `write` may change.
RULES_TO_WRITE = ("/api/pixels", "/api/recipient", "/api/webhooks", "/api/send", "/api/batch")
# A share shows figures to anybody, which is more than to change a pixel.
END_OF_SHARES = "/shares"
# Beside routes with a pixel or a team in their path, those that a key limited to one may ask: each
# asks for the pixel or the team itself, or leaves out what the key doesn't reach.
RULES_WITHIN_LIMITS = {
    RULE_OF_EVERY_KEY: {"GET", "POST"},
    "/api/me": {"GET"},
    "/api/pixels": {"POST"},
    "/api/pixels/charts": {"GET"},
    "/api/pixels/mailings": {"GET"},
    "/api/websites/charts": {"GET"},
    "/api/share": {"POST"},
    "/api/share/id/<uuid:share_id>": {"GET", "POST", "DELETE"},
    "/api/webhooks": {"GET", "POST"},
    "/api/send": {"POST"},
    "/api/batch": {"POST"},
}


def reaches(scope: Scope, method: str, rule: str) -> bool:
    """Tell whether a key of a scope may send `method` to a route, named by its rule."""
    if rule == RULE_OF_EVERY_KEY:
        return True
    if _is_below(rule, RULES_OF_NO_KEY):
        return False
    if scope == Scope.ALL or method == "GET":
        return True
    to_write = _is_below(rule, RULES_TO_WRITE) and not rule.endswith(END_OF_SHARES)
    return scope == Scope.WRITE and to_write


def is_within_limits(method: str, rule: str) -> bool:
    """Tell whether a route may be asked with a key that is limited to a pixel or a team."""
    names_one = any(f"<uuid:{name}>" in rule for name in ("pixel_id", "team_id", "webhook_id"))
    return names_one or method in RULES_WITHIN_LIMITS.get(rule, ())


def _is_below(rule: str, rules: tuple[str, ...]) -> bool:
    return any(rule == top or rule.startswith(f"{top}/") for top in rules)
