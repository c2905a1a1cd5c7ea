"""The page of the viewer's own account: password and API keys."""

from __future__ import annotations

import uuid
from contextlib import suppress

from flask import flash, render_template, request, url_for
from werkzeug.wrappers import Response

import auth
from core.clock import now
from core.errors import BadRequest, Forbidden, NotFound
from core.permissions import Action, Scope
from people import accounts
from schemas import ApiKeyCreate, PasswordChange
from web.pages import base, reach, wording
from web.pages.base import Pages, Rendered, back_to
from web.pages.forms import Asking, Form, ask
from web.rate_limit import count_sign_in
from web.request import address

blueprint = Pages("account_page", __name__)


@blueprint.get("/account")
def show_account() -> str:
    """GET: one's own password, API keys and zone. 200."""
    return _account()


@blueprint.post("/account/password")
def change_password() -> Rendered:
    """POST: change one's password; every other session ends. 303; 400; 429 after too many."""
    form = Form(PasswordChange)
    if not form.errors:
        count_sign_in()
        user, values = auth.caller().user, form.values
        with form.errors_at("currentPassword", BadRequest):
            user = accounts.change_password(
                user, values["currentPassword"], values["newPassword"], address(), now()
            )
            base.sign_in(user)
            flash("Your password is changed, and all of your other sessions have ended.")
            return back_to("account_page.show_account")
    return _account(password=form), form.status


@blueprint.post("/account/keys")
def create_key() -> Rendered:
    """POST: create an API key, shown only in the answer. 200; 400."""
    form = _key_form()
    if not form.errors:
        try:
            return _account(key=_new_key(form))
        except BadRequest as error:
            form.errors = error.errors or {"name": [error.message]}
    return _account(new_key=form), form.status


@blueprint.get("/account/keys/<uuid:key_id>/revoke")
def ask_to_revoke_key(key_id: uuid.UUID) -> str:
    """GET: ask whether an API key shall end. 200; 404 for another's."""
    key = next(
        (own_key for own_key in accounts.keys_of(auth.caller().user) if own_key.id == key_id), None
    )
    if key is None:
        raise NotFound("No such API key.")
    return ask(
        Asking(
            f"Revoke “{key.name}”?",
            [
                f"Programs that use {key.key_prefix}… are refused from now on.",
                "What they have made stays. The key can’t be brought back.",
            ],
            "Revoke the key",
            url_for("account_page.show_account"),
            "Your account",
        )
    )


@blueprint.post("/account/keys/<uuid:key_id>/revoke")
def revoke_key(key_id: uuid.UUID) -> Response:
    """POST: end an API key. 303; 404 for another's."""
    accounts.revoke_key(auth.caller().user, key_id)
    flash("The key is revoked.")
    return back_to("account_page.show_account", _anchor="keys")


def _key_form() -> Form:
    """Return what was said of a new key; its local end in the viewer's zone."""
    sent = request.form.copy()
    text = sent.get("expiresAt", "")
    with suppress(ValueError, OverflowError):
        # What is none is refused as it was typed.
        sent["expiresAt"] = base.in_zone(text).isoformat() if text else ""
    form = Form(ApiKeyCreate, sent)
    form.sent = request.form
    with form.errors_at("reach", BadRequest, Forbidden, NotFound):
        _reach(form)
    return form


def _reach(form: Form) -> reach.Reach:
    """Return what a new key is limited to, if the caller may see it.

    Raises: BadRequest, NotFound, Forbidden.
    """
    found = reach.of(form.sent.get("reach", ""))
    if found.pixel_id:
        auth.pixel_for(auth.caller(), found.pixel_id, Action.READ_PIXEL)
    if found.team_id:
        auth.team_for(auth.caller(), found.team_id, Action.READ_TEAM)
    return found


def _new_key(form: Form) -> str:
    limits = _reach(form)
    _, key = accounts.create_key(
        auth.caller().user,
        form.values["name"],
        scope=Scope(form.values["scope"]),
        pixel_id=limits.pixel_id,
        team_id=limits.team_id,
        expires_at=form.values["expiresAt"],
    )
    return key


def _account(
    password: Form | None = None, new_key: Form | None = None, key: str | None = None
) -> str:
    keys = accounts.keys_of(auth.caller().user)
    return render_template(
        "account.html",
        password=password or Form.empty(),
        new_key=new_key or Form.empty(scope=Scope.WRITE),
        key=key,
        keys=keys,
        scopes=wording.SCOPES,
        reaches=reach.choices(Action.READ_PIXEL, "Everything that is yours"),
        names=reach.names([own_key.pixel_id or own_key.team_id for own_key in keys]),
        now=now(),
    )
