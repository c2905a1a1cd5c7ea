"""What webhooks are sent, made from committed hits in the order of their commits.

A delivery is at least once: how far a webhook has come is stored after what was sent, now and
then, so that a process that dies leaves a few to be sent again, by the same ids.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, exists, select, update

from core.clock import boot, from_milliseconds, iso, milliseconds, now, since_boot_ms
from core.database import db
from core.errors import BadRequest
from core.locks import writing
from hits.classify import IMPORTED
from models import HIT_ID_SHIFT, Hit, Pixel, Profile, Recipient, Webhook
from pixels import webhooks
from pixels.webhook_pace import Pace
from pixels.webhook_transport import DeliveryOutcome, Endpoint
from stats import ids
from stats.shapes import Event
from stats.view import events_by_id

# After the first attempt; then ever later.
RETRY_SECONDS = (1, 2, 5, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400)
HOLD_SECONDS_MAX = 3_600
GIVE_UP_SECONDS = 3 * 86_400
EVENTS_WAITING_MAX = 100_000
LOG_MAX = 100
HITS_AT_ONCE = 500
# How often it is stored how far a webhook has come, and for how long one has a thread.
STORE_SECONDS = 1.0
ROUND_SECONDS_MAX = 20.0
GONE = 410
# Answers of the 4xx that may be otherwise the next time.
TRANSIENT = (408, 429)
ERROR_CHARACTERS_MAX = 200


@dataclass
class DeliveryState:
    """What one process keeps in memory of a webhook between its turns."""

    endpoint: Endpoint | None = None
    version: int = -1
    # A start tries at once what waits for its time.
    is_fresh: bool = True
    openers: dict[int, Openers] = field(default_factory=dict)


@dataclass
class Openers:
    """The visitors of a pixel who have opened: those of before in an array, the others by hit."""

    before: Any
    since: dict[int, int] = field(default_factory=dict)

    def is_first(self, visitor: int, hit_id: int) -> bool:
        """Take in a visitor's open; tell, as often as asked, whether it is their first."""
        place = int(np.searchsorted(self.before, visitor))
        if place < len(self.before) and self.before[place] == visitor:
            return False
        return self.since.setdefault(visitor, hit_id) == hit_id


class Turn:
    """One webhook's turn: sends what is due, and stores how far that came.

    It is made by the thread that takes it, whose use of the processor it watches.
    """

    def __init__(
        self, webhook: Webhook, state: DeliveryState, secret: str, *, private_allowed: bool
    ) -> None:
        self._webhook = webhook
        self._state = state
        self._secret = secret
        self._cursor = webhook.cursor
        self._held = webhook.held
        self._aside = [dict(waiting) for waiting in webhook.aside]
        self._log = list(webhook.log)
        self._status, self._problem = webhook.status, webhook.problem
        self._stored_at = time.monotonic()
        self._give_up_at = self._stored_at + ROUND_SECONDS_MAX
        self._is_changed = False
        self._pace = Pace()
        if state.endpoint is None or state.version != webhook.version:
            if state.endpoint:
                state.endpoint.close()
            state.endpoint = Endpoint(webhook.url, private_allowed=private_allowed)
            state.version = webhook.version

    def take(self, through: int) -> None:
        """Send all that is due of the hits up to an id."""
        try:
            self._send_aside()
            self._send_in_order(through)
        finally:
            self._state.is_fresh = False
            self._store()

    def _send_aside(self) -> None:
        for waiting in list(self._aside):
            if self._status != "active" or not self._is_due(waiting):
                continue
            found = _event_of(self._webhook, waiting["pixel"], waiting["hit"])
            if found is None or not self._try(*found, waiting):
                self._aside.remove(waiting)

    def _send_in_order(self, through: int) -> None:
        if self._held and not self._is_due(self._held):
            return
        if self._held:
            self._drop_the_oldest(through)
        for pixel, hit in self._hits(through):
            for kind in self._kinds(pixel, hit):
                if self._is_sent(hit, kind):
                    continue
                if not self._is_through_with(pixel, hit, kind):
                    return
            self._cursor = hit.id
            self._is_changed = True
            if time.monotonic() - self._stored_at > STORE_SECONDS and not self._store():
                return
            if time.monotonic() > self._give_up_at:
                return

    def _is_sent(self, hit: Event, kind: str) -> bool:
        """Tell whether an event was through with before the one of its hit that is held."""
        held = self._held
        if not held or held["hit"] != hit.id:
            return False
        return webhooks.EVENTS.index(kind) < webhooks.EVENTS.index(held["kind"])

    def _is_through_with(self, pixel: Pixel, hit: Event, kind: str) -> bool:
        """Try an event in its turn; tell whether those behind it may go on."""
        if not self._held or (self._held["hit"], self._held["kind"]) != (hit.id, kind):
            self._held = {"hit": hit.id, "pixel": pixel.number, "kind": kind, "attempt": 0}
        waiting = self._held
        seconds = _seconds_waited(waiting)
        is_left = self._try(pixel, hit, waiting)
        if self._status != "active":
            return False
        if is_left and seconds < HOLD_SECONDS_MAX:
            return False
        if is_left:
            self._aside.append(waiting)
        self._held = None
        return True

    def _try(self, pixel: Pixel, hit: Event, waiting: dict[str, Any]) -> bool:
        """Send an event once; tell whether it is to be tried again."""
        time.sleep(self._pace.pause_seconds())
        waiting["attempt"] += 1
        outcome = self._send(pixel, hit, waiting["kind"])
        self._write_down(outcome, waiting, str(ids.event_id(pixel, hit)))
        self._is_changed = True
        if outcome.status is not None and 200 <= outcome.status < 300:
            return False
        if outcome.status == GONE:
            self._status, self._problem = "ended", "The other side answered 410 Gone."
            return False
        if outcome.status is not None and 400 <= outcome.status < 500:
            return outcome.status in TRANSIENT and self._wait(waiting)
        return self._wait(waiting)

    def _wait(self, waiting: dict[str, Any]) -> bool:
        seconds = _seconds_waited(waiting)
        pause_seconds = RETRY_SECONDS[min(waiting["attempt"], len(RETRY_SECONDS)) - 1]
        waiting["next_after_seconds"] = seconds + pause_seconds
        if seconds > GIVE_UP_SECONDS:
            self._status, self._problem = "paused", "An event could not be delivered in three days."
        return True

    def _send(self, pixel: Pixel, hit: Event, kind: str) -> DeliveryOutcome:
        event_id = ids.event_id(pixel, hit)
        message_id = f"msg_{uuid.uuid5(self._webhook.id, f'{event_id} {kind}').hex}"
        data = _data(pixel, hit)
        return send(self._state, self._secret, message_id, f"pixel.{kind}", hit.at, data)

    def _write_down(self, outcome: DeliveryOutcome, waiting: dict[str, Any], hit_id: str) -> None:
        self._log.append(entry(outcome, f"pixel.{waiting['kind']}", hit_id, waiting["attempt"]))
        del self._log[:-LOG_MAX]

    def _is_due(self, waiting: dict[str, Any]) -> bool:
        seconds = _seconds_waited(waiting)
        return self._state.is_fresh or seconds >= waiting.get("next_after_seconds", 0)

    def _hits(self, through: int) -> Iterator[tuple[Pixel, Event]]:
        """Yield the hits after the cursor in the order of their commits."""
        after = self._cursor
        while True:
            rows = db.session.execute(
                select(Hit.pixel_number, Hit.id)
                .join(Pixel, Pixel.number == Hit.pixel_number)
                .where(_pixels_of(self._webhook), _IS_NEWS, Hit.id > after, Hit.id <= through)
                .order_by(Hit.id)
                .limit(HITS_AT_ONCE)
            ).all()
            found = _events(rows)
            db.session.commit()
            yield from found
            if len(rows) < HITS_AT_ONCE:
                # Nothing up to there is this webhook's: the next look begins there.
                self._cursor, self._is_changed = max(self._cursor, through), True
                return
            after = rows[-1].id

    def _kinds(self, pixel: Pixel, hit: Event) -> list[str]:
        """Return the events that a hit is and the webhook asked for."""
        kinds = {"hit"}
        if hit.source.hit_class == "open":
            kinds.add("open")
            if "first-open" in self._webhook.events and self._is_first(pixel, hit):
                kinds.add("first-open")
        return [kind for kind in self._webhook.events if kind in kinds]

    def _is_first(self, pixel: Pixel, hit: Event) -> bool:
        """Tell whether an open is its visitor's first; one of nobody in particular never is."""
        if hit.visitor is None:
            return False
        if pixel.number not in self._state.openers:
            self._state.openers[pixel.number] = Openers(_opened_before(pixel.number, hit.id))
        return self._state.openers[pixel.number].is_first(hit.visitor, hit.id)

    def _drop_the_oldest(self, through: int) -> None:
        """Let the oldest go of more events than may wait."""
        many = EVENTS_WAITING_MAX // len(self._webhook.events)
        first = db.session.scalar(
            select(Hit.id)
            .join(Pixel, Pixel.number == Hit.pixel_number)
            .where(_pixels_of(self._webhook), _IS_NEWS)
            .where(Hit.id > self._cursor, Hit.id <= through)
            .order_by(Hit.id.desc())
            .offset(many)
            .limit(1)
        )
        db.session.commit()
        if first is not None:
            self._cursor, self._held, self._is_changed = first, None, True
            self._problem = (
                f"More than {EVENTS_WAITING_MAX:,} events waited: the oldest were dropped,"
                f" {iso(now())}."
            )

    def _store(self) -> bool:
        """Store how far it came; False if the webhook was changed or deleted meanwhile."""
        self._stored_at = time.monotonic()
        if not self._is_changed:
            return True
        same = (Webhook.id == self._webhook.id) & (Webhook.version == self._webhook.version)
        with writing():
            stored: Any = db.session.execute(
                update(Webhook)
                .where(same)
                .values(
                    cursor=self._cursor,
                    held=self._held,
                    aside=self._aside,
                    log=self._log,
                    status=self._status,
                    problem=self._problem,
                )
            )
        self._is_changed = False
        return bool(stored.rowcount)


def send(
    state: DeliveryState,
    secret: str,
    message_id: str,
    kind: str,
    at: datetime,
    data: dict[str, Any],
) -> DeliveryOutcome:
    """Send one signed message of what was at an instant."""
    body = json.dumps({"type": kind, "timestamp": iso(at), "data": data}).encode()
    at_seconds = milliseconds(now()) // 1000
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Pixelkeep",
        "webhook-id": message_id,
        "webhook-timestamp": str(at_seconds),
        "webhook-signature": webhooks.signature(secret, message_id, at_seconds, body),
    }
    assert state.endpoint is not None
    return state.endpoint.post(body, headers)


def send_test(
    webhook: Webhook, secret_keys: Sequence[str], *, private_allowed: bool
) -> dict[str, Any]:
    """Send a message of type `pixel.test`, once and now, and return what came of it.

    Raises: BadRequest if the key that its secret was made with is gone.
    """
    secret = webhooks.secret_of(webhook, secret_keys)
    if secret is None:
        raise BadRequest("The webhook's key is gone from the server: make the webhook anew.")
    state = DeliveryState(Endpoint(webhook.url, private_allowed=private_allowed))
    pixel_id = str(webhook.pixel_id) if webhook.pixel_id else None
    at = now()
    data = {**dict.fromkeys(DATA), "pixelId": pixel_id, "createdAt": iso(at)}
    try:
        outcome = send(state, secret, f"msg_{uuid.uuid4().hex}", "pixel.test", at, data)
    finally:
        if state.endpoint:
            state.endpoint.close()
    return entry(outcome, "pixel.test", None, 1)


def entry(outcome: DeliveryOutcome, kind: str, hit_id: str | None, attempt: int) -> dict[str, Any]:
    """Return a delivery as the log has it."""
    error = outcome.error or (
        None if 200 <= (outcome.status or 0) < 300 else f"HTTP {outcome.status}"
    )
    return {
        "at": iso(now()),
        "type": kind,
        "hitId": hit_id,
        "attempt": attempt,
        "status": outcome.status,
        "milliseconds": outcome.milliseconds,
        "error": error and error[:ERROR_CHARACTERS_MAX],
    }


DATA = (
    *("pixelId", "slug", "hitId", "recipient", "class", "reason", "createdAt", "country"),
    *("browser", "os", "device"),
)


def _data(pixel: Pixel, hit: Event) -> dict[str, Any]:
    return {
        "pixelId": str(pixel.id),
        "slug": pixel.slug,
        "hitId": str(ids.event_id(pixel, hit)),
        "recipient": _name_of(pixel, hit),
        "class": hit.source.hit_class,
        "reason": hit.source.reason,
        "createdAt": iso(hit.at),
        "country": hit.source.country,
        "browser": hit.values["browser"],
        "os": hit.values["os"],
        "device": hit.values["device"],
    }


def _name_of(pixel: Pixel, hit: Event) -> str | None:
    """Return whose a hit is as of now: its hit may have been read before they opted out."""
    if hit.recipient is None:
        return None
    known = select(Recipient.recipient).where(
        Recipient.pixel_number == pixel.number,
        Recipient.visitor == hit.visitor,
        Recipient.opted_out.is_(False),
    )
    name = db.session.scalar(known)
    db.session.commit()
    return name


def _seconds_waited(waiting: dict[str, Any]) -> float:
    """Return for how long an event has waited, and note it, by a clock that nobody sets.

    That clock begins anew with the machine's start: what is stored is gone on from then.
    """
    if waiting.get("boot") != boot():
        waiting |= {"boot": boot(), "next_after_seconds": 0}
        waiting["since_ms"] = since_boot_ms() - round(waiting.get("seconds", 0) * 1000)
    waiting["seconds"] = (since_boot_ms() - waiting["since_ms"]) / 1000
    return float(waiting["seconds"])


def _pixels_of(webhook: Webhook) -> ColumnElement[bool]:
    """Return which pixels a webhook is about: its owner's, as they are now."""
    owned = (
        Pixel.user_id == webhook.user_id if webhook.user_id else Pixel.team_id == webhook.team_id
    )
    return owned if webhook.pixel_id is None else owned & (Pixel.id == webhook.pixel_id)


# What is imported is dated: of all others nothing more is read.
_IS_NEWS = Hit.dated_ms.is_(None) | ~exists().where(
    Profile.pixel_number == Hit.pixel_number,
    Profile.id == Hit.profile,
    Profile.signals.bitwise_and(IMPORTED) != 0,
)


def _events(rows: Sequence[Any]) -> list[tuple[Pixel, Event]]:
    """Return hits with their pixels, in the order of `rows`."""
    by_pixel: dict[int, list[int]] = {}
    for number, id in rows:
        by_pixel.setdefault(number, []).append(id)
    pixels = {
        pixel.number: pixel
        for pixel in db.session.scalars(select(Pixel).where(Pixel.number.in_(by_pixel)))
    }
    found = {
        (number, event.id): event
        for number, hits in by_pixel.items()
        for event in events_by_id(number, hits)
    }
    return [
        (pixels[number], found[number, id])
        for number, id in rows
        if number in pixels and (number, id) in found
    ]


def _event_of(webhook: Webhook, number: int, id: int) -> tuple[Pixel, Event] | None:
    """Return a hit that was set aside, None if it is gone or no longer the owner's."""
    statement = select(Hit.pixel_number, Hit.id).join(Pixel, Pixel.number == Hit.pixel_number)
    rows = db.session.execute(
        statement.where(_pixels_of(webhook), Hit.pixel_number == number, Hit.id == id)
    ).all()
    found = _events(rows)
    db.session.commit()
    return found[0] if found else None


def _opened_before(pixel_number: int, id: int) -> Any:
    """Return the visitors of a pixel with an open below a hit's id, in order."""
    same = (Profile.pixel_number == Hit.pixel_number) & (Profile.id == Hit.profile)
    of_hits = (
        select(Hit.visitor)
        .join(Profile, same)
        .where(Hit.pixel_number == pixel_number, Hit.id < id, Hit.visitor.is_not(None))
        .where(Profile.hit_class == "open")
    )
    # Of those whose hits are pruned the recipients are known still.
    of_pruned = select(Recipient.visitor).where(
        Recipient.pixel_number == pixel_number,
        Recipient.first_opened_at < from_milliseconds(id >> HIT_ID_SHIFT),
    )
    found = [
        np.fromiter(db.session.scalars(statement), np.int64) for statement in (of_hits, of_pruned)
    ]
    return np.unique(np.concatenate(found))
