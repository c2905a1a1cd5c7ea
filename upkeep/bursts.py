"""Relabels the hits of a gateway's burst, wherever they are counted.

Once a second every process shares what it saw, looks for bursts among what all have shared, and
relabels the hits of the bursts that it saw a part of, until a few seconds after its last part.
None of this delays a hit, and nothing is kept for longer than a minute.

Hits that are counted already are marked, by their profile, until their days have been recounted:
a process that is killed in between leaves no wrong count, since the next start finishes the work.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, delete, insert, select, tuple_, update

from core.clock import milliseconds
from core.database import database_now, db
from core.locks import writing
from hits.bursts import KEPT_MS, LOOKED_AT_MS, Sighting, Sightings, find_bursts
from hits.classify import BURST, CLASS_OF_REASON
from hits.operator_rules import OperatorRules
from models import MS_PER_DAY, BurstSighting, Hit, Pixel, Profile
from stats import rebuilding
from stats.instants import INSTANT_MS
from upkeep.reclassify import UNCOUNTED

ROWS_AT_ONCE = 500
_IS_MARKED = and_(Profile.rules_version == UNCOUNTED, Profile.reason == "burst")


def share_and_label(sightings: Sightings, rules: OperatorRules) -> int:
    """Share what this process saw, and label the bursts it had a part in; return how many hits."""
    mine = sightings.take()
    if not sightings.is_watching():
        return 0
    at = database_now()
    if mine:
        with writing():
            db.session.execute(delete(BurstSighting).where(_is_old(at)))
            rows = [sighting._asdict() for sighting in mine]
            db.session.connection().execute(insert(BurstSighting), rows)
    # What follows a burst tells it from people, so those are looked at too that are silent by now.
    return _label_sources(sightings.watched(milliseconds(at)), rules, at)


def label_shared(rules: OperatorRules) -> int:
    """Label the bursts in what all processes have shared by now; return how many hits."""
    at = database_now()
    lately = BurstSighting.at_ms >= milliseconds(at) - LOOKED_AT_MS
    sources = select(BurstSighting.pixel_number, BurstSighting.source).where(lately).distinct()
    found = [(number, source) for number, source in db.session.execute(sources)]
    return _label_sources(found, rules, at)


def _label_sources(sources: Sequence[tuple[int, int]], rules: OperatorRules, at: datetime) -> int:
    shared = [
        Sighting(*row)
        for start in range(0, len(sources), ROWS_AT_ONCE)
        for row in db.session.execute(
            select(*(getattr(BurstSighting, name) for name in Sighting._fields)).where(
                tuple_(BurstSighting.pixel_number, BurstSighting.source).in_(
                    sources[start : start + ROWS_AT_ONCE]
                )
            )
        )
    ]
    return label(find_bursts(shared, rules.burst, milliseconds(at)), rules.version)


def forget_sightings(at: datetime) -> int:
    """Delete what is too old to be compared with anything; return how many."""
    if db.session.scalar(select(BurstSighting.hit).where(_is_old(at)).limit(1)) is None:
        return 0
    with writing():
        deleted: Any = db.session.execute(delete(BurstSighting).where(_is_old(at)))
    return int(deleted.rowcount)


def finish(version: int) -> int:
    """Count anew what was labelled and not counted since; return of how many pixels.

    Reads every profile, and of such a pixel every hit.
    """
    pixels = db.session.scalars(select(Profile.pixel_number).where(_IS_MARKED).distinct()).all()
    for number in pixels:
        days = (
            select(INSTANT_MS // MS_PER_DAY)
            .distinct()
            .join(Profile, (Profile.pixel_number == Hit.pixel_number) & (Profile.id == Hit.profile))
            .where(Hit.pixel_number == number, _IS_MARKED)
        )
        _count_anew(number, sorted(db.session.scalars(days)), version)
    return len(pixels)


def label(hits: Iterable[Sighting], version: int) -> int:
    """Make prefetches of hits; return how many of them were none yet."""
    by_pixel: dict[int, list[Sighting]] = defaultdict(list)
    for sighting in hits:
        by_pixel[sighting.pixel_number].append(sighting)
    return sum(_label_of_pixel(number, some, version) for number, some in by_pixel.items())


def _label_of_pixel(pixel_number: int, hits: Sequence[Sighting], version: int) -> int:
    with writing():
        ids = [sighting.hit for sighting in hits]
        changed, is_counted, days = _change_profiles(pixel_number, ids)
        for start in range(0, len(ids), ROWS_AT_ONCE):
            db.session.execute(
                update(BurstSighting)
                .where(
                    BurstSighting.pixel_number == pixel_number,
                    BurstSighting.hit.in_(ids[start : start + ROWS_AT_ONCE]),
                )
                .values(in_burst=True)
            )
    if is_counted:
        _count_anew(pixel_number, days, version)
    return changed


def _count_anew(pixel_number: int, days: list[int], version: int) -> None:
    rebuilding.rebuild(pixel_number, days)
    with writing():
        db.session.execute(
            update(Profile)
            .where(Profile.pixel_number == pixel_number, _IS_MARKED)
            .values(rules_version=version)
        )


def _change_profiles(pixel_number: int, hits: list[int]) -> tuple[int, bool, list[int]]:
    """Give hits the profile of a burst.

    Returns how many, whether any of them is counted already, and the days they are of.

    The pixel's revision is raised in the same transaction, so that a count under way starts over.
    """
    pixel = db.session.execute(
        select(Pixel.folded_through, Pixel.profile_count).where(Pixel.number == pixel_number)
    ).one_or_none()
    if pixel is None:
        return 0, False, []
    found: dict[int, list[int]] = defaultdict(list)
    days: set[int] = set()
    for start in range(0, len(hits), ROWS_AT_ONCE):
        rows: Any = db.session.execute(
            select(Hit.id, Hit.profile, INSTANT_MS).where(
                Hit.pixel_number == pixel_number, Hit.id.in_(hits[start : start + ROWS_AT_ONCE])
            )
        )
        for hit, profile, at_ms in rows:
            found[profile].append(hit)
            days.add(at_ms // MS_PER_DAY)
    count, changed, made = pixel.profile_count, [], []
    for old in db.session.scalars(_open_profiles(pixel_number, list(found))).all():
        new, added = _burst_of(old, count + 1)
        count += added
        changed += found[old.id]
        made.append(new)
        db.session.execute(
            update(Hit)
            .where(Hit.pixel_number == pixel_number, Hit.id.in_(found[old.id]))
            .values(profile=new)
        )
    is_counted = any(hit <= pixel.folded_through for hit in changed)
    if is_counted:
        db.session.execute(
            update(Profile)
            .where(Profile.pixel_number == pixel_number, Profile.id.in_(made))
            .values(rules_version=UNCOUNTED)
        )
    if changed:
        db.session.execute(
            update(Pixel)
            .where(Pixel.number == pixel_number)
            .values(profile_count=count, revision=Pixel.revision + 1)
        )
    return len(changed), is_counted, sorted(days)


def _open_profiles(pixel_number: int, profiles: list[int]) -> Any:
    return select(Profile).where(
        Profile.pixel_number == pixel_number,
        Profile.id.in_(profiles),
        Profile.hit_class == "open",
    )


def _burst_of(old: Profile, number: int) -> tuple[int, bool]:
    """Return the profile that is `old` but for the burst, and whether it is made only now.

    It is numbered at once, since days that are made again expect numbers.
    """
    digest = hashlib.blake2b(f"burst {old.id}".encode(), digest_size=8).digest()
    new = int.from_bytes(digest, "big", signed=True)
    known = select(Profile.id).where(Profile.pixel_number == old.pixel_number, Profile.id == new)
    if db.session.scalar(known) is not None:
        return new, False
    kept = {name: getattr(old, name) for name in Profile.__table__.columns.keys()}  # noqa: SIM118
    kept |= {
        "id": new,
        "number": number,
        "signals": old.signals | BURST,
        "hit_class": CLASS_OF_REASON["burst"],
        "reason": "burst",
        # The same rules have read the agent.
        "rules_version": old.rules_version,
        "country": None,
    }
    db.session.execute(insert(Profile).values(**kept))
    return new, True


def _is_old(at: datetime) -> Any:
    """Return the condition for what is not of this minute, or lies ahead by a clock's error."""
    at_ms = milliseconds(at)
    return (BurstSighting.at_ms < at_ms - KEPT_MS) | (BurstSighting.at_ms > at_ms + KEPT_MS)
