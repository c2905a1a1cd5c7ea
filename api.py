"""What the JSON routes share: their blueprint, and how a request's body is read.

A body is at most 64 KiB of JSON in UTF-8, unless its route allows more, and holds an object; an
empty one counts as `{}`.
Whatever a body or a query gets wrong becomes one 400 that names each field.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, NoReturn, ParamSpec, TypeVar

from flask import Flask, Request, current_app, request
from flask_smorest import Api, Blueprint
from gunicorn.http.errors import ParseException
from marshmallow import Schema, ValidationError
from webargs.flaskparser import FlaskParser

import auth
import errors
from database import now
from recipients import Links
from schemas import ErrorOut
from throttle import RequestLimit

View = TypeVar("View", bound=Callable[..., Any])

P = ParamSpec("P")
R = TypeVar("R")

BODY_BYTES_MAX = 64 * 1024
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


def body_up_to(bytes_max: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let the body of one route be larger than the others'."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(view)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            request.max_content_length = bytes_max
            return view(*args, **kwargs)

        return limited

    return decorate


def json_object(req: Request) -> dict[str, Any]:
    """Return the JSON object of a request's body, `{}` for an empty body.

    Raises: PayloadTooLarge, UnsupportedMediaType, BadRequest.
    """
    data = _body(req)
    if not data:
        return {}
    if not req.is_json:
        raise errors.UnsupportedMediaType
    try:
        value = json.loads(
            data.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite
        )
    except RecursionError:
        raise errors.BadRequest("The body is nested too deeply.") from None
    except ValueError as error:
        raise errors.BadRequest(f"The body is not valid JSON in UTF-8: {error}") from None
    if not isinstance(value, dict):
        raise errors.BadRequest("The body must be a JSON object.")
    return value


def _body(req: Request) -> bytes:
    bytes_max = req.max_content_length or 0
    too_large = errors.PayloadTooLarge(f"The request body is larger than {bytes_max // 1024} KiB.")
    if (req.content_length or 0) > bytes_max:
        raise too_large
    # Werkzeug cuts a body without a length at its limit; one more byte tells.
    req.max_content_length = bytes_max + 1
    try:
        data = req.get_data()
    except ParseException:
        raise errors.BadRequest("The body's chunks can't be read.") from None
    finally:
        req.max_content_length = bytes_max
    if len(data) > bytes_max:
        raise too_large
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _flattened(messages: Any, place: str = "") -> Iterator[tuple[str, list[str]]]:
    if isinstance(messages, dict):
        for key, value in messages.items():
            yield from _flattened(value, f"{place}.{key}" if place else str(key))
    else:
        yield place or "body", [str(message) for message in messages]


def links() -> Links:
    """Return the signer of recipients' links."""
    return current_app.extensions["links"]  # type: ignore[no-any-return]


def limit_requests(app: Flask, limit: RequestLimit) -> None:
    """Count each request under `/api`; images never get here (see `collect`)."""

    @app.before_request
    def count() -> None:
        if request.path.startswith("/api/"):
            limit.count(address(), now())


def address() -> str:
    """Return the address that the request came from, as far as the proxies are trusted."""
    return request.remote_addr or ""


def public_base() -> str:
    """Return the base of the URLs that callers embed, without a slash at its end."""
    configured: str = current_app.config["SETTINGS"].public_url
    return configured or request.url_root.rstrip("/")
