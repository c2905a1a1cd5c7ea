"""`POST /api/send`: a hit without an image, in the shape that Umami's clients send.

Bots are stored as bots, and never sent away.
"""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlsplit

from flask import current_app, request
from itsdangerous import URLSafeSerializer

from core import errors
from core.clock import now
from core.errors import NotFound
from hits.intake import (
    TOKEN,
    Fetch,
    Intake,
    has_prefetch_header,
    kept_query,
    parameters_of,
    unescaped,
)
from hits.recorder import PixelName, Stored, Unstored
from models import HIT_ID_SHIFT
from schemas import Send, SendOut
from web.api.blueprint import JsonBlueprint
from web.request import address, links

MS_PER_HOUR = 3_600_000

blueprint = JsonBlueprint("send", __name__, url_prefix="/api", description="Hits without an image")


@blueprint.post("/send", operation_id="send", raises=(NotFound,))
@blueprint.arguments(Send)
@blueprint.response(200, SendOut)
def send_hit(given: dict[str, Any]) -> dict[str, Any]:
    """Store a hit of a pixel without an image. Once answered, it is committed."""
    payload = given["payload"]
    intake: Intake = current_app.extensions["intake"]
    try:
        stored = intake.take(PixelName(id=payload["pixel"]), _seen(payload), now())
    except Unstored:
        raise errors.Unavailable from None
    if stored is None:
        raise errors.NotFound("Pixel not found.")
    session_id, visit_id = _ids(payload["pixel"], stored)
    shown = {"sessionId": str(session_id), "visitId": str(visit_id)}
    signer = URLSafeSerializer(current_app.config["SECRET_KEYS"], salt="send")
    return {"cache": signer.dumps(shown), **shown}


def _seen(payload: dict[str, Any]) -> Fetch:
    query = _query(payload["url"])
    token = parameters_of(query).get(TOKEN, "")
    # The URL is any page's, where `s` may mean anything; a link of ours names whom it was sent to.
    is_ours = links().read(payload["pixel"], token) is not None
    return Fetch(
        address=address(),
        user_agent=payload["userAgent"] or request.headers.get("User-Agent", ""),
        languages=payload["language"] or request.headers.get("Accept-Language", ""),
        host=payload["hostname"],
        referrer=payload["referrer"],
        query=kept_query(query) if is_ours else query,
        token=token if is_ours else None,
        recipient=payload["id"],
        prefetch_header=has_prefetch_header(request.environ),
        opted_out="1" in (request.headers.get("DNT"), request.headers.get("Sec-GPC")),
    )


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
    hour = (stored.id >> HIT_ID_SHIFT) // MS_PER_HOUR
    return session_id, uuid.uuid5(session_id, str(hour))
