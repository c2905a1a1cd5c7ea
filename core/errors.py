"""Domain errors: raised anywhere, each with its status and code; `web.errors` answers them."""

from __future__ import annotations

from http import HTTPStatus


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


class KeyScope(Forbidden):
    """The caller's API key does not reach this far, whatever its user may do."""

    code = "key-scope"
    message = "This API key doesn't reach that far. Use another key, or sign in."


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
