"""Users and their API keys: signing in, and what an account can do."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from flask import current_app
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError

import auth
from core import passwords
from core.addresses import network_of
from core.clock import now
from core.database import db, holds, in_order, is_duplicate, is_orphan, paginate
from core.errors import BadRequest, IdTaken, IncorrectLogin, NotFound, UsernameTaken
from core.lists import ListQuery, Page
from core.locks import writing
from core.permissions import Role, Scope
from models import ApiKey, Owner, Team, User
from people import login_throttle, user_names
from pixels import pixels

KEYS_PER_USER_MAX = 100
# Small enough to be raised for as long as anybody lives.
GENERATION_BITS = 30
# Names that are alike are from before such were refused.
ALIKE_READ_MAX = 100

USER_ORDERS = {"username": User.username, "createdAt": User.created_at}


def create_user(username: str, password: str, role: Role, user_id: uuid.UUID | None = None) -> User:
    """Store a new user.

    Raises: UsernameTaken, IdTaken.
    """
    user = new_user(username, password, role, user_id)
    try:
        with writing():
            if db.session.get(User, user.id) is not None:
                raise IdTaken
            require_free(username, user.id)
            db.session.add(user)
    except IntegrityError as error:
        if not is_duplicate(error):
            raise
        raise (UsernameTaken if find_user(username) else IdTaken) from None
    return user


def new_user(username: str, password: str, role: Role, user_id: uuid.UUID | None = None) -> User:
    """Return a user who is not yet added to a session."""
    return User(
        id=user_id or uuid.uuid4(),
        username=username,
        folded_username=user_names.folded_username(username),
        password_hash=passwords.hash_password(password),
        role=role,
        # Tokens of a deleted user of the same id are of another generation.
        generation=secrets.randbits(GENERATION_BITS),
    )


def find_user(username: str) -> User | None:
    """Return the user of that name: the exact one, else the only one whose name is like it."""
    is_alike = User.folded_username == user_names.folded_username(username)
    alike = select(User).where(is_alike | (User.username == username))
    found = list(db.session.scalars(alike.limit(ALIKE_READ_MAX)))
    exact = [user for user in found if user.username == username]
    candidates = exact or found
    return candidates[0] if len(candidates) == 1 else None


def require_free(username: str, user_id: uuid.UUID) -> None:
    """Refuse a name that another user has, or one like it, inside `writing()`."""
    is_alike = User.folded_username == user_names.folded_username(username)
    alike = select(User.id).where(is_alike, User.id != user_id)
    if db.session.scalar(alike.limit(1)) is not None:
        raise UsernameTaken


def user_of(user_id: uuid.UUID) -> User:
    """Return the user of that id.

    Raises: NotFound.
    """
    user = db.session.get(User, user_id)
    if user is None:
        raise NotFound("No such user.")
    return user


def users_of(ids: Collection[uuid.UUID | None]) -> dict[uuid.UUID, User]:
    """Return those users of these who are there, by their ids."""
    return {user.id: user for user in db.session.scalars(select(User).where(User.id.in_(ids)))}


def owner_name(owner: uuid.UUID) -> str | None:
    """Return the name of the team, or else of the user, of that id; None if neither is there."""
    team = db.session.get(Team, owner)
    if team is not None:
        return team.name
    user = db.session.get(User, owner)
    return user.username if user else None


def listing(query: ListQuery) -> Page[User]:
    """Return a page of all users, the newest first unless ordered otherwise."""
    statement = select(User)
    if query.search:
        statement = statement.where(holds(User.username, query.search))
    return paginate(in_order(statement, query, USER_ORDERS, User.id), query)


def every_user(count_max: int | None = None) -> list[User]:
    """Return all users by name, or the first of them."""
    return list(db.session.scalars(select(User).order_by(User.username).limit(count_max)))


def first_admin() -> User:
    """Return the admin that has been there for longest."""
    admins = select(User).where(User.role == Role.ADMIN).order_by(User.created_at)
    return db.session.scalars(admins.limit(1)).one()


def change_user(
    user: User,
    *,
    username: str | None = None,
    password: str | None = None,
    role: Role | None = None,
) -> User:
    """Give a user a new name, password or role; the latter two end every token of theirs.

    Raises: UsernameTaken; BadRequest for the last admin's role.
    """
    columns: dict[str, Any] = {}
    if username is not None:
        columns["username"] = username
        columns["folded_username"] = user_names.folded_username(username)
    if password is not None:
        columns["password_hash"] = passwords.hash_password(password)
    if role is not None and role != user.role:
        columns["role"] = role
    if columns.keys() & {"password_hash", "role"}:
        columns["generation"] = User.generation + 1
    try:
        with writing():
            if columns.get("role", Role.ADMIN) != Role.ADMIN:
                _require_another_admin(user)
            if username is not None and username != user.username:
                require_free(username, user.id)
            if columns:
                db.session.execute(update(User).where(User.id == user.id).values(columns))
    except IntegrityError as error:
        if not is_duplicate(error):
            raise
        raise UsernameTaken from None
    db.session.expire(user)
    return user_of(user.id)


def change_password(user: User, current: str, new: str, address: str, at: datetime) -> User:
    """Give a user who knows the current password a new one; every token of theirs ends.

    Raises: BadRequest for a wrong one; TooManyRequests after too many wrong ones.
    """
    with passwords.place(network_of(address)):
        with login_throttle.guessing(user.username, address, at):
            if not passwords.is_password(user.password_hash, current):
                raise BadRequest("The current password is incorrect.")
        return change_user(user, password=new)


def remove_user(user: User, heir: Owner | None = None) -> None:
    """Delete a user with their keys; their personal pixels too, unless there is an heir.

    A team's pixels stay, and so does it.

    Raises: BadRequest for the last admin; NotFound for an heir who is deleted meanwhile.
    """
    with _heir_there(), writing():
        _require_another_admin(user)
        if heir:
            pixels.move_all_of(Owner(user_id=user.id), heir)
        else:
            pixels.remove_all_of(Owner(user_id=user.id))
        db.session.execute(delete(User).where(User.id == user.id))


@contextmanager
def _heir_there() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        if not is_orphan(error):
            raise
        raise NotFound("Whoever should get the pixels is no longer there.") from None


def _require_another_admin(user: User) -> None:
    others = select(User.id).where(User.role == Role.ADMIN, User.id != user.id)
    if db.session.scalar(others.limit(1)) is None:
        raise BadRequest("The last admin can't be deleted or demoted.")


def create_key(
    user: User,
    name: str,
    *,
    scope: Scope = Scope.ALL,
    pixel_id: uuid.UUID | None = None,
    team_id: uuid.UUID | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Store a new key; the second value is the key itself, kept nowhere.

    Raises: BadRequest for a user who has `KEYS_PER_USER_MAX` keys, or an end that is past.
    """
    if expires_at is not None and expires_at <= now():
        problem = "Must be in the future."
        raise BadRequest(f"expiresAt: {problem}", {"expiresAt": [problem]})
    row, key = auth.create_key(
        user, name, scope=scope, pixel_id=pixel_id, team_id=team_id, expires_at=expires_at
    )
    count = select(func.count()).where(ApiKey.user_id == user.id)
    with writing():
        if (db.session.scalar(count) or 0) >= KEYS_PER_USER_MAX:
            raise BadRequest(f"A user has {KEYS_PER_USER_MAX} API keys at most; delete one first.")
        db.session.add(row)
    return row, key


def keys_of(user: User) -> list[ApiKey]:
    """Return a user's keys, the newest first; they are `KEYS_PER_USER_MAX` at most."""
    statement = select(ApiKey).where(ApiKey.user_id == user.id)
    return list(db.session.scalars(statement.order_by(ApiKey.created_at.desc(), ApiKey.id)))


def every_key() -> list[ApiKey]:
    """Return everybody's keys with their users, by the users' names."""
    statement = select(ApiKey).join(User).order_by(User.username, ApiKey.created_at)
    return list(db.session.scalars(statement))


def revoke_key(user: User, key_id: uuid.UUID) -> None:
    """End a key at once.

    Raises: NotFound if the user has no such key.
    """
    key = db.session.get(ApiKey, key_id)
    if key is None or key.user_id != user.id:
        raise NotFound("No such API key.")
    with writing():
        db.session.execute(delete(ApiKey).where(ApiKey.id == key.id))


def login(username: str, password: str, address: str, at: datetime) -> User:
    """Return the user of that name and password, who signs in from `address`.

    The first time is noted.

    Raises: IncorrectLogin, after the same work whether the name or the password is wrong;
    TooManyRequests after too many failures.
    """
    # A place comes first, so that a caller who gets none costs no writes.
    with (
        passwords.place(network_of(address)),
        login_throttle.guessing(username, address, at),
    ):
        user = find_user(username)
        password_hash = user.password_hash if user else passwords.NOBODYS_HASH
        if not passwords.is_password(password_hash, password) or not user:
            raise IncorrectLogin
    if user.signed_in_at is None:
        _note_first_sign_in(user, at)
    return user


def _note_first_sign_in(user: User, at: datetime) -> None:
    with writing():
        user.signed_in_at = at
    if user.role == Role.ADMIN:
        # Its job is done (see `first_start`); other nodes' housekeepers remove theirs.
        with suppress(OSError):
            current_app.config["SETTINGS"].first_start_path.unlink()
