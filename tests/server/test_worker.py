"""How images that are asked for at the same time come to be one commit."""

from __future__ import annotations

import http.client
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from hits.image import GIF
from tests.conftest import Server
from tests.hits.test_metrics import numbers

CLIENTS = 40


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """Have the server's one worker hold still, so that what is sent meanwhile piles up."""
    assert server.process
    (worker,) = psutil.Process(server.process.pid).children()
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker.pid, signal.SIGCONT)


def test_images_on_connections_of_their_own_are_one_commit(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(workers="1")
    pixel = server.admin.create_pixel()
    assert server.admin.get(f"/p/{pixel['slug']}").status == 200
    before = numbers(server)["pixelkeep_commit_hits_count"]
    with stopped(server):
        connections = [http.client.HTTPConnection("127.0.0.1", server.port) for _ in range(CLIENTS)]
        for connection in connections:
            connection.request("GET", f"/p/{pixel['slug']}", headers={"Connection": "close"})
    answers = [connection.getresponse() for connection in connections]
    assert [(answer.status, answer.read()) for answer in answers] == [(200, GIF)] * CLIENTS
    after = numbers(server)
    assert after["pixelkeep_commit_hits_sum"] == CLIENTS + 1
    # The first may be taken before the others are seen.
    assert after["pixelkeep_commit_hits_count"] - before <= 2
