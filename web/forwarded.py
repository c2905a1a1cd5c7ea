"""Who is asking, and of what, where proxies stand in front: the image and all else alike."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from werkzeug.middleware.proxy_fix import ProxyFix

from core.addresses import normalized

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


_PROTOCOLS = re.compile(r"[ \t]*https?[ \t]*(?:,[ \t]*https?[ \t]*)*", re.IGNORECASE)
# What may stand before every path: anything else could lead to another host.
_PREFIX = re.compile(r"(/[\w.~%+-]+)+", re.ASCII)


class Forwarded:
    """Puts into a request's environ what proxies say of it, as far as they are believed.

    `proxies` is how many stand in front, `headers` which of `for`, `proto`, `host`, `port` and
    `prefix` they set. An address has one form from here on; what is no address counts as the
    peer's.

    `path` is the public URL's, under which we stand where no proxy says another. It is taken off
    a request's path where it stands there, so that proxies may strip it or not, and direct
    requests find the same; except where one of our own paths, `taken`, begins alike.
    """

    def __init__(
        self,
        app: WSGIApplication,
        proxies: int,
        headers: Iterable[str],
        path: str = "",
        taken: Iterable[str] = (),
    ) -> None:
        self._proxies = proxies if "for" in headers else 0
        self._prefixes = proxies if "prefix" in headers else 0
        self._path = _prefix(path)
        self._taken = frozenset(taken)
        counts = {f"x_{name}": proxies for name in headers if name not in ("for", "prefix")}
        self._app = ProxyFix(app, **{"x_for": 0, "x_proto": 0, **counts}) if proxies else app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass a request on."""
        if self._proxies or ":" in environ.get("REMOTE_ADDR", ""):
            environ["REMOTE_ADDR"] = self._address(environ)
        protocol = environ.get("HTTP_X_FORWARDED_PROTO")
        if protocol and not _PROTOCOLS.fullmatch(protocol):
            # Links are made of it.
            del environ["HTTP_X_FORWARDED_PROTO"]
        if self._prefixes or self._path:
            self._stand_under(self._prefix_of(environ), environ)
        return self._app(environ, start_response)

    def _prefix_of(self, environ: WSGIEnvironment) -> str:
        prefixes = environ.get("HTTP_X_FORWARDED_PREFIX", "").rsplit(",", self._prefixes)
        said = self._prefixes and len(prefixes) >= self._prefixes
        return (_prefix(prefixes[-self._prefixes]) if said else "") or self._path

    def _stand_under(self, prefix: str, environ: WSGIEnvironment) -> None:
        if not prefix:
            return
        environ["SCRIPT_NAME"] = prefix
        decoded, path = unquote_to_bytes(prefix).decode("latin-1"), environ["PATH_INFO"]
        is_taken = decoded.split("/")[1] in self._taken
        if not is_taken and f"{path}/".startswith(f"{decoded}/"):
            environ["PATH_INFO"] = path[len(decoded) :] or "/"

    def _address(self, environ: WSGIEnvironment) -> str:
        if self._proxies:
            # No further than it is believed: a long list costs no more than a short one.
            addresses = environ.get("HTTP_X_FORWARDED_FOR", "").rsplit(",", self._proxies)
            if len(addresses) >= self._proxies:
                found = normalized(addresses[-self._proxies])
                if found is not None:
                    return found
        peer: str = environ.get("REMOTE_ADDR", "")
        return normalized(peer) or peer


def _prefix(text: str) -> str:
    """Return a path without a slash at its end, nothing for what can't stand before another."""
    path = text.strip().rstrip("/")
    return path if _PREFIX.fullmatch(path) else ""
