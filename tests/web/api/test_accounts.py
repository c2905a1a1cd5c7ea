"""Users, teams, members, tokens and keys: what the permissions' matrix doesn't say of them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.conftest import PASSWORD, Client, Server, new_user, unique, wait_until

SECRETS = ("password", "secret", "password_hash", "passwordHash", "generation")


def login(server: Server, username: str, password: str = PASSWORD) -> Client:
    answer = server.admin.post("/api/auth/login", {"username": username, "password": password})
    assert answer.status == 200, answer.body
    return server.admin.with_token(answer.json["token"])


def user_id(client: Client) -> str:
    return client.get("/api/me").json["user"]["id"]


def new_team(owner: Client) -> dict[str, Any]:
    return owner.post("/api/teams", {"name": "Team"}).json[0]


def user_of(server: Server, role: str = "user") -> Client:
    return server.admin.with_token(new_user(server, role)[1])


def add(team: dict[str, Any], owner: Client, member: Client, role: str = "team-member") -> None:
    path = f"/api/teams/{team['id']}/users"
    assert owner.post(path, {"userId": user_id(member), "role": role}).status == 200


def change(team: dict[str, Any], by: Client, member: Client, role: str) -> int:
    path = f"/api/teams/{team['id']}/users/{user_id(member)}"
    return by.post(path, {"role": role}).status


# --- Signing in


def test_login_answers_a_token_and_the_user_with_teams(server: Server) -> None:
    username, _ = new_user(server)
    client = login(server, username)
    team = new_team(client)
    credentials = {"username": username, "password": PASSWORD}
    user = server.admin.post("/api/auth/login", credentials).json["user"]
    assert list(user) == ["id", "username", "role", "createdAt", "isAdmin", "teams"]
    assert user["teams"] == [{"id": team["id"], "name": "Team", "logoUrl": None}]
    assert client.post("/api/auth/verify").json == user
    assert client.get("/api/auth/verify").json == user


@pytest.mark.parametrize("wrong", ["username", "password"])
def test_login_with_a_wrong_name_or_password_says_the_same(server: Server, wrong: str) -> None:
    username, _ = new_user(server)
    credentials = {"username": username, "password": PASSWORD, wrong: unique("wrong")}
    answer = server.admin.post("/api/auth/login", credentials)
    assert answer.status == 401
    assert answer.code == "incorrect-username-password"
    assert answer.json["error"]["message"] == "Incorrect username or password."


def test_logout_ends_the_token_in_every_process(server: Server) -> None:
    username, _ = new_user(server)
    client, another = login(server, username), login(server, username)
    assert client.post("/api/auth/logout").json == {"ok": True}
    assert {client.get("/api/me").status for _ in range(8)} == {401}
    assert another.get("/api/me").status == 200


def test_password_change_ends_every_older_token(server: Server) -> None:
    username, token = new_user(server)
    client, another = server.admin.with_token(token), login(server, username)
    key = client.post("/api/me/api-keys", {"name": "stays"}).json["key"]
    passwords = {"currentPassword": PASSWORD, "newPassword": "another password"}
    answer = client.post("/api/me/password", passwords)
    assert answer.status == 200
    assert list(answer.json) == ["id", "username", "role", "createdAt"]
    assert client.get("/api/me").status == another.get("/api/me").status == 401
    assert login(server, username, "another password").get("/api/me").status == 200
    assert client.with_token(key).get("/api/me").status == 200


def test_password_change_needs_the_current_one(server: Server) -> None:
    _, token = new_user(server)
    client = server.admin.with_token(token)
    passwords = {"currentPassword": "wrong", "newPassword": "another password"}
    answer = client.post("/api/me/password", passwords)
    assert (answer.status, answer.code) == (400, "bad-request")
    assert client.get("/api/me").status == 200


@pytest.mark.parametrize("changed", [{"password": "another password"}, {"role": "view-only"}])
def test_admin_changing_password_or_role_ends_the_users_tokens(
    server: Server, admin: Client, changed: dict[str, str]
) -> None:
    client = user_of(server)
    path = f"/api/users/{user_id(client)}"
    assert admin.post(path, {"username": unique("renamed")}).status == 200
    assert admin.post(path, {"role": "user"}).status == 200
    assert client.get("/api/me").status == 200
    assert admin.post(path, changed).status == 200
    assert client.get("/api/me").status == 401


@hypothesis_settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.from_regex(
        r"[ -~\xa0-\xff]{0,200}"
        r"|(Bearer|bearer|Basic) [!-~]{0,80}"
        r"|Bearer pk_[!-~]{0,60}\.[A-Za-z0-9_-]{43}"
        r"|Bearer [A-Za-z0-9_-]{0,90}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{43}",
        fullmatch=True,
    )
)
def test_whatever_is_no_token_of_ours_lets_nobody_in(server: Server, header: str) -> None:
    value = header.strip().encode("latin-1")
    client = server.admin.with_token(None)
    assert client.get("/api/me", headers={"Authorization": value}).status == 401


# --- Keys


def test_key_is_shown_once_and_listed_by_prefix_and_day(server: Server) -> None:
    client = user_of(server)
    made = client.post("/api/me/api-keys", {"name": " deploy "}).json
    limits = ["scope", "pixelId", "teamId", "expiresAt"]
    assert list(made) == ["id", "name", "keyPrefix", "createdAt", *limits, "key"]
    assert [made[name] for name in limits] == ["all", None, None, None]
    assert made["name"] == "deploy"
    assert made["key"].startswith(made["keyPrefix"])
    listed = client.get("/api/me/api-keys").json
    assert [list(key) for key in listed] == [
        ["id", "name", "keyPrefix", "createdAt", *limits, "lastUsedAt"]
    ]
    assert listed[0]["lastUsedAt"] is None
    assert client.with_token(made["key"]).get("/api/me").status == 200
    used = client.get("/api/me/api-keys").json[0]["lastUsedAt"]
    assert used == f"{made['createdAt'][:10]}T00:00:00.000Z"


def test_key_ends_at_once_and_only_for_its_owner(server: Server, stranger: Client) -> None:
    client = user_of(server)
    made = client.post("/api/me/api-keys", {"name": "k"}).json
    assert stranger.delete(f"/api/me/api-keys/{made['id']}").status == 404
    assert client.with_token(made["key"]).get("/api/me").status == 200
    assert client.delete(f"/api/me/api-keys/{made['id']}").json == {"ok": True}
    assert client.with_token(made["key"]).get("/api/me").status == 401


def test_key_ends_at_its_time(server: Server) -> None:
    client = user_of(server)
    ends_at = datetime.now(UTC) + timedelta(seconds=2)
    made = client.post("/api/me/api-keys", {"name": "k", "expiresAt": ends_at.isoformat()}).json
    assert client.with_token(made["key"]).get("/api/me").status == 200
    wait_until(lambda: datetime.now(UTC) > ends_at)
    ended = client.with_token(made["key"]).get("/api/me")
    assert (ended.status, ended.json["error"]["code"]) == (401, "unauthorized")


def test_key_to_read_reads_all_that_its_user_may_and_changes_nothing(server: Server) -> None:
    client = user_of(server)
    pixel = client.create_pixel()
    made = client.post("/api/me/api-keys", {"name": "k", "scope": "read"}).json
    reader = client.with_token(made["key"])
    assert reader.get(f"/api/pixels/{pixel['id']}").json["slug"] == pixel["slug"]
    for refused in (
        reader.post(f"/api/pixels/{pixel['id']}", {"name": "changed"}),
        reader.delete(f"/api/pixels/{pixel['id']}"),
        reader.get("/api/me/api-keys"),
    ):
        assert (refused.status, refused.json["error"]["code"]) == (403, "key-scope")
    assert reader.post("/api/auth/verify").status == 200
    assert client.get(f"/api/pixels/{pixel['id']}").json["name"] == pixel["name"]


def test_key_of_a_pixel_reaches_no_other_and_ends_with_it(server: Server) -> None:
    client = user_of(server)
    pixel, another = client.create_pixel(), client.create_pixel()
    made = client.post("/api/me/api-keys", {"name": "k", "pixelId": pixel["id"]}).json
    holder = client.with_token(made["key"])
    assert holder.get(f"/api/pixels/{pixel['id']}").status == 200
    beyond = holder.get(f"/api/pixels/{another['id']}")
    assert (beyond.status, beyond.json["error"]["code"]) == (403, "key-scope")
    ids = {"ids": f"{pixel['id']},{another['id']}"}
    charts = holder.get(f"/api/pixels/charts?{urlencode(ids)}").json["data"]
    assert list(charts) == [pixel["id"]]
    assert client.delete(f"/api/pixels/{pixel['id']}").status == 200
    assert holder.get(f"/api/pixels/{another['id']}").status == 403
    assert holder.get("/api/pixels").status == 403


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({"scope": "admin"}, 400),
        ({"scope": None}, 400),
        ({"pixelId": "x"}, 400),
        ({"pixelId": "00000000-0000-4000-8000-000000000000"}, 404),
        ({"teamId": "00000000-0000-4000-8000-000000000000"}, 404),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, 400),
        ({"expiresAt": "tomorrow"}, 400),
    ],
)
def test_key_with_limits_that_are_none_is_refused(
    server: Server, limits: dict[str, Any], status: int
) -> None:
    client = user_of(server)
    assert client.post("/api/me/api-keys", {"name": "k", **limits}).status == status
    assert client.get("/api/me/api-keys").json == []


def test_user_has_a_hundred_keys_at_most(server: Server) -> None:
    client = user_of(server)
    statuses = [client.post("/api/me/api-keys", {"name": "k"}).status for _ in range(101)]
    assert statuses == [200] * 100 + [400]


def test_neither_password_nor_key_is_stored_in_clear(server: Server) -> None:
    username, token = new_user(server)
    client = server.admin.with_token(token)
    key = client.post("/api/me/api-keys", {"name": "k"}).json["key"]
    rows = str(server.query("SELECT * FROM users")) + str(server.query("SELECT * FROM api_keys"))
    assert username in rows
    assert PASSWORD not in rows
    assert key not in rows
    assert key not in server.log
    assert PASSWORD not in server.log


# --- Users


def test_user_is_created_listed_and_never_shown_with_a_secret(admin: Client) -> None:
    name, given_id = unique("listed"), str(uuid.uuid4())
    body = {"username": name, "password": PASSWORD, "role": "view-only", "id": given_id}
    assert admin.post("/api/users", body).json["id"] == given_id
    for path in ("/api/users", "/api/admin/users"):
        page = admin.get(f"{path}?search={name.upper()}").json
        assert [user["id"] for user in page["data"]] == [given_id]
        assert not any(secret in str(page) for secret in SECRETS)
    newest = admin.get("/api/users?pageSize=1").json
    assert newest["data"][0]["id"] == given_id
    assert newest["count"] > 1
    by_name = admin.get("/api/users?orderBy=username&pageSize=100").json["data"]
    assert [user["username"] for user in by_name] == sorted(user["username"] for user in by_name)


def test_user_with_a_name_or_an_id_in_use_is_refused(server: Server, admin: Client) -> None:
    username, _ = new_user(server)
    body = {"username": username, "password": PASSWORD, "role": "user"}
    assert admin.post("/api/users", body).code == "username-taken"
    taken_id = admin.get(f"/api/users?search={username}").json["data"][0]["id"]
    other = {**body, "username": unique("other"), "id": taken_id}
    assert admin.post("/api/users", other).code == "id-taken"
    assert admin.post("/api/users", other).status == 409
    second = user_id(user_of(server))
    assert admin.post(f"/api/users/{second}", {"username": username}).code == "username-taken"


def test_last_admin_is_neither_deleted_nor_demoted(server: Server, admin: Client) -> None:
    me = user_id(admin)
    assert admin.delete(f"/api/users/{me}").status == 400
    others = admin.get("/api/users?pageSize=100").json["data"]
    for other in others:
        if other["role"] == "admin" and other["id"] != me:
            assert admin.post(f"/api/users/{other['id']}", {"role": "user"}).status == 200
    answer = admin.post(f"/api/users/{me}", {"role": "user"})
    assert answer.status == 400
    assert "last admin" in answer.json["error"]["message"]
    assert server.cli("users", "delete", "admin", "--yes", check=False).returncode != 0
    assert admin.get("/api/users").status == 200


def test_deleted_users_pixels_go_and_a_teams_stay(server: Server, admin: Client) -> None:
    owner, member = user_of(server), user_of(server)
    team = new_team(owner)
    add(team, owner, member)
    own = owner.create_pixel()
    shared = owner.create_pixel(teamId=team["id"])
    assert admin.delete(f"/api/users/{user_id(owner)}").json == {"ok": True}
    assert owner.get("/api/me").status == 401
    assert admin.get(f"/p/{own['slug']}").status == 404
    assert member.get(f"/api/pixels/{shared['id']}").status == 200
    assert admin.get(f"/p/{shared['slug']}").status == 200
    # The team has no owner now; an admin names another.
    assert change(team, admin, member, "team-owner") == 200
    assert member.delete(f"/api/teams/{team['id']}").status == 200


# --- Teams


def test_team_is_joined_by_its_code_and_listed(server: Server, stranger: Client) -> None:
    owner = user_of(server)
    team = new_team(owner)
    joined = stranger.post("/api/teams/join", {"accessCode": team["accessCode"]}).json
    assert (joined["teamId"], joined["role"]) == (team["id"], "team-member")
    again = stranger.post("/api/teams/join", {"accessCode": team["accessCode"]})
    assert (again.status, again.code) == (400, "bad-request")
    for path in ("/api/teams", "/api/me/teams", f"/api/users/{user_id(stranger)}/teams"):
        page = stranger.get(f"{path}?search=EAM").json
        assert [row["id"] for row in page["data"]] == [team["id"]]
        assert page["data"][0]["accessCode"] is None, "a member could hand it on"
    members = owner.get(f"/api/teams/{team['id']}/users").json["data"]
    assert [member["role"] for member in members] == ["team-owner", "team-member"]
    assert set(members[1]["user"]) == {"id", "username"}


def test_new_code_ends_the_old_one_and_is_no_other_teams(server: Server, stranger: Client) -> None:
    owner = user_of(server)
    team, other = new_team(owner), new_team(owner)
    path, code = f"/api/teams/{team['id']}", unique("a-chosen-code")
    assert owner.post(path, {"accessCode": code}).json["accessCode"] == code
    old = {"accessCode": team["accessCode"]}
    assert stranger.post("/api/teams/join", old).status == 404
    taken = owner.post(f"/api/teams/{other['id']}", {"accessCode": code})
    assert (taken.status, taken.code) == (409, "access-code-taken")
    assert stranger.post("/api/teams/join", {"accessCode": code}).status == 200


def test_only_an_owner_makes_and_unmakes_owners(server: Server, admin: Client) -> None:
    owner, manager, member = user_of(server), user_of(server), user_of(server)
    team = new_team(owner)
    add(team, owner, manager, "team-manager")
    add(team, manager, member)
    assert change(team, manager, manager, "team-owner") == 403
    assert change(team, manager, member, "team-owner") == 403
    assert change(team, manager, owner, "team-member") == 403
    assert change(team, member, member, "team-manager") == 403
    path = f"/api/teams/{team['id']}/users"
    assert manager.delete(f"{path}/{user_id(owner)}").status == 403
    new = {"userId": user_id(user_of(server)), "role": "team-owner"}
    assert manager.post(path, new).status == 403
    assert change(team, owner, member, "team-owner") == 200
    assert change(team, member, owner, "team-member") == 200
    assert change(team, admin, owner, "team-owner") == 200


def test_only_owner_stays_until_there_is_another(server: Server) -> None:
    owner, member = user_of(server), user_of(server)
    team = new_team(owner)
    add(team, owner, member)
    path = f"/api/teams/{team['id']}/users"
    assert owner.delete(f"{path}/{user_id(owner)}").status == 400
    assert change(team, owner, owner, "team-member") == 400
    assert member.delete(f"{path}/{user_id(member)}").status == 200
    assert member.get(f"/api/teams/{team['id']}").status == 404
    add(team, owner, member, "team-owner")
    assert owner.delete(f"{path}/{user_id(owner)}").status == 200
    assert owner.get(f"/api/teams/{team['id']}").status == 404


def test_deleting_a_team_deletes_its_pixels(server: Server) -> None:
    owner = user_of(server)
    team = new_team(owner)
    pixel = owner.create_pixel(teamId=team["id"])
    assert owner.delete(f"/api/teams/{team['id']}").json == {"ok": True}
    assert owner.get(f"/p/{pixel['slug']}").status == 404
    assert owner.get(f"/api/pixels/{pixel['id']}").status == 404


def test_admin_makes_a_team_for_another_owner(server: Server, admin: Client) -> None:
    owner = user_of(server)
    wanted = {"name": "Theirs", "ownerId": user_id(owner)}
    team, membership = admin.post("/api/teams", wanted).json
    assert membership["userId"] == wanted["ownerId"]
    assert owner.get(f"/api/teams/{team['id']}").status == 200
    assert user_of(server).post("/api/teams", wanted).status == 403
