"""The page of one person over all mailings, and each of their rights."""

from __future__ import annotations

import json
import statistics
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import NamedTuple

from flask import Response, flash, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

import auth
from core.errors import BadRequest
from core.links import RECIPIENT_CHARACTERS_MAX
from core.permissions import Action
from models import Pixel
from pixels import exports, forgetting, opt_outs, persons
from pixels.persons import OfPixel, Person
from schemas import WholePersonOut
from stats.shapes import Event
from web.pages import base, wording
from web.pages.base import Pages, back_to
from web.pages.formats import span
from web.pages.forms import Asking, ask
from web.request import links

blueprint = Pages("person_page", __name__)

STEPS_A_PAGE = 30
PERSON_HIT_COLUMNS = ("pixel", "createdAt", "class", "reason", "userAgent", "country", "query")
ORDINALS = {2: "second", 3: "third", 4: "fourth", 5: "fifth", 6: "sixth"}
VERBS = {"open": "Opened", "prefetch": "A machine fetched", "bot": "A bot fetched"}


class Mailed(NamedTuple):
    """A mailing of theirs: when it was sent to them, and whether they opened it."""

    pixel: Pixel
    sent_at: datetime | None
    status: str
    first_opened_at: datetime | None
    opens: int


class Step(NamedTuple):
    """A step of the timeline, as a sentence around the mailing's name, a note to it, and why so."""

    at: datetime
    mark: str
    verb: str
    name: str
    ending: str = ""
    note: str = ""
    why: str = ""


@blueprint.get("/person")
def show_person() -> str:
    """GET: a person over all pixels that the caller may read. 200; 400; 404 for one unknown."""
    person = _person(Action.READ_PIXEL)
    mailed = [_mailed(record) for record in person.pixels]
    hits = [hit for record in person.pixels for hit in record.hits]
    opens = [hit for hit in hits if hit.source.hit_class == "open"]
    took = [
        (mailing.first_opened_at - mailing.sent_at).total_seconds()
        for mailing in mailed
        if mailing.first_opened_at
        and mailing.sent_at
        and mailing.first_opened_at >= mailing.sent_at
    ]
    programs = Counter(
        wording.program(hit.values["browser"]) for hit in opens if hit.values["browser"]
    )
    happened, page = _timeline(person), base.page_number()
    shown = happened[(page - 1) * STEPS_A_PAGE : page * STEPS_A_PAGE]
    return render_template(
        "person.html",
        person=person,
        mailed=mailed,
        meanings=wording.meanings_of_people(record.row for record in person.pixels),
        opened_count=sum(mailing.status == "opened" for mailing in mailed),
        median=statistics.median(took) if took else None,
        last_open=max((hit.at for hit in opens), default=None),
        programs=[name for name, _ in programs.most_common(3)],
        # A step is put into words only where it is shown: a burst's asks for its others.
        timeline=[in_words() for _, in_words in shown],
        page=page,
        earlier=len(happened) > page * STEPS_A_PAGE,
        may_change=bool(_owners_to_change(person)),
    )


@blueprint.get("/person/opt-out")
def ask_to_opt_out() -> str:
    """GET: ask whether a person shall be named no more. 200; 400; 404."""
    return _ask(
        "Opt {name} out?",
        [
            "From now on their opens are counted without a name, on all pixels of their owners that"
            " you may change.",
            "Links that they have already obey too. What is known until now stays.",
        ],
        "Opt out",
    )


@blueprint.post("/person/opt-out")
def opt_out() -> BaseResponse:
    """POST: let a person be named no more. 303; 400; 403; 404."""
    person = _person(Action.CHANGE_PIXEL)
    for owner in sorted(_owners_to_change(person)):
        opt_outs.opt_out_by_name(links(), owner, person.recipient, "owner")
    flash(f"{person.recipient} is opted out.")
    return back_to("person_page.show_person", name=person.recipient)


@blueprint.get("/person/forget")
def ask_to_forget() -> str:
    """GET: ask whether a person shall be forgotten. 200; 400; 404."""
    return _ask(
        "Forget {name}?",
        [
            "The name goes from all pixels that you may change, for good.",
            "Totals stay as they are; old links name nobody.",
        ],
        "Forget",
    )


@blueprint.post("/person/forget")
def forget() -> BaseResponse:
    """POST: forget a person on all pixels that the caller may change. 303; 400; 404."""
    person = _person(Action.CHANGE_PIXEL)
    owners = auth.owners_for(auth.caller(), Action.CHANGE_PIXEL)
    forgetting.forget(links(), person.recipient, owners)
    flash(f"{person.recipient} is forgotten.")
    return back_to("pixels_page.show_pixels")


@blueprint.get("/person.<any(csv, json):form>")
def export(form: str) -> Response:
    """GET: everything that is kept of a person, as a file. 200; 400; 404."""
    person = _person(Action.READ_PIXEL)
    if form == "csv":
        rows = (
            {
                "pixel": record.pixel.name,
                "createdAt": hit.at.isoformat(),
                "class": hit.source.hit_class,
                "reason": hit.source.reason,
                "userAgent": hit.source.user_agent,
                "country": hit.source.country,
                "query": hit.source.query,
            }
            for record in person.pixels
            for hit in record.hits
        )
        return base.download(exports.as_csv(rows, PERSON_HIT_COLUMNS), "person.csv")
    shown = [persons.record_fields(record) for record in person.pixels]
    whole = WholePersonOut().dump({**person._asdict(), "pixels": shown})
    response = Response(
        json.dumps(whole, ensure_ascii=False, indent=1), mimetype="application/json"
    )
    response.headers["Content-Disposition"] = 'attachment; filename="person.json"'
    return response


def _name() -> str:
    name = request.args.get("name", "").strip()
    if not 0 < len(name) <= RECIPIENT_CHARACTERS_MAX or "\0" in name:
        raise BadRequest("Say who it is.")
    return name


def _person(action: Action) -> Person:
    """Return the person whom the address names, on the pixels where the caller may do `action`."""
    return persons.find(links(), auth.owners_for(auth.caller(), action), _name())


def _owners_to_change(person: Person) -> set[uuid.UUID]:
    able = auth.owners_for(auth.caller(), Action.CHANGE_PIXEL)
    owners = {record.pixel.owner for record in person.pixels}
    return owners if able is None else owners & able


def _ask(heading: str, lines: list[str], action: str) -> str:
    person = _person(Action.CHANGE_PIXEL)
    back = url_for("person_page.show_person", name=person.recipient)
    question = heading.format(name=person.recipient)
    return ask(Asking(question, lines, action, back, person.recipient))


def _mailed(record: OfPixel) -> Mailed:
    row = record.row
    return Mailed(
        record.pixel,
        row.sent_at or record.pixel.sent_at,
        row.status,
        row.first_opened_at,
        row.opens,
    )


def _timeline(person: Person) -> list[tuple[datetime, Callable[[], Step]]]:
    """Return when all that happened was, the last first, and what makes a step of it."""
    happened: list[tuple[datetime, Callable[[], Step]]] = []
    for record in person.pixels:
        sent_at = record.row.sent_at or record.pixel.sent_at
        if sent_at:
            sent = partial(Step, sent_at, "sending", "Sent", record.pixel.name)
            happened.append((sent_at, sent))
        opens = 0
        for hit in record.hits:
            opens += hit.source.hit_class == "open"
            happened.append((hit.at, partial(_step, record, hit, opens, sent_at)))
    return sorted(happened, key=itemgetter(0), reverse=True)


def _step(record: OfPixel, hit: Event, opens: int, sent_at: datetime | None) -> Step:
    hit_class = hit.source.hit_class
    notes, ending = [wording.fetched_by(hit)], ""
    if hit_class == "open" and opens == 1 and sent_at and hit.at >= sent_at:
        notes.append(f"{span((hit.at - sent_at).total_seconds())} after sending")
    if hit_class == "open" and opens > 1:
        ending = (
            f" for the {ORDINALS[opens]} time" if opens in ORDINALS else f", {opens} times by now"
        )
    if hit.source.reason == "burst":
        notes += wording.fetched_with(persons.burst_around(record.pixel.number, hit.at))
    words = wording.reason_in_words(hit.source.reason)
    return Step(
        hit.at,
        wording.CLASS_LABELS[hit_class].mark,
        VERBS[hit_class],
        record.pixel.name,
        ending,
        "; ".join(notes),
        f"{words.meaning} {words.certainty}".strip(),
    )
