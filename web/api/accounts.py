"""The JSON routes of accounts: signing in and out, the caller, their keys, and users for admins."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any

import auth
from core.clock import now
from core.database import Page
from core.errors import BadRequest, NotFound
from core.permissions import Action, Role
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
from web.request import address

blueprint = JsonBlueprint("accounts", __name__, url_prefix="/api", description="Accounts")


@blueprint.post("/auth/login")
@blueprint.arguments(LoginArgs)
@blueprint.response(200, LoginOut)
def login(given: dict[str, str]) -> dict[str, Any]:
    """POST: exchange a name and a password for a token. No authentication.

    200; 400; 401 for a wrong name or password; 429 after too many failures.
    """
    user = accounts.login(given["username"], given["password"], address(), now())
    return {"token": auth.issue_token(user), "user": _with_teams(user)}


@blueprint.post("/auth/verify")
@auth.required
@blueprint.response(200, WithTeams)
def verify() -> SimpleNamespace:
    """POST: the caller, with their teams. 200; 401."""
    return _with_teams(auth.caller().user)


@blueprint.get("/auth/verify")
@auth.required
@blueprint.response(200, WithTeams)
def verify_by_get() -> SimpleNamespace:
    """GET: the same, as older clients of Umami ask for it. 200; 401."""
    return _with_teams(auth.caller().user)


@blueprint.post("/auth/logout")
@auth.required
@blueprint.response(200, Ok)
def logout() -> dict[str, bool]:
    """POST: revoke the token that the request carries. 200; 401; 403 for an API key."""
    auth.revoke_token(auth.caller().credential, now())
    return {"ok": True}


@blueprint.get("/me")
@auth.required
@blueprint.response(200, MeAnswer)
def me() -> dict[str, Any]:
    """GET: the caller and their token. 200; 401."""
    return {"token": auth.caller().credential, "user": auth.caller().user}


@blueprint.post("/me/password")
@auth.required
@blueprint.arguments(PasswordChange)
@blueprint.response(200, UserOut)
def change_password(given: dict[str, str]) -> User:
    """POST: change the caller's password. 200; 400 for a wrong one; 401; 429 after too many.

    Every token of the caller ends, this request's too, and the answer holds no new one: sign in
    again. API keys stay.
    """
    user = auth.caller().user
    current, new = given["currentPassword"], given["newPassword"]
    return accounts.change_password(user, current, new, address(), now())


@blueprint.get("/me/api-keys")
@auth.required
@blueprint.response(200, ApiKeyOut(many=True))
def list_keys() -> list[ApiKey]:
    """GET: the caller's API keys, the newest first. 200; 401."""
    return accounts.keys_of(auth.caller().user)


@blueprint.post("/me/api-keys")
@auth.required
@blueprint.arguments(ApiKeyCreate)
@blueprint.response(200, ApiKeyCreated)
def create_key(given: dict[str, Any]) -> dict[str, Any]:
    """POST: create an API key; the answer holds it, this once. 200; 400; 401."""
    row, key = accounts.create_key(auth.caller().user, given["name"])
    columns = ("id", "name", "key_prefix", "created_at")
    return {"key": key, **{column: getattr(row, column) for column in columns}}


@blueprint.delete("/me/api-keys/<uuid:key_id>")
@auth.required
@blueprint.response(200, Ok)
def revoke_key(key_id: uuid.UUID) -> dict[str, bool]:
    """DELETE: end one of the caller's API keys at once. 200; 401; 404."""
    accounts.revoke_key(auth.caller().user, key_id)
    return {"ok": True}


@blueprint.post("/users")
@auth.required
@blueprint.arguments(UserCreate)
@blueprint.response(200, UserOut)
def create_user(given: dict[str, Any]) -> User:
    """POST: create a user. 200; 400; 401; 403 for all but admins; 409 for a name or id in use."""
    auth.caller().require(Action.MANAGE_USERS)
    return accounts.create_user(
        given["username"], given["password"], Role(given["role"]), given["id"]
    )


@blueprint.get("/users")
@auth.required
@blueprint.arguments(UserListArgs, location="query")
@blueprint.response(200, UserPage)
def list_users(given: dict[str, Any]) -> Page[User]:
    """GET: a page of all users. 200; 400; 401; 403 for all but admins."""
    auth.caller().require(Action.MANAGE_USERS)
    return accounts.users_listing(given)


@blueprint.get("/admin/users")
@auth.required
@blueprint.arguments(UserListArgs, location="query")
@blueprint.response(200, UserPage)
def list_users_as_umami(given: dict[str, Any]) -> Page[User]:
    """GET: the same, where Umami has it. 200; 400; 401; 403 for all but admins."""
    auth.caller().require(Action.MANAGE_USERS)
    return accounts.users_listing(given)


@blueprint.get("/users/<uuid:user_id>")
@auth.required
@blueprint.response(200, UserOut)
def read_user(user_id: uuid.UUID) -> User:
    """GET: a user. 200 for admins and for oneself; 401; 404."""
    return _known_user(user_id)


@blueprint.post("/users/<uuid:user_id>")
@auth.required
@blueprint.arguments(UserUpdate)
@blueprint.response(200, UserOut)
def update_user(given: dict[str, Any], user_id: uuid.UUID) -> User:
    """POST: change a user's name, password or role; what is left out stays.

    A new password or role ends every token of the user. 200; 400, also for the last admin's role;
    401; 403 for oneself without being an admin; 404; 409 for a name in use.
    """
    user = _known_user(user_id)
    auth.caller().require(Action.MANAGE_USERS)
    return accounts.change_user(user, given)


@blueprint.delete("/users/<uuid:user_id>")
@auth.required
@blueprint.response(200, Ok)
def delete_user(user_id: uuid.UUID) -> dict[str, bool]:
    """DELETE: remove a user with their keys and personal pixels; a team's pixels stay.

    A team that loses its only owner stays too; an admin can give it another. 200; 400 for
    oneself; 401; 403 for oneself without being an admin; 404.
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
