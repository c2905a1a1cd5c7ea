"""Invitations: a link by which somebody new makes their own account, once, within a week.

Nothing is stored for a link until it is used. It says what role it gives, is signed, and is valid
only while its maker may still make users and the team that it leads to has the same access code:
a new code ends open invitations as well.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import datetime, timedelta
from typing import NamedTuple

from flask import current_app
from itsdangerous import BadData, URLSafeTimedSerializer
from sqlalchemy.exc import IntegrityError

import auth
from core.database import db, is_duplicate
from core.errors import NotFound, UsernameTaken
from core.locks import writing
from core.permissions import ROLE_ACTIONS, Action, Role, TeamRole
from core.signatures import TimestampSigner
from models import RevokedToken, Team, TeamUser, User
from people import accounts

INVITATION_DAYS_MAX = 7
CODE_CHARACTERS = 16


class Invitation(NamedTuple):
    """What a link offers: a role on this server, and perhaps a team."""

    id: str
    role: Role
    team: Team | None


def make(by: User, role: Role, team: Team | None, at: datetime) -> tuple[str, datetime]:
    """Return the token of a new link, and when it ends."""
    code = _digest(team.access_code) if team else ""
    team_id = team.id.hex if team else ""
    token = _signer().dumps([secrets.token_hex(8), by.id.hex, by.generation, role, team_id, code])
    return str(token), at + timedelta(days=INVITATION_DAYS_MAX)


def read(token: str) -> Invitation:
    """Return what a link offers.

    Raises: NotFound for one that is forged, used, too old, or of somebody who may not make users.
    """
    try:
        link_id, by_id, generation, role, team_id, code = _signer().loads(
            token, max_age=INVITATION_DAYS_MAX * 86_400
        )
        by = db.session.get(User, uuid.UUID(by_id))
        team = db.session.get(Team, uuid.UUID(team_id)) if team_id else None
    except (BadData, ValueError, TypeError, AttributeError):
        raise _ended() from None
    if by is None or by.generation != generation:
        raise _ended()
    if Action.MANAGE_USERS not in ROLE_ACTIONS[Role(by.role)]:
        raise _ended()
    if team_id and (team is None or _digest(team.access_code) != code):
        raise _ended()
    if db.session.get(RevokedToken, link_id) is not None:
        raise _ended()
    return Invitation(link_id, Role(role), team)


def accept(token: str, username: str, password: str, at: datetime) -> User:
    """Make the account that a link offers, and its membership of the team, all at once.

    Raises: NotFound as `read` does; UsernameTaken, after which the link is still good.
    """
    read(token)  # First, since the hash takes time that nobody gets for a forged link.
    user = accounts.new_user(username, password, Role.VIEW_ONLY)
    try:
        with writing():
            offered = read(token)
            user.role = offered.role
            accounts.require_free(username, user.id)
            db.session.add(user)
            db.session.flush()
            if offered.team:
                db.session.add(
                    TeamUser(team_id=offered.team.id, user_id=user.id, role=TeamRole.MEMBER)
                )
            # Kept as long as the link could be shown again; of two at once the database takes one.
            ends_at = at + timedelta(days=auth.TOKEN_DAYS_MAX)
            db.session.add(RevokedToken(id=offered.id, expires_at=ends_at))
    except IntegrityError as error:
        if not is_duplicate(error):
            raise
        raise (UsernameTaken if accounts.find_user(username) else _ended()) from None
    return user


def _ended() -> NotFound:
    return NotFound("This invitation has been used, or has ended. Ask for a new one.")


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()[:CODE_CHARACTERS]


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(
        current_app.config["SECRET_KEYS"],
        salt="invitation",
        signer=TimestampSigner,
        signer_kwargs={"digest_method": hashlib.sha256},
    )
