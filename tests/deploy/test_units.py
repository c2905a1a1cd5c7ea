"""The systemd units of `deploy/`: verified, hardened, and their commands run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from core.settings import PROJECT_DIR
from tests.conftest import Server

DEPLOY = PROJECT_DIR / "deploy"
EXPOSURE_MAX = 2.0


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("name", ["pixelkeep.service", "pixelkeep-backup.service"])
def test_service_is_hardened(name: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", DEPLOY / name]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert found, told
    assert float(found[1]) < EXPOSURE_MAX


@pytest.mark.needs("systemd-analyze")
def test_units_are_what_systemd_reads(tmp_path: Path) -> None:
    names = ["pixelkeep.service", "pixelkeep-backup.service", "pixelkeep-backup.timer"]
    for name in names:
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/pixelkeep", str(PROJECT_DIR)))
    # Its warnings, of a name that it doesn't know, leave the status at 0.
    found = subprocess.run(
        ["systemd-analyze", "verify", *names], cwd=tmp_path, capture_output=True, text=True
    )
    assert [line for line in found.stderr.splitlines() if str(tmp_path) in line] == []
    assert found.returncode == 0, found.stderr


@pytest.mark.processes
def test_server_says_when_it_is_ready(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(60)
        server = Server(tmp_path / "data", None, workers="1")
        server.env["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        server.start()
        try:
            assert b"READY=1" in told.recv(4096).splitlines()
        finally:
            server.kill()


def test_nightly_copies_are_seven_with_their_keys(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server()
    pixel = server.admin.create_pixel()
    assert server.admin.get(f"/p/{pixel['slug']}").status == 200
    copies = tmp_path / "copies"
    copies.mkdir()
    former = [copies / f"pixelkeep-2026010{day}T031500000Z.db" for day in range(1, 10)]
    for path in former:
        path.touch()
    for command in commands_of("pixelkeep-backup.service", copies):
        subprocess.run(command, env=os.environ | server.env, check=True, capture_output=True)
    kept = sorted(copies.glob("*.db"))
    assert kept[:-1] == former[-6:]
    # The way back, on a machine that has nothing else.
    restored = Server(tmp_path / "restored", None, workers="1")
    restored.data_dir.mkdir()
    shutil.copy(kept[-1], restored.data_dir / "pixelkeep.db")
    shutil.copy(f"{kept[-1]}.secret_key", restored.data_dir / "secret_key")
    restored.admin.token = server.admin.token
    restored.start()
    try:
        assert restored.admin.get(f"/api/pixels/{pixel['id']}").status == 200
        assert restored.admin.get(f"/p/{pixel['slug']}").status == 200
        assert restored.hits() == 2
    finally:
        restored.kill()


def commands_of(unit: str, copies: Path) -> list[list[str]]:
    """Return what a unit runs, with its paths those of a test."""
    text = (DEPLOY / unit).read_text()
    for old, new in {
        "/opt/pixelkeep": PROJECT_DIR,
        "/var/lib/pixelkeep-backups": copies,
    }.items():
        assert old in text
        text = text.replace(old, str(new))
    return [shlex.split(line) for line in re.findall(r"^ExecStart=(.+)", text, re.M)]
