"""The same bytes along the image's own reader and along gunicorn's: same answers, same hits.

An empty line before a request is nothing to gunicorn's parser, and to ours a reason to leave the
request to it. So each draw is sent twice, the second time behind an empty line.
"""

from __future__ import annotations

import random
import re
import socket
import time
from contextlib import suppress
from typing import Any

from tests.conftest import Server

BATCH_DRAWS = 40
ANSWER_SECONDS_MAX = 30
_DATE = re.compile(rb"\r\nDate: [^\r]*")

TARGETS = [b"/p/%b", b"/p/%b", b"/p/%b.gif", b"/api/send?slug=%b", b"/p/none-%b", b"/p/%b/%b"]
TARGETS += [b"//p/%b", b"http://a/p/%b", b"/%%70/%b", b"/api/me?%b", b"/p"]
QUERIES = [
    b"",
    b"",
    b"?",
    b"?r=%b",
    b"?s=%b",
    b"?utm_source=%b&amp;utm_medium=%b",
    b"&r=%b",
    b"#%b",
]
QUERIES += [b"?a=%b&amp;r=%b+%b@example.org", b"?q=%b&q=%b", b"?%b"]
PIECES = [b"a", b"Z9", b"%C3%A9", b"%2F", b"%2e", b"%", b"%zz", b"\xc3\xa9", b"\xff", b"+"]
PIECES += [b"=", b"&", b"%41", b";", b"?", b"/", b"..", b"@", b"[", b'"', b"<", b"\\", b"^"]
PIECES += [b"~", b"%00"]
RARE_PIECES = [b" ", b"\t", b"\0", b"\x7f", b"\n", b"\r", b"#", b"x" * 3000, b"\xe2\x82\xac" * 900]
VERSIONS = [b"HTTP/1.1"] * 12 + [b"HTTP/1.0"] * 4 + [b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b""]
NAMES = b"Host User-Agent Referer Accept-Language DNT Sec-GPC X-Forwarded-For Connection".split()
NAMES += b"Accept Cookie X-Purpose Purpose X_Y".split()
ODD_NAMES = b"Content-Length Transfer-Encoding Expect Upgrade H:st H\xc3st A( B".split()
ODD_NAMES.extend((b"", b"A "))
VALUES = [b"a", b"close", b"keep-alive", b"1", b"0", b"en-GB,en;q=0.5", b"prefetch", b"192.0.2.7"]
VALUES += [b"Mozilla/5.0 (Windows NT 10.0) Firefox/130.0", b"https://example.org/a?b", b"curl/8.1"]
VALUES += [b"\xe9\xff", b"[2001:db8::1]:443", b"a\tb", b"", b"chunked", b"100-continue", b"gzip"]
RARE_VALUES = [b"\0", b"\x7f", b"a\rb", b"a\nb", b"x" * 5000, b"x" * 8181, b"x" * 9000]


def draw(dice: random.Random, slug: bytes) -> bytes:
    """Return what somebody may send who wants an image, or something like it."""
    return b"".join(_request(dice, slug) for _ in range(dice.choice([1, 1, 1, 2, 3])))


def _request(dice: random.Random, slug: bytes) -> bytes:
    target = _filled(dice, dice.choice(TARGETS), slug)
    target += _filled(dice, dice.choice(QUERIES), _text(dice))
    method = dice.choice([b"GET"] * 16 + [b"HEAD", b"POST", b"get", b"OPTIONS"])
    line = b" ".join([method, target, dice.choice(VERSIONS)])
    end = dice.choice([b"\r\n"] * 30 + [b"\n", b"\r\n\r\n"])
    fields = _fields(dice, dice.choice([0, 1, 2, 3, 5, 8, 8, 59, 60, 61]))
    return end.join([line, *fields, b""]) + dice.choice([b"\r\n"] * 40 + [b"\n", b""])


def _fields(dice: random.Random, count: int) -> list[bytes]:
    """Return headers, as a rule each once."""
    names = [*NAMES, *(b"X-%d" % number for number in range(60))]
    dice.shuffle(names)
    if dice.random() < 0.1:
        names = dice.choices(names, k=count)
    return [_field(dice, name) for name in names[:count]]


def _field(dice: random.Random, name: bytes) -> bytes:
    name = name if dice.random() < 0.99 else dice.choice(ODD_NAMES)
    value = dice.choice(VALUES if dice.random() < 0.99 else RARE_VALUES)
    return name + dice.choice([b": ", b": ", b":", b":\t "]) + value


def _text(dice: random.Random) -> bytes:
    pieces = PIECES if dice.random() < 0.95 else PIECES + RARE_PIECES
    return b"".join(dice.choice(pieces) for _ in range(dice.choice([0, 1, 2, 4, 8])))


def _filled(dice: random.Random, pattern: bytes, text: bytes) -> bytes:
    return pattern.replace(b"%%", b"%").replace(b"%b", text)


class Comparison:
    """Sends draws both ways to one server with one pixel."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pixel = server.admin.create_pixel()
        self._number = server.number_of(self._pixel)
        self.draws = 0

    @property
    def slug(self) -> bytes:
        """What the draws ask for."""
        return str(self._pixel["slug"]).encode()

    def differences(self, draws: list[bytes]) -> list[str]:
        """Return what is different of each draw that isn't answered or stored alike."""
        self.draws += len(draws)
        if self._outcome(draws, b"") == self._outcome(draws, b"\r\n"):
            return []
        return [
            f"{drawn!r}\n  own:      {own}\n  gunicorn: {other}"
            for drawn in draws
            if (own := self._outcome([drawn], b"")) != (other := self._outcome([drawn], b"\r\n"))
        ]

    def _outcome(self, draws: list[bytes], before: bytes) -> tuple[list[bytes], list[Any]]:
        first = self._server.query(
            f"SELECT coalesce(max(id), 0) FROM hits WHERE pixel_number = {self._number}"
        )[0][0]
        answers = [self._answer(before + drawn) for drawn in draws]
        stored = self._server.query(
            "SELECT visitor, profile FROM hits"
            f" WHERE pixel_number = {self._number} AND id > {first} ORDER BY id"
        )
        return answers, [tuple(row) for row in stored]

    def _answer(self, sent: bytes) -> bytes:
        address = ("127.0.0.1", self._server.port)
        received = b""
        client = socket.create_connection(address, timeout=ANSWER_SECONDS_MAX)
        with client, suppress(OSError):  # It may be refused before all is sent.
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            while data := client.recv(65_536):
                received += data
        return _DATE.sub(b"", received)


def run(server: Server, seconds: float, seed: int) -> list[str]:
    """Compare draws for a while; return what is different."""
    dice, comparison, found = random.Random(seed), Comparison(server), []
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        found += comparison.differences([draw(dice, comparison.slug) for _ in range(BATCH_DRAWS)])
    print(f"readers: {comparison.draws} draws sent both ways, {len(found)} differences")
    return found
