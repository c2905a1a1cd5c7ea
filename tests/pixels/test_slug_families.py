"""Slugs `X` and `X.gif`: `/p/X.gif` may mean either, so both are one owner's."""

from __future__ import annotations

import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Answer, Client, Server, new_user, unique


@pytest.fixture
def another(server: Server, admin: Client) -> Client:
    """A second user without anything."""
    return admin.with_token(new_user(server)[1])


def create(client: Client, slug: str, **values: Any) -> Answer:
    return client.post("/api/pixels", {"name": slug, "slug": slug, **values})


def is_taken(answer: Answer) -> bool:
    return (answer.status, answer.status == 409 and answer.code) == (409, "slug-taken")


@pytest.mark.parametrize(("first", "second"), [("", ".gif"), (".gif", ""), (".gif", ".gif.gif")])
def test_slug_that_differs_by_the_suffix_is_taken_for_others(
    stranger: Client, another: Client, first: str, second: str
) -> None:
    stem = unique("news")
    assert create(stranger, stem + first).status == 200
    assert is_taken(create(another, stem + second))
    assert create(stranger, stem + second).status == 200


def test_other_suffixes_and_cases_are_no_family(stranger: Client, another: Client) -> None:
    stem = unique("news")
    assert create(stranger, stem).status == 200
    for slug in (f"{stem}.GIF", f"{stem}.png", f"{stem}gif", f"{stem}.gif.gif", f"x{stem}.gif"):
        assert create(another, slug).status == 200, slug


def test_images_with_the_suffix_are_the_owners_alone(stranger: Client, another: Client) -> None:
    mailed = create(stranger, unique("mailed")).json
    assert is_taken(create(another, f"{mailed['slug']}.gif"))
    for path in (mailed["slug"], f"{mailed['slug']}.gif"):
        assert stranger.get(f"/p/{path}?r=Ada").status == 200
    listed = stranger.get(f"/api/pixels/{mailed['id']}/events?class=all").json
    assert [hit["recipient"] for hit in listed["data"]] == ["Ada", "Ada"]


def test_renaming_obeys_the_family(stranger: Client, another: Client) -> None:
    theirs = create(stranger, unique("theirs")).json
    mine = create(another, unique("mine")).json
    path = f"/api/pixels/{mine['id']}"
    assert is_taken(another.post(path, {"slug": f"{theirs['slug']}.gif"}))
    assert another.get(path).json["slug"] == mine["slug"]
    assert another.post(path, {"slug": f"{mine['slug']}.gif"}).status == 200
    # What was given up is free again, in both spellings.
    assert stranger.post(f"/api/pixels/{theirs['id']}", {"slug": unique("gone")}).status == 200
    assert another.post(path, {"slug": f"{theirs['slug']}.gif"}).status == 200


def test_team_is_an_owner_of_its_own_until_it_is_deleted(stranger: Client) -> None:
    team, _ = stranger.post("/api/teams", {"name": unique("team")}).json
    slug = unique("team")
    assert create(stranger, slug, teamId=team["id"]).status == 200
    assert is_taken(create(stranger, f"{slug}.gif"))
    assert create(stranger, f"{slug}.gif", teamId=team["id"]).status == 200
    assert stranger.delete(f"/api/teams/{team['id']}").status == 200
    assert create(stranger, f"{slug}.gif").status == 200


def test_pairs_that_exist_stay_and_go_on_apart(
    server: Server, stranger: Client, another: Client
) -> None:
    first = create(stranger, unique("first")).json
    second = create(another, unique("second")).json
    pair = f"{first['slug']}.gif"
    server.execute(f"UPDATE pixels SET slug = '{pair}' WHERE slug = '{second['slug']}'")
    server.execute("UPDATE catalogue SET version = version + 1")
    path = f"/api/pixels/{second['id']}"
    assert another.post(path, {"name": "Renamed"}).status == 200
    assert another.post(path, {"slug": pair}).json["slug"] == pair
    # The exact slug wins.
    assert another.get(f"/p/{pair}?r=exact").status == 200
    assert stranger.get(f"/p/{first['slug']}?r=plain").status == 200
    for client, pixel, name in ((another, second, "exact"), (stranger, first, "plain")):
        listed = client.get(f"/api/pixels/{pixel['id']}/events?class=all").json["data"]
        assert [hit["recipient"] for hit in listed] == [name]


def test_of_many_owners_at_once_one_gets_the_family(
    server: Server,
) -> None:
    clients = [server.admin.with_token(new_user(server)[1]) for _ in range(4)]
    for _ in range(5):
        stem = unique("raced")
        slugs = [stem, f"{stem}.gif", stem, f"{stem}.gif"]
        with ThreadPoolExecutor(len(slugs)) as threads:
            answers = list(threads.map(create, clients, slugs))
        statuses = Counter(answer.status for answer in answers)
        assert statuses == {200: 1, 409: 3}


def test_id_of_a_deleted_pixel_stays_taken(
    server: Server, stranger: Client, another: Client
) -> None:
    pixel = create(stranger, unique("mailed")).json
    path = f"/api/pixels/{pixel['id']}/recipients"
    url = stranger.post(path, {"recipients": ["Ada"]}).json["data"][0]["url"]
    token = url.partition("s=")[2]
    assert stranger.delete(f"/api/pixels/{pixel['id']}").json == {"ok": True}
    for client in (another, stranger, server.admin):
        again = create(client, unique("again"), id=pixel["id"])
        assert (again.status, again.code) == (409, "id-taken")
    # Its slug is free, and the old link names nobody there.
    successor = create(another, pixel["slug"]).json
    assert another.get(f"/p/{pixel['slug']}?s={token}").status == 200
    [hit] = another.get(f"/api/pixels/{successor['id']}/events?class=all").json["data"]
    assert hit["recipient"] is None


def test_ids_of_a_deleted_teams_and_a_deleted_users_pixels_stay_taken(server: Server) -> None:
    token = new_user(server)[1]
    user = server.admin.with_token(token)
    team, _ = user.post("/api/teams", {"name": unique("team")}).json
    ids = [str(uuid.uuid4()), str(uuid.uuid4())]
    assert create(user, unique("of-team"), id=ids[0], teamId=team["id"]).status == 200
    assert create(user, unique("of-user"), id=ids[1]).status == 200
    assert user.delete(f"/api/teams/{team['id']}").status == 200
    user_id = user.get("/api/me").json["user"]["id"]
    assert server.admin.delete(f"/api/users/{user_id}").status == 200
    for id in ids:
        assert create(server.admin, unique("again"), id=id).code == "id-taken"
