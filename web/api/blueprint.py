"""What the JSON routes share: their blueprint, which makes the API's document of what they declare.

A route says beside its path which errors it raises of its own accord:

    @blueprint.post("/pixels", raises=(Forbidden, NotFound, SlugTaken))

What every route of a kind may answer is added here: 401 where a caller is needed, 400 where
anything is read, 413 and 415 where that is a body, 429 and 503 everywhere.
Whatever a body or a query gets wrong becomes one 400 that names each field.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NoReturn, TypeVar

import flask
from flask import Flask, Request, Response, jsonify
from flask_smorest import Api, Blueprint
from marshmallow import Schema, ValidationError
from marshmallow.exceptions import SCHEMA
from webargs.flaskparser import FlaskParser

import auth
from core import errors
from core.errors import DomainError
from schemas import ErrorOut
from web.api.document import finished
from web.api.json_body import json_object
from web.request import compressed

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
        raise bad_request(next(iter(places.values())))


class JsonBlueprint(Blueprint):
    """A blueprint whose arguments are read by `Parser`, and whose routes declare their errors."""

    ARGUMENTS_PARSER = Parser()

    def arguments(self, schema: type[Schema], *, location: str = "json", **options: Any) -> Any:
        """Read a view's arguments; a body may be left out where nothing in it is required."""
        needed = any(field.required for field in schema().fields.values())
        return super().arguments(schema, location=location, required=needed, **options)

    def route(
        self,
        rule: str,
        *,
        raises: Iterable[type[DomainError]] = (),
        operation_id: str = "",
        **options: Any,
    ) -> Callable[[View], View]:
        """Register a view with its document.

        `raises` are the errors of the view's own; `operation_id` is what clients made from the
        document call the operation, by default the view's name. Umami's own client comes first:
        where both have an operation, it is called what Umami calls it.
        """
        register = super().route(rule, **options)

        def decorator(view: View) -> View:
            documented: Any = view
            for status, kinds in _errors_by_status(view, raises).items():
                documented = self.alt_response(
                    status,
                    schema=ErrorOut,
                    description=" ".join(_meaning(kind) for kind in kinds),
                    examples={kind.code: {"value": _example(kind)} for kind in kinds},
                )(documented)
            name = operation_id or _camel_case(view.__name__)
            documented = self.doc(security=_security(view), operationId=name)(documented)
            register(documented)
            return view

        return decorator

    def register_views_in_doc(self, api: JsonApi, *arguments: Any, **options: Any) -> None:
        """Have the routes documented once the document is asked for, which may be never."""
        document = super().register_views_in_doc
        api.undocumented.append(partial(document, api, *arguments, **options))

    def alias(self, rule: str, view: Callable[..., Any]) -> None:
        """Answer GETs of another path by a view that is documented where it stands."""
        endpoint = f"{view.__name__}_alias"
        flask.Blueprint.add_url_rule(self, rule, endpoint, view, methods=["GET"])


class JsonApi(Api):
    """The API and its document, built from the routes and the schemas."""

    ERROR_SCHEMA = ErrorOut
    # Each route names its own statuses; a default would promise all others too.
    DEFAULT_ERROR_RESPONSE_NAME = None

    def __init__(self, app: Flask) -> None:
        # What documents the routes that aren't yet.
        self.undocumented: list[Callable[[], None]] = []
        self._documenting = threading.Lock()
        super().__init__(app)
        for name, scheme in SECURITY_SCHEMES.items():
            self.spec.components.security_scheme(name, scheme)

    def to_dict(self) -> dict[str, Any]:
        """Return the document of all routes, the image's included."""
        with self._documenting:
            while self.undocumented:
                self.undocumented.pop(0)()
        return finished(self.spec.to_dict())

    def _openapi_json(self) -> Response:
        """Serve the document as clients are made from it."""
        document = self.to_dict()
        # Clients put paths behind it, which begin with a slash.
        document["servers"][0]["url"] = flask.request.script_root or "/"
        return compressed(jsonify(document))


def _errors_by_status(
    view: Callable[..., Any], raises: Iterable[type[DomainError]]
) -> dict[int, list[type[DomainError]]]:
    """Return the errors that a view may answer, its own and those of its kind, by their status."""
    arguments = getattr(view, "_apidoc", {}).get("arguments", {}).get("parameters", [])
    kinds: set[type[DomainError]] = {*raises, errors.TooManyRequests, errors.Unavailable}
    if getattr(view, "requires_bearer", False):
        kinds |= {errors.Unauthorized, errors.KeyScope}
    if arguments:
        kinds.add(errors.BadRequest)
    if any(argument["in"] == "json" for argument in arguments):
        kinds |= {errors.PayloadTooLarge, errors.UnsupportedMediaType}
    found: dict[int, list[type[DomainError]]] = {}
    for kind in sorted(kinds, key=lambda kind: (kind.status, kind.code)):
        found.setdefault(int(kind.status), []).append(kind)
    return found


def _meaning(kind: type[DomainError]) -> str:
    return f"`{kind.code}`: {(kind.__doc__ or '').partition(chr(10))[0]}"


def _example(kind: type[DomainError]) -> dict[str, Any]:
    return {"error": {"message": kind.message, "code": kind.code, "status": int(kind.status)}}


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def bad_request(messages: Any) -> errors.BadRequest:
    """Return the error of what marshmallow found, its places joined by dots."""
    found = dict(_flattened(messages))
    first = next(iter(found))
    return errors.BadRequest(f"{first}: {found[first][0]}", found)


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
            # What is wrong with an object as a whole, marshmallow files under a key of its own.
            parts = [place, "" if key == SCHEMA else str(key)]
            yield from _flattened(value, ".".join(filter(None, parts)))
    else:
        yield place or "body", [str(message) for message in messages]
