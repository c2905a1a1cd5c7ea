"""`script/pixelkeep import`: hits of a file, once, whenever it is read."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT_DIR, Server, unique, verdicts, wait_until
from tests.web.api.test_webhooks import Receiver

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"
MPP = "Mozilla/5.0"
COLUMNS = (
    *("id", "createdAt", "class", "reason", "recipient", "visitor", "country", "language"),
    *("browser", "os", "device", "channel", "hostname", "referrer", "query", "userAgent"),
)
WEBSITE = "7b1d6d2f-3c52-4a5c-9c1e-000000000001"


def row_of(**values: str | None) -> dict[str, Any]:
    """Return a row of our export."""
    return {
        **dict.fromkeys(COLUMNS),
        "id": str(uuid.uuid4()),
        "createdAt": "2026-03-04T05:06:07.890Z",
        "class": "open",
        "reason": "browser",
        "visitor": str(uuid.uuid4()),
        "userAgent": FIREFOX,
        **values,
    }


def json_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def dump_of(path: Path, rows: list[tuple[str, ...]], sessions: str = "") -> Path:
    """Write a part of what `pg_dump` makes of Umami's database."""
    block = "\n".join("\t".join(row) for row in rows)
    path.write_text(
        "--\n-- PostgreSQL database dump\n--\n\nCOPY public.session (session_id, website_id,"
        " browser, os, device, screen, language, country, region, city, created_at, distinct_id)"
        f" FROM stdin;\n{sessions}\\.\n\n"
        "COPY public.website_event (event_id, website_id, session_id, created_at, url_path,"
        " url_query, referrer_path, referrer_query, referrer_domain, page_title, event_type,"
        f" event_name, hostname) FROM stdin;\n{block}\n\\.\n\nSELECT 1;\n"
    )
    return path


def event_of(n: int, at: str, website: str = WEBSITE, **values: str) -> tuple[str, ...]:
    cells = {
        "event": str(uuid.UUID(int=n, version=4)),
        "website": website,
        "session": str(uuid.UUID(int=1, version=4)),
        "at": at,
        "path": "/letter",
        "query": "utm_source=news",
        "referrer_path": "/a\\\\b",
        "referrer_query": "\\N",
        "referrer_domain": "example.org",
        "title": "A tab:\\t.",
        "type": "1",
        "name": "\\N",
        "hostname": "www.example.org",
    }
    return tuple((cells | values).values())


def exported(server: Server, slug: str, kind: str = "jsonl") -> str:
    options = ("--class", "all", "--days", "3650", "--format", kind)
    return server.cli("export", slug, *options).stdout


def events_of(server: Server, slug: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in exported(server, slug).splitlines()]


def without_ids(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what a hit keeps on another pixel."""
    return [
        {name: value for name, value in row.items() if name not in ("id", "visitor")}
        for row in rows
    ]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_import_of_our_own_export_makes_the_same_hits_once(
    server: Server, tmp_path: Path, kind: str
) -> None:
    old, new = server.admin.create_pixel(), server.admin.create_pixel()
    for headers, query in (
        ({"User-Agent": FIREFOX, "Referer": "=1+1", "Accept-Language": "de-AT"}, "?utm_source=%2B"),
        ({"User-Agent": MPP}, "?r=@ann"),
        ({"User-Agent": "=cmd"}, "?r=@ann"),
        ({"User-Agent": FIREFOX, "Sec-Purpose": "prefetch"}, ""),
    ):
        server.admin.get(f"/p/{old['slug']}{query}", headers=headers)
    file = tmp_path / f"hits.{kind}"
    file.write_text(exported(server, old["slug"], kind), newline="")
    # Into where it came from it adds nothing.
    done = server.cli("import", old["slug"], "--from", kind, str(file))
    assert done.stdout == "Imported 0 hits; 4 were there already.\n"
    for imported, there in ((4, 0), (0, 4)):
        done = server.cli("import", new["slug"], "--from", kind, str(file))
        assert done.stdout == f"Imported {imported} hits; {there} were there already.\n"
        assert without_ids(events_of(server, new["slug"])) == without_ids(
            events_of(server, old["slug"])
        )
    assert len(verdicts(server, old)) == 4
    range_of_all = "startAt=0&endAt=4000000000000&class=all"
    before, after = (
        server.admin.get(f"/api/pixels/{pixel['id']}/stats?{range_of_all}").json
        for pixel in (old, new)
    )
    assert after["pageviews"] == before["pageviews"]
    assert after["visitors"] == before["visitors"]


def test_import_classifies_anew_and_keeps_instants(server: Server, tmp_path: Path) -> None:
    pixel = server.admin.create_pixel()
    rows = [
        row_of(userAgent="curl/8.0", **{"class": "open"}),
        row_of(userAgent="other", reason="mail-client", createdAt="2025-01-01T00:00:00.000Z"),
        row_of(reason="too-soon", **{"class": "prefetch"}),
        row_of(visitor=None, recipient="ann@example.org"),
    ]
    file = json_lines(tmp_path / "hits.jsonl", rows)
    server.cli("import", pixel["slug"], "--from", "jsonl", str(file))
    assert verdicts(server, pixel) == [
        ("bot", "tool", None),
        ("open", "mail-client", None),
        ("prefetch", "too-soon", None),
        ("open", "browser", "ann@example.org"),
    ]
    instants = sorted(row["createdAt"] for row in events_of(server, pixel["slug"]))
    assert instants == sorted(row["createdAt"] for row in rows)
    # Folding had nothing to wait for.
    found = server.query(f"SELECT folded_through FROM pixels WHERE slug = '{pixel['slug']}'")
    newest = server.query(
        f"SELECT max(id) FROM hits WHERE pixel_number = {server.number_of(pixel)}"
    )
    assert found == newest


def test_import_gives_hits_to_those_whom_links_were_issued_to(
    server: Server, tmp_path: Path
) -> None:
    pixel = server.admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}/recipients"
    server.admin.post(path, {"recipients": ["ann@example.org", "bob@example.org"]})
    server.cli("recipients", "opt-out", "bob@example.org")
    rows = [row_of(recipient=f"{name}@example.org") for name in ("ann", "bob", "cy")]
    file = json_lines(tmp_path / "hits.jsonl", rows)
    server.cli("import", pixel["slug"], "--from", "jsonl", str(file))
    assert [recipient for *_, recipient in verdicts(server, pixel)] == [
        "ann@example.org",
        None,
        "cy@example.org",
    ]
    counts = server.admin.get(path).json["counts"]
    assert (counts["all"], counts["opened"]) == (1, 1)
    server.cli("recipients", "opt-in", "bob@example.org")


def test_import_doesnt_bring_back_who_was_forgotten(server: Server, tmp_path: Path) -> None:
    pixel = server.admin.create_pixel()
    file = json_lines(tmp_path / "hits.jsonl", [row_of(recipient="dora@example.org")])
    server.cli("import", pixel["slug"], "--from", "jsonl", str(file))
    path = f"/api/pixels/{pixel['id']}/recipient?name=dora%40example.org"
    assert server.admin.delete(path).status == 200
    server.cli("import", pixel["slug"], "--from", "jsonl", str(file))
    assert [recipient for *_, recipient in verdicts(server, pixel)] == [None]


def test_import_into_an_anonymous_pixel_keeps_nothing_of_anybody(
    server: Server, tmp_path: Path
) -> None:
    pixel = server.admin.create_pixel()
    server.admin.post(f"/api/pixels/{pixel['id']}", {"privacy": "anonymous"})
    rows = [row_of(recipient="ann@example.org", query="q=1", hostname="a.example", language="de")]
    file = json_lines(tmp_path / "hits.jsonl", rows)
    server.cli("import", pixel["slug"], "--from", "jsonl", str(file))
    [hit] = events_of(server, pixel["slug"])
    kept = [hit[name] for name in ("recipient", "visitor", "query", "hostname", "language")]
    assert kept == [None] * 5
    assert (hit["userAgent"], hit["class"], hit["reason"]) == ("", "open", "browser")


def test_export_of_an_anonymous_pixel_comes_back_as_it_was(server: Server, tmp_path: Path) -> None:
    pixel, other = server.admin.create_pixel(), server.admin.create_pixel()
    server.admin.post(f"/api/pixels/{pixel['id']}", {"privacy": "anonymous"})
    headers = {"User-Agent": "Outlook-Android/2.0"}
    assert server.admin.get(f"/p/{pixel['slug']}", headers=headers).status == 200
    assert server.admin.get(f"/p/{pixel['slug']}", headers={"User-Agent": ""}).status == 200
    file = json_lines(tmp_path / "hits.jsonl", events_of(server, pixel["slug"]))
    server.cli("import", other["slug"], "--from", "jsonl", str(file))
    assert sorted(verdicts(server, other)) == sorted(verdicts(server, pixel))


def test_import_of_umamis_dump(server: Server, tmp_path: Path) -> None:
    pixel = server.admin.create_pixel()
    other = WEBSITE.replace("1", "2")
    rows = [
        event_of(1, "2026-02-01 10:00:00.25+00"),
        event_of(2, "2026-02-01 12:00:00+02", type="4"),
        event_of(3, "2026-02-02 10:00:00.123456+00"),
        event_of(4, "2026-02-02 10:00:01+00", type="2", name="click"),
        event_of(5, "2026-02-02 10:00:01+00", website=other),
    ]
    file = dump_of(tmp_path / "umami.sql", rows)
    arguments = ("import", pixel["slug"], "--from", "umami", str(file))
    done = server.cli(*arguments, check=False)
    assert done.returncode == 2
    assert "choose one with --website" in done.stderr
    for imported, there in ((3, 0), (0, 3)):
        done = server.cli(*arguments, "--website", WEBSITE)
        assert done.stdout == (
            f"Imported {imported} hits; {there} were there already;"
            " 2 rows are another website's, or no views.\n"
        )
    found = events_of(server, pixel["slug"])
    assert [hit["createdAt"] for hit in found] == [
        "2026-02-01T10:00:00.000Z",
        "2026-02-01T10:00:00.250Z",
        "2026-02-02T10:00:00.123Z",
    ]
    assert {hit["referrer"] for hit in found} == {"https://example.org/a\\b"}
    assert {(hit["query"], hit["hostname"]) for hit in found} == {
        ("utm_source=news", "www.example.org")
    }
    assert verdicts(server, pixel) == [("open", "unknown", None)] * 3
    # A visitor is somebody else on another day.
    assert len({hit["visitor"] for hit in found}) == 2


def test_import_of_umamis_dump_knows_what_its_sessions_say(server: Server, tmp_path: Path) -> None:
    pixel = server.admin.create_pixel()
    at = "2026-02-01 10:00:00+00"
    known, named, unknown = (str(uuid.UUID(int=number, version=4)) for number in (7, 8, 9))
    rows = [event_of(n, at, session=id) for n, id in enumerate((known, named, unknown, known))]
    row = f"{WEBSITE}\tchrome\tWindows 10\tdesktop\t1x1\tde-AT\tAT\t\\N\t\\N\t{at}"
    sessions = f"{known}\t{row}\t\\N\n{named}\t{row}\tann@example.org\n"
    file = dump_of(tmp_path / "umami.sql", rows, sessions)
    for imported, there in ((4, 0), (0, 4)):
        done = server.cli("import", pixel["slug"], "--from", "umami", str(file))
        assert done.stdout == f"Imported {imported} hits; {there} were there already.\n"
    found = [
        (hit["recipient"], hit["country"], hit["language"], hit["reason"])
        for hit in events_of(server, pixel["slug"])
    ]
    anybody = (None, "AT", "de-AT", "browser")
    assert sorted(found, key=str) == sorted(
        [
            anybody,
            anybody,
            ("ann@example.org", "AT", "de-AT", "browser"),
            (None, None, None, "unknown"),
        ],
        key=str,
    )


def test_import_of_umamis_table(server: Server, tmp_path: Path) -> None:
    pixel = server.admin.create_pixel()
    file = tmp_path / "website_event.csv"
    part = io.StringIO()
    writer = csv.writer(part)
    writer.writerow(
        ("website_id", "session_id", "browser", "country", "url_path", "url_query", "created_at")
    )
    for session, at in ((1, "2026-01-05 06:07:08"), (1, "2026-01-05 06:07:09"), (2, "2026-01-05")):
        id = str(uuid.UUID(int=session, version=4))
        writer.writerow((WEBSITE, id, "firefox", "AT", "/", "a=1", at))
    file.write_text(part.getvalue())
    for imported, there in ((3, 0), (0, 3)):
        done = server.cli("import", pixel["slug"], "--from", "umami", str(file))
        assert done.stdout == f"Imported {imported} hits; {there} were there already.\n"
    found = events_of(server, pixel["slug"])
    assert [(hit["country"], hit["reason"]) for hit in found] == [("AT", "browser")] * 3


BAD = [
    ({"createdAt": "yesterday"}, "createdAt is not a date and time."),
    ({"createdAt": "2999-01-01T00:00:00.000Z"}, "createdAt is in the future."),
    ({"createdAt": "1901-01-01T00:00:00.000Z"}, "createdAt is before 1970."),
    ({"id": "seven"}, "id is not a UUID."),
    ({"query": "\ud800"}, "This is not UTF-8."),
]


@pytest.mark.parametrize(("values", "problem"), BAD)
def test_bad_row_is_named_by_its_line_and_stops_or_is_skipped(
    server: Server, tmp_path: Path, values: dict[str, str], problem: str
) -> None:
    pixel = server.admin.create_pixel()
    file = json_lines(tmp_path / "hits.jsonl", [row_of(), row_of(**values), row_of()])
    arguments = ("import", pixel["slug"], "--from", "jsonl", str(file))
    done = server.cli(*arguments, check=False)
    assert done.returncode == 1
    assert f"Line 2: {problem} Nothing was imported" in done.stderr
    assert verdicts(server, pixel) == []
    done = server.cli(*arguments, "--skip-bad")
    assert done.stdout == "Imported 2 hits; 0 were there already.\n"
    assert f"Line 2: {problem}\nBad rows that are left out: 1." in done.stderr


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("csv", "", "no column id"),
        ("csv", "id,when\n", "no column createdAt"),
        ("csv", "id,createdAt\n1\n", "Line 2: There are 1 cells for 2 columns."),
        ("jsonl", "[]\n", "Line 1: This is not an object of JSON."),
        ("umami", "SELECT 1;\n", "neither a table nor a block COPY"),
        ("umami", "COPY website_event (website_id) FROM stdin;\n", "without its last line"),
    ],
)
def test_file_of_another_kind_is_refused(
    server: Server, tmp_path: Path, kind: str, text: str, said: str
) -> None:
    pixel = server.admin.create_pixel()
    file = tmp_path / "file"
    file.write_text(text)
    done = server.cli("import", pixel["slug"], "--from", kind, str(file), check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_import_that_is_stopped_is_completed_by_the_next(server: Server, tmp_path: Path) -> None:
    pixel = server.admin.create_pixel()
    file = json_lines(tmp_path / "hits.jsonl", [row_of() for _ in range(20_000)])
    arguments = ["import", pixel["slug"], "--from", "jsonl", str(file)]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.run", *arguments],
        cwd=PROJECT_DIR,
        env=server.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    count = f"SELECT count(*) FROM hits WHERE pixel_number = {server.number_of(pixel)}"
    wait_until(lambda: server.query(count) > [(0,)])
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 1
    [(stored,)] = server.query(count)
    assert 0 < stored < 20_000
    done = server.cli(*arguments)
    assert done.stdout == f"Imported {20_000 - stored} hits; {stored} were there already.\n"
    assert server.query(count) == [(20_000,)]


def test_webhooks_are_not_told_of_what_is_imported(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server(webhook_private="1")
    receiver = Receiver()
    pixel = server.admin.create_pixel(unique("told"))
    server.admin.post("/api/webhooks", {"url": receiver.url, "events": ["hit"]})
    file = json_lines(tmp_path / "hits.jsonl", [row_of() for _ in range(3)])
    server.cli("import", pixel["slug"], "--from", "jsonl", str(file))
    server.admin.get(f"/p/{pixel['slug']}", headers={"User-Agent": "after"})
    wait_until(lambda: receiver.bodies)
    newest = events_of(server, pixel["slug"])[-1]["id"]
    assert [body["data"]["hitId"] for body in receiver.bodies] == [newest]
    receiver.close()
