"""Whose webhooks a caller may see and change, and what a request does to one of them.

The JSON routes and the pages both ask here, so that neither lets in whom the other refuses.
"""

from __future__ import annotations

import uuid
from typing import Any

from flask import current_app
from sqlalchemy import ColumnElement, select

import auth
from auth import Caller
from core.errors import BadRequest, KeyScope, NotFound
from core.permissions import TEAM_ROLE_ACTIONS, Action
from models import TeamUser, Webhook
from pixels import webhook_delivery, webhooks

NO_SUCH_WEBHOOK = "No such webhook."


def find(caller: Caller, webhook_id: uuid.UUID) -> Webhook:
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


def visible_to(caller: Caller) -> ColumnElement[bool]:
    """Return the condition for the caller's webhooks, their teams' included."""
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


def create(caller: Caller, given: dict[str, Any]) -> tuple[Webhook, str]:
    """Store a new webhook, shaped as `WebhookCreate`; the second value is its secret.

    Raises: NotFound, Forbidden, KeyScope; BadRequest as of `webhooks.create`.
    """
    user_id, team_id = _owner(caller, given["pixelId"], given["teamId"])
    return webhooks.create(
        user_id=user_id,
        team_id=team_id,
        pixel_id=given["pixelId"],
        url=given["url"],
        events=given["events"],
        secret_keys=current_app.config["SECRET_KEYS"],
        private_allowed=_private_allowed(),
    )


def change(webhook: Webhook, given: dict[str, Any]) -> Webhook:
    """Give a webhook what `WebhookUpdate` holds.

    Raises: BadRequest for a URL that leads to no public address.
    """
    if "url" in given:
        webhooks.require_url(given["url"], private_allowed=_private_allowed())
    return webhooks.change(webhook, given)


def test(webhook: Webhook) -> dict[str, Any]:
    """Send an event of type `pixel.test`, once and now, and return what came of it.

    Raises: BadRequest if the key that its secret was made with is gone.
    """
    secret = webhooks.secret_of(webhook, current_app.config["SECRET_KEYS"])
    if secret is None:
        raise BadRequest("The webhook's key is gone from the server: make the webhook anew.")
    return webhook_delivery.send_test(webhook, secret, private_allowed=_private_allowed())


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


def _private_allowed() -> bool:
    allowed: bool = current_app.config["SETTINGS"].webhook_private
    return allowed
