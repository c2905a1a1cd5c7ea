"""A constraint that fails for a reason nobody thought of is ours to find, and is logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import PASSWORD, Answer, Server, unique

TABLES = ("pixels", "users", "teams", "team_users", "api_keys", "shares", "recipients")


@pytest.fixture(scope="module")
def refusing(start_server_for_module: Callable[..., Server]) -> tuple[Server, dict[str, Any], str]:
    """A server whose tables refuse new rows and changes, a pixel and a team that were before."""
    server = start_server_for_module()
    pixel = server.admin.create_pixel()
    team, _ = server.admin.post("/api/teams", {"name": "Team"}).json
    body = {"username": unique("user"), "password": PASSWORD, "role": "user"}
    user = server.admin.post("/api/users", body).json
    share = server.admin.post(f"/api/pixels/{pixel['id']}/shares", {"name": "Share"}).json
    for table in TABLES:
        for event in ("INSERT", "UPDATE"):
            server.execute(
                f"CREATE TRIGGER refuse_{table}_{event} BEFORE {event} ON {table}"
                " BEGIN SELECT RAISE(ABORT, 'nobody thought of this'); END"
            )
    things = {"pixel": pixel["id"], "team": team["id"], "user": user["id"], "share": share["id"]}
    return server, things, share["slug"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/pixels", {"name": "x", "slug": "unthought-of"}),
        ("/api/pixels/{pixel}", {"slug": "unthought-of"}),
        ("/api/pixels/{pixel}/shares", {"name": "x"}),
        ("/api/share/id/{share}", {"slug": "unthought-of"}),
        ("/api/pixels/{pixel}/recipients", {"recipients": ["x"]}),
        ("/api/users", {"username": "unthought", "password": PASSWORD, "role": "user"}),
        ("/api/users/{user}", {"username": "unthought"}),
        ("/api/teams", {"name": "x"}),
        ("/api/teams/{team}", {"name": "unthought of"}),
        ("/api/teams/{team}", {"accessCode": "unthought-of-code"}),
        ("/api/teams/{team}/users", "{member}"),
        ("/api/me/api-keys", {"name": "x"}),
    ],
)
def test_unknown_constraint_is_a_500_with_a_line_in_the_log(
    refusing: tuple[Server, dict[str, Any], str], path: str, body: Any
) -> None:
    server, things, _ = refusing
    if body == "{member}":
        body = {"userId": things["user"], "role": "team-member"}
    logged = server.log.count("nobody thought of this")
    answer: Answer = server.admin.post(path.format(**things), body)
    assert (answer.status, answer.code) == (500, "internal-server-error")
    assert "nobody thought" not in answer.body.decode()
    assert server.log.count("nobody thought of this") > logged
    name = answer.headers["X-Request-Id"]
    assert name in answer.json["error"]["message"]
    assert f"Request {name}, POST " in server.log
