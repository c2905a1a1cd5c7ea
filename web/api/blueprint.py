"""What the JSON routes share: their blueprint, and how a request's body is read.

A body is at most 64 KiB of JSON in UTF-8, unless its route allows more, and holds an object; an
empty one counts as `{}`.
Whatever a body or a query gets wrong becomes one 400 that names each field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, NoReturn, TypeVar

from flask import Flask, Request
from flask_smorest import Api, Blueprint
from marshmallow import Schema, ValidationError
from webargs.flaskparser import FlaskParser

import auth
from core import errors
from schemas import ErrorOut
from web.api.json_body import json_object

View = TypeVar("View", bound=Callable[..., Any])
SECURITY_SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token or an API key."},
    "shareToken": {"type": "apiKey", "in": "header", "name": auth.SHARE_TOKEN_HEADER},
    "shareContext": {"type": "apiKey", "in": "header", "name": auth.SHARE_CONTEXT_HEADER},
}


class Parser(FlaskParser):
    """Reads a view's arguments and turns whatever is wrong with them into one `BadRequest`."""

    DEFAULT_VALIDATION_STATUS = 400

    def load_json(self, req: Request, schema: Schema) -> Any:
        """Return the object in the body."""
        return json_object(req)

    def handle_error(
        self,
        error: ValidationError,
        req: Request,
        schema: Schema,
        *,
        error_status_code: int | None,
        error_headers: Any,
    ) -> NoReturn:
        """Raise what marshmallow found, its places joined by dots."""
        places: dict[str, Any] = error.messages_dict
        found = dict(_flattened(next(iter(places.values()))))
        first = next(iter(found))
        raise errors.BadRequest(f"{first}: {found[first][0]}", found)


class JsonBlueprint(Blueprint):
    """A blueprint whose arguments are read by `Parser`.

    Its document takes a view's error statuses from the view's docstring, and what every view or
    every view of a kind may answer from here.
    """

    ARGUMENTS_PARSER = Parser()

    def arguments(self, schema: type[Schema], *, location: str = "json", **options: Any) -> Any:
        """Read a view's arguments; a body may be left out where nothing in it is required."""
        needed = any(each.required for each in schema().fields.values())
        return super().arguments(schema, location=location, required=needed, **options)

    def route(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Register a view with its document."""
        register = super().route(rule, **options)

        def decorator(view: View) -> View:
            documented: Any = view
            for status in sorted(_error_statuses(view)):
                documented = self.alt_response(status, schema=ErrorOut)(documented)
            documented = self.doc(security=_security(view))(documented)
            register(documented)
            return view

        return decorator


class JsonApi(Api):
    """The API and its document, built from the routes and the schemas."""

    ERROR_SCHEMA = ErrorOut
    # Each route names its own statuses; a default would promise all others too.
    DEFAULT_ERROR_RESPONSE_NAME = None

    def __init__(self, app: Flask) -> None:
        super().__init__(app)
        for name, scheme in SECURITY_SCHEMES.items():
            self.spec.components.security_scheme(name, scheme)


def _error_statuses(view: Callable[..., Any]) -> set[int]:
    """Return the statuses that a view's docstring names, and those that go without saying."""
    named = {int(status) for status in re.findall(r"\b[45]\d\d\b", view.__doc__ or "")}
    arguments = getattr(view, "_apidoc", {}).get("arguments", {}).get("parameters", [])
    if any(each["in"] == "json" for each in arguments):
        named |= {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}
    return named | {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


def _security(view: Callable[..., Any]) -> list[dict[str, list[str]]]:
    """Return the ways to be let in, any one of which will do."""
    ways: list[dict[str, list[str]]] = []
    if getattr(view, "requires_bearer", False):
        ways.append({"bearer": []})
    if getattr(view, "accepts_share", False):
        ways.append({"shareToken": [], "shareContext": []})
    return ways


def _flattened(messages: Any, place: str = "") -> Iterator[tuple[str, list[str]]]:
    if isinstance(messages, dict):
        for key, value in messages.items():
            yield from _flattened(value, f"{place}.{key}" if place else str(key))
    else:
        yield place or "body", [str(message) for message in messages]
