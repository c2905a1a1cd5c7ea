"""The page of a pixel's recipients, and of making links for them."""

from __future__ import annotations

import csv
import io
import uuid

from flask import render_template, request
from marshmallow import ValidationError
from werkzeug.wrappers import Response

import auth
from core.errors import BadRequest
from core.permissions import Action
from models import Pixel
from pixels import exports, recipients
from pixels.recipients import Link
from pixels.spreadsheets import BYTE_ORDER_MARK, undefused
from schemas import RecipientsIssue
from web.pages import base
from web.pages.base import Pages, Rendered, pixel_to_change
from web.pages.forms import Form
from web.request import links, public_base

blueprint = Pages("recipients_page", __name__)
RECIPIENTS_A_PAGE = 50
# Ten thousand recipients of 400 bytes each.
RECIPIENTS_BYTES_MAX = 4 * 1024 * 1024
# What the first line of a list is when it names the column.
HEADINGS = {"email", "e-mail", "mail", "email address", "recipient", "recipients", "address"}


@blueprint.get("/pixels/<uuid:pixel_id>/recipients")
def show_recipients(pixel_id: uuid.UUID) -> str:
    """GET: a page of the recipients and what they opened. 200; 404 for a stranger."""
    return _recipients(auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL))


@blueprint.get("/pixels/<uuid:pixel_id>/links")
def show_links(pixel_id: uuid.UUID) -> str:
    """GET: the form that makes a link for each person. 200; 403; 404."""
    return _links(pixel_to_change(pixel_id), Form.empty())


@blueprint.post("/pixels/<uuid:pixel_id>/links")
def issue(pixel_id: uuid.UUID) -> Rendered:
    """POST: sign a link for each recipient of a list. 200 with a CSV; 400; 403; 404."""
    pixel = pixel_to_change(pixel_id)
    form = Form.empty(list=request.form.get("list", ""), sentAt=request.form.get("sentAt", ""))
    try:
        given = RecipientsIssue().load({"recipients": _names(_pasted()), "sentAt": _sent_at()})
        issued = recipients.issue(
            links(), pixel, given["recipients"], given["sentAt"], public_base()
        )
    except (ValidationError, BadRequest) as error:
        form.errors["list"] = [_first_fault(error)]
        return _links(pixel, form), form.status
    rows = (each._asdict() for each in issued)
    # The recipients go back as they came: a mail merge needs them unchanged.
    parts = exports.as_csv(rows, Link._fields, cell=str)
    return base.download(parts, "links.csv")


issue.body_bytes_max = RECIPIENTS_BYTES_MAX  # type: ignore[attr-defined]


@blueprint.get("/pixels/<uuid:pixel_id>/recipients.csv")
def export_recipients(pixel_id: uuid.UUID) -> Response:
    """GET: all recipients that a search finds, as a CSV. 200; 404 for a stranger."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
    rows = exports.recipients_of(pixel, base.search_text())
    return base.download_sheet(exports.as_csv(rows, exports.RECIPIENT_COLUMNS), "recipients.csv")


def _links(pixel: Pixel, form: Form) -> str:
    return render_template("pixel_links.html", form=form, **base.of_pixel(pixel))


def _recipients(pixel: Pixel) -> str:
    found = recipients.listing(
        pixel, search=base.search_text(), page=base.page_number(), page_size=RECIPIENTS_A_PAGE
    )
    return render_template(
        "pixel_recipients.html",
        may_change=base.may(auth.pixel_for, pixel.id, Action.CHANGE_PIXEL),
        found=found,
        **base.of_pixel(pixel),
    )


def _pasted() -> str:
    """Return the list that was pasted, or else the file's."""
    text = request.form.get("list", "")
    file = request.files.get("file")
    if text.strip() or not file:
        return text
    try:
        return bytes(file.read()).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest("The file is not in UTF-8; save it as “CSV UTF-8”.") from None


def _names(text: str) -> list[str]:
    """Return the recipient of each line: the line, or the first cell of a CSV."""
    text = text.removeprefix(BYTE_ORDER_MARK)
    # The first line tells, where it has several cells: later ones may hold the others.
    head = text.partition("\n")[0]
    marks = ("\t", ";", ",")
    delimiter = next((each for lines in (head, text) for each in marks if each in lines), ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = [undefused(row[0]).strip() for row in rows if row and row[0].strip()]
    except csv.Error as error:
        raise BadRequest(f"Line {rows.line_num} can't be read: {error}.") from None
    if names and names[0].lower() in HEADINGS:
        del names[0]
    if not names:
        raise BadRequest("Paste a list, or choose a file.")
    return names


def _sent_at() -> str | None:
    """Return the instant that the form names in the viewer's zone, as ISO 8601."""
    text = request.form.get("sentAt", "")
    try:
        return base.in_zone(text).isoformat() if text else None
    except ValueError:
        raise BadRequest("That is not a date and time.") from None


def _first_fault(error: ValidationError | BadRequest) -> str:
    """Return what is wrong with a list, in one line."""
    if isinstance(error, BadRequest):
        return error.message
    faults = error.messages_dict
    of_list = faults.get("recipients")
    if isinstance(of_list, dict):
        place, words = next(iter(of_list.items()))
        return f"Recipient {int(place) + 1}: {words[0]}"
    return str(next(iter(faults.values()))[0])
