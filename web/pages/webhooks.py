"""The pages of webhooks: which programs are told of hits, and what came of it."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, NamedTuple

from flask import flash, render_template, request, url_for
from werkzeug.wrappers import Response

import auth
from core.errors import BadRequest
from core.lists import ListQuery, Page
from core.permissions import Action
from models import Owner, Pixel, Webhook
from pixels import webhooks
from schemas import WebhookCreate, WebhookUpdate
from web import webhook_access
from web.pages import base, reach, wording
from web.pages.base import Pages, Rendered, back_to
from web.pages.formats import NARROW, number
from web.pages.forms import Asking, Form, ask

blueprint = Pages("webhooks_page", __name__)


class Delivery(NamedTuple):
    """An attempt to deliver an event, as the log tells it."""

    at: datetime
    kind: str
    is_delivered: bool
    answer: str


@blueprint.get("/webhooks")
def show_webhooks() -> str:
    """GET: a page of the caller's webhooks, or of one pixel's. 200; 403; 404."""
    return _webhooks()


@blueprint.post("/webhooks")
def create() -> Rendered:
    """POST: make a webhook, whose secret is only in the answer. 200; 400; 403; 404."""
    form = Form(WebhookCreate)
    if "events" in form.errors:
        form.errors["events"] = ["Choose one at least."]
    with form.errors_at("reach", BadRequest):
        form.values["reach"] = reach.of(request.form.get("reach", ""))
    if not form.errors:
        url, events, chosen = (form.values[name] for name in ("url", "events", "reach"))
        try:
            made, secret = webhook_access.create(auth.caller(), url, events, **chosen._asdict())
            return _webhook(made, secret)
        except BadRequest as error:
            form.errors = error.errors or {"url": [error.message]}
    return _webhooks(form), form.status


@blueprint.get("/webhooks/<uuid:webhook_id>")
def show_webhook(webhook_id: uuid.UUID) -> str:
    """GET: a webhook with the log of its deliveries. 200; 403; 404."""
    return _webhook(_webhook_of(webhook_id))


@blueprint.post("/webhooks/<uuid:webhook_id>/status")
def change_status(webhook_id: uuid.UUID) -> Response:
    """POST: pause a webhook, or let it go on. 303; 400; 403; 404."""
    webhook, form = _webhook_of(webhook_id), Form(WebhookUpdate)
    if "status" not in form.values:
        raise BadRequest("Say whether it is to be active or paused.")
    status = form.values["status"]
    webhook_access.change(webhook, status=status)
    flash("It goes on with what came meanwhile." if status == "active" else "It is paused.")
    return back_to("webhooks_page.show_webhook", webhook_id=webhook_id)


@blueprint.post("/webhooks/<uuid:webhook_id>/test")
def test(webhook_id: uuid.UUID) -> Response:
    """POST: send an event to try it out, once and now. 303; 400; 403; 404."""
    found = _told(webhook_access.test(_webhook_of(webhook_id)))
    flash(f"The test {'was delivered' if found.is_delivered else 'failed'}: {found.answer}.")
    return back_to("webhooks_page.show_webhook", webhook_id=webhook_id)


@blueprint.get("/webhooks/<uuid:webhook_id>/delete")
def ask_to_delete(webhook_id: uuid.UUID) -> str:
    """GET: ask whether a webhook shall end. 200; 403; 404."""
    webhook = _webhook_of(webhook_id)
    return ask(
        Asking(
            "Delete this webhook?",
            [
                f"{webhook.url} is told of nothing any more, of what waits for it neither.",
                "Its log goes too. The hits stay.",
            ],
            "Delete the webhook",
            url_for("webhooks_page.show_webhook", webhook_id=webhook_id),
            "The webhook",
        )
    )


@blueprint.post("/webhooks/<uuid:webhook_id>/delete")
def delete(webhook_id: uuid.UUID) -> Response:
    """POST: delete a webhook. 303; 403; 404."""
    webhooks.remove(_webhook_of(webhook_id))
    flash("The webhook is deleted.")
    return back_to("webhooks_page.show_webhooks")


def _webhook_of(webhook_id: uuid.UUID) -> Webhook:
    return webhook_access.find(auth.caller(), webhook_id)


def _webhooks(form: Form | None = None) -> str:
    pixel = reach.asked_for(Action.CHANGE_PIXEL)
    query = base.list_query()
    found = _of_pixel(pixel, query) if pixel else webhook_access.listing(auth.caller(), query)
    start: dict[str, Any] = {"reach": f"pixel:{pixel.id}"} if pixel else {}
    return render_template(
        "webhooks.html",
        pixel=pixel,
        found=found,
        names=reach.names([webhook.pixel_id or webhook.team_id for webhook in found.data]),
        form=form or Form.empty(**start),
        events=wording.EVENT_LABELS,
        statuses=wording.WEBHOOK_STATUS_LABELS,
        reaches=reach.choices(Action.CHANGE_PIXEL, "All pixels of your own"),
    )


def _webhook(webhook: Webhook, secret: str | None = None) -> str:
    return render_template(
        "webhook.html",
        webhook=webhook,
        secret=secret,
        names=reach.names([webhook.pixel_id or webhook.team_id]),
        events=wording.EVENT_LABELS,
        statuses=wording.WEBHOOK_STATUS_LABELS,
        deliveries=[_told(delivery) for delivery in reversed(webhook.log)],
    )


def _of_pixel(pixel: Pixel, query: ListQuery) -> Page[Webhook]:
    """Return a page of a pixel's webhooks, without those of an owner that it had before."""
    owner = Owner(pixel.user_id, pixel.team_id)
    return webhooks.listing([owner], query, webhooks.About(pixel_id=pixel.id))


def _told(entry: dict[str, Any]) -> Delivery:
    parts = [entry["error"] or f"HTTP {entry['status']}"]
    parts.append(f"{number(entry['milliseconds'])}{NARROW}ms")
    if entry["attempt"] > 1:
        parts.append(f"attempt {entry['attempt']}")
    return Delivery(
        datetime.fromisoformat(entry["at"]),
        entry["type"],
        entry["error"] is None,
        " · ".join(parts),
    )
