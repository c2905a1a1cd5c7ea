"""Everything from SQLite to PostgreSQL and back, and what stops it leaves nothing broken."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pysqlite3
import pytest

from models import Pixel
from tests.conftest import PROJECT_DIR, Server, unique, wait_until

SPAN = "startAt=0&endAt=4102444800000&class=all"
TABLES = [table.name for table in Pixel.metadata.sorted_tables]


@pytest.fixture
def filled(start_server: Callable[..., Server]) -> Server:
    """A stopped server on SQLite, with something in most tables."""
    server = start_server()
    pixel = server.admin.create_pixel("moved")
    for number in range(20):
        agent = {"User-Agent": f"Mozilla/5.0 (X11; Linux x86_64; rv:{number}) Firefox/{number}"}
        assert server.admin.get(f"/p/moved?q={number}", headers=agent).status == 200
    people = {
        "recipients": ["ann@example.org", "Bob \N{SNOWMAN}"],
        "sentAt": "2026-01-02T03:04:05Z",
    }
    path = f"/api/pixels/{pixel['id']}"
    [link, _] = server.admin.post(f"{path}/recipients", people).json["data"]
    assert server.admin.get(link["url"].removeprefix(server.base)).status == 200
    assert server.admin.post("/api/teams", {"name": "team"}).status == 200
    assert server.admin.post(f"{path}/shares", {"name": "s", "slug": unique("s")}).status == 200
    hook = {"url": "https://example.org/hook", "events": ["open"], "pixelId": pixel["id"]}
    assert server.admin.post("/api/webhooks", hook).status == 200
    server.cli("recipients", "opt-out", "Bob \N{SNOWMAN}")
    gone = server.admin.create_pixel(unique("gone"))
    assert server.admin.delete(f"/api/pixels/{gone['id']}").status == 200
    assert figures(server, pixel)["stats"]["pageviews"] == 21
    wait_until(lambda: server.query("SELECT count(*) FROM erasures") == [(0,)])
    assert server.stop() == 0
    return server


def figures(server: Server, pixel: dict[str, Any]) -> dict[str, Any]:
    path = f"/api/pixels/{pixel['id']}"
    return {
        "stats": server.admin.get(f"{path}/stats?{SPAN}").json,
        "agents": server.admin.get(f"{path}/metrics?type=browser&{SPAN}").json,
        "mailing": server.admin.get(f"{path}/mailing").json,
        "people": server.admin.get(f"{path}/recipients").json,
        "shares": server.admin.get(f"{path}/shares").json,
        "webhooks": server.admin.get("/api/webhooks").json,
    }


def rows_of(path: Path) -> dict[str, list[Any]]:
    connection = pysqlite3.connect(path)
    try:
        return {
            name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in TABLES
        }
    finally:
        connection.close()


@pytest.fixture
def on_postgresql(filled: Server, postgres: Callable[[], str]) -> Iterator[Server]:
    """The server that is to serve from PostgreSQL, with the same keys."""
    server = Server(filled.data_dir, postgres())
    server.admin.token = filled.admin.token
    yield server
    if server.process and server.process.poll() is None:
        server.kill()


def test_everything_moves_and_its_figures_links_and_keys_stay(
    filled: Server, on_postgresql: Server
) -> None:
    filled.start()
    pixel = filled.admin.get("/api/pixels?search=moved").json["data"][0]
    before = figures(filled, pixel)
    assert filled.stop() == 0
    said = filled.cli("move", "--to", str(on_postgresql.database_url), "--yes").stdout
    assert "PIXELKEEP_DATABASE_URL" in said
    assert "secret_key" in said
    on_postgresql.start()
    assert figures(on_postgresql, pixel) == before
    highest = max(row[0] for row in filled.query("SELECT seq FROM sqlite_sequence"))
    later = on_postgresql.admin.create_pixel(unique("later"))
    assert on_postgresql.number_of(later) == highest + 1
    assert on_postgresql.admin.get("/p/moved?q=0").status == 200
    assert figures(on_postgresql, pixel)["stats"]["pageviews"] == before["stats"]["pageviews"] + 1
    assert filled.query("SELECT * FROM salts") == []


def test_there_and_back_again_every_row_is_what_it_was(
    filled: Server, on_postgresql: Server, tmp_path: Path
) -> None:
    before = rows_of(filled.data_dir / "pixelkeep.db")
    filled.cli("move", "--to", str(on_postgresql.database_url), "--yes")
    back = tmp_path / "back.db"
    on_postgresql.cli("move", "--to", f"sqlite:///{back}", "--yes")
    assert rows_of(back) == before
    assert rows_of(filled.data_dir / "pixelkeep.db") == {**before, "salts": []}
    sequences = "SELECT seq FROM sqlite_sequence WHERE name = 'pixels'"
    with pysqlite3.connect(back) as connection:
        assert connection.execute(sequences).fetchall() == filled.query(sequences)


def test_a_target_that_is_in_use_is_refused_and_stays_as_it_is(
    filled: Server, start_server: Callable[..., Server], database: str
) -> None:
    used = start_server(database)
    url = used.database_url or f"sqlite:///{used.data_dir / 'pixelkeep.db'}"
    for target in (url, f"sqlite:///{filled.data_dir / 'pixelkeep.db'}"):
        said = filled.cli("move", "--to", target, "--yes", check=False)
        assert said.returncode == 1
        assert len(said.stderr.splitlines()) == 1, said.stderr
    assert used.query("SELECT username FROM users") == [("admin",)]
    said = filled.cli("move", "--to", "mysql://h/d", "--yes", check=False)
    assert said.returncode == 1
    assert "postgresql://" in said.stderr


def test_a_move_is_asked_for_and_one_that_is_interrupted_leaves_both_as_they_were(
    filled: Server, on_postgresql: Server
) -> None:
    target = str(on_postgresql.database_url)
    assert filled.cli("move", "--to", target, check=False).returncode == 1
    filled.cli("demo", "--slug", "many", "--hits", "60000")
    before = rows_of(filled.data_dir / "pixelkeep.db")
    moving = subprocess.Popen(
        [sys.executable, "-m", "cli", "move", "--to", target, "--yes"],
        cwd=PROJECT_DIR,
        env=filled.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert moving.stderr
    assert "Moving" in moving.stderr.readline()
    moving.send_signal(signal.SIGINT)
    said, failed = moving.communicate(timeout=60)
    assert moving.returncode != 0
    assert said == ""
    assert "Traceback" not in failed
    assert on_postgresql.query("SELECT count(*) FROM hits") == [(0,)]
    assert rows_of(filled.data_dir / "pixelkeep.db") == before
    filled.cli("move", "--to", target, "--yes")
    assert on_postgresql.query("SELECT count(*) FROM hits") == [(len(before["hits"]),)]
