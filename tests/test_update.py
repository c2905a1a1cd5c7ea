"""Data of the first release starts with the newest code, on both databases.

`data/release-0.1.0.sql` was made by that release (commit 499badd), and is never made again: what
it holds is what an installation has that is updated.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pysqlite3
import pytest

from tests.conftest import PROJECT_DIR, Server

RELEASE = Path(__file__).parent / "data" / "release-0.1.0.sql"
SECRET_KEY = "release-key-0123456789"
API_KEY = "pk_1AVmpqFWrnPtIoY_qnQmkSrd.rMGeW0yrUkos7BKHQb_9h2yEPf7wslWUgwrp6q08H3I"
PIXEL = "e81521b8-aea2-4647-846a-d96d9e7bd89e"
LINK = "/p/news?s=AaH3-DAAYW5uQGV4YW1wbGUub3Jn.pl89RX7m7ZXXP9O_Lc7CFg"
SHARE = "74yCfVplToxFZmr4"
MIGRATE_TO_RELEASE = """
import os
from flask_migrate import Migrate, upgrade
from app import create_app
from core import settings
from core.database import db
app = create_app(settings.load(os.environ))
Migrate(app, db, directory="migrations")
with app.app_context():
    upgrade(revision="0001")
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
def updated(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Iterator[Server]:
    url = request.getfixturevalue("postgres")() if database == "postgresql" else None
    server = Server(tmp_path, url, secret_key=SECRET_KEY)
    server.admin.token = API_KEY
    (fill_postgresql if url else fill_sqlite)(server)
    server.start()
    yield server
    server.kill()


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
