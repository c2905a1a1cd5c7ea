"""What is derived from hits so that questions are cheap: a pixel's UTC days as arrays.

Nothing here is the only copy of anything until the hits are pruned: a day can be made again from
its hits. Hits are folded in the order of their ids, in one transaction with the mark of how far
that went, so that a crash leaves each hit folded once or not yet. What has been folded stays
complete, because later hits get higher ids than any that was folded (see `Catalogue`). Which day a
hit belongs to is another matter: a late one goes to an earlier day, pruned or not.

To fold is cheap: a hit gets its numbers and is appended to the recent ones of its day, which
questions count beside the day's arrays. Once there are many they are taken into the arrays
(`compacting`), by housekeeping, which nobody waits for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, starmap
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import (
    BigInteger,
    bindparam,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import aliased

from core.clock import milliseconds
from core.database import begin_snapshot, db, rows_of_numbers, write_rows
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
from stats import compacting
from stats.arithmetic import (
    group_hits,
    join_remains,
    remains_of,
    sort_columns,
    summary_of_remains,
)
from stats.compacting import (
    NO_LAST,
    RECENT_TIMES_MAX,
    LastRecent,
    Parts,
    appended,
    class_bits_of,
    is_same,
    last_recent_of,
    pack_summary,
    recent_hits_max,
)
from stats.days import (
    CLASSES,
    NO_VISITOR,
    RECENT_HIT_BYTES,
    Array,
    Columns,
    pack,
)
from stats.future import note
from stats.instants import INSTANT_MS
from stats.store import Part, PixelState, read_remains, state_of, states_of

# More are folded by several transactions, so that none holds up hits for long.
HITS_AT_ONCE = 20_000
# Pixels that wait with few hits each are folded together: what a transaction costs is shared.
PIXELS_AT_ONCE = 64
HITS_OF_MANY = 5_000
PENDING_AGE_MAX = timedelta(minutes=1)
# A question folds what is pending for so long at most, then answers from what is folded.
FOLD_SECONDS_MAX = 2.0
ROWS_AT_ONCE = 400
# To write the rows of one takes up to a tenth of a millisecond, for which hits wait.
PEOPLE_AT_ONCE = 400
# In place of a number that is not given yet.
NEW = -1

Row = tuple[int | None, ...]

_PIXELS: Any = Pixel.__table__
_PROFILES: Any = Profile.__table__
_OTHER = aliased(Segment)
RECIPIENTS_TABLE: Any = Recipient.__table__

log = logging.getLogger("pixelkeep.segments")


def fold_for_question(pixel_number: int) -> None:
    """Fold what is pending, so that an answer is exact to the last hit committed until now.

    One folds for all that ask meanwhile, and for as long as the others wait they find it done. If
    it takes too long, the answer is given from what is folded; if it fails, the log says so too.
    """
    give_up_at = time.monotonic() + FOLD_SECONDS_MAX
    try:
        # Hits that come after this are not asked about; under a load there would be no end to them.
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


def fold_several_for_question(pixel_numbers: Collection[int]) -> None:
    """Fold what is pending of several pixels, as `fold_for_question` does for one.

    Several that fold the same pixels do the same work; the first one's is kept.
    """
    give_up_at = time.monotonic() + FOLD_SECONDS_MAX
    newest = select(func.max(Hit.id)).where(Hit.pixel_number == Pixel.number)
    are_these = Pixel.number.in_(pixel_numbers)
    try:
        last = db.session.scalar(select(func.max(newest.scalar_subquery())).where(are_these))
        if last is None:
            return
        newest = newest.where(Hit.id <= last)
        behind = select(Pixel.number).where(
            are_these, Pixel.folded_through < newest.scalar_subquery()
        )
        while time.monotonic() < give_up_at and (some := db.session.scalars(behind).all()):
            for numbers in _parted(some):
                _try_to_fold(numbers, HITS_AT_ONCE)
    except (SQLAlchemyError, OSError) as error:
        db.session.rollback()
        log.error("Hits were not folded: %s", type(error.__cause__ or error).__name__)


def fold_pending(at: datetime) -> Iterator[int]:
    """Fold the pixels whose pending hits are many or old; yield after each chunk how many it had.

    The others wait, because a hit that is folded with others costs less: a question folds what it
    needs.
    """
    due = db.session.execute(_due_pixels, {"at_ms": milliseconds(at)}).all()
    # A pixel with many hits is folded by itself, so that a batch of others stays short.
    for number, is_large in due:
        if is_large:
            yield from fold_what_is_there(number)
    for numbers in _parted([number for number, is_large in due if not is_large]):
        # Whoever folds one of them meanwhile does no harm: it is left out here then.
        yield _try_to_fold(numbers, HITS_AT_ONCE) or 0


def compact_days(of_pixels: Any, first_day: int = 0, closed_before: int = 0) -> Iterator[int]:
    """Take recent hits into the arrays of days that have many; yield after each day.

    Looks at the days from `first_day` on of the pixels that a condition is true of. Of days that
    are closed, to which hits hardly come any more, all are taken in, unless there are no arrays.
    """
    has_arrays = (
        select(_OTHER.day)
        .where(
            _OTHER.pixel_number == Segment.pixel_number,
            _OTHER.part == Part.VISITORS,
            _OTHER.day == Segment.day,
        )
        .correlate(Segment)
        .exists()
    )
    many = func.sum(func.length(Segment.data)) > compacting.RECENT_HITS_MIN * RECENT_HIT_BYTES
    grown = (
        select(Segment.pixel_number, Segment.day)
        .where(
            Segment.pixel_number.in_(select(Pixel.number).where(of_pixels)),
            Segment.part == Part.RECENT,
            Segment.day >= first_day,
        )
        .group_by(Segment.pixel_number, Segment.day)
        .having(or_(many, (Segment.day < closed_before) & has_arrays))
    )
    for number, day in db.session.execute(grown).all():
        recent = compacting.recent_of(number, day)
        is_closed = recent is not None and day < closed_before and len(recent.starts)
        if recent is not None and (is_closed or len(recent.hits) > recent_hits_max(recent)):
            compacting.compact(number, day)
            yield 1


def fold(pixel_number: int, hits_at_once: int = HITS_AT_ONCE) -> int:
    """Take the next hits of a pixel into its segments; return how many.

    Hits wait while it is settled which they are, and while what was made of them is stored; what
    takes time is done in between, and again if the pixel changed meanwhile. Nobody else folds
    then, if their turn ends in time.
    """
    db.session.commit()
    with folders_turn(db.engine, pixel_number, FOLD_SECONDS_MAX):
        return _fold(pixel_number, hits_at_once)


def fold_what_is_there(pixel_number: int) -> Iterator[int]:
    """Fold the hits that there are at this moment, and not those that go on coming."""
    last = db.session.scalar(select(func.max(Hit.id)).where(Hit.pixel_number == pixel_number))
    while (state := state_of(pixel_number)) and state.folded_through < (last or 0):
        yield fold(pixel_number)


def finish(pixel_number: int, at: datetime) -> None:
    """Take all hits that were folded into arrays, of the days that are over at an instant.

    After many hits at once, a file of old ones say, nobody else looks at their days.
    """
    today = milliseconds(at) // MS_PER_DAY
    for _ in compact_days(Pixel.number == pixel_number, closed_before=today):
        pass


def _fold(pixel_number: int, hits_at_once: int = HITS_AT_ONCE) -> int:
    while (folded := _try_to_fold([pixel_number], hits_at_once)) is None:
        pass
    return folded


def _parted(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), PIXELS_AT_ONCE):
        yield numbers[start : start + PIXELS_AT_ONCE]


class _Hits(NamedTuple):
    """Hits of a pixel by id, an array for each column, with the numbers that are given already.

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


class _Folded(NamedTuple):
    """What is made of a pixel's next hits, and not stored yet."""

    state: PixelState
    hits: _Hits
    # What is to be written of visitors, profiles and recipients, as `write_rows` takes it.
    new_visitors: list[Row]
    new_profiles: list[Row]
    recipients: list[Row]
    days: dict[int, Parts]
    large_days: list[int]


def _try_to_fold(pixel_numbers: Collection[int], hits_at_once: int) -> int | None:
    """Fold the next hits of some pixels; return how many, None if all pixels changed meanwhile.

    Between two transactions, which hits wait for, all is made of one snapshot. A pixel that is
    another one then, because somebody else folded it, is left as it is.
    """
    # The hits that are read have to be all there will ever be up to the last of them.
    through = _settle(pixel_numbers)
    begin_snapshot()
    states = states_of(pixel_numbers)
    pending = _next_hits(states, through, hits_at_once)
    if not pending:
        return 0
    at_ms = np.concatenate([hits.at_ms for hits in pending.values()])
    days = np.unique(at_ms // MS_PER_DAY).tolist()
    recent = last_recent_of(pending, days)
    made = {
        number: _made_of_pixel(number, states[number], hits, recent)
        for number, hits in pending.items()
    }
    with writing():
        changed = _changed(made, recent, days)
        made = {number: folded for number, folded in made.items() if number not in changed}
        if not made:
            return None
        _store(made)
    # Where nobody keeps house, a backlog say, recent hits would grow without an end.
    for number, folded in made.items():
        for day in folded.large_days:
            compacting.compact(number, day)
    return sum(len(folded.hits.id) for folded in made.values())


def _next_hits(states: dict[int, PixelState], through: int, count: int) -> dict[int, _Hits]:
    """Return the next hits of pixels that have any, up to an id; of some, if they are many."""
    found: dict[int, _Hits] = {}
    people: set[int] = set()
    for number, state in states.items():
        # A range of the key for each, since no plan for all of them is sure to begin with these.
        of_range = Hit.id.between(state.folded_through + 1, through)
        blocks = _blocks_of((Hit.pixel_number == number) & of_range, count)
        hits = _joined(_until_many(blocks, people))
        if len(hits.id):
            found[number] = hits
        are_many = sum(len(of_pixel.id) for of_pixel in found.values()) >= count
        if are_many or len(people) >= PEOPLE_AT_ONCE:
            break
    return found


def _until_many(blocks: Iterable[Array], people: set[int]) -> Iterator[Array]:
    """Yield blocks of hits until `people`, of whom folding them writes rows, are many."""
    for block in blocks:
        yield block
        hits = _Hits(*block.T)
        is_written = (hits.visitor_number == NEW) | (hits.is_recipients == 1)
        people.update(hits.visitor[is_written].tolist())
        if len(people) >= PEOPLE_AT_ONCE:
            return


def _changed(
    made: dict[int, _Folded], recent: dict[tuple[int, int], LastRecent], days: Collection[int]
) -> set[int]:
    """Return the pixels that are others than the snapshot had them."""
    now, recent_now = states_of(made), last_recent_of(made, days)
    # A day that was compacted leaves the state as it is, and has other recent hits.
    changed = {
        number
        for number, day in recent.keys() | recent_now.keys()
        if not is_same(recent.get((number, day)), recent_now.get((number, day)))
    }
    return changed | {number for number, folded in made.items() if now.get(number) != folded.state}


def _made_of_pixel(
    pixel_number: int, state: PixelState, hits: _Hits, recent: dict[tuple[int, int], LastRecent]
) -> _Folded:
    visitor, new_visitors = _numbered(hits.visitor, hits.visitor_number, state.visitor_count)
    profile, new_profiles = _numbered(hits.profile, hits.profile_number, state.profile_count)
    columns, of_day = hits.columns(visitor, profile), hits.at_ms // MS_PER_DAY
    days: dict[int, Parts] = {}
    large_days = []
    for day in np.unique(of_day).tolist():
        new = Columns(*(column[of_day == day] for column in columns))
        if day < state.pruned_before:
            bits = class_bits_of(pixel_number, profile, hits.hit_class)
            days[day] = _parts_of_pruned(pixel_number, day, sort_columns(new), bits)
            continue
        last = recent.get((pixel_number, day), NO_LAST)
        days[day] = appended(pixel_number, day, last, new)
        if last.hit_count + len(new.at) > RECENT_TIMES_MAX * recent_hits_max(last.recent):
            large_days.append(day)
    return _Folded(
        state,
        hits,
        _rows(pixel_number, new_visitors),
        _rows(pixel_number, new_profiles),
        [*_recipient_rows(pixel_number, hits, visitor, profile)],
        days,
        large_days,
    )


def _store(made: dict[int, _Folded]) -> None:
    """Store what is made of hits, inside the transaction that marks how far that went."""
    of_pixels = made.values()
    write_rows(_new_visitors, chain.from_iterable(folded.new_visitors for folded in of_pixels))
    write_rows(_numbered_profiles, chain.from_iterable(folded.new_profiles for folded in of_pixels))
    compacting.store_days(
        (number, day, parts)
        for number, folded in made.items()
        for day, parts in folded.days.items()
    )
    write_rows(_added_to_recipients, chain.from_iterable(folded.recipients for folded in of_pixels))
    note(max(int(folded.hits.at_ms.max()) for folded in of_pixels))
    write_rows(_marked_pixels, starmap(_mark_of_pixel, made.items()))


def _mark_of_pixel(pixel_number: int, folded: _Folded) -> Row:
    state, hits = folded.state, folded.hits
    return (
        pixel_number,
        max(state.newest_ms, int(hits.at_ms.max())),
        int(hits.id[-1]),
        state.visitor_count + len(folded.new_visitors),
        state.profile_count + len(folded.new_profiles),
    )


def _numbered(keys: Array, numbers: Array, count: int) -> tuple[Array, dict[int, int]]:
    """Give numbers after `count` to those that are `NEW`, in the order of their first hits.

    Returns the numbers of all, and those that were given by key.
    """
    # Most hits are of visitors and kinds that have their numbers already.
    is_new = numbers == NEW
    if not is_new.any():
        return numbers, {}
    found, first, place = np.unique(keys[is_new], return_index=True, return_inverse=True)
    order = np.argsort(first)
    new_numbers = np.empty(len(found), np.int64)
    new_numbers[order] = np.arange(count + 1, count + 1 + len(found))
    numbers = numbers.copy()
    numbers[is_new] = new_numbers[place]
    # In the order of their keys, which is that of the rows.
    return numbers, dict(zip(found.tolist(), new_numbers.tolist(), strict=True))


def _rows(pixel_number: int, numbers: dict[int, int]) -> list[Row]:
    return [(pixel_number, *pair) for pair in numbers.items()]


_NUMBERED = rows_of_numbers("of_pixel", "key", "number")
_new_visitors = insert(Visitor).from_select(
    ["pixel_number", "visitor", "number"], select(*_NUMBERED.c)
)
_numbered_profiles = (
    update(_PROFILES)
    .where(Profile.pixel_number == _NUMBERED.c.of_pixel, Profile.id == _NUMBERED.c.key)
    .values(number=_NUMBERED.c.number)
)
_MARKS = rows_of_numbers("of_pixel", "newest_ms", "folded_through", "visitors", "profiles")
_marked_pixels = (
    update(_PIXELS)
    .where(Pixel.number == _MARKS.c.of_pixel)
    .values(
        newest_ms=_MARKS.c.newest_ms,
        folded_through=_MARKS.c.folded_through,
        visitor_count=_MARKS.c.visitors,
        profile_count=_MARKS.c.profiles,
    )
)


def _newest_pending(pixel_number: int) -> int | None:
    """Return the id of the newest hit that is not folded, None if all are."""
    newest = select(func.max(Hit.id)).where(Hit.pixel_number == pixel_number).scalar_subquery()
    behind = select(newest).where(Pixel.number == pixel_number, Pixel.folded_through < newest)
    return db.session.scalar(behind)


def _is_behind(pixel_number: int, id: int) -> bool:
    behind = exists().where(Pixel.number == pixel_number, Pixel.folded_through < id)
    return bool(db.session.scalar(select(behind)))


def _pending(column: Any, offset: int) -> Any:
    """Return a column of the hit that so many pending ones of a pixel come before."""
    return (
        select(column)
        .where(Hit.pixel_number == Pixel.number, Hit.id > Pixel.folded_through)
        .order_by(Hit.id)
        .offset(offset)
        .limit(1)
        .correlate(Pixel)
        .scalar_subquery()
    )


# A seek for each pixel, where a join might read every hit there is.
_pending_of_each = (
    select(
        Pixel.number,
        _pending(INSTANT_MS, 0).label("oldest_ms"),
        _pending(Hit.id, HITS_OF_MANY).is_not(None).label("is_large"),
    )
    .cte("pending")
    .prefix_with("MATERIALIZED")
)
# What lies in the future can't wait until then.
_due_pixels = select(_pending_of_each.c.number, _pending_of_each.c.is_large).where(
    _pending_of_each.c.oldest_ms.is_not(None),
    or_(
        _pending_of_each.c.is_large,
        func.abs(bindparam("at_ms", type_=BigInteger) - _pending_of_each.c.oldest_ms)
        > PENDING_AGE_MAX // timedelta(milliseconds=1),
    ),
)


def hits_of(condition: Any, count: int | None = None, order: Sequence[Any] = (Hit.id,)) -> _Hits:
    """Return hits in an order; few rows at a time are objects, which take the most memory."""
    return _joined(_blocks_of(condition, count, order))


def _joined(blocks: Iterable[Array]) -> _Hits:
    nothing: Array = np.zeros((0, len(_Hits._fields)), np.int64)
    return _Hits(*np.ascontiguousarray(np.concatenate((nothing, *blocks)).T))


def _blocks_of(
    condition: Any, count: int | None = None, order: Sequence[Any] = (Hit.id,)
) -> Iterator[Array]:
    """Yield hits in an order, some at a time, as rows."""
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
        .where(condition)
        .order_by(*order)
        .limit(count)
        .execution_options(yield_per=ROWS_AT_ONCE)
    )
    with db.session.execute(statement) as result:
        for rows in result.partitions():
            numbers = np.fromiter(chain.from_iterable(rows), np.int64)
            yield numbers.reshape(-1, len(_Hits._fields))


def _parts_of_pruned(pixel_number: int, day: int, new: Columns, class_bits: Array) -> Parts:
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
        Part.SUMMARY: {0: pack_summary(summary)},
        Part.VISITOR_SETS: {0: pack(visitor_sets)},
    }


def _settle(pixel_numbers: Collection[int]) -> int:
    """Return the id of the last hit of some pixels; from now on none of any pixel comes before."""
    # The place of a writer is what makes it so: whoever commits next reads the mark first.
    newest = select(func.max(Hit.id)).where(Hit.pixel_number == Pixel.number).scalar_subquery()
    last = select(func.max(newest)).where(Pixel.number.in_(pixel_numbers))
    with writing():
        through = db.session.scalar(last) or 0
        db.session.execute(
            update(Catalogue)
            .where(Catalogue.folded_through < through)
            .values(folded_through=through)
        )
    return int(through)


def _recipient_rows(
    pixel_number: int, hits: _Hits, visitor: Array, profile: Array
) -> Iterator[Row]:
    """Yield what hits add to the totals of their recipients, as `_SEEN` names it."""
    sent = hits.is_recipients == 1
    if not sent.any():
        return
    profile = profile[sent]
    at_ms, hit_class = hits.at_ms[sent], hits.hit_class[sent]
    # In the order of the table's key, so that rows that are near each other are read once.
    keys, one_of, place = np.unique(hits.visitor[sent], return_index=True, return_inverse=True)
    counts = np.zeros((len(keys), len(CLASSES)), np.int64)
    np.add.at(counts, (place, hit_class), 1)
    opens = hit_class == CLASSES.index("open")
    never = np.iinfo(np.int64).max
    first, last = np.full(len(keys), never), np.zeros(len(keys), np.int64)
    np.minimum.at(first, place[opens], at_ms[opens])
    np.maximum.at(last, place[opens], at_ms[opens])
    # Of hits in their order the last one stays.
    last_open, last_fetch = np.zeros((2, len(keys)), np.int64)
    order = np.argsort(at_ms, kind="stable")
    last_fetch[place[order]] = profile[order]
    order = order[opens[order]]
    last_open[place[order]] = profile[order]
    numbers = visitor[sent][one_of]
    table = np.column_stack((keys, numbers, last_open, last_fetch, counts))
    for instants, row in zip(np.column_stack((first, last)), table, strict=True):
        opened = instants.tolist() if instants[1] else (None, None)
        yield (pixel_number, *opened, *row.tolist())


_SEEN = rows_of_numbers(
    *("of_pixel", "first_ms", "last_ms", "visitor", "number", "opened_with", "fetched_with"),
    *CLASSES,
)
_FIRST, _LAST, _OPENS = _SEEN.c.first_ms, _SEEN.c.last_ms, _SEEN.c.open
_added_to_recipients = (
    update(RECIPIENTS_TABLE)
    .where(Recipient.pixel_number == _SEEN.c.of_pixel, Recipient.visitor == _SEEN.c.visitor)
    .values(
        number=_SEEN.c.number,
        # A hit may be folded after one that came later.
        first_opened_at=case(
            (Recipient.first_opened_at <= _FIRST, Recipient.first_opened_at),
            else_=func.coalesce(_FIRST, Recipient.first_opened_at),
        ),
        last_opened_at=case(
            (Recipient.last_opened_at >= _LAST, Recipient.last_opened_at),
            else_=func.coalesce(_LAST, Recipient.last_opened_at),
        ),
        opens=Recipient.opens + _OPENS,
        prefetches=Recipient.prefetches + _SEEN.c.prefetch,
        bots=Recipient.bots + _SEEN.c.bot,
        status=case((Recipient.opens + _OPENS > 0, OPENED), else_=MACHINE),
        last_profile=case(
            (
                (_OPENS > 0) & (func.coalesce(Recipient.last_opened_at, _LAST) <= _LAST),
                _SEEN.c.opened_with,
            ),
            ((Recipient.opens == 0) & (_OPENS == 0), _SEEN.c.fetched_with),
            else_=Recipient.last_profile,
        ),
    )
)
