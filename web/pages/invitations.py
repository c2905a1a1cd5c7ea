"""The pages of inviting somebody new, and of taking an invitation."""

from __future__ import annotations

from datetime import datetime

from flask import flash, render_template, request

import auth
from core.clock import now
from core.errors import UsernameTaken
from core.permissions import Action, Role
from models import Team
from people import invitations, teams
from schemas import InvitationAccept, InvitationCreate
from web.pages import base
from web.pages.base import Pages, Rendered, back_to, public
from web.pages.forms import Form
from web.request import public_url_for

blueprint = Pages("invitations_page", __name__)


@blueprint.get("/invite")
def show_invite() -> str:
    """GET: the form that makes an invitation. 200; 403 for all but admins."""
    auth.caller().require(Action.MANAGE_USERS)
    return _invite(Form.empty(role=Role.USER, teamId=request.args.get("team", "")))


@blueprint.post("/invite")
def invite() -> Rendered:
    """POST: make an invitation's link, shown in the answer only. 200; 400; 403; 404."""
    auth.caller().require(Action.MANAGE_USERS)
    form = Form(InvitationCreate)
    if form.errors:
        return _invite(form), form.status
    team_id = form.values["teamId"]
    team = auth.team_for(auth.caller(), team_id, Action.MANAGE_MEMBERS) if team_id else None
    user, role = auth.caller().user, Role(form.values["role"])
    token, expires_at = invitations.make(user, role, team, now())
    link = public_url_for("invitations_page.show_invitation", token=token)
    return _invite(form, link=link, team=team, expires_at=expires_at)


@blueprint.get("/invitation/<token>")
@public
def show_invitation(token: str) -> str:
    """GET: the form in which somebody new chooses a name and a password. No session. 200; 404."""
    return _invitation(token, Form.empty())


@blueprint.post("/invitation/<token>")
@public
def accept(token: str) -> Rendered:
    """POST: make the account, once. No session. 303, signed in; 400; 404."""
    form = Form(InvitationAccept)
    if not form.errors:
        with form.errors_at("username", UsernameTaken):
            username, password = form.values["username"], form.values["password"]
            user = invitations.accept(token, username, password, now())
            base.sign_in(user)
            flash(f"Welcome, {user.username}.")
            return back_to("pixels_page.show_pixels")
    return _invitation(token, form), form.status


def _invite(
    form: Form,
    link: str = "",
    team: Team | None = None,
    expires_at: datetime | None = None,
) -> str:
    found = teams.every_team(base.FEW_MAX)
    return render_template(
        "invite.html",
        form=form,
        link=link,
        team=team,
        expires_at=expires_at,
        teams=[("", "No team"), *((str(choice.id), choice.name) for choice in found)]
        if found
        else [],
    )


def _invitation(token: str, form: Form) -> str:
    return render_template("invitation.html", form=form, team=invitations.read(token).team)
