"""What Umami's clients ask of websites, and how hits of theirs are taken."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import Answer, Client, Server, new_user, unique, verdicts

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/126.0.0.0 Safari/537.36"
)
RANGE = "startAt=0&endAt=9999999999999"


@pytest.fixture
def owner(server: Server) -> Client:
    return server.admin.with_token(new_user(server)[1])


def hit(client: Client, pixel: dict[str, Any], query: str = "", agent: str = FIREFOX) -> None:
    answer = client.with_token(None).get(
        f"/p/{pixel['slug']}{query}", headers={"User-Agent": agent}
    )
    assert answer.status == 200


def post(client: Client, path: str, value: Any, **headers: str) -> Answer:
    body = json.dumps(value).encode()
    sent = {"Content-Type": "application/json", "User-Agent": FIREFOX, **headers}
    return client.post(path, body=body, headers=sent)


def test_pixels_are_listed_as_websites(owner: Client) -> None:
    pixel = owner.create_pixel()
    [team, _] = owner.post("/api/teams", {"name": "Team"}).json
    of_team = owner.create_pixel(teamId=team["id"])
    me = owner.get("/api/me").json["user"]
    page = owner.get("/api/websites").json
    assert {name: page[name] for name in ("count", "page", "pageSize")} == {
        **{"count": 1, "page": 1},
        "pageSize": 20,
    }
    [website] = page["data"]
    assert website == owner.get(f"/api/websites/{pixel['id']}").json
    assert (website["id"], website["domain"]) == (pixel["id"], pixel["slug"])
    assert website["user"] == {"id": me["id"], "username": me["username"]}
    assert website["updatedAt"] == pixel["createdAt"]
    assert owner.get("/api/me/websites").json == page
    assert owner.get(f"/api/users/{me['id']}/websites").json == page
    with_teams = owner.get("/api/websites?includeTeams=true&orderBy=domain").json
    assert {row["id"] for row in with_teams["data"]} == {pixel["id"], of_team["id"]}
    [found] = owner.get(f"/api/teams/{team['id']}/websites").json["data"]
    assert (found["id"], found["userId"], found["teamId"]) == (of_team["id"], None, team["id"])
    assert owner.get(f"/api/websites?search={unique('none')}").json["data"] == []


def test_website_says_when_its_pixel_changed(owner: Client) -> None:
    pixel = owner.create_pixel()
    changed = owner.post(f"/api/pixels/{pixel['id']}", {"name": "Another"}).json
    assert changed["updatedAt"] > pixel["createdAt"]
    assert owner.get(f"/api/websites/{pixel['id']}").json["updatedAt"] == changed["updatedAt"]
    [website] = owner.get("/api/websites").json["data"]
    assert website["updatedAt"] == changed["updatedAt"]


def test_charts_of_websites_are_those_of_pixels(owner: Client) -> None:
    pixel = owner.create_pixel()
    hit(owner, pixel)
    query = f"ids={pixel['id']}&timezone=EUROPE/paris"
    found = owner.get(f"/api/websites/charts?{query}").json
    assert found["data"][pixel["id"]]["total"] == 1
    assert found == owner.get(f"/api/pixels/charts?{query}").json


def test_hit_is_sent_to_a_website(server: Server, owner: Client) -> None:
    pixel = owner.create_pixel()
    payload = {"website": pixel["id"], "hostname": "example.org", "url": "/", "name": "opened"}
    answer = post(owner, "/api/send", {"type": "event", "payload": payload})
    assert set(answer.json) == {"cache", "sessionId", "visitId"}
    # The clients send this before they have signed in.
    stranger = {"Authorization": "Bearer None"}
    value = {"type": "event", "payload": payload}
    assert post(owner.with_token(None), "/api/send", value, **stranger).status == 200
    assert len(verdicts(server, pixel)) == 2


@pytest.mark.parametrize("kind", ["identify", "performance"])
def test_other_types_are_answered_and_store_nothing(
    server: Server, owner: Client, kind: str
) -> None:
    pixel = owner.create_pixel()
    sent = {"type": kind, "payload": {"website": pixel["id"], "data": {"a": 1}, "lcp": 3}}
    assert set(post(owner, "/api/send", sent).json) == {"cache", "sessionId", "visitId"}
    assert verdicts(server, pixel) == []
    sent["payload"]["website"] = "00000000-0000-4000-8000-000000000000"
    assert post(owner, "/api/send", sent).status == 404


@pytest.mark.parametrize(
    "payload", [{}, {"link": "x"}, {"website": "x"}, {"pixel": None}, {"website": ["x"]}]
)
def test_hit_of_no_pixel_is_refused(owner: Client, payload: dict[str, Any]) -> None:
    answer = post(owner, "/api/send", {"type": "event", "payload": payload})
    assert (answer.status, answer.json["error"]["code"]) == (400, "bad-request")


def test_batch_stores_what_it_can_and_tells_the_rest(server: Server, owner: Client) -> None:
    pixel = owner.create_pixel()
    good = {"type": "event", "payload": {"website": pixel["id"], "url": "/"}}
    unknown = {"website": "00000000-0000-4000-8000-000000000000"}
    items = [good, {"type": "event", "payload": unknown}, good, {"type": "nonsense"}, 7]
    answer = post(owner.with_token(None), "/api/batch", items)
    assert answer.status == 200
    found = answer.json
    assert list(found) == ["size", "processed", "errors", "details", "cache"]
    assert (found["size"], found["processed"], found["errors"]) == (5, 2, 3)
    assert isinstance(found["cache"], str)
    details = [
        (detail["index"], detail["response"]["error"]["status"]) for detail in found["details"]
    ]
    assert details == [(1, 404), (3, 400), (4, 400)]
    assert len(verdicts(server, pixel)) == 2
    assert post(owner, "/api/batch", []).json == {
        **{"size": 0, "processed": 0, "errors": 0},
        **{"details": [], "cache": None},
    }
    for value in ({}, "x", None):
        assert post(owner, "/api/batch", value).status == 400


@pytest.mark.parametrize("path", ["/api/send", "/api/batch"])
def test_any_site_may_send(owner: Client, path: str) -> None:
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    preflight = owner.with_token(None)("OPTIONS", path, headers=asked)
    refused = post(owner, path, {"type": "event"}, Origin="https://example.org")
    assert (preflight.status, refused.status) == (200, 400)
    for answer in (preflight, refused):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert "Content-Type" in preflight.headers["Access-Control-Allow-Headers"]


def test_address_is_believed_of_who_may_change_the_pixel(
    server: Server, owner: Client, stranger: Client
) -> None:
    pixel = owner.create_pixel()
    made = owner.post("/api/me/api-keys", {"name": "k", "scope": "read"}).json
    sent = {"type": "event", "payload": {"website": pixel["id"], "ip": "8.8.8.8"}}
    for client in (owner, stranger, owner.with_token(None), owner.with_token(made["key"])):
        assert post(client, "/api/send", sent).status == 200
    countries = owner.get(f"/api/pixels/{pixel['id']}/metrics?{RANGE}&type=country").json
    assert countries == [{"x": "US", "y": 1}]
    sent["payload"]["ip"] = "nowhere"
    assert post(owner, "/api/send", sent).status == 400
    assert post(stranger, "/api/send", sent).status == 200


def test_one_of_several_filters_is_enough_if_asked(owner: Client) -> None:
    pixel = owner.create_pixel()
    hit(owner, pixel, "?utm_source=a&r=ann")
    hit(owner, pixel, "?utm_source=b", CHROME)
    hit(owner, pixel, "?utm_source=c&r=ben")
    base = f"/api/websites/{pixel['id']}"

    def views(filters: str) -> int:
        return int(owner.get(f"{base}/stats?{RANGE}&{filters}").json["pageviews"])

    assert views("browser=chrome&utmSource=a") == 0
    assert views("browser=chrome&utmSource=a&match=all") == 0
    assert views("browser=chrome&utmSource=a&match=any") == 2
    assert views("recipient=ben&browser=chrome&match=any") == 2
    assert views("recipient=ben&recipient1=ann&match=any") == 2
    series = owner.get(
        f"{base}/pageviews?startAt={_ago(1)}&endAt={_ago(-1)}&unit=hour"
        "&recipient=ben&browser=chrome&match=any"
    ).json
    assert sum(point["y"] for point in series["pageviews"]) == 2
    by_source = owner.get(
        f"{base}/metrics?{RANGE}&type=utmSource&recipient=ben&browser=chrome&match=any"
    ).json
    assert by_source == [{"x": "b", "y": 1}, {"x": "c", "y": 1}]


def _ago(hours: int) -> int:
    return int((time.time() - hours * 3600) * 1000)


def test_limits_are_taken_for_what_goes_beyond_them(owner: Client) -> None:
    pixel = owner.create_pixel()
    hit(owner, pixel)
    base = f"/api/websites/{pixel['id']}"
    far = "startDate=1970-01-01T00:00:00Z&endDate=2999-01-01T00:00:00Z"
    for asked in (f"{RANGE}&timezone=utc", f"{far}&timezone=europe/BERLIN"):
        assert owner.get(f"{base}/stats?{asked}").json["pageviews"] == 1
    assert owner.get("/api/websites?pageSize=1000").json["pageSize"] == 100
    assert owner.get(f"{base}/events?{RANGE}&pageSize=1000").json["pageSize"] == 100
    for name in ("Mars/Olympus", "localtime", "Factory", "posixrules", "", "../UTC", "UTC\0"):
        assert owner.get(f"{base}/stats?{RANGE}&timezone={quote(name)}").status == 400, name


@pytest.mark.parametrize(("older", "newer"), [("host", "hostname"), ("url", "path")])
def test_dimensions_have_their_older_names_too(owner: Client, older: str, newer: str) -> None:
    pixel = owner.create_pixel()
    hit(owner, pixel)
    base = f"/api/websites/{pixel['id']}"
    found = [owner.get(f"{base}/metrics?{RANGE}&type={name}").json for name in (older, newer)]
    assert found[0] == found[1]
    assert len(found[0]) == (newer == "hostname")
    assert owner.get(f"{base}/stats?{RANGE}&{older}=nothing").json["pageviews"] == 0
    assert owner.get(f"{base}/metrics?{RANGE}&type=fullPath").json == []


def test_share_reads_its_pixel_and_its_part_of_the_charts(owner: Client) -> None:
    pixel, another = owner.create_pixel(), owner.create_pixel()
    share = owner.post(f"/api/pixels/{pixel['id']}/shares", {"name": "Shared"}).json
    token = owner.with_token(None).get(f"/api/share/{share['slug']}").json["token"]
    guest = Client(owner.base, None, {"x-umami-share-token": token, "x-umami-share-context": "1"})
    assert guest.get(f"/api/pixels/{pixel['id']}").json["slug"] == pixel["slug"]
    website = guest.get(f"/api/websites/{pixel['id']}").json
    assert website["domain"] == pixel["slug"]
    assert "user" in owner.get(f"/api/websites/{pixel['id']}").json
    assert "user" not in website
    assert guest.get(f"/api/pixels/{another['id']}").status == 404
    charts = guest.get(f"/api/websites/charts?ids={pixel['id']},{another['id']}").json["data"]
    assert list(charts) == [pixel["id"]]
    assert guest.get("/api/websites").status == 401


def test_sessions_are_the_visitors_of_a_range(owner: Client) -> None:
    pixel = owner.create_pixel()
    hit(owner, pixel, "?r=ann")
    hit(owner, pixel, "?r=ben", CHROME)
    hit(owner, pixel, "?r=ann")
    base = f"/api/websites/{pixel['id']}"
    page = owner.get(f"{base}/sessions?{RANGE}").json
    assert page["count"] == 2
    events = owner.get(f"{base}/events?{RANGE}").json["data"]
    newest = page["data"][0]
    assert newest["id"] == events[0]["sessionId"]
    assert (newest["views"], newest["visits"], newest["events"]) == (2, 1, 0)
    assert (newest["browser"], newest["websiteId"]) == ("firefox", pixel["id"])
    assert newest["firstAt"] == events[2]["createdAt"]
    assert newest["lastAt"] == newest["createdAt"] == events[0]["createdAt"]
    [second] = owner.get(f"{base}/sessions?{RANGE}&page=2&pageSize=1").json["data"]
    assert second["browser"] == "chrome"
    stats = owner.get(f"{base}/sessions/stats?{RANGE}").json
    figures = {"pageviews": 3, "visitors": 2, "visits": 2, "countries": 0, "events": 0}
    assert stats == {name: {"value": value} for name, value in figures.items()}
    weekly = owner.get(f"{base}/sessions/weekly?{RANGE}&timezone=Asia/Tokyo").json
    assert [len(day) for day in weekly] == [24] * 7
    assert sum(map(sum, weekly)) == 2


def test_events_and_campaigns_are_told_in_umamis_shapes(owner: Client) -> None:
    pixel = owner.create_pixel()
    hit(owner, pixel, "?utm_source=a")
    hit(owner, pixel, "?utm_source=a")
    hit(owner, pixel, agent="curl/8.0")
    base = f"/api/websites/{pixel['id']}"
    hours = f"startAt={_ago(1)}&endAt={_ago(-1)}"
    series = owner.get(f"{base}/events/series?{hours}&unit=day&class=all").json
    assert {(point["x"], point["y"]) for point in series} == {("open", 2), ("bot", 1)}
    found = owner.get(f"{base}/events/stats?{hours}&class=all").json["data"]
    comparison = {"events": 0, "visitors": 0, "visits": 0, "uniqueEvents": 0}
    assert (found["events"], found["uniqueEvents"]) == (3, 2)
    assert found["comparison"] == comparison
    assert owner.get(f"{base}/utm/metrics?{RANGE}&type=utmSource").json == [
        {"utm": "a", "views": 2}
    ]
    realtime = owner.get(f"/api/realtime/{pixel['id']}").json
    assert realtime["totals"] == {"views": 2, "visitors": 1, "events": 0, "countries": 0}
    assert realtime["urls"] == {f"/p/{pixel['slug']}": 2}
    assert [event["__type"] for event in realtime["events"]] == ["pageview"] * 2
    assert sum(point["y"] for point in realtime["series"]["views"]) == 2
    assert abs(realtime["timestamp"] - time.time() * 1000) < 60_000


def test_team_tells_its_members(owner: Client) -> None:
    [team, owning] = owner.post("/api/teams", {"name": "Team"}).json
    [member] = owner.get(f"/api/teams/{team['id']}").json["members"]
    assert (member["id"], member["role"]) == (owning["id"], "team-owner")
    assert set(member["user"]) == {"id", "username"}


@pytest.mark.parametrize("path", ["reports", "funnels", "goals", "segments", "replays"])
def test_what_images_have_no_data_for_is_not_found(owner: Client, path: str) -> None:
    pixel = owner.create_pixel()
    answer = owner.get(f"/api/websites/{pixel['id']}/{path}?{RANGE}")
    assert (answer.status, answer.json["error"]["code"]) == (404, "not-found")
