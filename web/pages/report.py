"""The report of a pixel: how its mailing did, when people opened, and all that fetched the image.

Everything on the page is asked here, once and at one instant, so that no figure contradicts
another and no template decides how many queries run.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from flask import Response, render_template, request

import auth
from core.clock import now
from core.errors import NotFound
from core.permissions import Action
from models import Pixel
from pixels import exports, mailings, recipients, shares
from pixels.mailings import Mailing
from stats import opens, questions, shapes
from stats.dimensions import FILTER_CHARACTERS_MAX
from stats.reading import Reading
from stats.shapes import Filter, Question
from web.pages import base, charts, compare, embed, periods, wording
from web.pages.base import Pages, public
from web.pages.formats import change_in_words, counted, percent, points, time_of_day
from web.pages.forms import Form
from web.pages.periods import Period
from web.pages.pixel_settings import sending_of
from web.request import public_base

View = TypeVar("View", bound=Callable[..., Any])

blueprint = Pages("report", __name__)
shared = Pages("shared", __name__)

ROWS_SHOWN = 6
# So many values are read that the rest, which have none, can be told by subtraction.
ROWS_READ_MAX = 300
ROWS_A_PAGE = 50
HITS_SHOWN = 10
ALL = "all"
MERGE_TAG_REASON = "merge-tag"


def report_page(path: str) -> Callable[[View], View]:
    """Route a view of a report: below its pixel for members, below a share for everybody."""

    def register(view: View) -> View:
        @functools.wraps(view)
        def of_pixel(pixel_id: uuid.UUID, **arguments: Any) -> Any:
            pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
            return view(_asked(pixel, is_public=False), **arguments)

        @functools.wraps(view)
        def of_share(slug: str, **arguments: Any) -> Any:
            return view(_asked(shares.find_by_slug(slug).pixel, is_public=True), **arguments)

        blueprint.get(f"/pixels/<uuid:pixel_id>{path}")(of_pixel)
        shared.get(f"/share/<slug>{path}")(public(of_share))
        return view

    return register


@report_page("")
def show(asked: ReportRequest) -> str:
    """GET: a pixel's page. 200; 404 for a stranger."""
    return render_template("report.html", report=_report(asked), **base.of_pixel(asked.pixel))


@report_page("/newest")
def show_newest(asked: ReportRequest) -> str:
    """GET: the id of the newest hit, for a page that shows whether there is more. 200; 404."""
    return str(questions.newest_id(asked.pixel.number) or "")


@report_page("/by/<dimension>")
def show_breakdown(asked: ReportRequest, dimension: str) -> str:
    """GET: all values of a dimension, searched and paged. 200; 404."""
    if dimension not in asked.dimensions:
        raise NotFound("There is no such list.")
    page = base.page_number()
    rows = questions.breakdown(
        asked.question,
        dimension,
        limit=ROWS_A_PAGE + 1,
        offset=(page - 1) * ROWS_A_PAGE,
        search=base.search_text(),
    )
    totals = questions.totals(asked.question)
    return render_template(
        "breakdown.html",
        report=asked,
        totals=totals,
        dimension=dimension,
        title=wording.DIMENSION_LABELS[dimension],
        rows=_rows(dimension, rows[:ROWS_A_PAGE]),
        page=page,
        page_size=ROWS_A_PAGE,
        has_more=len(rows) > ROWS_A_PAGE,
        **base.of_pixel(asked.pixel),
    )


@blueprint.get("/pixels/<uuid:pixel_id>/export.<any(csv, jsonl):form>")
def export(pixel_id: uuid.UUID, form: str) -> Response:
    """GET: the hits that a pixel's page counts, as a file. 200; 404 for a stranger."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
    rows = exports.hits(pixel, _asked(pixel, is_public=False).question)
    name = f"{pixel.id}.{form}"
    if form == "csv":
        return base.download_sheet(exports.as_csv(rows, exports.HIT_COLUMNS), name)
    return base.download(exports.as_json_lines(rows), name)


@dataclass(frozen=True)
class ReportRequest:
    """What the address asks about a pixel."""

    pixel: Pixel
    period: Period
    zone: ZoneInfo
    at: datetime
    hit_class: str
    filters: dict[str, str]
    hours: int
    is_public: bool
    # All questions of the span are of one moment, and read its days once.
    reading: Reading

    @property
    def dimensions(self) -> dict[str, str]:
        """What can be listed and filtered by; a share shows figures, not people or addresses."""
        hidden = {"recipient", "query"} if self.is_public else set()
        return {
            name: title for name, title in wording.DIMENSION_LABELS.items() if name not in hidden
        }

    @property
    def question(self) -> Question:
        """The question of the span that is shown."""
        return Question(
            self.pixel.number,
            self.period.start,
            self.period.end,
            self.hit_class,
            tuple(Filter(name, "eq", (value,)) for name, value in self.filters.items()),
            self.zone,
            reading=self.reading,
        )

    @property
    def noun(self) -> str:
        """What one of the hits that are shown is called."""
        return wording.NOUNS[self.hit_class].one

    @property
    def nouns(self) -> str:
        """What the hits that are shown are called."""
        return wording.NOUNS[self.hit_class].many


class ListRow(NamedTuple):
    """A value of a breakdown: its name, its bar in percent of the longest; `value` filters."""

    value: str | None
    name: str
    hits: int
    bar: float


class Breakdown(NamedTuple):
    """The first values of a dimension, and what has none."""

    dimension: str
    title: str
    rows: list[ListRow]
    has_more: bool


class ClassLink(NamedTuple):
    """A class of what fetched the image, and what it asks for."""

    asked: str | None
    mark: str
    name: str
    hits: int
    is_current: bool


class Before(NamedTuple):
    """The mailing before, and how this one compares."""

    pixel: Pixel
    share: float
    points: str


@dataclass(frozen=True)
class Hero:
    """How the mailing did, and the one before."""

    mailing: Mailing | None
    before: Before | None
    statuses: list[charts.BarPart]
    first_open_after: float | None
    curve: charts.Curve | None
    curve_label: str
    sent_clock: str


NO_HERO = Hero(None, None, [], None, None, "", "")


@dataclass(frozen=True)
class Report(ReportRequest, Hero):
    """All that the page shows."""

    unmerged: int
    sending: Form
    is_new: bool
    newest_id: str
    may_change: bool
    totals: shapes.Views
    compared: str
    chart: charts.Bars | None
    fetches: int
    limited: int
    class_parts: list[charts.BarPart]
    class_label: str
    class_links: list[ClassLink]
    lists: list[Breakdown]
    hits: list[shapes.Event]
    snippet: str
    preview_url: str


def _asked(pixel: Pixel, *, is_public: bool) -> ReportRequest:
    """Return what the address asks; what it can't mean counts as not said."""
    at, zone, argument = now(), base.zone(), request.args.get
    hit_class, hours = argument("class", ""), argument("hours", "")
    asked = ReportRequest(
        pixel=pixel,
        period=periods.period_of(
            argument("range", ""), argument("from", ""), argument("to", ""), at, zone, pixel.sent_at
        ),
        zone=zone,
        at=at,
        hit_class=hit_class if hit_class in (*wording.CLASS_LABELS, ALL) else "open",
        filters={},
        hours=int(hours) if hours in ("24", "168") else 48,
        is_public=is_public,
        reading=Reading(pixel.number),
    )
    for name in asked.dimensions:
        value = argument(name, "").replace("\0", "")[:FILTER_CHARACTERS_MAX]
        if value:
            asked.filters[name] = value
    return asked


def _report(asked: ReportRequest) -> Report:
    """Ask all that the page shows."""
    hero = _hero(asked)
    pixel, newest_id = asked.pixel, questions.newest_id(asked.pixel.number)
    found = questions.by_class(replace(asked.question, hit_class=ALL))
    by_class = {name: found.get(name, shapes.Views()) for name in wording.CLASS_LABELS}
    fetches = sum(row.pageviews for row in by_class.values())
    totals = by_class.get(asked.hit_class) or shapes.Views(*opens.count(asked.question))
    url = recipients.url_of(public_base(), pixel.slug)
    counts = [
        (wording.CLASS_LABELS[name], by_class[name].pageviews) for name in wording.CLASS_LABELS
    ]
    return Report(
        **vars(asked),
        **vars(hero),
        unmerged=_unmerged(asked),
        sending=sending_of(pixel),
        is_new=newest_id is None and questions.date_range(pixel.number) is None,
        newest_id=str(newest_id or ""),
        may_change=not asked.is_public and base.may(auth.pixel_for, pixel.id, Action.CHANGE_PIXEL),
        totals=totals,
        compared="" if hero.mailing else _compared(asked, totals.pageviews),
        chart=None if hero.mailing else _chart(asked),
        fetches=fetches,
        limited=questions.limited_count(replace(asked.question, hit_class=ALL)),
        class_parts=charts.parts([(label.mark, count) for label, count in counts]),
        class_label=", ".join(
            counted(count, label.singular.lower(), label.plural.lower()) for label, count in counts
        ),
        class_links=[
            ClassLink(
                None if name == "open" else name,
                label.mark,
                label.plural,
                by_class[name].pageviews,
                name == asked.hit_class,
            )
            for name, label in wording.CLASS_LABELS.items()
        ],
        lists=_lists(asked, totals.pageviews, hero),
        hits=questions.events(asked.question, page_size=HITS_SHOWN),
        snippet=recipients.img_of(url),
        preview_url="" if asked.is_public else embed.preview_url(pixel),
    )


def _hero(asked: ReportRequest) -> Hero:
    """Ask how the mailing did, where it is known to how many it went."""
    pixel = asked.pixel
    if mailings.basis_of(pixel) is None:
        return NO_HERO
    # A share says nothing of other mailings. What is asked of one comes first: to count its hits
    # ends the moment that the questions about this pixel share.
    earlier = None if asked.is_public else mailings.before(pixel)
    of_earlier = _course_of_earlier(earlier, asked.at) if earlier else None
    mailing = mailings.of_pixel(pixel, asked.reading)
    if not mailing.sent:
        return NO_HERO
    first, sent_at = mailing.first_opened_at, pixel.sent_at
    before, courses = None, []
    if sent_at is not None and sent_at < asked.at:
        hours = asked.hours
        course = compare.course_of(pixel, mailing, asked.at, asked.reading, opens_hours=hours)
        courses.append(course)
    if earlier and of_earlier and mailing.open_rate is not None:
        share, course = of_earlier
        before = Before(earlier, share, points(mailing.open_rate, share))
        if courses:
            courses.append(course)
    return Hero(
        mailing,
        before,
        _statuses(mailing),
        (first - sent_at).total_seconds() if first and sent_at and first >= sent_at else None,
        charts.curve(courses, asked.hours, sent_at, asked.zone) if courses and sent_at else None,
        _curve_label(courses, asked.hours),
        time_of_day(sent_at, asked.zone) if sent_at else "",
    )


def _course_of_earlier(pixel: Pixel, at: datetime) -> tuple[float, charts.Course] | None:
    """Return the rate and the course of a mailing before, None where nobody knows its rate."""
    reading = Reading(pixel.number)
    mailing = mailings.of_pixel(pixel, reading)
    if mailing.open_rate is None:
        return None
    # Of a mailing beside another the line is shown, and no bars.
    return mailing.open_rate, compare.course_of(pixel, mailing, at, reading, opens_hours=0)


def _statuses(mailing: Mailing) -> list[charts.BarPart]:
    if mailing.basis == "count":
        sent = max(mailing.sent or 0, mailing.opened)
        return charts.parts([("opened", mailing.opened), ("unopened", sent - mailing.opened)])
    counts = (mailing.opened, mailing.machine or 0, mailing.unopened or 0)
    return charts.parts([*zip(("opened", "machine", "unopened"), counts, strict=True)])


def _curve_label(courses: list[charts.Course], hours: int) -> str:
    ends = [
        f"{course.name}: {percent(course.had_opened(min(course.age + 1, hours)), course.sent)}"
        f" after {counted(int(min(course.age, hours)), 'hour')}"
        for course in courses
    ]
    return f"Share of people who had opened, hour by hour since sending. {'; '.join(ends)}."


def _unmerged(asked: ReportRequest) -> int:
    """Return how many fetches of the span carried a merge tag that nobody replaced."""
    if not questions.has_reason(asked.pixel.number, MERGE_TAG_REASON):
        return 0
    question = replace(asked.question, hit_class=ALL, filters=())
    return dict(questions.values(question, "reason")).get(MERGE_TAG_REASON, 0)


def _chart(asked: ReportRequest) -> charts.Bars:
    points = questions.series(asked.question, asked.period.unit, filled=True)
    return charts.bars(
        [charts.Bucket(*point) for point in points],
        asked.period.unit,
        (asked.noun, asked.nouns),
        is_running=asked.period.is_running(asked.at),
    )


def _compared(asked: ReportRequest, count: int) -> str:
    """Return how the span compares with the one before, in a sentence; empty for none."""
    if asked.period.name not in wording.SPANS_BEFORE:
        return ""
    start, end = asked.period.before, asked.period.end_before
    before = opens.count_hits(replace(asked.question, start=start, end=end))
    span = wording.SPANS_BEFORE[asked.period.name]
    found = change_in_words(count, before, asked.nouns)
    return f"{found} in {span}." if found else f"No {asked.nouns} in {span}."


def _lists(asked: ReportRequest, whole: int, hero: Hero) -> list[Breakdown]:
    """Return the first values of each dimension; those few that are rarely there only if so.

    People who have links of their own have a page of their own.
    """
    has_people = hero.mailing is not None and hero.mailing.basis == "recipients"
    hidden = {"recipient"} if has_people else set()
    shown = [name for name in wording.LISTED if name in asked.dimensions.keys() - hidden]
    found = questions.leaders(asked.question, shown, limit=ROWS_READ_MAX)
    lists = []
    for name, leaders in found.items():
        if name in wording.RARELY_THERE and not leaders:
            continue
        rest = whole - sum(leader.pageviews for leader in leaders)
        unknown = wording.UNKNOWN.get(name) if len(leaders) < ROWS_READ_MAX else None
        rows = _rows(name, leaders[:ROWS_SHOWN], (unknown, rest) if unknown and rest > 0 else None)
        lists.append(
            Breakdown(name, wording.DIMENSION_LABELS[name], rows, len(leaders) > ROWS_SHOWN)
        )
    return lists


def _rows(
    dimension: str,
    found: Sequence[shapes.Leader | shapes.BreakdownRow],
    rest: tuple[str, int] | None = None,
) -> list[ListRow]:
    counts = [row.pageviews for row in found] + ([rest[1]] if rest else [])
    longest = max(counts, default=0) or 1
    rows = [
        ListRow(
            row.name,
            wording.value_of(dimension, row.name),
            row.pageviews,
            round(row.pageviews / longest * 100, 1),
        )
        for row in found
    ]
    if rest:
        rows.append(ListRow(None, rest[0], rest[1], round(rest[1] / longest * 100, 1)))
    return rows
