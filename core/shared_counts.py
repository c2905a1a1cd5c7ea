"""Counts and marks in memory that all processes of a node share; make them before the fork.

What is counted is known by Python's own hash, whose key is drawn at every start and shared by what
is forked, and by nothing that outlives the processes. There is no lock, which a killed process
could leave locked: what is counted at the same instant may count as one. Names whose hashes share a
slot share its count.
"""

from __future__ import annotations

import mmap
import secrets
import struct

COUNT_SLOTS = 65_536
MARK_SLOTS = 262_144
# How many places a mark may have; where all are taken, an older one is forgotten.
MARK_PLACES = 4
_COUNT = struct.Struct("=II")
_MARK = struct.Struct("=Q")
_MARKS = struct.Struct(f"={MARK_PLACES}Q")


class SharedCounts:
    """Counts by name within a period, which is any number of hours, days or minutes."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, COUNT_SLOTS * _COUNT.size)

    def of(self, name: str, period: int) -> int:
        """Return how many were counted of a name in a period."""
        counted_period, count = _COUNT.unpack_from(self._memory, self._offset(name))
        return count if counted_period == period else 0

    def add(self, name: str, period: int) -> int:
        """Count one more, and return how many there are now."""
        count = self.of(name, period) + 1
        _COUNT.pack_into(self._memory, self._offset(name), period, count)
        return count

    def _offset(self, name: str) -> int:
        return hash(name) % COUNT_SLOTS * _COUNT.size


class SharedMarks:
    """Remembers names that were marked, the newest some hundred thousand of them."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, MARK_SLOTS * _MARK.size)

    def has(self, name: str) -> bool:
        """Tell whether a name is marked."""
        mark = _mark(name)
        return mark in _MARKS.unpack_from(self._memory, _offset(mark))

    def add(self, name: str) -> None:
        """Mark a name."""
        mark = _mark(name)
        marks = _MARKS.unpack_from(self._memory, _offset(mark))
        place = marks.index(0) if 0 in marks else secrets.randbelow(MARK_PLACES)
        _MARK.pack_into(self._memory, _offset(mark) + place * _MARK.size, mark)


def _mark(name: str) -> int:
    return hash(name) % (1 << 64) or 1


def _offset(mark: int) -> int:
    return mark % (MARK_SLOTS // MARK_PLACES) * _MARKS.size
