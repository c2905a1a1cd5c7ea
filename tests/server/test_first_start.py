"""The first start's secrets: where they go, when they go, and that nobody is locked out."""

from __future__ import annotations

import os
import pty
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.commands import begin_prepare, run_prepare
from tests.conftest import PASSWORD, PROJECT_DIR, Client, Server, wait_until

pytestmark = pytest.mark.processes

FILE = "first_start.txt"
PREPARE = [sys.executable, "-m", "server.prepare"]


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(data_dir),
        "PIXELKEEP_DATA_DIR": str(data_dir),
        **more,
    }


def prepare(data_dir: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Do what a start does before it serves."""
    return run_prepare(environment(data_dir, **more), PROJECT_DIR)


def prepare_writing_to(data_dir: Path, **outputs: Any) -> subprocess.CompletedProcess[str]:
    """Do so as a program of its own, whose outputs are these."""
    env = environment(data_dir)
    return subprocess.run(
        PREPARE, cwd=PROJECT_DIR, env=env, text=True, check=False, timeout=60, **outputs
    )


def secrets_in(text: str) -> tuple[str, str]:
    password = re.search(r"password: +(\S+)", text)
    key = re.search(r"API key: +(\S+)", text)
    assert password
    assert key
    return password[1], key[1]


@pytest.fixture
def serve(start_server: Callable[..., Server]) -> Callable[[Path], Server]:
    """Serve what is prepared in a directory."""

    def start(data_dir: Path) -> Server:
        return start_server(data_dir=data_dir)

    return start


def sign_in(base: str, password: str) -> int:
    credentials = {"username": "admin", "password": password}
    return Client(base).post("/api/auth/login", credentials).status


def test_output_that_is_no_terminal_gets_the_files_path(tmp_path: Path) -> None:
    said = prepare_writing_to(tmp_path, capture_output=True)
    assert said.returncode == 0, said
    file = tmp_path / FILE
    password, key = secrets_in(file.read_text())
    assert file.stat().st_mode & 0o777 == 0o600
    assert str(file) in said.stdout
    assert password not in said.stdout + said.stderr
    assert key not in said.stdout + said.stderr


def test_terminal_gets_the_secrets(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    said = prepare_writing_to(tmp_path, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert said.returncode == 0
    assert secrets_in(shown) == secrets_in((tmp_path / FILE).read_text())


def test_output_that_cant_be_written_leaves_the_file(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        said = prepare_writing_to(tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert said.returncode == 0, said
    assert secrets_in((tmp_path / FILE).read_text())


def test_start_whose_output_cant_be_written_serves(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", None)
    server.data_dir.mkdir()
    errors = tmp_path / "errors"
    start = [sys.executable, "-m", "server.start"]
    with Path("/dev/full").open("w") as full, errors.open("w") as kept:
        process = subprocess.Popen(start, cwd=PROJECT_DIR, env=server.env, stdout=full, stderr=kept)
    try:
        wait_until(lambda: process.poll() is not None or answers(server))
        assert process.poll() is None, errors.read_text()
    finally:
        process.terminate()
        process.wait(30)
    assert errors.read_text() == ""


def answers(server: Server) -> bool:
    with suppress(OSError):
        return server.admin.get("/api/heartbeat").status == 200
    return False


@pytest.mark.parametrize("delay_seconds", [0.0, 0.005, 0.05])
def test_start_that_is_killed_locks_nobody_out(
    tmp_path: Path, serve: Callable[[Path], Server], delay_seconds: float
) -> None:
    process = begin_prepare(environment(tmp_path), PROJECT_DIR)
    while not (tmp_path / FILE).exists() and process.is_alive():
        time.sleep(0.0005)
    time.sleep(delay_seconds)
    process.kill()
    process.join()
    assert prepare(tmp_path).returncode == 0
    server = serve(tmp_path)
    password, key = secrets_in((tmp_path / FILE).read_text())
    assert server.admin.with_token(key).get("/api/me").status == 200
    assert sign_in(server.base, password) == 200


def test_starts_at_once_make_one_admin_who_can_sign_in(
    tmp_path: Path, serve: Callable[[Path], Server]
) -> None:
    starts = [begin_prepare(environment(tmp_path), PROJECT_DIR) for _ in range(3)]
    for start in starts:
        start.join()
    assert [start.exitcode for start in starts] == [0] * 3
    server = serve(tmp_path)
    assert sign_in(server.base, secrets_in((tmp_path / FILE).read_text())[0]) == 200
    assert server.query("SELECT count(*) FROM users") == [(1,)]
    assert server.query("SELECT count(*) FROM api_keys") == [(1,)]


def test_file_goes_when_the_admin_first_signs_in_and_the_key_stays(
    tmp_path: Path, serve: Callable[[Path], Server]
) -> None:
    prepare(tmp_path)
    file = tmp_path / FILE
    password, key = secrets_in(file.read_text())
    server = serve(tmp_path)
    assert server.admin.with_token(key).get("/api/me").status == 200
    assert sign_in(server.base, "another password") == 401
    assert file.exists()
    assert sign_in(server.base, password) == 200
    assert not file.exists()
    assert server.admin.with_token(key).get("/api/me").status == 200
    assert server.stop() == 0
    server.start(signs_in=False)
    assert not file.exists()
    assert password not in server.log
    assert key not in server.log


def test_file_goes_with_the_password_in_it(tmp_path: Path, serve: Callable[[Path], Server]) -> None:
    prepare(tmp_path)
    file, server = tmp_path / FILE, serve(tmp_path)
    before, key = secrets_in(file.read_text())
    server.cli("users", "create", "grace", "--role", "admin", "--password", PASSWORD)
    server.cli("users", "password", "grace", "--password", f"{PASSWORD} 2")
    assert file.exists()
    server.cli("users", "password", "admin", "--password", PASSWORD)
    assert not file.exists()
    assert sign_in(server.base, before) == 401
    assert sign_in(server.base, PASSWORD) == 200
    assert server.admin.with_token(key).get("/api/me").status == 200


def test_file_of_one_node_goes_when_the_admin_signs_in_at_another(
    tmp_path: Path, start_server: Callable[..., Server], postgres: Callable[[], str]
) -> None:
    shared = {"database_url": postgres(), "secret_key": secrets.token_hex(16)}
    start_server(**shared, data_dir=tmp_path / "first")
    second = start_server(**shared, data_dir=tmp_path / "second")
    file = tmp_path / "first" / FILE
    assert file.exists()
    assert not (tmp_path / "second" / FILE).exists()
    assert sign_in(second.base, PASSWORD) == 200
    wait_until(lambda: not file.exists())


def test_file_that_cant_be_written_makes_no_admin_whose_password_nobody_knows(
    tmp_path: Path, postgres: Callable[[], str]
) -> None:
    (tmp_path / FILE).mkdir()
    env = {"PIXELKEEP_DATABASE_URL": postgres()}
    said = prepare(tmp_path, **env)
    assert said.returncode != 0
    [line] = said.stderr.splitlines()
    assert "PIXELKEEP_ADMIN_PASSWORD" in line
    chosen = {**env, "PIXELKEEP_ADMIN_PASSWORD": "chosen by the operator"}
    said = prepare(tmp_path, **chosen)
    assert said.returncode == 0, said
    assert "keys create" in said.stdout
