"""The JSON routes of a pixel's recipients: links signed for them, and who has opened."""

from __future__ import annotations

import uuid
from typing import Any

import auth
from core.database import Page
from core.errors import Forbidden, NotFound
from core.permissions import Action
from models import Recipient
from pixels import recipients
from schemas import RecipientLinks, RecipientListArgs, RecipientPage, RecipientsIssue
from web.api.blueprint import JsonBlueprint
from web.api.json_body import body_up_to
from web.request import links, public_base

# Ten thousand recipients of 400 bytes each.
BODY_BYTES_MAX = 4 * 1024 * 1024

blueprint = JsonBlueprint(
    "recipients", __name__, url_prefix="/api", description="Whom a pixel was sent to"
)


@blueprint.post(
    "/pixels/<uuid:pixel_id>/recipients",
    operation_id="createPixelRecipients",
    raises=(Forbidden, NotFound),
)
@auth.required
@body_up_to(BODY_BYTES_MAX)
@blueprint.arguments(RecipientsIssue)
@blueprint.response(200, RecipientLinks)
def issue_links(given: dict[str, Any], pixel_id: uuid.UUID) -> dict[str, Any]:
    """Sign a link for each recipient; those named twice have one. An anonymous pixel has none."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.CHANGE_PIXEL)
    issued = recipients.issue(links(), pixel, given["recipients"], given["sentAt"], public_base())
    return {"data": issued}


@blueprint.get(
    "/pixels/<uuid:pixel_id>/recipients", operation_id="getPixelRecipients", raises=(NotFound,)
)
@auth.required
@blueprint.arguments(RecipientListArgs, location="query")
@blueprint.response(200, RecipientPage)
def list_recipients(given: dict[str, Any], pixel_id: uuid.UUID) -> Page[Recipient]:
    """Return a page of a pixel's recipients with their hits."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
    return recipients.listing(
        pixel,
        search=given["search"],
        order_by=given["orderBy"],
        descending=given["sortDescending"],
        page=given["page"],
        page_size=given["pageSize"],
    )
