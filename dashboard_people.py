"""The pages of people: one's own account, teams and their members, and all users for admins."""

from __future__ import annotations

import uuid
from typing import Any

from flask import flash, render_template, request
from werkzeug.wrappers import Response

import accounts
import auth
import pages
from api import address
from database import now
from errors import BadRequest, NotFound, UsernameTaken
from models import Team
from pages import Form, Pages, back_to
from permissions import Action, Role, TeamRole, needed_for
from schemas import (
    ApiKeyCreate,
    MemberUpdate,
    PasswordChange,
    TeamCreate,
    TeamJoin,
    TeamUpdate,
    UserCreate,
    UserUpdate,
)

blueprint = Pages("people", __name__)

Rendered = str | tuple[str, int] | Response

MEMBERS_A_PAGE = 50


@blueprint.get("/account")
def show_account() -> str:
    """GET: one's own password, API keys and zone. 200."""
    return _account()


@blueprint.post("/account/password")
def change_password() -> Rendered:
    """POST: change one's password; every other session ends. 303; 400; 429 after too many."""
    form = Form(PasswordChange)
    if not form.errors:
        user, given = auth.caller().user, form.values
        with form.errors_at("currentPassword", BadRequest):
            user = accounts.change_password(
                user, given["currentPassword"], given["newPassword"], address(), now()
            )
            pages.sign_in(user)
            flash("Your password is changed, and every other session has ended.")
            return back_to("people.show_account")
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


@blueprint.post("/account/keys/<uuid:key_id>/revoke")
def revoke_key(key_id: uuid.UUID) -> Response:
    """POST: end an API key. 303; 404 for another's."""
    accounts.revoke_key(auth.caller().user, key_id)
    flash("The key is revoked.")
    return back_to("people.show_account", _anchor="keys")


@blueprint.get("/teams")
def show_teams() -> str:
    """GET: one's teams. 200."""
    return _teams()


@blueprint.post("/teams")
def create_team() -> Rendered:
    """POST: create a team. 303; 400; 403 for who may not."""
    auth.caller().require(Action.CREATE_TEAM)
    form = Form(TeamCreate)
    if not form.errors:
        team, _ = accounts.create_team(form.values["name"], auth.caller().user)
        return back_to("people.show_team", team_id=team.id)
    return _teams(new_team=form), form.status


@blueprint.post("/teams/join")
def join_team() -> Rendered:
    """POST: join the team of an access code. 303; 400 for a wrong one; 429 after too many."""
    form = Form(TeamJoin)
    if not form.errors:
        with form.errors_at("accessCode", NotFound, BadRequest):
            code = form.values["accessCode"]
            member = accounts.join_team(auth.caller().user, code, address(), now())
            return back_to("people.show_team", team_id=member.team_id)
    return _teams(joining=form), form.status


@blueprint.get("/teams/<uuid:team_id>")
def show_team(team_id: uuid.UUID) -> str:
    """GET: a team, its members and its access code. 200; 404 for a stranger."""
    return _team(auth.team_for(auth.caller(), team_id, Action.READ_TEAM))


@blueprint.post("/teams/<uuid:team_id>")
def rename_team(team_id: uuid.UUID) -> Rendered:
    """POST: change a team's name. 303; 400; 403 for a member without the right; 404."""
    team = auth.team_for(auth.caller(), team_id, Action.CHANGE_TEAM)
    form = Form(TeamUpdate)
    if not form.errors:
        accounts.change_team(team, form.values)
        flash("Saved.")
        return back_to("people.show_team", team_id=team_id)
    return _team(team, details=form), form.status


@blueprint.post("/teams/<uuid:team_id>/code")
def renew_code(team_id: uuid.UUID) -> Response:
    """POST: make a new access code; the old one lets nobody in. 303; 403; 404."""
    team = auth.team_for(auth.caller(), team_id, Action.CHANGE_TEAM)
    accounts.change_team(team, {"access_code": accounts.new_access_code()})
    flash("The team has a new access code.")
    return back_to("people.show_team", team_id=team_id)


@blueprint.post("/teams/<uuid:team_id>/members/<uuid:user_id>")
def change_member(team_id: uuid.UUID, user_id: uuid.UUID) -> Response:
    """POST: change a member's role. 303; 400 for the only owner; 403; 404."""
    form = Form(MemberUpdate)
    if form.errors:
        raise BadRequest("There is no such role.")
    role = TeamRole(form.values["role"])
    auth.team_for(auth.caller(), team_id, needed_for(role))
    team = _team_without(team_id, user_id)
    accounts.change_member(team, user_id, role)
    flash("Saved.")
    return back_to("people.show_team", team_id=team_id)


@blueprint.post("/teams/<uuid:team_id>/members/<uuid:user_id>/remove")
def remove_member(team_id: uuid.UUID, user_id: uuid.UUID) -> Response:
    """POST: take a member out of a team. 303; 400 for the only owner; 403; 404."""
    accounts.remove_member(_team_without(team_id, user_id), user_id)
    flash("They are no longer in the team.")
    return back_to("people.show_team", team_id=team_id)


@blueprint.post("/teams/<uuid:team_id>/leave")
def leave_team(team_id: uuid.UUID) -> Response:
    """POST: leave a team. 303; 400 for the only owner; 404 for a stranger."""
    team = auth.team_for(auth.caller(), team_id, Action.READ_TEAM)
    accounts.remove_member(team, auth.caller().user.id)
    flash(f"You have left {team.name}.")
    return back_to("people.show_teams")


@blueprint.post("/teams/<uuid:team_id>/delete")
def delete_team(team_id: uuid.UUID) -> Rendered:
    """POST: delete a team and its pixels, its name having been typed. 303; 400; 403; 404."""
    team = auth.team_for(auth.caller(), team_id, Action.DELETE_TEAM)
    form = pages.confirmation_of(team.name)
    if form.errors:
        return _team(team, deletion=form), form.status
    accounts.remove_team(team)
    flash(f"{team.name} and its pixels are deleted.")
    return back_to("people.show_teams")


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
            return back_to("people.show_users")
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
                pages.sign_in(user)
            flash("Saved.")
            return back_to("people.show_users")
    return _user(user_id, details=form), form.status


@blueprint.post("/users/<uuid:user_id>/delete")
def delete_user(user_id: uuid.UUID) -> Rendered:
    """POST: delete a user and their pixels, the name having been typed. 303; 400; 403; 404."""
    auth.caller().require(Action.MANAGE_USERS)
    user = accounts.user_of(user_id)
    if user.id == auth.caller().user.id:
        raise BadRequest("You cannot delete yourself.")
    form = pages.confirmation_of(user.username)
    if form.errors:
        return _user(user_id, deletion=form), form.status
    accounts.remove_user(user)
    flash(f"{user.username} and their pixels are deleted.")
    return back_to("people.show_users")


def _team_without(team_id: uuid.UUID, user_id: uuid.UUID) -> Team:
    """Return the team if the caller may take a member's role in it away."""
    team = auth.team_for(auth.caller(), team_id, Action.MANAGE_MEMBERS)
    member = accounts.member_of(team, user_id)
    return auth.team_for(auth.caller(), team_id, needed_for(TeamRole(member.role)))


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


def _teams(new_team: Form | None = None, joining: Form | None = None) -> str:
    user = auth.caller().user
    return render_template(
        "teams.html",
        teams=accounts.first_teams_of(user),
        may_create_team=auth.caller().may(Action.CREATE_TEAM),
        new_team=new_team or Form.empty(),
        joining=joining or Form.empty(),
    )


def _team(team: Team, details: Form | None = None, deletion: Form | None = None) -> str:
    caller = auth.caller()
    allowed = {each for each in Action if pages.may(auth.team_for, team.id, each)}
    return render_template(
        "team.html",
        team=team,
        allowed=allowed,
        is_member=auth.team_role(caller, team.id) is not None,
        found=accounts.members_of(team, _list_args(MEMBERS_A_PAGE)),
        details=details or Form.empty(name=team.name),
        deletion=deletion or Form.empty(),
    )


def _users(new_user: Form | None = None) -> str:
    return render_template(
        "users.html",
        found=accounts.users_listing(_list_args(pages.PAGE_SIZE)),
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


def _list_args(page_size: int) -> dict[str, Any]:
    return {
        "page": pages.page_number(),
        "pageSize": page_size,
        "search": pages.search_text(),
        "orderBy": None,
        "sortDescending": None,
    }
