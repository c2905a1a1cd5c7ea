"""What Umami's clients ask of websites: a pixel is one, wherever they look for it.

Here are the lists of them, and those statistics that only Umami's clients ask for. A hit has no
page and no name of its own, so that what counts named events counts hits by their class.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from flask import jsonify

import auth
from core.clock import milliseconds, now
from core.errors import Forbidden, NotFound
from core.lists import ListQuery, Page
from core.permissions import Action
from models import Owner, Pixel
from people import accounts, teams
from pixels import pixels
from stats import ids, questions
from stats.days import HOURS_A_DAY
from stats.dimensions import values_of
from stats.sessions import Session, sessions
from stats.shapes import Event, Question
from web.api.blueprint import JsonBlueprint
from web.api.report_schemas import (
    CLASS_CHOICES,
    EventPointOut,
    EventPointsArgs,
    EventStatsOut,
    RealtimeArgs,
    RealtimeOut,
    ReportArgs,
    SessionPage,
    SessionsArgs,
    SessionStatsOut,
    StatsArgs,
    UtmArgs,
    UtmOut,
    WebsiteListArgs,
    WebsiteOut,
    WebsitePage,
)
from web.api.reports import local, question_of, readable, report, shown

REALTIME_MINUTES = 30
REALTIME_EVENTS_MAX = 100
COUNTRIES_MAX = 1_000
UTM_VALUES_MAX = 50
DAYS_A_WEEK = 7

blueprint = JsonBlueprint("websites", __name__, url_prefix="/api", description="Umami's websites")


@blueprint.get("/websites", operation_id="listWebsites")
@auth.required
@blueprint.arguments(WebsiteListArgs, location="query")
@blueprint.response(200, WebsitePage)
def list_websites(arguments: dict[str, Any]) -> Page[Any]:
    """Return a page of the caller's pixels, as Umami's clients ask for websites."""
    return _websites(_owners(auth.caller().user.id, arguments), arguments["list"])


@blueprint.get("/me/websites", operation_id="getMyWebsites")
@auth.required
@blueprint.arguments(WebsiteListArgs, location="query")
@blueprint.response(200, WebsitePage)
def list_my_websites(arguments: dict[str, Any]) -> Page[Any]:
    """Return a page of the caller's pixels, where Umami has it too."""
    return _websites(_owners(auth.caller().user.id, arguments), arguments["list"])


@blueprint.get("/users/<uuid:user_id>/websites", operation_id="getUserWebsites", raises=(NotFound,))
@auth.required
@blueprint.arguments(WebsiteListArgs, location="query")
@blueprint.response(200, WebsitePage)
def list_websites_of_user(arguments: dict[str, Any], user_id: uuid.UUID) -> Page[Any]:
    """Return a page of a user's pixels. Admins may ask for everybody's, others for their own."""
    caller = auth.caller()
    if user_id != caller.user.id and not caller.may(Action.MANAGE_USERS):
        raise NotFound("No such user.")
    return _websites(_owners(accounts.user_of(user_id).id, arguments), arguments["list"])


@blueprint.get("/teams/<uuid:team_id>/websites", operation_id="getTeamWebsites", raises=(NotFound,))
@auth.required
@blueprint.arguments(WebsiteListArgs, location="query")
@blueprint.response(200, WebsitePage)
def list_websites_of_team(arguments: dict[str, Any], team_id: uuid.UUID) -> Page[Any]:
    """Return a page of a team's pixels, as Umami's clients ask for websites."""
    auth.team_for(auth.caller(), team_id, Action.READ_PIXEL)
    return _websites([Owner(team_id=team_id)], arguments["list"])


@blueprint.get("/websites/<uuid:pixel_id>", operation_id="getWebsite", raises=(NotFound,))
@auth.required_or_shared
@blueprint.response(200, WebsiteOut)
def read_website(pixel_id: uuid.UUID) -> dict[str, Any]:
    """Return a pixel in the shape of Umami's websites."""
    return _shapes([readable(pixel_id)])[0]


# A share shows figures, and not people one by one.
@report("/sessions", operation_id="getWebsiteSessions", raises=(NotFound, Forbidden))
@auth.required
@blueprint.arguments(SessionsArgs, location="query")
@blueprint.response(200, SessionPage)
def list_sessions(arguments: dict[str, Any], pixel_id: uuid.UUID) -> Page[Any]:
    """Return a page of the visitors, the last to come first, as Umami's sessions."""
    pixel = readable(pixel_id)
    page, page_size = arguments["page"], arguments["pageSize"]
    found, count = sessions(question_of(pixel, arguments), page=page, page_size=page_size)
    return Page([_session(pixel, session) for session in found], count, page, page_size)


@report("/sessions/stats", operation_id="getWebsiteSessionStats", raises=(NotFound, Forbidden))
@auth.required_or_shared
@blueprint.arguments(ReportArgs, location="query")
@blueprint.response(200, SessionStatsOut)
def read_session_stats(arguments: dict[str, Any], pixel_id: uuid.UUID) -> dict[str, Any]:
    """Return the totals of a range and its number of countries; there are no named events."""
    question = question_of(readable(pixel_id), arguments)
    totals = questions.totals(question)
    countries = questions.breakdown(question, "country", limit=COUNTRIES_MAX)
    figures = {
        "pageviews": totals.pageviews,
        "visitors": totals.visitors,
        "visits": totals.visits,
        "countries": len(countries),
        "events": 0,
    }
    return {name: {"value": value} for name, value in figures.items()}


@report("/sessions/weekly", operation_id="getWebsiteSessionsWeekly", raises=(NotFound, Forbidden))
@auth.required_or_shared
@blueprint.arguments(ReportArgs, location="query")
@blueprint.response(
    200, {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}
)
def read_weekly_sessions(arguments: dict[str, Any], pixel_id: uuid.UUID) -> Any:
    """Return visitors by the day of the week, from Sunday, and by its hour in the zone."""
    weekly = [[0] * HOURS_A_DAY for _ in range(DAYS_A_WEEK)]
    # A range of years costs no more hours than there are between the first hit and the last.
    question = questions.clipped(question_of(readable(pixel_id), arguments))
    for point in questions.series(question, "hour", filled=False) if question else ():
        weekly[point.at.isoweekday() % DAYS_A_WEEK][point.at.hour] += point.visitors
    return jsonify(weekly)


@report("/events/series", operation_id="getWebsiteEventSeries", raises=(NotFound, Forbidden))
@auth.required_or_shared
@blueprint.arguments(EventPointsArgs, location="query")
@blueprint.response(200, EventPointOut(many=True))
def read_event_series(arguments: dict[str, Any], pixel_id: uuid.UUID) -> list[dict[str, Any]]:
    """Return hits over time by their class, which stands where Umami has an event's name."""
    question = question_of(readable(pixel_id), arguments)
    unit = questions.widened(question, arguments["unit"])
    found = [
        {"x": class_question.hit_class, "t": local(point), "y": point.pageviews}
        for class_question in _by_class(question)
        for point in questions.series(class_question, unit, filled=False)
    ]
    return sorted(found, key=lambda point: (point["t"], point["x"]))


@report("/events/stats", operation_id="getWebsiteEventStats", raises=(NotFound, Forbidden))
@auth.required_or_shared
@blueprint.arguments(StatsArgs, location="query")
@blueprint.response(200, EventStatsOut)
def read_event_stats(arguments: dict[str, Any], pixel_id: uuid.UUID) -> dict[str, Any]:
    """Return the totals of the hits as events; their classes are what Umami counts as names."""
    question = question_of(readable(pixel_id), arguments)
    compared = questions.compared_with(question, arguments["compare"])
    return {"data": {**_event_totals(question), "comparison": _event_totals(compared)}}


@report("/utm/metrics", operation_id="getWebsiteUtmMetrics", raises=(NotFound, Forbidden))
@auth.required_or_shared
@blueprint.arguments(UtmArgs, location="query")
@blueprint.response(200, UtmOut(many=True))
def read_utm_metrics(arguments: dict[str, Any], pixel_id: uuid.UUID) -> list[dict[str, Any]]:
    """Return the values of a campaign's parameter that most page views have."""
    question = question_of(readable(pixel_id), arguments)
    found = questions.breakdown(question, arguments["type"], limit=UTM_VALUES_MAX)
    ordered = sorted(found, key=lambda row: (-row.pageviews, row.name))
    return [{"utm": row.name, "views": row.pageviews} for row in ordered]


@blueprint.get(
    "/realtime/<uuid:pixel_id>", operation_id="getRealtime", raises=(NotFound, Forbidden)
)
@auth.required_or_shared
@blueprint.arguments(RealtimeArgs, location="query")
@blueprint.response(200, RealtimeOut)
def read_realtime(arguments: dict[str, Any], pixel_id: uuid.UUID) -> dict[str, Any]:
    """Return the hits of the last half hour: by minute, by country and one by one."""
    pixel, at = readable(pixel_id), now()
    start = at.replace(second=0, microsecond=0) - timedelta(minutes=REALTIME_MINUTES)
    question = question_of(pixel, {**arguments, "start": start, "end": at})
    hits = shown(questions.events(question, page_size=REALTIME_EVENTS_MAX))
    points = questions.series(question, "minute", filled=False)
    countries = _counted(hit.source.country for hit in hits)
    totals = questions.totals(question)
    return {
        "countries": countries,
        "urls": {f"/p/{pixel.slug}": totals.pageviews} if totals.pageviews else {},
        "referrers": _counted(hit.values["referrer"] for hit in hits),
        "events": [_realtime_event(pixel, hit) for hit in hits],
        "series": {
            "views": [{"x": local(point), "y": point.pageviews} for point in points],
            "visitors": [{"x": local(point), "y": point.visitors} for point in points],
        },
        "totals": {
            "views": totals.pageviews,
            "visitors": totals.visitors,
            "events": 0,
            "countries": len(countries),
        },
        "timestamp": milliseconds(at),
    }


def _owners(user_id: uuid.UUID, arguments: dict[str, Any]) -> list[Owner]:
    of_teams = teams.ids_of(user_id) if arguments["includeTeams"] else []
    return [Owner(user_id=user_id), *(Owner(team_id=team_id) for team_id in of_teams)]


def _websites(owners: list[Owner], query: ListQuery) -> Page[Any]:
    if query.order_by == "domain":
        query = replace(query, order_by="slug")
    found = pixels.listing(owners, query)
    shapes: list[Any] = _shapes(found.data)
    return replace(found, data=shapes)


def _shapes(found: list[Pixel]) -> list[dict[str, Any]]:
    """Return pixels with their owners, which Umami's websites name where they have one.

    A guest is not told by what name the owner signs in.
    """
    users = accounts.users_of({pixel.user_id for pixel in found if not auth.is_guest()})
    columns = ("id", "name", "slug", "user_id", "team_id", "created_at")
    return [
        {
            **{column: getattr(pixel, column) for column in columns},
            # Clients in Python do without neither.
            "updated_at": pixel.updated_at or pixel.created_at,
            "created_by": pixel.user_id,
            **({"user": users[pixel.user_id]} if pixel.user_id in users else {}),
        }
        for pixel in found
    ]


def _session(pixel: Pixel, session: Session) -> dict[str, Any]:
    values = values_of(session.source)
    id = ids.session_id_of(pixel, session.visitor)
    return {
        "id": id,
        "websiteId": pixel.id,
        "hostname": session.source.hostname,
        "browser": values["browser"],
        "os": values["os"],
        "device": values["device"],
        "screen": None,
        "language": session.source.language,
        "country": session.source.country,
        "region": None,
        "city": None,
        "firstAt": session.first_at,
        "lastAt": session.last_at,
        "visits": session.visits,
        "views": session.views,
        "events": 0,
        "createdAt": session.last_at,
    }


def _by_class(question: Question) -> list[Question]:
    """Return a question for each class that it is about."""
    if question.hit_class != "all":
        return [question]
    return [
        replace(question, hit_class=hit_class) for hit_class in CLASS_CHOICES if hit_class != "all"
    ]


def _event_totals(question: Question) -> dict[str, int]:
    totals = questions.totals(question)
    classes = questions.breakdown(question, "class", limit=len(CLASS_CHOICES))
    return {
        "events": totals.pageviews,
        "visitors": totals.visitors,
        "visits": totals.visits,
        "uniqueEvents": len(classes),
    }


def _counted(values: Iterable[str | None]) -> dict[str, int]:
    return dict(Counter(value for value in values if value).most_common())


def _realtime_event(pixel: Pixel, hit: Event) -> dict[str, Any]:
    return {
        "type": "pageview",
        "sessionId": ids.session_id(pixel, hit),
        "eventName": "",
        "createdAt": hit.at,
        "browser": hit.values["browser"],
        "os": hit.values["os"],
        "device": hit.values["device"],
        "country": hit.source.country,
        "urlPath": f"/p/{pixel.slug}",
        "referrerDomain": hit.values["referrer"],
        "hostname": hit.source.hostname,
    }
