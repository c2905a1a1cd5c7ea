"""Domain errors and their statuses, and the one handler that renders every error.

An error is raised wherever it is noticed and turned into the one shape here, under `/api`:
`{"error": {"message", "code", "status"}}`, with `"errors": {field: [text]}` for a validation.
Elsewhere a person is looking, and gets a page that says the same.
What a 500 was about goes to the log and never into an answer.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, jsonify, make_response, render_template, request
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import HTTPException, InternalServerError

PATH_CHARACTERS_SHOWN_MAX = 200

log = logging.getLogger("pixelkeep.errors")


class DomainError(Exception):
    """What a caller did wrong, with the status and the code that tell them so."""

    status = HTTPStatus.BAD_REQUEST
    code = "bad-request"
    message = "Bad request."
    headers: dict[str, str] = {}

    def __init__(self, message: str = "", errors: dict[str, list[str]] | None = None) -> None:
        self.message = message or self.message
        self.errors = errors or {}
        super().__init__(self.message)


class BadRequest(DomainError):
    """A body or a value that fails validation."""


class Unauthorized(DomainError):
    """No token, or one that is malformed, forged, expired or revoked."""

    status = HTTPStatus.UNAUTHORIZED
    code = "unauthorized"
    message = "Send a valid token or API key as `Authorization: Bearer …`."
    headers = {"WWW-Authenticate": "Bearer"}


class IncorrectLogin(Unauthorized):
    """A login whose name or password is wrong; which of the two is not told."""

    code = "incorrect-username-password"
    message = "Incorrect username or password."


class Forbidden(DomainError):
    """The caller may see the thing but not do this."""

    status = HTTPStatus.FORBIDDEN
    code = "forbidden"
    message = "You don't have permission to do this."


class NotFound(DomainError):
    """No such thing, or the caller may not know of it."""

    status = HTTPStatus.NOT_FOUND
    code = "not-found"
    message = "Not found."


class Conflict(DomainError):
    """A value that must be unique and is in use."""

    status = HTTPStatus.CONFLICT


class SlugTaken(Conflict):
    """Another pixel has the slug."""

    code = "slug-taken"
    message = "That slug is already taken."


class IdTaken(Conflict):
    """Another thing of this kind has the id."""

    code = "id-taken"
    message = "That id is already taken."


class UsernameTaken(Conflict):
    """Another user has the name."""

    code = "username-taken"
    message = "That username is already taken."


class AccessCodeTaken(Conflict):
    """Another team has the access code."""

    code = "access-code-taken"
    message = "That access code is already taken."


class TooManyRequests(DomainError):
    """More than is allowed in a while, which ends in `retry_after_seconds`."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "too-many-requests"
    message = "Too many requests; try again later."

    def __init__(self, retry_after_seconds: int, message: str = "") -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(retry_after_seconds)}


class PayloadTooLarge(DomainError):
    """A request body over the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "payload-too-large"
    message = "The request body is too large."


class UnsupportedMediaType(DomainError):
    """A body that is not JSON."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported-media-type"
    message = "Send the body as `Content-Type: application/json`."


class Unavailable(DomainError):
    """The database doesn't answer, or is busy for longer than a caller should wait."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "service-unavailable"
    message = "The database is busy or can't be reached. Try again in a moment."
    headers = {"Retry-After": "5"}


def register(app: Flask) -> None:
    """Render every error of `app`: under `/api` in the one shape, elsewhere as a page."""
    app.register_error_handler(DomainError, _domain_error)
    app.register_error_handler(OperationalError, _database_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(PoolTimeout, lambda _: _domain_error(Unavailable()))
    # Two requests met: what this one read was deleted before it wrote.
    app.register_error_handler(StaleDataError, lambda _: _domain_error(NotFound()))
    app.register_error_handler(IntegrityError, lambda _: _domain_error(NotFound()))


def body(
    status: int, code: str, message: str, errors: dict[str, list[str]] | None = None
) -> dict[str, Any]:
    """Build the one error shape."""
    shape: dict[str, Any] = {"message": message, "code": code, "status": int(status)}
    if errors:
        shape["errors"] = errors
    return {"error": shape}


_PAGE_TEXTS = {
    HTTPStatus.NOT_FOUND: "There is no page at this address, or it isn't yours to see.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address doesn't take that kind of request.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "That is more than this page takes at once.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Something went wrong on our side. It has been logged.",
}


def _is_api() -> bool:
    return request.path.startswith("/api")


def _page(status: HTTPStatus, message: str) -> Response:
    page = render_template("error.html", status=status, message=message)
    return make_response(page, status)


def _domain_error(error: DomainError) -> Response:
    if _is_api():
        response = jsonify(body(error.status, error.code, error.message, error.errors))
        response.status_code = error.status
    else:
        response = _page(error.status, error.message)
    response.headers.update(error.headers)
    return response


def _database_error(error: OperationalError) -> Response:
    """Render a database that is locked, full or away; the statement's values are not logged."""
    log.error("The database failed: %s", error.orig)
    return _domain_error(Unavailable())


def _http_error(error: HTTPException) -> Response | HTTPException:
    """Render werkzeug's own errors: unknown paths, wrong methods, and what nobody caught."""
    if error.response is not None or (error.code or 500) < HTTPStatus.BAD_REQUEST:
        return error
    status = HTTPStatus(error.code or 500)
    if not _is_api():
        # Werkzeug's own words are for programmers, but for the texts that our pages give.
        ours = error.description if "description" in vars(error) else None
        return _page(status, ours or _PAGE_TEXTS.get(status, f"{status.phrase}."))
    code = status.name.lower().replace("_", "-")
    message = {
        HTTPStatus.NOT_FOUND: f"No such path: {request.path[:PATH_CHARACTERS_SHOWN_MAX]}",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not allowed here.",
    }.get(status, f"{status.phrase}.")
    if isinstance(error, InternalServerError):
        code, message = "internal-server-error", "Something went wrong on our side."
    response = jsonify(body(status, code, message))
    response.status_code = status
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After", "WWW-Authenticate"):
            response.headers[name] = value
    return response
