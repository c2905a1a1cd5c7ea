"""What is derived from hits so that questions are cheap: a pixel's UTC days as arrays.

Nothing here is the only copy of anything until the hits are pruned: a day can be made again from
its hits. Hits are folded in the order of their ids, in one transaction with the mark of how far
that went, so that a crash leaves each hit folded once or not yet. What has been folded stays
complete, because later hits get higher ids than any that was folded (see `Catalogue`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import numpy as np
from sqlalchemy import bindparam, case, delete, exists, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

import lexicon
from database import Instant, begin_snapshot, db, from_milliseconds, writing
from models import HIT_ID_SHIFT, Catalogue, Hit, Pixel, Profile, Recipient, Segment, Visitor
from summaries import (
    CLASSES,
    NOBODY,
    PARTS,
    PIECE_HITS_MAX,
    SET_MAX,
    Array,
    Blended,
    Columns,
    Hours,
    Mixed,
    Pairs,
    People,
    Plain,
    Quarters,
    Remains,
    Seen,
    Summary,
    attend,
    join_pieces,
    pack,
    remains_of,
    see,
    sort_columns,
    summarise,
    take_in,
    unpack,
)

MS_PER_DAY = 86_400_000
# So many that writing a day anew pays, so few that a question which finds them can wait; of a day
# that has many more, a fiftieth, so that what a hit costs doesn't grow with the day.
HITS_AT_ONCE_MIN = 5_000
DAY_SHARE = 50
COLUMNS_BYTES_OF_HIT = 7
PENDING_AGE_MAX = timedelta(minutes=1)
# A question folds what is pending for so long at most, then answers from what is folded.
FOLD_SECONDS_MAX = 2.0
DAYS_AT_ONCE = 8
ROWS_AT_ONCE = 1_000
# In place of a number that is not given yet.
NEW = -1

_PROFILES: Any = Profile.__table__
_RECIPIENTS: Any = Recipient.__table__
_NONE: Array = np.zeros(0, np.uint8)

log = logging.getLogger("pixelkeep.segments")


class Part(IntEnum):
    """The parts of a day; a question reads only those it needs. Columns are in pieces."""

    COLUMNS = 0
    SUMMARY = 1
    SEEN = 2
    PEOPLE = 3
    QUARTERS = 4
    HOURS = 5
    # Only of days whose hits are pruned, which of the others have summary and seen.
    REMAINS = 6


# The parts that are one shape of arrays as they are.
Kept = TypeVar("Kept", Columns, Seen, People, Quarters, Hours)
_PART_OF: dict[type, Part] = {
    Columns: Part.COLUMNS,
    Seen: Part.SEEN,
    People: Part.PEOPLE,
    Quarters: Part.QUARTERS,
    Hours: Part.HOURS,
}


class State(NamedTuple):
    """How far a pixel's segments have come."""

    folded_through: int
    visitor_count: int
    profile_count: int
    pruned_before: int
    revision: int


def state_of(pixel_number: int) -> State | None:
    """Return how far a pixel's segments have come, None for a pixel that is gone."""
    columns = [getattr(Pixel, name) for name in State._fields]
    row = db.session.execute(select(*columns).where(Pixel.number == pixel_number)).one_or_none()
    return State(*row) if row else None


def fold_for_question(pixel_number: int) -> None:
    """Fold what is pending, so that an answer is exact to the last committed hit.

    If that can't be done, the answer is given from what is folded, and the log says so.
    """
    give_up_at = time.monotonic() + FOLD_SECONDS_MAX
    try:
        while _is_pending(pixel_number) and time.monotonic() < give_up_at:
            fold(pixel_number)
    except (SQLAlchemyError, OSError) as error:
        db.session.rollback()
        log.error("Hits were not folded: %s", type(error.__cause__ or error).__name__)


def fold_pending(at: datetime) -> Iterator[int]:
    """Fold the pixels whose pending hits are many or old; yield after each chunk how many it had.

    The others wait, because each fold writes a pixel's day anew: a question folds what it needs.
    """
    for number, oldest in db.session.execute(_oldest_pending).all():
        is_old = at - from_milliseconds(oldest >> HIT_ID_SHIFT) > PENDING_AGE_MAX
        if is_old or _is_pending(number, more_than=_hits_at_once(number)):
            yield from _fold_what_is_there(number)


def fold(pixel_number: int, hits_at_once: int | None = None) -> int:
    """Take the next hits of a pixel into its segments; return how many.

    Hits wait while it is settled which they are, and while what was made of them is stored; what
    takes time is done in between, and again if another process was faster.
    """
    count = hits_at_once or _hits_at_once(pixel_number)
    while (folded := _try_to_fold(pixel_number, count)) is None:
        pass
    return folded


def rebuild(pixel_number: int, days: Iterable[int] | None = None) -> None:
    """Make days again from their hits, after hits have gone or profiles have changed.

    The hits are read while others come in; if the pixel changes meanwhile, they are read again.
    """
    with writing():
        raised = update(Pixel).where(Pixel.number == pixel_number)
        db.session.execute(raised.values(revision=Pixel.revision + 1))
    for day in days_of(pixel_number) if days is None else days:
        while not _rebuild_day(pixel_number, day):
            pass
    _recount_recipients(pixel_number)


def forget_hits(pixel_number: int, before_day: int) -> None:
    """Let the hits before a UTC day be deleted: of those days only the totals are kept.

    Folds them first. From then on those days answer as a whole, at their first instant.
    """
    while _is_pending(pixel_number, before_day):
        fold(pixel_number)
    bits = _class_bits(pixel_number)
    days = select(Segment.day).where(
        Segment.pixel_number == pixel_number,
        Segment.part == Part.COLUMNS,
        Segment.piece == 0,
        Segment.day < before_day,
    )
    for day in db.session.scalars(days.order_by(Segment.day)).all():
        triples, _ = take_in(_pieces(pixel_number, day), bits)
        remains = remains_of(triples)
        parts = {Part.REMAINS: {0: pack((*remains.pairs, *remains.mixed))}}
        with writing():
            _store_parts(pixel_number, day, parts)
    with writing():
        db.session.execute(
            update(Pixel)
            .where(Pixel.number == pixel_number, Pixel.pruned_before < before_day)
            .values(pruned_before=before_day, revision=Pixel.revision + 1)
        )
        db.session.execute(
            delete(Segment).where(
                Segment.pixel_number == pixel_number,
                Segment.part.not_in([Part.SUMMARY, Part.SEEN, Part.REMAINS]),
                Segment.day < before_day,
            )
        )


def days_of(pixel_number: int) -> list[int]:
    """Return the UTC days that a pixel has segments of, in order."""
    statement = select(Segment.day).where(
        Segment.pixel_number == pixel_number, Segment.part == Part.SUMMARY
    )
    return list(db.session.scalars(statement.order_by(Segment.day)))


def read(shape: type[Kept], pixel_number: int, days: list[int]) -> Iterator[tuple[int, Kept]]:
    """Yield what is kept of each of some days in this shape.

    Of pruned days only `Seen` is, and what `read_summaries` and `read_remains` yield.
    """
    for day, pieces in _read(pixel_number, _PART_OF[shape], days):
        yield day, shape(*unpack(pieces, len(shape._fields)))


def read_summaries(pixel_number: int, days: list[int]) -> Iterator[tuple[int, Summary]]:
    """Yield the summary of each of some days."""
    for day, pieces in _read(pixel_number, Part.SUMMARY, days):
        arrays = unpack(pieces, 15)
        profiles, visits, bounces, seconds = arrays[5:9]
        blended = Blended(
            profiles.reshape(-1, SET_MAX),
            visits,
            bounces.reshape(-1, SET_MAX),
            seconds.reshape(-1, len(PARTS)),
        )
        yield day, Summary(Plain(*arrays[:5]), blended, Mixed(*arrays[9:]))


def read_remains(pixel_number: int, days: list[int]) -> Iterator[tuple[int, Remains]]:
    """Yield what remains of each of some days whose hits are pruned."""
    for day, pieces in _read(pixel_number, Part.REMAINS, days):
        arrays = unpack(pieces, 12)
        yield day, Remains(Pairs(*arrays[:6]), Mixed(*arrays[6:]))


class _Hits(NamedTuple):
    """Hits by id, an array for each column, with the numbers that are given already.

    The number of a visitor is `NOBODY` for none; either number is `NEW` where none is given.
    """

    id: Array
    visitor: Array
    profile: Array
    visitor_number: Array
    profile_number: Array
    hit_class: Array
    is_recipients: Array

    @property
    def at_ms(self) -> Array:
        """Return their instants, in milliseconds since the epoch."""
        return self.id >> HIT_ID_SHIFT

    def columns(self, visitor: Array, profile: Array) -> Columns:
        """Return the hits with these numbers, in the order of their ids."""
        return Columns(self.at_ms % MS_PER_DAY, visitor, profile)


def _try_to_fold(pixel_number: int, hits_at_once: int) -> int | None:
    """Fold hits as `fold` does; None if the pixel changed meanwhile."""
    state = state_of(pixel_number)
    if state is None:
        return 0
    through = _settle(pixel_number, state.folded_through, hits_at_once)
    begin_snapshot()
    hits = _hits(pixel_number, Hit.id.between(state.folded_through + 1, through))
    if not len(hits.id):
        return 0
    visitor, new_visitors = _numbered(hits.visitor, hits.visitor_number, state.visitor_count)
    profile, new_profiles = _numbered(hits.profile, hits.profile_number, state.profile_count)
    bits = _class_bits(pixel_number, profile, hits.hit_class)
    columns, days = hits.columns(visitor, profile), hits.at_ms // MS_PER_DAY
    made = []
    for day in np.unique(days).tolist():
        new = sort_columns(Columns(*(each[days == day] for each in columns)))
        made.append((day, _parts(join_pieces(_pieces(pixel_number, day), new), bits)))
    with writing():
        if state_of(pixel_number) != state:
            return None
        _store_visitors(pixel_number, new_visitors)
        _store_profiles(pixel_number, new_profiles)
        for day, parts in made:
            _store_parts(pixel_number, day, parts)
        _count_recipients(pixel_number, hits, visitor)
        _mark(
            pixel_number,
            folded_through=through,
            visitor_count=state.visitor_count + len(new_visitors),
            profile_count=state.profile_count + len(new_profiles),
        )
    return len(hits.id)


def _numbered(keys: Array, numbers: Array, count: int) -> tuple[Array, dict[int, int]]:
    """Give numbers after `count` to those that are `NEW`, in the order of their first hits.

    Returns the numbers of all, and those that were given by key.
    """
    is_new = numbers == NEW
    found, first, place = np.unique(keys[is_new], return_index=True, return_inverse=True)
    order = np.argsort(first)
    given = np.empty(len(found), np.int64)
    given[order] = np.arange(count + 1, count + 1 + len(found))
    numbers = numbers.copy()
    numbers[is_new] = given[place]
    return numbers, dict(zip(found[order].tolist(), given[order].tolist(), strict=True))


def _store_visitors(pixel_number: int, numbers: dict[int, int]) -> None:
    _execute_each(
        insert(Visitor),
        (
            {"pixel_number": pixel_number, "visitor": visitor, "number": number}
            for visitor, number in numbers.items()
        ),
    )


def _store_profiles(pixel_number: int, numbers: dict[int, int]) -> None:
    _execute_each(
        update(_PROFILES)
        .where(Profile.pixel_number == pixel_number, Profile.id == bindparam("profile"))
        .values(number=bindparam("given")),
        ({"profile": profile, "given": number} for profile, number in numbers.items()),
    )


def _is_pending(pixel_number: int, before_day: int | None = None, more_than: int = 0) -> bool:
    folded = select(Pixel.folded_through).where(Pixel.number == pixel_number).scalar_subquery()
    statement = select(Hit.id).where(Hit.pixel_number == pixel_number, Hit.id > folded)
    if before_day is not None:
        statement = statement.where(Hit.id < before_day * MS_PER_DAY << HIT_ID_SHIFT)
    found = select(exists(statement.order_by(Hit.id).offset(more_than).limit(1)))
    return bool(db.session.scalar(found))


def _hits_at_once(pixel_number: int) -> int:
    """Return how many hits are worth a fold, by about how many the newest day has."""
    newest = (
        select(func.sum(func.length(Segment.data)))
        .where(Segment.pixel_number == pixel_number, Segment.part == Part.COLUMNS)
        .group_by(Segment.day)
        .order_by(Segment.day.desc())
        .limit(1)
    )
    hits = (db.session.scalar(newest) or 0) // COLUMNS_BYTES_OF_HIT
    return max(HITS_AT_ONCE_MIN, hits // DAY_SHARE)


def _fold_what_is_there(pixel_number: int) -> Iterator[int]:
    """Fold the hits that there are at this moment, and not those that go on coming."""
    last = db.session.scalar(select(func.max(Hit.id)).where(Hit.pixel_number == pixel_number))
    while (state := state_of(pixel_number)) and state.folded_through < (last or 0):
        yield fold(pixel_number)


# A seek for each pixel, where a join might read every hit there is.
_oldest_of_each = select(
    Pixel.number,
    select(func.min(Hit.id))
    .where(Hit.pixel_number == Pixel.number, Hit.id > Pixel.folded_through)
    .correlate(Pixel)
    .scalar_subquery()
    .label("oldest"),
).subquery()
_oldest_pending = select(_oldest_of_each).where(_oldest_of_each.c.oldest.is_not(None))


def _hits(pixel_number: int, condition: Any, count: int | None = None) -> _Hits:
    """Return hits by id; a few rows at a time are in memory as objects, which take the most."""
    statement = (
        select(
            Hit.id,
            func.coalesce(Hit.visitor, 0),
            Hit.profile,
            case((Hit.visitor.is_(None), NOBODY), else_=func.coalesce(Visitor.number, NEW)),
            func.coalesce(Profile.number, NEW),
            case(*((Profile.hit_class == name, place) for place, name in enumerate(CLASSES))),
            case((Recipient.visitor.is_(None), 0), else_=1),
        )
        .join(Profile, (Profile.pixel_number == Hit.pixel_number) & (Profile.id == Hit.profile))
        .outerjoin(
            Visitor, (Visitor.pixel_number == Hit.pixel_number) & (Visitor.visitor == Hit.visitor)
        )
        .outerjoin(
            Recipient,
            (Recipient.pixel_number == Hit.pixel_number) & (Recipient.visitor == Hit.visitor),
        )
        .where(Hit.pixel_number == pixel_number, condition)
        .order_by(Hit.id)
        .limit(count)
        .execution_options(yield_per=ROWS_AT_ONCE)
    )
    width = len(_Hits._fields)
    blocks = [
        np.fromiter(chain.from_iterable(rows), np.int64, len(rows) * width).reshape(-1, width)
        for rows in db.session.execute(statement).partitions()
    ]
    table = np.concatenate((np.zeros((0, width), np.int64), *blocks))
    return _Hits(*np.ascontiguousarray(table.T))


def _class_bits(pixel_number: int, profile: Array = _NONE, hit_class: Array = _NONE) -> Array:
    """Return the class of each profile as a bit, those of some hits with their `profile` numbers.

    The lexicon is asked for what is committed alone: what it knows, it keeps.
    """
    state = state_of(pixel_number)
    if state is None:
        return np.zeros(1, np.int64)
    bits = lexicon.of_pixel(pixel_number, state.revision, state.profile_count).class_bits
    bits = np.pad(bits, (0, max(0, int(profile.max(initial=0)) + 1 - len(bits))))
    bits[profile] = 1 << hit_class
    return bits


def _pieces(pixel_number: int, day: int) -> Iterator[Columns]:
    """Yield the pieces of a day's columns, each being read when it is asked for."""
    statement = select(Segment.data).where(
        Segment.pixel_number == pixel_number, Segment.part == Part.COLUMNS, Segment.day == day
    )
    rows = statement.order_by(Segment.piece).execution_options(yield_per=1)
    for data in db.session.scalars(rows):
        yield Columns(*unpack([data], 3))


def _parts(
    pieces: Iterable[tuple[Columns, bool]], class_bits: Array
) -> dict[Part, dict[int, bytes]]:
    """Make the parts of a day of the pieces of its hits, each with whether it changed.

    Parts are bytes by piece; of the columns there are those alone that changed.
    """
    changed: dict[int, bytes] = {}

    def columns() -> Iterator[Columns]:
        for number, (piece, is_changed) in enumerate(pieces):
            if is_changed:
                changed[number] = pack(piece)
            yield piece

    triples, by_quarter = take_in(columns(), class_bits)
    (plain, blended, mixed), hours = summarise(triples)
    people, quarters = attend(triples, by_quarter, class_bits)
    return {
        Part.COLUMNS: changed,
        Part.SUMMARY: {0: pack((*plain, *(each.ravel() for each in blended), *mixed))},
        Part.SEEN: {0: pack(see(triples))},
        Part.PEOPLE: {0: pack(people)},
        Part.QUARTERS: {0: pack(quarters)},
        Part.HOURS: {0: pack(hours)},
    }


def _store_parts(pixel_number: int, day: int, parts: dict[Part, dict[int, bytes]]) -> None:
    """Store parts of a day; those have each piece from their first on."""
    for part, pieces in parts.items():
        db.session.execute(
            delete(Segment).where(
                Segment.pixel_number == pixel_number,
                Segment.part == part,
                Segment.day == day,
                Segment.piece >= min(pieces),
            )
        )
    _execute_each(
        insert(Segment),
        (
            {"pixel_number": pixel_number, "part": part, "day": day, "piece": piece, "data": data}
            for part, pieces in parts.items()
            for piece, data in pieces.items()
        ),
    )


def _delete_day(pixel_number: int, day: int) -> None:
    db.session.execute(
        delete(Segment).where(Segment.pixel_number == pixel_number, Segment.day == day)
    )


def _settle(pixel_number: int, after: int, count: int) -> int:
    """Return the id of the last of the next `count` hits; from now on none comes before it."""
    some = select(Hit.id).where(Hit.pixel_number == pixel_number, Hit.id > after)
    last = select(func.max(some.order_by(Hit.id).limit(count).subquery().c.id))
    with writing():
        through = db.session.scalar(last) or after
        db.session.execute(
            update(Catalogue)
            .where(Catalogue.folded_through < through)
            .values(folded_through=through)
        )
    return through


def _mark(pixel_number: int, **values: int) -> None:
    db.session.execute(update(Pixel).where(Pixel.number == pixel_number).values(**values))


def _count_recipients(pixel_number: int, hits: _Hits, visitor: Array) -> None:
    """Add hits to what their recipients come to."""
    sent = hits.is_recipients == 1
    at_ms, hit_class, whose = hits.at_ms[sent], hits.hit_class[sent], hits.visitor[sent]
    numbers, one_of, place = np.unique(visitor[sent], return_index=True, return_inverse=True)
    counts = np.zeros((len(numbers), len(CLASSES)), np.int64)
    np.add.at(counts, (place, hit_class), 1)
    opens = hit_class == CLASSES.index("open")
    never = np.iinfo(np.int64).max
    first, last = np.full(len(numbers), never), np.zeros(len(numbers), np.int64)
    np.minimum.at(first, place[opens], at_ms[opens])
    np.maximum.at(last, place[opens], at_ms[opens])
    rows = (
        {
            "whose": key,
            "given": number,
            "first": from_milliseconds(since) if until else None,
            "last": from_milliseconds(until) if until else None,
            **dict(zip(CLASSES, of_class, strict=True)),
        }
        for key, number, since, until, *of_class in (
            row.tolist() for row in np.column_stack((whose[one_of], numbers, first, last, counts))
        )
    )
    _execute_each(_added_to_recipient(pixel_number), rows)


def _added_to_recipient(pixel_number: int) -> Any:
    return (
        update(_RECIPIENTS)
        .where(Recipient.pixel_number == pixel_number, Recipient.visitor == bindparam("whose"))
        .values(
            number=bindparam("given"),
            first_opened_at=func.coalesce(
                Recipient.first_opened_at, bindparam("first", type_=Instant)
            ),
            last_opened_at=func.coalesce(
                bindparam("last", type_=Instant), Recipient.last_opened_at
            ),
            opens=Recipient.opens + bindparam("open"),
            prefetches=Recipient.prefetches + bindparam("prefetch"),
            bots=Recipient.bots + bindparam("bot"),
        )
    )


def _rebuild_day(pixel_number: int, day: int) -> bool:
    """Make a day again; False if it changed meanwhile."""
    state = state_of(pixel_number)
    if state is None or day < state.pruned_before:
        return True
    first = day * MS_PER_DAY << HIT_ID_SHIFT
    end = ((day + 1) * MS_PER_DAY << HIT_ID_SHIFT) - 1
    last = min(end, state.folded_through)
    pieces: list[Columns] = []
    while len((hits := _hits(pixel_number, Hit.id.between(first, last), PIECE_HITS_MAX)).id):
        new = sort_columns(hits.columns(hits.visitor_number, hits.profile_number))
        pieces = [piece for piece, _ in join_pieces(pieces, new)]
        first = int(hits.id[-1]) + 1
    changed = ((piece, True) for piece in pieces)
    parts = _parts(changed, _class_bits(pixel_number)) if pieces else {}
    with writing():
        now = state_of(pixel_number)
        if now is None:
            return True
        if now.revision != state.revision or last != min(end, now.folded_through):
            return False
        if parts:
            _store_parts(pixel_number, day, parts)
        else:
            _delete_day(pixel_number, day)
    return True


def _recount_recipients(pixel_number: int) -> None:
    """Count anew what recipients come to.

    The instants of opens that are pruned can't be found again: those stay that are known.
    """
    done: int | None = np.iinfo(np.int64).min
    while done is not None and (state := state_of(pixel_number)):
        done = _recount_after(pixel_number, done, state)


def _recount_after(pixel_number: int, done: int, state: State) -> int | None:
    """Count anew the recipients after `done`, some at a time, so that hits wait for a moment only.

    Returns the last that is done if hits were folded meanwhile, which count for it already; else
    None.
    """
    counts = _hits_of_visitors(pixel_number, state)
    since, until = _opens_of_visitors(pixel_number, state)
    pruned = from_milliseconds(state.pruned_before * MS_PER_DAY)
    following = (
        select(
            Recipient.visitor,
            Recipient.number,
            Recipient.first_opened_at,
            Recipient.last_opened_at,
        )
        .where(
            Recipient.pixel_number == pixel_number,
            Recipient.visitor > bindparam("done"),
            Recipient.number <= state.visitor_count,
        )
        .order_by(Recipient.visitor)
        .limit(ROWS_AT_ONCE)
    )
    while some := db.session.execute(following, {"done": done}).all():
        rows = []
        for visitor, number, *known in some:
            opens = [at for at in known if at and at < pruned]
            if until[number]:
                opens += [from_milliseconds(int(at[number])) for at in (since, until)]
            row = {"first": min(opens, default=None), "last": max(opens, default=None)}
            hits = dict(zip(CLASSES, counts[number].tolist(), strict=True))
            rows.append({"whose": visitor, **row, **hits})
        with writing():
            if state_of(pixel_number) != state:
                return done
            db.session.connection().execute(_recounted_recipient(pixel_number), rows)
        done = some[-1].visitor
    return None


def _hits_of_visitors(pixel_number: int, state: State) -> Array:
    """Return how many hits of each class each visitor has, by their number."""
    bits = _class_bits(pixel_number)
    counts = np.zeros((len(CLASSES), state.visitor_count + 1), np.int64)
    days = days_of(pixel_number)
    pruned = [day for day in days if day < state.pruned_before]
    for _, (pairs, _) in read_remains(pixel_number, pruned):
        for place, of_class in enumerate(counts):
            kept = bits[pairs.profile] == 1 << place
            np.add.at(of_class, pairs.visitor[kept], pairs.hits[kept])
    for _, columns in read(Columns, pixel_number, days):
        for place, of_class in enumerate(counts):
            kept = bits[columns.profile] == 1 << place
            np.add.at(of_class, columns.visitor[kept], 1)
    return counts.T


def _opens_of_visitors(pixel_number: int, state: State) -> tuple[Array, Array]:
    """Return the instants of each recipient's first and last open by their number, 0 for none."""
    statement = (
        select(Recipient.number, func.min(Hit.id), func.max(Hit.id))
        .join(Profile, (Profile.pixel_number == Hit.pixel_number) & (Profile.id == Hit.profile))
        .join(
            Recipient,
            (Recipient.pixel_number == Hit.pixel_number) & (Recipient.visitor == Hit.visitor),
        )
        .where(
            Hit.pixel_number == pixel_number,
            Hit.id <= state.folded_through,
            Profile.hit_class == "open",
        )
        .group_by(Recipient.number)
        .execution_options(yield_per=ROWS_AT_ONCE)
    )
    ids = np.zeros((2, state.visitor_count + 1), np.int64)
    for number, first, last in db.session.execute(statement):
        ids[:, number] = first, last
    since, until = ids >> HIT_ID_SHIFT
    return since, until


def _recounted_recipient(pixel_number: int) -> Any:
    return (
        update(_RECIPIENTS)
        .where(Recipient.pixel_number == pixel_number, Recipient.visitor == bindparam("whose"))
        .values(
            first_opened_at=bindparam("first", type_=Instant),
            last_opened_at=bindparam("last", type_=Instant),
            opens=bindparam("open"),
            prefetches=bindparam("prefetch"),
            bots=bindparam("bot"),
        )
    )


def _read(pixel_number: int, part: Part, days: list[int]) -> Iterator[tuple[int, list[bytes]]]:
    """Yield a part of each of some days, in their order; a few at a time, each in memory."""
    days = sorted(days)
    for start in range(0, len(days), DAYS_AT_ONCE):
        statement = select(Segment.day, Segment.data).where(
            Segment.pixel_number == pixel_number,
            Segment.part == part,
            Segment.day.in_(days[start : start + DAYS_AT_ONCE]),
        )
        rows = db.session.execute(statement.order_by(Segment.day, Segment.piece)).all()
        for day, pieces in groupby(rows, itemgetter(0)):
            yield day, [data for _, data in pieces]


def _execute_each(statement: Any, rows: Iterable[dict[str, Any]]) -> None:
    """Execute a statement with each row; a few rows at a time are in memory."""
    rows = iter(rows)
    while some := list(islice(rows, ROWS_AT_ONCE)):
        db.session.connection().execute(statement, some)
