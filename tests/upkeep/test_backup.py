"""Backup and restore of SQLite while it is served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pysqlite3
import pytest

from tests.conftest import Server, unique, wait_until
from tests.load import Load, stored_numbers

CLIENTS = 16


@pytest.fixture
def sqlite_server(start_server: Callable[..., Server]) -> Server:
    return start_server()


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = pysqlite3.connect(path)
    try:
        return list(connection.execute(statement))
    finally:
        connection.close()


def test_backup_under_load_is_whole_and_has_every_hit_answered_before(
    sqlite_server: Server, tmp_path: Path
) -> None:
    server, copy = sqlite_server, tmp_path / "copy.db"
    pixel = server.admin.create_pixel()
    with Load(server.admin, pixel["slug"], CLIENTS) as load:
        wait_until(lambda: load.statuses[200] > 10 * CLIENTS)
        answered = load.statuses[200]
        made = server.cli("backup", str(copy))
        enough = load.statuses[200] + CLIENTS
        wait_until(lambda: load.statuses[200] > enough)
    assert str(copy) in made.stdout
    assert set(load.statuses) == {200}
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
    ((hits,),) = rows(copy, "SELECT count(*) FROM hits")
    assert answered <= hits <= load.statuses[200]
    assert rows(copy, "SELECT * FROM salts") == []
    assert copy.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [copy]


def test_restore_under_load_brings_back_what_was_and_keeps_what_is_answered_later(
    sqlite_server: Server, tmp_path: Path
) -> None:
    server, copy = sqlite_server, tmp_path / "copy.db"
    pixel, later = server.admin.create_pixel(), None
    assert server.admin.get(f"/p/{pixel['slug']}").status == 200
    server.cli("backup", str(copy))
    later = server.admin.create_pixel()
    assert server.admin.get(f"/p/{later['slug']}").status == 200
    with Load(server.admin, pixel["slug"], CLIENTS) as load:
        wait_until(lambda: load.statuses[200] > CLIENTS)
        server.cli("restore", str(copy), "--yes")
        restored_at = max(load.answers)
        enough = load.statuses[200] + 4 * CLIENTS
        wait_until(lambda: load.statuses[200] > enough)
    assert set(load.statuses) == {200}
    after = {number: status for number, status in load.answers.items() if number > restored_at}
    stored = stored_numbers(server, pixel)
    assert set(after) <= set(stored)
    assert set(stored.values()) == {1}
    # The salt of the day is a new one, in every process.
    visitors = f"SELECT DISTINCT visitor FROM hits WHERE pixel_number = {server.number_of(pixel)}"
    before = len(server.query(visitors))
    agent = {"User-Agent": unique("agent")}
    statuses = {server.admin.get(f"/p/{pixel['slug']}", headers=agent).status for _ in range(16)}
    assert statuses == {200}
    assert len(server.query(visitors)) == before + 1
    assert len(server.query("SELECT salt FROM salts")) == 1
    # The pixel that the backup didn't know is unknown in every process.
    assert {server.admin.get(f"/p/{later['slug']}").status for _ in range(16)} == {404}
    assert server.query("PRAGMA integrity_check") == [("ok",)]


def test_backup_put_beside_an_old_log_does_not_bring_back_what_was_deleted(
    sqlite_server: Server, tmp_path: Path
) -> None:
    server, copy = sqlite_server, tmp_path / "copy.db"
    kept = server.admin.create_pixel()
    server.cli("backup", str(copy))
    later = server.admin.create_pixel()
    server.kill()
    path = server.data_dir / "pixelkeep.db"
    assert path.with_name("pixelkeep.db-wal").stat().st_size
    path.write_bytes(copy.read_bytes())
    server.start()
    slugs = {row[0] for row in server.query("SELECT slug FROM pixels")}
    assert kept["slug"] in slugs
    assert later["slug"] not in slugs
    assert server.query("PRAGMA integrity_check") == [("ok",)]


def test_backup_never_overwrites_a_file(sqlite_server: Server, tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.write_text("mine")
    refused = sqlite_server.cli("backup", str(target), check=False)
    assert refused.returncode != 0
    assert "exists already" in refused.stderr
    assert target.read_text() == "mine"


def test_restore_of_anything_else_changes_nothing(sqlite_server: Server, tmp_path: Path) -> None:
    pixel = sqlite_server.admin.create_pixel()
    text, empty = tmp_path / "text", tmp_path / "empty.db"
    text.write_text("no database" * 1000)
    pysqlite3.connect(empty).close()
    empty.touch()
    for source in (text, empty, tmp_path / "missing"):
        refused = sqlite_server.cli("restore", str(source), "--yes", check=False)
        assert refused.returncode != 0
        assert refused.stderr.startswith("pixelkeep: ")
        assert "Traceback" not in refused.stderr
    assert sqlite_server.admin.get(f"/p/{pixel['slug']}").status == 200


def test_backup_of_postgresql_names_its_own_tools(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server("postgresql")
    refused = server.cli("backup", str(tmp_path / "copy"), check=False)
    assert refused.returncode != 0
    assert "pg_dump" in refused.stderr
