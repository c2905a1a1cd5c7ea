"""What is derived from hits so that questions are cheap: a pixel's UTC days as arrays.

Nothing here is the only copy of anything until the hits are pruned: a day can be made again from
its hits. Hits are folded in the order of their ids, in one transaction with the mark of how far
that went, so that a crash leaves each hit folded once or not yet. What has been folded stays
complete, because later hits get higher ids than any that was folded (see `Catalogue`). Which day a
hit belongs to is another matter: a late one goes to an earlier day, pruned or not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Integer, bindparam, case, delete, exists, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from core.clock import from_milliseconds
from core.database import Instant, begin_snapshot, db
from core.locks import folders_turn, writing
from models import (
    MACHINE,
    MS_PER_DAY,
    OPENED,
    Catalogue,
    Hit,
    Pixel,
    Profile,
    Recipient,
    Segment,
    Visitor,
)
from stats import labels
from stats.arithmetic import (
    group_hits,
    join_pieces,
    join_remains,
    remains_of,
    sort_columns,
    summarise,
    summary_of_remains,
    visitor_rollups_of,
    visitor_sets_of,
)
from stats.days import CLASSES, NO_VISITOR, Array, Columns, Summary, pack, unpack
from stats.future import note
from stats.instants import INSTANT_MS
from stats.store import Part, read_remains, state_of

# So many that writing a day anew pays, so few that a question which finds them can wait; of a day
# that has many more, a fiftieth, so that what a hit costs doesn't grow with the day.
HITS_AT_ONCE_MIN = 5_000
DAY_SHARE = 50
COLUMNS_BYTES_OF_HIT = 7
PENDING_AGE_MAX = timedelta(minutes=1)
# A question folds what is pending for so long at most, then answers from what is folded.
FOLD_SECONDS_MAX = 2.0
ROWS_AT_ONCE = 1_000
# In place of a number that is not given yet.
NEW = -1

_PROFILES: Any = Profile.__table__
RECIPIENTS_TABLE: Any = Recipient.__table__
_NONE: Array = np.zeros(0, np.uint8)

log = logging.getLogger("pixelkeep.segments")


def fold_for_question(pixel_number: int) -> None:
    """Fold what is pending, so that an answer is exact to the last hit committed until now.

    One folds for all that ask meanwhile, and for as long as the others wait they find it done. If
    it takes too long, the answer is given from what is folded; if it fails, the log says so too.
    """
    give_up_at = time.monotonic() + FOLD_SECONDS_MAX
    try:
        newest = _newest_pending(pixel_number)
        if newest is None:
            return
        # Nobody waits with a transaction open.
        db.session.commit()
        with folders_turn(db.engine, pixel_number, FOLD_SECONDS_MAX) as mine:
            while mine and _is_behind(pixel_number, newest) and time.monotonic() < give_up_at:
                _fold(pixel_number)
    except (SQLAlchemyError, OSError) as error:
        db.session.rollback()
        log.error("Hits were not folded: %s", type(error.__cause__ or error).__name__)


def fold_pending(at: datetime) -> Iterator[int]:
    """Fold the pixels whose pending hits are many or old; yield after each chunk how many it had.

    The others wait, because each fold writes a pixel's day anew: a question folds what it needs.
    """
    for number, oldest in db.session.execute(_oldest_pending).all():
        # What lies in the future can't wait until then.
        is_old = abs(at - from_milliseconds(oldest)) > PENDING_AGE_MAX
        if is_old or is_pending(number, more_than=_hits_at_once(number)):
            yield from fold_what_is_there(number)


def fold(pixel_number: int, hits_at_once: int | None = None) -> int:
    """Take the next hits of a pixel into its segments; return how many.

    Hits wait while it is settled which they are, and while what was made of them is stored; what
    takes time is done in between, and again if the pixel changed meanwhile. Nobody else folds
    then, if their turn ends in time.
    """
    db.session.commit()
    with folders_turn(db.engine, pixel_number, FOLD_SECONDS_MAX):
        return _fold(pixel_number, hits_at_once)


def _fold(pixel_number: int, hits_at_once: int | None = None) -> int:
    count = hits_at_once or _hits_at_once(pixel_number)
    while (folded := _try_to_fold(pixel_number, count)) is None:
        pass
    return folded


class _Hits(NamedTuple):
    """Hits by id, an array for each column, with the numbers that are given already.

    The number of a visitor is `NO_VISITOR` for none; either number is `NEW` where none is given.
    """

    id: Array
    at_ms: Array
    visitor: Array
    profile: Array
    visitor_number: Array
    profile_number: Array
    hit_class: Array
    is_recipients: Array

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
    hits = hits_of(pixel_number, Hit.id.between(state.folded_through + 1, through))
    if not len(hits.id):
        return 0
    visitor, new_visitors = _numbered(hits.visitor, hits.visitor_number, state.visitor_count)
    profile, new_profiles = _numbered(hits.profile, hits.profile_number, state.profile_count)
    bits = class_bits_of(pixel_number, profile, hits.hit_class)
    columns, days = hits.columns(visitor, profile), hits.at_ms // MS_PER_DAY
    made = []
    for day in np.unique(days).tolist():
        new = sort_columns(Columns(*(each[days == day] for each in columns)))
        if day < state.pruned_before:
            made.append((day, _parts_of_pruned(pixel_number, day, new, bits)))
        else:
            made.append((day, parts_of(join_pieces(pieces_of(pixel_number, day), new), bits)))
    with writing():
        if state_of(pixel_number) != state:
            return None
        _store_visitors(pixel_number, new_visitors)
        _store_profiles(pixel_number, new_profiles)
        for day, parts in made:
            store_parts(pixel_number, day, parts)
        _count_recipients(pixel_number, hits, visitor, profile)
        newest_ms = max(state.newest_ms, int(hits.at_ms.max()))
        note(newest_ms)
        _mark(
            pixel_number,
            newest_ms=newest_ms,
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


def is_pending(pixel_number: int, more_than: int = 0) -> bool:
    """Tell whether more than so many hits, of days before one, are not folded yet."""
    folded = select(Pixel.folded_through).where(Pixel.number == pixel_number).scalar_subquery()
    statement = select(Hit.id).where(Hit.pixel_number == pixel_number, Hit.id > folded)
    found = select(exists(statement.order_by(Hit.id).offset(more_than).limit(1)))
    return bool(db.session.scalar(found))


def _newest_pending(pixel_number: int) -> int | None:
    """Return the id of the newest hit that is not folded, None if all are."""
    newest = select(func.max(Hit.id)).where(Hit.pixel_number == pixel_number).scalar_subquery()
    behind = select(newest).where(Pixel.number == pixel_number, Pixel.folded_through < newest)
    return db.session.scalar(behind)


def _is_behind(pixel_number: int, id: int) -> bool:
    behind = exists().where(Pixel.number == pixel_number, Pixel.folded_through < id)
    return bool(db.session.scalar(select(behind)))


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


def fold_what_is_there(pixel_number: int) -> Iterator[int]:
    """Fold the hits that there are at this moment, and not those that go on coming."""
    last = db.session.scalar(select(func.max(Hit.id)).where(Hit.pixel_number == pixel_number))
    while (state := state_of(pixel_number)) and state.folded_through < (last or 0):
        yield fold(pixel_number)


# A seek for each pixel, where a join might read every hit there is.
_oldest_of_each = select(
    Pixel.number,
    select(INSTANT_MS)
    .where(Hit.pixel_number == Pixel.number, Hit.id > Pixel.folded_through)
    .order_by(Hit.id)
    .limit(1)
    .correlate(Pixel)
    .scalar_subquery()
    .label("oldest"),
).subquery()
_oldest_pending = select(_oldest_of_each).where(_oldest_of_each.c.oldest.is_not(None))


def hits_of(
    pixel_number: int, condition: Any, count: int | None = None, order: Sequence[Any] = (Hit.id,)
) -> _Hits:
    """Return hits in an order; few rows at a time are objects, which take the most memory."""
    statement = (
        select(
            Hit.id,
            INSTANT_MS,
            func.coalesce(Hit.visitor, 0),
            Hit.profile,
            case((Hit.visitor.is_(None), NO_VISITOR), else_=func.coalesce(Visitor.number, NEW)),
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
        .order_by(*order)
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


def class_bits_of(pixel_number: int, profile: Array = _NONE, hit_class: Array = _NONE) -> Array:
    """Return the class of each profile as a bit, those of some hits with their `profile` numbers.

    The labels are read only for what is committed: what is known of them stays known.
    """
    state = state_of(pixel_number)
    if state is None:
        return np.zeros(1, np.int64)
    bits = labels.of_pixel(pixel_number, state.revision, state.profile_count).class_bits
    bits = np.pad(bits, (0, max(0, int(profile.max(initial=0)) + 1 - len(bits))))
    bits[profile] = 1 << hit_class
    return bits


def pieces_of(pixel_number: int, day: int) -> Iterator[Columns]:
    """Yield the pieces of a day's columns, each being read when it is asked for."""
    statement = select(Segment.data).where(
        Segment.pixel_number == pixel_number, Segment.part == Part.COLUMNS, Segment.day == day
    )
    rows = statement.order_by(Segment.piece).execution_options(yield_per=1)
    for data in db.session.scalars(rows):
        yield Columns(*unpack([data], 3))


def parts_of(
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

    hourly, by_quarter = group_hits(columns(), class_bits)
    summary, hours = summarise(hourly)
    visitors, quarters = visitor_rollups_of(hourly, by_quarter, class_bits)
    return {
        Part.COLUMNS: changed,
        Part.SUMMARY: {0: _packed(summary)},
        Part.VISITOR_SETS: {0: pack(visitor_sets_of(hourly))},
        Part.VISITORS: {0: pack(visitors)},
        Part.QUARTERS: {0: pack(quarters)},
        Part.HOURS: {0: pack(hours)},
    }


def _parts_of_pruned(
    pixel_number: int, day: int, new: Columns, class_bits: Array
) -> dict[Part, dict[int, bytes]]:
    """Make the parts of a day whose hits are pruned already, and that hits reached late.

    Whether they belong to a visit that is there can't be known: they are visits of their own.
    """
    hourly, _ = group_hits([new], class_bits)
    remains = remains_of(hourly)
    for _, before in read_remains(pixel_number, [day]):
        remains = join_remains(before, remains)
    summary, visitor_sets = summary_of_remains(remains)
    return {
        Part.REMAINS: {0: pack((*remains.pairs, *remains.visit_rows))},
        Part.SUMMARY: {0: _packed(summary)},
        Part.VISITOR_SETS: {0: pack(visitor_sets)},
    }


def _packed(summary: Summary) -> bytes:
    by_profile, by_profile_set, visit_rows = summary
    return pack((*by_profile, *(each.ravel() for each in by_profile_set), *visit_rows))


def store_parts(pixel_number: int, day: int, parts: dict[Part, dict[int, bytes]]) -> None:
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


def delete_day(pixel_number: int, day: int) -> None:
    """Delete all that is kept of a day."""
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


def _count_recipients(pixel_number: int, hits: _Hits, visitor: Array, profile: Array) -> None:
    """Add hits to the totals of their recipients."""
    sent = hits.is_recipients == 1
    profile = profile[sent]
    at_ms, hit_class, whose = hits.at_ms[sent], hits.hit_class[sent], hits.visitor[sent]
    numbers, one_of, place = np.unique(visitor[sent], return_index=True, return_inverse=True)
    counts = np.zeros((len(numbers), len(CLASSES)), np.int64)
    np.add.at(counts, (place, hit_class), 1)
    opens = hit_class == CLASSES.index("open")
    never = np.iinfo(np.int64).max
    first, last = np.full(len(numbers), never), np.zeros(len(numbers), np.int64)
    np.minimum.at(first, place[opens], at_ms[opens])
    np.maximum.at(last, place[opens], at_ms[opens])
    # Of hits in their order the last one stays.
    last_open, last_fetch = np.zeros((2, len(numbers)), np.int64)
    order = np.argsort(at_ms, kind="stable")
    last_fetch[place[order]] = profile[order]
    order = order[opens[order]]
    last_open[place[order]] = profile[order]
    rows = (
        {
            "whose": key,
            "given": number,
            "first": from_milliseconds(since) if until else None,
            "last": from_milliseconds(until) if until else None,
            "opened_with": opened_with,
            "fetched_with": fetched_with,
            **dict(zip(CLASSES, of_class, strict=True)),
        }
        for key, number, since, until, opened_with, fetched_with, *of_class in (
            row.tolist()
            for row in np.column_stack(
                (whose[one_of], numbers, first, last, last_open, last_fetch, counts)
            )
        )
    )
    _execute_each(_added_to_recipient(pixel_number), rows)


def _added_to_recipient(pixel_number: int) -> Any:
    first, last = bindparam("first", type_=Instant), bindparam("last", type_=Instant)
    return (
        update(RECIPIENTS_TABLE)
        .where(Recipient.pixel_number == pixel_number, Recipient.visitor == bindparam("whose"))
        .values(
            number=bindparam("given"),
            # A hit may be folded after one that came later.
            first_opened_at=case(
                (Recipient.first_opened_at <= first, Recipient.first_opened_at),
                else_=func.coalesce(first, Recipient.first_opened_at),
            ),
            last_opened_at=case(
                (Recipient.last_opened_at >= last, Recipient.last_opened_at),
                else_=func.coalesce(last, Recipient.last_opened_at),
            ),
            opens=Recipient.opens + bindparam("open"),
            prefetches=Recipient.prefetches + bindparam("prefetch"),
            bots=Recipient.bots + bindparam("bot"),
            status=case((Recipient.opens + bindparam("open") > 0, OPENED), else_=MACHINE),
            last_profile=case(
                (
                    (bindparam("open", type_=Integer) > 0)
                    & (func.coalesce(Recipient.last_opened_at, last) <= last),
                    bindparam("opened_with", type_=Integer),
                ),
                (
                    (Recipient.opens == 0) & (bindparam("open", type_=Integer) == 0),
                    bindparam("fetched_with", type_=Integer),
                ),
                else_=Recipient.last_profile,
            ),
        )
    )


def _execute_each(statement: Any, rows: Iterable[dict[str, Any]]) -> None:
    """Execute a statement with each row; a few rows at a time are in memory."""
    rows = iter(rows)
    while some := list(islice(rows, ROWS_AT_ONCE)):
        db.session.connection().execute(statement, some)
