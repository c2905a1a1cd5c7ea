"""Group commit without a thread of its own: one thread commits what many want committed.

`enqueue` puts an item into the queue, and the first `wait` that finds no commit under way leads:
when its turn comes, it takes all items that wait by then, has them committed in one transaction and
wakes the others. A single thread pays for no switch; under load one sync of the disk serves many.
The queue is at most as long as a group of images and the threads together.

How anything is committed is the storage's business; nothing here knows of SQL.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from hits.metrics import Metrics

# Once items gave up, and until the lock is free, new ones give up sooner, so that all have a try.
PATIENCE_AFTER_GIVING_UP_SECONDS = 0.2
# How long a thread that has other things to do waits for another process's commit.
MOMENT_SECONDS = 0.005
# Items whose time is up this soon after the leader's give up with it: a next try would be too late.
GRACE_SECONDS = 0.05

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Storage(Protocol[Item, Outcome]):
    """Where items are committed; called by one thread at a time, the leader."""

    def turn(self, patience_s: float) -> AbstractContextManager[None]:
        """Hold the place of the one writer; raises a busy error if it wasn't free in time."""

    def lock(self) -> None:
        """Take the database's own lock for the next commit; raises a busy error if it is held."""

    def commit(self, items: list[Item]) -> list[Outcome]:
        """Commit all of them or none, and return in their order what became of each."""

    def is_busy(self, error: Exception) -> bool:
        """Tell whether an error says no more than that somebody else holds a lock."""


class Uncommitted(Exception):
    """An item was not committed, because of `reason`."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(slots=True, eq=False)
class Waiting(Generic[Item, Outcome]):
    """An item in the queue; its gate is closed until it is committed, or has to lead."""

    item: Item
    give_up_at: float
    gate: Any = field(default_factory=threading.Lock)
    is_taken: bool = False
    may_lead: bool = False
    leads: bool = False
    outcome: Outcome | None = None
    failure: Exception | None = None


class GroupCommit(Generic[Item, Outcome]):
    """Commits for one process; safe to make before a fork."""

    def __init__(
        self, storage: Storage[Item, Outcome], patience_s: float, metrics: Metrics
    ) -> None:
        self._storage = storage
        self._patience_s = patience_s
        self._metrics = metrics
        self._lock = threading.Lock()
        self._queue: deque[Waiting[Item, Outcome]] = deque()
        self._is_led = False
        # Another program was found to hold the database's lock; for so long that items gave up.
        self._is_contended = False
        self._has_given_up = False

    def enqueue(self, item: Item) -> Waiting[Item, Outcome]:
        """Put an item into the queue for the next commit; `wait` returns what became of it."""
        patience_s = PATIENCE_AFTER_GIVING_UP_SECONDS if self._has_given_up else self._patience_s
        waiting: Waiting[Item, Outcome] = Waiting(item, time.monotonic() + patience_s)
        waiting.gate.acquire()
        with self._lock:
            self._queue.append(waiting)
            self._metrics.set_waiting(len(self._queue))
        return waiting

    def wait(self, waiting: Waiting[Item, Outcome]) -> Outcome:
        """Return what became of an item, once it is committed.

        Raises: Uncommitted if it could not be. Where the commit itself failed it may be found
        later all the same; in all other cases nothing of it is stored.
        """
        if waiting.outcome is not None:  # Somebody else has led; most of the time it is so.
            return waiting.outcome
        with self._lock:
            leads = not self._is_led and not waiting.is_taken
            self._is_led |= leads
            waiting.may_lead = True
        if leads or self._has_to_lead(waiting):
            self._lead(waiting.give_up_at)
        if waiting.failure is not None:
            raise Uncommitted(waiting.failure)
        return waiting.outcome  # type: ignore[return-value]

    def commit_now(self) -> bool:
        """Commit all that wait, if that takes a moment; False if somebody else is at it.

        For a thread that has other things to do: it then has another one call `wait`.
        """
        with self._lock:
            if self._is_led or self._is_contended:
                return False
            if not self._queue:
                return True
            self._is_led = True
        return self._lead(time.monotonic() + MOMENT_SECONDS, or_fail=False)

    def _has_to_lead(self, waiting: Waiting[Item, Outcome]) -> bool:
        """Wait until the item is done, or has to lead: True means that it has to."""
        if waiting.gate.acquire(timeout=max(waiting.give_up_at - time.monotonic(), 0)):
            return waiting.leads
        with self._lock:
            if not waiting.is_taken and not waiting.leads:
                self._queue.remove(waiting)
                raise Uncommitted(TimeoutError("the writers' line is too long"))
        # Taken, or chosen to lead, at this very moment.
        waiting.gate.acquire()
        return waiting.leads

    def _lead(self, give_up_at: float, *, or_fail: bool = True) -> bool:
        """Commit all that wait when it is our turn, wake them, and hand the lead on.

        False: it was not our turn in time. Then those fail whose time is up, unless they may
        wait for another leader.
        """
        started_at = time.monotonic()
        batch: list[Waiting[Item, Outcome]] = []
        outcomes: list[Outcome] | None = None
        try:
            while outcomes is None:
                with self._storage.turn(give_up_at - time.monotonic()):
                    try:
                        # They are taken in the hope that no stranger holds the database's lock.
                        # Once one did, the lock comes first, so that those that have waited for
                        # too long meanwhile can go.
                        if self._is_contended:
                            self._storage.lock()
                        batch = self._take()
                        outcomes = self._storage.commit([waiting.item for waiting in batch])
                    except Exception as error:
                        if not self._storage.is_busy(error):
                            raise
                        self._put_back(batch)
                        batch, self._is_contended = [], True
                        # Between two tries other processes have their turn, so that each notices
                        # when its own time is up.
                        if time.monotonic() >= give_up_at:
                            raise
            for waiting, outcome in zip(batch, outcomes, strict=True):
                waiting.outcome = outcome
            self._is_contended = self._has_given_up = False
            self._metrics.count_batch(len(batch), time.monotonic() - started_at)
        except Exception as error:
            is_late = self._storage.is_busy(error)
            if is_late and not or_fail:
                return False
            # Whatever it was, nobody may hang, and nobody be told that this was stored.
            self._is_contended = self._has_given_up = is_late
            batch = batch or self._take(give_up_at + GRACE_SECONDS)
            self._fail(batch, error)
        finally:
            self._hand_over(batch)
        return True

    def _hand_over(self, batch: list[Waiting[Item, Outcome]]) -> None:
        """Choose the next leader, and wake it and those that are done."""
        with self._lock:
            # A hit whose thread has not reached `wait` yet leads from there.
            successor = next((waiting for waiting in self._queue if waiting.may_lead), None)
            self._is_led = successor is not None
            if successor:
                successor.leads = True
        for waiting in batch:
            waiting.gate.release()
        if successor:
            successor.gate.release()

    def _take(self, before: float = math.inf) -> list[Waiting[Item, Outcome]]:
        """Take those out of the queue that give up before an instant, by default all."""
        with self._lock:
            batch = [waiting for waiting in self._queue if waiting.give_up_at <= before]
            self._queue = deque(waiting for waiting in self._queue if waiting.give_up_at > before)
            for waiting in batch:
                waiting.is_taken = True
            self._metrics.set_waiting(len(self._queue))
        return batch

    def _put_back(self, batch: list[Waiting[Item, Outcome]]) -> None:
        with self._lock:
            self._queue.extendleft(reversed(batch))
            for waiting in batch:
                waiting.is_taken = False

    def _fail(self, batch: list[Waiting[Item, Outcome]], error: Exception) -> None:
        self._metrics.count_failure()
        for waiting in batch:
            waiting.failure = error
