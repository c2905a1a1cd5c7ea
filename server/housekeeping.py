"""What the service does by itself between requests, in one process at a time and in short steps.

A thread of each worker wakes up now and then; the one that finds nobody at work does what there is
to do. It never stops hits for longer than one short transaction, and goes on after any error.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Iterator

from flask import Flask
from sqlalchemy import func, select, true, update
from sqlalchemy.exc import SQLAlchemyError

from core.clock import (
    JUMP_MS_MIN,
    SteadyClock,
    from_milliseconds,
    milliseconds,
    now_ms,
    since_boot_ms,
)
from core.database import database_now, db, give_back_idle
from core.errors import DomainError
from core.locks import empty_log, sole, writing
from core.sqlite import sqlite_file
from models import HIT_ID_SHIFT, MS_PER_DAY, Catalogue, Pixel
from people import first_start
from stats import folding, future
from upkeep import bursts, retention

PAUSE_SECONDS = 2.0
# After a step those who waited for the database meanwhile have their turn.
STEP_PAUSE_SECONDS = 0.01
STOP_SECONDS_MAX = 5.0
# How often it is stored what is believed of the clock; much less than a jump.
BELIEF_STORED_EVERY_MS = 600_000
# Making arrays of days may take a quarter of the time at most.
COMPACT_PAUSE_TIMES = 3
# Days that are over are looked at once more, if they are of this week.
CLOSED_DAYS = 7
# How much later than their commit hits are folded at most, as a rule, in ids.
FOLDED_LATE_IDS = 300_000 << HIT_ID_SHIFT

log = logging.getLogger("pixelkeep.housekeeping")


class Housekeeper(threading.Thread):
    """Tidies up until it is told to stop; start it after the fork."""

    def __init__(self, app: Flask) -> None:
        super().__init__(name="housekeeping", daemon=True)
        self._app = app
        self._stopping = threading.Event()
        self._failed = False
        self._log_emptied_on = -1
        self._clock = SteadyClock()
        self._clock.read(now_ms())
        self._belief_stored_at_ms: int | None = None
        self._doubts = False
        # What the clock shows less the time since the machine's start.
        self._clock_offset_ms: int | None = None
        self._compacted_through, self._compacted_on = 0, -1
        self._compact_at = 0.0

    def run(self) -> None:
        """Tidy up after every pause."""
        while not self._stopping.wait(PAUSE_SECONDS):
            try:
                self._give_back_idle()
                self._tidy_up()
                give_back_memory()
            except Exception as error:
                self._report(error)

    def stop(self) -> None:
        """Stop after the step that is under way."""
        self._stopping.set()
        self.join(STOP_SECONDS_MAX)

    def _give_back_idle(self) -> None:
        with self._app.app_context():
            give_back_idle(db.engine)
        give_back_idle(self._app.extensions["hits_engine"])

    def _tidy_up(self) -> None:
        """Do all there is to do, if nobody else is at it; with SQLite, again and again.

        It is done by one process again and again, since what it loads need not be in the memory of
        every process. PostgreSQL's lock is left each time: it ends, unnoticed, with its connection.
        """
        with self._app.app_context():
            engine = db.engine
            # Each node has a file of its own.
            first_start.forget_if_used(self._app.config["SETTINGS"])
        with sole(engine, "housekeeping") as mine:
            while mine:
                with self._app.app_context():
                    for _ in self._steps():
                        if self._stopping.wait(STEP_PAUSE_SECONDS):
                            return
                    if sqlite_file(engine) is not None:
                        # Its driver keeps what was written last by each statement, a day's arrays
                        # say, as long as a connection is open; this one is closed with the context.
                        db.session.connection().detach()
                self._failed = False
                give_back_memory()
                if sqlite_file(engine) is None or self._stopping.wait(PAUSE_SECONDS):
                    return

    def _steps(self) -> Iterator[int]:
        """Do what there is to do; yield after each step."""
        shown_ms = milliseconds(database_now())
        yield from folding.fold_pending(from_milliseconds(shown_ms))
        offset_ms, before_ms = shown_ms - since_boot_ms(), self._clock_offset_ms
        if before_ms is None or offset_ms < before_ms - future.AHEAD_MS_MIN:
            # The clock may have been ahead when it was asked whether hits were.
            future.note_folded()
        self._clock_offset_ms = offset_ms
        if time.monotonic() >= self._compact_at:
            yield from self._compact(shown_ms)
        for erased in retention.finish_erasures():
            # What was deleted is in the log still.
            self._log_emptied_on = -1
            yield erased
        for removed in retention.finish_restarts():
            self._log_emptied_on = -1
            yield removed
        # What is deleted too early can't be brought back when a clock that jumped is right again.
        at = from_milliseconds(self._believed(shown_ms))
        yield retention.forget_revoked_tokens(at)
        yield bursts.forget_sightings(from_milliseconds(shown_ms))
        for _ in retention.prune_by_itself(self._app.config["SETTINGS"].retention_days, at):
            self._log_emptied_on = -1
            yield 0
        today = retention.day_of(at)
        # Whoever deleted the day's last salt, the recorder it may be, has left copies in the log.
        if retention.forget_salts(today) or self._log_emptied_on != today:
            # A read that is open would be in the way.
            db.session.commit()
            self._log_emptied_on = today if empty_log(db.engine) else -1

    def _compact(self, shown_ms: int) -> Iterator[int]:
        """Take recent hits into the arrays of the days that grow, where they have become many."""
        started_at = time.monotonic()
        folded_through = db.session.scalar(select(func.max(Pixel.folded_through))) or 0
        today = shown_ms // MS_PER_DAY
        if self._compacted_on != today:
            # Once a day, and at a start, all pixels: their days may have ended as they were.
            of_week = today - CLOSED_DAYS
            yield from folding.compact_days(true(), of_week, closed_before=today)
        else:
            # A pixel's hits may be folded a while after later ones of another.
            was_folded = Pixel.folded_through > self._compacted_through - FOLDED_LATE_IDS
            yield from folding.compact_days(was_folded, today - 1)
        self._compacted_through, self._compacted_on = folded_through, today
        # Under a load a large day has many recent hits again at once: images come first.
        self._compact_at = time.monotonic() + COMPACT_PAUSE_TIMES * (time.monotonic() - started_at)

    def _believed(self, shown_ms: int) -> int:
        """Return what is believed of a clock; it is stored, since it may be ahead at a start."""
        if self._belief_stored_at_ms is None:
            known = select(Catalogue.believed_ms, Catalogue.doubted_ms)
            before_ms, doubted_ms = db.session.execute(known).one()
            if before_ms:
                self._clock.resume(before_ms, doubted_ms)
        at_ms, since_ms = self._clock.read(shown_ms), since_boot_ms()
        stored_at_ms, doubts = self._belief_stored_at_ms, self._clock.doubted_ms > 0
        is_due = stored_at_ms is None or since_ms - stored_at_ms >= BELIEF_STORED_EVERY_MS
        if is_due or doubts != self._doubts:
            # Another node may have stored what is newer; it counts if the clock shows as much.
            is_old = Catalogue.believed_ms <= at_ms
            is_wrong = Catalogue.believed_ms > shown_ms + JUMP_MS_MIN
            with writing():
                db.session.execute(
                    update(Catalogue)
                    .where(is_old | is_wrong)
                    .values(believed_ms=at_ms, doubted_ms=self._clock.doubted_ms)
                )
            self._belief_stored_at_ms, self._doubts = since_ms, doubts
        return at_ms

    def _report(self, error: Exception) -> None:
        """Log the first of a row of failures, with a traceback for what is a fault of ours."""
        expected = isinstance(error, (SQLAlchemyError, OSError, DomainError))
        if not self._failed:
            words = f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"
            log.error("Housekeeping failed and goes on: %s", words, exc_info=not expected)
        self._failed = True


def give_back_memory() -> None:
    """Return to the system what glibc keeps of freed memory; takes a millisecond."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
