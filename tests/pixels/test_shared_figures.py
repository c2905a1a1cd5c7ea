"""What a share shows: figures, and nothing that may name a person."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import Client, Server

PERSON = "ada@example.org"
QUERIES = (
    f"utm_source=mail&email={PERSON}",
    f"email={quote(PERSON)}&utm_source=mail&amp;r={PERSON}",
    f"amp;s={PERSON}&amp;r={PERSON}",
    f"utm_campaign=spring;{'x' * 5}&utm%5Fterm={PERSON}",
)
REFERRER = f"https://news.example.com/{PERSON}/inbox?user={PERSON}"


@pytest.fixture
def shared(server: Server, admin: Client) -> tuple[dict[str, Any], Client, str]:
    """A pixel with hits that name a person in every way but as a recipient; its guest; its slug."""
    pixel = admin.create_pixel()
    browser = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"}
    for query in QUERIES:
        headers = {**browser, "Referer": REFERRER}
        assert admin.get(f"/p/{pixel['slug']}?{query}", headers=headers).status == 200
    # As they were stored by earlier versions, whatever today's makes of them.
    number = server.number_of(pixel)
    server.execute(
        f"UPDATE texts SET value = 'amp;r={PERSON}' WHERE value LIKE '%spring%'"
        f" AND pixel_number = {number}"
    )
    share = admin.post(f"/api/pixels/{pixel['id']}/shares", {"name": "Share"}).json
    token = admin.with_token(None).get(f"/api/share/{share['slug']}").json["token"]
    headers = {"x-umami-share-token": token, "x-umami-share-context": "1"}
    return pixel, Client(admin.base, headers=headers), share["slug"]


SPAN = "startAt=0&endAt=4102444799999&class=all"


def test_guests_read_the_campaign_of_a_query_and_nothing_else(shared: Any) -> None:
    pixel, guest, _ = shared
    path = f"/api/pixels/{pixel['id']}"
    metrics = guest.get(f"{path}/metrics?type=query&{SPAN}").json
    # An anonymous visitor, and whoever the mail that was escaped twice names.
    assert metrics == [{"x": "utm_source=mail", "y": 2}]
    [row] = guest.get(f"{path}/metrics/expanded?type=query&{SPAN}").json
    assert (row["name"], row["pageviews"]) == ("utm_source=mail", 2)
    values = guest.get(f"{path}/values?type=query&{SPAN}").json
    assert values == [{"value": "utm_source=mail", "count": 2}]
    for hit in guest.get(f"{path}/events?{SPAN}").json["data"]:
        assert hit["urlQuery"] in ("utm_source=mail", None)
        assert (hit["referrerPath"], hit["referrerQuery"]) == (None, None)
        assert hit["referrerDomain"] == "news.example.com"


@pytest.mark.parametrize("word", [PERSON, quote(PERSON), "email", "inbox"])
def test_guests_cant_search_or_filter_for_what_they_cant_read(shared: Any, word: str) -> None:
    pixel, guest, _ = shared
    path = f"/api/pixels/{pixel['id']}"
    asked = f"{SPAN}&query=c.{quote(word)}"
    assert guest.get(f"{path}/stats?{asked}").json["pageviews"] == 0
    assert guest.get(f"{path}/events?{asked}").json["data"] == []
    assert guest.get(f"{path}/metrics?type=query&{SPAN}&search={quote(word)}").json == []
    assert guest.get(f"{path}/stats?{SPAN}&referrer=c.{quote(word)}").json["pageviews"] == 0


def test_members_read_whole_queries_and_referrers(shared: Any, admin: Client) -> None:
    pixel, _, _ = shared
    hits = admin.get(f"/api/pixels/{pixel['id']}/events?{SPAN}").json["data"]
    assert hits[0]["urlQuery"] == f"amp;r={PERSON}"
    assert hits[0]["referrerPath"] == f"/{PERSON}/inbox"
    assert QUERIES[0] in [hit["urlQuery"] for hit in hits]


def test_nothing_that_a_guest_can_ask_for_names_the_person(shared: Any) -> None:
    pixel, guest, slug = shared
    api = [f"/api/pixels/{pixel['id']}/events?{SPAN}", f"/api/share/{slug}"]
    for name in ("query", "referrer", "hostname", "channel", "utmTerm", "utmSource"):
        api.append(f"/api/websites/{pixel['id']}/metrics?type={name}&{SPAN}")
        api.append(f"/api/websites/{pixel['id']}/metrics/expanded?type={name}&{SPAN}")
        api.append(f"/api/websites/{pixel['id']}/values?type={name}&{SPAN}")
    pages = [f"/share/{slug}{path}?class=all" for path in ("", "/newest", "/by/referrer")]
    # utm_term is the campaign's, however it is spelled.
    for path in (*api, *pages):
        answer = guest.get(path)
        assert answer.status == 200, path
        shown = answer.body.decode()
        if "utmTerm" in path:
            continue
        assert PERSON not in shown, path
        assert quote(PERSON) not in shown, path
        assert "inbox" not in shown, path


def test_what_is_shared_is_no_search_engines(shared: Any, admin: Client) -> None:
    _, guest, slug = shared
    for path in (f"/share/{slug}", f"/share/{slug}/by/country", f"/api/share/{slug}", "/sign-in"):
        assert "noindex" in guest.get(path).headers["X-Robots-Tag"], path
    robots = admin.with_token(None).get("/robots.txt")
    assert (robots.status, robots.headers.get_content_type()) == (200, "text/plain")
    assert "Disallow: /" in robots.body.decode().splitlines()


def test_share_answers_no_more_of_the_pixel_than_its_id(shared: Any) -> None:
    pixel, guest, slug = shared
    opened = guest.get(f"/api/share/{slug}").json
    assert pixel["userId"] not in json.dumps(opened)
