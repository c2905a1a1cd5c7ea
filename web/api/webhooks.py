"""The JSON routes of webhooks: who is told of hits, and what came of it."""

from __future__ import annotations

import uuid
from typing import Any

import auth
from core.errors import BadRequest, Forbidden, NotFound
from core.lists import Page
from models import Webhook
from pixels import webhooks
from schemas import (
    DeliveriesOut,
    DeliveryOut,
    Ok,
    WebhookCreate,
    WebhookCreated,
    WebhookListArgs,
    WebhookOut,
    WebhookPage,
    WebhookUpdate,
)
from web import webhook_access
from web.api.blueprint import JsonBlueprint

blueprint = JsonBlueprint("webhooks", __name__, url_prefix="/api", description="Webhooks")


@blueprint.get("/webhooks", operation_id="getWebhooks")
@auth.required
@blueprint.arguments(WebhookListArgs, location="query")
@blueprint.response(200, WebhookPage)
def list_webhooks(arguments: dict[str, Any]) -> Page[Webhook]:
    """Return a page of the caller's webhooks, their teams' included."""
    return webhook_access.listing(
        auth.caller(), arguments["list"], pixel_id=arguments["pixelId"], team_id=arguments["teamId"]
    )


@blueprint.post("/webhooks", operation_id="createWebhook", raises=(Forbidden, NotFound))
@auth.required
@blueprint.arguments(WebhookCreate)
@blueprint.response(200, WebhookCreated)
def create_webhook(body: dict[str, Any]) -> dict[str, Any]:
    """Be told of hits from now on. This answer is the only one that holds the secret.

    Deliveries are signed as Standard Webhooks has it. The URL must lead to public addresses.
    """
    made, secret = webhook_access.create(
        auth.caller(),
        body["url"],
        body["events"],
        pixel_id=body["pixelId"],
        team_id=body["teamId"],
    )
    columns = ("id", "url", "pixel_id", "user_id", "team_id", "events", "status", "problem")
    shape = {column: getattr(made, column) for column in (*columns, "created_at")}
    return {**shape, "secret": secret}


@blueprint.get(
    "/webhooks/<uuid:webhook_id>", operation_id="getWebhook", raises=(Forbidden, NotFound)
)
@auth.required
@blueprint.response(200, WebhookOut)
def read_webhook(webhook_id: uuid.UUID) -> Webhook:
    """Return a webhook, without its secret."""
    return webhook_access.find(auth.caller(), webhook_id)


@blueprint.post("/webhooks/<uuid:webhook_id>", raises=(Forbidden, NotFound))
@auth.required
@blueprint.arguments(WebhookUpdate)
@blueprint.response(200, WebhookOut)
def update_webhook(body: dict[str, Any], webhook_id: uuid.UUID) -> Webhook:
    """Change a webhook's URL, events or status; what is left out stays."""
    return webhook_access.change(webhook_access.find(auth.caller(), webhook_id), **body)


@blueprint.delete("/webhooks/<uuid:webhook_id>", raises=(Forbidden, NotFound))
@auth.required
@blueprint.response(200, Ok)
def delete_webhook(webhook_id: uuid.UUID) -> dict[str, bool]:
    """End a webhook; what it has not been told yet it won't be."""
    webhooks.remove(webhook_access.find(auth.caller(), webhook_id))
    return {"ok": True}


@blueprint.post("/webhooks/<uuid:webhook_id>/test", raises=(BadRequest, Forbidden, NotFound))
@auth.required
@blueprint.response(200, DeliveryOut)
def test_webhook(webhook_id: uuid.UUID) -> dict[str, Any]:
    """Send an event of type `pixel.test`, once and now, and return what came of it."""
    return webhook_access.test(webhook_access.find(auth.caller(), webhook_id))


@blueprint.get(
    "/webhooks/<uuid:webhook_id>/deliveries",
    operation_id="getWebhookDeliveries",
    raises=(Forbidden, NotFound),
)
@auth.required
@blueprint.response(200, DeliveriesOut)
def list_deliveries(webhook_id: uuid.UUID) -> dict[str, Any]:
    """Return the newest hundred attempts to deliver, the newest first."""
    return {"data": webhook_access.find(auth.caller(), webhook_id).log[::-1]}
