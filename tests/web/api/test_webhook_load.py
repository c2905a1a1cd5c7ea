"""Webhooks whose other side is killed, hangs, or never stops answering, while hits come.

`WEBHOOK_OPENS=10000 script/test tests/web/api/test_webhook_load.py` is the whole load.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import PROJECT_DIR, WAIT_SECONDS_MAX, Server, free_port, wait_until
from tests.load import UNBOUNDED
from tests.web.api.test_webhooks import FIREFOX, Receiver, hit, webhook

OPENS = int(os.environ.get("WEBHOOK_OPENS", "600"))
SENDERS = 6


@pytest.fixture(scope="module")
def telling(start_server_for_module: Callable[..., Server]) -> Server:
    """A server that may send to this machine."""
    return start_server_for_module(webhook_private="1", **UNBOUNDED)


class Receiving:
    """A receiver in a process of its own, which keeps what it got in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._file.touch()
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.web.api.receiving"]
        self._process = subprocess.Popen(
            [*command, str(self._port), str(self._file)], cwd=PROJECT_DIR
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def received(self) -> list[tuple[str, dict[str, Any]]]:
        # The last line may be half there while it is written.
        *lines, _ = self._file.read_text().split("\n")
        return [tuple(json.loads(line)) for line in lines]

    def wait_for(self, count: int) -> None:
        """Return once so many different messages came; fail if none comes for a while."""
        seen, give_up_at = 0, time.monotonic() + WAIT_SECONDS_MAX
        while seen < count:
            found = len({id for id, _ in self.received})
            if found > seen:
                seen, give_up_at = found, time.monotonic() + WAIT_SECONDS_MAX
            assert time.monotonic() < give_up_at, f"{seen} of {count} came"
            time.sleep(0.1)


@pytest.fixture
def receiving(tmp_path: Path) -> Iterator[Receiving]:
    made = Receiving(tmp_path / "received")
    yield made
    made.kill()


def open_often(server: Server, pixel: dict[str, Any], count: int) -> None:
    """Open a pixel so many times on one connection."""
    parts = urlsplit(server.base)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    for _ in range(count):
        connection.request("GET", f"/p/{pixel['slug']}", headers={"User-Agent": FIREFOX})
        response = connection.getresponse()
        response.read()
        assert response.status == 200
    connection.close()


def test_all_opens_reach_a_receiver_that_is_killed_twice(
    telling: Server, receiving: Receiving
) -> None:
    pixel = telling.admin.create_pixel()
    webhook(telling.admin, receiving.url, pixel, "open")
    started_at = time.monotonic()
    with ThreadPoolExecutor(SENDERS) as pool:
        sent = [pool.submit(open_often, telling, pixel, OPENS // SENDERS) for _ in range(SENDERS)]
        for part in (5, 2):
            receiving.wait_for(OPENS // part)
            receiving.kill()
            # A try that is refused meanwhile is made again.
            time.sleep(1.5)
            receiving.start()
        for future in sent:
            future.result()
    count = OPENS // SENDERS * SENDERS
    receiving.wait_for(count)
    received = receiving.received
    path = f"/api/pixels/{pixel['id']}/export?format=jsonl"
    committed = [json.loads(line)["id"] for line in telling.admin.get(path).body.splitlines()]
    assert len(committed) == count
    told = [body["data"]["hitId"] for _, body in received]
    assert list(dict.fromkeys(told)) == committed
    # What came twice came by the same id: it was received, and the receiver killed unanswered.
    assert len({id for id, _ in received}) == count
    repeated = {id: times for id, times in Counter(id for id, _ in received).items() if times > 1}
    assert sum(repeated.values()) - len(repeated) <= 2
    print(f"{count} opens in {time.monotonic() - started_at:.0f} s, {len(repeated)} came twice")


def test_endpoint_that_hangs_holds_up_neither_hits_nor_other_webhooks(telling: Server) -> None:
    admin, receiver = telling.admin, Receiver()
    pixel = admin.create_pixel()
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        made = webhook(admin, f"http://127.0.0.1:{hanging.getsockname()[1]}/", pixel, "hit")
        webhook(admin, receiver.url, pixel, "hit")
        hanging_path = f"/api/webhooks/{made['id']}/deliveries"
        for number in range(20):
            hit(admin, pixel, f"?r={number}")
        wait_until(lambda: len(receiver.received) >= 20)
        receiver.close()
        told = [body["data"]["recipient"] for body in receiver.bodies]
        assert told == [str(number) for number in range(20)]
        wait_until(lambda: admin.get(hanging_path).json["data"])
        [first, *_] = admin.get(hanging_path).json["data"][::-1]
        assert (first["status"], first["error"]) == (None, "No answer within 10 seconds.")
        assert admin.delete(f"/api/webhooks/{made['id']}").status == 200


def test_answer_of_a_gigabyte_is_not_read(telling: Server) -> None:
    flood = Flood()
    pixel = telling.admin.create_pixel()
    made = webhook(telling.admin, flood.url, pixel, "hit")
    for number in range(3):
        hit(telling.admin, pixel, f"?r={number}")
    path = f"/api/webhooks/{made['id']}/deliveries"
    wait_until(lambda: len(telling.admin.get(path).json["data"]) >= 3)
    wait_until(lambda: len(flood.sent_bytes) >= 3)
    flood.close()
    log = telling.admin.get(path).json["data"]
    assert [(delivery["status"], delivery["attempt"]) for delivery in log] == [(200, 1)] * 3
    # What the system's buffers take is sent, and no more.
    assert len(flood.sent_bytes) == 3
    assert max(flood.sent_bytes) < GIGABYTE // 10


GIGABYTE = 1 << 30


class Flood:
    """A server whose every answer is a gigabyte long."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/"
        self.sent_bytes: list[int] = []
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                with client:
                    self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        client.settimeout(WAIT_SECONDS_MAX)
        client.recv(65_536)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIGABYTE)
        sent = 0
        with suppress(OSError):
            while sent < GIGABYTE:
                sent += client.send(bytes(1 << 16))
        self.sent_bytes.append(sent)
