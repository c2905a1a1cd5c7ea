"""The pages on which admins manage users."""

from __future__ import annotations

import uuid

from flask import flash, render_template, request

import auth
from core.errors import BadRequest, UsernameTaken
from core.permissions import Action, Role
from people import accounts
from schemas import UserCreate, UserUpdate
from web.pages import base, forms
from web.pages.base import Pages, Rendered, back_to, list_args
from web.pages.forms import Form

blueprint = Pages("users_page", __name__)


@blueprint.get("/users")
def show_users() -> str:
    """GET: a page of all users. 200; 403 for all but admins."""
    auth.caller().require(Action.MANAGE_USERS)
    return _users()


@blueprint.post("/users")
def create_user() -> Rendered:
    """POST: create a user. 303; 400; 403 for all but admins."""
    auth.caller().require(Action.MANAGE_USERS)
    form = Form(UserCreate)
    if not form.errors:
        given = form.values
        with form.errors_at("username", UsernameTaken):
            accounts.create_user(given["username"], given["password"], Role(given["role"]))
            flash(f"{given['username']} can sign in.")
            return back_to("users_page.show_users")
    return _users(new_user=form), form.status


@blueprint.get("/users/<uuid:user_id>")
def show_user(user_id: uuid.UUID) -> str:
    """GET: a user to be changed. 200; 403 for all but admins; 404."""
    auth.caller().require(Action.MANAGE_USERS)
    return _user(user_id)


@blueprint.post("/users/<uuid:user_id>")
def change_user(user_id: uuid.UUID) -> Rendered:
    """POST: change a user's name, role or password, which ends their sessions. 303; 400; 403."""
    auth.caller().require(Action.MANAGE_USERS)
    sent = request.form.copy()
    if not sent.get("password"):
        sent.pop("password", None)
    form = Form(UserUpdate, sent)
    if not form.errors:
        with form.errors_at("username", UsernameTaken), form.errors_at("role", BadRequest):
            user = accounts.change_user(accounts.user_of(user_id), form.values)
            if user.id == auth.caller().user.id:
                base.sign_in(user)
            flash("Saved.")
            return back_to("users_page.show_users")
    return _user(user_id, details=form), form.status


@blueprint.post("/users/<uuid:user_id>/delete")
def delete_user(user_id: uuid.UUID) -> Rendered:
    """POST: delete a user and their pixels, the name having been typed. 303; 400; 403; 404."""
    auth.caller().require(Action.MANAGE_USERS)
    user = accounts.user_of(user_id)
    if user.id == auth.caller().user.id:
        raise BadRequest("You cannot delete yourself.")
    form = forms.confirmation_of(user.username)
    if form.errors:
        return _user(user_id, deletion=form), form.status
    accounts.remove_user(user)
    flash(f"{user.username} and their pixels are deleted.")
    return back_to("users_page.show_users")


def _users(new_user: Form | None = None) -> str:
    return render_template(
        "users.html",
        found=accounts.users_listing(list_args(base.PAGE_SIZE)),
        new_user=new_user or Form.empty(role=Role.USER),
    )


def _user(user_id: uuid.UUID, details: Form | None = None, deletion: Form | None = None) -> str:
    user = accounts.user_of(user_id)
    return render_template(
        "user.html",
        user=user,
        details=details or Form.empty(username=user.username, role=user.role),
        deletion=deletion or Form.empty(),
    )
