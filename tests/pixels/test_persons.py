"""People over all pixels, more of them than are sorted: pages begin at places that are kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import select

from core.database import db
from core.lists import ListQuery
from models import Owner, User
from pixels import persons, pixels, recipients
from tests.conftest import unique
from tests.in_process import application, new_environment


@pytest.fixture(scope="module")
def app(
    tmp_path_factory: pytest.TempPathFactory, database: str, request: pytest.FixtureRequest
) -> Iterator[Flask]:
    with application(new_environment(tmp_path_factory, database, request)) as app:
        yield app


def test_pages_of_many_people_have_each_of_them_once(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persons, "PEOPLE_SORTED_MAX", 7)
    monkeypatch.setattr(persons, "PEOPLE_FOUND_MAX", 3)
    user = db.session.scalars(select(User)).one()
    links, names = app.extensions["links"], [f"reader{number}" for number in range(40)]
    for some in (names[:28], names[20:]):
        pixel = pixels.create("Letter", unique("letter"), Owner(user_id=user.id))
        recipients.issue(links, pixel, some, None, "http://127.0.0.1")
    for search, wanted in (
        ("", names),
        ("READER1", names[1:2] + names[10:20]),
        ("r7", ["reader7"]),
    ):
        for size in (1, 5, 7, 50):
            pages = [
                persons.listing([user.id], ListQuery(page, size, search))
                for page in range(1, len(wanted) // size + 3)
            ]
            assert {page.count for page in pages} == {len(wanted)}
            assert all(len(page.data) == size for page in pages[: len(wanted) // size])
            listed = [row for page in pages for row in page.data]
            assert sorted(row.recipient for row in listed) == sorted(wanted)
    both = {row.recipient: row.pixels for row in listed}
    assert both == {"reader7": 1}
    everybody = persons.listing([user.id], ListQuery(1, 50)).data
    assert {row.recipient for row in everybody if row.pixels == 2} == set(names[20:28])
