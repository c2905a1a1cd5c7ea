"""Who is calling, and whether they may: tokens, API keys, shares, permissions asked.

Nothing secret is stored in clear or logged: keys are hashed with SHA-256 (they are random, so a
fast hash is enough), tokens are signed and not stored at all.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ParamSpec, TypeVar

from flask import current_app, g, request
from itsdangerous import BadData, BadSignature, URLSafeSerializer, URLSafeTimedSerializer
from sqlalchemy import delete, select
from sqlalchemy.exc import OperationalError

from core.clock import now
from core.database import db
from core.errors import BadRequest, Forbidden, KeyScope, NotFound, Unauthorized
from core.locks import writing
from core.permissions import (
    ROLE_ACTIONS,
    TEAM_ROLE_ACTIONS,
    Action,
    Role,
    Scope,
    TeamRole,
    is_within_limits,
    reaches,
)
from core.signatures import Signer, TimestampSigner
from models import ApiKey, Owner, Pixel, RevokedToken, Share, Team, TeamUser, User

P = ParamSpec("P")
R = TypeVar("R")

TOKEN_DAYS_MAX = 30
KEY_START = "pk_"
KEY_PREFIX_CHARACTERS = 11
SHARE_TOKEN_HEADER = "x-umami-share-token"  # noqa: S105  The header's name is no secret.
SHARE_CONTEXT_HEADER = "x-umami-share-context"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: a user, by the credential they sent."""

    user: User
    credential: str
    key: ApiKey | None = None

    def may(self, action: Action) -> bool:
        """Tell whether the user's own role allows `action`."""
        return action in ROLE_ACTIONS[Role(self.user.role)]

    def require(self, action: Action) -> None:
        """Raise Forbidden unless the user's own role allows `action`."""
        if not self.may(action):
            raise Forbidden

    def require_within(self, pixel_id: uuid.UUID | None, team_id: uuid.UUID | None) -> None:
        """Raise KeyScope if the caller's key is limited to another pixel or team."""
        if self.key is None:
            return
        if self.key.pixel_id not in (None, pixel_id) or self.key.team_id not in (None, team_id):
            raise KeyScope

    @property
    def is_admin(self) -> bool:
        """Whether the caller may do everything."""
        return self.user.role == Role.ADMIN


@dataclass(frozen=True, slots=True)
class Guest:
    """Who sent a request with a share's token: nobody in particular, who may read one pixel."""

    pixel: Pixel


def required(view: Callable[P, R]) -> Callable[P, R]:
    """Let a view run only for a valid credential, checked before anything of the body is read."""

    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        g.caller = _authenticate_request()
        return view(*args, **kwargs)

    guarded.requires_bearer = True  # type: ignore[attr-defined]
    return guarded


def without_key(view: Callable[P, R]) -> Callable[P, R]:
    """Let a view run for anybody but the holder of an API key, which is told first of all."""

    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        with suppress(Unauthorized):
            _authenticate_request()
        return view(*args, **kwargs)

    return guarded


def required_or_shared(view: Callable[P, R]) -> Callable[P, R]:
    """Let a view run for a valid credential or for a share's token; see `pixel_to_read`."""

    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        g.caller = _guest() or _authenticate_request()
        return view(*args, **kwargs)

    guarded.requires_bearer = True  # type: ignore[attr-defined]
    guarded.accepts_share = True  # type: ignore[attr-defined]
    return guarded


def caller_if_any() -> Caller | None:
    """Return who sent a request to a route for everybody, if they say so and may ask it."""
    try:
        return _authenticate_request()
    except (Unauthorized, KeyScope):
        return None


def caller() -> Caller:
    """Return who sent the request that `required` let through."""
    return g.caller  # type: ignore[no-any-return]


def authenticate(header: str, at: datetime) -> Caller:
    """Return the caller whom an Authorization header names, by a token or an API key.

    Raises: Unauthorized for anything else, whatever is wrong with it.
    """
    scheme, _, credential = header.partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not credential.isascii():
        raise Unauthorized
    if credential.startswith(KEY_START):
        key = _key_of(credential, at)
        return Caller(key.user, credential, key)
    return Caller(_user_of_token(credential), credential)


def issue_token(user: User) -> str:
    """Sign a token that lets `user` in for `TOKEN_DAYS_MAX` days."""
    return _tokens().dumps([user.id.hex, user.generation, secrets.token_hex(8)])


def revoke_token(token: str, at: datetime) -> None:
    """End a token before its time.

    Raises: Forbidden for an API key: to end one is to delete it.
    """
    if token.startswith(KEY_START):
        raise Forbidden("An API key is not signed out; delete it instead.")
    _, _, token_id = _tokens().loads(token)
    with writing():
        db.session.execute(delete(RevokedToken).where(RevokedToken.expires_at < at))
        db.session.merge(RevokedToken(id=token_id, expires_at=at + timedelta(days=TOKEN_DAYS_MAX)))


def create_key(
    user: User,
    name: str,
    *,
    scope: Scope = Scope.ALL,
    pixel_id: uuid.UUID | None = None,
    team_id: uuid.UUID | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Return a new key's row, not yet added to a session, and the key itself, this once."""
    key = KEY_START + _key_signer().sign(secrets.token_urlsafe(18)).decode()
    row = ApiKey(
        id=uuid.uuid4(),
        user_id=user.id,
        name=name,
        key_hash=_key_hash(key),
        key_prefix=key[:KEY_PREFIX_CHARACTERS],
        created_at=now(),
        scope=scope.value,
        pixel_id=pixel_id,
        team_id=team_id,
        expires_at=expires_at,
    )
    return row, key


def issue_share_token(share: Share) -> str:
    """Sign a token that lets guests read the share's pixel for as long as the share exists."""
    return _share_tokens().dumps(share.id.hex)


def team_role(caller: Caller, team_id: uuid.UUID) -> TeamRole | None:
    """Return the caller's role in a team, None for a stranger."""
    role = db.session.scalar(
        select(TeamUser.role).where(TeamUser.team_id == team_id, TeamUser.user_id == caller.user.id)
    )
    return TeamRole(role) if role else None


def teams_to_change(caller: Caller, teams: Iterable[Team]) -> set[uuid.UUID]:
    """Return the ids of those of `teams` that the caller may change."""
    ids = {team.id for team in teams}
    if caller.is_admin:
        return ids
    able = [role for role, actions in TEAM_ROLE_ACTIONS.items() if Action.CHANGE_TEAM in actions]
    own = select(TeamUser.team_id).where(TeamUser.user_id == caller.user.id)
    return set(db.session.scalars(own.where(TeamUser.team_id.in_(ids), TeamUser.role.in_(able))))


def team_for(caller: Caller, team_id: uuid.UUID, action: Action) -> Team:
    """Return the team if `caller` may do `action` to it.

    Raises: NotFound if they may not know of it, Forbidden if they may only see it, KeyScope if
    their key does not reach it.
    """
    team = db.session.get(Team, team_id)
    role = team_role(caller, team_id)
    if team is None or not (role or caller.is_admin):
        raise NotFound("No such team.")
    if not caller.is_admin and (role is None or action not in TEAM_ROLE_ACTIONS[role]):
        raise Forbidden
    caller.require_within(None, team.id)
    return team


def pixel_for(caller: Caller, pixel_id: uuid.UUID, action: Action) -> Pixel:
    """Return the pixel if `caller` may do `action` to it.

    Raises: NotFound if they may not know of it, Forbidden if they may only see it, KeyScope if
    their key does not reach it.
    """
    pixel = _pixel_for(caller, pixel_id, action)
    caller.require_within(pixel.id, pixel.team_id)
    return pixel


def _pixel_for(caller: Caller, pixel_id: uuid.UUID, action: Action) -> Pixel:
    """Return the pixel if the user, whatever their credential, may do `action` to it."""
    pixel = db.session.scalar(select(Pixel).where(Pixel.id == pixel_id))
    if pixel is None:
        raise NotFound("No such pixel.")
    if caller.is_admin:
        return pixel
    if pixel.team_id is None:
        if pixel.user_id != caller.user.id:
            raise NotFound("No such pixel.")
        caller.require(action)
        return pixel
    role = team_role(caller, pixel.team_id)
    if role is None:
        raise NotFound("No such pixel.")
    if action not in TEAM_ROLE_ACTIONS[role]:
        raise Forbidden
    return pixel


def first_owner(caller: Caller, team_id: uuid.UUID | None) -> Owner:
    """Return the owner of a pixel that the caller makes: a team of theirs, or else themselves.

    Raises: Forbidden, NotFound or KeyScope unless the caller may create for it.
    """
    if team_id is not None:
        team_for(caller, team_id, Action.CREATE_PIXEL)
    caller.require_within(None, team_id)
    caller.require(Action.CREATE_PIXEL)
    return Owner(team_id=team_id) if team_id else Owner(user_id=caller.user.id)


def next_owner(
    caller: Caller, pixel: Pixel, user_id: uuid.UUID | None, team_id: uuid.UUID | None
) -> Owner | None:
    """Return the owner whom a pixel is to have, None if it stays where it is.

    Raises: BadRequest for two of them, Forbidden or NotFound unless the caller may create for them.
    """
    if user_id and team_id:
        message = "A pixel belongs to a user or to a team."
        raise BadRequest(message, {"teamId": [message]})
    if team_id and team_id != pixel.team_id:
        team_for(caller, team_id, Action.CREATE_PIXEL)
        caller.require(Action.CREATE_PIXEL)
        return Owner(team_id=team_id)
    if user_id and user_id != pixel.user_id:
        if user_id != caller.user.id and not caller.is_admin:
            raise Forbidden
        caller.require(Action.CREATE_PIXEL)
        caller.require_within(None, None)
        if db.session.get(User, user_id) is None:
            raise NotFound("No such user.")
        return Owner(user_id=user_id)
    return None


def owners_for(caller: Caller, action: Action) -> set[uuid.UUID] | None:
    """Return the ids of whose pixels the caller may do `action` to: their own and their teams'.

    None: everybody's.
    """
    if caller.is_admin:
        return None
    own = [caller.user.id] if caller.may(action) else []
    return {*team_ids_for(caller.user, action), *own}


def team_ids_for(user: User, action: Action) -> set[uuid.UUID]:
    """Return the ids of the teams in which the user's role may do `action`."""
    able = [role for role, actions in TEAM_ROLE_ACTIONS.items() if action in actions]
    teams = select(TeamUser.team_id).where(TeamUser.user_id == user.id, TeamUser.role.in_(able))
    return set(db.session.scalars(teams))


def pixel_to_read(pixel_id: uuid.UUID) -> Pixel:
    """Return the pixel if the request that `required_or_shared` let through may read it.

    Raises: NotFound if it may not know of it.
    """
    if isinstance(g.caller, Guest):
        if g.caller.pixel.id != pixel_id:
            raise NotFound("No such pixel.")
        return g.caller.pixel
    return pixel_for(g.caller, pixel_id, Action.READ_PIXEL)


def refuse_guests(what: str) -> None:
    """Raise Forbidden for a share's token: sharing figures is not sharing people."""
    if is_guest():
        raise Forbidden(f"A share does not tell {what}.")


def is_guest() -> bool:
    """Tell whether the request that `required_or_shared` let through has a share's token."""
    return isinstance(g.caller, Guest)


def _authenticate_request() -> Caller:
    """Return who sent the request, if their credential reaches its route.

    Here, and nowhere else, keys are held to their scope.

    Raises: Unauthorized, KeyScope.
    """
    found = authenticate(request.headers.get("Authorization", ""), now())
    if found.key is not None:
        rule = request.url_rule.rule if request.url_rule else ""
        # HEAD is a GET whose body is left out.
        method = "GET" if request.method == "HEAD" else request.method
        is_limited = found.key.pixel_id is not None or found.key.team_id is not None
        if not reaches(Scope(found.key.scope), method, rule):
            raise KeyScope
        if is_limited and not is_within_limits(method, rule):
            raise KeyScope
    return found


def _guest() -> Guest | None:
    """Return the guest whom a share's token names; its headers count only together (Umami)."""
    token = request.headers.get(SHARE_TOKEN_HEADER, "")
    if not token or not request.headers.get(SHARE_CONTEXT_HEADER):
        return None
    if "Authorization" in request.headers or not token.isascii():
        return None
    try:
        share = db.session.get(Share, uuid.UUID(_share_tokens().loads(token)))
    except (BadData, ValueError, TypeError, AttributeError):
        return None
    return None if share is None else Guest(share.pixel)


def _user_of_token(token: str) -> User:
    try:
        (user_id, generation, token_id), signed_at = _tokens().loads(token, return_timestamp=True)
        # Not `max_age`, which refuses what was signed in the future too: a clock that is behind
        # for a while would sign everybody out.
        if now() - signed_at > timedelta(days=TOKEN_DAYS_MAX):
            raise Unauthorized
        user = db.session.get(User, uuid.UUID(user_id))
    except (BadData, ValueError, TypeError, AttributeError):
        raise Unauthorized from None
    if user is None or user.generation != generation:
        raise Unauthorized
    if db.session.get(RevokedToken, token_id) is not None:
        raise Unauthorized
    return user


def _key_of(key: str, at: datetime) -> ApiKey:
    try:
        _key_signer().unsign(key.removeprefix(KEY_START))
    except BadSignature:
        raise Unauthorized from None
    row = db.session.scalar(select(ApiKey).where(ApiKey.key_hash == _key_hash(key)))
    if row is None or (row.expires_at and row.expires_at <= at):
        raise Unauthorized
    today = at.date().isoformat()
    if row.last_used_on != today:
        # The day is a courtesy: a key works while nothing can be written.
        with suppress(OperationalError), writing():
            row.last_used_on = today
    return row


def _key_hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _tokens() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(
        current_app.config["SECRET_KEYS"],
        salt="token",
        signer=TimestampSigner,
        signer_kwargs={"digest_method": hashlib.sha256},
    )


def _share_tokens() -> URLSafeSerializer:
    return URLSafeSerializer(
        current_app.config["SECRET_KEYS"],
        salt="share",
        signer=Signer,
        signer_kwargs={"digest_method": hashlib.sha256},
    )


def _key_signer() -> Signer:
    return Signer(current_app.config["SECRET_KEYS"], salt="api-key", digest_method=hashlib.sha256)
