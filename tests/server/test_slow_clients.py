"""Clients that send slowly, or open connections and leave them, keep nobody else waiting."""

from __future__ import annotations

import json
import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from hits.image import GIF
from server import worker
from tests.conftest import WAIT_SECONDS_MAX, Server, verdicts, wait_until

CONNECTIONS = 10_000
SLOW_CLIENTS = 200
SPARE_FILES = 500
HEAD = b"POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"GET /api/heartbeat HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
UNFINISHED = {
    "nothing": b"",
    "half a head": b"GET /p/slow HTTP/1.1\r\nHost: a\r\nX-Slow: ",
    "half a body": HEAD + b'Content-Length: 60000\r\n\r\n{"username": "',
    "half a large body": HEAD + b'Content-Length: 6000000\r\n\r\n{"username": "',
    "half a chunk": CHUNKED + b"5\r\n{",
    "half a body of small chunks": CHUNKED + b"1\r\n{\r\n" * 5000,
    "half a chunk's extension": CHUNKED + b"1;" + b"a" * 5000,
    "half a large chunk": CHUNKED + b"FFFFFFF\r\n" + b"x" * 60_000,
    "half of the trailers": CHUNKED + b"0\r\nX: " + b"y" * 5000,
    "an expectation": HEAD + b"Expect: 100-continue\r\nContent-Length: 600\r\n\r\n",
    "a request, and never the end": b"GET /api/heartbeat HTTP/1.0\r\n\r\n",
}


@pytest.fixture(scope="module")
def one_process(start_server_for_module: Callable[..., Server]) -> Server:
    return start_server_for_module(workers="1", threads="4")


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


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"1\r\nx\r\n" * 500_000 + b"0\r\n\r\n", 413, "payload-too-large"),
        (b"FFFFFFF\r\n" + b"x" * 500_000, 413, "payload-too-large"),
        (b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 10_000, 431, "request-header-fields-too-large"),
        (b"2;" + b"a" * 20_000 + b"\r\n{}\r\n0\r\n\r\n", 400, "bad-request"),
        (b"2\r\n{}}\r\n0\r\n\r\n", 400, "bad-request"),
        (b"zz\r\n", 400, "bad-request"),
    ],
    ids=["small chunks", "a large chunk", "trailers", "an extension", "a wrong size", "no size"],
)
def test_body_that_is_too_large_or_odd_has_its_error(
    one_process: Server, body: bytes, status: int, code: str
) -> None:
    with connected(one_process, 1, b"") as [client]:
        with suppress(ConnectionError):  # It may be refused before all is sent.
            client.sendall(CHUNKED + body)
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert f'"{code}"'.encode() in answer
    assert "Traceback" not in one_process.log


@pytest.mark.parametrize(
    "codings",
    [
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: br, chunked",
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    ],
)
def test_body_in_a_coding_that_nobody_decodes_is_not_taken_as_plain(
    one_process: Server, codings: bytes
) -> None:
    request = CHUNKED.replace(b"Transfer-Encoding: chunked", codings) + b"2\r\n{}\r\n0\r\n\r\n"
    with connected(one_process, 1, request) as [client]:
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 501 ")
    assert b"Content-Type: application/json" in answer
    assert b'"not-implemented"' in answer


def test_expectation_that_nobody_knows_changes_nothing(one_process: Server) -> None:
    request = HEAD + b"Expect: nonsense\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    with connected(one_process, 1, request) as [client]:
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 400 BAD REQUEST")
    assert b"username" in answer


def test_form_in_unreadable_chunks_is_the_senders_fault(one_process: Server) -> None:
    request = CHUNKED.replace(b"/api/auth/login", b"/sign-in") + b"zz\r\n"
    request = request.replace(b"application/json", b"application/x-www-form-urlencoded")
    with connected(one_process, 1, request) as [client]:
        assert client.recv(65_536).startswith(b"HTTP/1.1 400 ")
    assert "Traceback" not in one_process.log


def test_small_chunks_with_extensions_and_trailers_are_read(one_process: Server) -> None:
    pixel = one_process.admin.create_pixel()
    payload = {"type": "event", "payload": {"pixel": pixel["id"], "url": "/" + "x" * 400}}
    chunks = b"".join(b"1;a=b\r\n%c\r\n" % byte for byte in json.dumps(payload).encode())
    request = CHUNKED.replace(b"/api/auth/login", b"/api/send") + chunks + b"0\r\nX-Sum: 1\r\n\r\n"
    with connected(one_process, 1, request + LAST) as [client]:
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"ok":true}\n'), "the next request on the connection is answered"
    assert len(verdicts(one_process, pixel)) == 1


@pytest.mark.parametrize("size", [1, 7, 8000, 500_000])
def test_ten_thousand_recipients_in_chunks_are_taken(one_process: Server, size: int) -> None:
    pixel = one_process.admin.create_pixel()
    count = 10_000 if size > 1 else 6000
    body = json.dumps({"recipients": [f"somebody-{number}" for number in range(count)]}).encode()
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
    head = CHUNKED.replace(b"/api/auth/login", f"/api/pixels/{pixel['id']}/recipients".encode())
    known = f"Authorization: Bearer {one_process.admin.token}\r\nConnection: close\r\n\r\n".encode()
    with connected(one_process, 1, head.removesuffix(b"\r\n") + known + sent) as [client]:
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b'"recipient"') == count


def test_half_received_bodies_make_room_for_each_other(one_process: Server) -> None:
    pixel = one_process.admin.create_pixel()
    sent = HEAD + b"Content-Length: 60000\r\n\r\n" + b"x" * 59_000
    count = worker.HELD_BYTES_MAX // 59_000 + 50
    with connected(one_process, count, sent) as clients:
        assert one_process.admin.get(f"/p/{pixel['slug']}").status == 200
        assert one_process.admin.create_pixel()
        answers: dict[socket.socket, bytes] = {}

        def take_answers() -> int:
            for client in set(clients) - set(answers):
                client.setblocking(False)
                with suppress(BlockingIOError):
                    answers[client] = client.recv(65_536)
            return len(answers)

        # Images and whole requests come before what has come in part.
        wait_until(lambda: take_answers() >= 50)
    assert len(answers) < count, "the others are still waited for"
    for answer in answers.values():
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in answer
        assert b'"service-unavailable"' in answer


def test_requests_sent_at_once_are_answered_in_turn(one_process: Server) -> None:
    request = b"GET /api/heartbeat HTTP/1.1\r\nHost: a\r\n\r\n"
    with connected(one_process, 1, request * 3 + LAST) as [client]:
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
    # Megabytes of answers fit into what lies between; these are made soonest.
    request = b"GET /p/unknown HTTP/1.1\r\n\r\n"

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


def test_client_is_told_to_go_on_only_where_its_body_is_read(one_process: Server) -> None:
    pixel = one_process.admin.create_pixel()
    body = json.dumps({"recipients": [f"somebody-{number}" for number in range(9000)]}).encode()
    head = b"POST /api/pixels/%b/recipients HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    head %= pixel["id"].encode()
    head += b"Content-Type: application/json\r\nExpect: 100-continue\r\n"
    head += b"Content-Length: %d\r\n" % len(body)
    with connected(one_process, 1, head + b"\r\n") as [stranger]:
        assert stranger.recv(65_536).startswith(b"HTTP/1.1 401 ")
    known = f"Authorization: Bearer {one_process.admin.token}\r\n\r\n".encode()
    with connected(one_process, 1, head + known) as [client]:
        assert client.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    with connected(one_process, 1, b"GET /p/a HTTP/1.1\r\nExpect: 100-continue\r\n\r\n") as [mail]:
        assert mail.recv(65_536).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "line", [b"GET  /p/a HTTP/1.1", b"\r\n\r\nGET /p/a HTTP/1.1", b"GET\t/p/a HTTP/1.1"]
)
def test_line_that_cannot_be_read_is_answered_with_the_image(
    one_process: Server, line: bytes
) -> None:
    with connected(one_process, 1, line + b"\r\nHost: a\r\n\r\n") as [client]:
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(GIF)


def test_connection_that_ends_after_a_large_body_says_so(one_process: Server) -> None:
    head = b"POST /api/pixels HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n"
    with connected(one_process, 1, head) as [client]:
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nConnection: close\r\n" in answer


def test_request_that_ends_in_its_middle_is_refused(one_process: Server) -> None:
    with connected(one_process, 1, b"GET /p/a HTTP/1.1\r\nHost: a\r\n") as [client]:
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(GIF)


def test_endless_head_is_refused(one_process: Server) -> None:
    def send_without_end(client: socket.socket) -> None:
        for _ in range(1000):
            client.sendall(b"x" * 65_536)

    with connected(one_process, 1, b"GET / HTTP/1.1\r\nX: ") as [client]:
        with pytest.raises(ConnectionError):
            send_without_end(client)
        assert client.recv(65_536).startswith(b"HTTP/1.1 431 ")
