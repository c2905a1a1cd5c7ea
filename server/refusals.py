"""Answers to what nobody could read as a request, or had no room for.

The event loop and the threads send them where no application was called: the image for an image's
path, the one error shape under the API's.
"""

from __future__ import annotations

import json
import re
import time
from email.utils import formatdate
from urllib.parse import unquote_to_bytes

from gunicorn import SERVER
from gunicorn.http import errors as http_errors

from hits.image import GIF, IMAGE_HEADERS, PATH, SEED_PATH, plain_path
from server.http_heads import BYTES_MAX, FIELDS_MAX
from web.errors import body as error_body

RETRY_SECONDS = 5
_REASONS = {
    400: ("Bad Request", "bad-request"),
    413: ("Request Entity Too Large", "payload-too-large"),
    414: ("URI Too Long", "uri-too-long"),
    431: ("Request Header Fields Too Large", "request-header-fields-too-large"),
    500: ("Internal Server Error", "internal-server-error"),
    501: ("Not Implemented", "not-implemented"),
    503: ("Service Unavailable", "service-unavailable"),
}
_TARGET = re.compile(rb"([^ \t]*)[ \t]+(?:[A-Za-z][A-Za-z0-9+.-]*://[^/? ]*)?(/[^? ]*)")


def refusal(first_line: bytes, status: int, message: str) -> bytes:
    """Return a whole answer, after which the connection ends."""
    reason, code = _REASONS[status]
    found = _TARGET.match(first_line)
    method = found[1].decode("latin-1") if found else ""
    path = plain_path(unquote_to_bytes(found[2]).decode("utf-8", "replace")) if found else ""
    headers, content = _shown(method, path, status, code, message)
    if status == 503:
        headers = [*headers, ("Retry-After", str(RETRY_SECONDS))]
    lines = [
        f"HTTP/1.1 {status} {reason}",
        f"Server: {SERVER}",
        f"Date: {formatdate(time.time(), usegmt=True)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers),
    ]
    head = "\r\n".join([*lines, "\r\n"]).encode("latin-1")
    return head if method == "HEAD" else head + content


def reason_for(error: Exception) -> tuple[int, str]:
    """Return status and message for what gunicorn's parser raises; 500 for anything else."""
    if isinstance(error, http_errors.LimitRequestLine):
        return 414, f"The first line is over {BYTES_MAX} bytes."
    if isinstance(error, http_errors.LimitRequestHeaders):
        return 431, f"There are over {FIELDS_MAX} headers, or one is over {BYTES_MAX} bytes."
    if isinstance(error, http_errors.UnsupportedTransferCoding):
        return 501, "Of transfer codings only chunked can be read."
    if isinstance(error, http_errors.ParseException):
        return 400, f"The request can't be read: {error}"
    return 500, "Something went wrong on our side."


def _shown(
    method: str, path: str, status: int, code: str, message: str
) -> tuple[list[tuple[str, str]], bytes]:
    """Return headers and body, as whoever asked for `path` can show them."""
    if path.startswith(PATH) or (path == SEED_PATH and method in ("GET", "HEAD")):
        return IMAGE_HEADERS.copy(), GIF
    if path.startswith("/api"):
        kind, content = "application/json", json.dumps(error_body(status, code, message)) + "\n"
    else:
        kind, content = "text/plain; charset=utf-8", message + "\n"
    encoded = content.encode()
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(encoded))),
        ("X-Content-Type-Options", "nosniff"),
        ("Access-Control-Allow-Origin", "*"),
    ]
    return headers, encoded
