"""Whom a pixel was sent to: signed links that can't be forged, and who has opened.

A token holds the instant of sending and the recipient, and is signed with a key derived from the
pixel's id, so that it is worth nothing on another pixel. It is 30 characters and the recipient's
own, in base64, long.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from sqlalchemy import ColumnElement, Select, select, true

from core.database import Page, db, insert_unless_there, paginate
from core.errors import BadRequest, NotFound
from core.links import Links
from core.locks import writing
from hits.references import recipient_visitor
from models import Pixel, Recipient
from stats import folding

# Ids are stored so many at a time, so that hits wait for a moment only.
STORED_AT_ONCE_MAX = 2_000
ORDERS = {
    "recipient": Recipient.recipient,
    "firstOpenedAt": Recipient.first_opened_at,
    "lastOpenedAt": Recipient.last_opened_at,
    "opens": Recipient.opens,
}
# Browsers and proxies rewrite dots, slashes and percent signs in paths, never in a query.
_PLAIN_SLUG = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")


class Link(NamedTuple):
    """What to embed in one recipient's mail."""

    recipient: str
    url: str
    html: str


def issue(
    links: Links, pixel: Pixel, names: Iterable[str], sent_at: datetime | None, base: str
) -> list[Link]:
    """Return a signed link for each of `names`, in their order; of equal ones the first.

    The recipients are stored, so that who never opens is listed too.

    Raises: BadRequest for an anonymous pixel, NotFound for one that is deleted meanwhile.
    """
    distinct = list(dict.fromkeys(names))
    for start in range(0, len(distinct), STORED_AT_ONCE_MAX):
        with writing():
            _require_attribution(pixel.number)
            _store(pixel.number, distinct[start : start + STORED_AT_ONCE_MAX])
    urls = (url_of(base, pixel.slug, s=links.sign(pixel.id, name, sent_at)) for name in distinct)
    return [Link(name, url, img_of(url)) for name, url in zip(distinct, urls, strict=True)]


def embed(links: Links, pixel: Pixel, recipient: str, sent_at: datetime | None, base: str) -> Link:
    """Return what to embed, signed where `recipient` is not empty; nothing is stored.

    Raises: BadRequest for a recipient of an anonymous pixel.
    """
    token = None
    if recipient:
        _require_attribution(pixel.number)
        token = links.sign(pixel.id, recipient, sent_at)
    url = url_of(base, pixel.slug, s=token)
    return Link(recipient, url, img_of(url))


def listing(
    pixel: Pixel,
    *,
    search: str = "",
    order_by: str | None = None,
    descending: bool | None = None,
    page: int = 1,
    page_size: int = 20,
) -> Page[Recipient]:
    """Return a page of a pixel's recipients, the last to open first unless ordered otherwise.

    `search` is part of a recipient, whatever its case. Who has not opened comes last.
    """
    folding.fold_for_question(pixel.number)
    return paginate(_ordered(pixel, search, order_by, descending), page, page_size)


def every(pixel: Pixel, search: str) -> Iterator[Recipient]:
    """Yield all of a pixel's recipients that match `search`, the last to open first."""
    folding.fold_for_question(pixel.number)
    yield from db.session.scalars(_ordered(pixel, search))


def url_of(base: str, slug: str, **query: str | None) -> str:
    """Return the URL of a pixel's image under `base`, whatever characters its slug has."""
    given = {name: value for name, value in query.items() if value is not None}
    if _PLAIN_SLUG.fullmatch(slug):
        return f"{base}/p/{slug}" + (f"?{urlencode(given)}" if given else "")
    return f"{base}/api/send?{urlencode({'slug': slug, **given}, quote_via=quote)}"


def img_of(url: str) -> str:
    """Return the HTML that embeds an image's URL."""
    return f'<img src="{html.escape(url)}" width="1" height="1" alt="" />'


def _require_attribution(pixel_number: int) -> None:
    privacy = db.session.scalar(select(Pixel.privacy).where(Pixel.number == pixel_number))
    if privacy is None:
        raise NotFound("No such pixel.")
    if privacy == "anonymous":
        raise BadRequest("An anonymous pixel knows no recipients.")


def _store(pixel_number: int, names: Sequence[str]) -> None:
    connection = db.session.connection()
    rows = [
        {
            "pixel_number": pixel_number,
            "visitor": recipient_visitor(pixel_number, name, verified=True),
            "recipient": name,
            "verified": True,
        }
        for name in names
    ]
    connection.execute(insert_unless_there(connection, Recipient.__table__), rows)


def _ordered(
    pixel: Pixel, search: str, order_by: str | None = None, descending: bool | None = None
) -> Select[Any]:
    column = ORDERS[order_by or "lastOpenedAt"]
    if descending is None:
        descending = order_by is None
    return (
        select(Recipient)
        .where(Recipient.pixel_number == pixel.number, _matches(search))
        .order_by(
            (column.desc() if descending else column).nulls_last(),
            Recipient.recipient,
            Recipient.visitor,
        )
    )


def _matches(search: str) -> ColumnElement[bool]:
    return Recipient.recipient.icontains(search, autoescape=True) if search else true()
