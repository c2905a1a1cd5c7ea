"""What the numbers in segments stand for: the words of profiles and of visitors.

Kept in memory, for as many pixels as are asked about, and read again only as far as it grew:
numbers are given once and never change. When a pixel's revision rises, all of it is read again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import aliased

from core.database import db
from hits.agent_names import OTHER
from models import Profile, Recipient, Text, UserAgent
from stats.days import CLASSES, Array
from stats.dimensions import CAMPAIGN_QUERY, DIMENSIONS, Source, Value, values_by_dimension

PIXELS_KEPT_MAX = 64
# Not a dimension to ask by: `OTHER` where a text of the profile is not kept.
LIMITED = "limited"
OF_PROFILES = (*(name for name in DIMENSIONS if name != "recipient"), CAMPAIGN_QUERY, LIMITED)
PROFILES_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Words:
    """The values of one dimension: `codes` has, by number, a place in `words`; 0 is no value."""

    codes: Array
    words: tuple[Value, ...]

    def of(self, number: int) -> Value:
        """Return the value that a number has."""
        return self.words[int(self.codes[number])]

    def extended(self, values: Iterable[Value]) -> Words:
        """Return these words with the values of the numbers that follow."""
        # Ten thousand profiles have some dozen browsers: a question asks each word once.
        places = {word: place for place, word in enumerate(self.words)}
        added = [places.setdefault(value, len(places)) for value in values]
        codes = np.concatenate((self.codes, np.array(added, np.int64)))
        return Words(codes, tuple(places))


# Number 0 is given to no profile and to nobody in particular.
_NONE = Words(np.zeros(1, np.int64), (None,))


@dataclass(frozen=True, slots=True)
class Labels:
    """The words of a pixel's profiles, by dimension, and of its visitors."""

    revision: int
    profiles: dict[str, Words]
    profile_count: int = 0
    recipients: Words = _NONE
    visitor_count: int = 0

    @property
    def class_bits(self) -> Array:
        """The class of each profile as a bit."""
        words = self.profiles["class"]
        bits = [0 if word is None else 1 << CLASSES.index(word) for word in words.words]
        return np.array(bits, np.int64)[words.codes]


_lock = threading.Lock()
_kept: OrderedDict[tuple[int, int], Labels] = OrderedDict()


def of_pixel(
    pixel_number: int, revision: int, profile_count: int, visitor_count: int | None = None
) -> Labels:
    """Return a pixel's words up to these counts; the visitors' only where a count is given."""
    key = id(db.engine), pixel_number
    with _lock:
        known = _kept.get(key)
    # A profile's words change only when rules do, and then all of the pixel's may.
    if known is None or known.revision != revision:
        known = Labels(revision, dict.fromkeys(OF_PROFILES, _NONE))
    known = _with_profiles(known, pixel_number, profile_count)
    if visitor_count is not None:
        known = _with_recipients(known, pixel_number, visitor_count)
    with _lock:
        _kept[key] = known
        _kept.move_to_end(key)
        if len(_kept) > PIXELS_KEPT_MAX:
            _kept.popitem(last=False)
    return known


def sources(pixel_number: int) -> Any:
    """Return the statement for what is stored of a pixel's profiles, as `Source` has it."""
    referrer, query = aliased(Text), aliased(Text)

    def text(alias: Any, id: Any) -> Any:
        return (alias.pixel_number == pixel_number) & (alias.id == id)

    return (
        select(
            Profile.hit_class,
            Profile.reason,
            UserAgent.user_agent,
            Profile.country,
            Profile.language,
            Profile.hostname,
            referrer.value.label("referrer"),
            query.value.label("query"),
            UserAgent.browser,
            UserAgent.os,
            UserAgent.device,
            UserAgent.rules_version,
        )
        .select_from(Profile)
        .join(UserAgent, UserAgent.id == Profile.agent)
        .outerjoin(referrer, text(referrer, Profile.referrer))
        .outerjoin(query, text(query, Profile.query))
        .where(Profile.pixel_number == pixel_number)
    )


def _with_profiles(known: Labels, pixel_number: int, count: int) -> Labels:
    if count <= known.profile_count:
        return known
    statement = sources(pixel_number).where(
        Profile.number > known.profile_count, Profile.number <= count
    )
    rows = db.session.execute(
        statement.order_by(Profile.number).execution_options(yield_per=PROFILES_AT_ONCE)
    )
    added: dict[str, list[Value]] = {name: [] for name in OF_PROFILES}
    for part in rows.partitions():
        found = [Source(*row) for row in part]
        for name, column in values_by_dimension(found).items():
            added[name] += column
        added[LIMITED] += [OTHER if source.is_limited else None for source in found]
    profiles = {name: words.extended(added[name]) for name, words in known.profiles.items()}
    return Labels(known.revision, profiles, count, known.recipients, known.visitor_count)


def _with_recipients(known: Labels, pixel_number: int, count: int) -> Labels:
    if count <= known.visitor_count:
        return known
    statement = select(Recipient.number, Recipient.recipient).where(
        Recipient.pixel_number == pixel_number,
        Recipient.number > known.visitor_count,
        Recipient.number <= count,
    )
    # Most visitors are anonymous: only those with a name are read.
    names: list[Value] = [None] * (count - known.visitor_count)
    rows: Any = db.session.execute(statement)
    for number, name in rows:
        names[number - known.visitor_count - 1] = name
    return Labels(
        known.revision,
        known.profiles,
        known.profile_count,
        known.recipients.extended(names),
        count,
    )
