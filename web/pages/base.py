"""What the pages share: their blueprint, who is signed in, forms, the viewer's zone, numbers.

A page is closed to everybody but a signed-in user unless it is marked `public`, and takes no form
without the token that was sent out with it. Nothing here needs JavaScript.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    g,
    redirect,
    request,
    session,
    stream_with_context,
    url_for,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.wrappers import Response as BaseResponse

import auth
from core.clock import now
from core.errors import DomainError, Unauthorized
from core.lists import PAGE_SIZE, ListQuery
from core.permissions import Action
from core.zones import zone_named
from models import Pixel, User
from pixels import recipient_lists
from pixels.spreadsheets import BYTE_ORDER_MARK
from web.pages import formats, wording
from web.pages.forms import check_form_token, form_token
from web.request import whole_body

Rendered = str | tuple[str, int] | BaseResponse


def pixel_to_change(pixel_id: uuid.UUID) -> Pixel:
    """Return the pixel if the viewer may change it.

    Raises: NotFound, Forbidden.
    """
    return auth.pixel_for(auth.caller(), pixel_id, Action.CHANGE_PIXEL)


View = TypeVar("View", bound=Callable[..., Any])

FORM_BYTES_MAX = 64 * 1024
# As many as a choice can hold.
FEW_MAX = 100
ZONE_COOKIE = "zone"
ZONE_SECONDS_MAX = 365 * 86_400
UTC = ZoneInfo("UTC")


class Tab(NamedTuple):
    """A tab of a pixel's pages; it stands for all pages of its blueprint, and of another."""

    name: str
    endpoint: str
    other: str = ""

    @property
    def is_current(self) -> bool:
        """Whether it is one of its pages that is shown."""
        return request.blueprint in (self.endpoint.partition(".")[0], self.other)


TABS = (
    Tab("Report", "report.show"),
    Tab("Recipients", "recipients_page.show_recipients", "merge_page"),
    Tab("Embed", "embed_page.show_embed"),
    Tab("Settings", "pixel_settings_page.show_settings"),
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


def may(check: Callable[..., object], thing_id: uuid.UUID, action: Action) -> bool:
    """Tell whether one of auth's checks lets the caller do `action`, to offer it or not."""
    try:
        check(auth.caller(), thing_id, action)
    except DomainError:
        return False
    return True


def of_pixel(pixel: Pixel) -> dict[str, Any]:
    """Return what the head and the tabs of a pixel's pages show."""
    return {"pixel": pixel, "people_count": recipient_lists.counts(pixel.number).all}


def page_number() -> int:
    """Return the page of a list that the address asks for, from 1."""
    text = request.args.get("page", "1")
    return max(1, int(text[:6])) if text.isascii() and text.isdigit() else 1


def search_text() -> str:
    """Return what the address searches for."""
    return request.args.get("search", "").replace("\0", "").strip()[:200]


def list_query(page_size: int = PAGE_SIZE, sorting: Sorting | None = None) -> ListQuery:
    """Return which page of a list the address asks for, and what it searches for."""
    order = (sorting.order, sorting.descending) if sorting else (None, None)
    return ListQuery(page_number(), page_size, search_text(), *order)


class Sorting(NamedTuple):
    """In which order a list is asked for; `rising` are orders that begin with the least."""

    order: Any
    descending: bool
    rising: frozenset[str]

    def said(self, order: str) -> str:
        """Return how a list is sorted by this order: `ascending`, `descending` or not."""
        if order != self.order:
            return ""
        return "descending" if self.descending else "ascending"

    def next(self, order: str) -> str | None:
        """Return the direction that another click on a head asks for; None for the usual one."""
        if order != self.order:
            return None
        is_usual = self.descending != (order in self.rising)
        return ("up" if self.descending else "down") if is_usual else None


def sorting(orders: Collection[str], default: str, *, rising: Collection[str] = ()) -> Sorting:
    """Return the order that the address asks for."""
    order = request.args.get("order", default)
    order = order if order in orders else default
    usual = order not in rising
    descending = {"down": True, "up": False}.get(request.args.get("direction", ""), usual)
    return Sorting(order, descending, frozenset(rising))


def zone() -> ZoneInfo:
    """Return the viewer's zone, from the cookie that the browser or the zone page has set."""
    return zone_named(request.cookies.get(ZONE_COOKIE, "")) or UTC


def in_zone(text: str) -> datetime:
    """Return the instant of a form's local date and time.

    Raises: ValueError for what is none.
    """
    return datetime.fromisoformat(text).replace(tzinfo=zone())


def local_target(target: str) -> str | None:
    """Return `target` if it is an address on this server, so that no link leads away from it."""
    path = re.split("[?#]", target, maxsplit=1)[0]
    # Browsers take \ for /, pass over controls, and take what follows // for a host.
    is_local = path.startswith("/") and "//" not in path and "\\" not in path
    return target if is_local and target.isprintable() else None


def here(**changes: Any) -> str:
    """Return this page's address with parts of its query changed, or left out where None."""
    return _address(str(request.endpoint), request.view_args or {}, changes)


def beside(endpoint: str, **changes: Any) -> str:
    """Return the address of another page of the same report, asked for the same."""
    where = {"pixel_id", "slug"} & (request.view_args or {}).keys()
    kept = {name: (request.view_args or {})[name] for name in where}
    return _address(f"{request.blueprint}.{endpoint}", kept, changes)


def _address(endpoint: str, where: dict[str, Any], changes: dict[str, Any]) -> str:
    in_path = next(current_app.url_map.iter_rules(endpoint)).arguments
    parts = {**where, **{name: changes[name] for name in in_path & changes.keys()}}
    # Whatever a query's parameters are called, they are text and no function's arguments.
    asked = {**request.args.to_dict(), **changes}
    query = {name: text for name, text in asked.items() if text is not None and name not in in_path}
    return url_for(endpoint, **parts) + (f"?{urlencode(query)}" if query else "")


def download(parts: Iterator[str], name: str) -> Response:
    """Answer a file, written as it is sent."""
    kinds = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}
    response = Response(stream_with_context(parts), content_type=kinds[name.rpartition(".")[2]])
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def local_time(at: datetime | None) -> str:
    """Write an instant as a form's local date and time want it; nothing for none."""
    return at.astimezone(zone()).strftime("%Y-%m-%dT%H:%M") if at else ""


def download_sheet(parts: Iterator[str], name: str) -> Response:
    """Answer a CSV for a spreadsheet, which by its first character knows that it is UTF-8."""
    return download(itertools.chain([BYTE_ORDER_MARK], parts), name)


def back_to(endpoint: str, **values: Any) -> BaseResponse:
    """Answer a form that was carried out: the browser loads the page again."""
    return redirect(url_for(endpoint, **values), HTTPStatus.SEE_OTHER)


def register(app: Flask) -> None:
    """Give every template what the layout and the figures need."""
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(
        counted=formats.counted,
        date=formats.date,
        day=formats.day,
        fetched_by=wording.fetched_by,
        meanings=wording.meanings,
        moment=formats.moment,
        number=formats.number,
        percent=formats.percent,
        program=wording.program,
        rate=formats.rate,
        shortened=formats.shortened,
        span=formats.span,
        time_of_day=formats.time_of_day,
        value_of=wording.value_of,
    )
    app.jinja_env.globals.update(
        CLASS_LABELS=wording.CLASS_LABELS,
        ONE_OF=wording.ONE_OF,
        PRIVACY=wording.PRIVACY,
        REASONS=wording.REASONS,
        ROLES=wording.ROLES,
        STATUS_LABELS=wording.STATUS_LABELS,
        TEAM_ROLES=wording.TEAM_ROLES,
        tabs=TABS,
    )
    app.before_request(_greet)
    app.context_processor(_layout)


def _layout() -> dict[str, Any]:
    """Return what the layout shows on every page; nothing of a user to anyone else."""
    found = g.get("caller")
    return {
        "me": found.user if found else None,
        "is_admin": bool(found and found.is_admin),
        "may_create": bool(found and found.may(Action.CREATE_PIXEL)),
        "form_token": form_token,
        "here": here,
        "beside": beside,
        "zone": zone(),
    }


def _greet() -> None:
    """Know who is signed in on pages that are open to everybody too, an unknown address included.

    Nothing is allowed by it: what needs a user asks for one itself. A database that fails leaves
    the page without its navigation.
    """
    view = current_app.view_functions.get(str(request.endpoint))
    is_open = request.endpoint is None or getattr(view, "is_public", False)
    if is_open and "token" in session and not request.path.startswith("/api"):
        with suppress(Unauthorized, OperationalError, PoolTimeout):
            g.caller = auth.authenticate(f"Bearer {session['token']}", now())


def _guard() -> None:
    view = current_app.view_functions[str(request.endpoint)]
    # Before a form of theirs is read: a stranger's large one would keep a thread waiting for it.
    if not getattr(view, "is_public", False):
        g.caller = auth.authenticate(f"Bearer {session.get('token', '')}", now())
    if request.method == "POST":
        # Parsing a form reads all of it, so the limit has to be there before.
        request.max_content_length = getattr(view, "body_bytes_max", FORM_BYTES_MAX)
        request.max_form_memory_size = request.max_content_length
        if request.content_length is None:
            # A form that was cut would be another.
            whole_body(request)
        check_form_token()


def _ask_to_sign_in(_error: Unauthorized) -> BaseResponse:
    if request.method != "GET":
        return redirect(url_for("sign_in_page.show_sign_in"), HTTPStatus.SEE_OTHER)
    target = request.script_root + request.full_path.rstrip("?")
    return redirect(url_for("sign_in_page.show_sign_in", next=target), HTTPStatus.SEE_OTHER)
