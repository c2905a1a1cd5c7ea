"""A pixel's settings: name, slug, privacy, shares, deletion."""

from __future__ import annotations

import uuid

from flask import flash, render_template
from werkzeug.wrappers import Response

import auth
from core.errors import BadRequest, NotFound, SlugTaken
from core.permissions import Action
from models import Pixel
from pixels import pixels, shares
from schemas import PixelUpdate, ShareCreate
from web.pages import base, forms
from web.pages.base import Pages, Rendered, back_to, pixel_to_change
from web.pages.forms import Form
from web.pages.recipients import RECIPIENTS_BYTES_MAX, issue
from web.request import public_base

blueprint = Pages("pixel_settings_page", __name__)

SHARES_SHOWN_MAX = shares.SHARES_PER_PIXEL_MAX


@blueprint.get("/pixels/<uuid:pixel_id>/settings")
def show_settings(pixel_id: uuid.UUID) -> str:
    """GET: a pixel's name, slug, privacy, shares and end. 200; 404 for a stranger."""
    return _settings(auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL))


@blueprint.post("/pixels/<uuid:pixel_id>/settings")
def change(pixel_id: uuid.UUID) -> Rendered:
    """POST: change name, slug and privacy. 303; 400; 403 for who may only read; 404."""
    pixel = pixel_to_change(pixel_id)
    form = Form(PixelUpdate)
    if not form.errors:
        with form.errors_at("slug", SlugTaken):
            pixels.change(pixel, form.values)
            flash("Saved.")
            return back_to("pixel_settings_page.show_settings", pixel_id=pixel_id)
    return _settings(pixel, details=form), form.status


@blueprint.post("/pixels/<uuid:pixel_id>/shares")
def share(pixel_id: uuid.UUID) -> Rendered:
    """POST: make a link that shows the report to everybody. 303; 400; 403; 404."""
    pixel = pixel_to_change(pixel_id)
    form = Form(ShareCreate)
    if not form.errors:
        with form.errors_at("name", BadRequest):
            shares.create(pixel, form.values["name"], form.values["parameters"])
            return back_to("pixel_settings_page.show_settings", pixel_id=pixel_id, _anchor="shares")
    return _settings(pixel, new_share=form), form.status


@blueprint.post("/pixels/<uuid:pixel_id>/shares/<uuid:share_id>/end")
def end_share(pixel_id: uuid.UUID, share_id: uuid.UUID) -> Response:
    """POST: end a share. 303; 403; 404 for a stranger, or a share of another pixel."""
    pixel = pixel_to_change(pixel_id)
    found = shares.find(share_id)
    if found.pixel_number != pixel.number:
        raise NotFound(shares.NO_SUCH_SHARE)
    shares.remove(found)
    flash("The link shows nothing any more.")
    return back_to("pixel_settings_page.show_settings", pixel_id=pixel_id, _anchor="shares")


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


issue.body_bytes_max = RECIPIENTS_BYTES_MAX  # type: ignore[attr-defined]


def _settings(
    pixel: Pixel,
    details: Form | None = None,
    new_share: Form | None = None,
    deletion: Form | None = None,
) -> str:
    return render_template(
        "pixel_settings.html",
        pixel=pixel,
        may_change=base.may(auth.pixel_for, pixel.id, Action.CHANGE_PIXEL),
        details=details or Form.empty(name=pixel.name, slug=pixel.slug, privacy=pixel.privacy),
        new_share=new_share or Form.empty(),
        deletion=deletion or Form.empty(),
        shares=shares.listing(pixel, 1, SHARES_SHOWN_MAX).data,
        base=public_base(),
    )
