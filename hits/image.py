"""The image: `GET /p/{slug}` and `GET /api/send?slug={slug}`, and nothing else.

A WSGI callable around the Flask application, as ProxyFix is, because a Flask view costs more
than storing the hit does. Whatever happens, the answer is the same 43 bytes, so that no mail
shows a broken image: 200 for a committed hit, 404 for an unknown slug, 405 for another method,
503 for a hit that could not be stored.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from hits.intake import (
    TOKEN,
    Fetch,
    Intake,
    header_signals,
    kept_query,
    parameters_of,
    recipient_of,
    unescaped,
)
from hits.pixel_names import PixelName
from hits.recorder import Unstored, reason_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

GIF = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b"
)
IMAGE_HEADERS = [
    ("Content-Type", "image/gif"),
    ("Content-Length", str(len(GIF))),
    # A mail that is opened again is another hit, so nobody may keep the image; old proxies read the
    # two headers that follow.
    ("Cache-Control", "private, no-store, no-cache, must-revalidate, max-age=0"),
    ("Pragma", "no-cache"),
    ("Expires", "0"),
    # Mails are read on pages of other origins, which may forbid what doesn't allow it.
    ("Cross-Origin-Resource-Policy", "cross-origin"),
    ("Access-Control-Allow-Origin", "*"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Robots-Tag", "noindex"),
]
PATH = "/p/"
SEED_PATH = "/api/send"
FOUND, UNKNOWN = "200 OK", "404 Not Found"
LOG_INTERVAL_SECONDS = 1.0

log = logging.getLogger("pixelkeep.collect")


class Collector:
    """Answers image requests; passes every other request on to `app`."""

    def __init__(self, app: WSGIApplication, intake: Intake) -> None:
        self._app = app
        self._intake = intake

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, as WSGI has it."""
        path, method = plain_path(environ["PATH_INFO"]), environ["REQUEST_METHOD"]
        if path == SEED_PATH and method not in ("GET", "HEAD"):
            return self._app(environ, _naming_ours(start_response))
        if path != SEED_PATH and not path.startswith(PATH):
            return self._app(environ, start_response)
        environ["PATH_INFO"] = path
        if method == "GET":
            return _answer_when_known(self._enqueue(environ), start_response)
        # Mailers check links by their heads: nobody has seen an image, so it is no hit.
        if method == "HEAD":
            start_response(self._head_status(environ), IMAGE_HEADERS.copy())
            return []
        start_response("405 Method Not Allowed", [*IMAGE_HEADERS, ("Allow", "GET, HEAD")])
        return [GIF]

    def _enqueue(self, environ: WSGIEnvironment) -> Callable[[], str]:
        """Put a hit into the queue; return what waits for its commit and says the status."""
        try:
            query = unescaped(_utf8(environ["QUERY_STRING"]))
            parameters = parameters_of(query) if query else {}
            name = _name(environ["PATH_INFO"], parameters)
            # Whatever a stranger sends that can't be read is a hit not stored, and no error page.
            wait = self._intake.enqueue(name, _fetch_of(environ, query, parameters))
        except Exception as error:
            return partial(_failed, error)
        return partial(_status_of, wait)

    def _head_status(self, environ: WSGIEnvironment) -> str:
        try:
            parameters = parameters_of(unescaped(_utf8(environ["QUERY_STRING"])))
            known = self._intake.knows(_name(environ["PATH_INFO"], parameters))
        except Exception as error:
            return _failed(error)
        return FOUND if known else UNKNOWN


def plain_path(path: str) -> str:
    """Return a path with one slash before it: a base that ends with one makes links with two."""
    return "/" + path.lstrip("/") if path.startswith("//") else path


def _naming_ours(start_response: StartResponse) -> StartResponse:
    """Let whoever is told which methods the seed's path allows be told of the image's too."""

    def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[..., object]:
        told = [
            (name, f"GET, HEAD, {value}" if name.lower() == "allow" else value)
            for name, value in headers
        ]
        return start_response(status, told, *error)

    return start


def _answer_when_known(status: Callable[[], str], start_response: StartResponse) -> Iterator[bytes]:
    """Answer a hit, whose status is known once it is committed.

    As WSGI allows (PEP 3333), the answer begins when the server asks for its body. A server that
    has several requests at hand may call the application for each first, and all are one commit.
    """
    start_response(status(), IMAGE_HEADERS.copy())
    yield GIF


def _status_of(wait: Callable[[], object]) -> str:
    try:
        return UNKNOWN if wait() is None else FOUND
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> str:
    """Log what kept a hit from being stored: whatever it was, no mail may show a broken image."""
    log.error(
        "A hit was not stored: %s", error if isinstance(error, Unstored) else reason_of(error)
    )
    return "503 Service Unavailable"


def _name(path: str, parameters: dict[str, str]) -> PixelName:
    if path.startswith(PATH):
        return PixelName(_utf8(path[len(PATH) :]), may_have_suffix=True)
    return PixelName(parameters.get("slug", ""))


def _fetch_of(environ: WSGIEnvironment, query: str, parameters: dict[str, str]) -> Fetch:
    header = environ.get
    return Fetch(
        address=header("REMOTE_ADDR", ""),
        user_agent=_utf8(header("HTTP_USER_AGENT", "")),
        languages=header("HTTP_ACCEPT_LANGUAGE", ""),
        host=header("HTTP_HOST", ""),
        referrer=_utf8(header("HTTP_REFERER", "")),
        query=kept_query(query) if query else "",
        token=parameters.get(TOKEN),
        recipient=recipient_of(query, parameters),
        header_signals=header_signals(environ),
        opted_out=header("HTTP_DNT") == "1" or header("HTTP_SEC_GPC") == "1",
    )


def _utf8(value: str) -> str:
    """Return WSGI's Latin-1 as the UTF-8 that it was."""
    if value.isascii():
        return value
    return value.encode("latin-1").decode("utf-8", "replace")


class _Seldom(logging.Filter):
    """Lets one line pass in an interval: a full disk under load must not be filled further."""

    def __init__(self) -> None:
        super().__init__()
        self._quiet_until = 0.0
        self._held_back = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether `record` may pass; tell with it how many could not."""
        at = time.monotonic()
        if at < self._quiet_until:
            self._held_back += 1
            return False
        if self._held_back:
            record.msg = f"{record.msg} ({self._held_back} more like it)"
        self._quiet_until, self._held_back = at + LOG_INTERVAL_SECONDS, 0
        return True


log.addFilter(_Seldom())
