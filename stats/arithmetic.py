"""The arithmetic of a day's hits: columns in, totals out; no database.

A day's totals are kept, so that a question costs what there are profiles and visitors, and not
hits. Visits don't add up where a visit has several profiles: those are summed by the set of its
profiles, for each part of the set that a question may pick; the few with larger sets stay one by
one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise

import numpy as np

from stats.days import (
    ANY_CLASS,
    CLASSES,
    HOURS_A_DAY,
    MS_PER_HOUR,
    MS_PER_QUARTER,
    NO_HITS,
    NO_VISITOR,
    PARTS,
    QUARTERS,
    SET_MAX,
    Array,
    Columns,
    HourlyRollup,
    Hours,
    PairRollup,
    ProfileRollup,
    ProfileSetRollup,
    Quarters,
    Recent,
    Remains,
    Summary,
    VisitorRollup,
    VisitorSets,
    VisitRows,
    columns_of,
    narrow,
)
from stats.days import PIECE_HITS_MAX as PIECE_HITS_MAX

TABLE_CELLS_MAX = 1 << 23
# Hour, visitor and place of a hit, or visitor, classes and hour, in one number to sort by.
_PLACE_BITS, _VISITOR_BITS = 26, 32
_CLASS_BITS, _HOUR_BITS = len(CLASSES) + 1, 5
# An instant within an hour, and what a number of numpy's has beside its sign.
_MS_BITS, _NUMBER_BITS = 22, 63
# The quarters of each hour, by their bits, as bits of the day's first half, and of its second.
_SLOT_BITS = [
    np.array(
        [
            [bits << hour % 12 * 4 if hour // 12 == half else 0 for bits in range(16)]
            for hour in range(HOURS_A_DAY)
        ]
    )
    for half in (0, 1)
]


class Members:
    """Counts the distinct visitors of each group from 1, exactly; nobody is no visitor.

    Few groups are a table of who is in which; many are lists of numbers to sort.
    """

    def __init__(self, groups: int, visitors: int) -> None:
        self._groups = groups
        self._bits = visitors.bit_length()
        cells = groups << self._bits
        self._table: Array | None = np.zeros(cells, bool) if cells <= TABLE_CELLS_MAX else None
        # Narrow numbers are sorted twice as fast.
        self._type = np.uint32 if cells <= 1 << 32 else np.uint64
        self._keys: list[Array] = []

    def add(self, group: Array, visitor: Array) -> None:
        """Add pairs of group and visitor."""
        # A table has a place for nobody and for no group, which is cheaper than to leave them out.
        if self._table is None:
            kept = (group > 0) & (visitor != NO_VISITOR)
            group, visitor = group[kept], visitor[kept]
        keys = np.left_shift(group.astype(self._type), self._bits) | visitor.astype(self._type)
        if self._table is None:
            self._keys.append(keys)
        else:
            self._table[keys] = True

    def counts(self) -> Array:
        """Return how many distinct visitors each group has; group 0 is none."""
        if self._table is not None:
            table = self._table.reshape(self._groups, -1)
            table[:, NO_VISITOR] = False
            return np.array(np.count_nonzero(table, axis=1))
        keys = np.concatenate((np.zeros(0, self._type), *self._keys))
        keys.sort()
        group = np.right_shift(keys[_starts(keys)], self._bits).astype(np.int64)
        return np.bincount(group, minlength=self._groups)


def sort_columns(columns: Columns) -> Columns:
    """Return hits that came in this order, sorted."""
    # Numbers that end in a hit's place are sorted faster than `argsort` finds an order.
    keys = visit_numbers(columns)
    keys <<= _PLACE_BITS
    keys |= np.arange(len(keys))
    keys.sort()
    keys &= (1 << _PLACE_BITS) - 1
    return Columns(*(narrow(column)[keys] for column in columns))


def join_columns(first: Columns, second: Columns) -> Columns:
    """Return sorted hits of both, the second's having come later."""
    places = np.searchsorted(visit_numbers(first), visit_numbers(second), side="right")
    return Columns(*(_inserted(*pair, places) for pair in zip(first, second, strict=True)))


def visit_numbers(columns: Columns) -> Array:
    """Return the hour and the visitor of each hit as one number."""
    visits: Array = _hours(columns.at).astype(np.int64) << _VISITOR_BITS | columns.visitor
    return visits


def hits_of_visits(piece: Columns, visits: Array) -> Columns:
    """Return those of some sorted hits that are of some sorted visits."""
    # The hits of a visit stand together, however many there are.
    keys = visit_numbers(piece)
    starts, ends = (np.searchsorted(keys, visits, side) for side in ("left", "right"))
    places = runs(starts, ends - starts)
    return Columns(*(column[places] for column in piece))


def pieces_with(visits: Array, starts: Array) -> list[int]:
    """Return which pieces may have hits of some visits, by the first visit of each piece."""
    # A visit may have begun in the piece before the one that starts with it.
    first = np.maximum(np.searchsorted(starts, visits, "left") - 1, 0)
    last = np.searchsorted(starts, visits, "right") - 1
    numbers: list[int] = np.unique(runs(first, np.maximum(last - first + 1, 0))).tolist()
    return numbers


def join_recent(pieces: Sequence[Recent]) -> Recent:
    """Put a day's recent hits together; what several pieces replace is replaced once."""
    if len(pieces) == 1:
        return pieces[0]
    hits, replaced = (np.concatenate(arrays) for arrays in list(zip(*pieces, strict=True))[:2])
    piece = np.repeat(np.arange(len(pieces)), [len(recent.replaced) for recent in pieces])
    visits, place = np.unique(visit_numbers(columns_of(replaced)), return_inverse=True)
    # Each piece was made beside the same columns, so a visit's hits are the same in all of them.
    first = np.full(len(visits), len(pieces))
    np.minimum.at(first, place, piece)
    return Recent(hits, replaced[piece == first[place]], pieces[-1].starts)


def join_pieces(pieces: Iterable[Columns], new: Columns) -> Iterator[tuple[Columns, bool]]:
    """Put later hits into a day's pieces, all sorted; yield each piece and whether it changed."""
    visits = visit_numbers(new)
    held, done = NO_HITS, 0
    for piece in chain(pieces, (None,)):
        end = len(visits)
        if piece is not None:
            end = int(np.searchsorted(visits, visit_numbers(_cut(piece, 0, 1))[0]))
        if end > done:
            held, done = join_columns(held, _cut(new, done, end)), end
        whole = len(held.at)
        # What fills no piece is held back for the next one; before the first new hit nothing moves.
        if piece is not None and done:
            whole -= whole % PIECE_HITS_MAX
        for start in range(0, whole, PIECE_HITS_MAX):
            yield _cut(held, start, min(start + PIECE_HITS_MAX, whole)), done > 0
        if piece is not None:
            held = Columns(*map(np.concatenate, zip(_cut(held, whole, None), piece, strict=True)))


def between(columns: Columns, first_ms: int, last_ms: int) -> Columns:
    """Return the hits from one millisecond of the day to another, both included."""
    kept = (columns.at >= first_ms) & (columns.at <= last_ms)
    return Columns(*(column[kept] for column in columns))


def group_hits(pieces: Iterable[Columns], class_bits: Array) -> tuple[HourlyRollup, Array]:
    """Go through a day's sorted hits; `class_bits` are those of profiles.

    Returns their totals by visit and profile, and how many hits each quarter of an hour has,
    class after class.
    """
    found, last_visit = [], _one_by_one(NO_HITS)
    by_quarter = np.zeros((len(CLASSES), QUARTERS), np.int64)
    for piece in pieces:
        quarter, bits = piece.at // np.uint32(MS_PER_QUARTER), class_bits[piece.profile]
        for place, of_class in enumerate(by_quarter):
            of_class += np.bincount(quarter[bits == 1 << place], minlength=QUARTERS)
        by_column = zip(last_visit, _one_by_one(piece), strict=True)
        hourly = _grouped(HourlyRollup(*(np.concatenate(parts) for parts in by_column)))
        # It may go on.
        start = _starts(hourly.hour, hourly.visitor)[-1]
        found.append(HourlyRollup(*(column[:start] for column in hourly)))
        last_visit = HourlyRollup(*(column[start:] for column in hourly))
    by_column = zip(*found, last_visit, strict=True)
    return HourlyRollup(*(np.concatenate(parts) for parts in by_column)), by_quarter.ravel()


def summarise(hourly: HourlyRollup) -> tuple[Summary, Hours]:
    """Return a day's totals by profile, and by profile and hour."""
    is_single, visit_rows = _visits(hourly)
    count = int(hourly.profile.max(initial=0)) + 1
    hits = np.bincount(hourly.profile, hourly.hits, count)
    profile = np.flatnonzero(hits)
    sums = (
        np.bincount(hourly.profile[is_single], weights, count)
        for weights in (None, hourly.hits[is_single] == 1, _seconds(hourly)[is_single])
    )
    by_profile = ProfileRollup(
        profile, *(totals[profile].astype(np.int64) for totals in (hits, *sums))
    )
    return Summary(by_profile, *_rollup_by_set(visit_rows)), _by_hour(hourly, is_single, visit_rows)


def visitor_sets_of(hourly: HourlyRollup) -> VisitorSets:
    """Return the visitors of a day by the profiles that each has."""
    return _visitor_sets(hourly.visitor, hourly.profile)


def _visitor_sets(visitor: Array, profile: Array) -> VisitorSets:
    # Nobody in particular is no visitor, and would be the largest set of all.
    known = visitor != NO_VISITOR
    count = int(profile.max(initial=0)) + 1
    pairs = _paired(visitor[known], profile[known], count)
    pairs.sort()
    visitor, profile = np.divmod(pairs[_starts(pairs)], count)
    starts = _starts(visitor)
    order, _, sets = _by_set(profile, starts)
    return VisitorSets(*sets, visitor[starts][order])


def visitor_rollups_of(
    hourly: HourlyRollup, by_quarter: Array, class_bits: Array
) -> tuple[VisitorRollup, Quarters]:
    """Return a day by visitors, and when they were there."""
    who, hour, hits, seconds, quarters = _visits_by_class(hourly, class_bits)
    rows = _starts(who)
    visitor, classes = who[rows] >> _CLASS_BITS, who[rows] & ((1 << _CLASS_BITS) - 1)
    return (
        VisitorRollup(
            visitor,
            classes,
            np.add.reduceat(hits, rows, dtype=np.uint32),
            _lengths(rows, len(who)),
            np.add.reduceat(hits == 1, rows, dtype=np.uint32),
            np.add.reduceat(seconds, rows, dtype=np.uint32),
        ),
        Quarters(
            by_quarter,
            visitor,
            classes,
            *(np.bitwise_or.reduceat(half[hour, quarters], rows) for half in _SLOT_BITS),
        ),
    )


def remains_of(hourly: HourlyRollup) -> Remains:
    """Return a day's totals by profile and visitor."""
    is_single, visit_rows = _visits(hourly)
    keys = hourly.profile.astype(np.int64) << _VISITOR_BITS | hourly.visitor
    keys, place = np.unique(keys, return_inverse=True)
    sums = (
        np.bincount(place, weights, len(keys)).astype(np.int64)
        for weights in (
            hourly.hits,
            is_single,
            is_single & (hourly.hits == 1),
            _seconds(hourly) * is_single,
        )
    )
    visitor = keys & ((1 << _VISITOR_BITS) - 1)
    return Remains(PairRollup(keys >> _VISITOR_BITS, visitor, *sums), visit_rows)


def join_remains(first: Remains, second: Remains) -> Remains:
    """Put together what is left of a day, without joining any visits of one with the other's."""
    joined = PairRollup(*map(np.concatenate, zip(first.pairs, second.pairs, strict=True)))
    # Pairs that both have are added up; visits are not looked at again, since their hits are gone.
    keys = joined.profile.astype(np.int64) << _VISITOR_BITS | joined.visitor
    keys, place = np.unique(keys, return_inverse=True)
    sums = (np.bincount(place, weights, len(keys)).astype(np.int64) for weights in joined[2:])
    visitor = keys & ((1 << _VISITOR_BITS) - 1)
    return Remains(
        PairRollup(keys >> _VISITOR_BITS, visitor, *sums),
        join_visit_rows(first.visit_rows, second.visit_rows),
    )


def join_visit_rows(*rows: VisitRows) -> VisitRows:
    """Put together visits that are numbered by themselves in each."""
    counts = (int(visit_rows.visit[-1]) + 1 if len(visit_rows.visit) else 0 for visit_rows in rows)
    following = np.cumsum([0, *counts])
    numbered = [
        visit_rows._replace(visit=visit_rows.visit.astype(np.int64) + start)
        for visit_rows, start in zip(rows, following.tolist(), strict=False)
    ]
    return VisitRows(*map(np.concatenate, zip(*numbered, strict=True)))


def summary_of_remains(remains: Remains) -> tuple[Summary, VisitorSets]:
    """Return a day's totals by profile, from what is left of it."""
    pairs = remains.pairs
    count = int(pairs.profile.max(initial=0)) + 1
    sums = [np.bincount(pairs.profile, weights, count).astype(np.int64) for weights in pairs[2:]]
    profile = np.flatnonzero(sums[0])
    by_profile = ProfileRollup(profile, *(totals[profile] for totals in sums))
    return (
        Summary(by_profile, *_rollup_by_set(remains.visit_rows)),
        _visitor_sets(pairs.visitor, pairs.profile),
    )


def join_visits(group: Array, visit_rows: VisitRows) -> tuple[Array, Array, Array]:
    """Join a visit's rows of one group; return the groups, hits and seconds of the visits."""
    keys = visit_rows.visit.astype(np.int64) << _VISITOR_BITS | group
    # Visits come in their order, so that there is little to sort.
    order = np.argsort(keys, kind="stable")
    starts = _starts(keys[order])
    first = np.minimum.reduceat(visit_rows.first[order].astype(np.int64), starts)
    last = np.maximum.reduceat(visit_rows.last[order].astype(np.int64), starts)
    hits = np.add.reduceat(visit_rows.hits[order].astype(np.int64), starts)
    return group[order][starts], hits, (last - first) // 1000


def visits_of(columns: Columns, group: Array) -> tuple[Array, Array, Array]:
    """Return what `join_visits` does, of hits in any order; their instants may be of any days."""
    hour = _hours(columns.at).astype(np.int64)
    visitor_bits, group_bits = (
        int(numbers.max(initial=0)).bit_length() for numbers in (columns.visitor, group)
    )
    visits = hour - hour.min() << visitor_bits if len(hour) else hour
    visits |= columns.visitor
    if int(visits.max(initial=0)).bit_length() + group_bits + _MS_BITS > _NUMBER_BITS:
        # Too many visitors over too many hours: their places are smaller numbers.
        _, visits = np.unique(visits, return_inverse=True)
    # In one number, group and instant are sorted with the visit, and nothing is looked up by place.
    at = columns.at.astype(np.int64) % MS_PER_HOUR
    keys = (visits << group_bits | group) << _MS_BITS | at
    keys.sort()
    of_visit, at = keys >> _MS_BITS, keys & ((1 << _MS_BITS) - 1)
    starts = _starts(of_visit)
    lengths = _lengths(starts, len(keys))
    seconds = (at[starts + lengths - 1] - at[starts]) // 1000
    return of_visit[starts] & ((1 << group_bits) - 1), lengths, seconds


def visit_rows_of(columns: Columns) -> VisitRows:
    """Return the visits of some sorted hits, a row for each hit."""
    changes = np.zeros(len(columns.at), np.int64)
    changes[_starts(columns.visitor, _hours(columns.at))] = 1
    at, visitor, profile = columns
    return VisitRows(np.cumsum(changes) - 1, visitor, profile, np.ones(len(at), np.int64), at, at)


def runs(starts: Array, lengths: Array) -> Array:
    """Return the places of runs, one run after the other."""
    lengths = lengths.astype(np.int64)
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)


def _starts(*keys: Array) -> Array:
    """Return where runs of equal keys start."""
    changes = np.zeros(len(keys[0]), bool)
    changes[:1] = True
    for key in keys:
        changes[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changes)


def _lengths(starts: Array, total: int) -> Array:
    return np.diff(starts, append=total)


def _hours(at: Array) -> Array:
    # Instants may be kept in fewer bytes than an hour's milliseconds need.
    return at // np.uint32(MS_PER_HOUR)


def _cut(columns: Columns, start: int, end: int | None) -> Columns:
    return Columns(*(column[start:end] for column in columns))


def _one_by_one(columns: Columns) -> HourlyRollup:
    """Return each hit as the only one of its visit and profile."""
    at, visitor, profile = columns
    at = at.astype(np.uint32, copy=False)
    quarters = np.left_shift(1, at // MS_PER_QUARTER % 4).astype(np.uint8)
    once = np.ones(len(at), np.uint32)
    return HourlyRollup(_hours(at).astype(np.uint8), visitor, profile, once, at, at, quarters)


def _grouped(hourly: HourlyRollup) -> HourlyRollup:
    """Return rows that come by hour and visitor, with those of the same profile put together."""
    changes = np.zeros(len(hourly.hour), np.int64)
    changes[_starts(hourly.hour, hourly.visitor)] = 1
    keys = np.cumsum(changes) << _VISITOR_BITS | hourly.profile
    # Most visits have one profile, so that there is little to sort.
    order = np.argsort(keys, kind="stable")
    starts = _starts(keys[order])
    hour, visitor, profile = (column[order[starts]] for column in hourly[:3])
    hits, first, last, quarters = (column[order] for column in hourly[3:])
    return HourlyRollup(
        hour,
        visitor,
        profile,
        np.add.reduceat(hits, starts, dtype=np.uint32),
        np.minimum.reduceat(first, starts),
        np.maximum.reduceat(last, starts),
        np.bitwise_or.reduceat(quarters, starts),
    )


def _seconds(hourly: HourlyRollup) -> Array:
    seconds: Array = (hourly.last - hourly.first) // 1000
    return seconds


def _paired(first: Array, second: Array, count: int) -> Array:
    """Return pairs of numbers, the second below `count`, as one number each.

    Narrow numbers are sorted faster, and take less.
    """
    largest = (int(first.max(initial=0)) + 1) * count
    pairs = first.astype(np.min_scalar_type(largest))
    pairs *= count
    pairs += second.astype(pairs.dtype, copy=False)
    return pairs


def _inserted(array: Array, values: Array, places: Array) -> Array:
    values = narrow(values)
    wide = np.promote_types(array.dtype, values.dtype)
    return np.insert(array.astype(wide, copy=False), places, values)


def _visits(hourly: HourlyRollup) -> tuple[Array, VisitRows]:
    """Tell which rows are visits of one profile by themselves; return the rows of the others."""
    # A visit is hour and visitor; where these have one row, the visit has one profile.
    known = hourly.visitor != NO_VISITOR
    starts = _starts(hourly.hour, hourly.visitor)
    lengths = _lengths(starts, len(known))
    is_single = np.repeat(lengths == 1, lengths)
    several = known & ~is_single
    visit = np.repeat(np.cumsum(known[starts]) - 1, lengths)
    return known & is_single, VisitRows(
        visit[several], *(column[several] for column in hourly[1:6])
    )


def _rollup_by_set(visit_rows: VisitRows) -> tuple[ProfileSetRollup, VisitRows]:
    """Sum the visits of small sets of profiles by these; return the others as they are."""
    starts = _starts(visit_rows.visit)
    lengths = _lengths(starts, len(visit_rows.visit))
    # Four profiles would have fifteen parts; those few visits are cheaper to look at one by one.
    small = lengths <= SET_MAX
    profiles, places = _as_sets(visit_rows.profile, starts[small], lengths[small])
    order = np.lexsort(profiles.T)
    sets_at = _starts(*profiles[order].T)
    hits, first, last = (
        column[places[order]] for column in (visit_rows.hits, visit_rows.first, visit_rows.last)
    )
    bounces = (hits == 1) & (profiles[order] > 0)
    seconds = np.stack(
        [(last[:, part].max(axis=1) - first[:, part].min(axis=1)) // 1000 for part in PARTS],
        axis=1,
    )
    by_profile_set = ProfileSetRollup(
        profiles[order][sets_at],
        _lengths(sets_at, len(order)),
        np.add.reduceat(bounces.astype(np.int64), sets_at),
        np.add.reduceat(seconds, sets_at),
    )
    return by_profile_set, VisitRows(*(column[np.repeat(~small, lengths)] for column in visit_rows))


def _by_hour(hourly: HourlyRollup, is_single: Array, visit_rows: VisitRows) -> Hours:
    """Return a day by hours; `is_single` tells which rows are visits of one profile."""
    bounds = np.searchsorted(hourly.hour, np.arange(HOURS_A_DAY + 1))
    found = [
        _by_profile(hourly, is_single, slice(*hour_bounds)) for hour_bounds in pairwise(bounds)
    ]
    profile, hits, visits = map(np.concatenate, zip(*found, strict=True))
    starts = _starts(visit_rows.visit)
    set_hour = _hours(visit_rows.first[starts])
    _, first, (lengths, set_profile, set_visits) = _by_set(visit_rows.profile, starts, set_hour)
    return Hours(
        np.repeat(np.arange(HOURS_A_DAY), [len(profiles) for profiles, *_ in found]),
        profile,
        hits,
        visits,
        set_hour[first],
        lengths,
        set_profile,
        set_visits,
    )


def _by_profile(hourly: HourlyRollup, is_single: Array, hour: slice) -> tuple[Array, Array, Array]:
    """Return the profiles of an hour, their hits, and their visits that have no other profile."""
    of_rows, is_single = hourly.profile[hour], is_single[hour]
    hits = np.bincount(of_rows, hourly.hits[hour])
    profile = np.flatnonzero(hits)
    visits = np.bincount(of_rows[is_single], minlength=len(hits))
    return profile, hits[profile].astype(np.int64), visits[profile]


def _by_set(
    profile: Array, starts: Array, *within: Array
) -> tuple[Array, Array, tuple[Array, Array, Array]]:
    """Put runs in the order of their sets of profiles.

    Returns that order, a run of each set, and of the sets: their lengths, their profiles one
    after the other, and how many runs each has.
    """
    lengths = _lengths(starts, len(profile))
    sets, _ = _as_sets(profile, starts, lengths)
    # A large set is not shared: its run gets a key of its own.
    own = np.where(lengths > SET_MAX, np.arange(1, len(starts) + 1), 0)
    keys = (*sets.T, own, *within)
    order = np.lexsort(keys)
    sets_at = _starts(*(key[order] for key in keys))
    first = order[sets_at]
    profiles = profile[runs(starts[first], lengths[first])]
    return order, first, (lengths[first], profiles, _lengths(sets_at, len(order)))


def _as_sets(profile: Array, starts: Array, lengths: Array) -> tuple[Array, Array]:
    """Return the first profiles of each run, 0 where it has no more, and their places."""
    there = np.arange(SET_MAX) < lengths[:, None]
    places = starts[:, None] + np.where(there, np.arange(SET_MAX), 0)
    return np.where(there, profile[places], 0), places


def _visits_by_class(hourly: HourlyRollup, class_bits: Array) -> tuple[Array, ...]:
    """Return the visits of each visitor and its classes as one number, in the order of these.

    Returns that number, hour, hits, seconds and quarters of each. The visits of a
    visitor with one class are of that and any; those of others come twice, as each.
    """
    places = np.flatnonzero(hourly.visitor != NO_VISITOR)
    visitor, bits = hourly.visitor[places], class_bits[hourly.profile[places]].astype(np.uint8)
    classes = np.zeros(int(visitor.max(initial=0)) + 1, np.uint8)
    np.bitwise_or.at(classes, visitor, bits)
    several = (classes & (classes - 1) != 0)[visitor]
    bits[~several] |= ANY_CLASS
    places = np.concatenate((places, places[several]))
    keys = hourly.visitor[places].astype(np.uint64)
    keys <<= _CLASS_BITS
    keys[: len(bits)] |= bits
    keys[len(bits) :] |= ANY_CLASS
    keys <<= _HOUR_BITS
    keys |= hourly.hour[places]
    # Numbers are sorted faster than the order of others is found, and take less.
    place_bits = len(hourly.hour).bit_length()
    keys <<= place_bits
    keys |= places.astype(np.uint64)
    keys.sort()
    places = (keys & ((1 << place_bits) - 1)).astype(np.int64)
    keys >>= place_bits
    visits = _starts(keys)
    first = np.minimum.reduceat(hourly.first[places], visits)
    seconds = (np.maximum.reduceat(hourly.last[places], visits) - first) // 1000
    return (
        narrow(keys[visits] >> _HOUR_BITS),
        hourly.hour[places[visits]],
        np.add.reduceat(hourly.hits[places], visits, dtype=np.uint32),
        seconds.astype(np.uint16),
        np.bitwise_or.reduceat(hourly.quarters[places], visits),
    )
