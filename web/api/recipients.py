"""The JSON routes of recipients: links for them, who has opened, and what each wants kept."""

from __future__ import annotations

import uuid
from typing import Any

from flask import Response, stream_with_context

import auth
from core.errors import Forbidden, NotFound
from core.lists import Page
from core.permissions import Action
from models import OptOut
from pixels import exports, forgetting, opt_outs, persons, recipient_lists, recipients
from pixels.persons import PersonRow
from schemas import (
    Ok,
    OptOutPage,
    PageArgs,
    PersonArgs,
    PersonPage,
    RecipientExportArgs,
    RecipientLinks,
    RecipientListArgs,
    RecipientPage,
    RecipientsIssue,
    WholePersonOut,
)
from web.api.blueprint import JsonBlueprint
from web.api.json_body import body_up_to
from web.request import links, public_base

# Ten thousand recipients of 400 bytes each.
RECIPIENTS_BYTES_MAX = 4 * 1024 * 1024

blueprint = JsonBlueprint(
    "recipients", __name__, url_prefix="/api", description="Whom a pixel was sent to"
)


@blueprint.post(
    "/pixels/<uuid:pixel_id>/recipients",
    operation_id="createPixelRecipients",
    raises=(Forbidden, NotFound),
)
@auth.required
@body_up_to(RECIPIENTS_BYTES_MAX)
@blueprint.arguments(RecipientsIssue)
@blueprint.response(200, RecipientLinks)
def issue_links(body: dict[str, Any], pixel_id: uuid.UUID) -> dict[str, Any]:
    """Sign a link for each recipient; a person who is named twice has one.

    The links of those who opted out name nobody. An anonymous pixel has none.
    """
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.CHANGE_PIXEL)
    issued = recipients.issue(
        links(),
        pixel,
        body["recipients"],
        body["sentAt"],
        public_base(),
        consents=lambda _: body["consent"],
    )
    return {"data": issued}


@blueprint.get(
    "/pixels/<uuid:pixel_id>/recipients", operation_id="getPixelRecipients", raises=(NotFound,)
)
@auth.required
@blueprint.arguments(RecipientListArgs, location="query")
@blueprint.response(200, RecipientPage)
def list_recipients(arguments: dict[str, Any], pixel_id: uuid.UUID) -> recipient_lists.CountedPage:
    """Return a page of a pixel's recipients with their hits."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
    return recipient_lists.listing(
        pixel, arguments["list"], status=arguments["status"], opens_min=arguments["opensMin"]
    )


@blueprint.get("/pixels/<uuid:pixel_id>/recipients/export", raises=(NotFound,))
@auth.required
@blueprint.arguments(RecipientExportArgs, location="query")
@blueprint.response(200, {"type": "string"}, content_type="text/csv")
@blueprint.alt_response(200, schema={"type": "string"}, content_type="application/jsonl")
def export_recipients(arguments: dict[str, Any], pixel_id: uuid.UUID) -> Response:
    """Return all of a pixel's recipients that are asked for, as a file."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
    rows = exports.recipients_of(pixel, arguments["search"], arguments["status"])
    return _file(rows, exports.RECIPIENT_COLUMNS, arguments["format"], "recipients")


@blueprint.delete("/pixels/<uuid:pixel_id>/recipient", raises=(Forbidden, NotFound))
@auth.required
@blueprint.arguments(PersonArgs, location="query")
@blueprint.response(200, Ok)
def forget_recipient(arguments: dict[str, Any], pixel_id: uuid.UUID) -> dict[str, bool]:
    """Forget a person on one pixel: the name goes, what was counted stays."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.CHANGE_PIXEL)
    return _forget(arguments["name"], {pixel.owner}, pixel.number)


@blueprint.get("/recipients")
@auth.required
@blueprint.arguments(PageArgs, location="query")
@blueprint.response(200, PersonPage)
def list_people(arguments: dict[str, Any]) -> Page[PersonRow]:
    """Return a page of the people of all pixels that the caller may read."""
    return persons.listing(auth.owners_for(auth.caller(), Action.READ_PIXEL), arguments["list"])


@blueprint.get("/recipient", raises=(NotFound,))
@auth.required
@blueprint.arguments(PersonArgs, location="query")
@blueprint.response(200, WholePersonOut)
def show_person(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return everything that is kept of a person, on the pixels that the caller may read."""
    owners = auth.owners_for(auth.caller(), Action.READ_PIXEL)
    found = persons.find(links(), owners, arguments["name"])
    return {**found._asdict(), "pixels": [persons.record_fields(record) for record in found.pixels]}


@blueprint.delete("/recipient", raises=(NotFound,))
@auth.required
@blueprint.arguments(PersonArgs, location="query")
@blueprint.response(200, Ok)
def forget_person(arguments: dict[str, Any]) -> dict[str, bool]:
    """Forget a person on all pixels that the caller may change."""
    return _forget(arguments["name"], auth.owners_for(auth.caller(), Action.CHANGE_PIXEL))


@blueprint.get("/opt-outs")
@auth.required
@blueprint.arguments(PageArgs, location="query")
@blueprint.response(200, OptOutPage)
def list_opt_outs(arguments: dict[str, Any]) -> Page[OptOut]:
    """Return a page of the people who opted out of the pixels that the caller may read."""
    owners = auth.owners_for(auth.caller(), Action.READ_PIXEL)
    return opt_outs.listing(owners, arguments["list"])


def _forget(
    name: str, owners: set[uuid.UUID] | None, pixel_number: int | None = None
) -> dict[str, bool]:
    if not forgetting.forget(links(), name, owners, pixel_number):
        raise NotFound("Nobody is known by that name.")
    return {"ok": True}


def _file(rows: Any, columns: tuple[str, ...], kind: str, name: str) -> Response:
    parts = exports.as_csv(rows, columns) if kind == "csv" else exports.as_json_lines(rows)
    types = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}
    response = Response(stream_with_context(parts), content_type=types[kind])
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    return response
