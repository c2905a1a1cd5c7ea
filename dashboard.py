"""The pages of signing in and of pixels: list, create, embed, change, delete."""

from __future__ import annotations

import shlex
import uuid
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from zoneinfo import available_timezones

from flask import redirect, render_template, request, url_for
from sqlalchemy import ColumnElement
from werkzeug.wrappers import Response

import accounts
import auth
import pages
import periods
import pixels
import recipients
import stats
from api import address, public_base
from database import now
from errors import IncorrectLogin, SlugTaken
from models import Pixel, Team
from pages import Form, Pages, back_to, public
from permissions import Action
from schemas import LoginArgs, PixelCreate
from stats import Question

blueprint = Pages("dashboard", __name__)

# Before any hit, whatever a clock or an import says.
EVER = datetime(2000, 1, 1, tzinfo=UTC)

Rendered = str | tuple[str, int] | Response


@blueprint.get("/")
def home() -> Response:
    """GET: the list of pixels."""
    return back_to("dashboard.show_pixels")


@blueprint.get("/sign-in")
@public
def show_sign_in() -> Rendered:
    """GET: the form that asks for a name and a password. No session. 200."""
    return render_template("sign_in.html", form=Form.empty())


@blueprint.post("/sign-in")
@public
def do_sign_in() -> Rendered:
    """POST: start a session. No session. 303; 400 for a form that can't be right; 401; 429."""
    form = Form(LoginArgs)
    if not form.errors:
        with form.errors_at("password", IncorrectLogin):
            username, password = form.values["username"], form.values["password"]
            pages.sign_in(auth.login(username, password, address(), now()))
            target = pages.local_target(request.args.get("next", ""))
            return redirect(target or url_for("dashboard.show_pixels"), HTTPStatus.SEE_OTHER)
    status = HTTPStatus.UNAUTHORIZED if form.values else HTTPStatus.BAD_REQUEST
    return render_template("sign_in.html", form=form), status


@blueprint.post("/sign-out")
def do_sign_out() -> Response:
    """POST: end the session. 303."""
    pages.sign_out()
    return back_to("dashboard.show_sign_in")


@blueprint.get("/zone")
@public
def show_zone() -> str:
    """GET: the choice of the zone that times are shown in. No session. 200."""
    return render_template("zone.html", zones=sorted(available_timezones()))


@blueprint.post("/zone")
@public
def choose_zone() -> Response:
    """POST: remember the zone in a cookie. No session. 303 back to where the viewer was."""
    chosen = pages.zone_named(request.form.get("zone", "")) or pages.UTC
    target = pages.local_target(request.form.get("next", ""))
    response = redirect(target or url_for("dashboard.show_pixels"), HTTPStatus.SEE_OTHER)
    response.set_cookie(
        pages.ZONE_COOKIE, chosen.key, max_age=pages.ZONE_SECONDS_MAX, samesite="Lax"
    )
    return response


@blueprint.get("/pixels")
def show_pixels() -> str:
    """GET: a page of the caller's pixels, or of a team's. 200; 404 for a stranger to the team."""
    owner, team = _owner_asked_for()
    found = pixels.listing(
        owner, search=pages.search_text(), page=pages.page_number(), page_size=pages.PAGE_SIZE
    )
    at = now()
    return render_template(
        "pixels.html",
        found=found,
        rows=[_overview(each, at) for each in found.data],
        team=team,
        teams=accounts.first_teams_of(auth.caller().user),
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
            return back_to("dashboard.show_embed", pixel_id=_create(form.values).id)
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
    zone = pages.zone()
    start = periods.period_of("7d", "", "", at, zone).start
    week = Question(pixel.number, start, at, zone=zone)
    ever = Question(pixel.number, EVER, at)
    points = stats.series(week, "half-day", filled=True)
    last = stats.events(ever, page_size=1)
    opens = stats.totals(ever).pageviews
    return Overview(pixel, [each.pageviews for each in points], opens, last[0].at if last else None)


def _first_hit(pixel: Pixel) -> stats.Event | None:
    """Return a hit of any class, the newest, once there is one."""
    found = stats.events(Question(pixel.number, EVER, now(), "all"), page_size=1)
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
    teams = accounts.first_teams_of(auth.caller().user)
    return [each for each in teams if pages.may(auth.team_for, each.id, Action.CREATE_PIXEL)]
