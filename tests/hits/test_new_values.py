"""What one sender, and all of them, can make us keep of hits that are all different."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.clock import milliseconds
from hits.classify import classify_agent, classify_hit
from hits.new_values import HIT_BYTES_MAX, NewValues
from hits.references import HitContext
from tests.conftest import Client, Server

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/{}.0.0.0 Safari/537.36"
)


@dataclasses.dataclass
class Pixel:
    """Sends hits to one pixel through limits, and tells what is kept of each."""

    limits: NewValues
    number: int = 1

    def keeps(
        self, address: str = "192.0.2.1", at: datetime = AT, agent: str = "", **texts: Any
    ) -> HitContext:
        says = classify_agent(agent)
        context = HitContext(agent, **texts)
        verdict = classify_hit(says)
        pixel = (self.number, uuid.uuid4())
        return self.limits.limited(pixel, address, context, (says, verdict), None, milliseconds(at))


def test_new_values_of_a_sender_are_kept_up_to_the_limit_of_an_hour() -> None:
    pixel = Pixel(NewValues(3, 100))
    assert [pixel.keeps(query=f"q={n}").query for n in range(5)] == [
        "q=0", "q=1", "q=2", "other", "other",
    ]  # fmt: skip
    assert pixel.keeps(query="q=1").query == "q=1"
    assert pixel.keeps("192.0.2.2", query="q=9").query == "q=9"
    assert pixel.keeps(at=AT + timedelta(hours=1), query="q=10").query == "q=10"


def test_senders_of_one_network_of_ipv6_are_one() -> None:
    pixel = Pixel(NewValues(2, 100))
    kept = [pixel.keeps(f"2001:db8::{n:x}", referrer=f"https://{n}/").referrer for n in range(3)]
    assert kept == ["https://0/", "https://1/", "other"]
    assert pixel.keeps("2001:db8:0:1::1", referrer="https://3/").referrer == "https://3/"


def test_new_values_of_a_pixel_are_kept_up_to_the_limit_of_a_day() -> None:
    limits = NewValues(100, 3)
    pixel = Pixel(limits)
    kept = [pixel.keeps(f"192.0.2.{n}", hostname=f"h{n}").hostname for n in range(5)]
    assert kept == ["h0", "h1", "h2", "other", "other"]
    assert Pixel(limits, 2).keeps(hostname="h9").hostname == "h9"
    assert pixel.keeps(at=AT + timedelta(days=1), hostname="h10").hostname == "h10"


def test_agents_of_known_programs_are_no_new_ones() -> None:
    pixel = Pixel(NewValues(1, 1))
    for number in range(1_000):
        assert pixel.keeps(agent=CHROME.format(number)).user_agent == CHROME.format(number)
    assert pixel.keeps(agent="odd/1").user_agent == "odd/1"
    assert pixel.keeps(agent="odd/2").user_agent == "other"
    assert pixel.keeps(agent=CHROME.format("1" * 300)).user_agent == "other"


def test_class_is_the_real_agents_where_the_agent_is_not_kept() -> None:
    pixel = Pixel(NewValues(1, 1))
    pixel.keeps(agent="odd/1")
    kept = pixel.keeps(agent="curl/9.9.9")
    assert (kept.user_agent, kept.verdict) == ("other", classify_hit(classify_agent("curl/9.9.9")))


@pytest.mark.parametrize("letter", ["x", "я", "\N{GRINNING FACE}"])
def test_what_is_kept_pays_for_itself_whatever_is_sent(letter: str) -> None:
    pixel, count, size = Pixel(NewValues(10_000, 100_000)), 200, 0
    for number in range(count):
        kept = pixel.keeps(
            agent=f"{number}{letter * 500}",
            query=f"{number}{letter * 490}",
            referrer=f"{number}{letter * 490}",
            hostname=f"{number}{'x' * 90}",
        )
        texts = (kept.user_agent, kept.query, kept.referrer, kept.hostname)
        size += sum(len(text.encode()) for text in texts if text and text != "other")
    assert 0.3 * HIT_BYTES_MAX < size / count < 0.65 * HIT_BYTES_MAX


def fetch(client: Client, pixel: dict[str, Any], **headers: str) -> None:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    query = sent.pop("query", "")
    answer = client.get(f"/p/{pixel['slug']}?{query}", headers=sent)
    assert answer.status == 200


def test_flood_is_stored_as_other_and_told_of_by_log_and_report(
    start_server: Callable[..., Server], database: str
) -> None:
    server = start_server(database, new_values_per_hour="8", workers="1")
    admin = server.admin
    pixel = admin.create_pixel()
    report = admin.with_token(None)
    share = admin.post(f"/api/pixels/{pixel['id']}/shares", {"name": "all"}).json["slug"]
    assert "listed as" not in report.get(f"/share/{share}").body.decode()
    for number in range(6):
        fetch(
            admin,
            pixel,
            User_Agent=f"curl/9.{number}",
            Referer=f"https://r{number}.example/",
            Host=f"h{number}.example",
            query=f"q={number}",
        )
    fetch(admin, pixel, User_Agent=CHROME.format(131), Host="h0.example", query="q=0")
    path = f"/api/pixels/{pixel['id']}/metrics?startAt=0&endAt=4000000000000&class=all&type="
    for dimension, kept in (
        ("query", {"q=0", "q=1"}),
        ("hostname", {"h0.example", "h1.example"}),
        ("referrer", {"r0.example", "r1.example"}),
        ("browser", {"chrome"}),
    ):
        found = {row["x"] for row in admin.get(path + dimension).json}
        assert found == kept | {"other"}, dimension
    classes = server.query("SELECT hit_class, count(*) FROM profiles GROUP BY 1 ORDER BY 1")
    assert classes == [("bot", 3), ("open", 1)]
    assert "4 fetches brought more new" in report.get(f"/share/{share}").body.decode()
    told = [line for line in server.log.splitlines() if pixel["id"] in line]
    assert len(told) == 1
    assert "127.0.0.1" not in told[0]
    server.execute("UPDATE profiles SET rules_version = -1")
    server.execute("UPDATE agents SET rules_version = -1, browser = NULL")
    server.cli("reclassify")
    assert server.query("SELECT DISTINCT rules_version FROM profiles") != [(-1,)]
    assert server.query("SELECT browser FROM agents WHERE user_agent = 'other'") == [("other",)]
    again = server.query("SELECT hit_class, count(*) FROM profiles GROUP BY 1 ORDER BY 1")
    assert again == classes


def test_rows_that_name_things_take_the_room_they_need(
    start_server: Callable[..., Server],
) -> None:
    server = start_server()
    pixel = server.number_of(server.admin.create_pixel())
    ((pages,),) = server.query("PRAGMA page_count")
    server.execute(
        "WITH RECURSIVE numbers (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM numbers LIMIT 1000)"
        " INSERT INTO agents (id, user_agent) SELECT n, printf('%04d%.*c', n, 1500, 'x')"
        " FROM numbers"
    )
    server.execute(
        "WITH RECURSIVE numbers (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM numbers LIMIT 1000)"
        f" INSERT INTO texts SELECT {pixel}, n, printf('%04d%.*c', n, 1500, 'x') FROM numbers"
    )
    ((pages_after,),) = server.query("PRAGMA page_count")
    ((page_bytes,),) = server.query("PRAGMA page_size")
    assert (pages_after - pages) * page_bytes / 2000 < 1.5 * 1504


def test_a_name_that_older_rules_read_is_read_again(
    start_server: Callable[..., Server], database: str
) -> None:
    server = start_server(database)
    pixel = server.admin.create_pixel()
    fetch(server.admin, pixel, User_Agent=CHROME.format(131))
    server.execute("UPDATE agents SET rules_version = 0, browser = 'old'")
    path = f"/api/pixels/{pixel['id']}/metrics?startAt=0&endAt=4000000000000&type=browser"
    assert [row["x"] for row in server.admin.get(path).json] == ["chrome"]
