"""The JSON routes of teams and their members."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from flask import Response, jsonify

import auth
from core.clock import now
from core.errors import AccessCodeTaken, BadRequest, Forbidden, NotFound
from core.lists import ListQuery, Page
from core.permissions import Action, TeamRole, needed_for
from models import Team, TeamUser, User
from people import accounts, teams
from schemas import (
    PAGE_SIZE_MAX,
    MemberCreate,
    MemberPage,
    MemberUpdate,
    Ok,
    PageArgs,
    TeamCreate,
    TeamJoin,
    TeamListArgs,
    TeamOut,
    TeamPage,
    TeamUpdate,
    TeamUserOut,
    TeamWithMembers,
)
from web.api.blueprint import JsonBlueprint
from web.request import address

blueprint = JsonBlueprint("teams", __name__, url_prefix="/api", description="Teams")

# The first page of members that a team is answered with.
MEMBERS_SHOWN = ListQuery(page_size=PAGE_SIZE_MAX)

# The one answer that is a pair, as Umami has it.
TEAM_AND_OWNER = {
    "type": "array",
    "items": {"oneOf": [TeamOut, TeamUserOut]},
    "minItems": 2,
    "maxItems": 2,
}


@blueprint.post("/teams", raises=(Forbidden, NotFound))
@auth.required
@blueprint.arguments(TeamCreate)
@blueprint.response(200, TEAM_AND_OWNER)
def create_team(body: dict[str, Any]) -> Response:
    """Create a team, owned by the caller; an admin may name another owner.

    Answers the team and its owner's membership.
    """
    caller = auth.caller()
    caller.require(Action.CREATE_TEAM)
    owner = caller.user
    if body["ownerId"] not in (None, owner.id):
        caller.require(Action.MANAGE_USERS)
        owner = accounts.user_of(body["ownerId"])
    team, membership = teams.create_team(body["name"], owner)
    return jsonify([TeamOut().dump(_shown(team)), TeamUserOut().dump(membership)])


@blueprint.get("/teams", operation_id="getTeams")
@auth.required
@blueprint.arguments(TeamListArgs, location="query")
@blueprint.response(200, TeamPage)
def list_teams(arguments: dict[str, Any]) -> Page[Any]:
    """Return a page of the caller's teams."""
    return _teams_of(auth.caller().user, arguments["list"])


@blueprint.get("/me/teams", operation_id="getMyTeams")
@auth.required
@blueprint.arguments(TeamListArgs, location="query")
@blueprint.response(200, TeamPage)
def list_my_teams(arguments: dict[str, Any]) -> Page[Any]:
    """Return a page of the caller's teams, where Umami has it too."""
    return _teams_of(auth.caller().user, arguments["list"])


@blueprint.get("/users/<uuid:user_id>/teams", operation_id="getUserTeams", raises=(NotFound,))
@auth.required
@blueprint.arguments(TeamListArgs, location="query")
@blueprint.response(200, TeamPage)
def list_teams_of_user(arguments: dict[str, Any], user_id: uuid.UUID) -> Page[Any]:
    """Return a page of a user's teams. Admins may ask for everybody's, others for their own."""
    caller = auth.caller()
    if user_id != caller.user.id and not caller.may(Action.MANAGE_USERS):
        raise NotFound("No such user.")
    return _teams_of(accounts.user_of(user_id), arguments["list"])


@blueprint.post("/teams/join", raises=(BadRequest, NotFound))
@auth.required
@blueprint.arguments(TeamJoin)
@blueprint.response(200, TeamUserOut)
def join_team(body: dict[str, str]) -> TeamUser:
    """Become a member of the team with an access code, once.

    After too many wrong codes it takes a while.
    """
    return teams.join_team(auth.caller().user, body["accessCode"], address(), now())


@blueprint.get("/teams/<uuid:team_id>", operation_id="getTeam", raises=(NotFound,))
@auth.required
@blueprint.response(200, TeamWithMembers)
def read_team(team_id: uuid.UUID) -> dict[str, Any]:
    """Return a team with its first members; `/users` has the others."""
    team = auth.team_for(auth.caller(), team_id, Action.READ_TEAM)
    first = teams.members_of(team, MEMBERS_SHOWN)
    return {**_seen(team), "members": first.data}


@blueprint.post("/teams/<uuid:team_id>", raises=(Forbidden, NotFound, AccessCodeTaken))
@auth.required
@blueprint.arguments(TeamUpdate)
@blueprint.response(200, TeamOut)
def update_team(body: dict[str, Any], team_id: uuid.UUID) -> dict[str, Any]:
    """Change a team's name or access code; what is left out stays."""
    team = auth.team_for(auth.caller(), team_id, Action.CHANGE_TEAM)
    user = auth.caller().user
    return _shown(teams.change_team(team, user, address(), now(), **body))


@blueprint.delete("/teams/<uuid:team_id>", raises=(Forbidden, NotFound))
@auth.required
@blueprint.response(200, Ok)
def delete_team(team_id: uuid.UUID) -> dict[str, bool]:
    """Remove a team, and its pixels with their hits. Only its owners may."""
    teams.remove_team(auth.team_for(auth.caller(), team_id, Action.DELETE_TEAM))
    return {"ok": True}


@blueprint.get("/teams/<uuid:team_id>/users", operation_id="getTeamUsers", raises=(NotFound,))
@auth.required
@blueprint.arguments(PageArgs, location="query")
@blueprint.response(200, MemberPage)
def list_members(arguments: dict[str, Any], team_id: uuid.UUID) -> Page[TeamUser]:
    """Return a page of a team's members."""
    return teams.members_of(
        auth.team_for(auth.caller(), team_id, Action.READ_TEAM), arguments["list"]
    )


@blueprint.post(
    "/teams/<uuid:team_id>/users", operation_id="createTeamUser", raises=(Forbidden, NotFound)
)
@auth.required
@blueprint.arguments(MemberCreate)
@blueprint.response(200, TeamUserOut)
def add_member(body: dict[str, Any], team_id: uuid.UUID) -> TeamUser:
    """Make a user a member of a team. Only an owner makes owners."""
    role = TeamRole(body["role"])
    team = auth.team_for(auth.caller(), team_id, needed_for(role))
    return teams.add_member(team, accounts.user_of(body["userId"]), role)


@blueprint.get(
    "/teams/<uuid:team_id>/users/<uuid:user_id>", operation_id="getTeamUser", raises=(NotFound,)
)
@auth.required
@blueprint.response(200, TeamUserOut)
def read_member(team_id: uuid.UUID, user_id: uuid.UUID) -> TeamUser:
    """Return a membership."""
    team = auth.team_for(auth.caller(), team_id, Action.READ_TEAM)
    return teams.member_of(team, user_id)


@blueprint.post(
    "/teams/<uuid:team_id>/users/<uuid:user_id>",
    operation_id="updateTeamUser",
    raises=(Forbidden, NotFound),
)
@auth.required
@blueprint.arguments(MemberUpdate)
@blueprint.response(200, TeamUserOut)
def update_member(body: dict[str, Any], team_id: uuid.UUID, user_id: uuid.UUID) -> TeamUser:
    """Change a member's role. Only an owner makes owners, or something else of one.

    The only owner stays one.
    """
    caller, role = auth.caller(), TeamRole(body["role"])
    team = auth.team_for(caller, team_id, needed_for(role))
    member = teams.member_of(team, user_id)
    auth.team_for(caller, team_id, needed_for(TeamRole(member.role)))
    return teams.change_member(team, user_id, role)


@blueprint.delete(
    "/teams/<uuid:team_id>/users/<uuid:user_id>",
    operation_id="deleteTeamUser",
    raises=(BadRequest, Forbidden, NotFound),
)
@auth.required
@blueprint.response(200, Ok)
def remove_member(team_id: uuid.UUID, user_id: uuid.UUID) -> dict[str, bool]:
    """Take a member out of a team, or leave it. Only an owner takes owners out.

    The only owner stays.
    """
    caller = auth.caller()
    leaving = user_id == caller.user.id
    needed = Action.READ_TEAM if leaving else Action.MANAGE_MEMBERS
    team = auth.team_for(caller, team_id, needed)
    member = teams.member_of(team, user_id)
    if member.role == TeamRole.OWNER:
        auth.team_for(caller, team_id, Action.MANAGE_OWNERS)
    teams.remove_member(team, user_id)
    return {"ok": True}


def _teams_of(user: User, query: ListQuery) -> Page[Any]:
    page = teams.teams_of(user, query)
    able = auth.teams_to_change(auth.caller(), page.data)
    shown: list[Any] = [_shown(team, with_code=team.id in able) for team in page.data]
    return replace(page, data=shown)


def _seen(team: Team) -> dict[str, Any]:
    """Return a team as the caller may see it."""
    return _shown(team, with_code=bool(auth.teams_to_change(auth.caller(), [team])))


def _shown(team: Team, *, with_code: bool = True) -> dict[str, Any]:
    columns = ("id", "name", "created_at", "updated_at")
    shape = {column: getattr(team, column) for column in columns}
    return {**shape, "access_code": team.access_code if with_code else None}
