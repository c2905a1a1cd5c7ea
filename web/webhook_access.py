"""Whose webhooks a caller may see and change, and what a request does to one of them.

The JSON routes and the pages both ask here, so that neither lets in whom the other refuses.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from flask import current_app

import auth
from auth import Caller
from core.errors import BadRequest, KeyScope, NotFound
from core.lists import ListQuery, Page
from core.permissions import Action
from models import Owner, Webhook
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


def listing(
    caller: Caller,
    query: ListQuery,
    *,
    pixel_id: uuid.UUID | None = None,
    team_id: uuid.UUID | None = None,
) -> Page[Webhook]:
    """Return a page of the caller's webhooks, their teams' included, or of a pixel's, a team's."""
    of_teams = auth.team_ids_for(caller.user, Action.CHANGE_PIXEL)
    owners = [
        Owner(user_id=caller.user.id),
        *(Owner(team_id=own_team_id) for own_team_id in of_teams),
    ]
    asked = webhooks.About(pixel_id, team_id)
    key = caller.key
    within = webhooks.About(key.pixel_id, key.team_id) if key else webhooks.About()
    return webhooks.listing(owners, query, asked, within)


def create(
    caller: Caller,
    url: str,
    events: Sequence[str],
    *,
    pixel_id: uuid.UUID | None = None,
    team_id: uuid.UUID | None = None,
) -> tuple[Webhook, str]:
    """Store a webhook of a pixel, a team's pixels, or the caller's; the second value is its secret.

    Raises: NotFound, Forbidden, KeyScope; BadRequest as of `webhooks.create`.
    """
    return webhooks.create(
        _owner(caller, pixel_id, team_id),
        pixel_id=pixel_id,
        url=url,
        events=events,
        secret_keys=current_app.config["SECRET_KEYS"],
        private_allowed=_private_allowed(),
    )


def change(
    webhook: Webhook,
    *,
    url: str | None = None,
    events: Sequence[str] | None = None,
    status: str | None = None,
) -> Webhook:
    """Give a webhook another URL, other events or another status; what is None stays.

    Raises: BadRequest for a URL that leads to no public address.
    """
    if url is not None:
        webhooks.require_url(url, private_allowed=_private_allowed())
    return webhooks.change(webhook, url=url, events=events, status=status)


def test(webhook: Webhook) -> dict[str, Any]:
    """Send an event of type `pixel.test`, once and now, and return what came of it.

    Raises: BadRequest as `webhook_delivery.send_test` does.
    """
    return webhook_delivery.send_test(
        webhook, current_app.config["SECRET_KEYS"], private_allowed=_private_allowed()
    )


def _owner(caller: Caller, pixel_id: uuid.UUID | None, team_id: uuid.UUID | None) -> Owner:
    """Return whom a new webhook is for, if the caller may make it."""
    if pixel_id is not None:
        pixel = auth.pixel_for(caller, pixel_id, Action.CHANGE_PIXEL)
        if team_id not in (None, pixel.team_id):
            problem = "The pixel is not the team's."
            raise BadRequest(f"teamId: {problem}", {"teamId": [problem]})
        return Owner(pixel.user_id, pixel.team_id)
    if team_id is not None:
        return Owner(team_id=auth.team_for(caller, team_id, Action.CHANGE_PIXEL).id)
    caller.require_within(None, None)
    caller.require(Action.CHANGE_PIXEL)
    return Owner(user_id=caller.user.id)


def _private_allowed() -> bool:
    allowed: bool = current_app.config["SETTINGS"].webhook_private
    return allowed
