"""The pages that change a pixel: its settings and shares, its end, and whom it is sent to."""

from __future__ import annotations

import csv
import io
import uuid

from flask import flash, render_template, request
from marshmallow import ValidationError
from werkzeug.wrappers import Response

import auth
import exports
import pages
import pixels
import recipients
import shares
from api import links, public_base
from errors import BadRequest, NotFound, SlugTaken
from models import Pixel
from pages import Form, Pages, back_to
from permissions import Action
from recipients import Link
from schemas import PixelUpdate, RecipientsIssue, ShareCreate

blueprint = Pages("pixel", __name__)

Rendered = str | tuple[str, int] | Response

SHARES_SHOWN_MAX = shares.SHARES_PER_PIXEL_MAX
RECIPIENTS_A_PAGE = 50
# Ten thousand recipients of 400 bytes each.
RECIPIENTS_BYTES_MAX = 4 * 1024 * 1024
# What the first line of a list is when it names the column.
HEADINGS = {"email", "e-mail", "mail", "email address", "recipient", "recipients", "address"}


@blueprint.get("/pixels/<uuid:pixel_id>/settings")
def show_settings(pixel_id: uuid.UUID) -> str:
    """GET: a pixel's name, slug, privacy, shares and end. 200; 404 for a stranger."""
    return _settings(auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL))


@blueprint.post("/pixels/<uuid:pixel_id>/settings")
def change(pixel_id: uuid.UUID) -> Rendered:
    """POST: change name, slug and privacy. 303; 400; 403 for who may only read; 404."""
    pixel = _to_change(pixel_id)
    form = Form(PixelUpdate)
    if not form.errors:
        with form.errors_at("slug", SlugTaken):
            pixels.change(pixel, form.values)
            flash("Saved.")
            return back_to("pixel.show_settings", pixel_id=pixel_id)
    return _settings(pixel, details=form), form.status


@blueprint.post("/pixels/<uuid:pixel_id>/shares")
def share(pixel_id: uuid.UUID) -> Rendered:
    """POST: make a link that shows the report to everybody. 303; 400; 403; 404."""
    pixel = _to_change(pixel_id)
    form = Form(ShareCreate)
    if not form.errors:
        with form.errors_at("name", BadRequest):
            shares.create(pixel, form.values["name"], form.values["parameters"])
            return back_to("pixel.show_settings", pixel_id=pixel_id, _anchor="shares")
    return _settings(pixel, new_share=form), form.status


@blueprint.post("/pixels/<uuid:pixel_id>/shares/<uuid:share_id>/end")
def end_share(pixel_id: uuid.UUID, share_id: uuid.UUID) -> Response:
    """POST: end a share. 303; 403; 404 for a stranger, or a share of another pixel."""
    pixel = _to_change(pixel_id)
    found = shares.find(share_id)
    if found.pixel_number != pixel.number:
        raise NotFound(shares.NO_SUCH_SHARE)
    shares.remove(found)
    flash("The link shows nothing any more.")
    return back_to("pixel.show_settings", pixel_id=pixel_id, _anchor="shares")


@blueprint.post("/pixels/<uuid:pixel_id>/delete")
def delete(pixel_id: uuid.UUID) -> Rendered:
    """POST: delete a pixel whose name was typed. 303; 400 for another name; 403; 404."""
    pixel = _to_change(pixel_id)
    form = pages.confirmation_of(pixel.name)
    if form.errors:
        return _settings(pixel, deletion=form), form.status
    pixels.remove(pixel)
    flash(f"{pixel.name} and its hits are deleted.")
    return back_to("dashboard.show_pixels", team=pixel.team_id)


@blueprint.get("/pixels/<uuid:pixel_id>/recipients")
def show_recipients(pixel_id: uuid.UUID) -> str:
    """GET: a page of the recipients and what they opened. 200; 404 for a stranger."""
    return _recipients(auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL))


@blueprint.post("/pixels/<uuid:pixel_id>/recipients")
def issue(pixel_id: uuid.UUID) -> Rendered:
    """POST: sign a link for each recipient of a list. 200 with a CSV; 400; 403; 404."""
    pixel = _to_change(pixel_id)
    form = Form.empty(list=request.form.get("list", ""), sentAt=request.form.get("sentAt", ""))
    try:
        given = RecipientsIssue().load({"recipients": _names(_pasted()), "sentAt": _sent_at()})
        issued = recipients.issue(
            links(), pixel, given["recipients"], given["sentAt"], public_base()
        )
    except (ValidationError, BadRequest) as error:
        form.errors["list"] = [_first_fault(error)]
        return _recipients(pixel, form), form.status
    rows = (each._asdict() for each in issued)
    # The recipients go back as they came: a mail merge needs them unchanged.
    parts = exports.as_csv(rows, Link._fields, cell=str)
    return pages.download(parts, "links.csv")


issue.body_bytes_max = RECIPIENTS_BYTES_MAX  # type: ignore[attr-defined]


@blueprint.get("/pixels/<uuid:pixel_id>/recipients.csv")
def export_recipients(pixel_id: uuid.UUID) -> Response:
    """GET: all recipients that a search finds, as a CSV. 200; 404 for a stranger."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
    rows = exports.recipients_of(pixel, pages.search_text())
    return pages.download(exports.as_csv(rows, exports.RECIPIENT_COLUMNS), "recipients.csv")


def _to_change(pixel_id: uuid.UUID) -> Pixel:
    return auth.pixel_for(auth.caller(), pixel_id, Action.CHANGE_PIXEL)


def _settings(
    pixel: Pixel,
    details: Form | None = None,
    new_share: Form | None = None,
    deletion: Form | None = None,
) -> str:
    return render_template(
        "pixel_settings.html",
        pixel=pixel,
        may_change=pages.may(auth.pixel_for, pixel.id, Action.CHANGE_PIXEL),
        details=details or Form.empty(name=pixel.name, slug=pixel.slug, privacy=pixel.privacy),
        new_share=new_share or Form.empty(),
        deletion=deletion or Form.empty(),
        shares=shares.listing(pixel, 1, SHARES_SHOWN_MAX).data,
        base=public_base(),
    )


def _recipients(pixel: Pixel, form: Form | None = None) -> str:
    found = recipients.listing(
        pixel, search=pages.search_text(), page=pages.page_number(), page_size=RECIPIENTS_A_PAGE
    )
    return render_template(
        "pixel_recipients.html",
        pixel=pixel,
        may_change=pages.may(auth.pixel_for, pixel.id, Action.CHANGE_PIXEL),
        found=found,
        form=form or Form.empty(),
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
    delimiter = next((each for each in ("\t", ";", ",") if each in text), ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = [row[0].strip() for row in rows if row and row[0].strip()]
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
        return pages.in_zone(text).isoformat() if text else None
    except ValueError:
        raise BadRequest("The time of sending is not one.") from None


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
