"""The JSON routes of webhooks: who is told of hits, and what came of it."""

from __future__ import annotations

import uuid
from typing import Any

from flask import current_app
from sqlalchemy import ColumnElement, select

import auth
from auth import Caller
from core.database import Page
from core.errors import BadRequest, Forbidden, KeyScope, NotFound
from core.permissions import TEAM_ROLE_ACTIONS, Action
from models import TeamUser, Webhook
from pixels import webhooks
from pixels.webhook_delivery import send_test
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
from web.api.blueprint import JsonBlueprint

NO_SUCH_WEBHOOK = "No such webhook."

blueprint = JsonBlueprint("webhooks", __name__, url_prefix="/api", description="Webhooks")


@blueprint.get("/webhooks", operation_id="getWebhooks")
@auth.required
@blueprint.arguments(WebhookListArgs, location="query")
@blueprint.response(200, WebhookPage)
def list_webhooks(given: dict[str, Any]) -> Page[Webhook]:
    """Return a page of the caller's webhooks, their teams' included."""
    condition = _visible_to(auth.caller())
    for column, value in ((Webhook.pixel_id, given["pixelId"]), (Webhook.team_id, given["teamId"])):
        if value is not None:
            condition &= column == value
    return webhooks.listing(condition, given["page"], given["pageSize"])


@blueprint.post("/webhooks", operation_id="createWebhook", raises=(Forbidden, NotFound))
@auth.required
@blueprint.arguments(WebhookCreate)
@blueprint.response(200, WebhookCreated)
def create_webhook(given: dict[str, Any]) -> dict[str, Any]:
    """Be told of hits from now on. This answer is the only one that holds the secret.

    Deliveries are signed as Standard Webhooks has it. The URL must lead to public addresses.
    """
    user_id, team_id = _owner(auth.caller(), given["pixelId"], given["teamId"])
    made, secret = webhooks.create(
        user_id=user_id,
        team_id=team_id,
        pixel_id=given["pixelId"],
        url=given["url"],
        events=given["events"],
        secret_keys=current_app.config["SECRET_KEYS"],
        private_allowed=_private_allowed(),
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
    return _webhook_for(auth.caller(), webhook_id)


@blueprint.post("/webhooks/<uuid:webhook_id>", raises=(Forbidden, NotFound))
@auth.required
@blueprint.arguments(WebhookUpdate)
@blueprint.response(200, WebhookOut)
def update_webhook(given: dict[str, Any], webhook_id: uuid.UUID) -> Webhook:
    """Change a webhook's URL, events or status; what is left out stays."""
    webhook = _webhook_for(auth.caller(), webhook_id)
    if "url" in given:
        webhooks.require_url(given["url"], private_allowed=_private_allowed())
    return webhooks.change(webhook, given)


@blueprint.delete("/webhooks/<uuid:webhook_id>", raises=(Forbidden, NotFound))
@auth.required
@blueprint.response(200, Ok)
def delete_webhook(webhook_id: uuid.UUID) -> dict[str, bool]:
    """End a webhook; what it has not been told yet it won't be."""
    webhooks.remove(_webhook_for(auth.caller(), webhook_id))
    return {"ok": True}


@blueprint.post("/webhooks/<uuid:webhook_id>/test", raises=(BadRequest, Forbidden, NotFound))
@auth.required
@blueprint.response(200, DeliveryOut)
def test_webhook(webhook_id: uuid.UUID) -> dict[str, Any]:
    """Send an event of type `pixel.test`, once and now, and return what came of it."""
    webhook = _webhook_for(auth.caller(), webhook_id)
    secret = webhooks.secret_of(webhook, current_app.config["SECRET_KEYS"])
    if secret is None:
        raise BadRequest("The webhook's key is gone from the server: make the webhook anew.")
    return send_test(webhook, secret, private_allowed=_private_allowed())


@blueprint.get(
    "/webhooks/<uuid:webhook_id>/deliveries",
    operation_id="getWebhookDeliveries",
    raises=(Forbidden, NotFound),
)
@auth.required
@blueprint.response(200, DeliveriesOut)
def list_deliveries(webhook_id: uuid.UUID) -> dict[str, Any]:
    """Return the newest hundred tries to deliver, the newest first."""
    return {"data": _webhook_for(auth.caller(), webhook_id).log[::-1]}


def _owner(
    caller: Caller, pixel_id: uuid.UUID | None, team_id: uuid.UUID | None
) -> tuple[uuid.UUID | None, uuid.UUID | None]:
    """Return the user or the team that a new webhook is for, if the caller may make it."""
    if pixel_id is not None:
        pixel = auth.pixel_for(caller, pixel_id, Action.CHANGE_PIXEL)
        if team_id not in (None, pixel.team_id):
            problem = "The pixel is not the team's."
            raise BadRequest(f"teamId: {problem}", {"teamId": [problem]})
        return pixel.user_id, pixel.team_id
    if team_id is not None:
        return None, auth.team_for(caller, team_id, Action.CHANGE_PIXEL).id
    caller.require_within(None, None)
    caller.require(Action.CHANGE_PIXEL)
    return caller.user.id, None


def _webhook_for(caller: Caller, webhook_id: uuid.UUID) -> Webhook:
    """Return the webhook if the caller may change the pixels that it is about.

    Its URL may be a secret of its own, so that reading it takes as much as changing it.

    Raises: NotFound, Forbidden, KeyScope.
    """
    webhook = webhooks.find(webhook_id)
    if webhook.team_id is not None:
        try:
            auth.team_for(caller, webhook.team_id, Action.CHANGE_PIXEL)
        except NotFound:
            raise NotFound(NO_SUCH_WEBHOOK) from None
        except KeyScope:
            # A key of one of the team's pixels is looked at below.
            caller.require_within(webhook.pixel_id, webhook.team_id)
        return webhook
    if webhook.user_id != caller.user.id and not caller.is_admin:
        raise NotFound(NO_SUCH_WEBHOOK)
    caller.require(Action.CHANGE_PIXEL)
    caller.require_within(webhook.pixel_id, None)
    return webhook


def _visible_to(caller: Caller) -> ColumnElement[bool]:
    able = [role for role, actions in TEAM_ROLE_ACTIONS.items() if Action.CHANGE_PIXEL in actions]
    teams = select(TeamUser.team_id).where(
        TeamUser.user_id == caller.user.id, TeamUser.role.in_(able)
    )
    found = (Webhook.user_id == caller.user.id) | Webhook.team_id.in_(teams)
    if caller.key is not None and caller.key.pixel_id is not None:
        found &= Webhook.pixel_id == caller.key.pixel_id
    if caller.key is not None and caller.key.team_id is not None:
        found &= Webhook.team_id == caller.key.team_id
    return found


def _private_allowed() -> bool:
    allowed: bool = current_app.config["SETTINGS"].webhook_private
    return allowed
