"""The group commit from inside one process: statements, batches, ids, and who gives up when."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import create_engine, event, func, select, update

from app import create_app
from core import settings
from core.database import BUSY_TIMEOUT_MS, db
from core.locks import write_lock, writing
from core.permissions import Role
from hits.image import GIF
from hits.intake import Fetch
from hits.pixel_names import PixelName
from hits.references import References
from models import HIT_ID_SHIFT, Catalogue, Hit, Owner, Pixel, Recipient, UserAgent
from people import accounts
from pixels import pixels, recipients
from server.prepare import prepare
from stats import folding
from tests.conftest import PASSWORD, wait_until
from tests.plans import noted, steps_of

HITS = 10


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    """The application on a database of its own, in this process."""
    app = create_app(
        settings.load(
            {
                "PIXELKEEP_DATA_DIR": str(tmp_path),
                "PIXELKEEP_ADMIN_PASSWORD": PASSWORD,
                "PIXELKEEP_SECRET_KEY": "k" * 32,
            }
        )
    )
    prepare(app)
    with app.app_context():
        owner = accounts.create_user("owner", PASSWORD, Role.USER)
        pixels.create("p", "p", Owner(user_id=owner.id))
        yield app
        db.session.remove()
        app.extensions["intake"]._recorder._connection.close()
        db.engine.dispose()


def fetch(app: Flask, query: str = "") -> int:
    answer = app.test_client().get(f"/p/p?{query}")
    assert answer.data == GIF
    return answer.status_code


def fetch_at_once(app: Flask, count: int) -> tuple[list[threading.Thread], list[int]]:
    """Start requests that arrive one after the other and wait together."""
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(fetch(app))) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, statuses


def number(app: Flask, name: str) -> float:
    """Return one of the numbers at /metrics."""
    lines = app.test_client().get("/metrics").text.splitlines()
    (value,) = (line.split()[-1] for line in lines if line.startswith(f"{name} "))
    return float(value)


def stored() -> int:
    db.session.rollback()
    return db.session.scalar(select(func.count()).select_from(Hit)) or 0


def test_steady_hit_costs_one_statement(app: Flask) -> None:
    assert fetch(app) == 200
    recorder = app.extensions["intake"]._recorder
    by_sqlalchemy: list[str] = []
    event.listen(
        db.engine, "before_cursor_execute", lambda *args: by_sqlalchemy.append(str(args[2]))
    )
    by_driver: list[str] = []
    recorder._connection.for_sqlalchemy.connection.driver_connection.set_trace_callback(
        by_driver.append
    )
    assert fetch(app) == 200
    assert [statement.split()[0] for statement in by_driver] == [
        "INSERT",
    ]
    assert by_sqlalchemy == []


def test_no_statement_of_a_hit_reads_all_rows_of_its_pixel(app: Flask) -> None:
    pixel = db.session.scalars(select(Pixel)).one()
    (link,) = recipients.issue(app.extensions["links"], pixel, ["ann@example.org"], None, "")
    client = app.test_client()
    with noted(app.extensions["intake"]._recorder._engine) as statements:
        for path in (link.url, "/p/p?r=ann", "/p/p?r=bob&utm_source=x"):
            headers = {"User-Agent": f"Odd {path}", "Referer": f"http://odd.example{path}"}
            assert client.get(path, headers=headers).status_code == 200
    plans = {step for step, _ in steps_of(statements)}
    assert any("ix_recipients_person" in step for step in plans)
    # Of these tables there are a row, or two.
    few = ("SCAN catalogue", "SCAN salts")
    assert [
        step
        for step in plans
        if (step.startswith("SCAN") and step not in few) or step.endswith("(pixel_number=?)")
    ] == []


def test_people_are_written_some_at_a_time_by_one_statement(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As many as are read at once, and then those of one more block.
    monkeypatch.setattr(folding, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(folding, "PEOPLE_AT_ONCE", 3)
    for person in range(8):
        assert fetch(app, f"r=reader{person}") == 200
    pixel = db.session.scalars(select(Pixel)).one()
    with noted(db.engine) as statements:
        folding.fold_for_question(pixel.number)
    of_people = [
        (statement, values)
        for statement, values in statements
        if "UPDATE recipients" in statement or "INTO visitors" in statement
    ]
    assert [len(json.loads(values[0])) for _, values in of_people] == [4] * 4
    assert not [step for step, _ in steps_of(of_people) if "SCAN recipients" in step]
    opened = select(func.count()).where(
        Recipient.pixel_number == pixel.number, Recipient.number > 0
    )
    assert db.session.scalar(opened) == 8


def test_hits_that_wait_together_are_one_commit(app: Flask) -> None:
    fetch(app)
    commits = number(app, "pixelkeep_commit_hits_count")
    with write_lock(db.engine):
        threads, statuses = fetch_at_once(app, HITS)
        wait_until(lambda: number(app, "pixelkeep_hits_waiting") == HITS)
    for thread in threads:
        thread.join()
    assert statuses == [200] * HITS
    assert number(app, "pixelkeep_commit_hits_count") == commits + 1
    assert number(app, "pixelkeep_hits_waiting") == 0
    assert stored() == HITS + 1


def test_commit_now_stores_all_that_is_begun_and_waits_for_nobody(app: Flask) -> None:
    intake, recorder = app.extensions["intake"], app.extensions["recorder"]
    seen = Fetch("192.0.2.1", "agent")
    finishes = [intake.enqueue(PixelName("p"), seen) for _ in range(HITS)]
    with write_lock(db.engine):
        assert not recorder.commit_now()
        assert stored() == 0
    assert recorder.commit_now()
    assert stored() == HITS
    assert len({finish().id for finish in finishes}) == HITS
    assert number(app, "pixelkeep_commit_hits_count") == 1
    assert stored() == HITS


def test_hits_give_up_after_the_busy_timeout_and_none_is_stored_later(app: Flask) -> None:
    fetch(app)
    started_at = time.monotonic()
    with write_lock(db.engine):
        threads, statuses = fetch_at_once(app, HITS)
        wait_until(lambda: len(statuses) == HITS)
        assert time.monotonic() - started_at >= BUSY_TIMEOUT_MS / 1000
    for thread in threads:
        thread.join()
    assert statuses == [503] * HITS
    assert fetch(app) == 200
    assert stored() == 2


def test_ids_rise_above_whatever_statistics_took_in(app: Flask) -> None:
    ahead_of_the_clock = (int((time.time() + 3600) * 1000) << HIT_ID_SHIFT) + 5
    with writing():
        db.session.execute(update(Catalogue).values(folded_through=ahead_of_the_clock))
    for _ in range(3):
        assert fetch(app) == 200
    db.session.rollback()
    ids = list(db.session.scalars(select(Hit.id)))
    assert len(ids) == len(set(ids)) == 3
    assert min(ids) > ahead_of_the_clock


def test_hit_of_another_process_with_the_same_id_is_drawn_again(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(app)
    (taken,) = db.session.scalars(select(Hit.id))
    db.session.rollback()
    draws = iter([taken, taken + 1_000_000])
    monkeypatch.setattr("hits.recorder.next_id", lambda *_, **__: next(draws))
    assert fetch(app, "q=1") == 200
    db.session.rollback()
    assert sorted(db.session.scalars(select(Hit.id))) == [taken, taken + 1_000_000]


def test_transactions_with_the_same_new_rows_never_wait_for_each_other(
    postgres: Callable[[], str],
) -> None:
    engine = create_engine(settings.load({"PIXELKEEP_DATABASE_URL": postgres()}).sqlalchemy_url)
    table = UserAgent.__table__
    db.metadata.create_all(engine, tables=[table])
    ids = range(2_000)
    together = threading.Barrier(2)
    failures: list[Exception] = []

    def store(ids: Iterable[int]) -> None:
        references = References()
        for id in ids:
            references._refer(table, 0, id, {"id": id, "user_agent": str(id)})
        together.wait()
        try:
            with engine.begin() as connection:
                references.store(connection)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=store, args=[order]) for order in (ids, ids[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    assert failures == []


def test_a_fault_of_ours_is_503_with_the_image_and_its_traceback_names_nobody(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    app.extensions["intake"]._recorder._references.profile = None
    answer = app.test_client().get("/p/p?r=someone", environ_base={"REMOTE_ADDR": "203.0.113.9"})
    assert (answer.status_code, answer.data) == (503, GIF)
    assert "recorder.py" in caplog.text
    assert "someone" not in caplog.text
    assert "203.0.113.9" not in caplog.text
    assert stored() == 0
