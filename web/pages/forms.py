"""Forms: what was sent, what is wrong with it, and the token that shows it is ours."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NamedTuple

from flask import abort, render_template, request, session
from marshmallow import Schema, ValidationError, fields
from werkzeug.datastructures import MultiDict

from core.errors import DomainError

FORM_TOKEN_BYTES = 18


def form_token() -> str:
    """Return the token that every form of this session carries."""
    if "form_token" not in session:
        session["form_token"] = secrets.token_urlsafe(FORM_TOKEN_BYTES)
    return str(session["form_token"])


class Form:
    """What came in with a form: its values, and what is wrong with them, field by field."""

    def __init__(self, shape: type[Schema], sent: MultiDict[str, str] | None = None) -> None:
        self.sent = sent if sent is not None else request.form
        self.values: dict[str, Any] = {}
        self.errors: dict[str, list[str]] = {}
        # A field that may be null is left empty for it.
        nullable = {name for name, field in shape().fields.items() if field.allow_none}
        lists = {name for name, field in shape().fields.items() if isinstance(field, fields.List)}
        filled: dict[str, Any] = {
            name: self.sent.getlist(name) if name in lists else text
            for name, text in self.sent.items()
            if text or name not in nullable
        }
        try:
            self.values = shape().load(filled)
        except ValidationError as error:
            self.errors = error.messages_dict

    @classmethod
    def empty(cls, **start: str) -> Form:
        """Return a form nobody has filled in yet."""
        form = cls.__new__(cls)
        form.sent, form.values, form.errors = MultiDict(start), {}, {}
        return form

    @contextmanager
    def errors_at(self, field: str, *kinds: type[DomainError]) -> Iterator[None]:
        """Note a domain error of these kinds at a field instead of raising it."""
        try:
            yield
        except kinds as error:
            self.errors[field] = [error.message]

    @property
    def status(self) -> HTTPStatus:
        """The status of a page that shows this form."""
        return HTTPStatus.BAD_REQUEST if self.errors else HTTPStatus.OK


class Asking(NamedTuple):
    """What a page asks before something goes: what goes and stays, and the way back.

    `name` has to be typed where it is not empty; `fields` are sent along, to `target` or here.
    """

    heading: str
    lines: list[str]
    action: str
    back: str
    back_name: str
    is_danger: bool = True
    name: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    target: str = ""


def ask(
    question: Asking, form: Form | None = None, *, template: str = "ask.html", **more: Any
) -> str:
    """Render the page that asks."""
    return render_template(template, question=question, form=form or Form.empty(), **more)


def confirmation_of(name: str) -> Form:
    """Return the form in which a name had to be typed, with an error if it is another."""
    form = Form.empty(confirmation=request.form.get("confirmation", ""))
    if form.sent["confirmation"].strip() != name:
        form.errors["confirmation"] = ["That is not the name."]
    return form


def check_form_token() -> None:
    """Refuse a form that does not carry this session's token."""
    if not hmac.compare_digest(request.form.get("form_token", "").encode(), form_token().encode()):
        abort(HTTPStatus.BAD_REQUEST, "This form is too old. Go back, reload the page, try again.")
