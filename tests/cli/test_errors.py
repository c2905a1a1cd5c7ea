"""What goes wrong on the command line is one line, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import PROJECT_DIR, Server, unique

pytestmark = pytest.mark.processes

SECRET = "a-signing-key-0123456789"


PROGRAM = (sys.executable, "-m", "cli")


def started(
    tmp_path: Path, *words: str, output: int = subprocess.PIPE, program: tuple[str, ...] = PROGRAM
) -> subprocess.Popen[str]:
    """Start a command on a data directory of its own."""
    env = {**os.environ, "PIXELKEEP_DATA_DIR": str(tmp_path)}
    return subprocess.Popen(
        [*program, *words],
        cwd=PROJECT_DIR,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    command = started(tmp_path, "settings", output=full)
    _, said = command.communicate(timeout=60)
    os.close(full)
    assert command.returncode == 1
    assert said == "pixelkeep: No space left on device\n"


def test_export_to_an_output_that_cannot_be_written_names_no_file(server: Server) -> None:
    slug = unique("demo")
    server.cli("demo", "--slug", slug, "--hits", "200")
    with open("/dev/full", "w") as full:
        command = subprocess.run(
            [*PROGRAM, "export", slug],
            cwd=PROJECT_DIR,
            env=os.environ | server.env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert command.returncode == 1
    assert command.stderr == "pixelkeep: No space left on device\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_stream_that_is_closed_is_no_fault_of_ours(tmp_path: Path, closed: str) -> None:
    (tmp_path / "secret_key").write_text(SECRET)
    program = ("sh", "-c", f'exec "$@" {closed}', "sh", *PROGRAM)
    for words, status in ((("settings",), 0), (("restore", "nowhere"), 1)):
        command = started(tmp_path, *words, program=program)
        _, said = command.communicate(timeout=60)
        assert command.returncode == status
        assert len(said.splitlines()) <= 1, said


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.2, 0.4, 0.8, 1.2])
@pytest.mark.parametrize("words", [("settings",), ("check",)], ids=" ".join)
def test_interrupted_command_says_nothing_of_our_code(
    tmp_path: Path, seconds: float, words: tuple[str, ...]
) -> None:
    (tmp_path / "secret_key").write_text(SECRET)
    command = started(tmp_path, *words, program=("script/pixelkeep",))
    time.sleep(seconds)
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=60)
    assert "Traceback" not in said
    assert "Error" not in said


def test_hint_to_set_up_is_given_where_that_helps(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text(SECRET)
    _, said = started(tmp_path, "pixels", "list").communicate(timeout=60)
    assert said.endswith("`script/server` sets it up.\n")
    (tmp_path / "pixelkeep.db").write_bytes(b"no database " * 1000)
    _, said = started(tmp_path, "pixels", "list").communicate(timeout=60)
    assert "sets it up" not in said
    assert len(said.splitlines()) == 1
