"""What leaves the disk: deleted pixels, old hits, and what nothing names any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pysqlite3
import pytest

import models
from core.database import db
from tests.conftest import Client, Server, verdicts, wait_until
from tests.web.pages.test_pages import Browser

DAY = models.MS_PER_DAY << models.HIT_ID_SHIFT
OUTLOOK = "Outlook-Android/2.0"
TABLES = [
    table.name
    for table in db.metadata.sorted_tables
    if "pixel_number" in table.c and table.name != models.Erasure.__tablename__
]


def fetch(client: Client, pixel: dict[str, Any], query: str = "", agent: str = OUTLOOK) -> None:
    headers = {"User-Agent": agent, "Referer": f"https://example.org/{query}"}
    assert client.get(f"/p/{pixel['slug']}?{query}", headers=headers).status == 200


def age(server: Server, pixel: dict[str, Any], days: int) -> None:
    """Make all hits of a pixel so many days older."""
    number = server.number_of(pixel)
    server.execute(f"UPDATE hits SET id = id - {days * DAY} WHERE pixel_number = {number}")


def multiply(server: Server, pixel: dict[str, Any], count: int) -> None:
    """Give a pixel `count` more hits for each that it has."""
    server.execute(
        "INSERT INTO hits (pixel_number, id, visitor, profile)"
        " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        f" WHERE i < {count}) SELECT pixel_number, id - i, visitor, profile FROM hits, n"
        f" WHERE pixel_number = {server.number_of(pixel)}"
    )


def rows_of(server: Server, number: int) -> dict[str, int]:
    """Return how many rows of a pixel each table has, for those that have any."""
    counts = {
        table: server.query(f"SELECT count(*) FROM {table} WHERE pixel_number = {number}")[0][0]
        for table in TABLES
    }
    return {table: count for table, count in counts.items() if count}


def agents(server: Server, like: str) -> list[str]:
    found = server.query(f"SELECT user_agent FROM agents WHERE user_agent LIKE '{like}'")
    return [user_agent for (user_agent,) in found]


# Deleted pixels


def test_deleted_pixel_leaves_no_row_behind(server: Server, admin: Client) -> None:
    pixel, other = admin.create_pixel(), admin.create_pixel()
    for _ in range(8):  # Each process remembers what is stored.
        fetch(admin, pixel, "utm_source=a&r=ann", agent="Vanishing/1 Thunderbird/1")
    fetch(admin, pixel, "utm_source=a", agent="Staying/1 Thunderbird/1")
    fetch(admin, other, "utm_source=a&r=ann", agent="Staying/1 Thunderbird/1")
    admin.post(f"/api/pixels/{pixel['id']}/recipients", {"recipients": ["bob"]})
    multiply(server, pixel, 6_000)
    number, before = server.number_of(pixel), rows_of(server, server.number_of(other))
    assert {"hits", "profiles", "texts", "recipients"} <= rows_of(server, number).keys()
    assert admin.delete(f"/api/pixels/{pixel['id']}").status == 200
    assert admin.get(f"/api/pixels/{pixel['id']}").status == 404
    erased = f"SELECT count(*) FROM erasures WHERE pixel_number = {number}"
    wait_until(lambda: server.query(erased) == [(0,)])
    assert rows_of(server, number) == {}
    # What is derived from the hits may have come meanwhile.
    assert before.items() <= rows_of(server, server.number_of(other)).items()
    wait_until(lambda: agents(server, "Vanishing%") == [])
    assert agents(server, "Staying%") == ["Staying/1 Thunderbird/1"]
    for _ in range(8):  # And forgets it with what was deleted.
        fetch(admin, other, agent="Vanishing/1 Thunderbird/1")
    assert agents(server, "Vanishing%") == ["Vanishing/1 Thunderbird/1"]


def test_hits_of_other_pixels_are_stored_while_one_is_erased(server: Server, admin: Client) -> None:
    pixel, other = admin.create_pixel(), admin.create_pixel()
    fetch(admin, pixel)
    fetch(admin, other)
    multiply(server, pixel, 40_000)
    number = server.number_of(pixel)
    answered = 1
    admin.delete(f"/api/pixels/{pixel['id']}")
    while rows_of(server, number):
        fetch(admin, other, f"n={answered}", agent=f"{OUTLOOK} {answered % 7}")
        answered += 1
    assert len(verdicts(server, other)) == answered


def test_prune_finishes_erasures(start_server: Callable[..., Server], database: str) -> None:
    server = start_server(database)
    pixel = server.admin.create_pixel()
    fetch(server.admin, pixel)
    number = server.number_of(pixel)
    server.stop()
    server.cli("pixels", "delete", pixel["slug"], "--yes")
    assert rows_of(server, number)
    done = server.cli("prune")
    assert "All hits are kept" in done.stdout
    assert rows_of(server, number) == {}
    assert server.query("SELECT count(*) FROM agents") == [(0,)]


# Pixels that start anew


def test_hits_are_stored_while_a_pixel_starts_anew(server: Server, admin: Client) -> None:
    pixel, other = admin.create_pixel(), admin.create_pixel()
    fetch(admin, pixel)
    multiply(server, pixel, 20_000)
    browser = Browser(Client(server.base)).sign_in("admin")
    path, stopping, answered = f"/pixels/{pixel['id']}/start-anew", threading.Event(), 0

    def keep_fetching() -> None:
        nonlocal answered
        while not stopping.is_set():
            fetch(admin, other, f"q={answered % 30}")
            answered += 1

    thread = threading.Thread(target=keep_fetching)
    thread.start()
    try:
        assert browser.send(path).status == 303
        number = server.number_of(pixel)
        wait_until(lambda: "restarts" not in rows_of(server, number))
    finally:
        stopping.set()
        thread.join()
    assert verdicts(server, pixel) == []
    assert len(verdicts(server, other)) == answered


def test_what_a_pixel_had_goes_by_itself_when_it_was_left(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    issued = admin.post(f"/api/pixels/{pixel['id']}/recipients", {"recipients": ["ann", "bob"]})
    for link in issued.json["data"]:
        path = link["url"].removeprefix(admin.base)
        assert admin.get(path, headers={"User-Agent": OUTLOOK}).status == 200
    path = f"/api/pixels/{pixel['id']}/mailing"
    assert admin.delete(f"/api/pixels/{pixel['id']}/recipient?name=bob").status == 200
    assert (admin.get(path).json["opened"], admin.get(path).json["sent"]) == (2, 2)
    number = server.number_of(pixel)
    last = f"SELECT pixel_number, max(id) FROM hits WHERE pixel_number = {number} GROUP BY 1"
    server.execute(f"INSERT INTO restarts (pixel_number, through) {last}")
    wait_until(lambda: "restarts" not in rows_of(server, number))
    found = admin.get(path).json
    # Starting over removes forgotten people too, so only the one who is left counts as sent.
    assert (found["sent"], found["opened"], found["opens"]) == (1, 0, 0)
    (ann,) = admin.get(f"/api/pixels/{pixel['id']}/recipients").json["data"]
    assert (ann["recipient"], ann["status"], ann["lastOpenedAt"]) == ("ann", "unopened", None)


# Old hits


def test_prune_deletes_old_hits_and_no_others(server: Server, admin: Client) -> None:
    # What other tests left of old hits goes first.
    server.cli("prune", "--days", "30", "--yes")
    pixel = admin.create_pixel()
    fetch(admin, pixel, "q=old")
    fetch(admin, pixel, "q=both")
    multiply(server, pixel, 3_000)
    age(server, pixel, 40)
    fetch(admin, pixel, "q=both")
    fetch(admin, pixel, "q=new")
    done = server.cli("prune", "--days", "30", "--yes")
    assert "Deleted 6002 hits." in done.stdout
    assert verdicts(server, pixel) == [("open", "mail-client", None)] * 2


def test_hits_are_stored_while_old_ones_are_pruned(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    fetch(admin, pixel)
    multiply(server, pixel, 20_000)
    age(server, pixel, 40)
    stopping = threading.Event()
    answered = 0

    def keep_fetching() -> None:
        nonlocal answered
        while not stopping.is_set():
            fetch(admin, pixel, f"q={answered % 30}")
            answered += 1

    thread = threading.Thread(target=keep_fetching)
    thread.start()
    try:
        server.cli("prune", "--days", "30", "--yes")
    finally:
        stopping.set()
        thread.join()
    assert len(verdicts(server, pixel)) == answered


def test_recipients_keep_their_opens_when_hits_are_pruned(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    fetch(admin, pixel, "r=ann")
    age(server, pixel, 40)
    before = admin.get(f"/api/pixels/{pixel['id']}/recipients").json["data"]
    server.cli("prune", "--days", "30", "--yes")
    assert before[0]["opens"] == 1
    assert admin.get(f"/api/pixels/{pixel['id']}/recipients").json["data"] == before


def test_retention_setting_is_the_default_of_prune(
    start_server: Callable[..., Server], database: str
) -> None:
    server = start_server(database, retention_days="10")
    old, young = server.admin.create_pixel(), server.admin.create_pixel()
    fetch(server.admin, old)
    age(server, old, 12)
    fetch(server.admin, young)
    age(server, young, 9)
    refused = server.cli("prune", check=False)
    assert refused.returncode == 1
    assert "--yes" in refused.stderr
    assert server.hits() == 2
    server.cli("prune", "--yes")
    assert (verdicts(server, old), len(verdicts(server, young))) == ([], 1)


@pytest.mark.parametrize("days", ["0", "-1", "x"])
def test_prune_of_no_days_is_refused(server: Server, days: str) -> None:
    assert server.cli("prune", "--days", days, "--yes", check=False).returncode == 2


# By itself


def test_old_hits_go_by_themselves_a_day_after_the_first_start(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(retention_days="10")
    kept, own = server.admin.create_pixel(), server.admin.create_pixel()
    server.admin.post(f"/api/pixels/{own['id']}", {"retentionDays": 30})
    issued = {"recipients": ["issued@example.org"]}
    server.admin.post(f"/api/pixels/{kept['id']}/recipients", issued)
    for pixel in (kept, own):
        fetch(server.admin, pixel, "r=plain@example.org")
        age(server, pixel, 12)
    fetch(server.admin, kept, "r=young@example.org")
    wait_until(lambda: server.query("SELECT count(*) FROM retention_runs") == [(1,)])
    assert "pixelkeep_retention" not in server.admin.get("/metrics").body.decode()
    assert "Old hits are deleted by themselves from" in server.log
    assert "old hits go by themselves from" in server.cli("check").stdout
    assert (len(verdicts(server, kept)), len(verdicts(server, own))) == (2, 1)
    server.execute("UPDATE retention_runs SET begins_at = 0")
    wait_until(lambda: server.query("SELECT hits_removed FROM retention_runs") == [(1,)])
    assert [recipient for _, _, recipient in verdicts(server, kept)] == ["young@example.org"]
    assert len(verdicts(server, own)) == 1
    listed = server.admin.get(f"/api/pixels/{kept['id']}/recipients?orderBy=recipient").json["data"]
    assert [row["recipient"] for row in listed] == ["issued@example.org", "young@example.org"]
    path = f"/api/pixels/{kept['id']}/stats?startAt=0&endAt=4000000000000"
    totals = server.admin.get(path).json
    assert (totals["pageviews"], totals["visitors"]) == (2, 2)
    assert "1 hits, 1 unverified names gone" in server.cli("check").stdout
    metrics = server.admin.get("/metrics").body.decode()
    assert "\npixelkeep_retention_hits_removed 1.0\n" in metrics
    assert "\npixelkeep_retention_names_removed 1.0\n" in metrics
    assert "\npixelkeep_retention_last_run_timestamp_seconds 1." in metrics


def test_compact_makes_the_file_shrink_while_hits_come(
    start_server: Callable[..., Server],
) -> None:
    server = start_server()
    other, file = server.admin.create_pixel(), server.data_dir / "pixelkeep.db"
    fill_and_delete(server)
    # What is in the log still counts too.
    ((pages,),) = server.query("PRAGMA page_count")
    ((page_bytes,),) = server.query("PRAGMA page_size")
    stopping, answered = threading.Event(), 0

    def keep_fetching() -> None:
        nonlocal answered
        while not stopping.is_set():
            fetch(server.admin, other, f"q={answered % 30}")
            answered += 1

    thread = threading.Thread(target=keep_fetching)
    thread.start()
    try:
        server.cli("compact")
    finally:
        stopping.set()
        thread.join()

    def is_small() -> bool:
        # A reader may be in the way of emptying the log.
        server.cli("compact")
        return file.stat().st_size < pages * page_bytes / 2

    wait_until(is_small)
    assert len(verdicts(server, other)) == answered
    assert server.query("PRAGMA integrity_check") == [("ok",)]


def test_file_of_an_older_version_is_written_anew_with_the_server_stopped(
    start_server: Callable[..., Server],
) -> None:
    server = start_server()
    server.stop()
    file = server.data_dir / "pixelkeep.db"
    connection = pysqlite3.connect(file)
    connection.execute("PRAGMA auto_vacuum = NONE")
    connection.execute("VACUUM")
    connection.close()
    server.start()
    fill_and_delete(server)
    refused = server.cli("compact", "--yes", check=False)
    assert (refused.returncode, "Stop the server first" in refused.stderr) == (1, True)
    server.stop()
    before = file.stat().st_size
    refused = server.cli("compact", check=False)
    assert (refused.returncode, "--yes" in refused.stderr) == (1, True)
    server.cli("compact", "--yes")
    assert file.stat().st_size < before / 2
    assert server.query("PRAGMA auto_vacuum") == [(2,)]
    server.start()
    assert server.admin.get("/healthz").status == 200


def fill_and_delete(server: Server) -> None:
    """Leave a file with much that nothing uses."""
    pixel = server.admin.create_pixel()
    fetch(server.admin, pixel)
    multiply(server, pixel, 60_000)
    number = server.number_of(pixel)
    server.admin.delete(f"/api/pixels/{pixel['id']}")
    wait_until(lambda: rows_of(server, number) == {})
