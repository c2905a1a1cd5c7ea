"""What survives a kill: every image that was answered 200, once (`docs/durability.md`)."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.conftest import Server, verdicts, wait_until
from tests.hits.test_failures import fetch, locked
from tests.load import UNBOUNDED, Load, assert_kept, stored_numbers

ROUNDS = 5
CLIENTS = 24
ANSWERED_MIN = 5 * CLIENTS


def workers(server: Server) -> list[int]:
    assert server.process
    return [child.pid for child in psutil.Process(server.process.pid).children()]


@pytest.fixture
def own_server(start_server: Callable[..., Server], database: str) -> Server:
    """A server that no other test needs alive."""
    return start_server(database, **UNBOUNDED)


def test_kill_of_every_process_loses_no_answered_hit(own_server: Server) -> None:
    pixel = own_server.admin.create_pixel()
    with Load(own_server.admin, pixel["slug"], CLIENTS) as load:
        for _ in range(ROUNDS):
            enough = load.statuses[200] + ANSWERED_MIN
            wait_until(lambda enough=enough: load.statuses[200] > enough)
            # A commit may be anywhere when the kill comes.
            time.sleep(random.uniform(0, 0.2))
            own_server.kill()
            own_server.start()
    assert_kept(own_server, pixel, load.answers)
    in_flight_max = ROUNDS * CLIENTS
    assert own_server.hits() <= load.statuses[200] + in_flight_max
    if not own_server.database_url:
        assert own_server.query("PRAGMA integrity_check") == [("ok",)]


def test_worker_that_dies_is_replaced_and_loses_no_answered_hit(own_server: Server) -> None:
    pixel = own_server.admin.create_pixel()
    with Load(own_server.admin, pixel["slug"], CLIENTS) as load:
        for _ in range(2):
            enough = load.statuses[200] + ANSWERED_MIN
            wait_until(lambda enough=enough: load.statuses[200] > enough)
            before = workers(own_server)
            os.kill(random.choice(before), signal.SIGKILL)
            wait_until(
                lambda before=before: (
                    len(workers(own_server)) == len(before) and workers(own_server) != before
                )
            )
        enough = load.statuses[200] + ANSWERED_MIN
        wait_until(lambda: load.statuses[200] > enough)
    assert_kept(own_server, pixel, load.answers)
    assert not own_server.stop()


def test_sigterm_under_load_finishes_what_was_taken(own_server: Server) -> None:
    pixel = own_server.admin.create_pixel()
    with Load(own_server.admin, pixel["slug"], CLIENTS) as load:
        wait_until(lambda: load.statuses[200] > ANSWERED_MIN)
        assert own_server.stop() == 0
    assert_kept(own_server, pixel, load.answers)
    answered = {number for number, status in load.answers.items() if status == 200}
    assert set(stored_numbers(own_server, pixel)) == answered


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_stop_answers_the_hits_that_wait_for_a_lock(
    own_server: Server, stop_signal: signal.Signals
) -> None:
    pixel = own_server.admin.create_pixel()
    assert own_server.process
    with ThreadPoolExecutor(CLIENTS) as pool:
        with locked(own_server):
            waiting = [pool.submit(fetch, own_server, pixel) for _ in range(CLIENTS)]
            time.sleep(0.5)  # Until all have been taken.
            # As a terminal does on Ctrl-C: to every process.
            os.killpg(own_server.process.pid, stop_signal)
            time.sleep(1)
        assert [future.result().status for future in waiting] == [200] * CLIENTS
    assert own_server.process.wait(timeout=30) == 0
    assert len(verdicts(own_server, pixel)) == CLIENTS
