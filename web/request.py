"""What both edges ask of a request: its address, the base of our URLs, the signer of links.

And what they both do for its reader: a long document goes out as gzip.
"""

from __future__ import annotations

import gzip
from typing import Any

from flask import Request, Response, current_app, request, url_for

from core.errors import PayloadTooLarge
from core.links import Links


def links() -> Links:
    """Return the signer of recipients' links."""
    return current_app.extensions["links"]  # type: ignore[no-any-return]


def address() -> str:
    """Return the address that the request came from, as far as the proxies are trusted."""
    return request.remote_addr or ""


def public_base() -> str:
    """Return the base of the URLs that callers embed, without a slash at its end."""
    configured: str = current_app.config["SETTINGS"].public_url
    return configured or request.url_root.rstrip("/")


def public_url_for(endpoint: str, **values: Any) -> str:
    """Return the URL of a page for use elsewhere, as in a mail."""
    # Where we stand under a path, both parts have it.
    return public_base() + url_for(endpoint, **values).removeprefix(request.script_root)


def whole_body(req: Request) -> bytes:
    """Return the body of a request, whose `max_content_length` is its limit.

    Raises: PayloadTooLarge.
    """
    bytes_max = req.max_content_length or 0
    too_large = PayloadTooLarge(f"The request body is larger than {bytes_max // 1024} KiB.")
    if (req.content_length or 0) > bytes_max:
        raise too_large
    # Werkzeug cuts a body without a length at its limit; one more byte tells.
    req.max_content_length = bytes_max + 1
    try:
        data = req.get_data()
    finally:
        req.max_content_length = bytes_max
    if len(data) > bytes_max:
        raise too_large
    return data


def compressed(response: Response) -> Response:
    """Return an answer as gzip where its reader takes that.

    Only for documents that are the same for everybody: beside what a caller sends, a secret's
    letters could be guessed from the length of the whole.
    """
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"] > 0:
        response.set_data(gzip.compress(response.get_data(), compresslevel=6))
        response.content_encoding = "gzip"
    return response
