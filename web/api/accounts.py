"""The JSON routes of accounts: signing in and out, the caller, their keys, and users for admins."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any

import auth
from core.clock import now
from core.errors import (
    BadRequest,
    Forbidden,
    IdTaken,
    IncorrectLogin,
    KeyScope,
    NotFound,
    UsernameTaken,
)
from core.lists import Page
from core.permissions import Action, Role, Scope
from models import ApiKey, User
from people import accounts, teams
from schemas import (
    ApiKeyCreate,
    ApiKeyCreated,
    ApiKeyOut,
    LoginArgs,
    LoginOut,
    MeAnswer,
    Ok,
    PasswordChange,
    UserCreate,
    UserListArgs,
    UserOut,
    UserPage,
    UserUpdate,
    WithTeams,
)
from web.api.blueprint import JsonBlueprint
from web.rate_limit import count_sign_in
from web.request import address

KEY_COLUMNS = (
    *(ApiKey.id, ApiKey.name, ApiKey.key_prefix, ApiKey.created_at),
    *(ApiKey.scope, ApiKey.pixel_id, ApiKey.team_id, ApiKey.expires_at),
)

blueprint = JsonBlueprint("accounts", __name__, url_prefix="/api", description="Accounts")


@blueprint.post("/auth/login", raises=(IncorrectLogin, KeyScope))
@auth.without_key
@blueprint.arguments(LoginArgs)
@blueprint.response(200, LoginOut)
def login(body: dict[str, str]) -> dict[str, Any]:
    """Exchange a name and a password for a token. After too many failures it takes a while."""
    count_sign_in()
    user = accounts.login(body["username"], body["password"], address(), now())
    return {"token": auth.issue_token(user), "user": _with_teams(user)}


@blueprint.post("/auth/verify")
@auth.required
@blueprint.response(200, WithTeams)
def verify() -> SimpleNamespace:
    """Return the caller with their teams."""
    return _with_teams(auth.caller().user)


@blueprint.get("/auth/verify")
@auth.required
@blueprint.response(200, WithTeams)
def verify_by_get() -> SimpleNamespace:
    """Return the caller with their teams, as older clients of Umami ask for it."""
    return _with_teams(auth.caller().user)


@blueprint.post("/auth/logout", raises=(Forbidden,))
@auth.required
@blueprint.response(200, Ok)
def logout() -> dict[str, bool]:
    """Revoke the token that the request carries. An API key is not signed out but deleted."""
    auth.revoke_token(auth.caller().credential, now())
    return {"ok": True}


@blueprint.get("/me", operation_id="getMe")
@auth.required
@blueprint.response(200, MeAnswer)
def me() -> dict[str, Any]:
    """Return the caller and the credential of the request."""
    return {"token": auth.caller().credential, "user": auth.caller().user}


@blueprint.post("/me/password", operation_id="updateMyPassword")
@auth.required
@blueprint.arguments(PasswordChange)
@blueprint.response(200, UserOut)
def change_password(body: dict[str, str]) -> User:
    """Change the caller's password.

    Every token of the caller ends, this request's too, and the answer holds no new one: sign in
    again. API keys stay.
    """
    count_sign_in()
    user = auth.caller().user
    current, new = body["currentPassword"], body["newPassword"]
    return accounts.change_password(user, current, new, address(), now())


@blueprint.get("/me/api-keys", operation_id="getMyApiKeys")
@auth.required
@blueprint.response(200, ApiKeyOut(many=True))
def list_keys() -> list[ApiKey]:
    """Return the caller's API keys, the newest first."""
    return accounts.keys_of(auth.caller().user)


@blueprint.post("/me/api-keys", operation_id="createMyApiKey", raises=(NotFound,))
@auth.required
@blueprint.arguments(ApiKeyCreate)
@blueprint.response(200, ApiKeyCreated)
def create_key(body: dict[str, Any]) -> dict[str, Any]:
    """Create an API key. This answer is the only one that holds the key itself."""
    caller = auth.caller()
    if body["pixelId"]:
        auth.pixel_for(caller, body["pixelId"], Action.READ_PIXEL)
    if body["teamId"]:
        auth.team_for(caller, body["teamId"], Action.READ_TEAM)
    row, key = accounts.create_key(
        caller.user,
        body["name"],
        scope=Scope(body["scope"]),
        pixel_id=body["pixelId"],
        team_id=body["teamId"],
        expires_at=body["expiresAt"],
    )
    return {"key": key, **{column.key: getattr(row, column.key) for column in KEY_COLUMNS}}


@blueprint.delete("/me/api-keys/<uuid:key_id>", operation_id="deleteMyApiKey", raises=(NotFound,))
@auth.required
@blueprint.response(200, Ok)
def revoke_key(key_id: uuid.UUID) -> dict[str, bool]:
    """End one of the caller's API keys at once."""
    accounts.revoke_key(auth.caller().user, key_id)
    return {"ok": True}


@blueprint.post("/users", raises=(Forbidden, UsernameTaken, IdTaken))
@auth.required
@blueprint.arguments(UserCreate)
@blueprint.response(200, UserOut)
def create_user(body: dict[str, Any]) -> User:
    """Create a user. Only admins may."""
    auth.caller().require(Action.MANAGE_USERS)
    return accounts.create_user(body["username"], body["password"], Role(body["role"]), body["id"])


@blueprint.get("/users", operation_id="getUsers", raises=(Forbidden,))
@auth.required
@blueprint.arguments(UserListArgs, location="query")
@blueprint.response(200, UserPage)
def list_users(arguments: dict[str, Any]) -> Page[User]:
    """Return a page of all users. Only admins may."""
    auth.caller().require(Action.MANAGE_USERS)
    return accounts.listing(arguments["list"])


@blueprint.get("/admin/users", operation_id="getAdminUsers", raises=(Forbidden,))
@auth.required
@blueprint.arguments(UserListArgs, location="query")
@blueprint.response(200, UserPage)
def list_users_as_umami(arguments: dict[str, Any]) -> Page[User]:
    """Return a page of all users, where Umami has it. Only admins may."""
    auth.caller().require(Action.MANAGE_USERS)
    return accounts.listing(arguments["list"])


@blueprint.get("/users/<uuid:user_id>", operation_id="getUser", raises=(NotFound,))
@auth.required
@blueprint.response(200, UserOut)
def read_user(user_id: uuid.UUID) -> User:
    """Return a user. Admins may read everybody, others themselves."""
    return _known_user(user_id)


@blueprint.post("/users/<uuid:user_id>", raises=(BadRequest, Forbidden, NotFound, UsernameTaken))
@auth.required
@blueprint.arguments(UserUpdate)
@blueprint.response(200, UserOut)
def update_user(body: dict[str, Any], user_id: uuid.UUID) -> User:
    """Change a user's name, password or role; what is left out stays. Only admins may.

    A new password or role ends every token of the user. The last admin stays one.
    """
    user = _known_user(user_id)
    auth.caller().require(Action.MANAGE_USERS)
    return accounts.change_user(user, **body)


@blueprint.delete("/users/<uuid:user_id>", raises=(BadRequest, Forbidden, NotFound))
@auth.required
@blueprint.response(200, Ok)
def delete_user(user_id: uuid.UUID) -> dict[str, bool]:
    """Remove a user with their keys and personal pixels; a team's pixels stay. Only admins may.

    A team that loses its only owner stays too; an admin can give it another. Nobody deletes
    themselves.
    """
    user = _known_user(user_id)
    auth.caller().require(Action.MANAGE_USERS)
    if user.id == auth.caller().user.id:
        raise BadRequest("You cannot delete yourself.")
    accounts.remove_user(user)
    return {"ok": True}


def _known_user(user_id: uuid.UUID) -> User:
    """Return the user if the caller may know of them: admins know all, others themselves."""
    caller = auth.caller()
    if user_id != caller.user.id and not caller.may(Action.MANAGE_USERS):
        raise NotFound("No such user.")
    return accounts.user_of(user_id)


def _with_teams(user: User) -> SimpleNamespace:
    columns = ("id", "username", "role", "created_at")
    shape = {column: getattr(user, column) for column in columns}
    return SimpleNamespace(**shape, teams=teams.first_teams_of(user))
