"""Shares: read-only links to one pixel's statistics, for people without an account.

Who may make, see and end them is asked elsewhere (`auth`).
"""

from __future__ import annotations

import secrets
import uuid
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError

from core.database import db, is_duplicate, is_orphan, paginate
from core.errors import BadRequest, NotFound, SlugTaken
from core.fields import is_storable
from core.lists import ListQuery, Page
from core.locks import writing
from models import Pixel, Share

SLUG_BYTES = 12
SHARES_PER_PIXEL_MAX = 100
NO_SUCH_SHARE = "No such share."


def create(pixel: Pixel, name: str, parameters: dict[str, Any], slug: str | None = None) -> Share:
    """Store a new share of a pixel, with a slug that can't be guessed unless one is given.

    Raises: SlugTaken; BadRequest for a pixel with `SHARES_PER_PIXEL_MAX` shares, NotFound for one
    that was deleted meanwhile.
    """
    share = Share(
        id=uuid.uuid4(),
        pixel_number=pixel.number,
        name=name,
        slug=slug or secrets.token_urlsafe(SLUG_BYTES),
        parameters=parameters,
    )
    count = select(func.count()).where(Share.pixel_number == pixel.number)
    try:
        with writing():
            if (db.session.scalar(count) or 0) >= SHARES_PER_PIXEL_MAX:
                raise BadRequest(f"A pixel has {SHARES_PER_PIXEL_MAX} shares at most.")
            db.session.add(share)
    except IntegrityError as error:
        if is_orphan(error):
            raise NotFound("No such pixel.") from None
        if not is_duplicate(error):
            raise
        raise SlugTaken from None
    return share


def listing(pixel: Pixel, query: ListQuery) -> Page[Share]:
    """Return a page of a pixel's shares, the newest first."""
    statement = select(Share).where(Share.pixel_number == pixel.number)
    return paginate(statement.order_by(Share.created_at.desc(), Share.id), query)


def find(share_id: uuid.UUID) -> Share:
    """Return the share of that id.

    Raises: NotFound.
    """
    return _found(db.session.get(Share, share_id))


def find_by_slug(slug: str) -> Share:
    """Return the share whose link ends in `slug`.

    Raises: NotFound.
    """
    if not is_storable(slug):
        raise NotFound(NO_SUCH_SHARE)
    return _found(db.session.scalar(select(Share).where(Share.slug == slug)))


def change(
    share: Share,
    *,
    name: str | None = None,
    slug: str | None = None,
    parameters: dict[str, Any] | None = None,
) -> Share:
    """Give a share a new name, slug or parameters; what is None stays, and its tokens stay good.

    Raises: SlugTaken.
    """
    try:
        with writing():
            share.name = share.name if name is None else name
            share.slug = share.slug if slug is None else slug
            share.parameters = share.parameters if parameters is None else parameters
    except IntegrityError as error:
        if not is_duplicate(error):
            raise
        raise SlugTaken from None
    return share


def remove(share: Share) -> None:
    """End a share: its link and every token that it gave."""
    with writing():
        db.session.execute(delete(Share).where(Share.id == share.id))


def _found(share: Share | None) -> Share:
    if share is None:
        raise NotFound(NO_SUCH_SHARE)
    return share
