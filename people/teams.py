"""Teams and their members: what may be done with them, and what it changes."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import joinedload

from core.database import db, holds, in_order, is_duplicate, paginate
from core.errors import AccessCodeTaken, BadRequest, NotFound
from core.lists import ListQuery, Page
from core.locks import writing
from core.permissions import TeamRole
from models import Owner, Team, TeamUser, User
from people import login_throttle
from pixels import pixels

ACCESS_CODE_BYTES = 12
# A longer list is read in pages.
TEAMS_SHOWN_MAX = 100
TEAM_ORDERS = {"name": Team.name, "createdAt": Team.created_at}


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


def change_team(
    team: Team,
    user: User,
    address: str,
    at: datetime,
    *,
    name: str | None = None,
    access_code: str | None = None,
) -> Team:
    """Give a team a new name or access code, as a user at an address chose.

    That another team has the code is told only as often as a wrong one is when joining.

    Raises: AccessCodeTaken, TooManyRequests.
    """
    is_guess = access_code is not None and access_code != team.access_code
    # A code that nobody has would take the count of those before back.
    guess = _guessing(user, address, at, is_proof=False) if is_guess else nullcontext()
    with guess:
        return _changed(team, name, access_code)


def renew_access_code(team: Team) -> Team:
    """Give a team a new access code; the old one lets nobody in."""
    return _changed(team, None, new_access_code())


def remove_team(team: Team) -> None:
    """Delete a team with its pixels."""
    with writing():
        pixels.remove_all_of(Owner(team_id=team.id))
        db.session.execute(delete(Team).where(Team.id == team.id))


def teams_of(user: User, query: ListQuery) -> Page[Team]:
    """Return a page of the teams that a user is in, the newest first unless ordered otherwise."""
    statement = select(Team).join(TeamUser).where(TeamUser.user_id == user.id)
    if query.search:
        statement = statement.where(holds(Team.name, query.search))
    return paginate(in_order(statement, query, TEAM_ORDERS, Team.id), query)


def first_teams_of(user: User) -> list[Team]:
    """Return the first `TEAMS_SHOWN_MAX` teams that a user is in, by name."""
    statement = select(Team).join(TeamUser).where(TeamUser.user_id == user.id)
    return list(db.session.scalars(statement.order_by(Team.name, Team.id).limit(TEAMS_SHOWN_MAX)))


def ids_of(user_id: uuid.UUID) -> list[uuid.UUID]:
    """Return the ids of all teams that a user is in."""
    return list(db.session.scalars(select(TeamUser.team_id).where(TeamUser.user_id == user_id)))


def names_of(
    ids: Collection[uuid.UUID], among: Collection[uuid.UUID] | None
) -> dict[uuid.UUID, str]:
    """Return the names of those teams of these that are among others, None for all."""
    found = select(Team.id, Team.name).where(Team.id.in_(ids))
    if among is not None:
        found = found.where(Team.id.in_(among))
    return {row.id: row.name for row in db.session.execute(found)}


def every_team(count_max: int) -> list[Team]:
    """Return the first of all teams, by name."""
    return list(db.session.scalars(select(Team).order_by(Team.name, Team.id).limit(count_max)))


def find_team(team_id: uuid.UUID) -> Team | None:
    """Return the team of that id, None if there is none."""
    return db.session.get(Team, team_id)


def members_of(team: Team, query: ListQuery) -> Page[TeamUser]:
    """Return a page of a team's members, in the order they came."""
    statement = select(TeamUser).join(User).where(TeamUser.team_id == team.id)
    if query.search:
        statement = statement.where(holds(User.username, query.search))
    statement = statement.options(joinedload(TeamUser.user))
    ordered = statement.order_by(TeamUser.created_at, TeamUser.id)
    return paginate(ordered, query)


def every_member_of(team: Team) -> list[TeamUser]:
    """Return all of a team's members, in the order they came."""
    statement = select(TeamUser).where(TeamUser.team_id == team.id)
    return list(db.session.scalars(statement.order_by(TeamUser.created_at)))


def with_member_counts() -> list[tuple[Team, int]]:
    """Return all teams by name, with how many members each has."""
    count = select(func.count()).where(TeamUser.team_id == Team.id).scalar_subquery()
    rows = db.session.execute(select(Team, count).order_by(Team.name))
    return [(team, members or 0) for team, members in rows]


def join_team(user: User, access_code: str, address: str, at: datetime) -> TeamUser:
    """Make a user who knows a team's access code a member of it.

    Raises: NotFound for a wrong code; BadRequest for a member; TooManyRequests.
    """
    with _guessing(user, address, at):
        team = db.session.scalar(select(Team).where(Team.access_code == access_code))
        if team is None:
            raise NotFound("No team has this access code.")
    return add_member(team, user, TeamRole.MEMBER)


def _guessing(
    user: User, address: str, at: datetime, *, is_proof: bool = True
) -> AbstractContextManager[None]:
    return login_throttle.guessing(f"access code of {user.id}", address, at, is_proof=is_proof)


def _changed(team: Team, name: str | None, access_code: str | None) -> Team:
    try:
        with writing():
            team.name = team.name if name is None else name
            team.access_code = team.access_code if access_code is None else access_code
    except IntegrityError as error:
        if not is_duplicate(error):
            raise
        raise AccessCodeTaken from None
    return team


def add_member(team: Team, user: User, role: TeamRole) -> TeamUser:
    """Make a user a member of a team.

    Raises: BadRequest for a member.
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

    Raises: NotFound for a user who is no member; BadRequest for the only owner.
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

    Raises: NotFound for a user who is no member.
    """
    member = find_member(team, user_id)
    if member is None:
        raise NotFound("No such member of the team.")
    return member


def remove_member(team: Team, user_id: uuid.UUID) -> None:
    """Take a user out of a team.

    Raises: NotFound for a user who is no member; BadRequest for the only owner.
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
