"""Who is asking, and of what, where proxies stand in front: the image and all else alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

from core.addresses import normalized

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Forwarded:
    """Puts into a request's environ what proxies say of it, as far as they are believed.

    `proxies` is how many stand in front, `headers` which of `for`, `proto`, `host`, `port` and
    `prefix` they set. An address has one form from here on; what is no address counts as the
    peer's.
    """

    def __init__(self, app: WSGIApplication, proxies: int, headers: Iterable[str]) -> None:
        self._proxies = proxies if "for" in headers else 0
        counts = {f"x_{name}": proxies for name in headers if name != "for"}
        self._app = ProxyFix(app, **{"x_for": 0, "x_proto": 0, **counts}) if proxies else app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass a request on."""
        if self._proxies or ":" in environ.get("REMOTE_ADDR", ""):
            environ["REMOTE_ADDR"] = self._address(environ)
        return self._app(environ, start_response)

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
