"""Webhooks: made, found, changed and deleted, and what they are signed with.

Who may do so is asked elsewhere (`auth`); what is sent when is `webhook_delivery`'s.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, func, select, update

from core.database import db, paginate
from core.errors import BadRequest, NotFound
from core.lists import ListQuery, Page
from core.locks import writing
from models import Catalogue, Hit, Owner, Pixel, Webhook
from pixels.owners import belonging_to
from pixels.webhook_transport import NotPublic, Unreachable, host_and_port, look_up, split_url
from schemas import EVENTS as EVENTS

WEBHOOKS_PER_OWNER_MAX = 20
SECRET_START = "whsec_"  # noqa: S105  The start of every secret is none.


class About(NamedTuple):
    """What a list of webhooks is of: those about one pixel, those of one team, or all."""

    pixel_id: uuid.UUID | None = None
    team_id: uuid.UUID | None = None


def create(
    owner: Owner,
    *,
    pixel_id: uuid.UUID | None,
    url: str,
    events: Sequence[str],
    secret_keys: Sequence[str],
    private_allowed: bool,
) -> tuple[Webhook, str]:
    """Store a new webhook, which is told of hits from now on; the second value is its secret.

    Raises: BadRequest for a URL that leads to no public address, or too many webhooks.
    """
    require_url(url, private_allowed=private_allowed)
    id = uuid.uuid4()
    secret = _derive(secret_keys[-1], id)
    made = Webhook(
        id=id,
        user_id=owner.user_id,
        team_id=owner.team_id,
        pixel_id=pixel_id,
        url=url,
        events=[event for event in EVENTS if event in events],
        secret_hash=_hash(secret),
        cursor=0,
        aside=[],
        log=[],
    )
    with writing():
        others = select(func.count()).select_from(Webhook).where(belonging_to([owner], Webhook))
        count = db.session.scalar(others) or 0
        if count >= WEBHOOKS_PER_OWNER_MAX:
            raise BadRequest(f"There are {WEBHOOKS_PER_OWNER_MAX} webhooks at most for an owner.")
        # Nobody commits meanwhile, and hits that are committed later get higher ids.
        made.cursor = _settle(belonging_to([owner], Pixel))
        db.session.add(made)
    return made, secret


def require_url(url: str, *, private_allowed: bool) -> None:
    """Refuse a URL that no webhook may have. A name that has no address now may get one.

    Raises: BadRequest.
    """
    try:
        look_up(*host_and_port(split_url(url)), private_allowed=private_allowed)
    except (ValueError, NotPublic) as error:
        raise BadRequest(f"url: {error}", {"url": [str(error)]}) from None
    except Unreachable:
        return


def newest_hit_id() -> int:
    """Return the highest id of the hits of pixels whose owners have a webhook, 0 without any."""
    return _newest_hit(_watched())


def settle() -> int:
    """Return an id that every committed hit of those pixels is at or below, later ones above.

    Inside the caller's `writing()`: hits that are on their way see the new mark and draw again.
    """
    return _settle(_watched())


def _newest_hit(condition: ColumnElement[bool]) -> int:
    newest = select(func.max(Hit.id)).where(Hit.pixel_number == Pixel.number).scalar_subquery()
    return db.session.scalar(select(func.max(newest)).select_from(Pixel).where(condition)) or 0


def _settle(condition: ColumnElement[bool]) -> int:
    through = _newest_hit(condition)
    mark = update(Catalogue).where(Catalogue.folded_through < through)
    db.session.execute(mark.values(folded_through=through))
    return through


def _watched() -> ColumnElement[bool]:
    return Pixel.user_id.in_(select(Webhook.user_id)) | Pixel.team_id.in_(select(Webhook.team_id))


def listing(owners: Collection[Owner], query: ListQuery, *about: About) -> Page[Webhook]:
    """Return a page of the webhooks of some owners that are about all of this, the newest first."""
    statement = select(Webhook).where(belonging_to(owners, Webhook))
    for subject in about:
        if subject.pixel_id is not None:
            statement = statement.where(Webhook.pixel_id == subject.pixel_id)
        if subject.team_id is not None:
            statement = statement.where(Webhook.team_id == subject.team_id)
    return paginate(statement.order_by(Webhook.created_at.desc(), Webhook.id), query)


def every() -> list[Webhook]:
    """Return all webhooks, the oldest first."""
    return list(db.session.scalars(select(Webhook).order_by(Webhook.created_at)))


def find(webhook_id: uuid.UUID) -> Webhook:
    """Return the webhook of that id.

    Raises: NotFound.
    """
    found = db.session.get(Webhook, webhook_id, populate_existing=True)
    if found is None:
        raise NotFound("No such webhook.")
    return found


def change(
    webhook: Webhook,
    *,
    url: str | None = None,
    events: Sequence[str] | None = None,
    status: str | None = None,
    problem: str | None = None,
) -> Webhook:
    """Give a webhook another URL, other events or another status; what is None stays.

    A paused one that is made `active` goes on where it stopped. `problem` says why it was paused.

    Raises: NotFound if it was deleted meanwhile.
    """
    changed = update(Webhook).where(Webhook.id == webhook.id).values(version=Webhook.version + 1)
    if url is not None:
        changed = changed.values(url=url)
    if events is not None:
        changed = changed.values(events=[event for event in EVENTS if event in events])
    if status is not None:
        changed = changed.values(status=status)
    if problem is not None:
        changed = changed.values(problem=problem)
    if status == "active":
        changed = changed.values(problem=None, held=None)
    with writing():
        db.session.execute(changed)
    return find(webhook.id)


def remove(webhook: Webhook) -> None:
    """Delete a webhook; what it has not been told yet it won't be."""
    with writing():
        db.session.execute(delete(Webhook).where(Webhook.id == webhook.id))


def secret_of(webhook: Webhook, secret_keys: Iterable[str]) -> str | None:
    """Return a webhook's secret, None if the key that it was made with is gone."""
    made = (_derive(key, webhook.id) for key in secret_keys)
    return next((secret for secret in made if _hash(secret) == webhook.secret_hash), None)


def signature(secret: str, message_id: str, at_seconds: int, body: bytes) -> str:
    """Return the signature of a message, as the Standard Webhooks specification has it."""
    key = base64.b64decode(secret.removeprefix(SECRET_START))
    signed = f"{message_id}.{at_seconds}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def _derive(key: str, id: uuid.UUID) -> str:
    digest = hmac.digest(key.encode(), b"webhook " + id.bytes, "sha256")
    return SECRET_START + base64.b64encode(digest).decode()


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
