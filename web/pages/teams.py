"""The pages of teams and their members."""

from __future__ import annotations

import uuid

from flask import flash, render_template, url_for
from werkzeug.wrappers import Response

import auth
from core.clock import now
from core.errors import BadRequest, NotFound
from core.permissions import Action, TeamRole, needed_for
from models import Team
from people import teams
from schemas import MemberUpdate, TeamCreate, TeamJoin, TeamUpdate
from web.pages import base, forms
from web.pages.base import Pages, Rendered, back_to
from web.pages.forms import Asking, Form, ask
from web.request import address

blueprint = Pages("teams_page", __name__)

MEMBERS_A_PAGE = 50


@blueprint.get("/teams")
def show_teams() -> str:
    """GET: one's teams. 200."""
    return _teams()


@blueprint.post("/teams")
def create_team() -> Rendered:
    """POST: create a team. 303; 400; 403 for a user who may not."""
    auth.caller().require(Action.CREATE_TEAM)
    form = Form(TeamCreate)
    if not form.errors:
        team, _ = teams.create_team(form.values["name"], auth.caller().user)
        flash(f"{team.name} is made. Invite others with its access code.")
        return back_to("teams_page.show_team", team_id=team.id)
    return _teams(new_team=form), form.status


@blueprint.post("/teams/join")
def join_team() -> Rendered:
    """POST: join the team of an access code. 303; 400 for a wrong one; 429 after too many."""
    form = Form(TeamJoin)
    if not form.errors:
        with form.errors_at("accessCode", NotFound, BadRequest):
            code = form.values["accessCode"]
            member = teams.join_team(auth.caller().user, code, address(), now())
            flash("You are in.")
            return back_to("pixels_page.show_pixels", team=member.team_id)
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
        teams.change_team(team, auth.caller().user, address(), now(), **form.values)
        flash("Saved.")
        return back_to("teams_page.show_team", team_id=team_id)
    return _team(team, details=form), form.status


@blueprint.get("/teams/<uuid:team_id>/code")
def ask_to_renew_code(team_id: uuid.UUID) -> str:
    """GET: ask whether the access code shall change. 200; 403; 404."""
    team = auth.team_for(auth.caller(), team_id, Action.CHANGE_TEAM)
    return _ask(
        team,
        f"A new access code for {team.name}?",
        ["The old code lets nobody in any more.", "Everybody who is in the team stays in it."],
        "Make a new code",
        is_danger=False,
    )


@blueprint.post("/teams/<uuid:team_id>/code")
def renew_code(team_id: uuid.UUID) -> Response:
    """POST: make a new access code; the old one lets nobody in. 303; 403; 404."""
    team = auth.team_for(auth.caller(), team_id, Action.CHANGE_TEAM)
    teams.renew_access_code(team)
    flash("The team has a new access code.")
    return back_to("teams_page.show_team", team_id=team_id)


@blueprint.post("/teams/<uuid:team_id>/members/<uuid:user_id>")
def change_member(team_id: uuid.UUID, user_id: uuid.UUID) -> Response:
    """POST: change a member's role. 303; 400 for the only owner; 403; 404."""
    form = Form(MemberUpdate)
    if form.errors:
        raise BadRequest("There is no such role.")
    role = TeamRole(form.values["role"])
    auth.team_for(auth.caller(), team_id, needed_for(role))
    team = _team_without(team_id, user_id)
    teams.change_member(team, user_id, role)
    flash("The role is saved.")
    return back_to("teams_page.show_team", team_id=team_id)


@blueprint.get("/teams/<uuid:team_id>/members/<uuid:user_id>/remove")
def ask_to_remove_member(team_id: uuid.UUID, user_id: uuid.UUID) -> str:
    """GET: ask whether a member shall leave a team. 200; 403; 404."""
    team = _team_without(team_id, user_id)
    username = teams.member_of(team, user_id).user.username
    return _ask(
        team,
        f"Remove {username} from {team.name}?",
        [
            "They see none of its pixels any more.",
            "What they made for the team stays with it. They can join again with the access code.",
        ],
        f"Remove {username}",
    )


@blueprint.post("/teams/<uuid:team_id>/members/<uuid:user_id>/remove")
def remove_member(team_id: uuid.UUID, user_id: uuid.UUID) -> Response:
    """POST: take a member out of a team. 303; 400 for the only owner; 403; 404."""
    teams.remove_member(_team_without(team_id, user_id), user_id)
    flash("They are no longer in the team.")
    return back_to("teams_page.show_team", team_id=team_id)


@blueprint.get("/teams/<uuid:team_id>/leave")
def ask_to_leave_team(team_id: uuid.UUID) -> str:
    """GET: ask whether one wants to leave a team. 200; 404 for a stranger."""
    team = auth.team_for(auth.caller(), team_id, Action.READ_TEAM)
    return _ask(
        team,
        f"Leave {team.name}?",
        [
            "You see none of its pixels any more.",
            "Pixels stay with the team. To come back you need its access code.",
        ],
        "Leave this team",
    )


@blueprint.post("/teams/<uuid:team_id>/leave")
def leave_team(team_id: uuid.UUID) -> Response:
    """POST: leave a team. 303; 400 for the only owner; 404 for a stranger."""
    team = auth.team_for(auth.caller(), team_id, Action.READ_TEAM)
    teams.remove_member(team, auth.caller().user.id)
    flash(f"You have left {team.name}.")
    return back_to("teams_page.show_teams")


@blueprint.post("/teams/<uuid:team_id>/delete")
def delete_team(team_id: uuid.UUID) -> Rendered:
    """POST: delete a team and its pixels, its name having been typed. 303; 400; 403; 404."""
    team = auth.team_for(auth.caller(), team_id, Action.DELETE_TEAM)
    form = forms.confirmation_of(team.name)
    if form.errors:
        return _team(team, deletion=form), form.status
    teams.remove_team(team)
    flash(f"{team.name} and its pixels are deleted.")
    return back_to("teams_page.show_teams")


def _ask(team: Team, heading: str, lines: list[str], action: str, *, is_danger: bool = True) -> str:
    back = url_for("teams_page.show_team", team_id=team.id)
    return ask(Asking(heading, lines, action, back, team.name, is_danger))


def _team_without(team_id: uuid.UUID, user_id: uuid.UUID) -> Team:
    """Return the team if the caller may take a member's role in it away."""
    team = auth.team_for(auth.caller(), team_id, Action.MANAGE_MEMBERS)
    member = teams.member_of(team, user_id)
    return auth.team_for(auth.caller(), team_id, needed_for(TeamRole(member.role)))


def _teams(new_team: Form | None = None, joining: Form | None = None) -> str:
    user = auth.caller().user
    return render_template(
        "teams.html",
        teams=teams.first_teams_of(user),
        may_create_team=auth.caller().may(Action.CREATE_TEAM),
        new_team=new_team or Form.empty(),
        joining=joining or Form.empty(),
    )


def _team(team: Team, details: Form | None = None, deletion: Form | None = None) -> str:
    caller = auth.caller()
    allowed = {action for action in Action if base.may(auth.team_for, team.id, action)}
    return render_template(
        "team.html",
        team=team,
        allowed=allowed,
        is_member=auth.team_role(caller, team.id) is not None,
        found=teams.members_of(team, base.list_query(MEMBERS_A_PAGE)),
        details=details or Form.empty(name=team.name),
        deletion=deletion or Form.empty(),
    )
