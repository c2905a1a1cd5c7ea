"""Data of the first release starts with the newest code, on both databases.

`data/release-0.1.0.sql` was made by that release (commit 499badd), and is never made again: what
it holds is what an installation has that is updated.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pysqlite3
import pytest

from hits.classify import RULES_VERSION
from tests.commands import run_prepare
from tests.conftest import PROJECT_DIR, Server, wait_until

pytestmark = pytest.mark.processes

RELEASE = Path(__file__).parent / "data" / "release-0.1.0.sql"
SECRET_KEY = "release-key-0123456789"
API_KEY = "pk_1AVmpqFWrnPtIoY_qnQmkSrd.rMGeW0yrUkos7BKHQb_9h2yEPf7wslWUgwrp6q08H3I"
PIXEL = "e81521b8-aea2-4647-846a-d96d9e7bd89e"
LINK = "/p/news?s=AaH3-DAAYW5uQGV4YW1wbGUub3Jn.pl89RX7m7ZXXP9O_Lc7CFg"
SHARE = "74yCfVplToxFZmr4"
MIGRATE_TO_RELEASE = """
import os
from alembic import command
from alembic.config import Config
from app import create_app
from core import settings
config = Config()
config.set_main_option("script_location", "migrations")
with create_app(settings.load(os.environ)).app_context():
    command.upgrade(config, "0001")
"""


def release() -> Iterator[tuple[str, list[str], list[tuple[object, ...]]]]:
    """Yield the tables of the release, with their columns and rows."""
    connection = pysqlite3.connect(":memory:")
    connection.executescript(RELEASE.read_text())
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (name,) in names:
        if not name.startswith("sqlite_"):
            rows = connection.execute(f"SELECT * FROM {name}")
            yield name, [column[0] for column in rows.description], rows.fetchall()
    connection.close()


def fill_sqlite(server: Server) -> None:
    connection = pysqlite3.connect(server.data_dir / "pixelkeep.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(RELEASE.read_text())
    connection.close()


def fill_postgresql(server: Server) -> None:
    made = subprocess.run(
        [sys.executable, "-c", MIGRATE_TO_RELEASE],
        cwd=PROJECT_DIR,
        env=server.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert server.database_url
    with psycopg.connect(server.database_url) as connection:
        # Rows come in no order that foreign keys would take.
        connection.execute("SET session_replication_role = replica")
        connection.execute("DELETE FROM catalogue")
        connection.execute("DELETE FROM alembic_version")
        for name, columns, rows in release():
            switches = connection.execute(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_name = %s AND data_type = 'boolean'",
                [name],
            ).fetchall()
            are_switches = [(column,) in switches for column in columns]
            places = ", ".join(["%s"] * len(columns))
            for row in rows:
                values = [
                    bool(value) if is_switch else value
                    for value, is_switch in zip(row, are_switches, strict=True)
                ]
                connection.execute(
                    f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({places})", values
                )
        connection.execute("SELECT setval('pixels_number_seq', (SELECT max(number) FROM pixels))")


@pytest.fixture
def released(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Iterator[Server]:
    """A server that has the release's data, and is not started yet."""
    url = request.getfixturevalue("postgres")() if database == "postgresql" else None
    server = Server(tmp_path, url, secret_key=SECRET_KEY)
    server.admin.token = API_KEY
    (fill_postgresql if url else fill_sqlite)(server)
    yield server
    if server.process:
        server.kill()


@pytest.fixture
def updated(released: Server) -> Server:
    return released.start()


def test_data_of_the_release_starts_and_goes_on(updated: Server) -> None:
    server, admin = updated, updated.admin
    checked = server.cli("check", check=False).stdout
    assert re.search(r"^migrations +ok$", checked, re.MULTILINE), checked
    assert re.search(r"^tables +ok$", checked, re.MULTILINE), checked
    path, span = f"/api/pixels/{PIXEL}", "startAt=0&endAt=4000000000000"
    totals = admin.get(f"{path}/stats?{span}&class=all").json
    assert (totals["pageviews"], totals["visitors"]) == (4, 4)
    campaigns = admin.get(f"{path}/metrics?{span}&type=utmCampaign").json
    assert [(row["x"], row["y"]) for row in campaigns] == [("autumn", 1)]
    named = {row["recipient"] for row in admin.get(f"{path}/recipients").json["data"]}
    assert {"ann@example.org", "bob"} <= named
    assert admin.get(f"/share/{SHARE}").status == 200
    assert len(admin.get("/api/users").json["data"]) == 2

    assert admin.with_token(None).get(LINK).status == 200
    assert admin.with_token(None).get("/p/team/news.gif").status == 200
    (newest, *_) = admin.get(f"{path}/events?{span}&class=all").json["data"]
    assert newest["recipient"] == "ann@example.org"
    assert admin.get(f"{path}/stats?{span}&class=all").json["pageviews"] == 5


def test_migration_that_fails_leaves_what_the_release_had(released: Server) -> None:
    server = released
    # A later migration makes this table, after others have changed the release's.
    server.execute("CREATE TABLE webhooks (id INTEGER)")
    said = run_prepare(server.env, PROJECT_DIR)
    assert said.returncode == 1
    [line] = said.stderr.strip().splitlines()
    assert "webhooks" in line
    assert server.query("SELECT version_num FROM alembic_version") == [("0001",)]
    server.execute("DROP TABLE webhooks")
    server.start()
    assert server.admin.with_token(None).get(LINK).status == 200


TEAM_PIXEL = "2750aad2-1e6e-4e7e-8212-7e36f3e57ac9"
TEAM_PATH, TEAM_NUMBER = "/p/team/news.gif", 2
LAST_HIT_OF_RELEASE = 1882869394215008870
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/142.0.0.0 Safari/537.36"
)
# What the release called an agent, and what it is called now.
JUDGED = {
    "Prometheus/2.40.5": (("open", "unknown"), ("bot", "tool")),
    "": (("open", "unknown"), ("bot", "no-agent")),
    f"{CHROME} GomezAgent 3.0": (("open", "browser"), ("bot", "crawler")),
    f"{CHROME} Presearch (Tempest)": (("bot", "crawler"), ("open", "browser")),
    "Inboxcube/3.0 CFNetwork": (("open", "unknown"), ("open", "mail-client")),
}
HITS_OF_EACH = 40


def add_hits_of_the_release(server: Server) -> None:
    """Add hits as the release stored them, by its rules."""
    hit = LAST_HIT_OF_RELEASE
    for number, (agent, ((hit_class, reason), _)) in enumerate(JUDGED.items(), start=1):
        server.execute(f"INSERT INTO agents (id, user_agent) VALUES ({number}, '{agent}')")
        server.execute(
            "INSERT INTO profiles"
            " (pixel_number, id, hit_class, reason, rules_version, signals, agent)"
            f" VALUES ({TEAM_NUMBER}, {number}, '{hit_class}', '{reason}', 1, 0, {number})"
        )
        rows = [
            f"({TEAM_NUMBER}, {hit + place}, {place}, {number})"
            for place in range(1, HITS_OF_EACH + 1)
        ]
        server.execute(
            f"INSERT INTO hits (pixel_number, id, visitor, profile) VALUES {','.join(rows)}"
        )
        hit += HITS_OF_EACH


def counted(server: Server, dimension: str) -> dict[str, int]:
    """Return the page views of the team's pixel by a dimension, as the service counts them."""
    asked = f"type={dimension}&class=all&startAt=0&endAt=4000000000000"
    path = f"/api/pixels/{TEAM_PIXEL}/metrics/expanded?{asked}"
    return {row["name"]: row["pageviews"] for row in server.admin.get(path).json}


def recounted(server: Server, column: str) -> dict[str, int]:
    """Return the same from the hits themselves."""
    rows = server.query(
        f"SELECT {column}, count(*) FROM hits JOIN profiles"
        " ON profiles.pixel_number = hits.pixel_number AND profiles.id = hits.profile"
        f" WHERE hits.pixel_number = {TEAM_NUMBER} GROUP BY 1"
    )
    return {str(name): int(count) for name, count in rows}


def test_hits_of_the_release_are_classified_again_while_others_come(released: Server) -> None:
    server, stopping, answered = released, threading.Event(), 0
    add_hits_of_the_release(server)
    server.start()
    by_old_rules = counted(server, "reason")
    assert by_old_rules["unknown"] == 3 * HITS_OF_EACH

    def keep_fetching() -> None:
        nonlocal answered
        for number in itertools.count():
            if stopping.is_set():
                return
            headers = {"User-Agent": [CHROME, "Prometheus/2.40.5"][number % 2]}
            path = f"{TEAM_PATH}?utm_content={number % 50}"
            assert server.admin.with_token(None).get(path, headers=headers).status == 200
            answered += 1

    thread = threading.Thread(target=keep_fetching)
    thread.start()
    try:
        wait_until(lambda: answered > 20)
        done = server.cli("reclassify")
        enough = answered + 20
        wait_until(lambda: answered > enough)
    finally:
        stopping.set()
        thread.join()
    assert "Classifying" in done.stderr
    assert f"rules of version {RULES_VERSION}" in done.stdout
    assert server.query("SELECT DISTINCT rules_version FROM profiles") == [(RULES_VERSION,)]
    for number, (_, judged) in enumerate(JUDGED.values(), start=1):
        found = server.query(
            "SELECT hit_class, reason FROM profiles"
            f" WHERE pixel_number = {TEAM_NUMBER} AND id = {number}"
        )
        assert found == [judged]
    assert counted(server, "class") == recounted(server, "hit_class")
    assert counted(server, "reason") == recounted(server, "reason")
    assert sum(counted(server, "class").values()) == answered + 1 + len(JUDGED) * HITS_OF_EACH
    assert "0 kinds of hits" in server.cli("reclassify").stdout
