"""Clocks that are wrong for a while: which hits they misdate, what comes back, what is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Client, Server, wait_until

pytestmark = pytest.mark.processes

DAY = 86_400
JUMPS = {"a day ahead": DAY, "years behind": -400 * DAY, "years ahead": 400 * DAY}
OUTLOOK = "Outlook-Android/2.0"
# Enough that each process answers some.
FETCHES = 8
# What passes between a fetch and its commit, on a machine that is busy.
SECONDS_BETWEEN_MAX = 20


class SkewedServer(Server):
    """A server whose processes have a clock that can be moved."""

    def __init__(self, data_dir: Path, database_url: str | None, **settings: str) -> None:
        super().__init__(data_dir, database_url, **settings)
        self._skew_file = data_dir / "skew"
        self._moved = self._passed = 0.0
        self._write()
        self.env["SKEW_FILE"] = str(self._skew_file)

    def move_clock(self, seconds: float) -> None:
        """Set the clock to so many seconds more than the true time."""
        self._moved = seconds
        self._write()

    def let_pass(self, seconds: float) -> None:
        """Let it be so many seconds later than it would be, by whatever clock."""
        self._passed += seconds
        self._write()

    def _write(self) -> None:
        written = self._skew_file.with_suffix(".new")
        written.write_text(f"{self._moved + self._passed} {self._passed}")
        written.replace(self._skew_file)


# On PostgreSQL its own clock dates hits, and nothing is deleted by a node's.
BY_THE_NODES_CLOCK = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def skewed(
    database: str, tmp_path: Path, create_tables: Callable[[str, Path], str | None]
) -> Iterator[Callable[..., SkewedServer]]:
    """Start a server whose clock can be moved."""
    started: list[SkewedServer] = []

    def start(**settings: str) -> SkewedServer:
        server = SkewedServer(tmp_path, create_tables(database, tmp_path), **settings)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        if server.process and server.process.poll() is None:
            server.kill()


def fetch(server: Server, pixel: dict[str, Any], times: int = FETCHES, query: str = "") -> None:
    for _ in range(times):
        answer = server.admin.with_token(None).get(
            f"/p/{pixel['slug']}?{query}", headers={"User-Agent": OUTLOOK}
        )
        assert answer.status == 200


def opens(client: Client, pixel: dict[str, Any], start: float, end: float) -> tuple[int, int]:
    """Return page views and visitors between two instants."""
    span = f"startAt={int(start * 1000)}&endAt={int(end * 1000)}"
    found = client.get(f"/api/pixels/{pixel['id']}/stats?{span}").json
    return found["pageviews"], found["visitors"]


def instants(client: Client, pixel: dict[str, Any]) -> list[float]:
    """Return when the hits were, in seconds since the epoch, in the order of their commits."""
    found, after = [], NO_HIT
    span = f"startAt=0&endAt={int((time.time() + 1000 * DAY) * 1000)}"
    while True:
        path = f"/api/pixels/{pixel['id']}/events?pageSize=10&after={after}&{span}"
        events = client.get(path).json["data"]
        if not events:
            return found
        found += [datetime.fromisoformat(event["createdAt"]).timestamp() for event in events]
        after = events[-1]["id"]


# The id that comes before those of all hits.
NO_HIT = "00000000-0000-7000-8000-000000000000"


def about(seconds: float) -> Any:
    return pytest.approx(seconds, abs=SECONDS_BETWEEN_MAX)


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_clock_that_was_wrong_misdates_the_hits_committed_meanwhile_and_no_other(
    skewed: Callable[..., SkewedServer], database: str, jump: int
) -> None:
    server = skewed()
    # A token ends by the clock, a key does not.
    key = server.admin.post("/api/me/api-keys", {"name": "clock"}).json["key"]
    server.admin = server.admin.with_token(key)
    hit, other = server.admin.create_pixel(), server.admin.create_pixel()
    for pixel in (hit, other):
        fetch(server, pixel)
    started_at = time.time()
    server.move_clock(jump)
    fetch(server, hit)
    # It is folded, and every process is asked.
    for _ in range(FETCHES):
        opens(server.admin, hit, *sorted((started_at, started_at + jump + DAY)))
    server.move_clock(0)
    for pixel in (hit, other):
        fetch(server, pixel)
    server.stop()
    server.start()
    for pixel in (hit, other):
        fetch(server, pixel)
    # PostgreSQL's clock was right all the time.
    meanwhile = started_at if database == "postgresql" else started_at + jump
    right = [about(started_at)] * FETCHES
    assert instants(server.admin, other) == right * 3
    assert instants(server.admin, hit) == [*right, *[about(meanwhile)] * FETCHES, *right, *right]
    today = (started_at - DAY / 2, started_at + DAY / 2)
    assert opens(server.admin, other, *today) == (3 * FETCHES, 1)
    assert opens(server.admin, hit, *today) == (
        (4 if database == "postgresql" else 3) * FETCHES,
        1,
    )
    assert opens(server.admin, hit, 0, time.time() + 1000 * DAY) == (
        4 * FETCHES,
        1 if database == "postgresql" else 2,
    )


def test_salt_of_today_survives_a_start_while_the_clock_is_ahead(
    skewed: Callable[..., SkewedServer],
) -> None:
    server = skewed()
    pixel = server.admin.create_pixel()
    fetch(server, pixel)
    started_at = time.time()
    server.stop()
    server.move_clock(3 * DAY)
    server.start()
    fetch(server, pixel)
    # The housekeeper has its turn: what is over goes.
    server.execute("INSERT INTO salts (day, salt) VALUES (1, 'x')")
    wait_until(lambda: server.query("SELECT day FROM salts WHERE day = 1") == [])
    server.move_clock(0)
    server.stop()
    server.start()
    fetch(server, pixel)
    # By another road, a server that has never known a wrong clock.
    assert opens(server.admin, pixel, started_at - DAY / 2, started_at + DAY / 2)[1] == 1


@BY_THE_NODES_CLOCK
def test_hits_that_were_asked_for_while_the_clock_was_ahead_are_told_of(
    skewed: Callable[..., SkewedServer],
) -> None:
    server = skewed()
    pixel = server.admin.create_pixel()
    server.move_clock(DAY)
    fetch(server, pixel, 1)
    assert opens(server.admin, pixel, 0, time.time() + 2 * DAY)[0] == 1
    server.move_clock(0)
    wait_until(lambda: server.admin.get("/healthz").json.get("warnings"))
    assert "Hits lie in the future" in server.log


@BY_THE_NODES_CLOCK
def test_hits_in_the_future_are_told_of_and_dated_anew_or_removed(
    skewed: Callable[..., SkewedServer],
) -> None:
    server = skewed()
    shifted, removed = server.admin.create_pixel(), server.admin.create_pixel()
    for pixel in (shifted, removed):
        fetch(server, pixel, 2, "r=ann")
    assert server.admin.get("/healthz").json.get("warnings", []) == []
    started_at = time.time()
    server.move_clock(40 * DAY)
    for pixel in (shifted, removed):
        fetch(server, pixel, 3, "r=ann")
    server.move_clock(0)
    # A question takes them in; else it may last a minute.
    for pixel in (shifted, removed):
        assert opens(server.admin, pixel, started_at - DAY, started_at + DAY) == (2, 1)

    def warned() -> Any:
        return server.admin.get("/healthz").json["warnings"]

    wait_until(warned)
    (warning,) = warned()
    ends_on = datetime.fromtimestamp(started_at + 40 * DAY, UTC).date().isoformat()
    assert ends_on in warning
    assert "Hits lie in the future" in server.log
    assert warning in server.cli("check").stdout
    listed = server.cli("hits", "future").stdout
    assert shifted["slug"] in listed
    assert removed["slug"] in listed

    refused = server.cli("hits", "redate", "--by", "-40d", check=False)
    assert refused.returncode == 1
    server.cli("hits", "redate", "--by", "-40d", "--pixel", shifted["slug"], "--yes")
    server.cli("hits", "remove", "--pixel", removed["slug"], "--yes")
    today = (started_at - DAY / 2, started_at + DAY / 2)
    assert instants(server.admin, shifted) == [about(started_at)] * 5
    assert opens(server.admin, shifted, *today) == (5, 1)
    assert opens(server.admin, removed, 0, started_at + 1000 * DAY) == (2, 1)
    wait_until(lambda: not server.admin.get("/healthz").json.get("warnings", []))
    assert "No hits lie in the future" in server.cli("hits", "future").stdout
    for pixel, count in ((shifted, 5), (removed, 2)):
        (ann,) = server.admin.get(f"/api/pixels/{pixel['id']}/recipients").json["data"]
        assert ann["opens"] == count
        assert datetime.fromisoformat(ann["lastOpenedAt"]).timestamp() == about(started_at)


@BY_THE_NODES_CLOCK
def test_nothing_goes_by_a_clock_that_went_ahead_or_was_ahead_at_a_start(
    skewed: Callable[..., SkewedServer],
) -> None:
    server = skewed(retention_days="30")
    pixel = server.admin.create_pixel()
    fetch(server, pixel, 2)
    wait_until(lambda: server.query("SELECT begins_at FROM retention_runs"))
    server.execute("UPDATE retention_runs SET begins_at = 0")
    wait_until(lambda: server.query("SELECT 1 FROM retention_runs WHERE ran_at > 0"))
    expires_at = int((time.time() + 10 * DAY) * 1000)
    server.execute(f"INSERT INTO revoked_tokens (id, expires_at) VALUES ('x', {expires_at})")

    def everything_is_there() -> bool:
        let_the_housekeeper_have_its_turn(server)
        kept = server.query("SELECT id FROM revoked_tokens") == [("x",)]
        return kept and server.hits() == 2

    server.move_clock(40 * DAY)
    server.execute("UPDATE retention_runs SET ran_at = 0")
    assert everything_is_there()
    server.stop()
    server.start()
    assert everything_is_there()
    assert "the clock is ahead of" in server.cli("check").stdout
    # After half a day, however many starts there were in it, the clock is believed.
    server.stop()
    server.execute("UPDATE catalogue SET doubted_ms = 12 * 3600000 + 1")
    server.start()
    wait_until(lambda: server.hits() == 0)
    assert server.query("SELECT id FROM revoked_tokens") == []


def let_the_housekeeper_have_its_turn(server: Server) -> None:
    for _ in range(2):  # The first may have been under way.
        server.execute("INSERT INTO salts (day, salt) VALUES (1, 'x')")
        wait_until(lambda: server.query("SELECT day FROM salts WHERE day = 1") == [])


@BY_THE_NODES_CLOCK
def test_prune_says_what_speaks_against_the_clock(
    skewed: Callable[..., SkewedServer],
) -> None:
    server = skewed()
    pixel = server.admin.create_pixel()
    fetch(server, pixel, 2)
    wait_until(lambda: server.query("SELECT 1 FROM catalogue WHERE believed_ms > 0"))

    def told() -> str:
        return server.cli("prune", "--days", "30", check=False).stdout

    assert "Warning" not in told()
    server.move_clock(-DAY)
    assert "Warning: the clock is behind, or was ahead when" in told()
    server.move_clock(40 * DAY)
    assert "Warning: the service last knew" in told()
    server.move_clock(0)
    server.stop()
    assert server.hits() == 2


def test_what_a_clock_dated_that_was_ahead_outlives_no_minute_and_locks_nobody_out(
    skewed: Callable[..., SkewedServer],
) -> None:
    server = skewed()
    at_ms = int((time.time() + 40 * DAY) * 1000)
    server.execute(
        "INSERT INTO burst_sightings (pixel_number, source, hit, visitor, at_ms, in_burst)"
        f" VALUES (1, 1, 1, 1, {at_ms}, false)"
    )
    wait_until(lambda: server.query("SELECT * FROM burst_sightings") == [])
    name, password = "admin", "wrong"
    nobody = server.admin.with_token(None)

    def try_it() -> int:
        credentials = {"username": name, "password": password}
        return nobody.post("/api/auth/login", credentials).status

    assert [try_it() for _ in range(6)] == [401] * 5 + [429]
    server.execute(f"UPDATE failed_logins SET expires_at = {at_ms}")
    assert try_it() == 401
