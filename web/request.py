"""What both edges ask of a request: its address, the base of our URLs, the signer of links.

And what they both do for its reader: a long document goes out as gzip.
"""

from __future__ import annotations

import gzip
from typing import Any

from flask import Response, current_app, request, url_for

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
