"""What the pages share: their blueprint, who is signed in, forms, the viewer's zone, numbers.

A page is closed to everybody but a signed-in user unless it is marked `public`, and takes no form
without the token that was sent out with it. Nothing here needs JavaScript.
"""

from __future__ import annotations

import hmac
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    g,
    redirect,
    request,
    session,
    stream_with_context,
    url_for,
)
from marshmallow import Schema, ValidationError
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as BaseResponse

import auth
import charts
import wording
from database import now
from errors import DomainError, Unauthorized
from models import User
from permissions import Action

View = TypeVar("View", bound=Callable[..., Any])

FORM_BYTES_MAX = 64 * 1024
FORM_TOKEN_BYTES = 18
PAGE_SIZE = 20
ZONE_COOKIE = "zone"
ZONE_SECONDS_MAX = 365 * 86_400
UTC = ZoneInfo("UTC")
# The pages of one pixel, as its tabs name them.
TABS = (
    ("report.show", "Report"),
    ("pixel.show_recipients", "Recipients"),
    ("dashboard.show_embed", "Embed"),
    ("pixel.show_settings", "Settings"),
)


class Pages(Blueprint):
    """A blueprint of pages: signed-in users only, and no form without its token."""

    def __init__(self, name: str, import_name: str) -> None:
        super().__init__(name, import_name)
        self.before_request(_guard)
        self.register_error_handler(Unauthorized, _ask_to_sign_in)


def public(view: View) -> View:
    """Let everybody see a page."""
    view.is_public = True  # type: ignore[attr-defined]
    return view


def sign_in(user: User) -> None:
    """Start a session; the token in it ends as any other of the user's tokens does."""
    session.clear()
    session.permanent = True
    session["token"] = auth.issue_token(user)


def sign_out() -> None:
    """End the session here and everywhere its cookie may have been copied to."""
    auth.revoke_token(session["token"], now())
    session.clear()


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
        given = {name: text for name, text in self.sent.items() if text or name not in nullable}
        try:
            self.values = shape().load(given)
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


def confirmation_of(name: str) -> Form:
    """Return the form in which a name had to be typed, with an error if it is another."""
    form = Form.empty(confirmation=request.form.get("confirmation", ""))
    if form.sent["confirmation"].strip() != name:
        form.errors["confirmation"] = ["That is not the name."]
    return form


def may(check: Callable[..., object], thing_id: uuid.UUID, action: Action) -> bool:
    """Tell whether one of auth's checks lets the caller do `action`, to offer it or not."""
    try:
        check(auth.caller(), thing_id, action)
    except DomainError:
        return False
    return True


def page_number() -> int:
    """Return the page of a list that the address asks for, from 1."""
    text = request.args.get("page", "1")
    return max(1, int(text[:6])) if text.isascii() and text.isdigit() else 1


def search_text() -> str:
    """Return what the address searches for."""
    return request.args.get("search", "").replace("\0", "").strip()[:200]


def zone() -> ZoneInfo:
    """Return the viewer's zone, from the cookie that the browser or the zone page has set."""
    return zone_named(request.cookies.get(ZONE_COOKIE, "")) or UTC


def in_zone(text: str) -> datetime:
    """Return the instant of a form's local date and time.

    Raises: ValueError for what is none.
    """
    return datetime.fromisoformat(text).replace(tzinfo=zone())


def zone_named(name: str) -> ZoneInfo | None:
    """Return the IANA zone of that name."""
    try:
        return ZoneInfo(name) if name else None
    except (KeyError, ValueError, OSError):  # zoneinfo raises one of each, by what is wrong.
        return None


def local_target(target: str) -> str | None:
    """Return `target` if it is an address on this server, so that no link leads away from it."""
    parts = urlsplit(target.replace("\\", "/"))
    return target if target.startswith("/") and not parts.scheme and not parts.netloc else None


def here(**changes: Any) -> str:
    """Return this page's address with parts of its query changed, or left out where None."""
    return _address(str(request.endpoint), request.view_args or {}, changes)


def beside(endpoint: str, **changes: Any) -> str:
    """Return the address of another page of the same report, asked for the same."""
    where = {"pixel_id", "slug"} & (request.view_args or {}).keys()
    kept = {name: (request.view_args or {})[name] for name in where}
    return _address(f".{endpoint}", kept, changes)


def _address(endpoint: str, where: dict[str, Any], changes: dict[str, Any]) -> str:
    # Flask reads names such as _scheme as orders to itself; a query may not give any.
    asked = {name: text for name, text in request.args.items() if not name.startswith("_")}
    return url_for(endpoint, **{**asked, **changes, **where})


def download(parts: Iterator[str], name: str) -> Response:
    """Answer a file, written as it is sent."""
    kinds = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}
    response = Response(stream_with_context(parts), content_type=kinds[name.rpartition(".")[2]])
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def back_to(endpoint: str, **values: Any) -> BaseResponse:
    """Answer a form that was carried out: the browser reads the page anew."""
    return redirect(url_for(endpoint, **values), HTTPStatus.SEE_OTHER)


def register(app: Flask) -> None:
    """Give every template what the layout and the figures need."""
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(
        number=number,
        share_of=share_of,
        change=change,
        moment=moment,
        clock=clock,
        day=day,
        ago=ago,
        program=wording.program,
        value_of=wording.value_of,
    )
    app.jinja_env.globals.update(
        CLASSES=wording.CLASSES,
        REASONS=wording.REASONS,
        DIMENSIONS=wording.DIMENSIONS,
        ONE_OF=wording.ONE_OF,
        ROLES=wording.ROLES,
        TEAM_ROLES=wording.TEAM_ROLES,
        SPANS_BEFORE=wording.SPANS_BEFORE,
        spark_points=charts.spark,
        tabs=TABS,
    )
    app.context_processor(_layout)


def number(value: float) -> str:
    """Return a count with thin spaces between its thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def share_of(part: float, whole: float) -> str:
    """Return a part as a percentage."""
    return f"{part / whole:.0%}" if whole else "–"


def change(value: float, before: float) -> str:
    """Return how a figure changed, as `+12 %`; nothing where there was nothing to compare."""
    if not before:
        return ""
    percent = round((value - before) / before * 100)
    if percent == 0:
        return "±0 %"
    return f"{percent:+,d} %".replace("-", "−").replace(",", "\u202f")


def moment(at: datetime, zone: ZoneInfo) -> str:
    """Return an instant to the minute in a zone."""
    return f"{day(at, zone)}, {at.astimezone(zone):%H:%M}"


def day(at: datetime, zone: ZoneInfo) -> str:
    """Return the day of an instant in a zone, as `3 Mar 2026`."""
    local = at.astimezone(zone)
    return f"{local.day} {local:%b %Y}"


def clock(at: datetime, zone: ZoneInfo, at_present: datetime) -> str:
    """Return an instant in a zone to the second, without its day where that is today."""
    local = at.astimezone(zone)
    if local.date() == at_present.astimezone(zone).date():
        return f"{local:%H:%M:%S}"
    return f"{local.day} {local:%b, %H:%M}"


def ago(at: datetime, at_present: datetime) -> str:
    """Return how long ago an instant was, in one unit."""
    seconds = max(0, round((at_present - at).total_seconds()))
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now" if seconds < 10 else f"{seconds} seconds ago"


def _layout() -> dict[str, Any]:
    """Return what the layout shows on every page; nothing of a user to who is not one."""
    found = g.get("caller")
    return {
        "me": found.user if found else None,
        "is_admin": bool(found and found.is_admin),
        "may_create": bool(found and found.may(Action.CREATE_PIXEL)),
        "form_token": form_token,
        "here": here,
        "beside": beside,
        "zone": zone(),
        "at_present": now(),
    }


def _guard() -> None:
    view = current_app.view_functions[str(request.endpoint)]
    # Before a form of theirs is read: a stranger's large one would keep a thread waiting for it.
    if not getattr(view, "is_public", False):
        g.caller = auth.authenticate(f"Bearer {session.get('token', '')}", now())
    if request.method == "POST":
        # Parsing a form reads all of it, so the limit has to be there before.
        request.max_content_length = getattr(view, "body_bytes_max", FORM_BYTES_MAX)
        request.max_form_memory_size = request.max_content_length
        _check_form_token()


def _check_form_token() -> None:
    if not hmac.compare_digest(request.form.get("form_token", "").encode(), form_token().encode()):
        abort(HTTPStatus.BAD_REQUEST, "This form is too old. Go back, reload the page, try again.")


def _ask_to_sign_in(_error: Unauthorized) -> BaseResponse:
    if request.method != "GET":
        return redirect(url_for("dashboard.show_sign_in"), HTTPStatus.SEE_OTHER)
    target = request.full_path.rstrip("?")
    return redirect(url_for("dashboard.show_sign_in", next=target), HTTPStatus.SEE_OTHER)
