"""The people a pixel was sent to: each person's own link, and who has opened.

A person is known by a number that is made from their name with a key (`core.people_key`). An issue
gives them a visitor number at random, and their link carries that and no name, so that a link
that somebody kept is worth nothing once they are forgotten.
"""

from __future__ import annotations

import html
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, select, true, update

from core.clock import now
from core.database import db
from core.errors import BadRequest, NotFound
from core.links import NOBODY_ISSUE, UNNAMED_ISSUE, Links
from core.lists import ListQuery, Page
from core.locks import writing
from core.people_key import OptOutLink, PeopleKey, folded
from hits.people import people_key
from models import EVERY_OWNER, STATUSES, OptOut, Pixel, Recipient
from pixels.catalogue import raise_version
from stats import folding, labels, store

# Ids are stored so many at a time, so that hits wait for a moment only.
STORED_AT_ONCE_MAX = 2_000
ROWS_READ_AT_ONCE = 2_000
ORDERS = {
    "recipient": Recipient.recipient,
    "firstOpenedAt": Recipient.first_opened_at,
    "lastOpenedAt": Recipient.last_opened_at,
    "opens": Recipient.opens,
}
OPT_OUT_PATH = "/opt-out/"
# An issue's number, at random; those below are no issue's.
_ISSUE_BITS, _ISSUE_MIN = 62, 1 << 62
# Browsers and proxies rewrite dots, slashes and percent signs in paths, never in a query.
_PLAIN_SLUG = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
_RECIPIENTS: Any = Recipient.__table__
# What `rows_told` turns into rows.
COLUMNS = (
    *(Recipient.recipient, Recipient.verified, Recipient.status, Recipient.sent_at),
    *(Recipient.opted_out, Recipient.first_opened_at, Recipient.last_opened_at),
    *(Recipient.opens, Recipient.prefetches, Recipient.bots, Recipient.last_profile),
)


class Link(NamedTuple):
    """What to embed in one recipient's mail, and where they can opt out of being named."""

    recipient: str
    url: str
    html: str
    opt_out_url: str | None = None
    opted_out: bool = False


class RecipientRow(NamedTuple):
    """A recipient of a pixel, with their hits by class, and what fetched last.

    `client` and `reason` are those of the last open, else of the last fetch.
    """

    recipient: str
    verified: bool
    status: str
    sent_at: datetime | None
    opted_out: bool
    first_opened_at: datetime | None
    last_opened_at: datetime | None
    opens: int
    prefetches: int
    bots: int
    client: str | None
    reason: str | None


class Counts(NamedTuple):
    """How many people a pixel was issued to, without those who opted out, by status."""

    all: int
    opened: int
    machine: int
    unopened: int


@dataclass(frozen=True, slots=True)
class RecipientPage(Page[RecipientRow]):
    """A page of recipients, and how many people there are whatever was asked for."""

    counts: Counts


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
    with writing():
        removed = db.session.execute(
            Recipient.__table__.delete().where(  # type: ignore[attr-defined]
                Recipient.pixel_number == pixel.number,
                Recipient.issued_at == issued_at,
                Recipient.number.is_(None),
            )
        ).rowcount
        raise_version()
    return int(removed)


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


def listing(
    pixel: Pixel, query: ListQuery, *, status: str | None = None, opens_min: int = 0
) -> RecipientPage:
    """Return a page of a pixel's recipients, the last to open first unless ordered otherwise.

    Those who have not opened come last. People who opted out have no status that is asked for.
    """
    folding.fold_for_question(pixel.number)
    wanted = _wanted(pixel, query.search, status, opens_min)
    columns: tuple[Any, ...] = COLUMNS
    statement = _ordered(select(*columns).where(wanted), query)
    rows = db.session.execute(statement.limit(query.page_size).offset(query.offset)).all()
    count = db.session.scalar(select(func.count()).select_from(Recipient).where(wanted)) or 0
    told = list(rows_told(pixel.number, rows))
    return RecipientPage(told, count, query.page, query.page_size, counts(pixel.number))


def counts(pixel_number: int) -> Counts:
    """Return how many people a pixel was issued to by status, as far as hits are folded."""
    statement = select(Recipient.status, func.count()).where(issued_to(pixel_number))
    rows: Any = db.session.execute(statement.group_by(Recipient.status)).all()
    found = dict(rows)
    unopened, machine, opened = (found.get(status, 0) for status in range(len(STATUSES)))
    return Counts(unopened + machine + opened, opened, machine, unopened)


def issued_to(pixel_number: int) -> ColumnElement[bool]:
    """Return the condition for the people that a mailing's figures are about."""
    return and_(
        Recipient.pixel_number == pixel_number,
        Recipient.verified.is_(True),
        Recipient.opted_out.is_(False),
    )


def rows_told(pixel_number: int, rows: Iterable[Any]) -> Iterator[RecipientRow]:
    """Yield rows of `COLUMNS` with words for their numbers."""
    state = store.state_of(pixel_number)
    if state is None:
        return
    words = labels.of_pixel(pixel_number, state.revision, state.profile_count).profiles
    for recipient, verified, status, *others, profile in rows:
        fetched_with = [words[name].of(profile or 0) for name in ("browser", "reason")]
        yield RecipientRow(recipient, verified, STATUSES[status], *others, *fetched_with)


def every(pixel: Pixel, search: str = "", status: str | None = None) -> Iterator[RecipientRow]:
    """Yield all of a pixel's recipients that are asked for, in no order but their numbers'.

    A chunk is read at a time, so that a slow reader holds nothing open.
    """
    folding.fold_for_question(pixel.number)
    wanted, last = _wanted(pixel, search, status, 0), -(1 << 63)
    statement = select(*COLUMNS, Recipient.visitor).order_by(Recipient.visitor)
    while rows := db.session.execute(
        statement.where(wanted, Recipient.visitor > last).limit(ROWS_READ_AT_ONCE)
    ).all():
        last = rows[-1].visitor
        found = list(rows_told(pixel.number, [row[:-1] for row in rows]))
        db.session.commit()
        yield from found


def names_of(pixel: Pixel, status: str | None = None) -> list[str]:
    """Return the people that a pixel was issued to, less those who opted out, by name."""
    folding.fold_for_question(pixel.number)
    statement = select(Recipient.recipient).where(issued_to(pixel.number))
    if status is not None:
        statement = statement.where(Recipient.status == STATUSES.index(status))
    return list(db.session.scalars(statement.order_by(Recipient.recipient)))


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

    def _known(self, persons: Iterable[int]) -> dict[int, Any]:
        columns = (
            *(Recipient.person, Recipient.visitor, Recipient.recipient, Recipient.consent),
            *(Recipient.sent_at, Recipient.first_opened_at),
        )
        statement = select(*columns).where(
            Recipient.pixel_number == self.pixel.number,
            Recipient.person.in_(persons),
            Recipient.verified.is_(True),
        )
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


def _wanted(pixel: Pixel, search: str, status: str | None, opens_min: int) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [Recipient.pixel_number == pixel.number]
    if search:
        conditions.append(Recipient.recipient.icontains(search, autoescape=True))
    if status is not None:
        conditions += (Recipient.status == STATUSES.index(status), Recipient.opted_out.is_(False))
    if opens_min:
        conditions.append(Recipient.opens >= opens_min)
    return and_(true(), *conditions)


def _ordered(statement: Select[Any], query: ListQuery) -> Select[Any]:
    column = ORDERS[query.order_by or "lastOpenedAt"]
    return statement.order_by(
        (column.desc() if query.is_descending() else column).nulls_last(),
        Recipient.recipient,
        Recipient.visitor,
    )
