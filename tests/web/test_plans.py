"""How SQLite goes about what pages and answers ask: never through all that there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

import auth
from core.database import db
from core.permissions import Role
from models import Owner, Pixel, User
from people import accounts
from pixels import pixels, recipients
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
