"""Whatever pieces and framings a request comes in, it is what gunicorn reads, and bounded."""

from __future__ import annotations

from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from server import receiving
from server.receiving import Arrival, State
from web.api import json_body

HEAD = b"POST /api/send HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /p/next HTTP/1.1\r\n\r\n"
CONFIG = Config()


def arrived(sent: bytes, size: int = 65_536) -> Arrival:
    """Return what has arrived once all is sent, or no more is waited for."""
    arrival, at = Arrival(), 0
    while arrival.state is State.PARTIAL:
        assert arrival.held <= receiving.RECEIVED_BYTES_MAX
        if arrival.has_work:
            arrival.work()
        elif at < len(sent):
            piece = sent[at : at + min(size, arrival.room)]
            arrival.take(piece)
            at += len(piece)
        else:
            break
    assert arrival.held <= receiving.RECEIVED_BYTES_MAX
    return arrival


def read(received: bytes) -> tuple[Any, ...] | None:
    """Return what gunicorn reads, body and trailers; None for what it refuses or lacks an end."""
    parser = RequestParser(CONFIG, iter([received]), ("192.0.2.7", 1))
    try:
        request = next(parser)
        return request.body.read(), request.trailers
    except (ParseException, OSError):
        return None


@pytest.mark.parametrize("size", [1, 3, 65_536])
@pytest.mark.parametrize(
    "body",
    [
        b"0\r\n\r\n",
        b"2\r\n{}\r\n0\r\n\r\n",
        b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        b"000A\r\n0\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n",
        b'2;a;b=c ; d="e\\"f"\r\n{}\r\n00;x\r\n\r\n',
        b"2\r\n{}\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n",
        b"1\r\nx\r\n" * 3000 + b"0\r\n\r\n",
        b"1;" + b"a" * 8000 + b"\r\nx\r\n0\r\n\r\n",
        # What gunicorn refuses it still refuses.
        b"\r\n",
        b"zz\r\n",
        b"-1\r\n",
        b"0x1\r\nx\r\n0\r\n\r\n",
        b"1 \r\nx\r\n0\r\n\r\n",
        b"1;=\r\nx\r\n0\r\n\r\n",
        b"1;a=\x01\r\nx\r\n0\r\n\r\n",
        b"1\nx\r\n0\r\n\r\n",
        b"1\r\nx0\r\n\r\n",
        b"1\r\nx5\r\nhello\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\nHost: b\r\n\r\n",
        b"2\r\n{}\r\n0\r\nno colon\r\n\r\n",
    ],
)
def test_chunks_become_one_chunk_of_the_same_content(body: bytes, size: int) -> None:
    arrival = arrived(HEAD + body, size)
    assert arrival.state is State.WHOLE
    assert read(bytes(arrival.taken())) == read(HEAD + body)


@pytest.mark.parametrize("size", [1, 65_536])
def test_extension_longer_than_a_line_is_refused(size: int) -> None:
    arrival = arrived(HEAD + b"1;" + b"a" * 9000 + b"\r\nx\r\n0\r\n\r\n", size)
    assert arrival.state is State.WHOLE
    assert read(bytes(arrival.taken())) is None


CHUNKS = [b"1\r\nx\r\n", b"3\r\n\r\n0\r\n", b"0\r\n", b"2;a=b\r\n"]
elements = st.sampled_from([*CHUNKS, b"\r\n", b"{}", b"A\r\n", b"\n", b"X: y\r\n"])


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.lists(elements, max_size=12).map(b"".join), st.integers(1, 9))
def test_whatever_comes_in_chunks_is_read_alike(body: bytes, size: int) -> None:
    arrival = arrived(HEAD + body, size)
    if arrival.state is State.WHOLE:
        assert read(bytes(arrival.taken())) == read(HEAD + body)
    else:
        assert read(HEAD + body) is None


@pytest.mark.parametrize("size", [1, 100, 65_536])
@pytest.mark.parametrize(
    "request_bytes",
    [
        HEAD + b"2\r\n{}\r\n0\r\n\r\n",
        HEAD.replace(b"Transfer-Encoding: chunked", b"Content-Length: 2") + b"{}",
        b"GET /p/a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /p/a HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_follows_a_request_is_left_for_the_next(request_bytes: bytes, size: int) -> None:
    arrival = arrived(request_bytes + NEXT, size)
    assert arrival.state is State.WHOLE
    rest = (request_bytes + NEXT).removeprefix(request_bytes)
    parser = RequestParser(CONFIG, iter([bytes(arrival.taken()), NEXT]), ("192.0.2.7", 1))
    next(parser).body.read()
    assert rest.startswith(parser.unreader.take_buffered())


@pytest.mark.parametrize("size", [1, 65_536])
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /p/a HTTP/1.1\r\nX: " + b"x" * 40_000, 431),
        (b"GET /p/a HTTP/1.1\r\n" + b"X: x\r\n" * 8000 + b"\r\n", 431),
        (b"GET /p/" + b"x" * 40_000, 414),
        (b"\r\nGET /p/" + b"x" * 40_000, 414),
        (b"GET /p/a HTTP/1.1\nHost: a\n\n", 400),
        (b"GET /p/a HTTP/1.1\r\nHost: a\n", 400),
        (HEAD + b"0\r\n" + b"X: x\r\n" * 2000, 431),
        (HEAD + b"0\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
    ],
)
def test_heads_and_trailers_without_end_are_refused(sent: bytes, status: int, size: int) -> None:
    arrival = arrived(sent, size)
    assert (arrival.state, arrival.error.status) == (State.UNREADABLE, status)


@pytest.mark.parametrize(
    "body",
    [
        b"FFFFFFF\r\n" + b"x" * 200_000,
        b"1\r\nx\r\n" * 100_000,
        (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 50,
        (b"1;" + b"a" * 8000 + b"\r\nx\r\n") * 50 + b"20000\r\n" + b"x" * 131_072,
    ],
)
def test_body_over_what_strangers_may_send_is_handed_over_before_it_ends(body: bytes) -> None:
    head = HEAD.replace(b"Host: a", b"X: " + b"x" * 8000 + b"\r\nY: " + b"y" * 8000)
    stranger = arrived(head + body)
    assert (stranger.state, stranger.error.status) == (State.UNREADABLE, 413)
    arrival = arrived(head.replace(b"/api/send", b"/api/pixels") + body)
    assert arrival.state is State.LARGE
    assert arrival.chunks
    # With a byte more than a route takes that asks nobody who they are, it needn't wait for more.
    assert len(arrival.chunks.data) > json_body.BODY_BYTES_MAX == receiving.BODY_BYTES_MAX


@pytest.mark.parametrize("length", [65_537, 98_305, 10_000_000, 10**17])
def test_long_body_is_not_waited_for(length: int) -> None:
    head = HEAD.replace(b"Transfer-Encoding: chunked", b"Content-Length: %d" % length)
    stranger = arrived(head)
    assert (stranger.state, stranger.error.status) == (State.UNREADABLE, 413)
    assert arrived(head.replace(b"/api/send", b"/api/pixels")).state is State.LARGE


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"\r\nGET"])
@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_body_of_a_get_is_not_waited_for(method: bytes, framing: bytes) -> None:
    assert arrived(method + b" /p/a HTTP/1.1\r\n" + framing + b"\r\n\r\n").state is State.WHOLE


@pytest.mark.parametrize(
    ("line", "expects"),
    [(b"Expect: 100-continue", True), (b"expect:\t100-Continue", True), (b"X: a", False)],
)
def test_client_that_waits_to_be_asked_is_noticed(line: bytes, expects: bool) -> None:
    head = b"POST / HTTP/1.1\r\n" + line + b"\r\nContent-Length: 2\r\n\r\n"
    assert arrived(head).expects_continue is expects
    assert arrived(head + b"{}").expects_continue is False
