"""What a browser is told of every answer but the image's: what it may load, and from where.

The pages have no inline script or style, load nothing from other hosts and stand in no frame.
"""

from __future__ import annotations

import gzip
import hashlib
from contextlib import suppress

from flask import Flask, Request, Response, request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from itsdangerous import BadSignature

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    # The address of a page may hold a share's slug.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # What is shared is for those who have the link.
    "X-Robots-Tag": "noindex",
}


# What the session's cookie was called everywhere before `cookie_name`.
FORMER_COOKIE_NAME = "pixelkeep"


def cookie_name(oldest_key: str) -> str:
    """Return the name of the session's cookie: cookies are shared by all ports of a host.

    The oldest key goes last, so that a new one signs nobody out.
    """
    digest = hashlib.blake2b(oldest_key.encode(), digest_size=6, person=b"session-cookie")
    return f"pixelkeep_{digest.hexdigest()}"


class CookieSession(SecureCookieSessionInterface):
    """Flask's signed cookie, sent only over TLS where TLS is in use."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Return the session of the cookie, or of the one that an earlier version has set."""
        session = super().open_session(app, request)
        signer = self.get_signing_serializer(app)
        if not session and signer and FORMER_COOKIE_NAME in request.cookies:
            max_age = int(app.permanent_session_lifetime.total_seconds())
            with suppress(BadSignature):
                values = signer.loads(request.cookies[FORMER_COOKIE_NAME], max_age=max_age)
                session = self.session_class(values)
                session.modified = True
        return session

    def get_cookie_path(self, app: Flask) -> str:
        """Return the path that we stand under: beside us, others may have cookies of the name."""
        return f"{request.script_root}/"

    def get_cookie_secure(self, app: Flask) -> bool:
        """Tell whether browsers may send the cookie back over TLS only."""
        return request.is_secure or app.config["SETTINGS"].base_url.startswith("https:")


def register(app: Flask) -> None:
    """Give every answer of `app` its headers; its session's cookie is `HttpOnly` and `Secure`."""
    app.session_interface = CookieSession()
    app.after_request(_add_headers)
    app.after_request(_compress_files)


def _add_headers(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    # What an account may see stays out of every cache; files of our own may be kept.
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def _compress_files(response: Response) -> Response:
    """Compress only our own files: a page's length would give away the secrets on it."""
    if request.endpoint != "static":
        return response
    response.vary.add("Accept-Encoding")
    if response.status_code == 200 and request.accept_encodings["gzip"]:
        response.direct_passthrough = False
        response.set_data(gzip.compress(response.get_data()))
        response.content_encoding = "gzip"
        etag, _ = response.get_etag()
        response.set_etag(etag or "", weak=True)
    return response
