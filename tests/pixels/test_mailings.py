"""How a mailing did, over HTTP and by the command line, against what was really fetched."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import Client, Server, unique

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/142.0.0.0 Safari/537.36"
)
OUTLOOK = "Outlook-Android/2.0"
APPLE_MPP = "Mozilla/5.0"
CURL = "curl/8.5.0"


def ago(**values: float) -> str:
    return (datetime.now(UTC) - timedelta(**values)).isoformat()


def links_of(
    client: Client, pixel: dict[str, Any], *names: str, **values: Any
) -> dict[str, dict[str, Any]]:
    """Issue links that must succeed; return them by name."""
    body = {"recipients": list(names), **values}
    answer = client.post(f"/api/pixels/{pixel['id']}/recipients", body)
    assert answer.status == 200, answer.body
    return {link["recipient"]: link for link in answer.json["data"]}


def fetch(client: Client, link: dict[str, Any] | str, agent: str = OUTLOOK) -> None:
    url = link if isinstance(link, str) else link["url"]
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}"
    assert client.get(path, headers={"User-Agent": agent}).status == 200


def mailing(client: Client, pixel: dict[str, Any]) -> dict[str, Any]:
    answer = client.get(f"/api/pixels/{pixel['id']}/mailing")
    assert answer.status == 200, answer.body
    return answer.json


def people(client: Client, pixel: dict[str, Any], query: str = "") -> dict[str, Any]:
    answer = client.get(f"/api/pixels/{pixel['id']}/recipients?{query}")
    assert answer.status == 200, answer.body
    return answer.json


# A pixel's own facts


def test_pixel_tells_when_it_was_sent_and_changes_it(admin: Client) -> None:
    pixel = admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}"
    assert set(pixel) == {"id", "name", "slug", "userId", "teamId", "createdAt"}
    found = admin.get(path).json
    assert found == {
        **pixel,
        "updatedAt": pixel["createdAt"],
        "deletedAt": None,
        "privacy": "full",
        "sentAt": None,
        "sentCount": None,
        "retentionDays": None,
    }
    changes = {"sentAt": "2026-11-23T08:00:00.000Z", "sentCount": 1000, "retentionDays": 90}
    changed = admin.post(path, {**changes, "privacy": "consent"}).json
    assert changes.items() <= changed.items()
    assert changed["privacy"] == "consent"
    assert changed["updatedAt"] > changed["createdAt"]
    assert admin.get("/api/pixels?pageSize=1").json["data"] == [changed]
    cleared = admin.post(path, dict.fromkeys(changes)).json
    assert [cleared[name] for name in changes] == [None] * 3


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"sentAt": "soon"}, "sentAt"),
        ({"sentAt": "1969-01-01T00:00:00Z"}, "sentAt"),
        ({"sentCount": -1}, "sentCount"),
        ({"sentCount": 1.5}, "sentCount"),
        ({"retentionDays": 0}, "retentionDays"),
        ({"retentionDays": 30.9}, "retentionDays"),
        ({"privacy": "secret"}, "privacy"),
        ({"userId": "me"}, "userId"),
    ],
)
def test_bad_fact_is_refused(admin: Client, values: dict[str, Any], field: str) -> None:
    pixel = admin.create_pixel()
    answer = admin.post(f"/api/pixels/{pixel['id']}", values)
    assert (answer.status, list(answer.json["error"]["errors"])) == (400, [field])


def test_pixel_moves_to_whom_the_caller_may_create_for(
    server: Server, admin: Client, stranger: Client
) -> None:
    pixel = stranger.create_pixel()
    path = f"/api/pixels/{pixel['id']}"
    team = stranger.post("/api/teams", {"name": "Team"}).json[0]
    moved = stranger.post(path, {"teamId": team["id"]})
    assert (moved.json["userId"], moved.json["teamId"]) == (None, team["id"])
    back = stranger.post(path, {"userId": pixel["userId"]}).json
    assert (back["userId"], back["teamId"]) == (pixel["userId"], None)
    other = admin.get("/api/me").json["user"]["id"]
    assert stranger.post(path, {"userId": other}).code == "forbidden"
    foreign = admin.post("/api/teams", {"name": "Foreign"}).json[0]
    assert stranger.post(path, {"teamId": foreign["id"]}).code == "not-found"
    assert stranger.post(path, {"teamId": team["id"], "userId": other}).code == "bad-request"
    assert admin.post(path, {"userId": other}).json["userId"] == other
    assert stranger.get(path).status == 404


# Who opened


def test_mailing_without_anything_tells_nothing(admin: Client) -> None:
    pixel = admin.create_pixel()
    assert mailing(admin, pixel) == {
        "pixelId": pixel["id"],
        "sentAt": None,
        "basis": None,
        "sent": None,
        "opened": 0,
        "machine": None,
        "unopened": None,
        "openRate": None,
        "opens": 0,
        "firstOpenedAt": None,
        "medianSecondsToOpen": None,
        "hours": [],
    }


def test_mailing_to_people_counts_each_once(admin: Client) -> None:
    pixel = admin.create_pixel()
    links = links_of(admin, pixel, "ann", "bob", "cyd", "dan", sentAt=ago(hours=2, minutes=30))
    for _ in range(3):
        fetch(admin, links["ann"])
    fetch(admin, links["bob"], CURL)
    fetch(admin, links["bob"])
    fetch(admin, links["cyd"], APPLE_MPP)
    fetch(admin, f"/p/{pixel['slug']}?r=ann")
    found = mailing(admin, pixel)
    assert (found["basis"], found["sent"]) == ("recipients", 4)
    assert (found["opened"], found["machine"], found["unopened"]) == (2, 1, 1)
    assert found["openRate"] == 0.5
    assert found["opens"] == 5
    assert 9000 <= found["medianSecondsToOpen"] < 9120
    assert [hour["hour"] for hour in found["hours"]] == list(range(168))
    assert found["hours"][2] == {"hour": 2, "opened": 2, "opens": 5}
    assert sum(hour["opened"] for hour in found["hours"]) == 2
    first = min(person["firstOpenedAt"] or "~" for person in people(admin, pixel)["data"])
    assert found["firstOpenedAt"] == first


def test_issue_tells_the_pixel_when_it_was_sent_once(admin: Client) -> None:
    pixel = admin.create_pixel()
    first, second = "2026-11-23T08:00:00.000Z", "2026-11-24T08:00:00.000Z"
    links_of(admin, pixel, "ann", sentAt=first)
    links_of(admin, pixel, "bob", sentAt=second)
    links_of(admin, pixel, "cyd")
    assert admin.get(f"/api/pixels/{pixel['id']}").json["sentAt"] == first
    rows = people(admin, pixel, "orderBy=recipient")["data"]
    assert [row["sentAt"] for row in rows] == [first, second, None]


def test_median_counts_from_each_persons_own_time(admin: Client) -> None:
    pixel = admin.create_pixel()
    for name, hours in (("ann", 1), ("bob", 3), ("cyd", 50)):
        fetch(admin, links_of(admin, pixel, name, sentAt=ago(hours=hours))[name])
    assert 3 * 3600 <= mailing(admin, pixel)["medianSecondsToOpen"] < 3 * 3600 + 120


def test_mailing_with_a_count_goes_by_opens(admin: Client) -> None:
    pixel = admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}"
    admin.post(path, {"sentCount": 10, "sentAt": ago(minutes=10)})
    for agent in (OUTLOOK, OUTLOOK, CHROME, CURL, APPLE_MPP):
        fetch(admin, f"/p/{pixel['slug']}", agent)
    found = mailing(admin, pixel)
    assert (found["basis"], found["sent"], found["opened"], found["opens"]) == ("count", 10, 2, 3)
    assert (found["machine"], found["unopened"], found["openRate"]) == (None, None, 0.2)
    assert found["hours"][0] == {"hour": 0, "opened": 2, "opens": 3}
    assert 600 <= found["medianSecondsToOpen"] < 720
    assert found["firstOpenedAt"] is not None


def test_share_reads_the_mailing_and_no_other(admin: Client) -> None:
    pixel, other = admin.create_pixel(), admin.create_pixel()
    share = admin.post(f"/api/pixels/{pixel['id']}/shares", {"name": "x"}).json
    token = admin.get(f"/api/share/{share['slug']}").json["token"]
    headers = {"x-umami-share-token": token, "x-umami-share-context": "1"}
    guest = Client(admin.base, headers=headers)
    assert guest.get(f"/api/pixels/{pixel['id']}/mailing").json == mailing(admin, pixel)
    assert guest.get(f"/api/pixels/{other['id']}/mailing").status == 404
    assert guest.get(f"/api/pixels/{pixel['id']}/recipients").status == 401


def test_mailings_come_in_the_order_asked_without_strangers_ones(
    admin: Client, stranger: Client
) -> None:
    own, other, foreign = stranger.create_pixel(), stranger.create_pixel(), admin.create_pixel()
    links_of(stranger, own, "ann")
    ids = f"ids={other['id']},{foreign['id']}&ids={own['id']}"
    found = stranger.get(f"/api/pixels/mailings?{ids}").json["data"]
    assert [row["pixelId"] for row in found] == [other["id"], own["id"]]
    whole = mailing(stranger, own)
    del whole["hours"]
    assert found[1] == whole
    assert stranger.get("/api/pixels/mailings?ids=x").code == "bad-request"
    assert stranger.get("/api/pixels/mailings").code == "bad-request"


# Lists of people


def test_people_are_listed_by_status_with_counts_before_any_filter(admin: Client) -> None:
    pixel = admin.create_pixel()
    links = links_of(admin, pixel, "ann", "bob", "cyd", "dan")
    fetch(admin, links["ann"], APPLE_MPP)
    fetch(admin, links["ann"], CHROME)
    fetch(admin, links["ann"])
    fetch(admin, links["ann"], CURL)
    fetch(admin, links["bob"])
    fetch(admin, links["cyd"], APPLE_MPP)
    fetch(admin, f"/p/{pixel['slug']}?r=eve")
    counts = {"all": 4, "opened": 2, "machine": 1, "unopened": 1}
    listed = {
        status: people(admin, pixel, f"status={status}&orderBy=recipient")
        for status in ("opened", "machine", "unopened")
    }
    assert [[row["recipient"] for row in page["data"]] for page in listed.values()] == [
        ["ann", "bob", "eve"],
        ["cyd"],
        ["dan"],
    ]
    assert all(page["counts"] == counts for page in listed.values())
    ann, bob, eve = listed["opened"]["data"]
    assert (ann["client"], ann["reason"], ann["status"]) == ("outlook", "mail-client", "opened")
    assert (listed["machine"]["data"][0]["reason"]) == "apple-mpp"
    assert (listed["unopened"]["data"][0]["client"]) is None
    assert (bob["verified"], eve["verified"]) == (True, False)
    often = people(admin, pixel, "opensMin=2&search=n")
    assert [row["recipient"] for row in often["data"]] == ["ann"]
    assert (often["count"], often["counts"]) == (1, counts)
    assert admin.get(f"/api/pixels/{pixel['id']}/recipients?status=read").code == "bad-request"


def test_export_streams_those_of_a_status(admin: Client) -> None:
    pixel = admin.create_pixel()
    links = links_of(admin, pixel, "=ann", "bob")
    fetch(admin, links["=ann"])
    path = f"/api/pixels/{pixel['id']}/recipients/export"
    csv = admin.get(f"{path}?status=opened")
    assert csv.headers["Content-Type"] == "text/csv; charset=utf-8"
    heading, row = csv.body.decode().splitlines()
    assert heading.startswith("recipient,verified,status,sentAt,optedOut,")
    assert row.startswith("'=ann,true,opened,")
    lines = admin.get(f"{path}?format=jsonl&status=unopened").body.decode().splitlines()
    assert [json.loads(line)["recipient"] for line in lines] == ["bob"]
    assert len(admin.get(path).body.decode().splitlines()) == 3
    assert admin.get(f"{path}?format=xml").code == "bad-request"


def test_people_over_all_pixels_are_the_callers_own(admin: Client, stranger: Client) -> None:
    name = f"{unique('ann')}@example.org"
    first, second = stranger.create_pixel(), stranger.create_pixel()
    foreign = admin.create_pixel()
    fetch(stranger, links_of(stranger, first, name)[name])
    links_of(stranger, second, name.upper())
    links_of(admin, foreign, name)
    (row,) = stranger.get("/api/recipients").json["data"]
    assert (row["recipient"], row["pixels"], row["opened"]) == (name.upper(), 2, 1) or (
        row["recipient"],
        row["pixels"],
        row["opened"],
    ) == (name, 2, 1)
    assert row["optedOut"] is False
    assert row["lastOpenedAt"] is not None
    assert stranger.get("/api/recipients?search=%25").json["count"] == 0
    assert admin.get(f"/api/recipients?search={name}").json["data"][0]["pixels"] == 3


def test_people_over_all_pixels_are_counted_anew_when_they_change(
    server: Server, admin: Client, stranger: Client
) -> None:
    def count() -> int:
        page = stranger.get("/api/recipients").json
        assert page["count"] == len(page["data"])
        return int(page["count"])

    first, second = stranger.create_pixel(), stranger.create_pixel()
    assert count() == 0
    links_of(stranger, first, "ann", "bob")
    assert count() == 2
    links_of(stranger, second, "bob", "cyd")
    assert count() == 3
    fetch(stranger, f"/p/{first['slug']}?r=dan")
    assert count() == 4
    fetch(stranger, f"/p/{second['slug']}?r=dan")
    assert count() == 4
    stranger.delete("/api/recipient?name=ann")
    assert count() == 3
    stranger.delete(f"/api/pixels/{second['id']}")
    assert count() == 2


def test_person_tells_all_that_is_kept_to_whom_it_belongs(admin: Client, stranger: Client) -> None:
    name = f"{unique('ann')}@example.org"
    pixel, sent = stranger.create_pixel(), "2026-11-23T08:00:00.000Z"
    link = links_of(stranger, pixel, name, sentAt=sent)[name]
    fetch(stranger, link)
    fetch(stranger, link, CURL)
    found = stranger.get(f"/api/recipient?name={name.upper()}").json
    (of_pixel,) = found["pixels"]
    assert (found["recipient"], found["optedOut"]) == (name, False)
    assert (of_pixel["pixelId"], of_pixel["name"]) == (pixel["id"], pixel["name"])
    assert (of_pixel["sentAt"], of_pixel["status"]) == (sent, "opened")
    assert (of_pixel["opens"], of_pixel["prefetches"], of_pixel["bots"]) == (1, 0, 1)
    assert [hit["class"] for hit in of_pixel["hits"]] == ["open", "bot"]
    assert of_pixel["hits"][0]["userAgent"] == OUTLOOK
    (_, other) = new_client(admin, stranger)
    assert other.get(f"/api/recipient?name={name}").code == "not-found"
    assert other.delete(f"/api/recipient?name={name}").code == "not-found"
    assert stranger.get("/api/recipient").code == "bad-request"


def new_client(admin: Client, stranger: Client) -> tuple[str, Client]:
    credentials = {"username": unique("other"), "password": "correct horse battery"}
    assert admin.post("/api/users", {**credentials, "role": "user"}).status == 200
    token = admin.post("/api/auth/login", credentials).json["token"]
    return credentials["username"], stranger.with_token(token)


# The command line


def test_commands_tell_the_same_in_words(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    links = links_of(admin, pixel, "ann", "bob", sentAt=ago(hours=1, minutes=1))
    fetch(admin, links["ann"])
    shown = json.loads(server.cli("mailings", "show", pixel["slug"], "--json").stdout)
    assert shown == mailing(admin, pixel)
    words = server.cli("mailings", "show", pixel["slug"]).stdout
    assert "open rate             50.0%" in words
    assert "1 h 1 min" in words
    compared = server.cli("mailings", "compare", pixel["slug"], pixel["slug"]).stdout
    assert compared.count(pixel["slug"]) == 2
    listed = json.loads(server.cli("mailings", "list", "--json").stdout)
    assert pixel["id"] in {row["pixelId"] for row in listed}
    csv = server.cli("recipients", "list", pixel["slug"], "--status", "unopened", "--csv", "-")
    assert [line.partition(",")[0] for line in csv.stdout.splitlines()] == ["recipient", "bob"]
    stats = server.cli("stats", pixel["slug"]).stdout
    assert stats.split()[:3] == ["opens", "unique", "opens"]
