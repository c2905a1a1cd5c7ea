"""What happens to hits when the database can't take them, and that they come back by themselves."""

from __future__ import annotations

import contextlib
import fcntl
import re
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pysqlite3
import pytest

from core.database import BUSY_TIMEOUT_MS
from core.locks import ADVISORY_LOCK
from core.settings import Settings
from hits.image import GIF
from tests.conftest import Answer, Server, unique, verdicts, wait_until
from tests.load import UNBOUNDED, Load, assert_kept, stored_numbers

CLIENTS = 24
COMING = 10
# What a machine under other load may add to the busy timeout.
LATE_SECONDS_MAX = 5


@pytest.fixture(scope="module")
def server(start_server_for_module: Callable[..., Server], database: str) -> Server:
    return start_server_for_module(database, **UNBOUNDED)


@contextlib.contextmanager
def locked(server: Server) -> Iterator[None]:
    """Hold the lock that every hit needs, as a stranger's program may."""
    if server.database_url:
        with psycopg.connect(server.database_url) as stranger:
            stranger.execute(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
            yield
        return
    stranger = pysqlite3.connect(server.data_dir / "pixelkeep.db", isolation_level=None)
    try:
        stranger.execute("PRAGMA busy_timeout = 10000")
        stranger.execute("BEGIN IMMEDIATE")
        yield
    finally:
        stranger.close()


def fetch(server: Server, pixel: dict[str, Any]) -> Answer:
    answer = server.admin.with_token(None).get(f"/p/{pixel['slug']}")
    assert answer.body == GIF
    assert answer.headers["Content-Type"] == "image/gif"
    return answer


def recovers(server: Server, pixel: dict[str, Any]) -> None:
    """Wait until every process stores hits again."""
    wait_until(lambda: all(fetch(server, pixel).status == 200 for _ in range(8)))


def unstored(server: Server) -> int:
    text = server.admin.get("/metrics").body.decode()
    found = re.search(r'^pixelkeep_hits_total\{result="unstored"\} (\S+)', text, re.MULTILINE)
    assert found
    return int(float(found[1]))


def failure_lines(server: Server) -> list[str]:
    return [line for line in server.log.splitlines() if "was not stored" in line]


def test_hits_wait_for_a_lock_that_is_given_back_and_are_all_stored(server: Server) -> None:
    pixel = server.admin.create_pixel()
    fetch(server, pixel)
    with Load(server.admin, pixel["slug"], CLIENTS) as load:
        wait_until(lambda: load.statuses[200] > CLIENTS)
        with locked(server):
            time.sleep(2)  # The condition is that so much time has passed.
        enough = load.statuses[200] + CLIENTS
        wait_until(lambda: load.statuses[200] > enough)
    assert set(load.statuses) == {200}
    assert_kept(server, pixel, load.answers)


def test_hits_that_come_while_the_database_is_locked_wait_as_long(server: Server) -> None:
    pixel = server.admin.create_pixel()
    event = {"type": "event", "payload": {"pixel": pixel["id"]}}
    fetch(server, pixel)
    with ThreadPoolExecutor(COMING * 2) as pool:
        with locked(server):
            coming = []
            for _ in range(COMING):
                coming.append(pool.submit(fetch, server, pixel))
                coming.append(pool.submit(server.admin.post, "/api/send", event))
                time.sleep(2 / COMING)
        statuses = [future.result().status for future in coming]
    assert statuses == [200] * COMING * 2
    assert len(verdicts(server, pixel)) == COMING * 2 + 1


def test_other_requests_are_answered_while_hits_wait_for_a_lock(server: Server) -> None:
    pixel = server.admin.create_pixel()
    fetch(server, pixel)
    with Load(server.admin, pixel["slug"], CLIENTS) as load:
        wait_until(lambda: load.statuses[200] > CLIENTS)
        with locked(server):
            before = load.statuses[200]
            started_at = time.monotonic()
            for _ in range(20):
                assert server.admin.get("/api/pixels").status == 200
            seconds = time.monotonic() - started_at
        wait_until(lambda: load.statuses[200] > before + CLIENTS)
    assert seconds < BUSY_TIMEOUT_MS / 1000 / 2
    assert set(load.statuses) == {200}


def test_hits_are_503_in_time_while_the_database_is_locked_for_good(server: Server) -> None:
    pixel = server.admin.create_pixel()
    fetch(server, pixel)
    counted, logged = unstored(server), len(failure_lines(server))
    with Load(server.admin, pixel["slug"], CLIENTS) as load:
        wait_until(lambda: load.statuses[200] > CLIENTS)
        with locked(server):
            started_at = time.monotonic()
            wait_until(lambda: load.statuses[503] >= CLIENTS)
            seconds = time.monotonic() - started_at
            assert server.admin.get("/healthz").status == 503
            # Those that come later needn't wait to learn the same.
            wait_until(lambda: load.statuses[503] >= 3 * CLIENTS)
            locked_seconds = time.monotonic() - started_at
        recovers(server, pixel)
    assert BUSY_TIMEOUT_MS / 1000 - 1 < seconds < BUSY_TIMEOUT_MS / 1000 + LATE_SECONDS_MAX
    assert_kept(server, pixel, load.answers)
    assert unstored(server) == counted + load.statuses[503]
    assert 0 < len(failure_lines(server)) - logged <= 2 * (locked_seconds + LATE_SECONDS_MAX)


def test_hits_are_503_in_time_while_a_stopped_writer_keeps_its_place(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(**UNBOUNDED)
    pixel = server.admin.create_pixel()
    with Load(server.admin, pixel["slug"], CLIENTS) as load:
        wait_until(lambda: load.statuses[200] > CLIENTS)
        with (server.data_dir / "pixelkeep.db-lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            started_at = time.monotonic()
            wait_until(lambda: load.statuses[503] >= CLIENTS)
            seconds = time.monotonic() - started_at
            refused = server.admin.post("/api/pixels", {"name": "n", "slug": unique("late")})
        recovers(server, pixel)
    assert BUSY_TIMEOUT_MS / 1000 - 1 < seconds < BUSY_TIMEOUT_MS / 1000 + LATE_SECONDS_MAX
    assert (refused.status, refused.json["error"]["code"]) == (503, "service-unavailable")
    assert_kept(server, pixel, load.answers)


def test_hits_are_503_on_a_full_disk_and_come_back(start_server: Callable[..., Server]) -> None:
    server = start_server(**UNBOUNDED)
    pixel = server.admin.create_pixel()
    assert server.process
    master = psutil.Process(server.process.pid)
    wait_until(lambda: len(master.children()) == Settings().workers)
    processes = [process.pid for process in (master, *master.children())]
    with Load(server.admin, pixel["slug"], CLIENTS) as load:
        wait_until(lambda: load.statuses[200] > CLIENTS)
        for process in processes:
            _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
            resource.prlimit(process, resource.RLIMIT_FSIZE, (1024, hard))
        wait_until(lambda: load.statuses[503] > CLIENTS)
        assert server.admin.get("/healthz").status == 503
        for process in processes:
            resource.prlimit(process, resource.RLIMIT_FSIZE, (hard, hard))
        recovers(server, pixel)
    assert_kept(server, pixel, load.answers)
    assert unstored(server) == load.statuses[503]
    assert server.query("PRAGMA integrity_check") == [("ok",)]
    assert server.process.poll() is None


def test_hits_are_503_while_the_file_is_read_only_and_come_back(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(**UNBOUNDED)
    pixel = server.admin.create_pixel()
    assert fetch(server, pixel).status == 200
    files = [server.data_dir / name for name in ("pixelkeep.db", "pixelkeep.db-wal")]
    with immutable(files):
        assert {fetch(server, pixel).status for _ in range(8)} == {503}
    recovers(server, pixel)


@contextlib.contextmanager
def immutable(files: list[Path]) -> Iterator[None]:
    """Make files such that even root can't write to them, nor who has them open."""
    done = subprocess.run(["chattr", "+i", *files], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this user or file system can't make a file immutable")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *files], check=True)


def test_hits_are_503_while_the_file_is_away_and_come_back_with_it(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(**UNBOUNDED)
    pixel = server.admin.create_pixel()
    path = server.data_dir / "pixelkeep.db"
    away = server.data_dir / "away.db"
    with Load(server.admin, pixel["slug"], CLIENTS) as load:
        wait_until(lambda: load.statuses[200] > CLIENTS)
        path.rename(away)
        wait_until(lambda: load.statuses[503] > CLIENTS)
        assert not path.exists()
        away.rename(path)
        recovers(server, pixel)
    answered = {number for number, status in load.answers.items() if status == 200}
    assert answered <= set(stored_numbers(server, pixel))


def replace_by_copy(server: Server, change: str = "SELECT 1") -> None:
    """Put a copy of the database, changed by a statement, in its place."""
    copy = server.data_dir / "copy.db"
    server.execute(f"VACUUM INTO '{copy}'")
    with contextlib.closing(pysqlite3.connect(copy)) as connection, connection:
        connection.execute(change)
    for name in ("pixelkeep.db-wal", "pixelkeep.db-shm"):
        (server.data_dir / name).unlink()
    copy.replace(server.data_dir / "pixelkeep.db")


def test_no_hit_goes_into_a_file_that_was_replaced(start_server: Callable[..., Server]) -> None:
    server = start_server(**UNBOUNDED)
    pixel = server.admin.create_pixel()
    assert {fetch(server, pixel).status for _ in range(8)} == {200}
    replace_by_copy(server)
    before = server.hits()
    statuses = [fetch(server, pixel).status for _ in range(20)]
    assert statuses[-1] == 200
    assert server.hits() == before + statuses.count(200)


def test_pixels_of_a_file_that_was_replaced_are_forgotten(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(**UNBOUNDED)
    pixel = server.admin.create_pixel()
    assert {fetch(server, pixel).status for _ in range(8)} == {200}
    # Another pixel has that number there, and the catalogue is at the same version.
    replace_by_copy(server, "UPDATE pixels SET slug = 'another'")
    before = server.hits()
    statuses = [fetch(server, pixel).status for _ in range(20)]
    assert set(statuses) <= {404, 503}
    assert statuses[-1] == 404
    assert server.hits() == before


def test_hits_are_503_while_postgresql_is_down_and_come_back(
    start_server: Callable[..., Server], postgres_server: Any
) -> None:
    server = start_server("postgresql", **UNBOUNDED)
    pixel = server.admin.create_pixel()
    with Load(server.admin, pixel["slug"], CLIENTS) as load:
        wait_until(lambda: load.statuses[200] > CLIENTS)
        try:
            postgres_server.stop()
            wait_until(lambda: load.statuses[503] > CLIENTS)
        finally:
            postgres_server.ensure_postgres_running()
        recovers(server, pixel)
        enough = load.statuses[200] + CLIENTS
        wait_until(lambda: load.statuses[200] > enough)
    answered = {number for number, status in load.answers.items() if status == 200}
    assert answered <= set(stored_numbers(server, pixel))
    assert set(load.statuses) == {200, 503}


def test_log_of_failures_names_nobody(start_server: Callable[..., Server]) -> None:
    server = start_server(trusted_proxies="1")
    pixel = server.admin.create_pixel()
    name, address = unique("recipient"), "203.0.113.77"
    with locked(server):
        answer = server.admin.get(
            f"/p/{pixel['slug']}?r={name}&q={name}",
            headers={"X-Forwarded-For": address, "User-Agent": name, "Referer": f"http://{name}/"},
        )
    assert answer.status == 503
    assert failure_lines(server)
    assert name not in server.log
    assert address not in server.log
