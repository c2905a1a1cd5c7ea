"""A network to PostgreSQL that swallows what is sent: every wait ends on our side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from app import create_app
from core import settings
from core.database import BUSY_TIMEOUT_MS, db
from core.locks import ADVISORY_LOCK
from hits.image import GIF
from tests.conftest import Server, wait_until
from tests.load import UNBOUNDED, Load, stored_numbers
from tests.relay import Relay, relayed

HITS = 10
# What a machine under other load may add to the busy timeout.
LATE_SECONDS_MAX = 5


@pytest.fixture(scope="module")
def relay(postgres: Callable[[], str]) -> Iterator[Relay]:
    with relayed(postgres()) as relay:
        yield relay


@pytest.fixture(scope="module")
def server(relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose database is behind the relay; one process, so that all hits meet there."""
    server = Server(tmp_path_factory.mktemp("data"), relay.url, **UNBOUNDED, workers="1")
    yield server.start()
    server.kill()


@pytest.fixture(autouse=True)
def flowing(relay: Relay) -> Iterator[None]:
    yield
    relay.resume()


def timed_fetch(server: Server, path: str) -> tuple[int, float]:
    started_at = time.monotonic()
    answer = server.admin.with_token(None).get(path)
    assert answer.body == GIF
    return answer.status, time.monotonic() - started_at


def assert_503_in_time(server: Server, pixel: dict[str, Any], query: str = "q={}") -> None:
    """Send hits at once, and ask for something else meanwhile, that needs no database."""
    paths = [f"/p/{pixel['slug']}?{query.format(number)}" for number in range(HITS)]
    with ThreadPoolExecutor(HITS) as pool:
        coming = [pool.submit(timed_fetch, server, path) for path in paths]
        time.sleep(0.5)  # The condition is that they wait.
        started_at = time.monotonic()
        for _ in range(20):
            assert server.admin.get("/api/heartbeat").status == 200
        assert time.monotonic() - started_at < BUSY_TIMEOUT_MS / 1000 / 2
        answers = [future.result() for future in coming]
    assert [status for status, _ in answers] == [503] * HITS
    assert max(seconds for _, seconds in answers) < BUSY_TIMEOUT_MS / 1000 + LATE_SECONDS_MAX


def recovers(server: Server, relay: Relay, pixel: dict[str, Any]) -> None:
    """Wait until hits are stored again, and questions answered: each find out by themselves."""
    relay.resume()
    wait_until(lambda: all(timed_fetch(server, f"/p/{pixel['slug']}")[0] == 200 for _ in range(4)))
    wait_until(lambda: server.admin.get("/api/pixels").status == 200)


def test_hits_are_503_in_time_while_nothing_is_answered(server: Server, relay: Relay) -> None:
    pixel = server.admin.create_pixel()
    assert timed_fetch(server, f"/p/{pixel['slug']}")[0] == 200
    relay.swallow()
    assert_503_in_time(server, pixel)
    # By now it is known that nobody answers, and nobody waits for it.
    assert_503_in_time(server, pixel)
    recovers(server, relay, pixel)


def test_hits_are_503_in_time_while_no_connection_is_answered(server: Server, relay: Relay) -> None:
    pixel = server.admin.create_pixel()
    relay.swallow()
    relay.drop()
    assert_503_in_time(server, pixel)
    recovers(server, relay, pixel)


def test_hits_are_503_in_time_when_a_lock_that_they_wait_for_is_never_answered(
    server: Server, relay: Relay
) -> None:
    pixel = server.admin.create_pixel()
    assert timed_fetch(server, f"/p/{pixel['slug']}")[0] == 200
    with psycopg.connect(relay.direct_url) as stranger:
        stranger.execute(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        relay.swallow(after=b"pg_advisory_xact_lock_shared")
        assert_503_in_time(server, pixel)
    assert relay.swallows
    recovers(server, relay, pixel)


def test_hits_are_503_in_time_when_their_commit_is_never_answered(
    server: Server, relay: Relay
) -> None:
    pixel = server.admin.create_pixel()
    for _ in range(3):
        assert timed_fetch(server, f"/p/{pixel['slug']}?q")[0] == 200
    # Then comes the insert, and the commit with it.
    relay.swallow(after=b"pg_advisory_xact_lock_shared", packets_later=1)
    assert_503_in_time(server, pixel, query="q")
    assert relay.swallows
    recovers(server, relay, pixel)


def test_other_requests_are_refused_in_time_and_no_thread_stays_behind(
    server: Server, relay: Relay
) -> None:
    relay.swallow()
    with ThreadPoolExecutor(40) as pool:
        started_at = time.monotonic()
        answers = list(pool.map(lambda _: server.admin.get("/api/pixels"), range(40)))
        seconds = time.monotonic() - started_at
    assert {(answer.status, answer.code) for answer in answers} == {(503, "service-unavailable")}
    assert seconds < BUSY_TIMEOUT_MS / 1000 * 2 + LATE_SECONDS_MAX
    relay.resume()
    wait_until(lambda: server.admin.get("/api/pixels").status == 200)


def test_a_slow_statement_is_waited_for_while_the_database_answers_others(
    tmp_path: Path, relay: Relay
) -> None:
    app = create_app(
        settings.load(
            {
                "PIXELKEEP_DATABASE_URL": relay.url,
                "PIXELKEEP_SECRET_KEY": "k" * 32,
                "PIXELKEEP_DATA_DIR": str(tmp_path),
            }
        )
    )
    with app.app_context():
        assert db.session.scalar(text("SELECT 7 FROM pg_sleep(6)")) == 7
        db.session.remove()
        db.engine.dispose()


def test_no_answered_hit_is_lost_by_a_network_that_comes_and_goes(
    server: Server, relay: Relay
) -> None:
    pixel = server.admin.create_pixel()
    with Load(server.admin, pixel["slug"]) as load:
        for _ in range(2):
            enough = load.statuses[200] + 100
            wait_until(lambda enough=enough: load.statuses[200] > enough)
            relay.swallow()
            enough = load.statuses[503] + 24
            wait_until(lambda enough=enough: load.statuses[503] > enough)
            recovers(server, relay, pixel)
    stored = stored_numbers(server, pixel)
    answered = {number for number, status in load.answers.items() if status == 200}
    assert answered <= set(stored)
    assert set(stored.values()) == {1}
