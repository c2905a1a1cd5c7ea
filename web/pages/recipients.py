"""The page of a pixel's recipients, and what can be done to those who are checked."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from flask import flash, render_template, request, url_for
from werkzeug.wrappers import Response

import auth
from core.errors import BadRequest
from core.lists import ListQuery
from core.permissions import Action
from models import Pixel
from pixels import exports, forgetting, opt_outs, recipient_lists
from pixels.recipient_lists import Counts, RecipientRow
from web.pages import base, wording
from web.pages.base import Pages, Rendered, back_to, pixel_to_change
from web.pages.formats import counted
from web.pages.forms import Asking, ask
from web.request import links

blueprint = Pages("recipients_page", __name__)
RECIPIENTS_A_PAGE = 50


# As many as a page has.
CHECKED_MAX = RECIPIENTS_A_PAGE


class Deed(NamedTuple):
    """What can be done to people, and what is said before and after."""

    heading: str
    lines: tuple[str, ...]
    action: str
    done: str


DEEDS = {
    "remove": Deed(
        "Remove {whom} from {pixel}?",
        (
            "The name goes from this pixel for good, and the link names nobody from then on.",
            "What was counted stays counted. On other pixels nothing changes.",
        ),
        "Remove from this pixel",
        "removed from this pixel",
    ),
    "opt-out": Deed(
        "Opt {whom} out?",
        (
            "From now on their opens are counted without a name, on all pixels of this owner.",
            "This holds for links that they already have. What is known until now stays.",
        ),
        "Opt out",
        "opted out",
    ),
    "forget": Deed(
        "Forget {whom}?",
        (
            "The name goes from all pixels that you may change, for good.",
            "Totals stay as they are; old links name nobody.",
        ),
        "Forget",
        "forgotten",
    ),
}


@blueprint.get("/pixels/<uuid:pixel_id>/recipients")
def show_recipients(pixel_id: uuid.UUID) -> str:
    """GET: a page of the recipients and what they opened. 200; 404 for a stranger."""
    return _recipients(auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL))


@blueprint.get("/pixels/<uuid:pixel_id>/recipients.csv")
def export(pixel_id: uuid.UUID) -> Response:
    """GET: all recipients that a search or a status finds, as a CSV. 200; 404 for a stranger."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
    rows = exports.recipients_of(pixel, base.search_text(), _status() or None)
    return base.download_sheet(exports.as_csv(rows, exports.RECIPIENT_COLUMNS), "recipients.csv")


@blueprint.get("/pixels/<uuid:pixel_id>/opted-out")
def show_opted_out(pixel_id: uuid.UUID) -> str:
    """GET: who opted out of the pixels of this pixel's owner. 200; 404 for a stranger."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
    found = opt_outs.listing({pixel.owner}, base.list_query(RECIPIENTS_A_PAGE))
    return render_template("opted_out.html", found=found, **base.of_pixel(pixel))


@blueprint.post("/pixels/<uuid:pixel_id>/people")
def ask_about_people(pixel_id: uuid.UUID) -> Rendered:
    """POST: ask whether something shall be done to those who are checked. 200; 400; 403; 404."""
    pixel, names = pixel_to_change(pixel_id), request.form.getlist("names")[:CHECKED_MAX]
    asked = DEEDS.get(request.form.get("do", ""))
    if asked is None or not names:
        raise BadRequest("Check whom it is about, and choose what to do.")
    whom = names[0] if len(names) == 1 else counted(len(names), "person", "people")
    return ask(
        Asking(
            asked.heading.format(whom=whom, pixel=pixel.name),
            [*([", ".join(names)] if len(names) > 1 else []), *asked.lines],
            asked.action,
            url_for("recipients_page.show_recipients", pixel_id=pixel_id),
            f"Recipients of {pixel.name}",
            fields=(("do", request.form["do"]), *(("names", name) for name in names)),
            target=url_for("recipients_page.do_to_people", pixel_id=pixel_id),
        )
    )


@blueprint.post("/pixels/<uuid:pixel_id>/people/do")
def do_to_people(pixel_id: uuid.UUID) -> Response:
    """POST: take people off a pixel, opt them out or forget them. 303; 400; 403; 404."""
    pixel, names = pixel_to_change(pixel_id), request.form.getlist("names")[:CHECKED_MAX]
    deed = request.form.get("do", "")
    if deed not in DEEDS or not names:
        raise BadRequest("Check whom it is about, and choose what to do.")
    for name in names:
        if deed == "remove":
            forgetting.forget(links(), name, {pixel.owner}, pixel.number)
        elif deed == "opt-out":
            opt_outs.opt_out_by_name(links(), pixel.owner, name, "owner")
        else:
            owners = auth.owners_for(auth.caller(), Action.CHANGE_PIXEL)
            forgetting.forget(links(), name, owners)
    people = counted(len(names), "person is", "people are")
    flash(f"{people} {DEEDS[deed].done}.")
    return back_to("recipients_page.show_recipients", pixel_id=pixel_id)


def _recipients(pixel: Pixel) -> str:
    status = _status()
    sorting = base.sorting(recipient_lists.ORDERS, "lastOpenedAt", rising={"recipient"})
    found = recipient_lists.listing(
        pixel, base.list_query(RECIPIENTS_A_PAGE, sorting), status=status or None
    )
    return render_template(
        "pixel_recipients.html",
        may_change=base.may(auth.pixel_for, pixel.id, Action.CHANGE_PIXEL),
        found=found,
        rows=[ListedRecipient(recipient, last_fetched_by(recipient)) for recipient in found.data],
        meanings=wording.meanings_of_people(found.data),
        everybody=found.counts.all or found.count or base.search_text(),
        sorting=sorting,
        status=status,
        statuses=_tabs(found.counts),
        opted_out_count=opt_outs.listing({pixel.owner}, ListQuery(page_size=1)).count,
        **base.of_pixel(pixel),
    )


class StatusTab(NamedTuple):
    """A status to look at, and how many people have it; without a key, all."""

    key: str
    name: str
    people: int


class ListedRecipient(NamedTuple):
    """A recipient as they are listed, and what fetched the image for them."""

    recipient: RecipientRow
    by: str


def _tabs(counts: Counts) -> list[StatusTab]:
    return [
        StatusTab("", "All", counts.all),
        *(
            StatusTab(key, name, getattr(counts, key))
            for key, name in wording.STATUS_LABELS.items()
        ),
    ]


def _status() -> str:
    """Return the status that the address asks for, empty for all."""
    status = request.args.get("status", "")
    return status if status in wording.STATUS_LABELS else ""


def last_fetched_by(row: RecipientRow) -> str:
    """Return what fetched the image last: a program, or else what is known of it."""
    if row.client and row.status == "opened":
        return wording.program(row.client)
    return wording.REASONS.get(row.reason or "", row.reason or "")
