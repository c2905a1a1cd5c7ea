"""The JSON routes of pixels: create, list, read, update, delete, embed."""

from __future__ import annotations

import uuid
from typing import Any

import auth
from core.errors import Forbidden, IdTaken, NotFound, SlugTaken
from core.lists import Page
from core.permissions import Action
from models import Owner, Pixel
from pixels import pixels, recipients
from schemas import (
    EmbedArgs,
    EmbedOut,
    Ok,
    PixelChange,
    PixelCreate,
    PixelCreated,
    PixelListArgs,
    PixelOut,
    PixelPage,
)
from web.api.blueprint import JsonBlueprint
from web.request import links, public_base

blueprint = JsonBlueprint("pixels", __name__, url_prefix="/api", description="Tracking pixels")


@blueprint.post("/pixels", raises=(Forbidden, NotFound, SlugTaken, IdTaken))
@auth.required
@blueprint.arguments(PixelCreate)
@blueprint.response(200, PixelCreated)
def create_pixel(body: dict[str, Any]) -> Pixel:
    """Create a pixel for the caller, or for one of their teams."""
    owner = auth.first_owner(auth.caller(), body["teamId"])
    return pixels.create(body["name"], body["slug"], owner, body["id"])


@blueprint.get("/pixels", operation_id="getPixels")
@auth.required
@blueprint.arguments(PixelListArgs, location="query")
@blueprint.response(200, PixelPage)
def list_pixels(arguments: dict[str, Any]) -> Page[Pixel]:
    """Return a page of the caller's own pixels."""
    return pixels.listing([Owner(user_id=auth.caller().user.id)], arguments["list"])


@blueprint.get("/teams/<uuid:team_id>/pixels", operation_id="getTeamPixels", raises=(NotFound,))
@auth.required
@blueprint.arguments(PixelListArgs, location="query")
@blueprint.response(200, PixelPage)
def list_team_pixels(arguments: dict[str, Any], team_id: uuid.UUID) -> Page[Pixel]:
    """Return a page of a team's pixels."""
    auth.team_for(auth.caller(), team_id, Action.READ_PIXEL)
    return pixels.listing([Owner(team_id=team_id)], arguments["list"])


@blueprint.get("/pixels/<uuid:pixel_id>", operation_id="getPixel", raises=(NotFound,))
@auth.required_or_shared
@blueprint.response(200, PixelOut)
def read_pixel(pixel_id: uuid.UUID) -> Pixel:
    """Return a pixel. A share's token reads the pixel that it is of."""
    return auth.pixel_to_read(pixel_id)


@blueprint.post("/pixels/<uuid:pixel_id>", raises=(Forbidden, NotFound, SlugTaken))
@auth.required
@blueprint.arguments(PixelChange)
@blueprint.response(200, PixelOut)
def update_pixel(body: dict[str, Any], pixel_id: uuid.UUID) -> Pixel:
    """Change a pixel, or move it to a user or a team; what is left out stays."""
    caller = auth.caller()
    pixel = auth.pixel_for(caller, pixel_id, Action.CHANGE_PIXEL)
    user_id, team_id = body.pop("userId"), body.pop("teamId")
    owner = auth.next_owner(caller, pixel, user_id, team_id)
    return pixels.change(pixel, owner, **body)


@blueprint.delete("/pixels/<uuid:pixel_id>", raises=(Forbidden, NotFound))
@auth.required
@blueprint.response(200, Ok)
def delete_pixel(pixel_id: uuid.UUID) -> dict[str, bool]:
    """Remove a pixel and its hits."""
    pixels.remove(auth.pixel_for(auth.caller(), pixel_id, Action.CHANGE_PIXEL))
    return {"ok": True}


@blueprint.get(
    "/pixels/<uuid:pixel_id>/embed", operation_id="getPixelEmbed", raises=(Forbidden, NotFound)
)
@auth.required
@blueprint.arguments(EmbedArgs, location="query")
@blueprint.response(200, EmbedOut)
def embed_pixel(arguments: dict[str, Any], pixel_id: uuid.UUID) -> recipients.Link:
    """Return the URL and the HTML to embed, signed for a recipient if the query names one.

    To sign takes the right to change the pixel, and a pixel that isn't anonymous. The recipient
    is issued to, as by the POST of recipients.
    """
    action = Action.CHANGE_PIXEL if arguments["recipient"] else Action.READ_PIXEL
    pixel = auth.pixel_for(auth.caller(), pixel_id, action)
    given_to = arguments["recipient"], arguments["sentAt"]
    return recipients.embed(links(), pixel, *given_to, public_base())
