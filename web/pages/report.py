"""The pages that show what a pixel's hits come to: figures, chart, breakdowns, recent hits."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from flask import Response, render_template, request

import auth
from core.clock import now
from core.errors import NotFound
from core.permissions import Action
from models import Pixel
from pixels import exports, shares
from stats import questions, shapes
from stats.shapes import Filter, Question
from web.pages import base, charts, periods, wording
from web.pages.base import Pages, public
from web.pages.periods import Period

View = TypeVar("View", bound=Callable[..., Any])

blueprint = Pages("report", __name__)
shared = Pages("shared", __name__)

ROWS_SHOWN = 6
ROWS_A_PAGE = 50
HITS_SHOWN = 10
FILTER_CHARACTERS_MAX = 500
ALL = "all"


def report_page(path: str) -> Callable[[View], View]:
    """Route a view of a report: below its pixel for members, below a share for everybody."""

    def register(view: View) -> View:
        @functools.wraps(view)
        def of_pixel(pixel_id: uuid.UUID, **given: Any) -> Any:
            pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
            return view(_report(pixel, is_public=False), **given)

        @functools.wraps(view)
        def of_share(slug: str, **given: Any) -> Any:
            return view(_report(shares.find_by_slug(slug).pixel, is_public=True), **given)

        blueprint.get(f"/pixels/<uuid:pixel_id>{path}")(of_pixel)
        shared.get(f"/share/<slug>{path}")(public(of_share))
        return view

    return register


@report_page("")
def show(report: Report) -> str:
    """GET: a pixel's page. 200; 404 for a stranger."""
    return render_template("report.html", report=report)


@report_page("/figures")
def show_figures(report: Report) -> str:
    """GET: the figures of a pixel's page alone, for a page that updates itself. 200; 404."""
    return render_template("_figures.html", report=report)


@report_page("/hits")
def show_hits(report: Report) -> str:
    """GET: the recent hits of a pixel's page alone, for a page that updates itself. 200; 404."""
    return render_template("_hits.html", report=report)


@report_page("/by/<dimension>")
def show_breakdown(report: Report, dimension: str) -> str:
    """GET: all values of a dimension, searched and paged. 200; 404."""
    if dimension not in report.dimensions:
        raise NotFound("There is no such list.")
    page = base.page_number()
    rows = questions.breakdown(
        report.question,
        dimension,
        limit=ROWS_A_PAGE + 1,
        offset=(page - 1) * ROWS_A_PAGE,
        search=base.search_text(),
    )
    return render_template(
        "breakdown.html",
        report=report,
        dimension=dimension,
        rows=rows[:ROWS_A_PAGE],
        page=page,
        has_more=len(rows) > ROWS_A_PAGE,
    )


@blueprint.get("/pixels/<uuid:pixel_id>/export.<any(csv, jsonl):form>")
def export(pixel_id: uuid.UUID, form: str) -> Response:
    """GET: the hits that a pixel's page counts, as a file. 200; 404 for a stranger."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
    rows = exports.hits(pixel, _report(pixel, is_public=False).question)
    parts = exports.as_csv(rows, exports.HIT_COLUMNS) if form == "csv" else None
    return base.download(parts or exports.as_json_lines(rows), f"{pixel.id}.{form}")


@dataclass(frozen=True)
class Report:
    """What the address asks about a pixel, and the answers, each found when it is shown."""

    pixel: Pixel
    period: Period
    zone: ZoneInfo
    at: datetime
    hit_class: str
    filters: dict[str, str]
    is_public: bool

    @property
    def dimensions(self) -> dict[str, str]:
        """The lists that are shown; who shares figures doesn't share people."""
        hidden = {"recipient"} if self.is_public else set()
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
        )

    @cached_property
    def classes(self) -> dict[str, shapes.BreakdownRow]:
        """What the span comes to in each class, whichever is shown."""
        question = replace(self.question, hit_class=ALL)
        found = {row.name: row for row in questions.breakdown(question, "class", limit=9)}
        return {
            each: found.get(each, shapes.BreakdownRow(each, 0, 0, 0, 0, 0))
            for each in wording.CLASSES
        }

    @cached_property
    def totals(self) -> shapes.BreakdownRow | shapes.Totals:
        """What the span comes to."""
        if self.hit_class == ALL:
            return questions.totals(self.question)
        return self.classes[self.hit_class]

    @cached_property
    def totals_before(self) -> shapes.Totals:
        """What the span before comes to."""
        before, end = self.period.before, self.period.end_before
        return questions.totals(replace(self.question, start=before, end=end))

    @property
    def noun(self) -> str:
        """What the hits that are shown are called."""
        return "Hits" if self.hit_class == ALL else wording.CLASSES[self.hit_class].plural

    def chart(self) -> charts.Chart:
        """Return the bars of the span."""
        points = questions.series(self.question, self.period.unit, filled=True)
        return charts.bars([charts.Bucket(*each) for each in points], self.period.unit)

    @cached_property
    def lists(self) -> dict[str, list[shapes.Leader]]:
        """The first values of each dimension, and one more if there are more."""
        return questions.leaders(self.question, self.dimensions, limit=ROWS_SHOWN + 1)

    def hits(self) -> list[shapes.Event]:
        """Return the newest hits."""
        return questions.events(self.question, page_size=HITS_SHOWN)

    def active(self) -> int:
        """Return how many visitors opened within the last minutes."""
        return questions.active(self.pixel.number, self.at)


def _report(pixel: Pixel, *, is_public: bool) -> Report:
    """Return the report that the address asks for; what it can't mean counts as not said."""
    at, zone = now(), base.zone()
    asked = request.args.get
    hit_class = asked("class", "")
    report = Report(
        pixel=pixel,
        period=periods.period_of(asked("range", ""), asked("from", ""), asked("to", ""), at, zone),
        zone=zone,
        at=at,
        hit_class=hit_class if hit_class in (*wording.CLASSES, ALL) else "open",
        filters={},
        is_public=is_public,
    )
    for name in report.dimensions:
        value = asked(name, "").replace("\0", "")[:FILTER_CHARACTERS_MAX]
        if value:
            report.filters[name] = value
    return report
