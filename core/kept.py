"""What was counted, kept in memory until what it was counted from changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from core.database import db

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """Values by their keys, each with the version of what it was made of."""

    def __init__(self, values_max: int) -> None:
        self._values_max = values_max
        self._values: dict[Hashable, tuple[Any, Value]] = {}
        self._lock = threading.Lock()

    def of(self, key: Hashable, version: Any, make: Callable[[], Value]) -> Value:
        """Return the value that is kept under a key, made anew if its version is another.

        `version` has to be read before `make` reads: what changes in between is made again.
        """
        key = id(db.engine), key
        with self._lock:
            known = self._values.get(key)
        if known is not None and known[0] == version:
            return known[1]
        value = make()
        with self._lock:
            if len(self._values) >= self._values_max:
                self._values.clear()
            self._values[key] = version, value
        return value
