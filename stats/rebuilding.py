"""Makes a pixel's days again from its hits, and lets hits go while their totals stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from sqlalchemy import bindparam, delete, exists, func, literal, or_, select, tuple_, update

from core.clock import from_milliseconds, milliseconds
from core.database import begin_snapshot, db, rows_of_numbers, write_rows
from core.locks import give_way, writing
from models import MACHINE, MS_PER_DAY, OPENED, UNOPENED, Hit, Pixel, Profile, Recipient, Segment
from stats import compacting
from stats.arithmetic import group_hits, join_pieces, remains_of, sort_columns
from stats.compacting import (
    Parts,
    class_bits_of,
    compact,
    delete_day,
    make,
    pieces_of,
    recent_part,
    store_parts,
)
from stats.days import (
    CLASSES,
    NO_ROWS,
    NOTHING_RECENT,
    PIECE_HITS_MAX,
    Array,
    Columns,
    Recent,
    pack,
    rows_of,
)
from stats.folding import RECIPIENTS_TABLE, ROWS_AT_ONCE, fold_what_is_there, hits_of
from stats.instants import INSTANT_MS, dated, undated
from stats.store import Part, PixelState, days_of, read_columns, read_remains, state_of


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


def forget_hits(pixel_number: int, before_day: int) -> int:
    """Let the hits before a UTC day be deleted: of those days only the totals are kept.

    Folds them first, and returns the id of the last. From then on those days answer as a whole, at
    their first instant.
    """
    for _ in fold_what_is_there(pixel_number):
        pass
    while (through := _try_to_forget(pixel_number, before_day)) is None:
        pass
    return through


def _try_to_forget(pixel_number: int, before_day: int) -> int | None:
    """Forget hits as `forget_hits` does; None if late ones were folded meanwhile."""
    state = state_of(pixel_number)
    if state is None:
        return 0
    recent = select(Segment.day).where(
        Segment.pixel_number == pixel_number,
        Segment.part == Part.RECENT,
        Segment.day < before_day,
    )
    # What is left of a day is made of its columns: they have to have all of its hits.
    for day in db.session.scalars(recent.order_by(Segment.day)).all():
        while not compact(pixel_number, day):
            pass
    days = select(Segment.day).where(
        Segment.pixel_number == pixel_number,
        Segment.part == Part.COLUMNS,
        Segment.piece == 0,
        Segment.day < before_day,
    )
    for day in db.session.scalars(days.order_by(Segment.day)).all():
        # Hits folded meanwhile may have profiles that are newer than the classes read before.
        begin_snapshot()
        bits = class_bits_of(pixel_number)
        hourly, _ = group_hits(pieces_of(pixel_number, day), bits)
        remains = remains_of(hourly)
        parts = {Part.REMAINS: {0: pack((*remains.pairs, *remains.visit_rows))}}
        with writing():
            store_parts(pixel_number, day, parts)
    with writing():
        now = state_of(pixel_number)
        if now is None:
            return 0
        # A late hit that was folded meanwhile is not in what remains.
        if _has_more(pixel_number, 0, before_day * MS_PER_DAY - 1, state, now):
            return None
        db.session.execute(
            update(Pixel)
            .where(Pixel.number == pixel_number, Pixel.pruned_before < before_day)
            .values(pruned_before=before_day, revision=Pixel.revision + 1)
        )
        db.session.execute(
            delete(Segment).where(
                Segment.pixel_number == pixel_number,
                Segment.part.not_in([Part.SUMMARY, Part.VISITOR_SETS, Part.REMAINS]),
                Segment.day < before_day,
            )
        )
    return now.folded_through


def forget_pruned(pixel_number: int) -> None:
    """Remove what is kept of days whose hits are pruned, so that nothing is counted of them."""
    # In one transaction with the revision: whoever has read these days learns that they are others.
    with writing():
        pruned_before = select(Pixel.pruned_before).where(Pixel.number == pixel_number)
        db.session.execute(
            delete(Segment).where(
                Segment.pixel_number == pixel_number,
                Segment.day < pruned_before.scalar_subquery(),
            )
        )
        db.session.execute(
            update(Pixel)
            .where(Pixel.number == pixel_number)
            .values(pruned_before=0, revision=Pixel.revision + 1)
        )


def _rebuild_day(pixel_number: int, day: int) -> bool:
    """Make a day again; False if it changed meanwhile."""
    state = state_of(pixel_number)
    if state is None or day < state.pruned_before:
        return True
    pieces: list[Columns] = []
    # What is not folded yet has no numbers; whoever folds it adds it to what is made here.
    for new in _hits_of_day(pixel_number, day, state.folded_through):
        pieces = [piece for piece, _ in join_pieces(pieces, new)]
    parts = _parts_of_day(pieces, class_bits_of(pixel_number))
    with writing():
        now = state_of(pixel_number)
        if now is None:
            return True
        end_ms = (day + 1) * MS_PER_DAY - 1
        is_same = now.revision == state.revision
        if not is_same or _has_more(pixel_number, day * MS_PER_DAY, end_ms, state, now):
            return False
        # A day that has become small has no arrays any more, and one without hits nothing.
        delete_day(pixel_number, day)
        store_parts(pixel_number, day, parts)
    return True


def _parts_of_day(pieces: list[Columns], class_bits: Array) -> Parts:
    """Make all parts of a day; of one that has few hits these are recent ones, as they were."""
    if not pieces:
        return {}
    if sum(len(piece.at) for piece in pieces) <= compacting.RECENT_HITS_MIN:
        rows = np.concatenate([rows_of(piece) for piece in pieces])
        return recent_part(NOTHING_RECENT._replace(hits=rows))
    made = make(((piece, True) for piece in pieces), class_bits)
    return {**made.parts, **recent_part(Recent(NO_ROWS, NO_ROWS, made.starts))}


def _hits_of_day(pixel_number: int, day: int, folded_through: int) -> Iterator[Columns]:
    """Yield the folded hits of a day, a piece at a time; those that are dated come last."""
    first_ms, last_ms = day * MS_PER_DAY, (day + 1) * MS_PER_DAY - 1
    ours = Hit.pixel_number == pixel_number
    # Both ways are ranges of a key, each with an order of its own.
    by_id = ours & undated(first_ms, last_ms), (Hit.id,)
    by_instant = ours & dated(first_ms, last_ms), (Hit.dated_ms, Hit.id)
    for is_of_day, order in (by_id, by_instant):
        condition = is_of_day & (Hit.id <= folded_through)
        while len((hits := hits_of(condition, PIECE_HITS_MAX, order)).id):
            yield sort_columns(hits.columns(hits.visitor_number, hits.profile_number))
            last = {Hit.dated_ms: int(hits.at_ms[-1]), Hit.id: int(hits.id[-1])}
            follows = tuple_(*order) > tuple_(*(literal(last[column]) for column in order))
            condition = is_of_day & (Hit.id <= folded_through) & follows


def _has_more(
    pixel_number: int, first_ms: int, last_ms: int, before: PixelState, after: PixelState
) -> bool:
    """Tell whether hits of a range of time were folded between two states."""
    between = Hit.id.between(before.folded_through + 1, after.folded_through)
    ours = (Hit.pixel_number == pixel_number) & between
    found = (exists().where(ours, way(first_ms, last_ms)) for way in (undated, dated))
    return bool(db.session.scalar(select(or_(*found))))


def _recount_recipients(pixel_number: int) -> None:
    """Count recipients' totals anew.

    The instants of opens that are pruned can't be found again: those stay that are known.
    """
    done: int | None = np.iinfo(np.int64).min
    while done is not None:
        # The days may not know of a visitor or a profile that the state does not.
        begin_snapshot()
        state = state_of(pixel_number)
        if state is None:
            return
        done = _recount_after(pixel_number, done, state)
    with writing():
        raised = update(Pixel).where(Pixel.number == pixel_number)
        db.session.execute(raised.values(people_version=Pixel.people_version + 1))


def _recount_after(pixel_number: int, done: int, state: PixelState) -> int | None:
    """Count anew the recipients after `done`, some at a time, so that hits wait for a moment only.

    Returns the last that is done if hits were folded meanwhile, which count for it already; else
    None.
    """
    counts = _hits_of_visitors(pixel_number, state)
    since, until = _opens_of_visitors(pixel_number, state)
    opened_with, fetched_with = _last_profiles_of_visitors(pixel_number, state)
    pruned = from_milliseconds(state.pruned_before * MS_PER_DAY)
    following = (
        select(
            Recipient.visitor,
            Recipient.number,
            Recipient.first_opened_at,
            Recipient.last_opened_at,
            Recipient.last_profile,
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
        for visitor, number, *known, profile in some:
            opens = [at for at in known if at and at < pruned]
            if until[number]:
                opens += [from_milliseconds(int(at[number])) for at in (since, until)]
            first_ms = milliseconds(min(opens)) if opens else None
            last_ms = milliseconds(max(opens)) if opens else None
            hits = dict(zip(CLASSES, counts[number].tolist(), strict=True))
            # An open whose hit is pruned is known by what was noted of it.
            is_noted = hits["open"] and not opened_with[number]
            with_profile = opened_with[number] or (not is_noted and fetched_with[number])
            status = OPENED if hits["open"] else MACHINE if any(hits.values()) else UNOPENED
            seen = (first_ms, last_ms, status, int(with_profile) or profile, *hits.values())
            rows.append((pixel_number, visitor, *seen))
        with writing():
            if state_of(pixel_number) != state:
                return done
            write_rows(_recounted_recipients, rows)
        give_way()
        done = some[-1].visitor
    return None


def _hits_of_visitors(pixel_number: int, state: PixelState) -> Array:
    """Return how many hits of each class each visitor has, by their number."""
    bits = class_bits_of(pixel_number)
    counts = np.zeros((len(CLASSES), state.visitor_count + 1), np.int64)
    days = days_of(pixel_number)
    pruned = [day for day in days if day < state.pruned_before]
    for _, (pairs, _) in read_remains(pixel_number, pruned):
        for place, of_class in enumerate(counts):
            kept = bits[pairs.profile] == 1 << place
            np.add.at(of_class, pairs.visitor[kept], pairs.hits[kept])
    for _, columns in read_columns(pixel_number, days):
        for place, of_class in enumerate(counts):
            kept = bits[columns.profile] == 1 << place
            np.add.at(of_class, columns.visitor[kept], 1)
    return counts.T


def _last_profiles_of_visitors(pixel_number: int, state: PixelState) -> tuple[Array, Array]:
    """Return the profiles of each visitor's last open and last hit, by number; 0 for none.

    Hits that are pruned are not there any more.
    """
    bits = class_bits_of(pixel_number)
    opened, fetched = np.zeros((2, state.visitor_count + 1), np.int64)
    for _, columns in read_columns(pixel_number, days_of(pixel_number)):
        # Of hits in their order the last one stays.
        order = np.argsort(columns.at, kind="stable")
        visitor, profile = columns.visitor[order], columns.profile[order]
        opens = bits[profile] == 1 << CLASSES.index("open")
        opened[visitor[opens]] = profile[opens]
        fetched[visitor] = profile
    return opened, fetched


def _opens_of_visitors(pixel_number: int, state: PixelState) -> tuple[Array, Array]:
    """Return the instants of each recipient's first and last open by their number, 0 for none."""
    statement = (
        select(Recipient.number, func.min(INSTANT_MS), func.max(INSTANT_MS))
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
    instants = np.zeros((2, state.visitor_count + 1), np.int64)
    for number, first, last in db.session.execute(statement):
        instants[:, number] = first, last
    since, until = instants
    return since, until


_COUNTED = rows_of_numbers(
    "of_pixel", "visitor", "first_ms", "last_ms", "status", "last_profile", *CLASSES
)
_recounted_recipients = (
    update(RECIPIENTS_TABLE)
    .where(Recipient.pixel_number == _COUNTED.c.of_pixel, Recipient.visitor == _COUNTED.c.visitor)
    .values(
        first_opened_at=_COUNTED.c.first_ms,
        last_opened_at=_COUNTED.c.last_ms,
        opens=_COUNTED.c.open,
        prefetches=_COUNTED.c.prefetch,
        bots=_COUNTED.c.bot,
        status=_COUNTED.c.status,
        last_profile=_COUNTED.c.last_profile,
    )
)
