"""The shapes of questions and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from stats.days import Array
from stats.dimensions import Source, Value

if TYPE_CHECKING:
    from stats.reading import Reading


@dataclass(frozen=True)
class Filter:
    """Only hits whose value is (or, negated, is not) one of `values`, or has one in it.

    eq: is one of; neq: has a value, and is none of; c: contains one of, whatever its case;
    dnc: has a value, and contains none of.
    """

    dimension: str
    operator: Literal["eq", "neq", "c", "dnc"]
    values: tuple[str, ...]

    def matching(self, values: Sequence[Value]) -> Array:
        """Tell which values pass; no value passes nothing."""
        if self.operator in ("eq", "neq"):
            wanted = frozenset(self.values)
            found = [value in wanted for value in values]
        else:
            # As people search.
            parts = [text.casefold() for text in self.values]
            folded = [(value or "").casefold() for value in values]
            found = [any(part in value for part in parts) for value in folded]
        # Where nothing is known there is neither the value nor another one.
        passes: Array = np.array(found) == (self.operator in ("eq", "c"))
        passes &= [value is not None for value in values]
        return passes


@dataclass(frozen=True)
class Question:
    """Which hits are asked for: those of one pixel from `start` to `end`, both included."""

    pixel_number: int
    start: datetime
    end: datetime
    hit_class: str = "open"
    filters: tuple[Filter, ...] = ()
    zone: tzinfo = UTC
    # Whether a hit need pass only one of the filters.
    any_filter: bool = False
    # What it shares with other questions about the pixel, if there are any.
    reading: Reading | None = field(default=None, compare=False, repr=False)


class Totals(NamedTuple):
    """The totals of hits; `totaltime` is in seconds."""

    pageviews: int = 0
    visitors: int = 0
    visits: int = 0
    bounces: int = 0
    totaltime: int = 0


class Point(NamedTuple):
    """A bucket of a series, by the local instant of its start."""

    at: datetime
    pageviews: int
    visitors: int


class BreakdownRow(NamedTuple):
    """A value of a dimension and the totals of its hits."""

    name: str
    pageviews: int
    visitors: int
    visits: int
    bounces: int
    totaltime: int


class Leader(NamedTuple):
    """A value of a dimension and its page views."""

    name: str
    pageviews: int


class Views(NamedTuple):
    """Page views, and how many visitors had them."""

    pageviews: int = 0
    visitors: int = 0


class Event(NamedTuple):
    """One hit, with all that is known of it."""

    id: int
    at: datetime
    visitor: int | None
    recipient: Value
    source: Source
    values: dict[str, Value]
