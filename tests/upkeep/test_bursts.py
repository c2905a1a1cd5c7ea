"""A gateway's burst is labelled anew wherever its hits are counted, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Client, Server, verdicts, wait_until
from tests.web.api.test_webhooks import Receiver
from tests.web.pages.test_pages import Browser

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/142.0.0.0 Safari/537.36"
)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"
OUTLOOK = "Mozilla/4.0 (compatible; ms-office; MSOffice 16)"
GMAIL_PROXY = (
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
)
ADDRESS = "8.8.4.4"
LABELLED_SECONDS_MAX = 20


@pytest.fixture(scope="module")
def proxied(start_server_for_module: Callable[..., Server], database: str) -> Server:
    """A server of two workers that believes one proxy, and may send to this machine."""
    return start_server_for_module(database, trusted_proxies="1", webhook_private="1")


def links_of(server: Server, pixel: dict[str, Any], count: int) -> list[str]:
    people = {"recipients": [f"person{number}" for number in range(count)]}
    issued = server.admin.post(f"/api/pixels/{pixel['id']}/recipients", people)
    return [link["url"].removeprefix(server.base) for link in issued.json["data"]]


def fetch_all(
    server: Server, paths: list[str], agents: list[str], address: str | None = ADDRESS
) -> None:
    stranger = server.admin.with_token(None)

    def fetch(place: int) -> None:
        headers = {"User-Agent": agents[place % len(agents)]}
        if address is not None:
            headers["X-Forwarded-For"] = address
        assert stranger.get(paths[place], headers=headers).status == 200

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch, range(len(paths))))


def reasons(server: Server, pixel: dict[str, Any]) -> set[tuple[str, str]]:
    return {(hit_class, reason) for hit_class, reason, _ in verdicts(server, pixel)}


def wait_for_burst(server: Server, pixel: dict[str, Any]) -> None:
    give_up_at = time.monotonic() + LABELLED_SECONDS_MAX
    while reasons(server, pixel) != {("prefetch", "burst")}:
        assert time.monotonic() < give_up_at, reasons(server, pixel)
        time.sleep(0.1)


@pytest.fixture(scope="module")
def counted(proxied: Server) -> dict[str, Any]:
    """A pixel whose eight hits were counted as opens before they became a burst."""
    pixel = proxied.admin.create_pixel()
    paths = links_of(proxied, pixel, 8)
    fetch_all(proxied, paths, [CHROME])
    stats(proxied, pixel)
    wait_for_burst(proxied, pixel)
    # What is counted follows at once.
    give_up_at = time.monotonic() + LABELLED_SECONDS_MAX
    while stats(proxied, pixel) and time.monotonic() < give_up_at:
        time.sleep(0.1)
    return pixel


def stats(server: Server, pixel: dict[str, Any], hit_class: str = "open") -> int:
    span = f"startAt=0&endAt={round(time.time() * 1000) + 60_000}"
    answer = server.admin.get(f"/api/pixels/{pixel['id']}/stats?{span}&class={hit_class}")
    pageviews: int = answer.json["pageviews"]
    return pageviews


def test_eight_links_within_a_second_from_one_address_are_prefetches(
    proxied: Server, counted: dict[str, Any]
) -> None:
    assert stats(proxied, counted) == 0
    assert stats(proxied, counted, "prefetch") == 8
    people = proxied.admin.get(f"/api/pixels/{counted['id']}/recipients").json["data"]
    assert [
        (person["opens"], person["prefetches"], person["firstOpenedAt"]) for person in people
    ] == [(0, 1, None)] * 8


def test_persons_page_says_with_how_many_others_they_were_fetched(
    proxied: Server, counted: dict[str, Any]
) -> None:
    (name, *_) = [row[2] for row in verdicts(proxied, counted)]
    browser = Browser(Client(proxied.base)).sign_in("admin")
    page = browser.get(f"/person?name={name}").body.decode()
    assert re.search("fetched with 7 others within [12] second", page)


def test_webhooks_are_told_of_a_burst_as_one(proxied: Server) -> None:
    receiver, pixel = Receiver(), proxied.admin.create_pixel()
    try:
        webhook = {"url": receiver.url, "pixelId": pixel["id"], "events": ["hit", "open"]}
        made = proxied.admin.post("/api/webhooks", webhook).json
        fetch_all(proxied, links_of(proxied, pixel, 8), [CHROME])
        # What comes after them is told after them.
        assert proxied.admin.get(f"/p/{pixel['slug']}", headers={"User-Agent": OUTLOOK})
        wait_until(lambda: "pixel.open" in [body["type"] for body in receiver.bodies])
        told = [(body["type"], body["data"]["reason"]) for body in receiver.bodies]
    finally:
        proxied.admin.delete(f"/api/webhooks/{made['id']}")
        receiver.close()
    assert told[:8] == [("pixel.hit", "burst")] * 8
    assert set(told[8:]) <= {("pixel.hit", "mail-client"), ("pixel.open", "mail-client")}


def test_reclassifying_leaves_a_burst_one(proxied: Server, counted: dict[str, Any]) -> None:
    number = proxied.number_of(counted)
    proxied.execute(f"UPDATE profiles SET rules_version = -1 WHERE pixel_number = {number}")
    proxied.cli("reclassify")
    assert reasons(proxied, counted) == {("prefetch", "burst")}
    assert stats(proxied, counted, "prefetch") == 8


@pytest.mark.parametrize(
    ("agents", "address", "count"),
    [
        ([CHROME, FIREFOX, OUTLOOK], ADDRESS, 5),
        ([GMAIL_PROXY], ADDRESS, 20),
        ([OUTLOOK], ADDRESS, 20),
        ([CHROME], "10.1.2.3", 20),
    ],
    ids=["five colleagues", "Gmail", "mail program", "private address"],
)
def test_people_are_no_burst(proxied: Server, agents: list[str], address: str, count: int) -> None:
    pixel = proxied.admin.create_pixel()
    fetch_all(proxied, links_of(proxied, pixel, count), agents, address)
    after_the_next_look(proxied)
    assert {hit_class for hit_class, _ in reasons(proxied, pixel)} == {"open"}


def test_plain_recipients_are_no_burst(proxied: Server) -> None:
    pixel = proxied.admin.create_pixel()
    paths = [f"/p/{pixel['slug']}?r=person{number}" for number in range(20)]
    fetch_all(proxied, paths, [CHROME])
    after_the_next_look(proxied)
    assert reasons(proxied, pixel) == {("open", "browser")}


def after_the_next_look(server: Server) -> None:
    """Wait until a burst that came later is labelled: what came before was looked at too."""
    pixel = server.admin.create_pixel()
    fetch_all(server, links_of(server, pixel, 12), [FIREFOX], "9.9.9.9")
    wait_for_burst(server, pixel)


def test_sightings_hold_no_address_and_go_after_a_minute(
    proxied: Server, counted: dict[str, Any]
) -> None:
    rows = proxied.query("SELECT * FROM burst_sightings")
    assert rows
    assert ADDRESS not in json.dumps(rows)
    proxied.execute("UPDATE burst_sightings SET at_ms = at_ms - 60001")
    give_up_at = time.monotonic() + LABELLED_SECONDS_MAX
    while proxied.query("SELECT 1 FROM burst_sightings"):
        assert time.monotonic() < give_up_at
        time.sleep(0.1)
