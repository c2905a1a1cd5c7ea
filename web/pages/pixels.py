"""The list of pixels, and the form for a new one."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import NamedTuple

from flask import render_template, request
from werkzeug.wrappers import Response

import auth
from core.clock import now
from core.errors import SlugTaken
from core.permissions import Action
from models import Pixel, Team
from people import teams
from pixels import overviews, pixels
from pixels.overviews import Overview
from schemas import PixelCreate
from web.pages import base, charts, periods
from web.pages.base import Pages, Rendered, back_to
from web.pages.formats import counted, percent
from web.pages.forms import Form

blueprint = Pages("pixels_page", __name__)


@blueprint.get("/")
def home() -> Response:
    """GET: the list of pixels."""
    return back_to("pixels_page.show_pixels")


@blueprint.get("/pixels")
def show_pixels() -> str:
    """GET: a page of the caller's pixels, or of a team's. 200; 404 for a stranger to the team."""
    owner, team = _owner_asked_for()
    at, own_teams = now(), teams.first_teams_of(auth.caller().user)
    sorting = base.sorting(overviews.ORDERS, "sentAt", rising={"name"})
    found = overviews.listing(owner, at, base.list_query(sorting=sorting))
    rows = [_row(overview, at) for overview in found.data]
    return render_template(
        "pixels.html",
        found=found,
        sorting=sorting,
        rows=rows,
        can_compare=sum(row.can_compare for row in rows) > 1,
        team=team,
        tabs_of_owners=_owners_tabs(team, own_teams),
        offers_teams=not own_teams and not found.count and not base.search_text(),
    )


@blueprint.get("/pixels/new")
def show_new() -> str:
    """GET: the form for a new pixel. 200; 403 for a user who may not create."""
    auth.caller().require(Action.CREATE_PIXEL)
    form = Form.empty(teamId=request.args.get("team", ""))
    return render_template("pixel_new.html", form=form, owners=_owners())


@blueprint.post("/pixels/new")
def create() -> Rendered:
    """POST: create a pixel. 303 to its report; 400; 403; 404 for a team of others."""
    auth.caller().require(Action.CREATE_PIXEL)
    sent = request.form.copy()
    if not sent.get("slug", "").strip():
        sent["slug"] = pixels.free_slug(sent.get("name", ""))
    form = Form(PixelCreate, sent)
    if not form.errors:
        with form.errors_at("slug", SlugTaken):
            owner = auth.first_owner(auth.caller(), form.values["teamId"])
            made = pixels.create(form.values["name"], form.values["slug"], owner)
            return back_to("report.show", pixel_id=made.id)
    page = render_template("pixel_new.html", form=form, owners=_owners())
    return page, form.status


@blueprint.get("/pixels/slug")
def suggest_slug() -> dict[str, str]:
    """GET: a slug for a name, free a moment ago. 200."""
    return {"slug": pixels.free_slug(request.args.get("name", ""))}


class OwnersTab(NamedTuple):
    """Whose pixels there are to see, and how many."""

    name: str
    team_id: uuid.UUID | None
    pixels: int
    is_current: bool


class PixelRow(NamedTuple):
    """A pixel as it is listed."""

    pixel: Pixel
    sent_at: datetime | None
    sent: int | None
    opened: int
    last_open: datetime | None
    spark: str
    bars: str
    spark_label: str
    can_compare: bool


def _row(overview: Overview, at: datetime) -> PixelRow:
    pixel, figures, counts = overview
    age = (at - pixel.sent_at).total_seconds() / 3600 if pixel.sent_at else -1.0
    spark, bars, label = "", "", ""
    if figures.has_people and age > 0 and figures.sent:
        hours = min(int(age), charts.SPARK_HOURS)
        spark = charts.spark(counts, figures.sent, age)
        opened = sum(counts[: hours // charts.SPARK_STEP_HOURS])
        label = f"{percent(opened, figures.sent)} after {counted(hours, 'hour')}"
    elif figures.opened and not figures.has_people:
        days = _opens_by_day(pixel, at)
        bars = charts.spark_bars(days)
        label = f"{counted(sum(days), 'open')} in {charts.SPARK_DAYS} days"
    return PixelRow(
        pixel,
        pixel.sent_at,
        figures.sent,
        figures.opened,
        figures.last_opened_at,
        spark,
        bars,
        label,
        can_compare=bool(age > 0 and figures.sent),
    )


def _opens_by_day(pixel: Pixel, at: datetime) -> list[int]:
    zone = base.zone()
    return overviews.opens_by_day(pixel, periods.days_before(at, charts.SPARK_DAYS, zone), at, zone)


def _owners_tabs(team: Team | None, found: list[Team]) -> list[OwnersTab]:
    """Return one's own pixels and those of one's teams, with how many there are."""
    user_id = auth.caller().user.id
    own, of_teams = pixels.counts(user_id, [own_team.id for own_team in found])
    return [
        OwnersTab("Yours", None, own, team is None),
        *(
            OwnersTab(own_team.name, own_team.id, of_teams.get(own_team.id, 0), team == own_team)
            for own_team in found
        ),
    ]


def _owner_asked_for() -> tuple[uuid.UUID, Team | None]:
    caller = auth.caller()
    team_id = request.args.get("team", type=uuid.UUID)
    if team_id is None:
        return caller.user.id, None
    return team_id, auth.team_for(caller, team_id, Action.READ_PIXEL)


def _owners() -> list[tuple[str, str]]:
    """Return whom a new pixel may belong to, as a choice."""
    found = teams.first_teams_of(auth.caller().user)
    allowed = [team for team in found if base.may(auth.team_for, team.id, Action.CREATE_PIXEL)]
    return [("", "You"), *((str(team.id), team.name) for team in allowed)]
