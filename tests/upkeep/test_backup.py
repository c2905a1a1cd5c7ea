"""Backup and restore of SQLite while it is served."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pysqlite3
import pytest

from tests.conftest import PROJECT_DIR, Server, unique, wait_until
from tests.load import UNBOUNDED, Load, stored_numbers

CLIENTS = 16


@pytest.fixture
def sqlite_server(start_server: Callable[..., Server]) -> Server:
    # A slow machine sends thousands of queries that are all different meanwhile.
    return start_server(**UNBOUNDED)


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


def test_restore_of_a_damaged_backup_is_one_line(sqlite_server: Server, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    sqlite_server.cli("backup", str(backup))
    with backup.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 4096 * 10)
    refused = sqlite_server.cli("restore", str(backup), "--yes", check=False)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1, refused.stderr


def test_backup_of_postgresql_names_its_own_tools(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server("postgresql", **UNBOUNDED)
    refused = server.cli("backup", str(tmp_path / "copy"), check=False)
    assert refused.returncode != 0
    assert "pg_dump" in refused.stderr


def test_backup_with_the_key_says_so_and_brings_back_whom_links_name(
    sqlite_server: Server, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server, copy = sqlite_server, tmp_path / "copy.db"
    pixel = server.admin.create_pixel()
    url = server.admin.get(f"/api/pixels/{pixel['id']}/embed?recipient=ada").json["url"]
    made = server.cli("backup", str(copy), "--with-key")
    key = tmp_path / "copy.db.secret_key"
    assert f"{key}: the SIGNING KEY" in made.stdout
    assert key.read_text() == (server.data_dir / "secret_key").read_text()
    assert key.read_text().strip() not in made.stdout + made.stderr
    assert key.stat().st_mode & 0o777 == 0o600
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copy.rename(elsewhere / "pixelkeep.db")
    key.rename(elsewhere / "secret_key")
    again = start_server(data_dir=elsewhere)
    assert again.admin.get(url.removeprefix(server.base)).status == 200
    assert again.query("SELECT recipient FROM recipients WHERE verified") == [("ada",)]


def test_restore_into_an_empty_directory_brings_back_all_and_the_key(
    sqlite_server: Server, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server, copy = sqlite_server, tmp_path / "copy.db"
    pixel = server.admin.create_pixel()
    url = server.admin.get(f"/api/pixels/{pixel['id']}/embed?recipient=ada").json["url"]
    server.cli("backup", str(copy), "--with-key")
    elsewhere = Server(tmp_path / "new" / "data", None)
    done = elsewhere.cli("restore", str(copy))
    assert f"Restored to {elsewhere.data_dir}/pixelkeep.db.\n" in done.stdout
    files = ("pixelkeep.db", "secret_key")
    assert sorted(path.name for path in elsewhere.data_dir.iterdir()) == list(files)
    assert {(elsewhere.data_dir / name).stat().st_mode & 0o777 for name in files} == {0o600}
    again = start_server(data_dir=elsewhere.data_dir)
    assert again.admin.get(url.removeprefix(server.base)).status == 200
    assert again.query("SELECT recipient FROM recipients WHERE verified") == [("ada",)]
    assert again.query("SELECT slug FROM pixels") == [(pixel["slug"],)]


def test_restore_without_a_key_says_that_links_name_nobody(
    sqlite_server: Server, tmp_path: Path
) -> None:
    copy, elsewhere = tmp_path / "copy.db", Server(tmp_path / "new", None)
    sqlite_server.cli("backup", str(copy))
    done = elsewhere.cli("restore", str(copy))
    assert f"{elsewhere.data_dir}/secret_key has a new one" in done.stdout
    assert "names nobody" in done.stdout


def test_restore_of_what_is_no_backup_into_an_empty_directory_leaves_it_empty(
    tmp_path: Path,
) -> None:
    text, elsewhere = tmp_path / "text", Server(tmp_path / "new", None)
    text.write_text("no database" * 1000)
    for source in (text, tmp_path / "missing"):
        refused = elsewhere.cli("restore", str(source), check=False)
        assert refused.returncode == 1
        assert len(refused.stderr.splitlines()) == 1
        assert list(elsewhere.data_dir.iterdir()) == []


def test_backup_without_the_key_has_no_key_beside_it(sqlite_server: Server, tmp_path: Path) -> None:
    sqlite_server.cli("backup", str(tmp_path / "copy.db"))
    assert [path.name for path in tmp_path.iterdir()] == ["copy.db"]


def test_backups_of_a_directory_are_kept_up_to_a_number_and_others_stay(
    sqlite_server: Server, tmp_path: Path
) -> None:
    others = ["pixelkeep-mine.db", "pixelkeep-20200101T000000000Z.db.txt", "notes"]
    for name in others:
        (tmp_path / name).write_text("mine")
    old = [f"pixelkeep-2020010{day}T000000000Z.db" for day in (1, 2, 3)]
    # A clock that was wrong: what is made now is kept all the same.
    later = "pixelkeep-29990101T000000000Z.db"
    for name in (*old, later):
        (tmp_path / name).write_text("an old one")
        (tmp_path / f"{name}.secret_key").write_text("its key")
    made = sqlite_server.cli("backup", str(tmp_path), "--keep", "3")
    left = {path.name for path in tmp_path.iterdir()}
    [new] = left - {*others, *old, later, *(f"{name}.secret_key" for name in (*old, later))}
    assert left == {*others, new, *(f"{name}{key}" for name in (old[2], later) for key in KEY)}
    assert rows(tmp_path / new, "PRAGMA integrity_check") == [("ok",)]
    assert f"{new}: " in made.stdout
    assert [line for line in made.stdout.splitlines() if line.startswith("Removed")] == [
        f"Removed {tmp_path / name}." for name in old[:2]
    ]


KEY = ("", ".secret_key")


def test_keep_wants_a_directory_that_is_there(sqlite_server: Server, tmp_path: Path) -> None:
    refused = sqlite_server.cli("backup", str(tmp_path / "new"), "--keep", "3", check=False)
    assert refused.returncode != 0
    assert "is no directory" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def on_a_full_disk(server: Server, room: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that can't make any file longer: a limit stands for a disk that is full."""
    return subprocess.run(
        [sys.executable, "-m", "cli", *command],
        cwd=PROJECT_DIR,
        env=server.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )


@pytest.mark.parametrize("room", [0, 60_000])
def test_restore_on_a_full_disk_is_one_line_and_changes_nothing(
    sqlite_server: Server, tmp_path: Path, room: int
) -> None:
    server, copy = sqlite_server, tmp_path / "copy.db"
    server.admin.create_pixel()
    server.cli("backup", str(copy), "--with-key")
    later = server.admin.create_pixel()
    for target in (server, Server(tmp_path / "new", None)):
        before = sorted(target.data_dir.iterdir()) if target is server else []
        done = on_a_full_disk(target, room, "restore", str(copy), "--yes")
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("pixelkeep: ")
        assert target is server or list(target.data_dir.iterdir()) == before
    assert server.admin.get(f"/p/{later['slug']}").status == 200
    assert server.query("PRAGMA integrity_check") == [("ok",)]


def test_rotation_on_a_full_disk_is_one_line_and_keeps_the_keys(sqlite_server: Server) -> None:
    server = sqlite_server
    key = (server.data_dir / "secret_key").read_text()
    done = on_a_full_disk(server, 0, "secret", "rotate")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert (server.data_dir / "secret_key").read_text() == key
    assert [path.name for path in server.data_dir.glob("secret_key*")] == ["secret_key"]
    assert server.admin.get("/api/me").status == 200


@pytest.mark.parametrize("room", [4096, 60_000])
def test_backup_on_a_full_disk_is_one_line_and_leaves_nothing(
    sqlite_server: Server, tmp_path: Path, room: int
) -> None:
    (tmp_path / "pixelkeep-20200101T000000000Z.db").write_text("an old one")
    done = on_a_full_disk(sqlite_server, room, "backup", str(tmp_path), "--with-key", "--keep", "1")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"pixelkeep: {tmp_path}/pixelkeep-")
    assert [path.name for path in tmp_path.iterdir()] == ["pixelkeep-20200101T000000000Z.db"]
    assert sqlite_server.admin.get("/healthz").status == 200


def test_backup_is_read_again_before_it_gets_its_name(
    sqlite_server: Server, tmp_path: Path
) -> None:
    server = sqlite_server
    pixel = server.admin.create_pixel()
    server.cli("backup", str(tmp_path / "good.db"))
    # An index that says what its table doesn't: only a whole check finds it.
    connection = pysqlite3.connect(server.data_dir / "pixelkeep.db", timeout=10)
    try:
        with connection:
            connection.execute("CREATE TABLE torn (a, b)")
            connection.execute("CREATE INDEX torn_a ON torn (a)")
            connection.execute("INSERT INTO torn VALUES (1, 2)")
            connection.execute("PRAGMA writable_schema = ON")
            change = "UPDATE sqlite_master SET sql = 'CREATE INDEX torn_a ON torn (b)'"
            connection.execute(f"{change} WHERE name = 'torn_a'")
    finally:
        connection.close()
    try:
        refused = server.cli("backup", str(tmp_path / "bad.db"), check=False)
        assert refused.returncode == 1
        assert "damaged" in refused.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["good.db"]
    finally:
        server.execute("DROP INDEX torn_a")
        server.execute("DROP TABLE torn")
    assert server.admin.get(f"/p/{pixel['slug']}").status == 200
