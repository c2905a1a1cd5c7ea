"""Sends webhooks, in one process of all that share the database.

A thread of each worker wakes up now and then; the one that finds nobody at work goes on with it.
Each webhook has a thread of its own while it has something to send, so that one whose other side
hangs holds up no other. Hits are never waited for: their ids are settled by one small commit a
second, and only while there is a webhook.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque

from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from core.database import db
from core.locks import sole, writing
from core.sqlite import sqlite_file
from models import Webhook
from pixels import webhooks
from pixels.webhook_delivery import DeliveryState, Turn
from upkeep import bursts

PAUSE_SECONDS = 1.0
# A label may take five seconds, and is not sent again when it changes later.
SETTLED_SECONDS = 5.0
TURNS_AT_ONCE_MAX = 16
# PostgreSQL's lock ends, unnoticed, with its connection: so it is taken again now and then.
TERM_SECONDS = 30.0
STOP_SECONDS_MAX = 5.0

log = logging.getLogger("pixelkeep.webhooks")


class WebhookSender(threading.Thread):
    """Sends what webhooks are due until it is told to stop; start it after the fork."""

    def __init__(self, app: Flask) -> None:
        super().__init__(name="webhooks", daemon=True)
        self._app = app
        self._stopping = threading.Event()
        self._failed = False
        self._states: dict[uuid.UUID, DeliveryState] = {}
        self._turns: dict[uuid.UUID, threading.Thread] = {}
        # When it was seen that no later hit will be at or below an id.
        self._settled: deque[tuple[float, int]] = deque()

    def run(self) -> None:
        """Send after every pause."""
        while not self._stopping.wait(PAUSE_SECONDS):
            try:
                self._serve_a_term()
            except Exception as error:
                self._report(error)

    def stop(self) -> None:
        """Stop; what is under way is sent again by the next sender."""
        self._stopping.set()
        self.join(STOP_SECONDS_MAX)

    def _serve_a_term(self) -> None:
        with self._app.app_context():
            engine = db.engine
            if not self._active():
                return
        with sole(engine, "webhooks") as mine:
            if not mine:
                self._states.clear()
                return
            ends_at = time.monotonic() + TERM_SECONDS
            while not self._stopping.wait(PAUSE_SECONDS):
                with self._app.app_context():
                    self._start_turns()
                self._failed = False
                if sqlite_file(engine) is None and time.monotonic() > ends_at:
                    break
            for turn in self._turns.values():
                turn.join(STOP_SECONDS_MAX)

    def _active(self) -> list[uuid.UUID]:
        found = list(db.session.scalars(select(Webhook.id).where(Webhook.status == "active")))
        db.session.commit()
        return found

    def _start_turns(self) -> None:
        active = self._active()
        self._states = {id: state for id, state in self._states.items() if id in active}
        self._turns = {id: turn for id, turn in self._turns.items() if turn.is_alive()}
        if not active:
            return
        through = self._settle()
        if through is None:
            return
        # Whoever saw a burst has shared it by now, and may not have got around to label it.
        bursts.label_shared(self._app.extensions["rules"])
        for id in active:
            if id not in self._turns and len(self._turns) < TURNS_AT_ONCE_MAX:
                state = self._states.setdefault(id, DeliveryState())
                turn = threading.Thread(
                    target=self._take_turn, args=(id, state, through), daemon=True
                )
                self._turns[id] = turn
                turn.start()

    def _settle(self) -> int | None:
        """Return the id up to which hits are as they will be, None if that isn't known yet."""
        at = time.monotonic()
        last = self._settled[-1][1] if self._settled else -1
        # The commit that settles new ids is left out while there are none.
        newest = webhooks.newest_hit_id()
        db.session.commit()
        if newest > last:
            with writing():
                newest = webhooks.settle()
        self._settled.append((at, newest))
        found = None
        while self._settled and at - self._settled[0][0] >= SETTLED_SECONDS:
            found = self._settled.popleft()
        if found is None:
            return None
        self._settled.appendleft(found)
        return found[1]

    def _take_turn(self, id: uuid.UUID, state: DeliveryState, through: int) -> None:
        try:
            with self._app.app_context():
                webhook = db.session.get(Webhook, id)
                if webhook is None or webhook.status != "active":
                    return
                secret = webhooks.secret_of(webhook, self._app.config["SECRET_KEYS"])
                db.session.commit()
                if secret is None:
                    problem = "Its key is gone from the server: make the webhook anew."
                    webhooks.change(webhook, status="paused", problem=problem)
                    return
                private_allowed = self._app.config["SETTINGS"].webhook_private
                Turn(webhook, state, secret, private_allowed=private_allowed).take(through)
        except Exception as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        """Log the first of a row of failures, with a traceback for what is a fault of ours."""
        if not self._failed:
            words = f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"
            is_ours = not isinstance(error, (SQLAlchemyError, OSError))
            log.error("Webhooks failed and go on: %s", words, exc_info=is_ours)
        self._failed = True
