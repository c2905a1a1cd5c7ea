"""An answer that all processes of a node share while it is fresh.

However often it is asked for, and by however many, finding it costs the same.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import tempfile
import threading
import time
from collections.abc import Callable

FRESH_NS = 1_000_000_000
ANSWER_BYTES_MAX = 64 * 1024
# Whoever has waited for longer while another looks gets no answer, and holds no thread.
PATIENCE_SECONDS = 1.0
_KEPT = struct.Struct("=qI")


class SharedAnswer:
    """Keeps one answer in memory that forked processes share; make it before the fork.

    The lock is a nameless empty file's, which the kernel gives up with the process that held it.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _KEPT.size + ANSWER_BYTES_MAX)
        with tempfile.TemporaryFile() as file:
            # A descriptor of its own, which stays open for as long as the process.
            self._lock = os.dup(file.fileno())
        # The file's lock is a process's; its threads take turns by this one.
        self._turn = threading.Lock()

    def get(self, find: Callable[[], bytes]) -> bytes | None:
        """Return the answer that is fresh, or else what `find` finds; None if that takes long."""
        if not self._turn.acquire(timeout=PATIENCE_SECONDS):
            return None
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX)
            try:
                return self._fresh() or self._found(find)
            finally:
                fcntl.lockf(self._lock, fcntl.LOCK_UN)
        finally:
            self._turn.release()

    def _fresh(self) -> bytes | None:
        found_at_ns, length = _KEPT.unpack_from(self._memory)
        is_fresh = 0 <= time.monotonic_ns() - found_at_ns < FRESH_NS
        return self._memory[_KEPT.size : _KEPT.size + length] if is_fresh and length else None

    def _found(self, find: Callable[[], bytes]) -> bytes:
        answer = find()[:ANSWER_BYTES_MAX]
        # Nothing is fresh while it is written, even if the writer is killed meanwhile.
        _KEPT.pack_into(self._memory, 0, 0, 0)
        self._memory[_KEPT.size : _KEPT.size + len(answer)] = answer
        _KEPT.pack_into(self._memory, 0, time.monotonic_ns(), len(answer))
        return answer
