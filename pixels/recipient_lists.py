"""The people that a pixel was sent to, as lists: in an order, by status, searched, page by page.

What is asked for most is read from indexes that hold all of it for those with signed links, and a
page that is far into the list is counted from the nearer end, so that a million people are no
slower to list than a few. Those whom plain links name, who are in no such index, are merged in
while they are few; beyond that the database sorts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    case,
    func,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.orm import InstrumentedAttribute

from core.database import db, holds
from core.kept import Kept
from core.lists import ListQuery, Page
from models import MACHINE, OPENED, STATUSES, UNOPENED, Pixel, Recipient
from stats import folding, labels, store

ROWS_READ_AT_ONCE = 2_000
# So many who are found are sorted by their rows, and so many plain names are merged in.
FOUND_SORTED_MAX = 1_000
PIXELS_KEPT_MAX = 256
PLAIN_MERGED_MAX = 2_000
ORDERS = {
    "recipient": Recipient.recipient,
    "firstOpenedAt": Recipient.first_opened_at,
    "lastOpenedAt": Recipient.last_opened_at,
    "opens": Recipient.opens,
}
# As the index says it, whose condition can't be a parameter.
IS_OPENED = Recipient.status == literal_column(str(OPENED))
_OPENED = frozenset({OPENED})
_NOT_OPENED = frozenset({UNOPENED, MACHINE})
_ANY = _OPENED | _NOT_OPENED
# What `rows_told` turns into rows.
COLUMNS = (
    *(Recipient.recipient, Recipient.verified, Recipient.status, Recipient.sent_at),
    *(Recipient.opted_out, Recipient.first_opened_at, Recipient.last_opened_at),
    *(Recipient.opens, Recipient.prefetches, Recipient.bots, Recipient.last_profile),
)


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
class CountedPage(Page[RecipientRow]):
    """A page of recipients, and how many people there are whatever was asked for.

    `nameless` are those among them who were forgotten: they count and are not listed.
    """

    counts: Counts
    nameless: int


def listing(
    pixel: Pixel, query: ListQuery, *, status: str | None = None, opens_min: int = 0
) -> CountedPage:
    """Return a page of a pixel's recipients, the last to open first unless ordered otherwise.

    Those who have not opened come last. People who opted out have no status that is asked for.
    """
    folding.fold_for_question(pixel.number)
    order_by, descending = query.order_by or "lastOpenedAt", query.is_descending()
    people = _People.of(pixel.number)
    has_plain = _has(_plain(pixel.number))
    asked = _Asked(pixel.number, query.search, _status_number(status), opens_min, has_plain)
    span = _Span(query.offset, query.page_size)
    found = (
        (_found_few(asked, order_by, descending, span) if query.search else None)
        or _found_by_index(asked, people, order_by, descending, span)
        or _found_by_sorting(asked, order_by, descending, span)
    )
    rows = list(rows_told(pixel.number, _rows(pixel.number, found.visitors)))
    page = (rows, found.people, query.page, query.page_size)
    return CountedPage(*page, people.counts, people.nameless)


def counts(pixel_number: int) -> Counts:
    """Return how many people a pixel was issued to by status, as far as hits are folded."""
    return _People.of(pixel_number).counts


def issued_to(pixel_number: int | InstrumentedAttribute[int]) -> ColumnElement[bool]:
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
    browser, reason = words["browser"], words["reason"]
    for recipient, verified, status, *others, profile in rows:
        fetched_with = [dimension.of(profile or 0) for dimension in (browser, reason)]
        yield RecipientRow(recipient, verified, STATUSES[status], *others, *fetched_with)


def every(pixel: Pixel, search: str = "", status: str | None = None) -> Iterator[RecipientRow]:
    """Yield all of a pixel's recipients that are asked for, in no order but their numbers'.

    A chunk is read at a time, so that a slow reader holds nothing open.
    """
    folding.fold_for_question(pixel.number)
    asked = _Asked(pixel.number, search, _status_number(status))
    last = -(1 << 63)
    statement = select(*COLUMNS, Recipient.visitor).order_by(Recipient.visitor)
    while rows := db.session.execute(
        statement.where(asked.with_pixel, Recipient.visitor > last).limit(ROWS_READ_AT_ONCE)
    ).all():
        last = rows[-1].visitor
        found = list(rows_told(pixel.number, [row[:-1] for row in rows]))
        db.session.commit()
        yield from found


def names_of(pixel: Pixel, status: str | None = None) -> list[str]:
    """Return the people that a pixel was issued to, less those who opted out, by name."""
    folding.fold_for_question(pixel.number)
    statement = select(Recipient.recipient).where(
        issued_to(pixel.number), Recipient.recipient.is_not(None)
    )
    if status is not None:
        statement = statement.where(Recipient.status == STATUSES.index(status))
    names: Any = db.session.scalars(statement.order_by(Recipient.recipient))
    return list(names)


class _Span(NamedTuple):
    """Which part of a list: after so many, so many."""

    offset: int
    limit: int


class _FoundVisitors(NamedTuple):
    """The visitors of a page, in order, and how many there are on all pages."""

    visitors: list[int]
    people: int


class _People(NamedTuple):
    """How many people with signed links a pixel has, by whether they opted out and by status.

    `named` are those of them whose names are known.
    """

    counts: Counts
    nameless: int
    named: dict[tuple[bool, int], int]

    @classmethod
    def of(cls, pixel_number: int) -> _People:
        """Count them, or return what was counted if nothing has changed since."""
        version = db.session.execute(
            select(Pixel.people_version, Pixel.folded_through).where(Pixel.number == pixel_number)
        ).one_or_none()
        return _kept.of(pixel_number, version, lambda: cls._counted(pixel_number))

    @classmethod
    def _counted(cls, pixel_number: int) -> _People:
        tally = _tally(pixel_number)
        nameless = _tally_of_nameless(pixel_number)
        named = {key: count - nameless.get(key, 0) for key, count in tally.items()}
        return cls(_counts(tally), _counts(nameless).all, named)


_kept: Kept[_People] = Kept(PIXELS_KEPT_MAX)


class _Asked(NamedTuple):
    """Whom a list is about."""

    pixel_number: int
    search: str
    status: int | None
    opens_min: int = 0
    has_plain: bool = True

    @property
    def with_pixel(self) -> ColumnElement[bool]:
        """The condition for them."""
        return and_(Recipient.pixel_number == self.pixel_number, self.condition)

    @property
    def condition(self) -> ColumnElement[bool]:
        """The condition for them, beside the pixel."""
        conditions: list[ColumnElement[bool]] = [Recipient.recipient.is_not(None)]
        if self.opens_min:
            conditions.append(Recipient.opens >= self.opens_min)
        if self.search:
            conditions.append(holds(Recipient.recipient, self.search))
        if self.status is not None:
            conditions += (Recipient.status == self.status, Recipient.opted_out.is_(False))
        return and_(*conditions)


class _Block(NamedTuple):
    """A part of a list that is in the order of an index: those of some statuses."""

    statuses: frozenset[int]
    order: tuple[Any, ...]
    descending: bool
    signed: ColumnElement[bool]
    plain: ColumnElement[bool]

    @classmethod
    def of(
        cls, asked: _Asked, statuses: frozenset[int], column: Any, *, descending: bool
    ) -> _Block:
        """Return the part whose index is in the order of a column, or holds it at least."""
        found = asked.condition
        if statuses == _OPENED:
            found &= IS_OPENED
        elif statuses == _NOT_OPENED:
            found &= Recipient.status != OPENED
        order = (column, Recipient.recipient, Recipient.visitor)
        return cls(
            statuses,
            order[column is Recipient.recipient :],
            descending,
            _signed(asked.pixel_number) & found,
            _plain(asked.pixel_number) & found,
        )

    def visitors(self, span: _Span, size: int, plain_count: int) -> list[int]:
        """Return the visitors of a part of it, given its size and how many plain ones it has.

        Of the plain ones, which are few, all are read, and of the signed so many more.
        """
        end = span.offset + span.limit
        is_from_end = size - end < span.offset
        offset = size - end if is_from_end else span.offset
        descending = self.descending != is_from_end
        skipped = max(offset - plain_count, 0)
        columns = [column.label(f"key_{n}") for n, column in enumerate(self.order)]
        keys: Select[Any] = (
            select(*columns)
            .where(self.signed)
            .order_by(*_directed(self.order, descending))
            .offset(skipped)
            .limit(span.limit + offset - skipped)
        )
        if plain_count:
            both = union_all(select(keys.subquery()), select(*columns).where(self.plain)).subquery()
            keys = (
                select(both)
                .order_by(*_directed(both.columns, descending))
                .offset(offset - skipped)
                .limit(span.limit)
            )
        found = [row[-1] for row in db.session.execute(keys)]
        return found[::-1] if is_from_end else found


def _status_number(status: str | None) -> int | None:
    return None if status is None else STATUSES.index(status)


def _signed(pixel_number: int) -> ColumnElement[bool]:
    return and_(Recipient.pixel_number == pixel_number, Recipient.verified.is_(True))


def _plain(pixel_number: int) -> ColumnElement[bool]:
    return and_(Recipient.pixel_number == pixel_number, Recipient.verified.is_(False))


def _directed(columns: Iterable[Any], descending: bool) -> list[Any]:
    return [column.desc() if descending else column for column in columns]


def _tally(pixel_number: int) -> dict[tuple[bool, int], int]:
    """Count those with signed links, by whether they opted out and by status.

    Each count is of a range of an index, which takes a third of the time of a grouping.
    """
    signed = select(func.count()).select_from(Recipient).where(_signed(pixel_number))
    kinds = [(out, status) for out in (False, True) for status in range(len(STATUSES))]
    counted = (
        signed.where(Recipient.opted_out.is_(out), Recipient.status == status).scalar_subquery()
        for out, status in kinds
    )
    return dict(zip(kinds, db.session.execute(select(*counted)).one(), strict=True))


def _tally_of_nameless(pixel_number: int) -> dict[tuple[bool, int], int]:
    """Count those of them who were forgotten, who are few."""
    statement = (
        select(Recipient.opted_out, Recipient.status, func.count())
        .where(_signed(pixel_number), Recipient.recipient.is_(None))
        .group_by(Recipient.opted_out, Recipient.status)
    )
    return {(out, status): count for out, status, count in db.session.execute(statement)}


def _counts(tally: dict[tuple[bool, int], int]) -> Counts:
    unopened, machine, opened = (tally.get((False, status), 0) for status in range(len(STATUSES)))
    return Counts(unopened + machine + opened, opened, machine, unopened)


def _found_few(
    asked: _Asked, order_by: str, descending: bool, span: _Span
) -> _FoundVisitors | None:
    """Return a page of those who are found by a search, None if they are too many to sort.

    One look at all names, which ends as soon as it is plain that they are many.
    """
    visitors: list[int] = []
    for kind in (_signed, _plain) if asked.has_plain else (_signed,):
        some = select(Recipient.visitor).where(kind(asked.pixel_number), asked.condition)
        visitors += db.session.scalars(some.limit(FOUND_SORTED_MAX + 1))
        if len(visitors) > FOUND_SORTED_MAX:
            return None
    among = and_(Recipient.pixel_number == asked.pixel_number, Recipient.visitor.in_(visitors))
    statement = _ordered(select(Recipient.visitor).where(among), order_by, descending)
    found = list(db.session.scalars(statement))
    return _FoundVisitors(found[span.offset : span.offset + span.limit], len(found))


def _found_by_index(
    asked: _Asked, people: _People, order_by: str, descending: bool, span: _Span
) -> _FoundVisitors | None:
    """Return a page from indexes, None where they leave out too many whom plain links name."""
    if asked.has_plain and _has(_plain(asked.pixel_number), more_than=PLAIN_MERGED_MAX):
        return None
    named = _count_found(asked) if asked.search or asked.opens_min else people.named
    visitors: list[int] = []
    offset, whole = span.offset, 0
    for block in _blocks(asked, order_by, descending):
        plain_count = _count(block.plain) if asked.has_plain else 0
        size = plain_count + _signed_count(block, asked, named)
        wanted = min(span.limit - len(visitors), size - offset)
        if wanted > 0:
            visitors += block.visitors(_Span(offset, wanted), size, plain_count)
        offset, whole = max(offset - size, 0), whole + size
    return _FoundVisitors(visitors, whole)


def _blocks(asked: _Asked, order_by: str, descending: bool) -> Iterator[_Block]:
    """Yield the parts of a list, in their order: who opened, and the others by name."""
    if order_by == "recipient" and not asked.opens_min:
        statuses = _ANY if asked.status is None else frozenset({asked.status})
        yield _Block.of(asked, statuses, Recipient.recipient, descending=descending)
        return
    blocks = []
    if asked.status in (None, OPENED):
        blocks += [_Block.of(asked, _OPENED, ORDERS[order_by], descending=descending)]
    if asked.status != OPENED and not asked.opens_min:
        blocks += [_Block.of(asked, _NOT_OPENED, Recipient.recipient, descending=False)]
    # No open is the least, where a time that there is not comes last.
    yield from blocks[::-1] if order_by == "opens" and not descending else blocks


def _count_found(asked: _Asked) -> dict[tuple[bool, int], int]:
    """Count those who are found by status; those who haven't opened as of one."""
    if asked.opens_min:
        (block,) = list(_blocks(asked, "lastOpenedAt", descending=True)) or (None,)
        return {(False, OPENED): _count(block.signed) if block else 0}
    opened = func.sum(case((Recipient.status == OPENED, 1), else_=0))
    statement = select(func.count(), opened).select_from(Recipient)
    found = statement.where(_signed(asked.pixel_number), asked.condition)
    whole, count = db.session.execute(found).one()
    other = asked.status if asked.status in (MACHINE, UNOPENED) else UNOPENED
    return {(False, OPENED): int(count or 0), (False, other): whole - int(count or 0)}


def _signed_count(block: _Block, asked: _Asked, named: dict[tuple[bool, int], int]) -> int:
    return sum(
        count
        for (opted_out, status), count in named.items()
        if status in block.statuses
        and (asked.status is None or (status == asked.status and not opted_out))
    )


def _has(condition: ColumnElement[bool], more_than: int = 0) -> bool:
    statement = select(Recipient.visitor).where(condition)
    return db.session.scalar(statement.offset(more_than).limit(1)) is not None


def _count(condition: ColumnElement[bool]) -> int:
    return db.session.scalar(select(func.count()).select_from(Recipient).where(condition)) or 0


def _found_by_sorting(
    asked: _Asked, order_by: str, descending: bool, span: _Span
) -> _FoundVisitors:
    people = _count(asked.with_pixel)
    # SQLite sorts as many as come up to the end of a page: from the nearer end these are fewer.
    left = people - span.offset - span.limit
    is_from_end = left < span.offset
    statement = _ordered(
        select(Recipient.visitor).where(asked.with_pixel), order_by, descending, is_from_end
    )
    offset, limit = span
    if is_from_end:
        offset, limit = max(left, 0), max(min(span.limit, people - span.offset), 0)
    found = list(db.session.scalars(statement.limit(limit).offset(offset)))
    return _FoundVisitors(found[::-1] if is_from_end else found, people)


def _ordered(
    statement: Select[Any], order_by: str, descending: bool, is_reversed: bool = False
) -> Select[Any]:
    """Order as blocks are: what has no value comes last, and those that are alike by name."""
    column = ORDERS[order_by]
    others = _directed((column, Recipient.recipient, Recipient.visitor), descending != is_reversed)
    if order_by == "recipient":
        return statement.order_by(*others[1:])
    has_none = case((column.is_(None), 1), else_=0)
    name = case((column.is_(None), Recipient.recipient))
    return statement.order_by(*_directed((has_none, name), is_reversed), *others)


def _rows(pixel_number: int, visitors: Sequence[int]) -> list[Any]:
    """Return rows of `COLUMNS` of some visitors, in the order of these."""
    statement = select(Recipient.visitor, *COLUMNS).where(
        Recipient.pixel_number == pixel_number, Recipient.visitor.in_(visitors)
    )
    found = {row[0]: row[1:] for row in db.session.execute(statement)}
    return [found[visitor] for visitor in visitors if visitor in found]
