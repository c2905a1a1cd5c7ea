"""The people a pixel was sent to: each person's own link, and who has opened.

A person is known by a number that is made from their name with a key (`core.people_key`). An issue
gives them a visitor number at random, and their link carries that and no name, so that a link
that somebody kept is worth nothing once they are forgotten.
"""

from __future__ import annotations

import html
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from sqlalchemy import and_, bindparam, delete, func, select, update

from core.clock import now
from core.database import db
from core.errors import BadRequest, NotFound
from core.links import NOBODY_ISSUE, UNNAMED_ISSUE, Links
from core.locks import give_way, writing
from core.people_key import OptOutLink, PeopleKey, folded
from hits.people import is_one_of, people_key
from models import EVERY_OWNER, OptOut, Pixel, Recipient
from pixels.catalogue import raise_people_version, raise_version
from pixels.opt_outs import OPT_OUT_PATH
from stats import folding

# Ids are stored so many at a time, so that hits wait for a moment only.
STORED_AT_ONCE_MAX = 2_000
# An issue's number, at random; those below are no issue's.
_ISSUE_BITS, _ISSUE_MIN = 62, 1 << 62
# Browsers and proxies rewrite dots, slashes and percent signs in paths, never in a query.
_PLAIN_SLUG = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
_RECIPIENTS: Any = Recipient.__table__


class Link(NamedTuple):
    """What to embed in one recipient's mail, and where they can opt out of being named."""

    recipient: str
    url: str
    html: str
    opt_out_url: str | None = None
    opted_out: bool = False


def issue(
    links: Links,
    pixel: Pixel,
    names: Iterable[str],
    sent_at: datetime | None,
    base: str,
    *,
    consents: Callable[[str], bool] = lambda _: False,
    issued_at: datetime | None = None,
) -> list[Link]:
    """Return a link for each of `names`, in their order; of names of one person the first.

    The recipients are stored, so that people who never open are listed too. Exceptions are those
    who opted out and, on a pixel that asks for consent, those who didn't give it: their links name
    nobody. People stored by one merge, in however many calls, share its `issued_at`.

    Raises: BadRequest for an anonymous pixel, NotFound for one that is deleted meanwhile.
    """
    spelling: dict[str, str] = {}
    for name in names:
        spelling.setdefault(folded(name), name)
    distinct = list(spelling.values())
    found: list[Link] = []
    for start in range(0, len(distinct), STORED_AT_ONCE_MAX):
        some = distinct[start : start + STORED_AT_ONCE_MAX]
        with writing():
            batch = _Issue.of(links, pixel.number, sent_at, issued_at or now())
            numbers = batch.store(some, consents)
        found += (batch.link(name, issue, base) for name, issue in numbers)
    return found


def embed(links: Links, pixel: Pixel, recipient: str, sent_at: datetime | None, base: str) -> Link:
    """Return what to embed; issued, as `issue` does, where `recipient` is not empty.

    Raises: as `issue`.
    """
    if recipient:
        return issue(links, pixel, [recipient], sent_at, base)[0]
    url = url_of(base, pixel.slug)
    return Link("", url, img_of(url))


def take_back(pixel: Pixel, issued_at: datetime) -> int:
    """Remove those whom one issue added and of whom nothing came yet; return how many.

    Their links name nobody from then on.
    """
    folding.fold_for_question(pixel.number)
    untouched = and_(
        Recipient.pixel_number == pixel.number,
        Recipient.issued_at == issued_at,
        Recipient.number.is_(None),
    )
    some = select(Recipient.visitor).where(untouched).limit(STORED_AT_ONCE_MAX)
    removed = 0
    while visitors := db.session.scalars(some).all():
        with writing():
            # Of whom something came meanwhile, and is counted, stays.
            found = delete(_RECIPIENTS).where(untouched, Recipient.visitor.in_(visitors))
            removed += db.session.connection().execute(found).rowcount
            raise_people_version(Pixel.number == pixel.number)
            raise_version()
        give_way()
    return removed


def issues(pixel: Pixel) -> list[tuple[datetime, int, int]]:
    """Return the instants of a pixel's issues, the newest first, with how many people each added.

    And how many of these it would take back: those of whom nothing came yet.
    """
    folding.fold_for_question(pixel.number)
    untouched = func.count().filter(Recipient.number.is_(None))
    statement = (
        select(Recipient.issued_at, func.count(), untouched)
        .where(Recipient.pixel_number == pixel.number, Recipient.issued_at.is_not(None))
        .group_by(Recipient.issued_at)
        .order_by(Recipient.issued_at.desc())
    )
    rows: Any = db.session.execute(statement)
    return [(at, count, left) for at, count, left in rows]


def url_of(base: str, slug: str, **query: str | None) -> str:
    """Return the URL of a pixel's image under `base`, whatever characters its slug has."""
    values = {name: value for name, value in query.items() if value is not None}
    if _PLAIN_SLUG.fullmatch(slug):
        return f"{base}/p/{slug}" + (f"?{urlencode(values)}" if values else "")
    return f"{base}/api/send?{urlencode({'slug': slug, **values}, quote_via=quote)}"


def img_of(url: str) -> str:
    """Return the HTML that embeds an image's URL."""
    return f'<img src="{html.escape(url)}" width="1" height="1" alt="" />'


class _Issue(NamedTuple):
    """What it takes to issue links of one pixel, inside `writing()`."""

    links: Links
    key: PeopleKey
    pixel: Any
    sent_at: datetime | None
    issued_at: datetime

    @classmethod
    def of(
        cls, links: Links, pixel_number: int, sent_at: datetime | None, issued_at: datetime
    ) -> _Issue:
        """Read the pixel as it is now; tell it when it was sent, if it doesn't know."""
        columns = (Pixel.id, Pixel.number, Pixel.slug, Pixel.privacy, Pixel.owner, Pixel.sent_at)
        pixel = db.session.execute(
            select(*columns).where(Pixel.number == pixel_number)
        ).one_or_none()
        if pixel is None:
            raise NotFound("No such pixel.")
        if pixel.privacy == "anonymous":
            raise BadRequest("An anonymous pixel knows no recipients.")
        if sent_at and pixel.sent_at is None:
            db.session.execute(
                update(Pixel).where(Pixel.number == pixel_number).values(sent_at=sent_at)
            )
        key = people_key(db.session.connection(), links)
        return cls(links, key, pixel, sent_at, issued_at)

    def store(self, names: Sequence[str], consents: Callable[[str], bool]) -> list[tuple[str, int]]:
        """Store those of `names` who may be named; return each, as first written, with an issue."""
        persons = {self.key.person(name): name for name in names}
        known, opted_out = self._known(persons), self._opted_out(persons)
        new, found = [], []
        for person, name in persons.items():
            row = known.get(person)
            consent = consents(name) or bool(row and row.consent)
            if person in opted_out:
                number = NOBODY_ISSUE
            elif self.pixel.privacy == "consent" and not consent:
                number = UNNAMED_ISSUE
            elif row is None:
                number = secrets.randbits(_ISSUE_BITS) | _ISSUE_MIN
                new.append(self._row(person, name, number, consent))
            else:
                number, name = row.visitor, row.recipient
                self._change(row, consent)
            found.append((name, number))
        if new:
            db.session.connection().execute(_RECIPIENTS.insert(), new)
            raise_people_version(Pixel.number == self.pixel.number)
        return found

    def link(self, name: str, number: int, base: str) -> Link:
        """Return somebody's link."""
        token = self.links.sign(self.pixel.id, number, self.sent_at)
        url = url_of(base, self.pixel.slug, s=token)
        opt_out = OptOutLink(self.pixel.number, self.pixel.owner, self.key.person(name))
        opt_out_url = f"{base}{OPT_OUT_PATH}{self.key.sign_opt_out(opt_out)}"
        return Link(name, url, img_of(url), opt_out_url, number == NOBODY_ISSUE)

    def _row(self, person: int, name: str, number: int, consent: bool) -> dict[str, Any]:
        return {
            "pixel_number": self.pixel.number,
            "visitor": number,
            "recipient": name,
            "verified": True,
            "person": person,
            "consent": consent,
            "issued_at": self.issued_at,
            "sent_at": self.sent_at,
        }

    def _change(self, row: Any, consent: bool) -> None:
        """Note what a later issue says, unless they opened already, after an earlier sending."""
        values: dict[str, Any] = {}
        if self.sent_at and row.first_opened_at is None and row.sent_at != self.sent_at:
            values["sent_at"] = self.sent_at
        if consent and not row.consent:
            values["consent"] = True
            raise_version()
        if values:
            db.session.execute(_one.values(values), {"of": self.pixel.number, "who": row.visitor})

    def _known(self, persons: Collection[int]) -> dict[int, Any]:
        columns = (
            *(Recipient.person, Recipient.visitor, Recipient.recipient, Recipient.consent),
            *(Recipient.sent_at, Recipient.first_opened_at),
        )
        theirs = is_one_of(self.pixel.number, persons) & Recipient.verified.is_(True)
        statement = select(*columns).where(theirs)
        # Of several, whom names of older times made two, the first.
        rows = db.session.execute(statement.order_by(Recipient.visitor.desc()))
        return {row.person: row for row in rows}

    def _opted_out(self, persons: Iterable[int]) -> set[int]:
        statement = select(OptOut.person).where(
            OptOut.owner.in_((self.pixel.owner, EVERY_OWNER)), OptOut.person.in_(persons)
        )
        return set(db.session.scalars(statement))


_one = update(_RECIPIENTS).where(
    Recipient.pixel_number == bindparam("of"), Recipient.visitor == bindparam("who")
)
