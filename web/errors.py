"""Answers errors: in the one JSON shape under `/api`, as a page elsewhere."""

from __future__ import annotations

import logging
import secrets
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, g, jsonify, make_response, render_template, request
from gunicorn.http.errors import ParseException
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import HTTPException, InternalServerError

from core.database import is_orphan
from core.errors import BadRequest, DomainError, NotFound, Unavailable
from hits.recorder import reason_of

PATH_CHARACTERS_SHOWN_MAX = 200
UNREADABLE = "The body's chunks can't be read."

log = logging.getLogger("pixelkeep.errors")


def register(app: Flask) -> None:
    """Render every error of `app`: under `/api` in the one shape, elsewhere as a page."""
    app.register_error_handler(DomainError, _domain_error)
    app.register_error_handler(OperationalError, _database_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ParseException, lambda _: _domain_error(BadRequest(UNREADABLE)))
    app.register_error_handler(PoolTimeout, lambda _: _domain_error(Unavailable()))
    # Two requests met: what this one read was deleted before it wrote.
    app.register_error_handler(StaleDataError, lambda _: _domain_error(NotFound()))
    app.register_error_handler(IntegrityError, _constraint_error)
    app.register_error_handler(Exception, _unexpected)


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
    HTTPStatus.INTERNAL_SERVER_ERROR: "Something went wrong on our side.",
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
    log.error("The database failed: %s", reason_of(error))
    return _domain_error(Unavailable())


def _constraint_error(error: IntegrityError) -> Response | HTTPException:
    """Render a constraint that failed: something is gone meanwhile, or a fault of ours."""
    return _domain_error(NotFound()) if is_orphan(error) else _unexpected(error)


def _unexpected(error: Exception) -> Response:
    """Render a fault of ours, with the name that its line in the log has.

    The route is logged and not the address, which may hold a share's slug or somebody's name.
    """
    g.request_id = secrets.token_hex(8)
    where = f"{request.method} {request.url_rule}"
    log.error("Request %s, %s, failed: %s", g.request_id, where, reason_of(error))
    response = make_response(_http_error(InternalServerError()))
    response.headers["X-Request-Id"] = g.request_id
    return response


def _request_name() -> str:
    return f" The log calls it request {g.request_id}." if "request_id" in g else ""


def _http_error(error: HTTPException) -> Response | HTTPException:
    """Render werkzeug's own errors: unknown paths, wrong methods, and what nobody caught."""
    if error.response is not None or (error.code or 500) < HTTPStatus.BAD_REQUEST:
        return error
    status = HTTPStatus(error.code or 500)
    if not _is_api():
        # Werkzeug's own words are for programmers, but for the texts that our pages give.
        ours = error.description if "description" in vars(error) else None
        text = ours or _PAGE_TEXTS.get(status, f"{status.phrase}.")
        return _page(status, text + _request_name())
    code = status.name.lower().replace("_", "-")
    message = {
        HTTPStatus.NOT_FOUND: f"No such path: {request.path[:PATH_CHARACTERS_SHOWN_MAX]}",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not allowed here.",
    }.get(status, f"{status.phrase}.")
    if isinstance(error, InternalServerError):
        code, message = "internal-server-error", _PAGE_TEXTS[status] + _request_name()
    response = jsonify(body(status, code, message))
    response.status_code = status
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After", "WWW-Authenticate"):
            response.headers[name] = value
    return response
