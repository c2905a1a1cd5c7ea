"""Every route for every kind of caller, generated from the one table of roles and actions.

A row says what a route needs; what each caller then gets follows from `permissions`. A caller who
may not know of a thing gets 404, one who may see it but not do this 403, one with no valid
credential 401 (a page sends them to sign in). A route without a row fails here.
"""

from __future__ import annotations

import contextvars
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask, current_app
from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from sqlalchemy import delete, update
from werkzeug.test import TestResponse

import auth
from app import create_app
from core import passwords, secret_keys, settings
from core.clock import now
from core.database import db
from core.permissions import ROLE_ACTIONS, TEAM_ROLE_ACTIONS, Action, Role, Scope, TeamRole
from models import ApiKey, Owner, Pixel, Share, Team, User, Webhook
from people import accounts, teams
from pixels import pixels, recipients, shares
from server.prepare import prepare
from tests.conftest import PASSWORD, unique

FORM_TOKEN = "form-token"
SERVICE = {"/healthz", "/robots.txt", "/metrics", "/docs", "/openapi.json"} | {
    "/static/<path:filename>"
}


# --- Who calls


@dataclass(frozen=True)
class Kind:
    """A kind of caller: their role here and in the team, or neither if they are let in nowhere."""

    name: str
    role: Role | None = None
    team_role: TeamRole | None = None


PEOPLE = (
    Kind("stranger", Role.USER),
    Kind("owner", Role.USER),
    Kind("view-only", Role.VIEW_ONLY, TeamRole.MEMBER),
    Kind("admin", Role.ADMIN),
    Kind("team-owner", Role.USER, TeamRole.OWNER),
    Kind("team-manager", Role.USER, TeamRole.MANAGER),
    Kind("team-member", Role.USER, TeamRole.MEMBER),
    Kind("team-view-only", Role.USER, TeamRole.VIEW_ONLY),
)
KEY = Kind("key of team-owner", Role.USER, TeamRole.OWNER)
READ_KEY = Kind("key of team-owner to read", Role.USER, TeamRole.OWNER)
WRITE_KEY = Kind("key of team-owner to write", Role.USER, TeamRole.OWNER)
PIXEL_KEY = Kind("key of team-owner for the pixel", Role.USER, TeamRole.OWNER)
OTHER_PIXEL_KEY = Kind("key of team-owner for another pixel", Role.USER, TeamRole.OWNER)
TEAM_KEY = Kind("key of team-owner for the team", Role.USER, TeamRole.OWNER)
OTHER_TEAM_KEY = Kind("key of team-owner for another team", Role.USER, TeamRole.OWNER)
LIMITED_KEYS = (PIXEL_KEY, OTHER_PIXEL_KEY, TEAM_KEY, OTHER_TEAM_KEY)
KEYS = (KEY, READ_KEY, WRITE_KEY, *LIMITED_KEYS)
GUEST = Kind("share of the pixel")
GUEST_OF_ANOTHER = Kind("share of another pixel")
NOBODIES = (
    Kind("nobody"),
    Kind("deleted user"),
    Kind("revoked token"),
    Kind("token before the password"),
    Kind("expired token"),
    Kind("forged token"),
    Kind("revoked key"),
    Kind("expired key"),
    Kind("share without its context"),
    Kind("revoked share"),
)
KINDS = (*PEOPLE, *KEYS, GUEST, GUEST_OF_ANOTHER, *NOBODIES)


# --- What is asked for


@dataclass(frozen=True)
class Row:
    """What a route needs, and a request that works for who has it."""

    scope: str
    action: Action | None = None
    body: dict[str, Any] | Callable[[Subject], dict[str, Any]] = field(default_factory=dict)
    query: dict[str, Any] | Callable[[Subject], dict[str, Any]] = field(default_factory=dict)
    works: int = 200
    subjects: tuple[str, ...] = ("team",)
    takes_share: bool = False
    # Which keys reach it: `none`, those of scope `all`, those to `write` as well, or `every` one;
    # a GET that isn't for `none` is for every one.
    keys: str = "all"
    # Whether a key that is limited to a pixel or a team reaches it where its path names neither.
    takes_limited_keys: bool = False
    # Callers whom something other than a role stops.
    but: dict[str, int] = field(default_factory=dict)


@dataclass
class Subject:
    """What one request is about, as fresh as it needs to be."""

    pixel: Pixel
    team: Team
    share: Share
    user_id: uuid.UUID
    key_id: uuid.UUID
    webhook_id: uuid.UUID


def pixel(action: Action, **more: Any) -> Row:
    return Row("pixel", action, **{"subjects": ("team", "owner", "view-only"), **more})


def slug(_: Subject) -> dict[str, str]:
    return {"name": "Made", "slug": unique("made")}


def access_code(subject: Subject) -> dict[str, str]:
    return {"accessCode": subject.team.access_code}


def known_by(subject: Subject) -> dict[str, str]:
    """Return somebody whom the pixel was sent to."""
    name = f"{unique('known')}@example.org"
    recipients.issue(current_app.extensions["links"], subject.pixel, [name], None, "")
    return {"name": name}


ANYBODY = Row("anybody")
SIGNED_IN = Row("signed in")
READ = pixel(Action.READ_PIXEL)
CHARTS = Row(
    "signed in",
    query=lambda subject: {"ids": subject.pixel.id},
    takes_share=True,
    takes_limited_keys=True,
    # What they may not read is left out.
    but={"share of another pixel": 200},
)
USERS = Row("here", Action.MANAGE_USERS)
RANGE = {"startAt": 0, "endAt": 2_000_000_000_000}
STATISTICS: dict[str, dict[str, Any]] = {
    "stats": RANGE,
    "pageviews": {**RANGE, "unit": "year", "timezone": "UTC"},
    "metrics": {**RANGE, "type": "browser"},
    "metrics/expanded": {**RANGE, "type": "browser"},
    "values": {**RANGE, "type": "browser"},
    "active": {},
    "daterange": {},
    "events": RANGE,
    "sessions": RANGE,
    "sessions/stats": RANGE,
    "sessions/weekly": RANGE,
    "events/series": RANGE,
    "events/stats": RANGE,
    "utm/metrics": RANGE,
    "export": {},
}

API: dict[str, Row] = {
    "GET /api/heartbeat": ANYBODY,
    "POST /api/send": Row("anybody", works=400),
    "POST /api/batch": Row("anybody", works=400),
    "POST /api/auth/login": Row("anybody", works=400, keys="none"),
    "POST /api/auth/verify": Row("signed in", keys="every", takes_limited_keys=True),
    "GET /api/auth/verify": Row("signed in", takes_limited_keys=True),
    "POST /api/auth/logout": Row("signed in", keys="none"),
    "GET /api/me": Row("signed in", takes_limited_keys=True),
    "POST /api/me/password": Row("signed in", works=400, keys="none"),
    "GET /api/me/teams": SIGNED_IN,
    "GET /api/me/api-keys": Row("signed in", keys="none"),
    "POST /api/me/api-keys": Row("signed in", body={"name": "made"}, keys="none"),
    "DELETE /api/me/api-keys/<uuid:key_id>": Row("own key", keys="none"),
    "POST /api/users": Row(
        "here",
        Action.MANAGE_USERS,
        body=lambda _: {"username": unique("made"), "password": "12345678", "role": "user"},
    ),
    "GET /api/users": USERS,
    "GET /api/admin/users": USERS,
    "GET /api/users/<uuid:user_id>": Row("user"),
    "GET /api/users/<uuid:user_id>/teams": Row("user"),
    "POST /api/users/<uuid:user_id>": Row("user", Action.MANAGE_USERS),
    "DELETE /api/users/<uuid:user_id>": Row("user", Action.MANAGE_USERS),
    "GET /api/teams": SIGNED_IN,
    "POST /api/teams": Row("here", Action.CREATE_TEAM, body={"name": "Made"}),
    "POST /api/teams/join": Row("signed in", body=access_code),
    "GET /api/teams/<uuid:team_id>": Row("team", Action.READ_TEAM),
    "POST /api/teams/<uuid:team_id>": Row("team", Action.CHANGE_TEAM, body={"name": "Renamed"}),
    "DELETE /api/teams/<uuid:team_id>": Row("team", Action.DELETE_TEAM),
    "GET /api/teams/<uuid:team_id>/users": Row("team", Action.READ_TEAM),
    "POST /api/teams/<uuid:team_id>/users": Row(
        "team",
        Action.MANAGE_MEMBERS,
        body=lambda subject: {"userId": str(subject.user_id), "role": "team-member"},
    ),
    "GET /api/teams/<uuid:team_id>/users/<uuid:user_id>": Row("team", Action.READ_TEAM),
    "POST /api/teams/<uuid:team_id>/users/<uuid:user_id>": Row(
        "team", Action.MANAGE_MEMBERS, body={"role": "team-view-only"}
    ),
    "DELETE /api/teams/<uuid:team_id>/users/<uuid:user_id>": Row("team", Action.MANAGE_MEMBERS),
    "GET /api/teams/<uuid:team_id>/pixels": Row("team", Action.READ_TEAM),
    "GET /api/pixels": SIGNED_IN,
    "POST /api/pixels": Row("here", Action.CREATE_PIXEL, body=slug, keys="write"),
    "GET /api/pixels/<uuid:pixel_id>": pixel(Action.READ_PIXEL, takes_share=True),
    "POST /api/pixels/<uuid:pixel_id>": pixel(
        Action.CHANGE_PIXEL, body={"name": "Renamed"}, keys="write"
    ),
    "DELETE /api/pixels/<uuid:pixel_id>": pixel(Action.CHANGE_PIXEL, keys="write"),
    "GET /api/pixels/<uuid:pixel_id>/embed": READ,
    "GET /api/pixels/<uuid:pixel_id>/recipients": READ,
    "POST /api/pixels/<uuid:pixel_id>/recipients": pixel(
        Action.CHANGE_PIXEL, body={"recipients": ["a@example.org"]}, keys="write"
    ),
    "GET /api/pixels/<uuid:pixel_id>/recipients/export": READ,
    "DELETE /api/pixels/<uuid:pixel_id>/recipient": pixel(
        Action.CHANGE_PIXEL, query=lambda subject: known_by(subject), keys="write"
    ),
    "GET /api/recipients": SIGNED_IN,
    # Nobody is known to anybody by this name; other tests ask for those who are.
    "GET /api/recipient": Row("signed in", query={"name": "nobody@example.org"}, works=404),
    "DELETE /api/recipient": Row(
        "signed in", query={"name": "nobody@example.org"}, works=404, keys="write"
    ),
    "GET /api/opt-outs": SIGNED_IN,
    "GET /api/pixels/<uuid:pixel_id>/mailing": pixel(Action.READ_PIXEL, takes_share=True),
    "GET /api/pixels/mailings": Row(
        "signed in", query=lambda subject: {"ids": subject.pixel.id}, takes_limited_keys=True
    ),
    "GET /api/pixels/charts": CHARTS,
    "GET /api/websites/<uuid:pixel_id>": pixel(Action.READ_PIXEL, takes_share=True),
    "GET /api/websites": SIGNED_IN,
    "GET /api/me/websites": SIGNED_IN,
    "GET /api/users/<uuid:user_id>/websites": Row("user"),
    "GET /api/teams/<uuid:team_id>/websites": Row("team", Action.READ_TEAM),
    "GET /api/websites/charts": CHARTS,
    "GET /api/realtime/<uuid:pixel_id>": pixel(Action.READ_PIXEL, takes_share=True),
    "GET /api/pixels/<uuid:pixel_id>/shares": READ,
    "POST /api/pixels/<uuid:pixel_id>/shares": pixel(Action.CHANGE_PIXEL, body={"name": "Made"}),
    "POST /api/share": pixel(
        Action.CHANGE_PIXEL,
        body=lambda subject: {"entityId": str(subject.pixel.id), "shareType": 3, "name": "Made"},
        takes_limited_keys=True,
    ),
    "GET /api/webhooks": Row("signed in", takes_limited_keys=True),
    "POST /api/webhooks": pixel(
        Action.CHANGE_PIXEL,
        body=lambda subject: {
            **{"url": "https://8.8.8.8/", "events": ["hit"]},
            "pixelId": str(subject.pixel.id),
        },
        keys="write",
        takes_limited_keys=True,
    ),
    **{
        route: pixel(Action.CHANGE_PIXEL, keys="write", takes_limited_keys=True)
        for route in (
            "GET /api/webhooks/<uuid:webhook_id>",
            "POST /api/webhooks/<uuid:webhook_id>",
            "DELETE /api/webhooks/<uuid:webhook_id>",
            "GET /api/webhooks/<uuid:webhook_id>/deliveries",
        )
    },
    # Its secret was made with a key that the server doesn't have.
    "POST /api/webhooks/<uuid:webhook_id>/test": pixel(
        Action.CHANGE_PIXEL, keys="write", takes_limited_keys=True, works=400
    ),
    "GET /api/share/<slug>": ANYBODY,
    "GET /api/share/id/<uuid:share_id>": pixel(Action.READ_PIXEL, takes_limited_keys=True),
    "POST /api/share/id/<uuid:share_id>": pixel(
        Action.CHANGE_PIXEL, body={"name": "Renamed"}, takes_limited_keys=True
    ),
    "DELETE /api/share/id/<uuid:share_id>": pixel(Action.CHANGE_PIXEL, takes_limited_keys=True),
    **{
        f"GET /api/{things}/<uuid:pixel_id>/{path}": pixel(
            Action.READ_PIXEL,
            query=query,
            takes_share=path not in ("export", "sessions"),
            subjects=subjects,
        )
        for things, subjects in (("pixels", ("team", "owner")), ("websites", ("team",)))
        for path, query in STATISTICS.items()
    },
}

PAGES: dict[str, Row] = {
    "GET /": Row("signed in", works=303),
    "GET /sign-in": ANYBODY,
    "POST /sign-in": Row("anybody", works=400),
    "POST /sign-out": Row("signed in", works=303),
    "GET /zone": ANYBODY,
    "POST /zone": Row("anybody", works=303),
    "GET /pixels": SIGNED_IN,
    "GET /pixels/new": Row("here", Action.CREATE_PIXEL),
    "POST /pixels/new": Row("here", Action.CREATE_PIXEL, body=slug, works=303),
    "GET /pixels/slug": SIGNED_IN,
    "GET /pixels/<uuid:pixel_id>": READ,
    "GET /pixels/<uuid:pixel_id>/embed": READ,
    "GET /preview/<token>.gif": Row("anybody", works=404),
    "GET /pixels/<uuid:pixel_id>/newest": READ,
    "GET /pixels/<uuid:pixel_id>/by/<dimension>": READ,
    "GET /pixels/<uuid:pixel_id>/export.<any(csv, jsonl):form>": READ,
    "GET /pixels/<uuid:pixel_id>/settings": READ,
    "POST /pixels/<uuid:pixel_id>/settings": pixel(
        Action.CHANGE_PIXEL, body=slug, works=303, subjects=("team", "owner")
    ),
    "POST /pixels/<uuid:pixel_id>/privacy": pixel(
        Action.CHANGE_PIXEL, body={"privacy": "full"}, works=303
    ),
    "GET /pixels/<uuid:pixel_id>/start-anew": pixel(Action.CHANGE_PIXEL),
    "POST /pixels/<uuid:pixel_id>/start-anew": pixel(Action.CHANGE_PIXEL, works=303),
    "POST /pixels/<uuid:pixel_id>/shares": pixel(
        Action.CHANGE_PIXEL, body={"name": "Made"}, works=303
    ),
    "GET /pixels/<uuid:pixel_id>/shares/<uuid:share_id>/end": pixel(Action.CHANGE_PIXEL),
    "POST /pixels/<uuid:pixel_id>/shares/<uuid:share_id>/end": pixel(
        Action.CHANGE_PIXEL, works=303
    ),
    "POST /pixels/<uuid:pixel_id>/delete": pixel(Action.CHANGE_PIXEL, works=400),
    "GET /pixels/<uuid:pixel_id>/recipients": READ,
    "GET /pixels/<uuid:pixel_id>/links": pixel(Action.CHANGE_PIXEL),
    "POST /pixels/<uuid:pixel_id>/links": pixel(
        Action.CHANGE_PIXEL, body={"list": "a@example.org"}
    ),
    "POST /pixels/<uuid:pixel_id>/links/make": pixel(
        Action.CHANGE_PIXEL, body={"list": "a@example.org"}
    ),
    "GET /pixels/<uuid:pixel_id>/links/<int:issued_ms>/take-back": pixel(Action.CHANGE_PIXEL),
    "POST /pixels/<uuid:pixel_id>/links/<int:issued_ms>/take-back": pixel(
        Action.CHANGE_PIXEL, works=303
    ),
    "GET /pixels/<uuid:pixel_id>/opted-out": READ,
    "POST /pixels/<uuid:pixel_id>/people": pixel(
        Action.CHANGE_PIXEL, body={"do": "remove", "names": "nobody"}
    ),
    "POST /pixels/<uuid:pixel_id>/people/do": pixel(
        Action.CHANGE_PIXEL, body={"do": "remove", "names": "nobody"}, works=303
    ),
    "POST /pixels/<uuid:pixel_id>/sending": pixel(Action.CHANGE_PIXEL, works=303),
    "GET /pixels/<uuid:pixel_id>/move": pixel(Action.CHANGE_PIXEL, works=400),
    "POST /pixels/<uuid:pixel_id>/move": pixel(Action.CHANGE_PIXEL, works=400),
    "GET /compare": Row("signed in", works=400),
    "GET /person": Row("signed in", works=400),
    "GET /person/opt-out": Row("signed in", works=400),
    "POST /person/opt-out": Row("signed in", works=400),
    "GET /person/forget": Row("signed in", works=400),
    "POST /person/forget": Row("signed in", works=400),
    "GET /person.<any(csv, json):form>": Row("signed in", works=400),
    "GET /pixels/<uuid:pixel_id>/recipients.csv": READ,
    **{f"GET /share/<slug>{path}": ANYBODY for path in ("", "/newest", "/by/<dimension>")},
    "GET /opt-out/<token>": Row("anybody", works=404),
    "POST /opt-out/<token>": Row("anybody", works=404),
    "GET /webhooks": SIGNED_IN,
    "POST /webhooks": pixel(
        Action.CHANGE_PIXEL,
        body=lambda subject: {
            **{"url": "https://8.8.8.8/", "events": "hit"},
            "reach": f"pixel:{subject.pixel.id}",
        },
    ),
    "GET /webhooks/<uuid:webhook_id>": pixel(Action.CHANGE_PIXEL),
    "POST /webhooks/<uuid:webhook_id>/status": pixel(
        Action.CHANGE_PIXEL, body={"status": "paused"}, works=303
    ),
    # Its secret was made with a key that the server doesn't have.
    "POST /webhooks/<uuid:webhook_id>/test": pixel(Action.CHANGE_PIXEL, works=400),
    "GET /webhooks/<uuid:webhook_id>/delete": pixel(Action.CHANGE_PIXEL),
    "POST /webhooks/<uuid:webhook_id>/delete": pixel(Action.CHANGE_PIXEL, works=303),
    "GET /account": SIGNED_IN,
    "POST /account/password": Row("signed in", works=400),
    "POST /account/keys": Row("signed in", body={"name": "made"}),
    "GET /account/keys/<uuid:key_id>/revoke": Row("own key"),
    "POST /account/keys/<uuid:key_id>/revoke": Row("own key", works=303),
    "GET /teams": SIGNED_IN,
    "POST /teams": Row("here", Action.CREATE_TEAM, body={"name": "Made"}, works=303),
    "POST /teams/join": Row("signed in", body=access_code, works=303),
    "GET /teams/<uuid:team_id>": Row("team", Action.READ_TEAM),
    "POST /teams/<uuid:team_id>": Row(
        "team", Action.CHANGE_TEAM, body={"name": "Renamed"}, works=303
    ),
    "GET /teams/<uuid:team_id>/code": Row("team", Action.CHANGE_TEAM),
    "POST /teams/<uuid:team_id>/code": Row("team", Action.CHANGE_TEAM, works=303),
    "POST /teams/<uuid:team_id>/members/<uuid:user_id>": Row(
        "team", Action.MANAGE_MEMBERS, body={"role": "team-view-only"}, works=303
    ),
    "GET /teams/<uuid:team_id>/members/<uuid:user_id>/remove": Row("team", Action.MANAGE_MEMBERS),
    "POST /teams/<uuid:team_id>/members/<uuid:user_id>/remove": Row(
        "team", Action.MANAGE_MEMBERS, works=303
    ),
    "GET /teams/<uuid:team_id>/leave": Row("team", Action.READ_TEAM),
    "POST /teams/<uuid:team_id>/leave": Row(
        "team", Action.READ_TEAM, works=303, but={"team-owner": 400, "admin": 404}
    ),
    "POST /teams/<uuid:team_id>/delete": Row("team", Action.DELETE_TEAM, works=400),
    "GET /users": USERS,
    "POST /users": Row("here", Action.MANAGE_USERS, works=400),
    "GET /users/<uuid:user_id>": USERS,
    "POST /users/<uuid:user_id>": Row("here", Action.MANAGE_USERS, works=303),
    "GET /users/<uuid:user_id>/delete": USERS,
    "POST /users/<uuid:user_id>/delete": Row("here", Action.MANAGE_USERS, works=400),
    "GET /invite": USERS,
    "POST /invite": Row("here", Action.MANAGE_USERS, body={"role": "user", "teamId": ""}),
    "GET /invitation/<token>": Row("anybody", works=404),
    "POST /invitation/<token>": Row("anybody", works=404),
}

# The same routes once more, where the body says in which team.
IN_A_TEAM = {
    "POST /api/pixels": Row(
        "in team",
        Action.CREATE_PIXEL,
        body=lambda subject: {**slug(subject), "teamId": str(subject.team.id)},
        keys="write",
        takes_limited_keys=True,
    ),
}

# A test asks for all kinds of callers: a test for each would spend more on itself than on asking.
CASES = [
    pytest.param(route, row, subject, id=f"{route} {subject}")
    for route, row in (*API.items(), *IN_A_TEAM.items(), *PAGES.items())
    for subject in row.subjects
]


# --- What must come of it


def expected(route: str, row: Row, subject: str, kind: Kind) -> int:
    """Return the status that the table of permissions leads to."""
    is_page = " /api" not in route
    unauthorized = 303 if is_page else 401
    if row.scope == "anybody":
        return 403 if kind in KEYS and row.keys == "none" else row.works
    if row.takes_share and kind is GUEST:
        return row.works
    if row.takes_share and kind is GUEST_OF_ANOTHER:
        return row.but.get(kind.name, 404)
    if kind.role is None or (is_page and kind in KEYS):
        return unauthorized
    if kind in KEYS and not _reaches(route, row, subject, kind):
        return 403
    if row.scope == "user" and row.action is None and kind.name == "owner":
        return row.works
    if kind.name in row.but:
        return row.but[kind.name]
    if kind.role == Role.ADMIN or row.scope in ("signed in", "own key"):
        return row.works
    may_know, may = _rights(row, subject, kind)
    return row.works if may_know and may else 403 if may_know else 404


def _reaches(route: str, row: Row, subject: str, kind: Kind) -> bool:
    """Return whether a key reaches a route, and what it is asked about."""
    if row.keys == "none":
        return False
    if kind in (READ_KEY, WRITE_KEY) and not route.startswith("GET"):
        return row.keys == "every" or (row.keys == "write" and kind is WRITE_KEY)
    if kind not in LIMITED_KEYS:
        return True
    if not row.takes_limited_keys and not any(name in route for name in ("pixel_id", "team_id")):
        return False
    if row.scope == "pixel":
        # What the key's user may not know of stays unknown.
        return subject != "team" or kind in (PIXEL_KEY, TEAM_KEY)
    return row.scope == "signed in" or (row.scope in ("team", "in team") and kind is TEAM_KEY)


def _rights(row: Row, subject: str, kind: Kind) -> tuple[bool, bool]:
    """Return whether the caller may know of the subject, and whether do the action to it."""
    assert kind.role
    here = row.action in ROLE_ACTIONS[kind.role]
    if row.scope == "here":
        return True, here
    if row.scope == "user":
        return kind.name == "owner", here
    if row.scope == "pixel" and subject != "team":
        return kind.name == subject, here
    if kind.team_role is None:
        return False, False
    in_team = row.action in TEAM_ROLE_ACTIONS[kind.team_role]
    return True, in_team and (here or row.scope != "in team")


# --- The world they meet in


class World:
    """Users of every kind, their team and their pixels.

    Who may do what is decided within the application, so that it is asked there: the network
    would add nothing, for thousands of requests.
    """

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.document: dict[str, Any] = app.extensions["api_document"].to_dict()
        with self.app.app_context():
            self.users = {kind.name: self._user(kind.role) for kind in PEOPLE if kind.role}
            self.users["extra"] = self._user(Role.USER)
            self.team = self.new_team()
            self.pixels = {name: self.new_pixel(name) for name in ("team", "owner", "view-only")}
            self.shares = {
                name: shares.create(owned, name, {}) for name, owned in self.pixels.items()
            }
            self.another = shares.create(self.new_pixel("owner"), "another", {})
            self.credentials = self._credentials()

    @staticmethod
    def _user(role: Role) -> User:
        user = User(username=unique(role), password_hash=passwords.NOBODYS_HASH, role=role)
        db.session.add(user)
        db.session.commit()
        return user

    def new_team(self) -> Team:
        team, _ = teams.create_team("Team", self.users["team-owner"])
        for kind in PEOPLE:
            if kind.team_role and kind.team_role != TeamRole.OWNER:
                teams.add_member(team, self.users[kind.name], kind.team_role)
        return team

    def new_pixel(self, subject: str) -> Pixel:
        is_team = subject == "team"
        owner = Owner(team_id=self.team.id) if is_team else Owner(self.users[subject].id)
        return pixels.create("Pixel", unique("matrix"), owner)

    def _credentials(self) -> dict[str, str]:
        revoked = auth.issue_token(self.users["stranger"])
        auth.revoke_token(revoked, now())
        gone, outdated = self._user(Role.USER), self._user(Role.ADMIN)
        of_gone, of_outdated = auth.issue_token(gone), auth.issue_token(outdated)
        accounts.remove_user(gone)
        accounts.change_user(outdated, password="another password")
        row, revoked_key = accounts.create_key(self.users["admin"], "revoked")
        accounts.revoke_key(self.users["admin"], row.id)
        admin = self.users["admin"]
        return {
            "deleted user": of_gone,
            "revoked token": revoked,
            "token before the password": of_outdated,
            "expired token": self._tokens(Expired).dumps([admin.id.hex, 0, "0"]),
            "forged token": self._tokens(TimestampSigner, "guessed").dumps([admin.id.hex, 0, "0"]),
            "revoked key": revoked_key,
            "expired key": self._expired_key(),
            KEY.name: self._key(),
            READ_KEY.name: self._key(scope=Scope.READ),
            WRITE_KEY.name: self._key(scope=Scope.WRITE),
            **{kind.name: self._key(pixel_id=uuid.uuid4()) for kind in LIMITED_KEYS},
        }

    def _key(self, **limits: Any) -> str:
        return accounts.create_key(self.users["team-owner"], "key", **limits)[1]

    def _expired_key(self) -> str:
        row, key = accounts.create_key(self.users["team-owner"], "key")
        row.expires_at = now() - timedelta(days=1)
        db.session.commit()
        return key

    def _limit(self, kind: Kind, subject: Subject) -> None:
        """Limit a key of that kind to what the request is about, or to something else."""
        another = uuid.uuid4()
        pixel_id, team_id = {
            PIXEL_KEY: (subject.pixel.id, None),
            OTHER_PIXEL_KEY: (another, None),
            TEAM_KEY: (None, subject.team.id),
            OTHER_TEAM_KEY: (None, another),
        }[kind]
        prefix = self.credentials[kind.name][: auth.KEY_PREFIX_CHARACTERS]
        limited = update(ApiKey).where(ApiKey.key_prefix == prefix)
        db.session.execute(limited.values(pixel_id=pixel_id, team_id=team_id))
        db.session.commit()

    def _tokens(self, signer: type[TimestampSigner], *keys: str) -> URLSafeTimedSerializer:
        genuine = auth._tokens()
        return URLSafeTimedSerializer(
            list(keys) or genuine.secret_keys,
            salt="token",
            signer=signer,
            signer_kwargs=genuine.signer_kwargs,
        )

    def headers(self, kind: Kind, subject: Subject, *, page: bool) -> dict[str, str]:
        """Return what a caller of that kind sends to say who they are."""
        if kind in (GUEST, GUEST_OF_ANOTHER) or "share" in kind.name:
            return self._share_headers(kind, subject)
        if kind in LIMITED_KEYS:
            self._limit(kind, subject)
        token = self.credentials.get(kind.name)
        if kind in PEOPLE:
            token = auth.issue_token(self.users[kind.name])
        if page and kind not in KEYS:
            return {"Cookie": self.cookie(token=token)}
        return {"Authorization": f"Bearer {token}"} if token else {}

    def cookie(self, **values: Any) -> str:
        """Return the cookie of a session whose forms carry `FORM_TOKEN`."""
        serializer = self.app.session_interface.get_signing_serializer(self.app)
        return f"pixelkeep={serializer.dumps({'form_token': FORM_TOKEN, **values})}"

    def _share_headers(self, kind: Kind, subject: Subject) -> dict[str, str]:
        share = self.another if kind is GUEST_OF_ANOTHER else subject.share
        if kind.name == "revoked share":
            share = shares.create(subject.pixel, "revoked", {})
            shares.remove(share)
        token = {"x-umami-share-token": auth.issue_share_token(share)}
        if kind.name == "share without its context":
            return token
        return {**token, "x-umami-share-context": "1"}

    def subject(self, route: str, row: Row, name: str, kind: Kind) -> Subject:
        """Return what the request is about; made anew if the request may end or change it."""
        changes = route.startswith(("POST", "DELETE"))
        found = self.new_pixel(name) if row.scope == "pixel" and changes else self.pixels[name]
        ends = "share_id" in route and changes
        share = shares.create(found, "fresh", {}) if ends else self.shares[name]
        team = self._team_for(route, row) if changes else self.team
        owner_of_key = self.users.get(kind.name, self.users["owner"])
        if kind in KEYS:
            owner_of_key = self.users["team-owner"]
        key_id = accounts.create_key(owner_of_key, "own")[0].id if "key_id" in route else team.id
        user_id = self._user_for(route, row, kind, team)
        webhook_id = self._webhook(found) if "/webhooks" in route else team.id
        return Subject(found, team, share, user_id, key_id, webhook_id)

    @staticmethod
    def _webhook(pixel: Pixel) -> uuid.UUID:
        """Make the one webhook that there is; an owner may have few."""
        db.session.execute(delete(Webhook))
        made = Webhook(
            **{"user_id": pixel.user_id, "team_id": pixel.team_id, "pixel_id": pixel.id},
            **{"url": "http://127.0.0.1:9/", "events": ["hit"], "secret_hash": "", "cursor": 0},
            **{"aside": [], "log": []},
        )
        db.session.add(made)
        db.session.commit()
        return made.id

    def ask(
        self, method: str, path: str, headers: dict[str, str], content: str | None
    ) -> TestResponse:
        """Answer a request as the server would, in a context of its own."""
        client = self.app.test_client(use_cookies=False)
        return contextvars.Context().run(
            client.open, path, method=method, headers=headers, data=content, buffered=True
        )

    def _team_for(self, route: str, row: Row) -> Team:
        if route.endswith("/join"):
            return teams.create_team("To join", self.users["extra"])[0]
        return self.new_team() if row.scope == "team" else self.team

    def _user_for(self, route: str, row: Row, kind: Kind, team: Team) -> uuid.UUID:
        if row.scope == "user":
            # The caller is this user, or somebody else asks after them.
            may_end = row.action and kind.role == Role.ADMIN
            return (self._user(Role.USER) if may_end else self.users["owner"]).id
        if "<uuid:team_id>" in route and "<uuid:user_id>" in route:
            teams.set_member(team, self.users["extra"], TeamRole.MEMBER)
        return self.users["extra"].id


class Expired(TimestampSigner):
    def get_timestamp(self) -> int:
        return super().get_timestamp() - (auth.TOKEN_DAYS_MAX + 1) * 86_400


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    # One database will do for so many: who may what is the same code on both. What a power cut
    # would leave of it is not asked here.
    chosen = settings.load(
        {
            "PIXELKEEP_DATA_DIR": str(tmp_path_factory.mktemp("data")),
            "PIXELKEEP_ADMIN_PASSWORD": PASSWORD,
            "PIXELKEEP_SYNCHRONOUS": "NORMAL",
        }
    )
    secret_keys.ensure_secret(chosen)
    app = create_app(chosen)
    prepare(app)
    return World(app)


@pytest.mark.parametrize(("route", "row", "subject"), CASES)
def test_callers_get_what_the_table_gives(world: World, route: str, row: Row, subject: str) -> None:
    kinds = [kind for kind in KINDS if kind not in NOBODIES or subject == row.subjects[0]]
    wrong = {}
    for kind in kinds:
        with world.app.app_context():
            wrong[kind.name] = _problem(world, route, row, subject, kind)
    assert {name: problem for name, problem in wrong.items() if problem} == {}


def _problem(world: World, route: str, row: Row, subject: str, kind: Kind) -> str | None:
    """Ask as a caller of a kind; return how the answer differs from what the table gives."""
    about = world.subject(route, row, subject, kind)
    is_page = " /api" not in route
    headers = world.headers(kind, about, page=is_page)
    method, path = _request(route, row, about)
    body = row.body(about) if callable(row.body) else row.body
    content = None
    if method == "POST" and is_page:
        content = urlencode({"form_token": FORM_TOKEN, **body})
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        headers.setdefault("Cookie", world.cookie())
    elif method == "POST":
        content = json.dumps(body)
        headers["Content-Type"] = "application/json"
    answer = world.ask(method, path, headers, content)
    status, wanted = answer.status_code, expected(route, row, subject, kind)
    if status != wanted:
        return f"{status} and not {wanted}: {answer.text}"
    if not is_page:
        codes = _documented(world, route, status)
        if status >= 400 and answer.json["error"]["code"] not in codes:
            return f"{status} without its code: {answer.text}"
    return None


def _documented(world: World, route: str, status: int) -> set[str]:
    """Return the codes that the API's document names for a status of a route, which it must have.

    A path of Umami's is documented where ours stands.
    """
    method, _, rule = route.partition(" ")
    paths = world.document["paths"]
    path = re.sub(r"<(?:uuid:)?(\w+)>", r"{\1}", rule)
    twin = path.replace("/api/websites/", "/api/pixels/")
    found = paths.get(path) or paths[twin]
    answers = found[method.lower()]["responses"]
    assert str(status) in answers, f"{route} does not declare {status}"
    content = answers[str(status)]["content"].values()
    return {code for kind in content for code in kind.get("examples", {})}


def test_every_route_has_a_row(world: World) -> None:
    routes = {
        f"{method} {rule.rule}"
        for rule in world.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule not in SERVICE
    }
    assert routes - {*API, *PAGES} == set(), "routes without a row"
    assert {*API, *PAGES} - routes == set(), "rows without a route"


def _request(route: str, row: Row, about: Subject) -> tuple[str, str]:
    method, _, path = route.partition(" ")
    values = {
        "<uuid:pixel_id>": about.pixel.id,
        "<uuid:team_id>": about.team.id,
        "<uuid:user_id>": about.user_id,
        "<uuid:key_id>": about.key_id,
        "<uuid:share_id>": about.share.id,
        "<uuid:webhook_id>": about.webhook_id,
        "<slug>": about.share.slug,
        "<token>": "forged",
        "<dimension>": "browser",
        "<int:issued_ms>": 1,
        "<any(csv, json):form>": "csv",
        "<any(csv, jsonl):form>": "csv",
    }
    for name, value in values.items():
        path = path.replace(name, str(value))
    query = row.query(about) if callable(row.query) else row.query
    return method, f"{path}?{urlencode(query)}" if query else path
