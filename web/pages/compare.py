"""The page that compares two or three mailings by hours since sending."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import NamedTuple

from flask import render_template, request, url_for

import auth
from core.clock import now
from core.errors import BadRequest
from core.permissions import Action
from models import Pixel
from pixels import mailings
from pixels.mailings import Mailing
from stats.reading import Reading
from web.pages import charts
from web.pages.base import Pages
from web.pages.charts import Course
from web.pages.formats import counted, percent

blueprint = Pages("compare_page", __name__)

COMPARED_MAX = len(charts.LINES)
HOURS_SHOWN = (24, 72, 168)


class Compared(NamedTuple):
    """A mailing beside others: its figures, its course and its line."""

    pixel: Pixel
    mailing: Mailing
    course: Course
    line: str
    in_24_hours: str

    @property
    def name(self) -> str:
        """The name that its line has."""
        return self.pixel.name


@blueprint.get("/compare")
def show_compare() -> str:
    """GET: mailings side by side. 200; 400 without any that was sent; 404 for a stranger."""
    asked = request.args.get("hours", type=int)
    hours = asked if asked in HOURS_SHOWN else 72
    at, pixels = now(), _pixels()
    rows = [
        _compared(pixel, line, at)
        for pixel, line in zip(pixels[:COMPARED_MAX], charts.LINES, strict=False)
    ]
    return render_template(
        "compare.html",
        rows=rows,
        curve=charts.comparison([row.course for row in rows], hours),
        remark=_remark(rows, left_out=len(pixels) - len(rows)),
        with_ids=lambda hours: url_for(
            "compare_page.show_compare", ids=[row.pixel.id for row in rows], hours=hours
        ),
    )


def course_of(
    pixel: Pixel,
    mailing: Mailing,
    at: datetime,
    reading: Reading | None = None,
    *,
    opens_hours: int = mailings.HOURS_COUNTED,
) -> Course:
    """Return a mailing's course as charts take it, with its opens of so many hours."""
    age = (at - pixel.sent_at).total_seconds() / 3600 if pixel.sent_at else 0.0
    return Course(
        pixel.name,
        mailing.sent or 0,
        mailings.opened_by_hour(pixel, reading),
        mailings.opens_by_hour(pixel, opens_hours, reading) if opens_hours else [],
        max(age, 0.0),
    )


def _pixels() -> list[Pixel]:
    """Return the pixels that the address names and that were sent, the newest sending first."""
    ids = []
    for text in request.args.getlist("ids"):
        try:
            ids.append(uuid.UUID(text))
        except ValueError:
            raise BadRequest("That is not a pixel.") from None
    found = [
        auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
        for pixel_id in dict.fromkeys(ids)
    ]
    sent = [pixel for pixel in found if pixel.sent_at is not None]
    if not sent:
        raise BadRequest("Check two or three mailings that have a time of sending.")
    return sorted(sent, key=lambda pixel: str(pixel.sent_at), reverse=True)


def _compared(pixel: Pixel, line: str, at: datetime) -> Compared:
    mailing = mailings.of_pixel(pixel)
    course = course_of(pixel, mailing, at)
    within = percent(course.had_opened(24), mailing.sent)
    return Compared(pixel, mailing, course, line, within)


def _remark(rows: list[Compared], left_out: int) -> str:
    """Return what to keep in mind when reading the figures."""
    parts = []
    if all(row.mailing.basis == "recipients" for row in rows):
        parts.append(
            "Rates count people with a link of their own, so they are never over 100\u202f%."
        )
    youngest = min(rows, key=lambda row: row.course.age)
    if youngest.course.age < mailings.HOURS_COUNTED and len(rows) > 1:
        age = counted(int(youngest.course.age), "hour")
        parts.append(f"{youngest.name} is {age} old: compare it within that time.")
    if left_out:
        parts.append(f"{counted(left_out, 'more mailing')} checked: three fit on one chart.")
    return " ".join(parts)
