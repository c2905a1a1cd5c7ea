"""The JSON routes of shares: read-only links to a pixel's statistics."""

from __future__ import annotations

import uuid
from typing import Any

import auth
from core.errors import Forbidden, NotFound, SlugTaken
from core.lists import Page
from core.permissions import Action
from models import Share
from pixels import shares
from schemas import (
    Ok,
    PageArgs,
    ShareCreate,
    SharedOut,
    ShareOfEntity,
    ShareOut,
    SharePage,
    ShareUpdate,
)
from web.api.blueprint import JsonBlueprint

blueprint = JsonBlueprint("shares", __name__, url_prefix="/api", description="Shared statistics")


@blueprint.get("/pixels/<uuid:pixel_id>/shares", operation_id="getPixelShares", raises=(NotFound,))
@auth.required
@blueprint.arguments(PageArgs, location="query")
@blueprint.response(200, SharePage)
def list_shares(arguments: dict[str, Any], pixel_id: uuid.UUID) -> Page[Share]:
    """Return a page of a pixel's shares."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
    return shares.listing(pixel, arguments["list"])


@blueprint.post(
    "/pixels/<uuid:pixel_id>/shares", operation_id="createPixelShare", raises=(Forbidden, NotFound)
)
@auth.required
@blueprint.arguments(ShareCreate)
@blueprint.response(200, ShareOut)
def create_share(body: dict[str, Any], pixel_id: uuid.UUID) -> Share:
    """Share a pixel's statistics."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.CHANGE_PIXEL)
    return shares.create(pixel, body["name"], body["parameters"])


@blueprint.post("/share", operation_id="createShare", raises=(Forbidden, NotFound, SlugTaken))
@auth.required
@blueprint.arguments(ShareOfEntity)
@blueprint.response(200, ShareOut)
def create_share_of_entity(body: dict[str, Any]) -> Share:
    """Share the pixel that `entityId` names, as Umami's clients ask for it."""
    pixel = auth.pixel_for(auth.caller(), body["entityId"], Action.CHANGE_PIXEL)
    return shares.create(pixel, body["name"], body["parameters"], body.get("slug"))


@blueprint.get("/share/<slug>", operation_id="getShareBySlug", raises=(NotFound,))
@blueprint.response(200, SharedOut)
def open_share(slug: str) -> dict[str, Any]:
    """Open a share's link: answers the token that reads it.

    The token goes into `x-umami-share-token`, beside `x-umami-share-context: 1`.
    """
    share = shares.find_by_slug(slug)
    return {
        "id": share.id,
        "pixel": share.pixel,
        "parameters": share.parameters,
        "token": auth.issue_share_token(share),
    }


@blueprint.get("/share/id/<uuid:share_id>", operation_id="getShare", raises=(NotFound,))
@auth.required
@blueprint.response(200, ShareOut)
def read_share(share_id: uuid.UUID) -> Share:
    """Return a share."""
    return _share_for(share_id, Action.READ_PIXEL)


@blueprint.post("/share/id/<uuid:share_id>", raises=(Forbidden, NotFound, SlugTaken))
@auth.required
@blueprint.arguments(ShareUpdate)
@blueprint.response(200, ShareOut)
def update_share(body: dict[str, Any], share_id: uuid.UUID) -> Share:
    """Change a share's name, slug or parameters; what is left out stays."""
    return shares.change(_share_for(share_id, Action.CHANGE_PIXEL), **body)


@blueprint.delete("/share/id/<uuid:share_id>", raises=(Forbidden, NotFound))
@auth.required
@blueprint.response(200, Ok)
def delete_share(share_id: uuid.UUID) -> dict[str, bool]:
    """End a share and every token it gave."""
    shares.remove(_share_for(share_id, Action.CHANGE_PIXEL))
    return {"ok": True}


def _share_for(share_id: uuid.UUID, action: Action) -> Share:
    """Return the share if the caller may do `action` to its pixel."""
    share = shares.find(share_id)
    try:
        auth.pixel_for(auth.caller(), share.pixel.id, action)
    except NotFound:
        raise NotFound(shares.NO_SUCH_SHARE) from None
    return share
