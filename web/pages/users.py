"""The pages on which admins manage users."""

from __future__ import annotations

import uuid

from flask import flash, render_template, request, url_for

import auth
from core.errors import BadRequest, UsernameTaken
from core.permissions import Action, Role
from models import Owner, User
from people import accounts, teams
from pixels import pixels
from schemas import UserCreate, UserUpdate
from web.pages import base, forms
from web.pages.base import Pages, Rendered, back_to
from web.pages.forms import Asking, Form, ask

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
        values = form.values
        with form.errors_at("username", UsernameTaken):
            accounts.create_user(values["username"], values["password"], Role(values["role"]))
            flash(f"{values['username']} can sign in.")
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
            user = accounts.change_user(accounts.user_of(user_id), **form.values)
            if user.id == auth.caller().user.id:
                base.sign_in(user)
            flash("Saved.")
            return back_to("users_page.show_users")
    return _user(user_id, details=form), form.status


@blueprint.get("/users/<uuid:user_id>/delete")
def ask_to_delete_user(user_id: uuid.UUID) -> str:
    """GET: ask whether a user shall go, and where their pixels go. 200; 403; 404."""
    return _ask_to_delete(_user_to_delete(user_id), Form.empty())


@blueprint.post("/users/<uuid:user_id>/delete")
def delete_user(user_id: uuid.UUID) -> Rendered:
    """POST: delete a user whose name was typed; their pixels go where it says. 303; 400; 403."""
    user = _user_to_delete(user_id)
    form = forms.confirmation_of(user.username)
    form.sent["pixels"] = request.form.get("pixels", "")
    heir = _heir_of(form)
    if form.errors:
        return _ask_to_delete(user, form), form.status
    username = user.username
    accounts.remove_user(user, heir)
    pixels_text = "their pixels have a new owner" if heir else "their pixels are deleted"
    flash(f"{username} is deleted, and {pixels_text}.")
    return back_to("users_page.show_users")


def _user_to_delete(user_id: uuid.UUID) -> User:
    auth.caller().require(Action.MANAGE_USERS)
    user = accounts.user_of(user_id)
    if user.id == auth.caller().user.id:
        raise BadRequest("You can’t delete yourself.")
    return user


def _heir_of(form: Form) -> Owner | None:
    """Return who gets the pixels, as the form says; None where they go too."""
    choice = form.sent["pixels"]
    if choice == "me":
        return Owner(user_id=auth.caller().user.id)
    found = next((team for team in teams.every_team(base.FEW_MAX) if str(team.id) == choice), None)
    if found:
        return Owner(team_id=found.id)
    if choice != "delete":
        form.errors["pixels"] = ["Say where their pixels go."]
    return None


def _ask_to_delete(user: User, form: Form) -> str:
    count, _ = pixels.counts(user.id, [])
    owners = [
        ("me", "go to me"),
        *((str(team.id), f"go to {team.name}") for team in teams.every_team(base.FEW_MAX)),
        ("delete", "are deleted with all of their hits"),
    ]
    question = Asking(
        f"Delete {user.username}?",
        [
            "Their sessions and API keys end at once.",
            "What belongs to a team stays with it.",
        ],
        "Delete this user",
        url_for("users_page.show_user", user_id=user.id),
        user.username,
        name=user.username,
        # Nobody has to say where nothing goes.
        fields=() if count else (("pixels", "delete"),),
    )
    return ask(
        question,
        form,
        template="ask_user.html",
        owners=owners if count else [],
        pixel_count=count,
    )


def _users(new_user: Form | None = None) -> str:
    return render_template(
        "users.html",
        found=accounts.listing(base.list_query()),
        new_user=new_user or Form.empty(role=Role.USER),
    )


def _user(user_id: uuid.UUID, details: Form | None = None) -> str:
    user = accounts.user_of(user_id)
    return render_template(
        "user.html",
        user=user,
        details=details or Form.empty(username=user.username, role=user.role),
    )
