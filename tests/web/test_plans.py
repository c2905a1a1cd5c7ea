"""How SQLite goes about what pages and answers ask: never through all that there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

import auth
from core.clock import from_milliseconds, milliseconds, now
from core.database import db
from core.locks import writing
from core.permissions import Role
from models import MS_PER_DAY, Hit, Owner, Pixel, User
from people import accounts
from pixels import persons, pixels, recipients
from stats import compacting, folding, opens, questions, store
from stats.days import MS_PER_HOUR
from stats.shapes import Filter, Question
from tests.conftest import PASSWORD
from tests.in_process import application
from tests.plans import noted, steps_of

NAME = "ann@example.org"
RANGE = "startAt=0&endAt=4102444800000"
PATHS = (
    *("/api/pixels", "/api/websites", "/api/me/websites", "/api/pixels/{id}/active"),
    *(f"/api/pixels/{{id}}/{what}?{RANGE}" for what in ("stats", "events", "sessions")),
    f"/api/pixels/{{id}}/metrics?type=recipient&{RANGE}",
    *("/api/realtime/{id}", "/api/pixels/{id}/mailing", "/api/pixels/mailings?ids={id}"),
    *("/api/pixels/{id}/recipients", "/api/pixels/{id}/recipients?search=an"),
    *("/api/recipients?search=an", f"/api/recipient?name={NAME}", "/api/pixels/charts?ids={id}"),
)
# All hits of a pixel.
EVERY_HIT = re.compile(r"SEARCH hits USING PRIMARY KEY \(pixel_number=\?\)")
# Each begins to look nowhere in particular, in a table that grows with hits or people.
EVERYTHING = re.compile(
    r"SCAN (hits|recipients|profiles|agents|texts|segments|visitors)\b"
    r"|SEARCH (hits|recipients|profiles|segments|visitors) USING (COVERING )?PRIMARY KEY$"
)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    environment = {"PIXELKEEP_DATA_DIR": str(tmp_path), "PIXELKEEP_ADMIN_PASSWORD": PASSWORD}
    with application(environment) as app:
        owner = accounts.create_user("owner", PASSWORD, Role.ADMIN)
        for slug in ("first", "second"):
            pixel = pixels.create(slug, slug, Owner(user_id=owner.id))
            (link,) = recipients.issue(app.extensions["links"], pixel, [NAME], None, "")
            assert app.test_client().get(link.url).status_code == 200
        yield app


def test_no_answer_reads_all_hits_or_all_people_that_there_are(app: Flask) -> None:
    owner = db.session.query(User).filter_by(username="owner").one()
    pixel = db.session.query(Pixel).filter_by(slug="first").one()
    headers = {"Authorization": f"Bearer {auth.issue_token(owner)}"}
    with noted(db.engine) as statements:
        for path in PATHS:
            answer = app.test_client().get(path.format(id=pixel.id), headers=headers)
            assert answer.status_code == 200, path
    assert len(statements) > len(PATHS)
    read_everything = {
        (step, statement) for step, statement in steps_of(statements) if EVERYTHING.search(step)
    }
    assert read_everything == set()


def test_a_person_is_shown_without_reading_all_hits_of_a_pixel(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixel = db.session.query(Pixel).filter_by(slug="first").one()
    (link,) = recipients.issue(app.extensions["links"], pixel, [NAME], None, "")
    for _ in range(2):
        assert app.test_client().get(link.url).status_code == 200
    dated = db.session.query(Hit).filter_by(pixel_number=pixel.number).order_by(Hit.id).first()
    assert dated
    with writing():
        dated.dated_ms = milliseconds(now()) - 3 * MS_PER_DAY
        db.session.flush()
    assert folding.fold(pixel.number) == 3
    # Of few hits a day it would take longer to look into the days.
    monkeypatch.setattr(questions, "DAY_BYTES_READ_MIN", 0)
    with noted(db.engine) as statements:
        (of_second, of_first) = persons.find(app.extensions["links"], None, NAME).pixels
    assert [len(of_first.hits), len(of_second.hits)] == [3, 1]
    assert dated.id in {hit.id for hit in of_first.hits}
    steps = [
        (step, statement)
        for step, statement in steps_of(statements)
        # The highest of all is the last of them.
        if "hits" in step and "max(hits.id)" not in statement
    ]
    assert steps
    assert [step for step in steps if EVERY_HIT.search(step[0])] == []


def test_question_from_the_first_hit_of_a_day_on_reads_no_hits(app: Flask) -> None:
    pixel = db.session.query(Pixel).filter_by(slug="first").one()
    hit = db.session.query(Hit).filter_by(pixel_number=pixel.number).one()
    day = milliseconds(now()) // MS_PER_DAY - 2
    sent_ms = day * MS_PER_DAY + 10 * MS_PER_HOUR + MS_PER_HOUR // 3
    with writing():
        hit.dated_ms = sent_ms
        db.session.flush()
    assert folding.fold(pixel.number) == 1
    assert compacting.compact(pixel.number, day)
    since_sending = Question(pixel.number, from_milliseconds(sent_ms), now(), "all")
    of_tools = (Filter("class", "eq", ("bot",)),)
    with noted(db.engine) as statements:
        assert opens.count(since_sending) == (1, 1)
        (point,) = questions.series(replace(since_sending, filters=of_tools), "hour", filled=False)
    assert point.at.hour == 10
    read = [values for text, values in statements if "segments.data" in text]
    assert store.Part.SUMMARY in {part for _, part, *_ in read}
    assert store.Part.COLUMNS not in {part for _, part, *_ in read}
