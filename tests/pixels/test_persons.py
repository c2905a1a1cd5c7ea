"""People over all pixels, more of them than are sorted: pages begin at places that are kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import select

from core.clock import from_milliseconds
from core.database import db
from core.lists import ListQuery
from core.locks import writing
from models import OPENED, UNOPENED, Owner, Recipient, User
from pixels import persons, pixels, recipient_lists, recipients
from tests.conftest import unique
from tests.in_process import application, new_environment
from tests.plans import noted


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


@pytest.mark.parametrize("order_by", recipient_lists.ORDERS)
@pytest.mark.parametrize("descending", [False, True])
def test_pages_of_many_plain_names_are_sorted_from_the_nearer_end(
    app: Flask, monkeypatch: pytest.MonkeyPatch, order_by: str, descending: bool
) -> None:
    monkeypatch.setattr(recipient_lists, "PLAIN_MERGED_MAX", 3)
    user = db.session.scalars(select(User)).one()
    pixel = pixels.create("Letter", unique("letter"), Owner(user_id=user.id))
    with writing():
        db.session.add_all(
            Recipient(
                pixel_number=pixel.number,
                visitor=number,
                recipient=f"reader{number * 7 % 23:02}",
                verified=False,
                status=OPENED if number % 3 else UNOPENED,
                opens=number % 3,
                first_opened_at=from_milliseconds(number % 4) if number % 3 else None,
                last_opened_at=from_milliseconds(number % 5) if number % 3 else None,
            )
            for number in range(23)
        )
        db.session.flush()

    def names(page: int, page_size: int) -> list[str]:
        query = ListQuery(page, page_size, order_by=order_by, descending=descending)
        return [row.recipient for row in recipient_lists.listing(pixel, query).data]

    whole = names(1, 50)
    assert len({*whole}) == 23
    with noted(db.engine) as statements:
        assert [name for page in range(1, 7) for name in names(page, 5)] == whole
    sorted_ones = [values for text, values in statements if "ORDER BY" in text]
    assert len(sorted_ones) == 6
    if db.engine.dialect.name == "sqlite":
        assert max(limit + offset for *_, limit, offset in sorted_ones) < 23 / 2 + 5
