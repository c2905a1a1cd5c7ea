"""The page of the viewer's own account: password and API keys."""

from __future__ import annotations

import uuid

from flask import flash, render_template, url_for
from werkzeug.wrappers import Response

import auth
from core.clock import now
from core.errors import BadRequest, NotFound
from people import accounts
from schemas import ApiKeyCreate, PasswordChange
from web.pages import base
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
        user, given = auth.caller().user, form.values
        with form.errors_at("currentPassword", BadRequest):
            user = accounts.change_password(
                user, given["currentPassword"], given["newPassword"], address(), now()
            )
            base.sign_in(user)
            flash("Your password is changed, and all of your other sessions have ended.")
            return back_to("account_page.show_account")
    return _account(password=form), form.status


@blueprint.post("/account/keys")
def create_key() -> Rendered:
    """POST: create an API key, shown in the answer alone. 200; 400."""
    form = Form(ApiKeyCreate)
    if not form.errors:
        with form.errors_at("name", BadRequest):
            _, key = accounts.create_key(auth.caller().user, form.values["name"])
            return _account(key=key)
    return _account(new_key=form), form.status


@blueprint.get("/account/keys/<uuid:key_id>/revoke")
def ask_to_revoke_key(key_id: uuid.UUID) -> str:
    """GET: ask whether an API key shall end. 200; 404 for another's."""
    key = next((each for each in accounts.keys_of(auth.caller().user) if each.id == key_id), None)
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


def _account(
    password: Form | None = None, new_key: Form | None = None, key: str | None = None
) -> str:
    return render_template(
        "account.html",
        password=password or Form.empty(),
        new_key=new_key or Form.empty(),
        key=key,
        keys=accounts.keys_of(auth.caller().user),
    )
