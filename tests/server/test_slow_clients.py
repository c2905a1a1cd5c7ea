"""Clients that send slowly, or open connections and leave them, keep nobody else waiting."""

from __future__ import annotations

import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.conftest import WAIT_SECONDS_MAX, Server, verdicts

CONNECTIONS = 10_000
SLOW_CLIENTS = 200
SPARE_FILES = 500
HEAD = b"POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
UNFINISHED = {
    "nothing": b"",
    "half a head": b"GET /p/slow HTTP/1.1\r\nHost: a\r\nX-Slow: ",
    "half a body": HEAD + b'Content-Length: 60000\r\n\r\n{"username": "',
    "half a large body": HEAD + b'Content-Length: 6000000\r\n\r\n{"username": "',
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    "an expectation": HEAD + b"Expect: 100-continue\r\nContent-Length: 600\r\n\r\n",
    "a request, and never the end": b"GET /api/heartbeat HTTP/1.0\r\n\r\n",
}


@pytest.fixture(scope="module")
def one_process(start_server: Callable[..., Server]) -> Server:
    return start_server(workers="1", threads="4")


@contextmanager
def connected(server: Server, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            clients.append(stack.enter_context(client))
            client.sendall(sent)
        yield clients


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=list(UNFINISHED))
def test_slow_clients_hold_no_thread(one_process: Server, sent: bytes) -> None:
    pixel = one_process.admin.create_pixel()
    with connected(one_process, SLOW_CLIENTS, sent):
        for _ in range(20):
            assert one_process.admin.get(f"/p/{pixel['slug']}").status == 200
    assert "Traceback" not in one_process.log


def test_ten_thousand_connections_left_open_stop_no_image(one_process: Server) -> None:
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The clients stand in this process, and as many sockets in the server's one.
    count = min(CONNECTIONS, files_max - SPARE_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    pixel = one_process.admin.create_pixel()
    with connected(one_process, count, b""):
        for _ in range(20):
            assert one_process.admin.get(f"/p/{pixel['slug']}").status == 200


def test_connection_left_open_is_ended(one_process: Server) -> None:
    with connected(one_process, 1, UNFINISHED["half a head"]) as [client]:
        assert client.recv(1) == b""


def test_body_that_comes_in_pieces_is_read(one_process: Server) -> None:
    request = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    with connected(one_process, 1, b"") as [client]:
        for at in range(len(request)):
            client.sendall(request[at : at + 1])
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 400 BAD REQUEST")
    assert b"username" in answer


def test_requests_sent_at_once_are_answered_in_turn(one_process: Server) -> None:
    request = b"GET /api/heartbeat HTTP/1.1\r\nHost: a\r\n\r\n"
    last = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with connected(one_process, 1, request * 3 + last) as [client]:
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.count(b'{"ok":true}') == 4


def test_images_asked_for_at_once_are_answered_in_turn_and_all_stored(one_process: Server) -> None:
    pixel = one_process.admin.create_pixel()
    request = f"GET /p/{pixel['slug']} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    unknown = b"GET /p/unknown HTTP/1.1\r\nHost: a\r\n\r\n"
    last = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with connected(one_process, 20, (request + unknown) * 5 + last) as clients:
        answers = [b"".join(iter(lambda: client.recv(65_536), b"")) for client in clients]  # noqa: B023
    statuses = [b"200"] + [b"404", b"200"] * 5
    assert [re.findall(rb"HTTP/1.1 (\d+)", answer) for answer in answers] == [statuses] * 20
    assert len(verdicts(one_process, pixel)) == 20 * 6


def test_image_that_cannot_be_parsed_leaves_the_others_of_its_group_alone(
    one_process: Server,
) -> None:
    pixel = one_process.admin.create_pixel()
    good = f"GET /p/{pixel['slug']} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    bad = b"GET /p/a HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n"
    with connected(one_process, 20, bad) as lost, connected(one_process, 20, good) as served:
        assert {client.recv(65_536)[:12] for client in served} == {b"HTTP/1.1 200"}
        assert {client.recv(65_536)[:12] for client in lost} == {b"HTTP/1.1 400"}


def test_client_that_reads_no_image_holds_up_nobody(one_process: Server) -> None:
    pixel = one_process.admin.create_pixel()
    request = f"GET /p/{pixel['slug']} HTTP/1.1\r\nHost: a\r\n\r\n".encode()

    def flood(client: socket.socket) -> None:
        client.setblocking(False)
        give_up_at = time.monotonic() + WAIT_SECONDS_MAX
        while time.monotonic() < give_up_at:
            with suppress(BlockingIOError):
                client.send(request * 200)
            # Others are served meanwhile.
            assert one_process.admin.get(f"/p/{pixel['slug']}").status == 200

    with connected(one_process, 1, b"") as [client], pytest.raises(ConnectionError):
        flood(client)


def test_client_that_asks_first_is_told_to_go_on(one_process: Server) -> None:
    body = b'{"username": "nobody", "password": "12345678"}'
    head = HEAD + b"Connection: close\r\nExpect: 100-continue\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(body)
    with connected(one_process, 1, head) as [client]:
        assert client.recv(65_536).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.sendall(body)
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert b"incorrect-username-password" in answer


def test_endless_head_is_refused(one_process: Server) -> None:
    def send_without_end(client: socket.socket) -> None:
        for _ in range(1000):
            client.sendall(b"x" * 65_536)

    begun = connected(one_process, 1, b"GET / HTTP/1.1\r\nX: ")
    with begun as [client], pytest.raises(ConnectionError):
        send_without_end(client)
