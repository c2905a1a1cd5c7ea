"""The arithmetic of a day's hits: columns in, and what they come to out; no database.

What a day comes to is kept so that a question costs what there are profiles and visitors, and not
hits. Visits don't add up where a visit has several profiles: those are summed by the set of its
profiles, for each part of the set that a question may pick; the few with larger sets stay one by
one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MS_PER_HOUR = 3_600_000
MS_PER_QUARTER = 900_000
QUARTERS = 96
TABLE_CELLS_MAX = 1 << 23
CLASSES = ("open", "prefetch", "bot")
# The bit beside those of the classes: whatever class.
ANY_CLASS = 1 << len(CLASSES)
# Visitor 0 is nobody in particular: hits without a visit.
NOBODY = 0
# The sets of profiles that visits are summed by, and their parts.
SET_MAX = 3
PARTS = ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
# Hour, visitor and place of a hit, or visitor, classes and instant, in one number to sort by.
_PLACE_BITS, _VISITOR_BITS = 26, 32
_INSTANT_BITS, _CLASS_BITS = 27, len(CLASSES) + 1


class Columns(NamedTuple):
    """A day's hits by hour, visitor and arrival: milliseconds of the day, visitor, profile."""

    at: Array
    visitor: Array
    profile: Array


class Plain(NamedTuple):
    """Hits by profile, and their visits that have no other profile."""

    profile: Array
    hits: Array
    visits: Array
    bounces: Array
    seconds: Array


class Blended(NamedTuple):
    """Visits of two or three profiles by these, a row for each set; a missing third is 0.

    `bounces` are, for each profile, the visits in which it has one hit; `seconds`, for each of
    `PARTS`, from its first hits to its last.
    """

    profiles: Array
    visits: Array
    bounces: Array
    seconds: Array


class Mixed(NamedTuple):
    """Visits of several profiles one by one, a row for each: hits, first and last millisecond."""

    visit: Array
    visitor: Array
    profile: Array
    hits: Array
    first: Array
    last: Array


class Summary(NamedTuple):
    """What a day's hits come to for any choice of profiles, but for its visitors."""

    plain: Plain
    blended: Blended
    mixed: Mixed


class Seen(NamedTuple):
    """A day's visitors by the set of all their profiles.

    `lengths` of the sets, the sets' profiles one after the other, how many visitors each set has,
    and these, set after set.
    """

    lengths: Array
    profile: Array
    counts: Array
    visitor: Array


NO_ONE = Seen(*[np.zeros(0, np.int64)] * 4)


class People(NamedTuple):
    """What each visitor's hits come to by class, as bits; who has several has one row for all."""

    visitor: Array
    classes: Array
    hits: Array
    visits: Array
    bounces: Array
    seconds: Array


class Quarters(NamedTuple):
    """A day by quarters of an hour: hits of each class, and when each row of `People` was there.

    `early` has a bit for each quarter of the day's first half, `late` for those of the second.
    """

    hits: Array
    visitor: Array
    classes: Array
    early: Array
    late: Array


class Pairs(NamedTuple):
    """Hits by profile and visitor, and their visits that have no other profile."""

    profile: Array
    visitor: Array
    hits: Array
    visits: Array
    bounces: Array
    seconds: Array


class Hours(NamedTuple):
    """A day by UTC hours and profiles: hits, and visits, which are the hour's visitors.

    First the hits by profile with their visits that have no other; then visits of several, by the
    set of these: `lengths` of the sets, and the sets' profiles one after the other.
    """

    hour: Array
    profile: Array
    hits: Array
    visits: Array
    set_hour: Array
    lengths: Array
    set_profile: Array
    set_visits: Array


class Remains(NamedTuple):
    """What a day's hits come to for any choice of profiles and visitors, when they are gone."""

    pairs: Pairs
    mixed: Mixed


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
        if self._table is None:
            kept = (group > 0) & (visitor != NOBODY)
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
            table[:, NOBODY] = False
            return np.array(np.count_nonzero(table, axis=1))
        keys = np.concatenate((np.zeros(0, self._type), *self._keys))
        keys.sort()
        group = np.right_shift(keys[_starts(keys)], self._bits).astype(np.int64)
        return np.bincount(group, minlength=self._groups)


def sort_columns(columns: Columns) -> Columns:
    """Return hits that came in this order, sorted."""
    keys = _hours(columns.at).astype(np.int64)
    keys <<= _VISITOR_BITS
    keys |= columns.visitor
    keys <<= _PLACE_BITS
    keys |= np.arange(len(keys))
    keys.sort()
    keys &= (1 << _PLACE_BITS) - 1
    return Columns(*(_narrow(each)[keys] for each in columns))


def join_columns(first: Columns, second: Columns) -> Columns:
    """Return sorted hits of both, the second's having come later."""
    visitors = max(int(each.visitor.max(initial=0)) for each in (first, second)) + 1
    there, to_come = (_paired(_hours(each.at), each.visitor, visitors) for each in (first, second))
    places = np.searchsorted(there, to_come, side="right")
    return Columns(*(_inserted(*each, places) for each in zip(first, second, strict=True)))


def between(columns: Columns, first_ms: int, last_ms: int) -> Columns:
    """Return the hits from one millisecond of the day to another, both included."""
    kept = (columns.at >= first_ms) & (columns.at <= last_ms)
    return Columns(*(each[kept] for each in columns))


def summarise(columns: Columns) -> tuple[Summary, Hours]:
    """Return what sorted hits come to by their profiles, and by these and the hour."""
    hour, plain, mixed = _visits(columns)
    count = int(columns.profile.max(initial=0)) + 1
    hits = np.bincount(columns.profile, minlength=count)
    sums = (
        np.bincount(plain.profile, each, count).astype(np.int64)
        for each in (plain.visits, plain.bounces, plain.seconds)
    )
    profile = np.flatnonzero(hits)
    by_profile = Plain(profile, *(each[profile] for each in (hits, *sums)))
    return Summary(by_profile, *_blend(mixed)), _by_hour(columns, hour, plain.profile, mixed)


def see(columns: Columns) -> Seen:
    """Return the visitors of a day by the profiles that each has."""
    known = columns.visitor != NOBODY
    count = int(columns.profile.max(initial=0)) + 1
    pairs = _paired(columns.visitor[known], columns.profile[known], count)
    pairs.sort()
    visitor, profile = np.divmod(pairs[_starts(pairs)], count)
    starts = _starts(visitor)
    order, _, sets = _by_set(profile, starts)
    return Seen(*sets, visitor[starts][order])


def attend(columns: Columns, class_bits: Array) -> tuple[People, Quarters]:
    """Return a day by visitors, and when they were there; `class_bits` are those of profiles."""
    bits = class_bits[columns.profile].astype(np.uint8)
    slot = _quarters(columns.at)
    hits = [
        np.bincount(slot[bits == 1 << place], minlength=QUARTERS) for place in range(len(CLASSES))
    ]
    who, at = _by_class(columns, bits)
    visits = _starts(who, _hours(at))
    of_visit = _lengths(visits, len(at))
    # The instants of a visit are in order.
    seconds = (at[visits + of_visit - 1] - at[visits]) // 1000
    rows = _starts(who[visits])
    rows_at = visits[rows]
    visitor, classes = who[rows_at] >> _CLASS_BITS, who[rows_at] & ((1 << _CLASS_BITS) - 1)
    slot = _quarters(at)
    stays = _starts(who, slot)
    slot, rows_of_stays = slot[stays], np.searchsorted(stays, rows_at)
    return (
        People(
            visitor,
            classes,
            _lengths(rows_at, len(at)),
            _lengths(rows, len(visits)),
            np.add.reduceat(of_visit == 1, rows, dtype=np.int64),
            np.add.reduceat(seconds, rows, dtype=np.int64),
        ),
        Quarters(
            np.concatenate(hits),
            visitor,
            classes,
            *(np.bitwise_or.reduceat(of_slot[slot], rows_of_stays) for of_slot in _SLOT_BITS),
        ),
    )


def remains_of(columns: Columns) -> Remains:
    """Return what sorted hits come to by profile and visitor."""
    _, plain, mixed = _visits(columns)
    nobodys = columns.profile[columns.visitor == NOBODY].astype(np.int64)
    none = np.zeros(len(mixed.hits) + len(nobodys), np.int64)
    profile = np.concatenate((plain.profile, mixed.profile, nobodys))
    visitor = np.concatenate((plain.visitor, mixed.visitor, nobodys * 0 + NOBODY))
    counts = (
        np.concatenate((plain.hits, mixed.hits, nobodys * 0 + 1)),
        *(np.concatenate((each, none)) for each in (plain.visits, plain.bounces, plain.seconds)),
    )
    keys = profile << _VISITOR_BITS | visitor
    order = np.argsort(keys)
    starts = _starts(keys[order])
    sums = (np.add.reduceat(each[order], starts) for each in counts)
    return Remains(Pairs(profile[order][starts], visitor[order][starts], *sums), mixed)


def join_mixed(group: Array, mixed: Mixed) -> tuple[Array, Array, Array]:
    """Join a visit's rows of one group; return the groups, hits and seconds of the visits."""
    keys = mixed.visit.astype(np.int64) << _VISITOR_BITS | group
    # Visits come in their order, so that there is little to sort.
    order = np.argsort(keys, kind="stable")
    starts = _starts(keys[order])
    first = np.minimum.reduceat(mixed.first[order].astype(np.int64), starts)
    last = np.maximum.reduceat(mixed.last[order].astype(np.int64), starts)
    hits = np.add.reduceat(mixed.hits[order].astype(np.int64), starts)
    return group[order][starts], hits, (last - first) // 1000


def as_mixed(columns: Columns) -> Mixed:
    """Return the visits of some sorted hits, a row for each hit."""
    changes = np.zeros(len(columns.at), np.int64)
    changes[_starts(columns.visitor, _hours(columns.at))] = 1
    at, visitor, profile = columns
    return Mixed(np.cumsum(changes) - 1, visitor, profile, np.ones(len(at), np.int64), at, at)


def runs(starts: Array, lengths: Array) -> Array:
    """Return the places of runs, one run after the other."""
    lengths = lengths.astype(np.int64)
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)


def pack(arrays: Sequence[Array]) -> bytes:
    """Return arrays of numbers from 0 as bytes, each as narrow as its largest number allows."""
    narrow = [_narrow(each) for each in arrays]
    heads = (_HEAD.pack(each.itemsize, len(each)) for each in narrow)
    return b"".join((*heads, *(each.data for each in narrow)))


def unpack(data: bytes, count: int) -> list[Array]:
    """Return the `count` arrays that were packed; they can't be written to."""
    place = count * _HEAD.size
    arrays = []
    for number in range(count):
        width, length = _HEAD.unpack_from(data, number * _HEAD.size)
        arrays.append(np.frombuffer(data, f"<u{width}", length, place))
        place += width * length
    return arrays


_HEAD = struct.Struct("<BI")
# What each quarter of an hour is in the bits of the day's first half, and of its second.
_SLOT_BITS = [
    np.array(
        [
            1 << slot - start if start <= slot < start + QUARTERS // 2 else 0
            for slot in range(QUARTERS)
        ]
    )
    for start in (0, QUARTERS // 2)
]


def _narrow(array: Array) -> Array:
    """Return numbers from 0 in as few bytes each as the largest needs."""
    largest = int(array.max(initial=0))
    width = next(width for width in (1, 2, 4, 8) if largest < 1 << 8 * width)
    return array.astype(f"<u{width}", copy=False)


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


def _quarters(at: Array) -> Array:
    return (at // np.uint32(MS_PER_QUARTER)).astype(np.uint8)


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
    values = _narrow(values)
    wide = np.promote_types(array.dtype, values.dtype)
    return np.insert(array.astype(wide, copy=False), places, values)


def _visits(columns: Columns) -> tuple[Array, Pairs, Mixed]:
    """Return the visits of sorted hits: those of one profile, with their hours, and the others."""
    known = columns.visitor != NOBODY
    visitor, profile = columns.visitor[known], columns.profile[known]
    at = columns.at[known].astype(np.uint32, copy=False)
    starts = _starts(visitor, _hours(at))
    hits = _lengths(starts, len(at))
    lowest = np.minimum.reduceat(profile, starts)
    plain = lowest == np.maximum.reduceat(profile, starts)
    # The instants of a visit are in order.
    seconds = (at[starts + hits - 1] - at[starts]) // 1000
    in_mixed = np.repeat(~plain, hits)
    visit = np.repeat(np.flatnonzero(~plain), hits[~plain])
    return (
        _hours(at[starts][plain]),
        Pairs(
            lowest[plain],
            visitor[starts][plain],
            hits[plain],
            np.ones(np.count_nonzero(plain), np.uint8),
            hits[plain] == 1,
            seconds[plain],
        ),
        _mixed(visit, *(each[in_mixed] for each in (at, visitor, profile))),
    )


def _mixed(visit: Array, at: Array, visitor: Array, profile: Array) -> Mixed:
    order = np.lexsort((profile, visit))
    visit, at, visitor, profile = (each[order] for each in (visit, at, visitor, profile))
    starts = _starts(visit, profile)
    return Mixed(
        visit[starts],
        visitor[starts],
        profile[starts],
        _lengths(starts, len(visit)),
        np.minimum.reduceat(at, starts),
        np.maximum.reduceat(at, starts),
    )


def _blend(mixed: Mixed) -> tuple[Blended, Mixed]:
    """Sum the visits of small sets of profiles by these; return the others as they are."""
    starts = _starts(mixed.visit)
    lengths = _lengths(starts, len(mixed.visit))
    small = lengths <= SET_MAX
    profiles, places = _as_sets(mixed.profile, starts[small], lengths[small])
    order = np.lexsort(profiles.T)
    sets_at = _starts(*profiles[order].T)
    hits, first, last = (each[places[order]] for each in (mixed.hits, mixed.first, mixed.last))
    bounces = (hits == 1) & (profiles[order] > 0)
    seconds = np.stack(
        [(last[:, part].max(axis=1) - first[:, part].min(axis=1)) // 1000 for part in PARTS],
        axis=1,
    )
    blended = Blended(
        profiles[order][sets_at],
        _lengths(sets_at, len(order)),
        np.add.reduceat(bounces.astype(np.int64), sets_at),
        np.add.reduceat(seconds, sets_at),
    )
    return blended, Mixed(*(each[np.repeat(~small, lengths)] for each in mixed))


def _by_hour(columns: Columns, hour: Array, plain_profile: Array, mixed: Mixed) -> Hours:
    """Return a day by hours; `hour` and `plain_profile` are those of visits of one profile."""
    count = int(columns.profile.max(initial=0)) + 1
    keys, hits = np.unique(_paired(_hours(columns.at), columns.profile, count), return_counts=True)
    of_plain = np.searchsorted(keys, _paired(hour, plain_profile, count))
    starts = _starts(mixed.visit)
    set_hour = _hours(mixed.first[starts])
    _, first, (lengths, profile, visits) = _by_set(mixed.profile, starts, set_hour)
    return Hours(
        keys // count,
        keys % count,
        hits,
        np.bincount(of_plain, minlength=len(keys)),
        set_hour[first],
        lengths,
        profile,
        visits,
    )


def _by_set(
    profile: Array, starts: Array, *within: Array
) -> tuple[Array, Array, tuple[Array, Array, Array]]:
    """Put runs in the order of their sets of profiles.

    Returns that order, a run of each set, and of the sets: their lengths, their profiles one
    after the other, and how many runs each has.
    """
    lengths = _lengths(starts, len(profile))
    sets, _ = _as_sets(profile, starts, lengths)
    # A large set is its run's alone.
    own = np.where(lengths > SET_MAX, np.arange(1, len(starts) + 1), 0)
    keys = (*sets.T, own, *within)
    order = np.lexsort(keys)
    sets_at = _starts(*(each[order] for each in keys))
    first = order[sets_at]
    profiles = profile[runs(starts[first], lengths[first])]
    return order, first, (lengths[first], profiles, _lengths(sets_at, len(order)))


def _as_sets(profile: Array, starts: Array, lengths: Array) -> tuple[Array, Array]:
    """Return the first profiles of each run, 0 where it has no more, and their places."""
    there = np.arange(SET_MAX) < lengths[:, None]
    places = starts[:, None] + np.where(there, np.arange(SET_MAX), 0)
    return np.where(there, profile[places], 0), places


def _by_class(columns: Columns, bits: Array) -> tuple[Array, Array]:
    """Return the hits of known visitors by these and their classes, and by instant.

    Returns visitor and classes as one number, and the instant, of each. The hits of who has one
    class are that and any; those of others come twice, as each.
    """
    known = columns.visitor != NOBODY
    visitor, bits = columns.visitor[known], bits[known]
    classes = np.zeros(int(visitor.max(initial=0)) + 1, np.uint8)
    np.bitwise_or.at(classes, visitor, bits)
    several = (classes & (classes - 1) != 0)[visitor]
    bits[~several] |= ANY_CLASS
    at = columns.at[known]
    largest = (len(classes) << _CLASS_BITS + _INSTANT_BITS) - 1
    keys = np.zeros(len(at) + np.count_nonzero(several), np.min_scalar_type(largest))
    for width, each, again in (
        (0, visitor, visitor[several]),
        (_CLASS_BITS, bits, ANY_CLASS),
        (_INSTANT_BITS, at, at[several]),
    ):
        keys <<= width
        keys[: len(at)] |= each
        keys[len(at) :] |= again
    keys.sort()
    at = keys.astype(np.uint32)
    at &= (1 << _INSTANT_BITS) - 1
    keys >>= _INSTANT_BITS
    return keys, at
