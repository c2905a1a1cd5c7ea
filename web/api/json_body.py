"""Reads the JSON body of a request, within a limit."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

from flask import Request, request

from core import errors
from web.request import whole_body

P = ParamSpec("P")
R = TypeVar("R")

BODY_BYTES_MAX = 64 * 1024


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
    value = _json(req, {})
    if not isinstance(value, dict):
        raise errors.BadRequest("The body must be a JSON object.")
    return value


def json_array(req: Request) -> list[Any]:
    """Return the JSON array of a request's body.

    Raises: PayloadTooLarge, UnsupportedMediaType, BadRequest.
    """
    value = _json(req, None)
    if not isinstance(value, list):
        raise errors.BadRequest("The body must be a JSON array.")
    return value


def _json(req: Request, empty: Any) -> Any:
    data = whole_body(req)
    if not data:
        return empty
    if not req.is_json:
        raise errors.UnsupportedMediaType
    try:
        return json.loads(
            data.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite
        )
    except RecursionError:
        raise errors.BadRequest("The body is nested too deeply.") from None
    except ValueError as error:
        raise errors.BadRequest(f"The body is not valid JSON in UTF-8: {error}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number
