"""Data that stays where it is asked for, in tables that are the models'."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import run_prepare
from tests.conftest import PROJECT_DIR, Server

pytestmark = pytest.mark.processes

ODD_NAMES = ["p%20x", "q?x", "feature%2Fx", "100%", "#1", "a b & c;d'e", "ünï+%C3%BC"]


@pytest.fixture(params=ODD_NAMES)
def odd_server(request: pytest.FixtureRequest, tmp_path: Path) -> Server:
    return Server(tmp_path / str(request.param), None)


def prepared(server: Server) -> subprocess.CompletedProcess[str]:
    """Do what a start does before the first request."""
    return run_prepare(server.env, PROJECT_DIR)


def test_database_is_made_in_the_directory_as_it_is_written(
    odd_server: Server, tmp_path: Path
) -> None:
    server, copy = odd_server, tmp_path / "copy?%20.db"
    assert prepared(server).returncode == 0
    assert list(tmp_path.iterdir()) == [server.data_dir]
    assert (server.data_dir / "pixelkeep.db").stat().st_size
    server.cli("pixels", "create", "One", "one")
    server.cli("backup", str(copy))
    server.cli("pixels", "create", "Two", "two")
    server.cli("restore", str(copy), "--yes")
    listed = server.cli("pixels", "list").stdout
    assert "one" in listed
    assert "two" not in listed
    assert set(tmp_path.iterdir()) == {server.data_dir, copy}


def test_database_url_stays_a_url(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", f"sqlite:///{tmp_path}/a%20b/x.db")
    server.data_dir.mkdir()
    assert prepared(server).returncode == 0
    assert (tmp_path / "a b" / "x.db").stat().st_size


def test_database_that_an_older_version_put_elsewhere_is_named(tmp_path: Path) -> None:
    server = Server(tmp_path / "p%20x", None)
    astray = tmp_path / "p x" / "pixelkeep.db"
    astray.parent.mkdir()
    astray.write_bytes(b"hits")
    said = prepared(server)
    assert said.returncode == 1
    assert str(astray) in said.stderr
    assert str(server.data_dir / "pixelkeep.db") in said.stderr
    assert len(said.stderr.splitlines()) == 1
    assert not (server.data_dir / "pixelkeep.db").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("ALTER TABLE pixels DROP COLUMN pruned_before", "pixels lacks the column pruned_before"),
        ("ALTER TABLE hits ADD COLUMN odd INTEGER", "hits has a column odd too many"),
        ("DROP TABLE erasures", "erasures is missing"),
        ("DROP INDEX ix_profiles_agent", "profiles lacks ix_profiles_agent"),
        (
            "ALTER TABLE visitors RENAME TO old;"
            "CREATE TABLE visitors (pixel_number BIGINT NOT NULL, visitor BIGINT NOT NULL,"
            " number TEXT NOT NULL, PRIMARY KEY (visitor));"
            "DROP TABLE old",
            "visitors.number is of another type, visitors has another key",
        ),
    ],
)
def test_tables_that_are_not_the_models_are_told_of_in_one_line(
    create_tables: Callable[[str, Path], str | None],
    database: str,
    tmp_path: Path,
    change: str,
    named: str,
) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    server = Server(data_dir, create_tables(database, data_dir))
    assert prepared(server).returncode == 0
    whole, copy = tmp_path / "whole.db", tmp_path / "copy.db"
    if database == "sqlite":
        server.cli("backup", str(whole))
    for statement in change.split(";"):
        server.execute(statement)
    started = prepared(server)
    assert started.returncode == 1
    assert named in started.stderr
    assert len(started.stderr.splitlines()) == 1
    checked = server.cli("check", check=False)
    assert checked.returncode == 1
    assert named in checked.stdout
    if database == "sqlite":
        server.cli("backup", str(copy))
        server.cli("restore", str(whole), "--yes")
        assert server.cli("check").returncode == 0
        restored = server.cli("restore", str(copy), "--yes", check=False)
        assert restored.returncode == 1
        assert named in restored.stderr
        assert len(restored.stderr.splitlines()) == 1
        assert server.cli("check").returncode == 0


def test_database_of_a_later_release_stops_the_start_with_one_line(tmp_path: Path) -> None:
    server = Server(tmp_path, None)
    assert prepared(server).returncode == 0
    server.execute("UPDATE alembic_version SET version_num = '9999'")
    started = prepared(server)
    assert started.returncode == 1
    assert "9999, which Pixelkeep" in started.stderr
    assert len(started.stderr.splitlines()) == 1


def test_health_fails_where_tables_are_not_the_models(
    start_server: Callable[..., Server], database: str
) -> None:
    server = start_server(database)
    server.execute("ALTER TABLE hits ADD COLUMN odd INTEGER")
    answer = server.admin.get("/healthz")
    assert answer.status == 503
    assert "hits has a column odd too many" in answer.json["problems"][0]
