"""The list of pixels, the form for a new one, and the snippet to embed."""

from __future__ import annotations

import shlex
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

from flask import render_template, request
from sqlalchemy import ColumnElement
from werkzeug.wrappers import Response

import auth
from core.clock import now
from core.errors import SlugTaken
from core.permissions import Action
from models import Pixel, Team
from people import teams
from pixels import pixels, recipients
from schemas import PixelCreate
from stats import questions, shapes
from stats.shapes import Question
from web.pages import base, periods
from web.pages.base import Pages, Rendered, back_to
from web.pages.forms import Form
from web.request import public_base

blueprint = Pages("pixels_page", __name__)

# Before any hit, whatever a clock or an import says.
EVER = datetime(2000, 1, 1, tzinfo=UTC)


@blueprint.get("/")
def home() -> Response:
    """GET: the list of pixels."""
    return back_to("pixels_page.show_pixels")


@blueprint.get("/pixels")
def show_pixels() -> str:
    """GET: a page of the caller's pixels, or of a team's. 200; 404 for a stranger to the team."""
    owner, team = _owner_asked_for()
    found = pixels.listing(
        owner, search=base.search_text(), page=base.page_number(), page_size=base.PAGE_SIZE
    )
    at = now()
    return render_template(
        "pixels.html",
        found=found,
        rows=[_overview(each, at) for each in found.data],
        team=team,
        teams=teams.first_teams_of(auth.caller().user),
    )


@blueprint.get("/pixels/new")
def show_new() -> str:
    """GET: the form for a new pixel. 200; 403 for who may not create."""
    auth.caller().require(Action.CREATE_PIXEL)
    form = Form.empty(teamId=request.args.get("team", ""))
    return render_template("pixel_new.html", form=form, teams=_teams_to_create_in())


@blueprint.post("/pixels/new")
def create() -> Rendered:
    """POST: create a pixel. 303 to its snippet; 400; 403; 404 for a team of others."""
    auth.caller().require(Action.CREATE_PIXEL)
    sent = request.form.copy()
    if not sent.get("slug", "").strip():
        sent["slug"] = pixels.free_slug(sent.get("name", ""))
    form = Form(PixelCreate, sent)
    if not form.errors:
        with form.errors_at("slug", SlugTaken):
            return back_to("pixels_page.show_embed", pixel_id=_create(form.values).id)
    page = render_template("pixel_new.html", form=form, teams=_teams_to_create_in())
    return page, form.status


@blueprint.get("/pixels/slug")
def suggest_slug() -> dict[str, str]:
    """GET: a slug for a name, free a moment ago. 200."""
    return {"slug": pixels.free_slug(request.args.get("name", ""))}


@blueprint.get("/pixels/<uuid:pixel_id>/embed")
def show_embed(pixel_id: uuid.UUID) -> str:
    """GET: what to embed, and whether a hit has come yet. 200; 404 for a stranger."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
    url = recipients.url_of(public_base(), pixel.slug)
    html = recipients.img_of(url)
    first = _first_hit(pixel)
    return render_template(
        "pixel_embed.html", pixel=pixel, url=url, quoted_url=shlex.quote(url), html=html, hit=first
    )


@blueprint.get("/pixels/<uuid:pixel_id>/first-hit")
def show_first_hit(pixel_id: uuid.UUID) -> str:
    """GET: the line of the snippet's page that waits for the first hit alone. 200; 404."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
    return render_template("_first_hit.html", pixel=pixel, hit=_first_hit(pixel))


class Overview(NamedTuple):
    """A pixel as it is listed."""

    pixel: Pixel
    week: list[int]
    opens: int
    last_open: datetime | None


def _overview(pixel: Pixel, at: datetime) -> Overview:
    zone = base.zone()
    start = periods.period_of("7d", "", "", at, zone).start
    week = Question(pixel.number, start, at, zone=zone)
    ever = Question(pixel.number, EVER, at)
    points = questions.series(week, "half-day", filled=True)
    last = questions.events(ever, page_size=1)
    opens = questions.totals(ever).pageviews
    return Overview(pixel, [each.pageviews for each in points], opens, last[0].at if last else None)


def _first_hit(pixel: Pixel) -> shapes.Event | None:
    """Return a hit of any class, the newest, once there is one."""
    found = questions.events(Question(pixel.number, EVER, now(), "all"), page_size=1)
    return found[0] if found else None


def _create(values: dict[str, Any]) -> Pixel:
    caller = auth.caller()
    team_id = values["teamId"]
    if team_id is not None:
        auth.team_for(caller, team_id, Action.CREATE_PIXEL)
    return pixels.create(
        Pixel(
            id=uuid.uuid4(),
            name=values["name"],
            slug=values["slug"],
            user_id=None if team_id else caller.user.id,
            team_id=team_id,
        )
    )


def _owner_asked_for() -> tuple[ColumnElement[bool], Team | None]:
    caller = auth.caller()
    team_id = request.args.get("team", type=uuid.UUID)
    if team_id is None:
        return Pixel.user_id == caller.user.id, None
    return Pixel.team_id == team_id, auth.team_for(caller, team_id, Action.READ_PIXEL)


def _teams_to_create_in() -> list[Team]:
    found = teams.first_teams_of(auth.caller().user)
    return [each for each in found if base.may(auth.team_for, each.id, Action.CREATE_PIXEL)]
