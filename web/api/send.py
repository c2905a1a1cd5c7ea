"""`POST /api/send` and `/api/batch`: hits without an image, in the shape that Umami's clients send.

Bots are stored as bots, and never sent away. Scripts of any site may send here (CORS), without
credentials; a caller who may change the pixel is believed about when and from where a hit came.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from flask import Response, current_app, request
from itsdangerous import URLSafeSerializer
from marshmallow import ValidationError

import auth
from core import errors
from core.clock import now_ms
from core.errors import BadRequest, DomainError, NotFound, PayloadTooLarge, UnsupportedMediaType
from core.permissions import Action
from hits.intake import (
    TOKEN,
    Fetch,
    Intake,
    header_signals,
    kept_query,
    parameters_of,
    unescaped,
)
from hits.pixel_names import PixelName
from hits.recorder import Stored, Unstored
from schemas import BatchOut, Believed, Send, SendOut
from stats.days import MS_PER_HOUR
from web.api.blueprint import JsonBlueprint, bad_request
from web.api.json_body import json_array
from web.errors import body
from web.request import address, links

STORED_TYPE = "event"
CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, x-umami-cache, *",
    "Access-Control-Max-Age": "86400",
}

# Whatever else is in a batch is answered too, and told of in `details`.
BATCH_ITEM = {"anyOf": [Send, {"description": "Anything else is refused by itself."}]}

SendAnswer = dict[str, Any]

blueprint = JsonBlueprint("send", __name__, url_prefix="/api", description="Hits without an image")


@blueprint.post("/send", operation_id="send", raises=(NotFound,))
@blueprint.arguments(Send)
@blueprint.response(200, SendOut)
def send_hit(envelope: dict[str, Any]) -> SendAnswer:
    """Store a hit of a pixel without an image. Once answered, it is committed.

    The types `identify` and `performance` are answered too, and store nothing.
    """
    return _enqueue(envelope, auth.caller_if_any())()


@blueprint.post(
    "/batch",
    operation_id="batch",
    raises=(BadRequest, PayloadTooLarge, UnsupportedMediaType),
)
@blueprint.doc(
    requestBody={
        "required": True,
        "content": {"application/json": {"schema": {"type": "array", "items": BATCH_ITEM}}},
    }
)
@blueprint.response(200, BatchOut)
def send_hits() -> dict[str, Any]:
    """Store several hits, each as `/api/send` does; what is wrong with one stops no other."""
    items, caller = json_array(request), auth.caller_if_any()
    # All are begun before any is waited for, so that they are one commit, or few.
    begun = [_attempt(partial(_enqueue_item, item, caller)) for item in items]
    found = [_attempt(started) if callable(started) else started for started in begun]
    details = [
        {
            "index": index,
            "response": body(outcome.status, outcome.code, outcome.message, outcome.errors),
        }
        for index, outcome in enumerate(found)
        if isinstance(outcome, DomainError)
    ]
    caches = (outcome["cache"] for outcome in found if not isinstance(outcome, DomainError))
    return {
        "size": len(items),
        "processed": len(items) - len(details),
        "errors": len(details),
        "details": details,
        "cache": next(caches, None),
    }


@blueprint.after_request
def _allow_any_origin(response: Response) -> Response:
    response.headers.update(CORS_HEADERS)
    return response


def _attempt(step: Callable[[], Any]) -> Any:
    """Return what a step returns, or the domain's error that it raises."""
    try:
        return step()
    except DomainError as error:
        return error


def _enqueue_item(item: Any, caller: auth.Caller | None) -> Callable[[], SendAnswer]:
    try:
        envelope = Send().load(item)
    except ValidationError as error:
        raise bad_request(error.messages) from None
    return _enqueue(envelope, caller)


def _enqueue(envelope: dict[str, Any], caller: auth.Caller | None) -> Callable[[], SendAnswer]:
    """Put a hit into the queue; return what waits for its commit and answers.

    Raises: NotFound, BadRequest, Unavailable; what is returned raises the first and the last.
    """
    payload = envelope["payload"]
    name = PixelName(id=payload["pixel"])
    intake: Intake = current_app.extensions["intake"]
    believed = _believed(caller, payload)
    try:
        if envelope["type"] != STORED_TYPE:
            if not intake.knows(name):
                raise NotFound("Pixel not found.")
            return partial(_answer, uuid.uuid4(), uuid.uuid4())
        wait = intake.enqueue(name, _fetch_of(payload, believed))
    except Unstored:
        raise errors.Unavailable from None
    return partial(_wait, payload["pixel"], wait)


def _wait(pixel_id: uuid.UUID, wait: Callable[[], Stored | None]) -> SendAnswer:
    try:
        stored = wait()
    except Unstored:
        raise errors.Unavailable from None
    if stored is None:
        raise NotFound("Pixel not found.")
    return _answer(*_ids(pixel_id, stored))


def _answer(session_id: uuid.UUID, visit_id: uuid.UUID) -> SendAnswer:
    shown = {"sessionId": str(session_id), "visitId": str(visit_id)}
    signer = URLSafeSerializer(current_app.config["SECRET_KEYS"], salt="send")
    return {"cache": signer.dumps(shown), **shown}


def _believed(caller: auth.Caller | None, payload: dict[str, Any]) -> dict[str, Any]:
    """Return what a payload says of when and from where a hit came, if the caller may say so.

    Raises: BadRequest if they may and it can't be read.
    """
    said = {name: payload[name] for name in Believed().fields if payload[name] not in (None, "")}
    if not (said and caller and _may_change(caller, payload["pixel"])):
        said = {}
    try:
        believed: dict[str, Any] = Believed().load(said)
        return believed
    except ValidationError as error:
        raise bad_request({"payload": error.messages}) from None


def _may_change(caller: auth.Caller, pixel_id: uuid.UUID) -> bool:
    try:
        auth.pixel_for(caller, pixel_id, Action.CHANGE_PIXEL)
    except DomainError:
        return False
    return True


def _fetch_of(payload: dict[str, Any], believed: dict[str, Any]) -> Fetch:
    query = _query(payload["url"])
    token = parameters_of(query).get(TOKEN, "")
    # The URL is any page's, where `s` may mean anything; a link of ours names whom it was sent to.
    is_ours = links().read(payload["pixel"], token) is not None
    return Fetch(
        address=str(believed["ip"] or address()),
        user_agent=payload["userAgent"] or request.headers.get("User-Agent", ""),
        languages=payload["language"] or request.headers.get("Accept-Language", ""),
        host=payload["hostname"],
        referrer=payload["referrer"],
        query=kept_query(query) if is_ours else query,
        token=token if is_ours else None,
        recipient=payload["id"],
        header_signals=header_signals(request.environ),
        opted_out="1" in (request.headers.get("DNT"), request.headers.get("Sec-GPC")),
        at_ms=_said_at_ms(believed["timestamp"]),
    )


def _said_at_ms(seconds: int | None) -> int | None:
    """Return when a hit was by its payload; what is yet to come is now."""
    if seconds is None:
        return None
    return min(seconds * 1000, now_ms())


def _query(url: str) -> str:
    try:
        return unescaped(urlsplit(url).query)
    except ValueError:
        return ""


def _ids(pixel_id: uuid.UUID, stored: Stored) -> tuple[uuid.UUID, uuid.UUID]:
    """Return the visitor's id, and that of their visit: a clock hour."""
    if stored.visitor is None:
        return uuid.uuid4(), uuid.uuid4()
    session_id = uuid.uuid5(pixel_id, str(stored.visitor))
    hour = stored.at_ms // MS_PER_HOUR
    return session_id, uuid.uuid5(session_id, str(hour))
