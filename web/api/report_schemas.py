"""The shapes of the statistics' questions and answers, in marshmallow; no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import ValidationError, fields, post_load, validate

from core.fields import InstantField, Line
from core.zones import zone_named
from schemas import NOTHING, PAGE_MAX, IdList, PageArgs, PageSize, Shape, UserBrief, page_of
from stats.dimensions import DIMENSIONS

# ruff: noqa: N815  The names are the JSON keys.

CLASS_CHOICES = ("open", "prefetch", "bot", "all")
UNITS = ("minute", "hour", "day", "month", "year")

# Umami's dimensions that an image in a mail has no values of: asking for one finds nothing.
LACKED = (
    *("path", "entry", "exit", "title", "domain", "event", "tag", "screen", "region", "city"),
    *("distinctId", "fullPath"),
)
# What older clients of Umami call some of them.
OLDER_NAMES = {"url": "path", "host": "hostname"}
# `class` is a parameter of its own.
FILTERS = tuple(name for name in (*DIMENSIONS, *LACKED) if name != "class")

ROWS_MAX = 100_000
CHARTS_MAX = 20
# Wide enough for every hit, and a day and more from the ends of what datetime can say.
INSTANT_MIN, INSTANT_MAX = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
INSTANT_MS_MAX = 4_102_444_800_000


class ZoneField(fields.Field[ZoneInfo]):
    """An IANA time zone by its name."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("metadata", {"type": "string"})
        super().__init__(**kwargs)

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str:
        return str(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> ZoneInfo:
        zone = zone_named(str(value))
        if zone is None:
            raise ValidationError("Not an IANA time zone.")
        return zone


class MillisecondsField(fields.Integer):
    """An instant in milliseconds since the epoch; one later than we can hold is the last we can."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        return min(super()._deserialize(value, attr, data, **kwargs), INSTANT_MS_MAX)


class RangeInstantField(InstantField):
    """An instant in ISO 8601; one later than we can hold is the last we can."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        return min(super()._deserialize(value, attr, data, **kwargs), INSTANT_MAX)


class DimensionField(fields.String):
    """A dimension by its name, or by what older clients of Umami call it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        name = str(super()._deserialize(value, attr, data, **kwargs))
        return OLDER_NAMES.get(name, name)


class RangeArgs(Shape):
    """From when to when, both included: in milliseconds since the epoch, or as ISO 8601."""

    range_needed = True

    startAt = MillisecondsField(validate=validate.Range(0))
    endAt = MillisecondsField(validate=validate.Range(0))
    startDate = RangeInstantField(validate=validate.Range(INSTANT_MIN))
    endDate = RangeInstantField(validate=validate.Range(INSTANT_MIN))
    timezone = ZoneField(load_default=ZoneInfo("UTC"))

    @post_load
    def _to_instants(self, arguments: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
        start, end = (_instant(arguments, "start"), _instant(arguments, "end"))
        if self.range_needed and (start is None or end is None):
            raise ValidationError(
                "Either startAt and endAt or startDate and endDate must be given.", "startAt"
            )
        if (start or INSTANT_MIN) > (end or INSTANT_MAX):
            raise ValidationError("Must not be after the end.", "startAt")
        return {**arguments, "start": start, "end": end}


def _instant(arguments: dict[str, Any], which: str) -> datetime | None:
    at_ms, at = arguments.get(f"{which}At"), arguments.get(f"{which}Date")
    return at if at_ms is None else INSTANT_MIN + timedelta(milliseconds=at_ms)


FilterArgs = Shape.from_dict(
    {
        name: fields.String(
            metadata={
                "description": f"Only hits whose {name} is this. With `eq.`, `neq.`, `c.` or `dnc.`"
                " before it: is, is not, contains, does not contain; commas separate several."
            }
        )
        for name in FILTERS
    },
    name="FilterArgs",
)


def _refuse_saved_filters(_value: Any) -> None:
    """Refuse what would otherwise be ignored, and figures of all hits taken for those of some."""
    raise ValidationError("There are no segments and no cohorts here; use filters.")


class ReportArgs(RangeArgs, FilterArgs):  # type: ignore[misc, valid-type]
    """Which hits are asked for.

    A filter is a dimension's name with `eq.`, `neq.`, `c.` or `dnc.` (is, is not, contains,
    does not contain) before the value, `eq` unless said; commas separate values of the first two.
    """

    hit_class = fields.String(
        data_key="class",
        load_default="open",
        validate=validate.OneOf(CLASS_CHOICES),
    )
    match = fields.String(load_default="all", validate=validate.OneOf(["all", "any"]))
    segment = fields.Raw(validate=_refuse_saved_filters)
    cohort = fields.Raw(validate=_refuse_saved_filters)


class StatsArgs(ReportArgs):
    """What to compare with: the time just before, or a year earlier."""

    compare = fields.String(load_default="prev", validate=validate.OneOf(["prev", "yoy"]))


class SeriesArgs(ReportArgs):
    """How wide the buckets are; too narrow ones for the range become wider."""

    unit = fields.String(load_default="day", validate=validate.OneOf(UNITS))
    compare = fields.String(load_default=None, validate=validate.OneOf(["prev", "yoy"]))


class MetricsArgs(ReportArgs):
    """Which dimension, and which part of the list of its values."""

    type = DimensionField(required=True, validate=validate.OneOf([*DIMENSIONS, *LACKED]))
    limit = fields.Integer(load_default=500, validate=validate.Range(1, ROWS_MAX))
    offset = fields.Integer(load_default=0, validate=validate.Range(0, ROWS_MAX))
    search = Line(0, 200, load_default="")


class ValuesArgs(ReportArgs):
    """Which dimension, and a part of the values."""

    type = DimensionField(required=True, validate=validate.OneOf([*DIMENSIONS, *LACKED]))
    search = Line(0, 200, load_default="")


class EventsArgs(ReportArgs):
    """Which page of the hits, the newest first; or those after one, the oldest first."""

    range_needed = False

    page = fields.Integer(load_default=1, validate=validate.Range(1, PAGE_MAX))
    pageSize = PageSize()
    after = fields.UUID(load_default=None)


class ExportArgs(ReportArgs):
    """In what format."""

    range_needed = False

    format = fields.String(load_default="csv", validate=validate.OneOf(["csv", "jsonl"]))


class ChartsArgs(RangeArgs):
    """Which pixels, by ids repeated or separated by commas; the last seven days by default."""

    range_needed = False

    ids = IdList(CHARTS_MAX, required=True)


class TotalsOut(Shape):
    """The totals of hits; `totaltime` is in seconds."""

    pageviews = fields.Integer(required=True)
    visitors = fields.Integer(required=True)
    visits = fields.Integer(required=True)
    bounces = fields.Integer(required=True)
    totaltime = fields.Integer(required=True)


class StatsOut(TotalsOut):
    """The totals, and those they are compared with."""

    comparison = fields.Nested(TotalsOut, required=True)


class PointOut(Shape):
    """A bucket by its local start, and how many."""

    x = fields.String(required=True)
    y = fields.Integer(required=True)


class SeriesOut(Shape):
    """Page views and visitors by bucket."""

    pageviews = fields.List(fields.Nested(PointOut), required=True)
    sessions = fields.List(fields.Nested(PointOut), required=True)


class ComparedOut(SeriesOut):
    """A series and its range."""

    startDate = InstantField(required=True)
    endDate = InstantField(required=True)


class PageviewsOut(SeriesOut):
    """A series; with `compare` also its range, and the series it is compared with."""

    startDate = InstantField()
    endDate = InstantField()
    compare = fields.Nested(ComparedOut)


class MetricOut(Shape):
    """A value of a dimension, and its visitors."""

    x = fields.String(required=True)
    y = fields.Integer(required=True)


class ExpandedMetricOut(TotalsOut):
    """A value of a dimension, and the totals of its hits."""

    name = fields.String(required=True)


class ValueOut(Shape):
    """A value of a dimension, and its page views."""

    value = fields.String(required=True)
    count = fields.Integer(required=True)


class ActiveOut(Shape):
    """Visitors of the last five minutes."""

    visitors = fields.Integer(required=True)


class DateRangeOut(Shape):
    """The instants of the first and the last hit, null without any."""

    startDate = InstantField(required=True, allow_none=True)
    endDate = InstantField(required=True, allow_none=True)


class ChartOut(Shape):
    """Visitors in all, and by half days of the zone; by days, months or years of a long range."""

    total = fields.Integer(required=True)
    values = fields.List(fields.Integer(), required=True)


class ChartsOut(Shape):
    """A chart by each pixel's id; a pixel that the caller may not see is left out."""

    data = fields.Dict(keys=fields.String(), values=fields.Nested(ChartOut), required=True)


class EventOut(Shape):
    """A hit."""

    id = fields.UUID(required=True)
    websiteId = fields.UUID(required=True)
    sessionId = fields.UUID(required=True)
    createdAt = InstantField(required=True)
    eventType = fields.Integer(required=True)
    hostname = fields.String(required=True, allow_none=True)
    urlPath = fields.String(required=True)
    urlQuery = fields.String(required=True, allow_none=True)
    referrerDomain = fields.String(required=True, allow_none=True)
    referrerPath = fields.String(required=True, allow_none=True)
    referrerQuery = fields.String(required=True, allow_none=True)
    country = fields.String(required=True, allow_none=True)
    city = fields.String(required=True, allow_none=True)
    language = fields.String(required=True, allow_none=True)
    browser = fields.String(required=True, allow_none=True)
    os = fields.String(required=True, allow_none=True)
    device = fields.String(required=True, allow_none=True)
    pageTitle = fields.String(required=True, allow_none=True)
    eventName = fields.String(required=True, allow_none=True)
    hasData = fields.Boolean(required=True)
    hit_class = fields.String(data_key="class", required=True)
    reason = fields.String(required=True)
    recipient = fields.String(required=True, allow_none=True)


EventPage = page_of(EventOut)


class WebsiteOut(Shape):
    """A pixel as Umami's clients want a website: its slug is the domain."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    domain = fields.String(attribute="slug", required=True)
    userId = fields.UUID(attribute="user_id", required=True, allow_none=True)
    teamId = fields.UUID(attribute="team_id", required=True, allow_none=True)
    createdAt = InstantField(attribute="created_at", required=True)
    updatedAt = InstantField(attribute="updated_at", required=True)
    createdBy = fields.UUID(attribute="created_by", required=True, allow_none=True)
    user = fields.Nested(UserBrief)
    deletedAt = NOTHING
    resetAt = NOTHING
    shareId = NOTHING
    replayConfig = NOTHING
    recorderEnabled = fields.Constant(False, metadata={"type": "boolean"})


WebsitePage = page_of(WebsiteOut)


class WebsiteListArgs(PageArgs):
    """Which page of the pixels, in what order; those of the caller's teams too if asked."""

    orderBy = fields.String(
        load_default=None, validate=validate.OneOf(["name", "domain", "slug", "createdAt"])
    )
    sortDescending = fields.Boolean(load_default=None)
    includeTeams = fields.Boolean(load_default=False)


class FigureOut(Shape):
    """A figure as some of Umami's routes wrap it."""

    value = fields.Integer(required=True)


class SessionStatsOut(Shape):
    """The totals of the sessions; `events` are those with a name, which images have not."""

    pageviews = fields.Nested(FigureOut, required=True)
    visitors = fields.Nested(FigureOut, required=True)
    visits = fields.Nested(FigureOut, required=True)
    countries = fields.Nested(FigureOut, required=True)
    events = fields.Nested(FigureOut, required=True)


class EventPointOut(Shape):
    """How many hits of a class there are in a bucket."""

    x = fields.String(required=True)
    t = fields.String(required=True)
    y = fields.Integer(required=True)


class EventTotalsOut(Shape):
    """The totals of the hits as events; `uniqueEvents` counts their classes."""

    events = fields.Integer(required=True)
    visitors = fields.Integer(required=True)
    visits = fields.Integer(required=True)
    uniqueEvents = fields.Integer(required=True)


class ComparedEventTotalsOut(EventTotalsOut):
    """The totals, and those they are compared with."""

    comparison = fields.Nested(EventTotalsOut, required=True)


class EventStatsOut(Shape):
    """The totals, in the envelope that Umami puts them into."""

    data = fields.Nested(ComparedEventTotalsOut, required=True)


class UtmArgs(ReportArgs):
    """Which part of a campaign's parameters."""

    type = fields.String(
        load_default="utmSource",
        validate=validate.OneOf([name for name in DIMENSIONS if name.startswith("utm")]),
    )


class UtmOut(Shape):
    """A value of a campaign's parameter, and its page views."""

    utm = fields.String(required=True)
    views = fields.Integer(required=True)


class SessionsArgs(ReportArgs):
    """Which page of the visitors, the last to come first."""

    page = fields.Integer(load_default=1, validate=validate.Range(1, PAGE_MAX))
    pageSize = PageSize()


class SessionOut(Shape):
    """A visitor and what they did within the range, with the circumstances of the last hit."""

    id = fields.UUID(required=True)
    websiteId = fields.UUID(required=True)
    hostname = fields.String(required=True, allow_none=True)
    browser = fields.String(required=True, allow_none=True)
    os = fields.String(required=True, allow_none=True)
    device = fields.String(required=True, allow_none=True)
    screen = NOTHING
    language = fields.String(required=True, allow_none=True)
    country = fields.String(required=True, allow_none=True)
    region = NOTHING
    city = NOTHING
    firstAt = InstantField(required=True)
    lastAt = InstantField(required=True)
    visits = fields.Integer(required=True)
    views = fields.Integer(required=True)
    events = fields.Integer(required=True)
    createdAt = InstantField(required=True)


SessionPage = page_of(SessionOut)


class EventPointsArgs(ReportArgs):
    """How wide the buckets are; too narrow ones for the range become wider."""

    unit = fields.String(load_default="day", validate=validate.OneOf(UNITS))


class RealtimeArgs(ReportArgs):
    """Which hits of the last half hour."""

    range_needed = False


class RealtimeEventOut(Shape):
    """A hit of the last half hour."""

    type = fields.String(data_key="__type", required=True)
    sessionId = fields.UUID(required=True)
    eventName = fields.String(required=True)
    createdAt = InstantField(required=True)
    browser = fields.String(required=True, allow_none=True)
    os = fields.String(required=True, allow_none=True)
    device = fields.String(required=True, allow_none=True)
    country = fields.String(required=True, allow_none=True)
    urlPath = fields.String(required=True)
    referrerDomain = fields.String(required=True, allow_none=True)
    hostname = fields.String(required=True, allow_none=True)


class RealtimeSeriesOut(Shape):
    """Page views and visitors by minute."""

    views = fields.List(fields.Nested(PointOut), required=True)
    visitors = fields.List(fields.Nested(PointOut), required=True)


class RealtimeTotalsOut(Shape):
    """The totals of the last half hour; events with a name there are none."""

    views = fields.Integer(required=True)
    visitors = fields.Integer(required=True)
    events = fields.Integer(required=True)
    countries = fields.Integer(required=True)


class RealtimeOut(Shape):
    """The last half hour, as Umami's live page wants it."""

    countries = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    urls = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    referrers = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    events = fields.List(fields.Nested(RealtimeEventOut), required=True)
    series = fields.Nested(RealtimeSeriesOut, required=True)
    totals = fields.Nested(RealtimeTotalsOut, required=True)
    timestamp = fields.Integer(required=True)
