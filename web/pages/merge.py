"""The pages that make a link for each person of a list: hand it in, check it, get it back.

Nothing is stored until the last step; the list goes from page to page with the form.
"""

from __future__ import annotations

import binascii
import uuid
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import datetime

from flask import Response, flash, render_template, request, stream_with_context, url_for
from werkzeug.wrappers import Response as BaseResponse

from core.errors import BadRequest
from core.people_key import folded
from models import Pixel
from pixels import mail_merge, opt_outs, recipients, tables
from pixels.mail_merge import CheckedTable
from pixels.tables import Table, TableError
from web.pages import base
from web.pages.base import Pages, Rendered, back_to, pixel_to_change
from web.pages.formats import counted
from web.pages.forms import Asking, Form, ask
from web.request import links, public_base

blueprint = Pages("merge_page", __name__)

# A hundred thousand rows of 120 bytes each; a third more on its way back, in base64.
LIST_FORM_BYTES_MAX = 16 * 1024 * 1024
ROWS_SHOWN = 3
FAULTS_SHOWN = 20
MERGES_SHOWN = 5
FILE_NAME_CHARACTERS_MAX = 100


@blueprint.get("/pixels/<uuid:pixel_id>/links")
def show_links(pixel_id: uuid.UUID) -> str:
    """GET: the form that takes a list of people. 200; 403; 404."""
    pixel = pixel_to_change(pixel_id)
    return _hand_in(pixel, Form.empty(sentAt=base.local_time(pixel.sent_at)))


@blueprint.post("/pixels/<uuid:pixel_id>/links")
def check(pixel_id: uuid.UUID) -> Rendered:
    """POST: show what is in a list; nothing is stored. 200; 400; 403; 404."""
    pixel = pixel_to_change(pixel_id)
    form = Form.empty(list=request.form.get("list", ""), sentAt=request.form.get("sentAt", ""))
    try:
        return _checked(pixel, _data(), Form.empty(**request.form))
    except BadRequest as error:
        form.errors["list"] = [error.message]
        return _hand_in(pixel, form), form.status


@blueprint.post("/pixels/<uuid:pixel_id>/links/make")
def make(pixel_id: uuid.UUID) -> Rendered:
    """POST: store the people and give the list back with their links. 200; 400; 403; 404."""
    pixel, data = pixel_to_change(pixel_id), _data()
    form = Form.empty(**request.form)
    sent_at = _sent_at(form)
    checked = _check(data, form)
    if checked.bad and request.form.get("bad") != "skip":
        form.errors["bad"] = ["Mend the file and hand it in again, or skip these rows."]
    if form.errors:
        return _checked(pixel, data, form), form.status
    issued: dict[str, recipients.Link] = {}
    for some in mail_merge.issue(links(), pixel, checked, sent_at, public_base()):
        issued |= some
    parts = mail_merge.merged(checked, issued)
    response = Response(stream_with_context(parts), content_type="text/csv")
    response.headers.set("Content-Disposition", "attachment", filename=_file_name())
    return response


for _view in (check, make):
    _view.body_bytes_max = LIST_FORM_BYTES_MAX  # type: ignore[attr-defined]


@blueprint.get("/pixels/<uuid:pixel_id>/links/<int:issued_ms>/take-back")
def ask_to_take_back(pixel_id: uuid.UUID, issued_ms: int) -> str:  # noqa: ARG001  Where it goes.
    """GET: ask whether the links of one merge shall end. 200; 403; 404."""
    pixel = pixel_to_change(pixel_id)
    return ask(
        Asking(
            "Take this merge back?",
            [
                "People whom it added, and of whom nothing came, are removed from the list.",
                "Their links name nobody from then on; those of whom something came stay.",
            ],
            "Take it back",
            url_for("merge_page.show_links", pixel_id=pixel_id),
            f"Links for {pixel.name}",
        )
    )


@blueprint.post("/pixels/<uuid:pixel_id>/links/<int:issued_ms>/take-back")
def take_back(pixel_id: uuid.UUID, issued_ms: int) -> BaseResponse:
    """POST: remove those whom one merge added and of whom nothing came. 303; 403; 404."""
    pixel = pixel_to_change(pixel_id)
    found = [at for at, _, _ in recipients.issues(pixel) if _milliseconds(at) == issued_ms]
    count = recipients.take_back(pixel, found[0]) if found else 0
    flash(f"{counted(count, 'person is', 'people are')} off the list again.")
    return back_to("recipients_page.show_recipients", pixel_id=pixel_id)


def _hand_in(pixel: Pixel, form: Form) -> str:
    merges = [
        {"at": at, "ms": _milliseconds(at), "people": count, "left": left}
        for at, count, left in recipients.issues(pixel)[:MERGES_SHOWN]
    ]
    return render_template("pixel_links.html", form=form, merges=merges, **base.of_pixel(pixel))


def _checked(pixel: Pixel, data: bytes, form: Form) -> str:
    """Show what is in a list, and what is wrong with it."""
    checked = _check(data, form)
    table, sent_at = checked.table, _sent_at(form)
    columns = [(str(n), name) for n, name in enumerate(table.columns, start=1)]
    out = {
        folded(opt_out.recipient) for opt_out in opt_outs.every({pixel.owner}) if opt_out.recipient
    }
    return render_template(
        "pixel_merge.html",
        form=form,
        checked=checked,
        data=b64encode(data).decode(),
        file_name=_file_name(),
        columns=columns,
        column=str(checked.place + 1),
        sample=checked.rows[:ROWS_SHOWN],
        bad=checked.bad[:FAULTS_SHOWN],
        duplicates=checked.duplicates[:FAULTS_SHOWN],
        opted_out_count=sum(folded(name) in out for name in checked.people),
        delimiter={"\t": "tabs"}.get(table.format.delimiter, f"“{table.format.delimiter}”"),
        sent_at=sent_at,
        **base.of_pixel(pixel),
    )


def _check(data: bytes, form: Form) -> CheckedTable:
    table = _named(tables.read(data))
    column, consent = form.sent.get("column") or None, form.sent.get("consent") or None
    return mail_merge.check(table, column, consent)


def _named(table: Table) -> Table:
    """Return the table; a bare list is given a head, so that its links come back under names."""
    if table.has_header or len(table.columns) > 1:
        return table
    return replace(table, columns=["recipient"], has_header=True)


def _data() -> bytes:
    """Return the bytes of the list: pasted, of a file, or as they came from the page before.

    Raises: TableError.
    """
    if request.form.get("data"):
        try:
            return b64decode(request.form["data"], validate=True)
        except binascii.Error:
            raise TableError("The list was damaged on its way; hand it in again.") from None
    text, file = request.form.get("list", ""), request.files.get("file")
    data = text.encode() if text.strip() or not file else bytes(file.read())
    if not data.strip():
        raise TableError("Paste a list, or choose a file.")
    return data


def _file_name() -> str:
    """Return the name of the file that came, without a path."""
    file = request.files.get("file")
    name = (file.filename if file else "") or request.form.get("fileName", "") or "links.csv"
    return name.replace("\\", "/").rpartition("/")[2][-FILE_NAME_CHARACTERS_MAX:] or "links.csv"


def _sent_at(form: Form) -> datetime | None:
    """Return the instant that the form names in the viewer's zone; what is none is an error."""
    text = form.sent.get("sentAt", "")
    try:
        return base.in_zone(text) if text else None
    except (ValueError, OverflowError):
        form.errors["sentAt"] = ["That is not a date and time."]
        return None


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
