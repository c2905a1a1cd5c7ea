"""The pages of signing in and out, and of the zone that times are shown in."""

from __future__ import annotations

from http import HTTPStatus

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from core.clock import now
from core.errors import IncorrectLogin
from core.zones import zone_named, zone_names
from people import accounts
from schemas import LoginArgs
from web.pages import base
from web.pages.base import Pages, Rendered, back_to, public
from web.pages.forms import Form
from web.rate_limit import count_sign_in
from web.request import address

blueprint = Pages("sign_in_page", __name__)


@blueprint.get("/sign-in")
@public
def show_sign_in() -> Rendered:
    """GET: the form that asks for a name and a password. No session. 200."""
    return render_template("sign_in.html", form=Form.empty())


@blueprint.post("/sign-in")
@public
def do_sign_in() -> Rendered:
    """POST: start a session. No session. 303; 400 for a form that can't be right; 401; 429."""
    form = Form(LoginArgs)
    if not form.errors:
        count_sign_in()
        try:
            username, password = form.values["username"], form.values["password"]
            base.sign_in(accounts.login(username, password, address(), now()))
        except IncorrectLogin:
            form.errors["password"] = ["That name and password don’t go together."]
        else:
            target = base.local_target(request.args.get("next", ""))
            return redirect(target or url_for("pixels_page.show_pixels"), HTTPStatus.SEE_OTHER)
    status = HTTPStatus.UNAUTHORIZED if form.values else HTTPStatus.BAD_REQUEST
    return render_template("sign_in.html", form=form), status


@blueprint.post("/sign-out")
def do_sign_out() -> Response:
    """POST: end the session. 303."""
    base.sign_out()
    return back_to("sign_in_page.show_sign_in")


@blueprint.get("/zone")
@public
def show_zone() -> str:
    """GET: the choice of the zone that times are shown in. No session. 200."""
    return render_template(
        "zone.html",
        zones=zone_names(),
        back=base.local_target(request.args.get("next", "")),
    )


@blueprint.post("/zone")
@public
def choose_zone() -> Response:
    """POST: remember the zone in a cookie. No session. 303 back to where the viewer was."""
    chosen = zone_named(request.form.get("zone", "")) or base.UTC
    target = base.local_target(request.form.get("next", ""))
    response = redirect(target or url_for("pixels_page.show_pixels"), HTTPStatus.SEE_OTHER)
    response.set_cookie(
        base.ZONE_COOKIE,
        chosen.key,
        max_age=base.ZONE_SECONDS_MAX,
        path=f"{request.script_root}/",
        samesite="Lax",
    )
    return response
