"""The statistics' routes over HTTP: shapes, filters, ranges, strangers."""

from __future__ import annotations

import csv
import io
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import pytest

from stats.questions import compared_with
from stats.shapes import Question
from tests.conftest import Answer, Client, Server

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/120.0.0.0 Safari/537.36"
)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
APPLE = "Mozilla/5.0"
# The form of a hit's id, far beyond what a database can number.
NO_INSTANT = (2**48 - 1 << 80) | (7 << 76) | (2 << 62)
TOTALS = {"pageviews", "visitors", "visits", "bounces", "totaltime"}
REPORTS = (
    *("stats", "pageviews", "metrics?type=browser", "metrics/expanded?type=browser"),
    *("values?type=browser", "active", "daterange", "events", "export"),
)


@pytest.fixture(scope="module")
def pixel(server: Server) -> dict[str, Any]:
    """A pixel with two Chromes' three opens, a Firefox's, a prefetch and a bot."""
    pixel = server.admin.create_pixel()
    for agent, language, query in (
        (CHROME, "de-DE", "utm_source=Brief&utm_medium=email"),
        (CHROME, "de-DE", "utm_source=Brief&utm_medium=email"),
        (CHROME, "de-DE", "r=ada"),
        (FIREFOX, "en", "note=50%25_off"),
        (APPLE, "en", "r=ada"),
        ("curl/8.0", "", "x"),
    ):
        headers = {"User-Agent": agent, "Accept-Language": language}
        path = f"/p/{pixel['slug']}?{query}"
        assert server.admin.with_token(None).get(path, headers=headers).status == 200
    return pixel


def ask(client: Client, pixel: dict[str, Any], report: str, **query: Any) -> Answer:
    now_ms = round(time.time() * 1000)
    query = {"startAt": now_ms - 3_600_000, "endAt": now_ms + 3_600_000} | query
    sent = "&".join(f"{name}={value}" for name, value in query.items())
    family = query.pop("family", "pixels")
    joint = "&" if "?" in report else "?"
    return client.get(f"/api/{family}/{pixel['id']}/{report}{joint}{sent}")


def counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {row["x"]: row["y"] for row in rows}


def test_stats_counts_opens_unless_asked(admin: Client, pixel: dict[str, Any]) -> None:
    found = ask(admin, pixel, "stats").json
    assert set(found) == TOTALS | {"comparison"}
    assert set(found["comparison"]) == TOTALS
    assert (found["pageviews"], found["visitors"], found["bounces"]) == (4, 3, 2)
    assert ask(admin, pixel, "stats", **{"class": "all"}).json["pageviews"] == 6
    assert ask(admin, pixel, "stats", **{"class": "prefetch"}).json["pageviews"] == 1
    assert ask(admin, pixel, "stats", **{"class": "bot"}).json["visitors"] == 1


def test_stats_comparison_is_the_time_before(admin: Client, pixel: dict[str, Any]) -> None:
    now_ms = round(time.time() * 1000)
    later = {"startAt": now_ms + 3_600_000, "endAt": now_ms + 3 * 3_600_000}
    found = ask(admin, pixel, "stats", **later).json
    assert found["pageviews"] == 0
    assert found["comparison"]["pageviews"] == 4
    year_ms = 365 * 86_400_000
    in_a_year = {"startAt": now_ms + year_ms - 3_600_000, "endAt": now_ms + year_ms + 3_600_000}
    assert ask(admin, pixel, "stats", compare="yoy", **in_a_year).json["comparison"][
        "visitors"
    ] in (0, 3)  # 0 where a leap day lies between.


@pytest.mark.parametrize("report", REPORTS)
def test_report_of_a_website_is_that_of_the_pixel(
    admin: Client, pixel: dict[str, Any], report: str
) -> None:
    now_ms = round(time.time() * 1000)
    query = {"startAt": now_ms - 1000, "endAt": now_ms + 1000, "unit": "minute"}
    ours = ask(admin, pixel, report, **query)
    theirs = ask(admin, pixel, report, family="websites", **query)
    assert (ours.status, theirs.status) == (200, 200)
    if report != "pageviews":
        assert ours.body == theirs.body


def test_pageviews_fills_gaps_under_pixels_alone(admin: Client, pixel: dict[str, Any]) -> None:
    query = {"unit": "hour", "timezone": "Asia/Kathmandu"}
    ours = ask(admin, pixel, "pageviews", **query).json
    theirs = ask(admin, pixel, "pageviews", family="websites", **query).json
    assert set(ours) == set(theirs) == {"pageviews", "sessions"}
    assert len(theirs["pageviews"]) == 1
    assert len(ours["pageviews"]) in (3, 4)
    assert sum(point["y"] for point in ours["pageviews"]) == 4
    assert sum(point["y"] for point in ours["sessions"]) == 3
    assert theirs["pageviews"][0] in ours["pageviews"]
    assert len(theirs["pageviews"][0]["x"]) == len("2026-11-23 00:00:00")


def test_pageviews_compare_adds_the_other_series(admin: Client, pixel: dict[str, Any]) -> None:
    found = ask(admin, pixel, "pageviews", unit="day", compare="prev").json
    assert set(found) == {"pageviews", "sessions", "startDate", "endDate", "compare"}
    assert set(found["compare"]) == {"pageviews", "sessions", "startDate", "endDate"}
    assert found["compare"]["endDate"] < found["startDate"]


def test_metrics_count_visitors_of_each_value(admin: Client, pixel: dict[str, Any]) -> None:
    def metrics(type: str, **query: Any) -> dict[str, int]:
        return counts(ask(admin, pixel, f"metrics?type={type}", **query).json)

    assert metrics("browser") == {"chrome": 2, "firefox": 1}
    assert metrics("os") == {"Windows 10": 2, "Linux": 1}
    assert metrics("device") == {"desktop": 3}
    assert metrics("language") == {"de": 2, "en": 1}
    assert metrics("utmSource") == {"Brief": 1}
    assert metrics("channel") == {"email": 1, "direct": 2}
    assert metrics("recipient", **{"class": "all"}) == {"ada": 1}
    assert metrics("class", **{"class": "all"}) == {"open": 3, "prefetch": 1, "bot": 1}
    assert metrics("reason", **{"class": "bot"}) == {"tool": 1}
    assert metrics("browser", search="FIRE") == {"firefox": 1}
    assert metrics("query", search="50%2525_") == {"note=50%25_off": 1}
    assert metrics("browser", limit=1, offset=1) == {"firefox": 1}
    assert metrics("path") == metrics("screen") == {}


def test_expanded_metrics_have_all_totals(admin: Client, pixel: dict[str, Any]) -> None:
    rows = ask(admin, pixel, "metrics/expanded?type=browser").json
    assert [set(row) for row in rows] == [TOTALS | {"name"}] * 2
    assert (rows[0]["name"], rows[0]["pageviews"], rows[0]["bounces"]) == ("chrome", 3, 1)


@pytest.mark.parametrize(
    ("query", "pageviews"),
    [
        ("browser=chrome", 3),
        ("browser=eq.chrome,firefox", 4),
        ("browser=chrome&browser1=neq.chrome", 0),
        ("browser=neq.chrome", 1),
        ("browser=c.FIRE", 1),
        ("browser=dnc.fire", 3),
        ("utmSource=neq.Other", 2),
        ("recipient=ada", 1),
        ("recipient=neq.ada", 0),
        ("recipient=ada&browser=firefox", 0),
        ("path=c./p/", 0),
        ("language=de&os=Linux", 0),
    ],
)
def test_filter_keeps_matching_hits(
    admin: Client, pixel: dict[str, Any], query: str, pageviews: int
) -> None:
    assert ask(admin, pixel, f"stats?{query}").json["pageviews"] == pageviews
    events = ask(admin, pixel, f"events?{query}").json
    assert (events["count"], len(events["data"])) == (pageviews, pageviews)


def test_values_count_page_views(admin: Client, pixel: dict[str, Any]) -> None:
    found = ask(admin, pixel, "values?type=browser").json
    assert found == [{"value": "chrome", "count": 3}, {"value": "firefox", "count": 1}]


def test_active_and_daterange(admin: Client, pixel: dict[str, Any]) -> None:
    assert ask(admin, pixel, "active").json == {"visitors": 3}
    dates = ask(admin, pixel, "daterange").json
    assert dates["startDate"] <= dates["endDate"]
    empty = admin.create_pixel()
    assert ask(admin, empty, "daterange").json == {"startDate": None, "endDate": None}


def test_events_are_newest_first_and_paged(admin: Client, pixel: dict[str, Any]) -> None:
    def events(**query: Any) -> dict[str, Any]:
        return ask(admin, pixel, "events", **{"class": "all"}, **query).json

    first = events(pageSize=4)
    assert (first["count"], first["page"], first["pageSize"]) == (6, 1, 4)
    ids = [hit["id"] for hit in (*first["data"], *events(pageSize=4, page=2)["data"])]
    assert len(set(ids)) == 6
    assert ids == sorted(ids, reverse=True)
    assert events(page=900)["data"] == []
    newest = first["data"][0]
    assert (newest["class"], newest["reason"], newest["websiteId"]) == ("bot", "tool", pixel["id"])
    assert first["data"][1]["recipient"] == "ada"
    assert first["data"][2]["urlQuery"] == "note=50%25_off"


def test_events_after_one_are_the_next_oldest_first(admin: Client) -> None:
    pixel = admin.create_pixel()
    path = f"/p/{pixel['slug']}"
    for _ in range(3):
        admin.get(path)
    report = f"/api/pixels/{pixel['id']}/events?class=all"
    newest, middle, oldest = (hit["id"] for hit in admin.get(report).json["data"])
    after = admin.get(f"{report}&after={oldest}").json["data"]
    assert [hit["id"] for hit in after] == [middle, newest]
    assert admin.get(f"{report}&after={newest}").json["data"] == []
    for other in (uuid.uuid4(), "08000000-0000-7000-8000-000000000001", uuid.UUID(int=NO_INSTANT)):
        assert admin.get(f"{report}&after={other}").code == "bad-request"
    last = uuid.UUID(int=(2**43 - 1 << 80) | (7 << 76) | (2 << 62))
    assert admin.get(f"{report}&after={last}").json["data"] == []


def test_value_with_a_comma_is_found_by_its_own_name(admin: Client) -> None:
    pixel = admin.create_pixel()
    for name in ("Lovelace, Ada", "Lovelace, Ada", "Ada"):
        admin.get(f"/p/{pixel['slug']}?{urlencode({'r': name})}", headers={"User-Agent": FIREFOX})
    name = quote("Lovelace, Ada")
    assert ask(admin, pixel, "stats", recipient=f"eq.{name}").json["pageviews"] == 2
    assert ask(admin, pixel, "stats", recipient=name).json["pageviews"] == 2
    assert ask(admin, pixel, "stats", recipient=f"neq.{name}").json["pageviews"] == 1
    assert ask(admin, pixel, "stats", recipient="eq.Ada,Grace").json["pageviews"] == 1


@pytest.mark.parametrize(
    ("start", "end", "earlier_start", "earlier_end"),
    [
        ("2024-05-01T00:00", "2024-05-31T23:59", "2023-05-01T00:00", "2023-05-31T23:59"),
        ("2024-02-29T00:00", "2024-02-29T23:59", "2023-02-28T00:00", "2023-02-28T23:59"),
        ("2024-02-28T12:00", "2024-02-29T11:00", "2023-02-28T12:00", "2023-02-28T12:00"),
        ("2024-02-27T00:00", "2024-02-29T23:59", "2023-02-27T00:00", "2023-02-28T23:59"),
        ("2024-02-29T12:00", "2024-03-01T11:00", "2023-02-28T12:00", "2023-03-01T11:00"),
        ("2025-03-30T00:00", "2025-03-30T23:59", "2024-03-30T00:00", "2024-03-30T23:59"),
        ("2026-03-30T00:00", "2026-03-30T23:59", "2025-03-30T00:00", "2025-03-30T23:59"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York"])
def test_year_before_is_of_the_same_days_in_the_zone(
    zone: str, start: str, end: str, earlier_start: str, earlier_end: str
) -> None:
    local = ZoneInfo(zone)

    def at(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=local).astimezone(UTC)

    question = Question(1, at(start), at(end), zone=local)
    found = compared_with(question, "yoy")
    assert (found.start, found.end) == (at(earlier_start), at(earlier_end))


def test_export_streams_every_hit(admin: Client, pixel: dict[str, Any]) -> None:
    answer = ask(admin, pixel, "export", **{"class": "all"})
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert [row["class"] for row in rows] == ["open"] * 4 + ["prefetch", "bot"]
    assert rows[2]["recipient"] == "ada"
    lines = ask(admin, pixel, "export", **{"class": "all"}, format="jsonl").body.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [row["id"] for row in rows]


@pytest.mark.parametrize("agent", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_export_defuses_formulas(admin: Client, agent: str) -> None:
    pixel = admin.create_pixel()
    admin.get(f"/p/{pixel['slug']}?{agent.strip()}", headers={"User-Agent": agent})
    answer = admin.get(f"/api/pixels/{pixel['id']}/export?class=all")
    row = next(csv.DictReader(io.StringIO(answer.body.decode())))
    assert row["query"][0] not in "=+-@\t"
    assert row["userAgent"][0] not in "=+-@\t"


def test_export_of_nothing_is_a_line_of_columns(admin: Client) -> None:
    pixel = admin.create_pixel()
    body = admin.get(f"/api/pixels/{pixel['id']}/export").body
    assert body.startswith(b"id,createdAt,class,reason,")
    assert body.count(b"\n") == 1


def test_charts_leave_out_what_one_may_not_see(
    admin: Client, stranger: Client, pixel: dict[str, Any]
) -> None:
    own = stranger.create_pixel()
    path = f"/api/pixels/charts?ids={pixel['id']},{own['id']},{uuid.uuid4()}&timezone=Asia/Tokyo"
    data = stranger.get(path).json["data"]
    assert set(data) == {own["id"]}
    assert data[own["id"]]["total"] == 0
    assert len(data[own["id"]]["values"]) == 15
    data = admin.get(path).json["data"]
    assert data[pixel["id"]]["total"] == 3
    assert sum(data[pixel["id"]]["values"]) in (3, 4)


def test_charts_take_ids_repeated_as_well_as_apart_by_commas(admin: Client) -> None:
    ids = [admin.create_pixel()["id"] for _ in range(3)]
    data = admin.get(f"/api/pixels/charts?ids={ids[0]},{ids[1]}&ids={ids[2]}").json["data"]
    assert list(data) == ids


def test_chart_of_what_is_yet_to_come_ends_now(admin: Client, pixel: dict[str, Any]) -> None:
    start_ms = int((time.time() - 3 * 86_400) * 1000)
    path = f"/api/pixels/charts?ids={pixel['id']}&endAt=9999999999999&startAt"
    values = admin.get(f"{path}={start_ms}").json["data"][pixel["id"]]["values"]
    assert len(values) in (7, 8)
    assert sum(values) in (3, 4)


@pytest.mark.parametrize("prefix", ["pixels", "websites"])
@pytest.mark.parametrize("end", ["9999999999999", "4102444800000", "now"])
def test_chart_of_a_long_range_has_wider_units(
    admin: Client, pixel: dict[str, Any], prefix: str, end: str
) -> None:
    now_ms = int(time.time() * 1000)
    end_ms = now_ms if end == "now" else int(end)
    path = f"/api/{prefix}/charts?ids={pixel['id']}&endAt={end_ms}&startAt"
    for start_ms in (0, now_ms - 401 * 86_400_000, now_ms - 2000 * 86_400_000):
        chart = admin.get(f"{path}={start_ms}").json["data"][pixel["id"]]
        assert chart["total"] == 3
        assert sum(chart["values"]) in (3, 4)
        assert len(chart["values"]) <= 1500


@pytest.mark.parametrize("ids", ["", "nonsense", ",".join([str(uuid.uuid4())] * 21)])
def test_charts_of_bad_ids_are_refused(admin: Client, ids: str) -> None:
    assert admin.get(f"/api/pixels/charts?ids={ids}").code == "bad-request"


def test_website_is_the_pixel(admin: Client, stranger: Client, pixel: dict[str, Any]) -> None:
    found = admin.get(f"/api/websites/{pixel['id']}").json
    assert (found["id"], found["domain"]) == (pixel["id"], pixel["slug"])
    assert stranger.get(f"/api/websites/{pixel['id']}").code == "not-found"


@pytest.mark.parametrize(
    "query",
    [
        "startAt=1",
        "endAt=1",
        "startAt=2&endAt=1",
        "startAt=x&endAt=1",
        "startAt=-1&endAt=1",
        "startAt=0&endAt=-1",
        "startDate=yesterday&endDate=today",
        "startDate=0001-01-01&endDate=9999-12-31",
        "startAt=0&endAt=1&timezone=Mars/Olympus",
        "startAt=0&endAt=1&timezone=../etc/passwd",
        "startAt=0&endAt=1&class=person",
        "startAt=0&endAt=1&match=some",
        "startAt=0&endAt=1&segment=00000000-0000-4000-8000-000000000000",
        "startAt=0&endAt=1&cohort=00000000-0000-4000-8000-000000000000",
        "startAt=0&endAt=1&browser=re.x",
        "startAt=0&endAt=1&query=" + "x" * 501,
        "startAt=0&endAt=1&" + "&".join(["browser=x"] * 21),
    ],
)
def test_bad_question_is_refused(admin: Client, pixel: dict[str, Any], query: str) -> None:
    assert admin.get(f"/api/pixels/{pixel['id']}/stats?{query}").code == "bad-request"


@pytest.mark.parametrize(
    "report",
    [
        "pageviews?unit=week",
        "metrics",
        "metrics?type=nonsense",
        "metrics?type=browser&limit=0",
        "metrics?type=browser&offset=-1",
        "metrics?type=browser&limit=99999999999",
        "events?pageSize=0",
        "events?page=0",
        "events?after=nonsense",
        "export?format=xls",
        "stats?compare=later",
    ],
)
def test_bad_report_is_refused(admin: Client, pixel: dict[str, Any], report: str) -> None:
    assert ask(admin, pixel, report).code == "bad-request"


@pytest.mark.parametrize("family", ["pixels", "websites"])
@pytest.mark.parametrize("report", REPORTS)
def test_report_is_for_readers_alone(
    server: Server, stranger: Client, pixel: dict[str, Any], report: str, family: str
) -> None:
    assert ask(stranger, pixel, report, family=family).code == "not-found"
    nobody = server.admin.with_token(None)
    assert ask(nobody, pixel, report, family=family).code == "unauthorized"


def test_unit_too_fine_for_the_range_is_widened(admin: Client, pixel: dict[str, Any]) -> None:
    found = ask(admin, pixel, "pageviews", unit="minute", startAt=0, endAt=4_000_000_000_000).json
    assert len(found["pageviews"]) == 127
    assert found["pageviews"][0]["x"] == "1970-01-01 00:00:00"
