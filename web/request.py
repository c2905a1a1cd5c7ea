"""What both edges ask of a request: its address, the base of our URLs, the signer of links."""

from __future__ import annotations

from typing import Any

from flask import current_app, request, url_for

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
    """Return the URL of a page for whoever reads it elsewhere, as in a mail."""
    # Where we stand under a path, both parts have it.
    return public_base() + url_for(endpoint, **values).removeprefix(request.script_root)
