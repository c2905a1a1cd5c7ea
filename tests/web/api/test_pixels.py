"""Pixels over JSON, as the seed and the contract have them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pysqlite3
import pytest

from tests.conftest import Answer, Client, Server, new_user, unique

KEYS = {"id", "name", "slug", "userId", "teamId", "createdAt"}


def create_team(server: Server) -> str:
    """Make a team of the admin's."""
    team, _membership = server.admin.post("/api/teams", {"name": unique("team")}).json
    return str(team["id"])


def team_with(server: Server, role: str, users_role: str = "user") -> tuple[str, Client]:
    """Make a team of the admin's and a user who has a role in it."""
    team_id = create_team(server)
    member = server.admin.with_token(new_user(server, users_role)[1])
    body = {"userId": member.get("/api/me").json["user"]["id"], "role": role}
    assert server.admin.post(f"/api/teams/{team_id}/users", body).status == 200
    return team_id, member


def refused(answer: Answer, field: str) -> None:
    assert answer.status == 400, answer.body
    assert answer.code == "bad-request"
    assert list(answer.json["error"]["errors"]) == [field]


def test_create_as_the_seed_answers_exactly_its_fields(admin: Client) -> None:
    slug = unique("email-campaign")
    answer = admin.post("/api/pixels", {"name": "Email Campaign Tracker", "slug": slug})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    pixel = answer.json
    assert set(pixel) == KEYS
    assert pixel["name"] == "Email Campaign Tracker"
    assert pixel["slug"] == slug
    assert pixel["teamId"] is None
    assert uuid.UUID(pixel["userId"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", pixel["createdAt"])


def test_create_for_a_team_answers_the_team_and_no_user(server: Server, admin: Client) -> None:
    team_id = create_team(server)
    pixel = admin.create_pixel(teamId=team_id)
    assert set(pixel) == KEYS
    assert pixel["teamId"] == team_id
    assert pixel["userId"] is None


def test_create_with_an_id_keeps_it_and_refuses_it_twice(admin: Client) -> None:
    own_id = str(uuid.uuid4())
    assert admin.create_pixel(id=own_id)["id"] == own_id
    again = admin.post("/api/pixels", {"name": "x", "slug": unique("x"), "id": own_id})
    assert (again.status, again.code) == (409, "id-taken")


def test_create_with_nulls_counts_them_as_left_out(admin: Client) -> None:
    pixel = admin.create_pixel(id=None, teamId=None)
    assert uuid.UUID(pixel["id"])
    assert pixel["teamId"] is None


def test_create_with_a_taken_slug_is_a_conflict(admin: Client, stranger: Client) -> None:
    slug = admin.create_pixel()["slug"]
    answer = stranger.post("/api/pixels", {"name": "x", "slug": slug})
    assert (answer.status, answer.code) == (409, "slug-taken")
    assert answer.json["error"]["message"] == "That slug is already taken."


def test_create_of_one_slug_sixteen_times_at_once_makes_one(admin: Client) -> None:
    slug = unique("contended")
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(
                lambda number: admin.post("/api/pixels", {"name": str(number), "slug": slug}),
                range(16),
            )
        )
    assert sorted(answer.status for answer in answers) == [200] + [409] * 15
    assert {answer.code for answer in answers if answer.status == 409} == {"slug-taken"}
    assert admin.get(f"/api/pixels?search={slug}").json["count"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None),
        ("name", ""),
        ("name", "   "),
        ("name", 7),
        ("name", ["x"]),
        ("name", "x" * 101),
        ("name", "a\0b"),
        ("name", "a\nb"),
        ("name", "a\x7fb"),
        ("name", "a\x85b"),
        ("name", "\ud800"),
        ("slug", None),
        ("slug", ""),
        ("slug", "\t \u2003"),
        ("slug", {}),
        ("slug", "é" * 101),
        ("slug", "a\0"),
        ("slug", "a\tb"),
        ("slug", "\udfff"),
        ("id", "not-a-uuid"),
        ("id", 5),
        ("id", ""),
        ("teamId", "not-a-uuid"),
        ("teamId", True),
    ],
)
def test_create_with_a_bad_value_names_the_field(admin: Client, field: str, value: object) -> None:
    body = {"name": "x", "slug": unique("x"), field: value}
    refused(admin.post("/api/pixels", body), field)


@pytest.mark.parametrize("missing", ["name", "slug"])
def test_create_without_a_field_names_it(admin: Client, missing: str) -> None:
    body = {"name": "x", "slug": unique("x")}
    del body[missing]
    refused(admin.post("/api/pixels", body), missing)


def test_create_with_an_empty_body_names_both_fields(admin: Client) -> None:
    answer = admin.post("/api/pixels")
    assert answer.status == 400
    assert set(answer.json["error"]["errors"]) == {"name", "slug"}


@pytest.mark.parametrize(
    "text",
    [
        "a b",
        "a/b",
        "a%20b",
        "a?b=c",
        "a..b",
        "..",
        "日本語",
        "🦊",
        "x" * 100,
        "🦊" * 100,
        "a_%b",
        "'\"<",
    ],
)
def test_create_takes_any_other_text(admin: Client, text: str) -> None:
    text = (text + unique(" "))[-100:] if len(text) < 50 else text[:80] + unique("")[-20:]
    pixel = admin.create_pixel(text)
    assert (pixel["name"], pixel["slug"]) == (text, text)


def test_create_trims_and_ignores_unknown_keys(admin: Client) -> None:
    slug = unique("trimmed")
    pixel = admin.post("/api/pixels", {"name": "  a b ", "slug": f"\t{slug} ", "x": 1}).json
    assert (pixel["name"], pixel["slug"]) == ("a b", slug)


def test_slugs_that_differ_in_case_are_two(admin: Client) -> None:
    slug = unique("Case")
    assert admin.create_pixel(slug)["id"] != admin.create_pixel(slug.lower())["id"]


def test_create_by_a_view_only_user_is_forbidden(server: Server, admin: Client) -> None:
    viewer = admin.with_token(new_user(server, "view-only")[1])
    answer = viewer.post("/api/pixels", {"name": "x", "slug": unique("x")})
    assert (answer.status, answer.code) == (403, "forbidden")


@pytest.mark.parametrize(
    ("role", "status"),
    [("team-owner", 200), ("team-manager", 200), ("team-member", 200), ("team-view-only", 403)],
)
def test_create_for_a_team_takes_a_role_that_may(server: Server, role: str, status: int) -> None:
    team_id, member = team_with(server, role)
    body = {"name": "x", "slug": unique("x"), "teamId": team_id}
    assert member.post("/api/pixels", body).status == status


def test_create_for_a_team_takes_the_users_own_right_too(server: Server) -> None:
    team_id, member = team_with(server, "team-manager", users_role="view-only")
    body = {"name": "x", "slug": unique("x"), "teamId": team_id}
    assert member.post("/api/pixels", body).status == 403


def test_create_for_an_unknown_team_is_not_found(admin: Client, stranger: Client) -> None:
    body = {"name": "x", "slug": unique("x"), "teamId": str(uuid.uuid4())}
    assert admin.post("/api/pixels", body).code == "not-found"
    assert stranger.post("/api/pixels", body).code == "not-found"


def test_list_pages_through_the_callers_own_newest_first(stranger: Client, admin: Client) -> None:
    made = [stranger.create_pixel()["id"] for _ in range(5)]
    admin.create_pixel()
    pages = [stranger.get(f"/api/pixels?page={page}&pageSize=2").json for page in (1, 2, 3, 4)]
    assert [[pixel["id"] for pixel in page["data"]] for page in pages] == [
        made[:2:-1],
        made[2:0:-1],
        made[:1],
        [],
    ]
    assert [(page["count"], page["page"], page["pageSize"]) for page in pages] == [
        (5, number, 2) for number in (1, 2, 3, 4)
    ]


def test_list_has_twenty_to_a_page_unless_asked(stranger: Client) -> None:
    answer = stranger.get("/api/pixels").json
    assert answer == {"data": [], "count": 0, "page": 1, "pageSize": 20}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=x", "page"),
        ("page=99999999999999999999", "page"),
        ("pageSize=0", "pageSize"),
        ("pageSize=1.5", "pageSize"),
        ("orderBy=password", "orderBy"),
        ("sortDescending=maybe", "sortDescending"),
        ("search=a%00b", "search"),
        ("search=" + "x" * 201, "search"),
    ],
)
def test_list_with_a_bad_query_names_it(admin: Client, query: str, field: str) -> None:
    refused(admin.get(f"/api/pixels?{query}"), field)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("NEWS", {"Newsletter"}),
        ("letter", {"Newsletter"}),
        ("50%25", {"50% off"}),
        ("%25", {"50% off"}),
        ("_", {"under_score"}),
        ("%C3%A9T%C3%89", {"Été"}),
        ("spare", {"Newsletter"}),
        ("%5C", set()),
        ("", {"Newsletter", "50% off", "under_score", "Été"}),
    ],
)
def test_list_search_is_part_of_name_or_slug_with_wildcards_literal(
    server: Server, admin: Client, search: str, found: set[str]
) -> None:
    if not hasattr(server, "searcher"):
        server.searcher = admin.with_token(new_user(server)[1])
        for name, slug in [
            ("Newsletter", "SPARE"),
            ("50% off", "a"),
            ("under_score", "b"),
            ("Été", "c"),
        ]:
            body = {"name": name, "slug": slug + "-" + uuid.uuid4().hex}
            assert server.searcher.post("/api/pixels", body).status == 200
    answer = server.searcher.get(f"/api/pixels?search={search}").json
    assert {pixel["name"] for pixel in answer["data"]} == found
    assert answer["count"] == len(found)


@pytest.mark.parametrize("order", ["name", "slug", "createdAt"])
def test_list_orders_both_ways(stranger: Client, order: str) -> None:
    for letter in "bac":
        stranger.post("/api/pixels", {"name": letter, "slug": unique(letter)})
    up = stranger.get(f"/api/pixels?orderBy={order}").json["data"]
    down = stranger.get(f"/api/pixels?orderBy={order}&sortDescending=true").json["data"]
    assert [pixel["name"] for pixel in up] == list("bac" if order == "createdAt" else "abc")
    assert down == up[::-1]


def test_team_list_holds_the_teams_pixels_alone(server: Server, admin: Client) -> None:
    team_id, member = team_with(server, "team-view-only")
    pixel = admin.create_pixel(teamId=team_id)
    admin.create_pixel()
    answer = member.get(f"/api/teams/{team_id}/pixels").json
    assert answer == {
        "data": [known(pixel, answer["data"][0])],
        "count": 1,
        "page": 1,
        "pageSize": 20,
    }
    assert member.get("/api/pixels").json["count"] == 0


def test_team_list_is_not_found_by_a_stranger(server: Server, stranger: Client) -> None:
    team_id = create_team(server)
    assert stranger.get(f"/api/teams/{team_id}/pixels").code == "not-found"
    assert stranger.get(f"/api/teams/{uuid.uuid4()}/pixels").code == "not-found"


def known(created: dict[str, Any], read: dict[str, Any]) -> dict[str, Any]:
    """Return what reading a pixel answers: what creating it did, and what it starts with."""
    rest = {"privacy": "full", "sentAt": None, "sentCount": None, "retentionDays": None}
    return created | rest | {"updatedAt": read["updatedAt"], "deletedAt": None}


def test_read_answers_what_create_did(admin: Client) -> None:
    pixel = admin.create_pixel()
    read = admin.get(f"/api/pixels/{pixel['id']}").json
    assert read == known(pixel, read)


def test_update_changes_what_is_given_and_keeps_the_rest(admin: Client) -> None:
    pixel = admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}"
    slug = unique("renamed")
    for body, changed in (
        ({"name": " New "}, {"name": "New"}),
        ({"slug": slug}, {"name": "New", "slug": slug}),
        ({}, {"name": "New", "slug": slug}),
    ):
        answer = admin.post(path, body).json
        assert answer == known(pixel, answer) | changed
        assert admin.get(path).json == answer


def test_update_has_the_limits_of_create(admin: Client) -> None:
    pixel = admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}"
    for field in ("name", "slug"):
        for value in ("", " ", "x" * 101, "a\0b", 3, None):
            refused(admin.post(path, {field: value}), field)
    refused(admin.post(path, {"privacy": "none"}), "privacy")
    taken = admin.create_pixel()["slug"]
    assert admin.post(path, {"slug": taken}).code == "slug-taken"
    assert admin.post(path, {"slug": pixel["slug"]}).status == 200


def test_delete_answers_ok_and_the_pixel_and_its_hits_are_gone(
    server: Server, admin: Client
) -> None:
    pixel = admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}"
    assert admin.get(f"/p/{pixel['slug']}").status == 200
    assert admin.delete(path).json == {"ok": True}
    assert admin.get(path).code == "not-found"
    assert admin.delete(path).code == "not-found"
    assert admin.get(f"/p/{pixel['slug']}").status == 404
    assert admin.create_pixel(pixel["slug"])["id"] != pixel["id"]


@pytest.mark.parametrize(
    ("method", "body"), [("GET", None), ("POST", {"name": "mine"}), ("DELETE", None)]
)
def test_a_strangers_request_for_a_pixel_is_not_found(
    admin: Client, stranger: Client, method: str, body: object
) -> None:
    pixel = admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}"
    assert stranger(method, path, body).code == "not-found"
    assert stranger.with_token(None)(method, path, body).code == "unauthorized"
    assert stranger(method, "/api/pixels/not-a-uuid", body).code == "not-found"
    read = admin.get(path).json
    assert read == known(pixel, read)


def test_a_reader_in_the_team_may_see_but_not_change(server: Server, admin: Client) -> None:
    team_id, reader = team_with(server, "team-view-only")
    pixel = admin.create_pixel(teamId=team_id)
    path = f"/api/pixels/{pixel['id']}"
    read = reader.get(path).json
    assert read == known(pixel, read)
    assert reader.post(path, {"name": "x"}).code == "forbidden"
    assert reader.delete(path).code == "forbidden"


def test_embed_answers_the_url_and_the_html(admin: Client) -> None:
    pixel = admin.create_pixel()
    answer = admin.get(f"/api/pixels/{pixel['id']}/embed").json
    assert answer["url"] == f"{admin.base}/p/{pixel['slug']}"
    assert answer["html"] == f'<img src="{answer["url"]}" width="1" height="1" alt="" />'


@pytest.mark.parametrize("slug", ["a b", "a/b", "..", "a%2Fb", "ä?ö&ü#", "x.gif", "+", '"<'])
def test_embed_url_of_any_slug_reaches_the_pixel(admin: Client, slug: str) -> None:
    pixel = admin.create_pixel(slug if len(slug) > 2 else f"{slug}{uuid.uuid4()}")
    url = admin.get(f"/api/pixels/{pixel['id']}/embed").json["url"]
    assert admin.get(url.removeprefix(admin.base)).status == 200


def test_embed_of_a_stranger_is_not_found(admin: Client, stranger: Client) -> None:
    pixel = admin.create_pixel()
    assert stranger.get(f"/api/pixels/{pixel['id']}/embed").code == "not-found"


def test_create_while_the_database_is_locked_is_503_and_then_works(
    start_server: Callable[..., Server],
) -> None:
    server = start_server()
    body = {"name": "x", "slug": unique("x")}
    locker = pysqlite3.connect(server.data_dir / "pixelkeep.db", isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: server.admin.post("/api/pixels", body), range(3)))
    locker.execute("ROLLBACK")
    locker.close()
    for answer in answers:
        assert (answer.status, answer.code) == (503, "service-unavailable")
        assert answer.headers["Retry-After"] == "5"
    assert "Traceback" not in server.log
    assert server.admin.post("/api/pixels", body).status == 200
