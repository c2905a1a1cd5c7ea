"""Heads of images are read and made as gunicorn reads and makes them, or left to it."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import Response
from hypothesis import given, settings
from hypothesis import strategies as st

from hits.image import IMAGE_HEADERS
from server import http_heads
from server.lenient_request import LenientRequest

CLIENT, SERVER = ("192.0.2.7", 50_000), ("127.0.0.1", 8000)
# What the worker adds, and what only gunicorn's own answers are made with.
NOT_OF_THE_HEAD = {
    *("REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT", "SERVER_SOFTWARE"),
    *("gunicorn.socket",),
}
NUMBERED = [b"X-%d: %d" % (number, number) for number in range(60)]
THUNDERBIRD = (
    b"GET /p/a%20b.gif?s=x-y_z&q=%C3%A9&q=1+2 HTTP/1.1\r\nHost: pixel.example.org\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.2.0\r\n"
    b"Accept: image/avif,image/webp,*/*\r\nAccept-Language:en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate\r\nConnection: Keep-Alive\r\nDNT: \t1 \r\n"
    b"X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nReferer: http://\xe9\r\n\r\n"
)

# As nginx asks by default.
BY_PROXY = (
    b"GET /p/news HTTP/1.0\r\nHost: pixel.example.org\r\nX-Forwarded-For: 192.0.2.1\r\n"
    b"X-Forwarded-Proto: https\r\nConnection: close\r\nUser-Agent: Outlook-Android/2.0\r\n\r\n"
)


def with_lines(*lines: bytes) -> bytes:
    """Return a request with these lines in place of its own."""
    return b"\r\n".join([b"GET /p/news HTTP/1.1", *lines, b"\r\n"])


PLAIN = with_lines(b"Host: a")


def config() -> Config:
    """Return gunicorn's settings as `gunicorn.conf.py` has them."""
    chosen = Config()
    chosen.set("limit_request_line", http_heads.BYTES_MAX)
    chosen.set("limit_request_field_size", http_heads.BYTES_MAX)
    chosen.set("limit_request_fields", http_heads.FIELDS_MAX)
    chosen.set("forwarded_allow_ips", "")
    chosen.set("secure_scheme_headers", {})
    return chosen


CONFIG = config()


def read_by_gunicorn(received: bytes) -> tuple[dict[str, Any], bytes, bool]:
    """Return the environ, what is left of the bytes, and whether the connection is to end."""
    parser = RequestParser(CONFIG, iter([received]), CLIENT)
    parser.mesg_class = LenientRequest
    request = next(parser)
    _, environ = wsgi.create(request, None, CLIENT, SERVER, CONFIG)
    of_head = {
        name: value
        for name, value in environ.items()
        if name not in NOT_OF_THE_HEAD and not name.startswith("wsgi.")
    }
    return of_head, parser.unreader.take_buffered(), request.should_close()


def is_read_alike(received: bytes) -> bool:
    """Tell whether a head was read here; if so, gunicorn reads the same."""
    asked = http_heads.read(bytearray(received))
    if asked is None:
        return False
    found = (asked.environ, received[asked.length :], asked.is_last)
    assert found == read_by_gunicorn(received)
    return True


@pytest.mark.parametrize(
    "received",
    [
        PLAIN,
        THUNDERBIRD,
        PLAIN + PLAIN,
        PLAIN.replace(b"news", b"news.gif?"),
        PLAIN.replace(b"/p/news", b'/p//a//b/../c;d=e?f?g/%2F%00%FF"<>[]{}|\\^`'),
        PLAIN.replace(b"/p/news", b"/api/send?slug=news&s=x"),
        with_lines(),
        with_lines(b"HOST:"),
        with_lines(b"Host: a", b"Connection: close"),
        with_lines(b"Host: a", b"Connection: CLOSE \t"),
        with_lines(b"Host: a", b"Connection: close, te"),
        PLAIN.replace(b"1.1", b"1.0"),
        BY_PROXY,
        BY_PROXY.replace(b"close", b"Keep-Alive"),
        BY_PROXY.replace(b"close", b"te"),
        with_lines(b"Host: a", *NUMBERED[:59]),
        with_lines(b"Host: a", b"X: " + b"x" * (http_heads.BYTES_MAX - len(PLAIN) - 5)),
    ],
)
def test_what_clients_send_is_read_as_gunicorn_reads_it(received: bytes) -> None:
    assert is_read_alike(received)


@pytest.mark.parametrize(
    "received",
    [
        PLAIN.replace(b"GET", b"HEAD"),
        PLAIN.replace(b"GET", b"POST"),
        PLAIN.replace(b"GET ", b"GET  "),
        PLAIN.replace(b"/p/news", b"/"),
        PLAIN.replace(b"/p/news", b"/p"),
        PLAIN.replace(b"/p/news", b"/api/send"),
        PLAIN.replace(b"/p/news", b"//p/news"),
        PLAIN.replace(b"/p/news", b"http://a/p/news"),
        PLAIN.replace(b"news", b"news#top"),
        PLAIN.replace(b"news", b"n\xc3\xa9ws"),
        PLAIN.replace(b"news", b"ne ws"),
        PLAIN.replace(b"news", b"ne\tws"),
        PLAIN.replace(b"1.1", b"2.0"),
        PLAIN.replace(b"1.1", b"1.2"),
        PLAIN.replace(b"\r\n", b"\n"),
        with_lines(b"Host: a\n"),
        with_lines(b"Host: a\r"),
        with_lines(b"Host : a"),
        with_lines(b"Host"),
        with_lines(b": a"),
        with_lines(b"Host: a", b"Host: b"),
        with_lines(b"Host: a", b"host: a"),
        with_lines(b"Host: a", b" b"),
        with_lines(b"Host: a\0"),
        with_lines(b"Host: a\x7f"),
        with_lines(b"H\xc3st: a"),
        with_lines(b"X_Forwarded_For: 192.0.2.9"),
        with_lines(b"Content-Length: 0"),
        with_lines(b"Content-Type: image/gif"),
        with_lines(b"transfer-encoding: chunked"),
        with_lines(b"Transfer-Encoding: gzip, chunked"),
        with_lines(b"Upgrade: h2c"),
        with_lines(b"Expect: 100-continue"),
        with_lines(b"Expect: nonsense"),
        with_lines(b"Host: a", *NUMBERED),
        with_lines(b"Host: a", b"X: " + b"x" * (http_heads.BYTES_MAX - len(PLAIN) - 4)),
        PLAIN[:-2],
        b"\r\n" + PLAIN,
        b"",
    ],
)
def test_what_is_unusual_is_left_to_gunicorn(received: bytes) -> None:
    assert not is_read_alike(received)


NAMES = b"Host Connection Accept X-Forwarded-For DNT Content-Length Expect Upgrade X-9".split()
pieces = st.lists(
    st.one_of(
        st.sampled_from([b"a", b"%41", b"%2F", b"%", b"?", b"&s=", b"//", b"..", b"[", b"@", b";"]),
        st.sampled_from([b"close", b"keep-alive", b"100-continue", b","]),
        st.binary(min_size=1, max_size=1),
    ),
    max_size=3,
).map(b"".join)
usual_lines = st.tuples(st.sampled_from(NAMES), st.sampled_from([b":", b": ", b":\t "]), pieces)
odd_lines = st.tuples(pieces, st.sampled_from([b": ", b" :", b""]), pieces)
lines = st.tuples(
    st.one_of(usual_lines, usual_lines, usual_lines, odd_lines).map(b"".join),
    st.sampled_from([b"\r\n"] * 9 + [b"\n"]),
).map(b"".join)
received_heads = st.tuples(
    st.sampled_from([b"GET /p/"] * 6 + [b"GET /api/send?", b"HEAD /p/", b"GET //"]),
    pieces,
    st.sampled_from([b" HTTP/1.1\r\n"] * 5 + [b" HTTP/1.0\r\n"] * 4 + [b"\r\n"]),
    st.lists(lines, max_size=3).map(b"".join),
    st.sampled_from([b"\r\n", b"\r\n" + PLAIN, b"\r\n\r\n", b""]),
).map(b"".join)


@settings(max_examples=500)
@given(received_heads)
def test_whatever_is_read_here_gunicorn_reads_the_same(received: bytes) -> None:
    is_read_alike(received)


@pytest.mark.parametrize(
    ("received", "is_last"),
    [
        (PLAIN, False),
        (PLAIN, True),
        (BY_PROXY, True),
        (BY_PROXY.replace(b"close", b"keep-alive"), False),
    ],
)
def test_head_of_an_answer_is_made_as_gunicorn_makes_it(received: bytes, is_last: bool) -> None:
    asked = http_heads.read(received)
    assert asked
    parser = RequestParser(CONFIG, iter([received]), CLIENT)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        response = Response(next(parser), theirs, CONFIG)
        if is_last:
            response.force_close()
        response.start_response("404 Not Found", IMAGE_HEADERS.copy())
        response.send_headers()
        made = ours.recv(65_536).decode()
    (date,) = (line for line in made.split("\r\n") if line.startswith("Date: "))
    protocol = asked.environ["SERVER_PROTOCOL"]
    own = http_heads.made(protocol, "404 Not Found", tuple(IMAGE_HEADERS), is_last, 0).decode()
    assert own.replace("Date: Thu, 01 Jan 1970 00:00:00 GMT", date) == made
