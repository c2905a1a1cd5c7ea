"""Makes a day's arrays of its hits, and takes recent hits into them.

Arrays make a question about many hits cheap, and take a day's hits to make: so a hit waits among
the recent ones of its day until there are enough of them to pay. Nothing here holds up hits or
folding: a day is made from a snapshot, and what came meanwhile is recent again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import delete, func, insert, select

from core.database import begin_snapshot, db, replacing
from core.locks import writing
from models import Segment
from stats import arithmetic, labels
from stats.arithmetic import (
    group_hits,
    hits_of_visits,
    join_pieces,
    pieces_with,
    sort_columns,
    summarise,
    visit_numbers,
    visitor_rollups_of,
    visitor_sets_of,
)
from stats.days import (
    NO_ROWS,
    NOTHING_RECENT,
    RECENT_HIT_BYTES,
    Array,
    Columns,
    Recent,
    Summary,
    columns_of,
    pack,
    pack_recent,
    rows_of,
    unpack,
    unpack_recent,
)
from stats.store import Part, read_recent, state_of

# A day of fewer hits than this has no arrays: to read its hits is as fast, and takes less room.
RECENT_HITS_MIN = 2_000
# Of a day that has many more, a fiftieth, so that what a hit costs doesn't grow with the day.
RECENT_SHARE = 50
# Whoever folds so many times more makes the arrays itself, where nobody else gets round to it.
RECENT_TIMES_MAX = 5
# To a piece of recent hits that has so many no others are added.
RECENT_PIECE_HITS = 500
ROWS_AT_ONCE = 100
_NONE: Array = np.zeros(0, np.uint8)

Parts = dict[Part, dict[int, bytes]]


class Made(NamedTuple):
    """A day's parts as bytes by piece, and the first visit of each piece of its columns."""

    parts: Parts
    starts: Array


def recent_hits_max(recent: Recent) -> int:
    """Return how many recent hits of a day are few enough to stay, by how many others it has."""
    # All pieces but the last are full, so that nothing has to be read to tell.
    others = max(len(recent.starts) - 1, 0) * arithmetic.PIECE_HITS_MAX
    return max(RECENT_HITS_MIN, others // RECENT_SHARE)


def compact(pixel_number: int, day: int) -> bool:
    """Take a day's recent hits into its arrays; False if the day was made anew meanwhile."""
    begin_snapshot()
    state, recent = state_of(pixel_number), recent_of(pixel_number, day)
    if state is None or recent is None or not len(recent.hits):
        return True
    new = sort_columns(columns_of(recent.hits))
    pieces = join_pieces(pieces_of(pixel_number, day), new)
    made = make(pieces, class_bits_of(pixel_number))
    with writing():
        now, current = state_of(pixel_number), recent_of(pixel_number, day)
        if now is None or current is None or now.revision != state.revision:
            return False
        # Hits are only ever added at the end, unless the day was made anew.
        count = len(recent.hits)
        if not np.array_equal(current.hits[:count], recent.hits):
            return False
        store_parts(pixel_number, day, made.parts)
        # What came meanwhile was recent beside the old columns; its visits may go on in others now.
        later = current.hits[count:]
        replaced = replaced_hits(pixel_number, day, made.starts, _visits(later))
        store_parts(pixel_number, day, recent_part(Recent(later, replaced, made.starts)))
    return True


class LastRecent(NamedTuple):
    """The last piece of a day's recent hits, and about how many hits all of its pieces have."""

    piece: int
    recent: Recent
    data: bytes
    hit_count: int


NO_LAST = LastRecent(0, NOTHING_RECENT, b"", 0)


def last_recent_of(
    pixel_numbers: Collection[int], days: Collection[int]
) -> dict[tuple[int, int], LastRecent]:
    """Return the last of the recent hits of some days of some pixels.

    A day that has no segment is left out. One may have arrays and no recent hits, not even none,
    if it is from a release that knew of none.
    """
    of_days = Segment.pixel_number.in_(pixel_numbers) & Segment.day.in_(days)
    key = Segment.pixel_number, Segment.day
    last = (
        select(
            *key,
            func.max(Segment.piece).label("piece"),
            func.sum(func.length(Segment.data)).label("bytes"),
        )
        .where(of_days, Segment.part == Part.RECENT)
        .group_by(*key)
        .subquery()
    )
    statement = select(*key, Segment.piece, Segment.data, last.c.bytes).join(
        last,
        (Segment.pixel_number == last.c.pixel_number)
        & (Segment.part == Part.RECENT)
        & (Segment.day == last.c.day)
        & (Segment.piece == last.c.piece),
    )
    known = {
        (number, day): LastRecent(piece, unpack_recent(data), data, bytes // RECENT_HIT_BYTES)
        for number, day, piece, data, bytes in db.session.execute(statement)
    }
    # Days whose hits are pruned have none of these.
    with_arrays = select(*key).where(of_days, Segment.part == Part.VISITORS)
    for number, day in db.session.execute(with_arrays).all():
        if (number, day) not in known:
            starts = [_first_visit(piece) for piece in pieces_of(number, day)]
            known[number, day] = NO_LAST._replace(
                recent=Recent(NO_ROWS, NO_ROWS, np.array(starts, np.int64))
            )
    return known


def is_same(one: LastRecent | None, other: LastRecent | None) -> bool:
    """Tell whether nothing was added to, or taken from, a day's recent hits between two looks."""
    return (one and (one.piece, one.data)) == (other and (other.piece, other.data))


def appended(pixel_number: int, day: int, last: LastRecent, hits: Columns) -> Parts:
    """Return a day's part with some hits after its recent ones; reads those that they replace.

    What is written is a short piece, as long as the hits that are added or a little longer.
    """
    rows = rows_of(hits)
    before, piece = last.recent, last.piece
    if len(before.hits) > RECENT_PIECE_HITS:
        before, piece = Recent(NO_ROWS, NO_ROWS, before.starts), piece + 1
    # Days without columns have nothing to replace, which is what most days of small pixels are.
    visits = np.setdiff1d(_visits(rows), _visits(before.hits)) if len(before.starts) else _NONE
    replaced = replaced_hits(pixel_number, day, before.starts, visits)
    now = Recent(
        np.concatenate((before.hits, rows)),
        np.concatenate((before.replaced, replaced)),
        before.starts,
    )
    return {Part.RECENT: {piece: pack_recent(now)}}


def recent_part(recent: Recent) -> Parts:
    """Return recent hits as the part of a day that they are."""
    return {Part.RECENT: {0: pack_recent(recent)}}


def replaced_hits(pixel_number: int, day: int, starts: Array, visits: Array) -> Array:
    """Return those hits of a day's columns that are of some sorted visits, as rows."""
    numbers = pieces_with(visits, starts) if len(starts) else []
    if not numbers:
        return NO_ROWS
    pieces = pieces_of(pixel_number, day, numbers)
    return np.concatenate([rows_of(hits_of_visits(piece, visits)) for piece in pieces])


def _visits(rows: Array) -> Array:
    return np.unique(visit_numbers(columns_of(rows)))


def _first_visit(piece: Columns) -> int:
    return int(visit_numbers(Columns(*(column[:1] for column in piece)))[0])


def recent_of(pixel_number: int, day: int) -> Recent | None:
    """Return what is kept of the recent hits of a day, None if nothing is."""
    return read_recent(pixel_number, day, day).get(day)


def make(pieces: Iterable[tuple[Columns, bool]], class_bits: Array) -> Made:
    """Make the parts of a day of the pieces of its hits, each with whether it changed.

    Of the columns, only the pieces that changed are included.
    """
    changed: dict[int, bytes] = {}
    starts: list[int] = []

    def columns() -> Iterator[Columns]:
        for number, (piece, is_changed) in enumerate(pieces):
            if is_changed:
                changed[number] = pack(piece)
            starts.append(_first_visit(piece))
            yield piece

    hourly, by_quarter = group_hits(columns(), class_bits)
    summary, hours = summarise(hourly)
    visitors, quarters = visitor_rollups_of(hourly, by_quarter, class_bits)
    parts: Parts = {
        Part.COLUMNS: changed,
        Part.SUMMARY: {0: pack_summary(summary)},
        Part.VISITOR_SETS: {0: pack(visitor_sets_of(hourly))},
        Part.VISITORS: {0: pack(visitors)},
        Part.QUARTERS: {0: pack(quarters)},
        Part.HOURS: {0: pack(hours)},
    }
    return Made(parts, np.array(starts, np.int64))


def pack_summary(summary: Summary) -> bytes:
    """Return a summary's arrays as bytes."""
    by_profile, by_profile_set, visit_rows = summary
    return pack((*by_profile, *(column.ravel() for column in by_profile_set), *visit_rows))


def class_bits_of(pixel_number: int, profile: Array = _NONE, hit_class: Array = _NONE) -> Array:
    """Return the class of each profile as a bit, those of some hits with their `profile` numbers.

    The labels are asked for what is committed only: what they know, they keep.
    """
    state = state_of(pixel_number)
    if state is None:
        return np.zeros(1, np.int64)
    bits = labels.of_pixel(pixel_number, state.revision, state.profile_count).class_bits
    bits = np.pad(bits, (0, max(0, int(profile.max(initial=0)) + 1 - len(bits))))
    bits[profile] = 1 << hit_class
    return bits


def pieces_of(
    pixel_number: int, day: int, numbers: Iterable[int] | None = None
) -> Iterator[Columns]:
    """Yield pieces of a day's columns, by default all, each being read when it is asked for."""
    statement = select(Segment.data).where(
        Segment.pixel_number == pixel_number, Segment.part == Part.COLUMNS, Segment.day == day
    )
    if numbers is not None:
        statement = statement.where(Segment.piece.in_(numbers))
    rows = statement.order_by(Segment.piece).execution_options(yield_per=1)
    for data in db.session.scalars(rows):
        yield Columns(*unpack([data], 3))


def store_days(days: Iterable[tuple[int, int, Parts]]) -> None:
    """Store parts of days of several pixels, which most of them have one row of."""
    rows = []
    for pixel_number, day, parts in days:
        # As a rule it is one short row a day: all of them are one statement.
        if parts.keys() == {Part.RECENT}:
            key = {"pixel_number": pixel_number, "part": Part.RECENT, "day": day}
            rows += [
                {**key, "piece": piece, "data": data} for piece, data in parts[Part.RECENT].items()
            ]
        else:
            store_parts(pixel_number, day, parts)
    _execute_each(replacing(db.session.connection(), Segment), rows)


def store_parts(pixel_number: int, day: int, parts: Parts) -> None:
    """Store parts of a day; those have each piece from their first on."""
    for part, pieces in parts.items():
        if not pieces:
            continue
        db.session.execute(
            delete(Segment).where(
                Segment.pixel_number == pixel_number,
                Segment.part == part,
                Segment.day == day,
                Segment.piece >= min(pieces),
            )
        )
    rows = (
        {"pixel_number": pixel_number, "part": part, "day": day, "piece": piece, "data": data}
        for part, pieces in parts.items()
        for piece, data in pieces.items()
    )
    _execute_each(insert(Segment), rows)


def delete_day(pixel_number: int, day: int) -> None:
    """Delete all that is kept of a day."""
    db.session.execute(
        delete(Segment).where(Segment.pixel_number == pixel_number, Segment.day == day)
    )


def _execute_each(statement: Any, rows: Iterable[dict[str, Any]]) -> None:
    """Execute a statement with each row; a few rows at a time are in memory."""
    rows = iter(rows)
    while some := list(islice(rows, ROWS_AT_ONCE)):
        db.session.connection().execute(statement, some)
