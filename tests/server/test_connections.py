"""Connections that clients leave open make room for those who ask for something."""

from __future__ import annotations

import http.client
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.conftest import Client, Server, wait_until

FILES_MAX = 128
IDLE = 400


@pytest.fixture(scope="module")
def with_few_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may open few files, and keeps idle connections for longer than a test."""
    server = Server(tmp_path_factory.mktemp("data"), None, workers="1", keepalive_seconds="600")
    server.start("sh", "-c", f'ulimit -n {FILES_MAX}; exec "$@"', "sh")
    yield server
    server.kill()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /p/slow HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        b"GET /p/none HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /api/heartbeat HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /api/send HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n",
    ],
    ids=["nothing", "half a head", "an image", "a request", "half a body"],
)
def test_idle_connections_keep_no_image_waiting(with_few_files: Server, sent: bytes) -> None:
    pixel = with_few_files.admin.create_pixel()
    # Soon, compared with the ten seconds that a connection may be idle.
    client = Client(with_few_files.base, with_few_files.admin.token)
    with ExitStack() as stack:
        for _ in range(IDLE):
            idle = socket.create_connection(("127.0.0.1", with_few_files.port), timeout=5)
            stack.enter_context(idle)
            idle.sendall(sent)
        for _ in range(20):
            assert client.get(f"/p/{pixel['slug']}").status == 200
            assert client.get("/api/me").status == 200
    assert "Traceback" not in with_few_files.log


def test_oldest_idle_connection_goes_first(with_few_files: Server) -> None:
    def is_open(connection: http.client.HTTPConnection) -> bool:
        connection.sock.setblocking(False)
        try:
            return connection.sock.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True

    kept = []
    for _ in range(FILES_MAX):
        connection = http.client.HTTPConnection("127.0.0.1", with_few_files.port, timeout=10)
        connection.request("GET", "/p/none")
        connection.getresponse().read()
        kept.append(connection)
    wait_until(lambda: not is_open(kept[0]))
    are_open = [is_open(connection) for connection in kept]
    assert are_open == sorted(are_open), "none goes before an older one"
    assert sum(are_open) > FILES_MAX / 5
    for connection in kept:
        connection.close()


def test_connections_that_go_on_as_others_take_their_place_end_no_process(
    with_few_files: Server,
) -> None:
    pixel = with_few_files.admin.create_pixel()
    image = f"GET /p/{pixel['slug']} HTTP/1.1\r\nHost: a\r\n\r\n".encode()

    def connect() -> socket.socket:
        client = stack.enter_context(socket.create_connection(("127.0.0.1", with_few_files.port)))
        client.setblocking(False)
        return client

    def ask(clients: list[socket.socket]) -> None:
        for client in clients:
            with suppress(OSError):  # It may have made room.
                client.send(image)

    for _ in range(30):
        with ExitStack() as stack:
            kept = [connect() for _ in range(45)]
            ask(kept)
            # What these ask for next arrives together with those who take their place.
            for client in kept:
                with suppress(OSError):
                    select.select([client], [], [], 0.05)
            for _ in range(30):
                connect()
            ask(kept)
    assert with_few_files.admin.get(f"/p/{pixel['slug']}").status == 200
    assert "Traceback" not in with_few_files.log
