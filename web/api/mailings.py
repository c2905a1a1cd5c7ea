"""The JSON routes of mailings: how one did, and several side by side."""

from __future__ import annotations

import uuid
from typing import Any

import auth
from core.errors import Forbidden, NotFound
from core.permissions import Action
from models import Pixel
from pixels import mailings
from schemas import Mailings, MailingsArgs, MailingWithHours
from web.api.blueprint import JsonBlueprint

blueprint = JsonBlueprint("mailings", __name__, url_prefix="/api", description="Mailings")


@blueprint.get("/pixels/<uuid:pixel_id>/mailing", raises=(NotFound,))
@auth.required_or_shared
@blueprint.response(200, MailingWithHours)
def read_mailing(pixel_id: uuid.UUID) -> dict[str, Any]:
    """Return how a pixel's mailing did, with its first week by hours."""
    pixel = auth.pixel_to_read(pixel_id)
    return {**mailings.of_pixel(pixel)._asdict(), "hours": mailings.hours_of(pixel)}


@blueprint.get("/pixels/mailings")
@auth.required
@blueprint.arguments(MailingsArgs, location="query")
@blueprint.response(200, Mailings)
def read_mailings(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return how the mailings of those pixels did that the caller may read."""
    found = [pixel for pixel_id in arguments["ids"] if (pixel := _readable(pixel_id))]
    return {"data": mailings.of_pixels(found)}


def _readable(pixel_id: uuid.UUID) -> Pixel | None:
    try:
        return auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
    except (NotFound, Forbidden):
        return None
