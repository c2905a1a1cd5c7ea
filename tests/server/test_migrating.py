"""Migrations take the time they need, one node at a time; old code refuses newer tables."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from core.database import BUSY_TIMEOUT_MS
from core.locks import ADVISORY_LOCK
from tests.commands import run_prepare
from tests.conftest import PROJECT_DIR, Server, wait_until

# Longer than a request would wait.
LONG_SECONDS = BUSY_TIMEOUT_MS / 1000 + 2


@pytest.fixture
def node(postgres: Callable[[], str], tmp_path: Path) -> Server:
    """A node that has not started yet, on an empty database."""
    return Server(tmp_path, postgres(), secret_key="k" * 32)


def prepared(node: Server) -> subprocess.CompletedProcess[str]:
    return run_prepare(node.env, PROJECT_DIR)


def test_a_node_waits_for_another_that_migrates_and_says_so(node: Server) -> None:
    with psycopg.connect(str(node.database_url)) as other:
        other.execute(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK} + 1)")
        start = threading.Thread(target=node.start)
        start.start()
        wait_until(lambda: node.log_path.exists() and "Another node" in node.log)
        time.sleep(LONG_SECONDS)  # The condition is that so much time has passed.
    start.join()
    try:
        assert node.admin.get("/healthz").status == 200
    finally:
        node.kill()


def test_a_migration_waits_for_a_table_for_longer_than_a_request_would(node: Server) -> None:
    with psycopg.connect(str(node.database_url)) as other:
        other.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        other.commit()
        other.execute("LOCK TABLE alembic_version IN SHARE MODE")
        said: list[subprocess.CompletedProcess[str]] = []
        start = threading.Thread(target=lambda: said.append(prepared(node)))
        start.start()
        time.sleep(LONG_SECONDS)
        assert start.is_alive(), said
    start.join()
    assert said[0].returncode == 0, said


def test_old_code_on_a_newer_database_says_that_it_is_older_and_changes_nothing(
    start_server: Callable[..., Server], database: str
) -> None:
    server = start_server(database)
    assert server.stop() == 0
    server.execute("UPDATE alembic_version SET version_num = '9999'")
    said = prepared(server)
    [line] = said.stderr.strip().splitlines()
    assert said.returncode != 0
    assert all(word in line for word in ("9999", "older", "backup"))
    checked = server.cli("check", check=False).stdout
    assert "9999" in checked
    assert "older" in checked
    assert server.query("SELECT version_num FROM alembic_version") == [("9999",)]
