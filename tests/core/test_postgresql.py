"""Connections to PostgreSQL: how many a node has, and what they bring along."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app import create_app
from core import postgresql, settings
from core.database import BUSY_TIMEOUT_MS, db, give_back_idle, patient
from core.settings import Settings
from tests.conftest import WAIT_SECONDS_MAX, Server, wait_until

COUNT = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
ASKERS = 60
# Of two processes that have nothing to do: one for hits, and what their threads take in turn.
IDLE_MAX = 10


@pytest.fixture
def app(postgres: Callable[[], str], tmp_path: Path) -> Iterator[Flask]:
    app = create_app(
        settings.load(
            {
                "PIXELKEEP_DATABASE_URL": postgres(),
                "PIXELKEEP_SECRET_KEY": "k" * 32,
                "PIXELKEEP_DATA_DIR": str(tmp_path),
            }
        )
    )
    with app.app_context():
        yield app
        db.session.remove()
        db.engine.dispose()


def test_a_node_under_load_has_no_more_connections_than_its_budget_and_gives_them_back(
    start_server: Callable[..., Server],
) -> None:
    server = start_server("postgresql")
    pixel = server.admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}/stats?startAt=0&endAt=4102444800000"
    most = 0
    with psycopg.connect(str(server.database_url)) as operator:
        operator.autocommit = True

        def connections() -> int:
            row = operator.execute(COUNT).fetchone()
            assert row
            return int(row[0]) - 1

        fetches = [f"/p/{pixel['slug']}"] * ASKERS
        with ThreadPoolExecutor(ASKERS) as pool:
            asked = [
                pool.submit(server.admin.get, target) for target in [*fetches, *[path] * ASKERS]
            ]
            while not all(request.done() for request in asked):
                most = max(most, connections())
        assert {request.result().status for request in asked} == {200}
        assert 2 < most <= Settings().database_connections
        wait_until(lambda: connections() <= IDLE_MAX)


def test_connections_that_were_not_used_for_a_while_are_closed(app: Flask) -> None:
    def count() -> int:
        # A transaction sees the same activity throughout.
        with db.engine.connect() as connection:
            return int(connection.scalar(text(COUNT)) or 0)

    connections = [db.engine.connect() for _ in range(5)]
    for pooled in connections:
        pooled.close()
    assert count() == 5
    give_back_idle(db.engine, 60)
    assert count() == db.engine.pool.checkedin() == 5
    give_back_idle(db.engine, 0)
    assert db.engine.pool.checkedin() == 0
    wait_until(lambda: count() == 1)


def test_a_full_pool_gives_back_and_takes_again_as_many_as_before(app: Flask) -> None:
    size = db.engine.pool.size()
    for _ in range(2):
        connections = [db.engine.connect() for _ in range(size)]
        for connection in connections:
            connection.close()
        give_back_idle(db.engine, 0)
    assert db.engine.pool.checkedout() == db.engine.pool.checkedin() == 0


def test_timeouts_come_with_the_transaction_and_a_patient_one_has_none(app: Flask) -> None:
    def timeouts() -> tuple[str, str]:
        return (
            connection.scalar(text("SHOW lock_timeout")),
            connection.scalar(text("SHOW statement_timeout")),
        )

    with db.engine.connect() as connection:
        assert timeouts() == (f"{BUSY_TIMEOUT_MS // 1000}s", "1min")
        connection.rollback()
        with patient(connection, 600_000):
            assert timeouts() == ("10min", "0")
            connection.rollback()
        assert timeouts() == (f"{BUSY_TIMEOUT_MS // 1000}s", "1min")


def test_a_resolver_that_is_silent_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    is_over = threading.Event()

    def stay_silent(*_: object, **__: object) -> None:
        is_over.wait(WAIT_SECONDS_MAX)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", stay_silent)
    monkeypatch.setattr(postgresql, "CONNECT_SECONDS_MAX", 0.1)
    app = create_app(
        settings.load(
            {
                "PIXELKEEP_DATABASE_URL": "postgresql://somebody@silent.example/pixels",
                "PIXELKEEP_SECRET_KEY": "k" * 32,
                "PIXELKEEP_DATA_DIR": str(tmp_path),
            }
        )
    )
    with app.app_context(), pytest.raises(OperationalError, match="does not answer"):
        db.engine.connect()
    is_over.set()


def test_names_are_looked_up_host_by_host_and_paths_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = socket.getaddrinfo

    def know_one_name(host: str, *rest: Any, **more: Any) -> Any:
        if host == "unknown.example":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [
            *ask("192.0.2.1" if host == "known.example" else host, *rest, **more),
            *(ask("192.0.2.2", *rest, **more) if host == "known.example" else ()),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", know_one_name)
    several = {"host": "unknown.example,known.example,::1,/run/postgresql", "port": "1,2,3,4"}
    assert postgresql.with_addresses(several) == {
        "host": "known.example,known.example,::1,/run/postgresql",
        "port": "2,2,3,4",
        "hostaddr": "192.0.2.1,192.0.2.2,::1,",
    }
    for whole in ({"host": "/run/postgresql"}, {}, {"host": "a.example", "hostaddr": "127.0.0.1"}):
        assert postgresql.with_addresses(whole) == whole
    with pytest.raises(psycopg.OperationalError, match=r"unknown\.example"):
        postgresql.with_addresses({"host": "unknown.example"})


def test_budget_is_divided_among_processes_and_each_has_what_it_needs() -> None:
    assert Settings().connections_a_process == 15
    assert settings.load({"PIXELKEEP_WORKERS": "64"}).connections_a_process == 10
