"""`/healthz` costs the same however often it is asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Answer, Client, Server
from web.shared_answer import SharedAnswer


def ask(server: Server) -> Answer:
    return Client(server.base).get("/healthz")


def test_health_has_its_three_keys(server: Server) -> None:
    answer = ask(server)
    assert answer.status == 200
    assert answer.headers.get_content_type() == "application/json"
    assert set(answer.json) == {"ok", "problems", "warnings"}
    assert answer.json["ok"] is True
    assert answer.json["problems"] == []


def test_many_who_ask_at_once_have_it_written_once_a_second(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(workers="2")
    server.execute("CREATE TABLE probes (at INTEGER)")
    server.execute(
        "CREATE TRIGGER probe AFTER UPDATE ON catalogue WHEN NEW.version > OLD.version"
        " BEGIN INSERT INTO probes VALUES (1); END"
    )
    started_at = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        bodies = list(threads.map(lambda _: ask(server).body, range(80)))
    passed_s = time.monotonic() - started_at
    assert server.query("SELECT count(*) FROM probes")[0][0] <= passed_s + 2
    assert len({*bodies}) <= passed_s + 2


def test_shared_answer_is_found_again_once_it_is_old() -> None:
    answers = SharedAnswer()
    found = iter([b"first", b"second"])
    assert [answers.get(lambda: next(found)) for _ in range(3)] == [b"first"] * 3
    time.sleep(1.01)
    assert answers.get(lambda: next(found)) == b"second"


def test_who_waits_too_long_for_another_gets_no_answer() -> None:
    answers = SharedAnswer()
    asked, found = threading.Event(), threading.Event()

    def find_slowly() -> bytes:
        asked.set()
        assert found.wait(30)
        return b"slow"

    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(answers.get, find_slowly)
        assert asked.wait(30)
        assert answers.get(lambda: b"mine") is None
        found.set()
        assert slow.result() == b"slow"
    assert answers.get(lambda: b"mine") == b"slow"


def test_failure_to_find_is_no_answer() -> None:
    answers = SharedAnswer()

    def fail() -> bytes:
        raise ValueError("lost")

    for _ in range(2):
        with pytest.raises(ValueError, match="lost"):
            answers.get(fail)
    assert answers.get(lambda: b"found") == b"found"
