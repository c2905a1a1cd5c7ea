"""The JSON routes of statistics.

They stand under `/api/pixels/{id}/…` and, for Umami's clients, under `/api/websites/{id}/…`, and
answer the same there, but that `/api/pixels` fills the gaps of a series with zeros.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, tzinfo
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flask import Response, request, stream_with_context

import auth
from core.clock import now
from core.errors import BadRequest, Forbidden, NotFound
from core.lists import Page
from models import Pixel
from pixels import exports
from stats import buckets, ids, questions, shapes
from stats.dimensions import CAMPAIGN_QUERY, FILTER_CHARACTERS_MAX
from stats.reading import Reading
from stats.shapes import Event, Filter, Point, Question
from web.api.blueprint import JsonBlueprint
from web.api.report_schemas import (
    FILTERS,
    INSTANT_MAX,
    INSTANT_MIN,
    OLDER_NAMES,
    ActiveOut,
    ChartsArgs,
    ChartsOut,
    DateRangeOut,
    EventPage,
    EventsArgs,
    ExpandedMetricOut,
    ExportArgs,
    MetricOut,
    MetricsArgs,
    PageviewsOut,
    SeriesArgs,
    StatsArgs,
    StatsOut,
    ValueOut,
    ValuesArgs,
)

View = TypeVar("View", bound=Callable[..., Any])

FILTERS_MAX = 20
CHART_DAYS = 7
# Two points a day up to here; of a longer range wider ones, which take no more time.
CHART_DAYS_MAX = 400
# Umami's number for what an image sends.
PIXEL_EVENT_TYPE = 4

blueprint = JsonBlueprint("reports", __name__, url_prefix="/api", description="Statistics")


def report(path: str, **declared: Any) -> Callable[[View], View]:
    """Route a view under both prefixes; what it declares is as for any route."""

    def register(view: View) -> View:
        blueprint.get(f"/pixels/<uuid:pixel_id>{path}", **declared)(view)
        blueprint.alias(f"/websites/<uuid:pixel_id>{path}", view)
        return view

    return register


@report("/stats", operation_id="getWebsiteStats", raises=(NotFound,))
@auth.required_or_shared
@blueprint.arguments(StatsArgs, location="query")
@blueprint.response(200, StatsOut)
def read_stats(arguments: dict[str, Any], pixel_id: uuid.UUID) -> dict[str, Any]:
    """Return the totals of a range, and of the one it is compared with."""
    question = question_of(readable(pixel_id), arguments)
    compared = questions.compared_with(question, arguments["compare"])
    comparison = questions.totals(compared)._asdict()
    return {**questions.totals(question)._asdict(), "comparison": comparison}


@report("/pageviews", operation_id="getWebsitePageviews", raises=(NotFound,))
@auth.required_or_shared
@blueprint.arguments(SeriesArgs, location="query")
@blueprint.response(200, PageviewsOut)
def read_series(arguments: dict[str, Any], pixel_id: uuid.UUID) -> dict[str, Any]:
    """Return page views and visitors over time, `x` being the zone's local time."""
    question = question_of(readable(pixel_id), arguments)
    unit = questions.widened(question, arguments["unit"])
    filled = request.path.startswith("/api/pixels/")
    shape: dict[str, Any] = _series(question, unit, filled)
    if arguments["compare"]:
        compared = questions.compared_with(question, arguments["compare"])
        shape |= {"startDate": question.start, "endDate": question.end}
        shape["compare"] = {
            **_series(compared, unit, filled),
            "startDate": compared.start,
            "endDate": compared.end,
        }
    return shape


@report("/metrics", operation_id="getWebsiteMetrics", raises=(NotFound, Forbidden))
@auth.required_or_shared
@blueprint.arguments(MetricsArgs, location="query")
@blueprint.response(200, MetricOut(many=True))
def read_metrics(arguments: dict[str, Any], pixel_id: uuid.UUID) -> list[dict[str, Any]]:
    """Return the values of a dimension by their visitors."""
    return [{"x": row.name, "y": row.visitors} for row in _breakdown(pixel_id, arguments)]


@report("/metrics/expanded", operation_id="getWebsiteExpandedMetrics", raises=(NotFound, Forbidden))
@auth.required_or_shared
@blueprint.arguments(MetricsArgs, location="query")
@blueprint.response(200, ExpandedMetricOut(many=True))
def read_expanded_metrics(
    arguments: dict[str, Any], pixel_id: uuid.UUID
) -> list[shapes.BreakdownRow]:
    """Return the values of a dimension with all their totals."""
    return _breakdown(pixel_id, arguments)


@report("/values", operation_id="getWebsiteValues", raises=(NotFound, Forbidden))
@auth.required_or_shared
@blueprint.arguments(ValuesArgs, location="query")
@blueprint.response(200, ValueOut(many=True))
def read_values(arguments: dict[str, Any], pixel_id: uuid.UUID) -> list[dict[str, Any]]:
    """Return the ten values of a dimension that most page views have."""
    question = question_of(readable(pixel_id), arguments)
    found = questions.values(question, _shared(arguments["type"]), arguments["search"])
    return [{"value": value, "count": count} for value, count in found]


@report("/active", operation_id="getWebsiteActive", raises=(NotFound,))
@auth.required_or_shared
@blueprint.response(200, ActiveOut)
def read_active(pixel_id: uuid.UUID) -> dict[str, int]:
    """Return the number of visitors of the last five minutes."""
    return {"visitors": questions.active(readable(pixel_id).number, now())}


@report("/daterange", operation_id="getWebsiteDateRange", raises=(NotFound,))
@auth.required_or_shared
@blueprint.response(200, DateRangeOut)
def read_date_range(pixel_id: uuid.UUID) -> dict[str, datetime | None]:
    """Return the instants of the first and the last hit, null without any."""
    first, last = questions.date_range(readable(pixel_id).number) or (None, None)
    return {"startDate": first, "endDate": last}


@report("/events", operation_id="getWebsiteEvents", raises=(NotFound, Forbidden))
@auth.required_or_shared
@blueprint.arguments(EventsArgs, location="query")
@blueprint.response(200, EventPage)
def list_events(arguments: dict[str, Any], pixel_id: uuid.UUID) -> Page[dict[str, Any]]:
    """Return a page of the hits, the newest first; with `after` the next ones, the oldest first."""
    pixel = readable(pixel_id)
    question = question_of(pixel, arguments)
    page, page_size = arguments["page"], arguments["pageSize"]
    if arguments["after"]:
        after = ids.hit_id(arguments["after"])
        found = questions.events_after(question, after, limit=page_size)
        return Page([_event(pixel, hit) for hit in shown(found)], len(found), 1, page_size)
    found = questions.events(question, page=page, page_size=page_size)
    count = questions.event_count(question)
    return Page([_event(pixel, hit) for hit in shown(found)], count, page, page_size)


@report("/export", operation_id="exportWebsite", raises=(NotFound,))
@auth.required
@blueprint.arguments(ExportArgs, location="query")
@blueprint.response(200, {"type": "string"}, content_type="text/csv")
@blueprint.alt_response(200, schema={"type": "string"}, content_type="application/jsonl")
def export_hits(arguments: dict[str, Any], pixel_id: uuid.UUID) -> Response:
    """Stream every hit as CSV or JSON lines, the oldest first."""
    pixel = readable(pixel_id)
    rows = exports.hits(pixel, question_of(pixel, arguments))
    name = f"pixel-{pixel.id}.{arguments['format']}"
    parts, media_type = (
        (exports.as_csv(rows, exports.HIT_COLUMNS), "text/csv; charset=utf-8")
        if arguments["format"] == "csv"
        else (exports.as_json_lines(rows), "application/jsonl")
    )
    response = Response(stream_with_context(parts), content_type=media_type)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@blueprint.get("/pixels/charts", operation_id="getPixelsCharts")
@auth.required_or_shared
@blueprint.arguments(ChartsArgs, location="query")
@blueprint.response(200, ChartsOut)
def read_charts(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a small chart of each pixel that the caller may see."""
    end = arguments["end"] or now()
    start = arguments["start"] or end - timedelta(days=CHART_DAYS)
    if end - start > timedelta(days=CHART_DAYS_MAX):
        # Clients ask for all that is yet to come, and nothing of that is on a chart.
        end = min(end, max(start, now()))
    unit: buckets.Unit = "half-day"
    if end - start > timedelta(days=CHART_DAYS_MAX):
        unit = buckets.widened(end - start, "day")
    return {"data": dict(_charts(arguments["ids"], start, end, arguments["timezone"], unit))}


blueprint.alias("/websites/charts", read_charts)


def readable(pixel_id: uuid.UUID) -> Pixel:
    """Return a pixel whose statistics the caller may read; every route asks here."""
    return auth.pixel_to_read(pixel_id)


def _shared(dimension: str) -> str:
    """Return the dimension that the caller may ask for by this name.

    Raises: Forbidden for a guest who asks for people.
    """
    if dimension == "recipient":
        auth.refuse_guests("who the recipients are")
    return CAMPAIGN_QUERY if dimension == "query" and auth.is_guest() else dimension


def shown(hits: list[Event]) -> list[Event]:
    """Return hits as the caller may see them: without recipients' names, nor what may name them."""
    return [_without_people(hit) for hit in hits] if auth.is_guest() else hits


def _without_people(hit: Event) -> Event:
    source = hit.source._replace(query=hit.values[CAMPAIGN_QUERY], referrer=None)
    visitor = None if hit.recipient else hit.visitor
    return hit._replace(recipient=None, visitor=visitor, source=source)


def question_of(pixel: Pixel, arguments: dict[str, Any]) -> Question:
    """Return what the arguments of `ReportArgs`, and the filters in the query, ask of a pixel."""
    start, end = arguments["start"] or INSTANT_MIN, arguments["end"] or INSTANT_MAX
    hit_class, zone = arguments["hit_class"], arguments["timezone"]
    any_filter = arguments["match"] == "any"
    return Question(
        pixel.number,
        start,
        end,
        hit_class,
        _filters(),
        zone,
        any_filter,
        Reading(pixel.number),
    )


def local(point: Point) -> str:
    """Return the start of a bucket in the zone's own time, as Umami writes it."""
    return point.at.strftime("%Y-%m-%d %H:%M:%S")


def _filters() -> tuple[Filter, ...]:
    """Return the filters in the query; a digit after a name is Umami's way to say another."""
    found = [
        _filter(name, text)
        for key, texts in request.args.lists()
        if (name := _dimension(key)) in FILTERS
        for text in texts
    ]
    if len(found) > FILTERS_MAX:
        raise BadRequest(f"There can be {FILTERS_MAX} filters at most.")
    return tuple(found)


def _dimension(key: str) -> str:
    name = key.rstrip("0123456789")
    return OLDER_NAMES.get(name, name)


def _filter(dimension: str, text: str) -> Filter:
    if len(text) > FILTER_CHARACTERS_MAX:
        message = f"Must be {FILTER_CHARACTERS_MAX} characters long at most."
        raise BadRequest(f"{dimension}: {message}", {dimension: [message]})
    dimension = _shared(dimension)
    match text.split(".", 1):
        case ["eq" | "neq" as operator, value]:
            return Filter(dimension, operator, _alternatives(value))
        case ["c" | "dnc" as operator, value]:
            return Filter(dimension, operator, (value,))
        case ["re" | "nre", _]:
            message = "Regular expressions are not supported; use c or dnc."
            raise BadRequest(f"{dimension}: {message}", {dimension: [message]})
    return Filter(dimension, "eq", _alternatives(text))


def _alternatives(text: str) -> tuple[str, ...]:
    """Return the values between commas, and the whole, which may be one value with commas."""
    return tuple(dict.fromkeys([text, *text.split(",")]))


def _series(
    question: Question, unit: buckets.Unit, filled: bool
) -> dict[str, list[dict[str, Any]]]:
    points = questions.series(question, unit, filled=filled)
    return {
        "pageviews": [{"x": local(point), "y": point.pageviews} for point in points],
        "sessions": [{"x": local(point), "y": point.visitors} for point in points],
    }


def _breakdown(pixel_id: uuid.UUID, arguments: dict[str, Any]) -> list[shapes.BreakdownRow]:
    return questions.breakdown(
        question_of(readable(pixel_id), arguments),
        _shared(arguments["type"]),
        limit=arguments["limit"],
        offset=arguments["offset"],
        search=arguments["search"],
    )


def _charts(
    ids: list[uuid.UUID], start: datetime, end: datetime, zone: tzinfo, unit: buckets.Unit
) -> Iterator[tuple[str, dict[str, Any]]]:
    for pixel_id in ids:
        try:
            pixel = readable(pixel_id)
        except (NotFound, Forbidden):
            continue
        question = Question(pixel.number, start, end, zone=zone)
        points = questions.series(question, unit, filled=True)
        total = questions.totals(question).visitors
        yield str(pixel_id), {"total": total, "values": [point.visitors for point in points]}


def _event(pixel: Pixel, hit: Event) -> dict[str, Any]:
    """Return a hit with Umami's keys and ours."""
    is_told = hit.source.referrer and hit.values["referrer"]
    referrer = urlsplit(hit.source.referrer or "") if is_told else None
    return {
        "id": ids.event_id(pixel, hit),
        "websiteId": pixel.id,
        "sessionId": ids.session_id(pixel, hit),
        "createdAt": hit.at,
        "eventType": PIXEL_EVENT_TYPE,
        "hostname": hit.source.hostname,
        "urlPath": f"/p/{pixel.slug}",
        "urlQuery": hit.source.query,
        "referrerDomain": hit.values["referrer"],
        "referrerPath": referrer and referrer.path,
        "referrerQuery": referrer and referrer.query,
        "country": hit.source.country,
        "city": None,
        "language": hit.source.language,
        "browser": hit.values["browser"],
        "os": hit.values["os"],
        "device": hit.values["device"],
        "pageTitle": None,
        "eventName": None,
        "hasData": False,
        "hit_class": hit.source.hit_class,
        "reason": hit.source.reason,
        "recipient": hit.recipient,
    }
