"""Users, teams, members and keys: made, found, changed and deleted.

Who may do so is asked elsewhere (`auth`); what must stay true for everybody is kept here: there is
always an admin, and a team doesn't lose its last owner but with that user's account.
"""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, joinedload

import auth
import passwords
import pixels
import throttle
from database import Page, db, paginate, writing
from errors import (
    AccessCodeTaken,
    BadRequest,
    IdTaken,
    NotFound,
    UsernameTaken,
)
from models import ApiKey, Pixel, Team, TeamUser, User
from permissions import Role, TeamRole

ACCESS_CODE_BYTES = 12
KEYS_PER_USER_MAX = 100
# A longer list is read in pages.
TEAMS_SHOWN_MAX = 100

USER_ORDERS = {"username": User.username, "createdAt": User.created_at}
TEAM_ORDERS = {"name": Team.name, "createdAt": Team.created_at}


def create_user(username: str, password: str, role: Role, user_id: uuid.UUID | None = None) -> User:
    """Store a new user.

    Raises: UsernameTaken, IdTaken.
    """
    user = User(
        id=user_id or uuid.uuid4(),
        username=username,
        password_hash=passwords.hash_password(password),
        role=role,
    )
    try:
        with writing():
            if db.session.get(User, user.id) is not None:
                raise IdTaken
            db.session.add(user)
    except IntegrityError:
        raise (UsernameTaken if find_user(username) else IdTaken) from None
    return user


def find_user(username: str) -> User | None:
    """Return the user of that name."""
    return db.session.scalar(select(User).where(User.username == username))


def user_of(user_id: uuid.UUID) -> User:
    """Return the user of that id.

    Raises: NotFound.
    """
    user = db.session.get(User, user_id)
    if user is None:
        raise NotFound("No such user.")
    return user


def users_listing(given: dict[str, Any]) -> Page[User]:
    """Return a page of all users, the newest first unless ordered otherwise."""
    statement = select(User)
    if given["search"]:
        statement = statement.where(User.username.icontains(given["search"], autoescape=True))
    return _listing(statement, USER_ORDERS, given)


def change_user(user: User, values: dict[str, Any]) -> User:
    """Give a user a new name, password or role; the latter two end every token of theirs.

    Raises: UsernameTaken; BadRequest for the last admin's role.
    """
    columns: dict[str, Any] = {}
    if "username" in values:
        columns["username"] = values["username"]
    if "password" in values:
        columns["password_hash"] = passwords.hash_password(values["password"])
    if values.get("role", user.role) != user.role:
        columns["role"] = values["role"]
    if columns.keys() & {"password_hash", "role"}:
        columns["generation"] = User.generation + 1
    try:
        with writing():
            if columns.get("role", Role.ADMIN) != Role.ADMIN:
                _require_another_admin(user)
            if columns:
                db.session.execute(update(User).where(User.id == user.id).values(columns))
    except IntegrityError:
        raise UsernameTaken from None
    db.session.expire(user)
    return user_of(user.id)


def change_password(user: User, current: str, new: str, address: str, at: datetime) -> User:
    """Give a user who knows the current password a new one; every token of theirs ends.

    Raises: BadRequest for a wrong one; TooManyRequests after too many wrong ones.
    """
    with throttle.guessing(user.username, address, at):
        if not passwords.is_password(user.password_hash, current):
            raise BadRequest("The current password is incorrect.")
    return change_user(user, {"password": new})


def remove_user(user: User) -> None:
    """Delete a user with their personal pixels and keys; a team's pixels stay, and so does it.

    Raises: BadRequest for the last admin.
    """
    with writing():
        _require_another_admin(user)
        pixels.remove_where(Pixel.user_id == user.id)
        db.session.execute(delete(User).where(User.id == user.id))


def _require_another_admin(user: User) -> None:
    others = select(User.id).where(User.role == Role.ADMIN, User.id != user.id)
    if db.session.scalar(others.limit(1)) is None:
        raise BadRequest("The last admin can't be deleted or demoted.")


def create_team(name: str, owner: User) -> tuple[Team, TeamUser]:
    """Store a new team and its owner's membership."""
    team = Team(id=uuid.uuid4(), name=name, access_code=new_access_code())
    with writing():
        db.session.add(team)
        db.session.flush()
        membership = TeamUser(team_id=team.id, user_id=owner.id, role=TeamRole.OWNER)
        db.session.add(membership)
    return team, membership


def new_access_code() -> str:
    """Return an access code that nobody can guess."""
    return "team_" + secrets.token_urlsafe(ACCESS_CODE_BYTES)


def change_team(team: Team, values: dict[str, str]) -> Team:
    """Give a team a new name or access code.

    Raises: AccessCodeTaken.
    """
    try:
        with writing():
            for name, value in values.items():
                setattr(team, name, value)
    except IntegrityError:
        raise AccessCodeTaken from None
    return team


def remove_team(team: Team) -> None:
    """Delete a team with its pixels."""
    with writing():
        pixels.remove_where(Pixel.team_id == team.id)
        db.session.execute(delete(Team).where(Team.id == team.id))


def teams_of(user: User, given: dict[str, Any]) -> Page[Team]:
    """Return a page of the teams that a user is in, the newest first unless ordered otherwise."""
    statement = select(Team).join(TeamUser).where(TeamUser.user_id == user.id)
    if given["search"]:
        statement = statement.where(Team.name.icontains(given["search"], autoescape=True))
    return _listing(statement, TEAM_ORDERS, given)


def first_teams_of(user: User) -> list[Team]:
    """Return the first `TEAMS_SHOWN_MAX` teams that a user is in, by name."""
    statement = select(Team).join(TeamUser).where(TeamUser.user_id == user.id)
    return list(db.session.scalars(statement.order_by(Team.name, Team.id).limit(TEAMS_SHOWN_MAX)))


def members_of(team: Team, given: dict[str, Any]) -> Page[TeamUser]:
    """Return a page of a team's members, in the order they came."""
    statement = select(TeamUser).join(User).where(TeamUser.team_id == team.id)
    if given["search"]:
        statement = statement.where(User.username.icontains(given["search"], autoescape=True))
    statement = statement.options(joinedload(TeamUser.user))
    ordered = statement.order_by(TeamUser.created_at, TeamUser.id)
    return paginate(ordered, given["page"], given["pageSize"])


def join_team(user: User, access_code: str, address: str, at: datetime) -> TeamUser:
    """Make a user who knows a team's access code a member of it.

    Raises: NotFound for a wrong code; BadRequest for who is in the team; TooManyRequests.
    """
    with throttle.guessing(f"access code of {user.id}", address, at):
        team = db.session.scalar(select(Team).where(Team.access_code == access_code))
        if team is None:
            raise NotFound("No team has this access code.")
    return add_member(team, user, TeamRole.MEMBER)


def add_member(team: Team, user: User, role: TeamRole) -> TeamUser:
    """Make a user a member of a team.

    Raises: BadRequest for who is one.
    """
    with writing():
        if find_member(team, user.id) is not None:
            raise BadRequest("The user is already a member of the team.")
        member = TeamUser(id=uuid.uuid4(), team_id=team.id, user_id=user.id, role=role)
        db.session.add(member)
    return member


def set_member(team: Team, user: User, role: TeamRole) -> TeamUser:
    """Make a user a member of a team, or change their role in it.

    Raises: BadRequest for the only owner.
    """
    if find_member(team, user.id) is None:
        return add_member(team, user, role)
    return change_member(team, user.id, role)


def change_member(team: Team, user_id: uuid.UUID, role: TeamRole) -> TeamUser:
    """Give a member of a team another role.

    Raises: NotFound for who is none; BadRequest for the only owner.
    """
    with writing():
        member = member_of(team, user_id)
        if role != TeamRole.OWNER:
            _require_another_owner(member)
        member.role = role
    return member


def find_member(team: Team, user_id: uuid.UUID) -> TeamUser | None:
    """Return a user's membership of a team."""
    return db.session.scalar(
        select(TeamUser)
        .where(TeamUser.team_id == team.id, TeamUser.user_id == user_id)
        .execution_options(populate_existing=True)
    )


def member_of(team: Team, user_id: uuid.UUID) -> TeamUser:
    """Return a user's membership of a team.

    Raises: NotFound for who is no member.
    """
    member = find_member(team, user_id)
    if member is None:
        raise NotFound("No such member of the team.")
    return member


def remove_member(team: Team, user_id: uuid.UUID) -> None:
    """Take a user out of a team.

    Raises: NotFound for who is not in it; BadRequest for the only owner.
    """
    with writing():
        member = member_of(team, user_id)
        _require_another_owner(member)
        db.session.delete(member)


def _require_another_owner(member: TeamUser) -> None:
    """Refuse if `member` is the only owner of the team."""
    others = select(TeamUser.id).where(
        TeamUser.team_id == member.team_id,
        TeamUser.role == TeamRole.OWNER,
        TeamUser.id != member.id,
    )
    if member.role == TeamRole.OWNER and db.session.scalar(others.limit(1)) is None:
        raise BadRequest("The team needs another owner first.")


def create_key(user: User, name: str) -> tuple[ApiKey, str]:
    """Store a new key; the second value is the key itself, kept nowhere.

    Raises: BadRequest for a user who has `KEYS_PER_USER_MAX` keys.
    """
    row, key = auth.create_key(user, name)
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


def revoke_key(user: User, key_id: uuid.UUID) -> None:
    """End a key at once.

    Raises: NotFound if the user has no such key.
    """
    key = db.session.get(ApiKey, key_id)
    if key is None or key.user_id != user.id:
        raise NotFound("No such API key.")
    with writing():
        db.session.execute(delete(ApiKey).where(ApiKey.id == key.id))


def _listing(
    statement: Any, orders: dict[str, InstrumentedAttribute[Any]], given: dict[str, Any]
) -> Page[Any]:
    """Return a page of a list, the newest first unless `given` orders otherwise."""
    column = orders[given["orderBy"] or "createdAt"]
    descending = given["sortDescending"]
    if descending is None:
        descending = given["orderBy"] is None
    entity_id = statement.column_descriptions[0]["entity"].id
    ordered = statement.order_by(column.desc() if descending else column, entity_id)
    return paginate(ordered, given["page"], given["pageSize"])
