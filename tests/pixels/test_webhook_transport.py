"""A webhook's POST goes to public addresses only, and nobody can hold it up or flood it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from pixels import webhook_transport
from pixels.webhook_transport import (
    DeliveryOutcome,
    Endpoint,
    NotPublic,
    look_up,
    split_url,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "a.localhost", "printer.local", "db.internal", "x.home.arpa"),
        *("127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "::1", "0.0.0.0", "0"),
    ],
)
def test_host_that_leads_inside_is_refused(host: str) -> None:
    with pytest.raises(NotPublic):
        look_up(host, 80)


def test_name_with_one_private_address_among_public_ones_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _resolve_to(monkeypatch, "8.8.8.8", "10.0.0.1")
    with pytest.raises(NotPublic):
        look_up("hooks.example.com", 80)


def test_second_look_up_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes to the address that was looked at, not to the name once more."""
    with _listening(_answering(OK)) as port:
        asked: list[str] = []

        def resolve(host: str, port: int, **_: object) -> list[object]:
            asked.append(host)
            return [(0, 0, 0, "", ("127.0.0.1", port))]

        monkeypatch.setattr(webhook_transport.socket, "getaddrinfo", resolve)
        url = f"http://hooks.example.com:{port}/"
        # Allowed here, since a test has no public address to listen at.
        assert _post(url).status == 200
        assert asked == ["hooks.example.com"]
        assert Endpoint(url, private_allowed=False).post(b"{}", {}) == (
            None,
            _any_number,
            "hooks.example.com leads to 127.0.0.1, which is not a public address.",
        )


@pytest.mark.parametrize(
    "url",
    [
        *("", "hooks.example.com", "ftp://example.com/", "http://", "http:///x", "//example.com"),
        *("http://a:b@example.com/", "http://example.com:99999/", "http://example.com:0/"),
        *("http://exa mple.com/", "http://example.com/\r\nX: y", "http://é.example.com/"),
        *("file:///etc/passwd", "http://[::1", "http://example.com/" + "x" * 2_000),
    ],
)
def test_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|name or a password"):
        split_url(url)


def test_connection_is_kept_and_the_body_arrives() -> None:
    received: list[bytes] = []
    with _listening(_answering(OK, received)) as port:
        endpoint = Endpoint(f"http://127.0.0.1:{port}/in?a=b", private_allowed=True)
        answers = [endpoint.post(body, {"webhook-id": "1"}) for body in (b"first", b"second")]
        endpoint.close()
    assert [answer.status for answer in answers] == [200, 200]
    assert len(received) == 2, "two requests on one connection"
    assert received[0].startswith(b"POST /in?a=b HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{port}\r\n".encode() in received[0]
    assert b"webhook-id: 1\r\n" in received[0]
    assert received[1].endswith(b"\r\n\r\nsecond")


def test_redirect_is_an_answer_and_not_followed() -> None:
    followed: list[bytes] = []
    with _listening(_answering(OK, followed)) as inside:
        location = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{inside}/\r\n\r\n".encode()
        with _listening(_answering(location)) as port:
            answer = _post(f"http://127.0.0.1:{port}/")
    assert answer.status == 302
    assert followed == []


def test_answer_without_an_end_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_transport, "TRY_SECONDS_MAX", 5.0)
    sent: list[int] = []

    def flood(client: socket.socket) -> None:
        client.recv(65_536)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(1_000):
            sent.append(client.send(b"x" * 1_000_000))

    with _listening(flood) as port:
        answer = _post(f"http://127.0.0.1:{port}/")
    assert answer.status == 200
    assert sum(sent) < 50_000_000


@pytest.mark.parametrize("drip", [b"", b"H", b"HTTP/1.1 200 OK\r\nX: "])
def test_server_that_hangs_or_drips_is_given_up(
    monkeypatch: pytest.MonkeyPatch, drip: bytes
) -> None:
    monkeypatch.setattr(webhook_transport, "TRY_SECONDS_MAX", 1.0)

    def hang(client: socket.socket) -> None:
        client.sendall(drip)
        while True:
            time.sleep(0.1)
            client.sendall(drip[-1:])

    with _listening(hang) as port:
        answer = _post(f"http://127.0.0.1:{port}/")
    assert answer.status is None
    assert answer.error
    assert 900 <= answer.milliseconds <= 4_000


@pytest.mark.parametrize(
    "garbage", [b"\x00" * 100, b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 abc\r\n\r\n", b""]
)
def test_answer_that_is_no_http_is_an_error(garbage: bytes) -> None:
    with _listening(_answering(garbage)) as port:
        answer = _post(f"http://127.0.0.1:{port}/")
    assert answer.status is None
    assert answer.error


def test_nobody_listening_is_an_error() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/"
        answer = _post(url)
    assert answer == DeliveryOutcome(None, answer.milliseconds, "The connection was refused.")


def _post(url: str) -> DeliveryOutcome:
    endpoint = Endpoint(url, private_allowed=True)
    try:
        return endpoint.post(b"{}", {})
    finally:
        endpoint.close()


class _AnyNumber:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, int)


_any_number = _AnyNumber()


def _resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    found = [(0, 0, 0, "", (address, 80)) for address in addresses]
    monkeypatch.setattr(webhook_transport.socket, "getaddrinfo", lambda *_, **__: found)


def _answering(
    answer: bytes, received: list[bytes] | None = None
) -> Callable[[socket.socket], None]:
    def serve(client: socket.socket) -> None:
        while request := client.recv(65_536):
            while not _is_whole(request):
                request += client.recv(65_536)
            if received is not None:
                received.append(request)
            client.sendall(answer)
            if answer != OK:
                return

    return serve


def _is_whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    length = next(
        (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0
    )
    return bool(end) and len(body) >= length


@contextmanager
def _listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept connections, each served in a thread, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run(client: socket.socket) -> None:
            # The other side may have left, which is what some tests are about.
            with client, suppress(OSError):
                serve(client)

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=run, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
