"""The heads of images over HTTP/1: those asked for, and those answered.

gunicorn takes longer to read a request than its hit takes to be stored. What mail clients,
browsers and proxies send is read here in a tenth of the time; a head with anything else in it is
gunicorn's to read, so that there is one judge of what is odd.
`tests/server/test_http_heads.py` compares the two.
"""

from __future__ import annotations

import re
from email.utils import formatdate
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gunicorn import SERVER

# Of a request's line, of each header and of a whole head that is read here.
BYTES_MAX = 8190
FIELDS_MAX = 60

_IMAGE = re.compile(
    rb"GET (/(?:p/|api/send\?)[!\"$-~]*) (HTTP/1\.[01])\r\n"
    rb"((?:[A-Za-z0-9-]+:[\t -~\x80-\xff]*\r\n)*)\r\n"
)
_LINE = re.compile(rb"(?:\r\n)?[^\r\n]*")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
# They come with a body, or ask for more than an answer.
_ODD = frozenset(
    f"HTTP_{name}"
    for name in ("CONTENT_LENGTH", "CONTENT_TYPE", "TRANSFER_ENCODING", "UPGRADE", "EXPECT")
)


class Asked(NamedTuple):
    """An image that is asked for.

    `environ` is as WSGI has it, but for what is known of the connection and the server; `length`
    is in bytes; `is_last` says that the client wants no further answer on this connection.
    """

    environ: dict[str, str]
    length: int
    is_last: bool


def read(received: bytes | bytearray) -> Asked | None:
    """Return what is asked for, None if that is no image or anything about it is unusual."""
    found = _IMAGE.match(received)
    if not found or found.end() > BYTES_MAX:
        return None
    lines = found[3].decode("latin-1").split("\r\n")[:-1]
    environ = {}
    for line in lines:
        name, _, value = line.partition(":")
        environ["HTTP_" + name.upper().replace("-", "_")] = value.strip(" \t")
    is_repeated = len(environ) < len(lines)
    if is_repeated or len(lines) > FIELDS_MAX or not _ODD.isdisjoint(environ):
        return None
    target, protocol = found[1].decode("ascii"), found[2].decode("ascii")
    path, _, query = target.partition("?")
    environ |= {
        "REQUEST_METHOD": "GET",
        "RAW_URI": target,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": protocol,
    }
    return Asked(environ, found.end(), _is_last(protocol, environ.get("HTTP_CONNECTION", "")))


def quoted(received: bytes | bytearray) -> bytes | bytearray:
    """Return a request with its first line in ASCII: other bytes are percent-encoded.

    Mail programs and browsers do so themselves; `curl` and merge tags leave them as they are.
    """
    line = _LINE.match(received)
    if line is None or line[0].isascii():
        return received
    return _NOT_ASCII.sub(_escape, line[0]) + received[line.end() :]


def _escape(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found[0][0]


def _is_last(protocol: str, connection: str) -> bool:
    if protocol == "HTTP/1.0":
        return connection.lower() != "keep-alive"
    return connection.lower() == "close"


@lru_cache(maxsize=16)
def made(
    protocol: str, status: str, headers: tuple[tuple[str, str], ...], is_last: bool, second: int
) -> bytes:
    """Return the head of an answer in the asker's protocol, sent in a second since the epoch.

    Images have the same few all through a second.
    """
    lines = [
        f"{protocol} {status}",
        f"Server: {SERVER}",
        f"Date: {formatdate(second, usegmt=True)}",
        f"Connection: {'close' if is_last else 'keep-alive'}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1")
