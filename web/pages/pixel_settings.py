"""A pixel's settings: name, slug, privacy, shares, deletion."""

from __future__ import annotations

import uuid
from contextlib import suppress
from http import HTTPStatus

from flask import current_app, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

import auth
from core.clock import now
from core.errors import BadRequest, NotFound, SlugTaken
from core.lists import ListQuery
from core.permissions import Action
from models import Pixel, Share
from people import accounts, teams
from pixels import pixels, shares
from schemas import PixelUpdate, ShareCreate
from stats import questions
from stats.shapes import Question
from upkeep import retention
from web.pages import base, forms
from web.pages.base import Pages, Rendered, back_to, pixel_to_change
from web.pages.embed import LONG_AGO
from web.pages.formats import counted, number
from web.pages.forms import Asking, Form, ask
from web.request import public_url_for

blueprint = Pages("pixel_settings_page", __name__)

SHARES_SHOWN_MAX = shares.SHARES_PER_PIXEL_MAX


@blueprint.get("/pixels/<uuid:pixel_id>/settings")
def show_settings(pixel_id: uuid.UUID) -> str:
    """GET: a pixel's name, slug, privacy, shares and end. 200; 404 for a stranger."""
    return _settings(auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL))


@blueprint.post("/pixels/<uuid:pixel_id>/settings")
def change(pixel_id: uuid.UUID) -> Rendered:
    """POST: change name, slug and privacy. 303; 400; 403 for a reader; 404."""
    pixel = pixel_to_change(pixel_id)
    form = Form(PixelUpdate)
    if not form.errors:
        with form.errors_at("slug", SlugTaken):
            pixels.change(pixel, **form.values)
            flash("Saved.")
            return back_to("pixel_settings_page.show_settings", pixel_id=pixel_id)
    return _settings(pixel, details=form), form.status


@blueprint.post("/pixels/<uuid:pixel_id>/sending")
def change_sending(pixel_id: uuid.UUID) -> Rendered:
    """POST: say when a mailing goes out, and to how many. 303; 400; 403; 404."""
    pixel = pixel_to_change(pixel_id)
    form = _sending_form()
    if not form.errors:
        pixels.change(pixel, **form.values)
        flash("Saved.")
        target = base.local_target(request.form.get("next", ""))
        here = url_for("pixel_settings_page.show_settings", pixel_id=pixel_id, _anchor="sending")
        return redirect(target or here, HTTPStatus.SEE_OTHER)
    return _settings(pixel, sending=form), form.status


@blueprint.post("/pixels/<uuid:pixel_id>/privacy")
def change_privacy(pixel_id: uuid.UUID) -> Rendered:
    """POST: change what a pixel keeps of people. 303; 400; 403 for a reader; 404."""
    pixel = pixel_to_change(pixel_id)
    form = Form(PixelUpdate)
    if not form.errors:
        pixels.change(pixel, **form.values)
        flash("Saved. It holds from the next hit on.")
        return back_to("pixel_settings_page.show_settings", pixel_id=pixel_id)
    return _settings(pixel, privacy=form), form.status


@blueprint.post("/pixels/<uuid:pixel_id>/shares")
def share(pixel_id: uuid.UUID) -> Rendered:
    """POST: make a link that shows the report to everybody. 303; 400; 403; 404."""
    pixel = pixel_to_change(pixel_id)
    form = Form(ShareCreate)
    if not form.errors:
        with form.errors_at("name", BadRequest):
            shares.create(pixel, form.values["name"], form.values["parameters"])
            flash("The link is made. It shows the report, and none of the recipients.")
            return back_to("pixel_settings_page.show_settings", pixel_id=pixel_id, _anchor="shares")
    return _settings(pixel, new_share=form), form.status


@blueprint.get("/pixels/<uuid:pixel_id>/shares/<uuid:share_id>/end")
def ask_to_end_share(pixel_id: uuid.UUID, share_id: uuid.UUID) -> str:
    """GET: ask whether a share shall end. 200; 403; 404 as for the end itself."""
    pixel = pixel_to_change(pixel_id)
    found = _share_of(pixel, share_id)
    return _ask(
        pixel,
        f"Stop sharing with “{found.name}”?",
        ["The link shows nothing any more, at once and for good."],
        "Stop sharing",
    )


@blueprint.post("/pixels/<uuid:pixel_id>/shares/<uuid:share_id>/end")
def end_share(pixel_id: uuid.UUID, share_id: uuid.UUID) -> Response:
    """POST: end a share. 303; 403; 404 for a stranger, or a share of another pixel."""
    pixel = pixel_to_change(pixel_id)
    shares.remove(_share_of(pixel, share_id))
    flash("The link shows nothing any more.")
    return back_to("pixel_settings_page.show_settings", pixel_id=pixel_id, _anchor="shares")


@blueprint.get("/pixels/<uuid:pixel_id>/start-anew")
def ask_to_start_anew(pixel_id: uuid.UUID) -> str:
    """GET: ask whether a pixel's hits shall go, as of tests before sending. 200; 403; 404."""
    pixel = pixel_to_change(pixel_id)
    count = _hit_count(pixel)
    return _ask(
        pixel,
        f"Remove {'the hit' if count == 1 else f'all {number(count)} hits'} of {pixel.name}?",
        [
            f"{counted(count, 'hit')} and what was counted of them go, at once and for good.",
            "The pixel, its links, its people and its shared links stay.",
        ],
        "Remove them",
    )


@blueprint.post("/pixels/<uuid:pixel_id>/start-anew")
def start_anew(pixel_id: uuid.UUID) -> Response:
    """POST: remove a pixel's hits; links and people stay. 303; 403; 404."""
    pixel = pixel_to_change(pixel_id)
    if retention.start_anew(pixel.number):
        flash("It starts over: nothing has been opened yet.")
    else:
        flash("It starts over. What came so far is being removed, which takes a while.")
    return back_to("report.show", pixel_id=pixel_id)


@blueprint.get("/pixels/<uuid:pixel_id>/move")
def ask_to_move(pixel_id: uuid.UUID) -> Rendered:
    """GET: ask whether a pixel shall move to another owner. 200; 400; 403; 404."""
    pixel = pixel_to_change(pixel_id)
    choice = request.args.get("owner", "")
    name = dict(_owners()).get(choice)
    if name is None:
        form = Form.empty(owner=choice)
        form.errors["owner"] = ["Choose who gets it."]
        return _settings(pixel, moving=form), form.status
    return _ask(
        pixel,
        f"Move {pixel.name} to {name}?",
        [
            "Its new owner sees its people and may change it.",
            "Its image, its hits, its links and its shared links stay as they are.",
        ],
        "Move it",
        fields=(("owner", choice),),
        is_danger=False,
    )


@blueprint.post("/pixels/<uuid:pixel_id>/move")
def move(pixel_id: uuid.UUID) -> Response:
    """POST: give a pixel to another owner. 303; 400; 403; 404."""
    pixel = pixel_to_change(pixel_id)
    choice = request.form.get("owner", "")
    if choice not in dict(_owners()):
        raise BadRequest("Choose who gets it.")
    kind, _, owner_id = choice.partition(":")
    ids = {"user": None, "team": None, kind: uuid.UUID(owner_id)}
    owner = auth.next_owner(auth.caller(), pixel, ids["user"], ids["team"])
    pixels.change(pixel, owner)
    flash(f"{pixel.name} has moved.")
    return back_to("pixels_page.show_pixels", team=ids["team"])


@blueprint.post("/pixels/<uuid:pixel_id>/delete")
def delete(pixel_id: uuid.UUID) -> Rendered:
    """POST: delete a pixel whose name was typed. 303; 400 for another name; 403; 404."""
    pixel = pixel_to_change(pixel_id)
    form = forms.confirmation_of(pixel.name)
    if form.errors:
        return _settings(pixel, deletion=form), form.status
    pixels.remove(pixel)
    flash(f"{pixel.name} and its hits are deleted.")
    return back_to("pixels_page.show_pixels", team=pixel.team_id)


def sending_of(pixel: Pixel) -> Form:
    """Return the form that says when and to how many a mailing goes, as it is now."""
    count = "" if pixel.sent_count is None else str(pixel.sent_count)
    return Form.empty(sentAt=base.local_time(pixel.sent_at), sentCount=count)


def _sending_form() -> Form:
    """Return what was said of the sending; its local time in the viewer's zone."""
    sent = request.form.copy()
    text = sent.get("sentAt", "")
    with suppress(ValueError, OverflowError):
        # What is none is refused as it was typed.
        sent["sentAt"] = base.in_zone(text).isoformat() if text else ""
    sent["sentCount"] = "".join(sent.get("sentCount", "").split())
    form = Form(PixelUpdate, sent)
    form.sent = request.form
    return form


def _ask(
    pixel: Pixel,
    heading: str,
    lines: list[str],
    action: str,
    fields: tuple[tuple[str, str], ...] = (),
    *,
    is_danger: bool = True,
) -> str:
    back = url_for("pixel_settings_page.show_settings", pixel_id=pixel.id)
    name = f"Settings of {pixel.name}"
    return ask(Asking(heading, lines, action, back, name, is_danger, fields=fields))


def _owners() -> list[tuple[str, str]]:
    """Return whom a pixel can move to, as a choice: oneself, one's teams, for admins anybody."""
    caller = auth.caller()
    found = [(f"user:{caller.user.id}", "You")]
    for team in teams.first_teams_of(caller.user):
        if base.may(auth.team_for, team.id, Action.CREATE_PIXEL):
            found.append((f"team:{team.id}", team.name))
    if caller.is_admin:
        everybody = accounts.every_user(base.FEW_MAX)
        found += [
            (f"user:{user.id}", user.username) for user in everybody if user.id != caller.user.id
        ]
    return found


def _owner_of(pixel: Pixel) -> str:
    return f"team:{pixel.team_id}" if pixel.team_id else f"user:{pixel.user_id}"


def _share_of(pixel: Pixel, share_id: uuid.UUID) -> Share:
    found = shares.find(share_id)
    if found.pixel_number != pixel.number:
        raise NotFound(shares.NO_SUCH_SHARE)
    return found


def _hit_count(pixel: Pixel) -> int:
    return questions.totals(Question(pixel.number, LONG_AGO, now(), "all")).pageviews


def _settings(
    pixel: Pixel,
    details: Form | None = None,
    sending: Form | None = None,
    privacy: Form | None = None,
    moving: Form | None = None,
    new_share: Form | None = None,
    deletion: Form | None = None,
) -> str:
    return render_template(
        "pixel_settings.html",
        may_change=base.may(auth.pixel_for, pixel.id, Action.CHANGE_PIXEL),
        details=details or Form.empty(name=pixel.name, slug=pixel.slug),
        sending=sending or sending_of(pixel),
        privacy=privacy
        or Form.empty(privacy=pixel.privacy, retentionDays=str(pixel.retention_days or "")),
        server_retention=current_app.config["SETTINGS"].retention_days,
        last_run=retention.last_run(),
        moving=moving or Form.empty(owner=_owner_of(pixel)),
        owners=_owners(),
        is_sent=pixel.sent_at is not None and pixel.sent_at < now(),
        hit_count=_hit_count(pixel),
        new_share=new_share or Form.empty(),
        deletion=deletion or Form.empty(),
        shares=shares.listing(pixel, ListQuery(page_size=SHARES_SHOWN_MAX)).data,
        public_url_for=public_url_for,
        **base.of_pixel(pixel),
    )
