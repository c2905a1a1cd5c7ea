"""The start: what a newcomer runs, sees and pastes, and what stops it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from tests.commands import run_start
from tests.conftest import PROJECT_DIR, START_SECONDS_MAX, Client, Server, free_port

pytestmark = pytest.mark.processes


class Checkout:
    """A copy of the project with the virtual environment that the tests run in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=PROJECT_DIR,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in listed.stdout.splitlines():
            copy_with_bytecode(PROJECT_DIR / name, directory / name)
        (directory / ".venv").mkdir()
        for part in ("bin", "lib", "pyvenv.cfg"):
            (directory / ".venv" / part).symlink_to(Path(sys.prefix) / part)
        requirements = directory / "requirements.txt"
        (directory / ".venv" / "requirements.txt.installed").write_bytes(requirements.read_bytes())
        self.port = free_port()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory / "home"),
            "PIXELKEEP_BIND": f"127.0.0.1:{self.port}",
        }
        self.started: list[subprocess.Popen[str]] = []

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.directory,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=START_SECONDS_MAX,
            check=False,
        )

    def start(self) -> subprocess.Popen[str]:
        """Start `script/server`, and wait for nothing."""
        process = subprocess.Popen(
            ["script/server"],
            cwd=self.directory,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # What runs the tests in the background has Ctrl-C ignored, which a shell passes on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.started.append(process)
        return process

    def serve(self) -> tuple[subprocess.Popen[str], Client]:
        process = self.start()
        client = Client(f"http://127.0.0.1:{self.port}")
        give_up_at = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < give_up_at and process.poll() is None:
            try:
                if client.get("/api/heartbeat").status == 200:
                    return process, client
            except OSError:
                time.sleep(0.02)
        raise AssertionError(process.communicate()[0])

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


def copy_with_bytecode(file: Path, copy: Path) -> None:
    """Copy a file as old as it is, and what Python has compiled of it, which takes seconds."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, copy)
    compiled = Path(cache_from_source(file))
    if file.suffix == ".py" and compiled.exists():
        copy_with_bytecode(compiled, Path(cache_from_source(copy)))


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    # Names that shells, URLs and settings files take for something else.
    made = Checkout(tmp_path / "a b 100%" / "pixelkeep")
    yield made
    made.close()


def test_first_start_writes_down_what_can_be_pasted_and_the_second_does_not(
    checkout: Checkout,
) -> None:
    process, client = checkout.serve()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=START_SECONDS_MAX)[0]
    assert process.returncode == 0, said
    assert "Traceback" not in said
    file = checkout.directory / "instance" / "first_start.txt"
    assert str(file) in said
    said = file.read_text()
    password = re.search(r"password: +(\S+)", said)
    key = re.search(r"API key: +(\S+)", said)
    curl = re.search(r"^curl .*?}'$", said, re.DOTALL | re.MULTILINE)
    image = re.search(r'<img src="(\S+)" width="1" height="1" alt="" />', said)
    assert password
    assert key
    assert curl
    assert image

    process, client = checkout.serve()
    pasted = checkout.run("sh", "-c", curl[0].replace("curl ", "curl -sS ", 1))
    assert '"slug":"email-campaign"' in pasted.stdout.replace(" ", ""), pasted
    answer = client.get(image[1].removeprefix(client.base))
    assert (answer.status, len(answer.body)) == (200, 43)
    listed = checkout.run("script/pixelkeep", "pixels", "list", "--json")
    assert '"hits": 1' in listed.stdout, listed
    login = {"username": "admin", "password": password[1]}
    assert client.post("/api/auth/login", login).status == 200

    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=START_SECONDS_MAX)[0]
    assert process.returncode == 0
    assert "API key" not in said
    assert key[1] not in said
    for path in (checkout.directory / "instance").iterdir():
        kept = path.read_bytes()
        assert key[1].encode() not in kept, path
        assert password[1].encode() not in kept, path


def test_secret_key_is_made_once_and_readable_by_its_owner_alone(checkout: Checkout) -> None:
    secret = checkout.directory / "instance" / "secret_key"
    made = set()
    for _ in range(2):
        process, _ = checkout.serve()
        process.terminate()
        process.communicate(timeout=START_SECONDS_MAX)
        assert secret.stat().st_mode & 0o777 == 0o600
        made.add(secret.read_text())
    assert len(made) == 1


def test_script_runs_from_any_directory(checkout: Checkout) -> None:
    command = shlex.quote(str(checkout.directory / "script" / "pixelkeep"))
    said = checkout.run("sh", "-c", f"cd / && {command} --help")
    assert said.returncode == 0, said
    assert "pixels" in said.stdout


def test_script_runs_through_a_symbolic_link(checkout: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "bin" / "pixelkeep"
    link.parent.mkdir()
    link.symlink_to(checkout.directory / "script" / "pixelkeep")
    said = checkout.run(str(link), "--version")
    assert said.returncode == 0, said
    assert said.stdout.startswith("Pixelkeep ")


def test_environment_of_another_python_is_made_anew(checkout: Checkout) -> None:
    venv = checkout.directory / ".venv"
    (venv / "lib").unlink()
    (venv / "lib" / "python3.5").mkdir(parents=True)
    # Making it needs no network, and what is installed then does.
    requirements = checkout.directory / "requirements.txt"
    requirements.write_text("")
    said = checkout.run("script/setup", "requirements.txt")
    assert said.returncode == 0, said
    assert not (venv / "lib" / "python3.5").exists()
    made = checkout.run(".venv/bin/python", "-c", "import pip")
    assert made.returncode == 0, made


def one_line(said: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert that a start failed with one line, and with these words."""
    assert said.returncode != 0
    assert said.stdout == ""
    lines = said.stderr.strip().splitlines()
    assert len(lines) == 1, said.stderr
    assert all(word in lines[0] for word in words), lines[0]


def test_start_with_the_port_in_use_is_one_line(checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", checkout.port)):
        one_line(checkout.run("script/server"), str(checkout.port), "PIXELKEEP_BIND")


def test_start_with_an_unwritable_data_directory_is_one_line(checkout: Checkout) -> None:
    blocked = checkout.directory / "file"
    blocked.touch()
    said = checkout.run("script/server", PIXELKEEP_DATA_DIR=str(blocked / "data"))
    one_line(said, str(blocked / "data"))


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.4, 0.6, 0.8, 1.2])
def test_start_that_is_interrupted_says_nothing_of_our_code(
    checkout: Checkout, seconds: float
) -> None:
    process = checkout.start()
    time.sleep(seconds)
    # As a terminal does: to the processes of both.
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=START_SECONDS_MAX)[0]
    assert "Traceback" not in said
    assert "Error" not in said


def test_server_without_a_directory_for_temporary_files_uses_its_own(checkout: Checkout) -> None:
    checkout.env["PYTHONPATH"] = str(PROJECT_DIR / "tests" / "no_temporary_directory")
    process, client = checkout.serve()
    assert client.get("/healthz").status == 200
    process.terminate()
    said = process.communicate(timeout=START_SECONDS_MAX)[0]
    assert "Traceback" not in said


def test_server_without_any_directory_for_temporary_files_is_one_line(checkout: Checkout) -> None:
    said = checkout.run(
        "script/server",
        PYTHONPATH=str(PROJECT_DIR / "tests" / "no_temporary_directory"),
        PIXELKEEP_DATA_DIR=str(checkout.directory / "missing"),
        PIXELKEEP_SECRET_KEY="a-signing-key-0123456789",
        PIXELKEEP_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none",
    )
    one_line(said, "TMPDIR")


def test_directory_that_nobody_named_is_told_before_a_second_instance_is_made(
    checkout: Checkout,
) -> None:
    """The service has a directory of its own, which the operator forgot to name."""
    for more in ({}, {"PIXELKEEP_SECRET_KEY": "a-signing-key-0123456789"}):
        said = checkout.run("script/pixelkeep", "users", "list", **more)
        meant = checkout.directory / "instance"
        one_line(said, f"No PIXELKEEP_DATA_DIR is named, so {meant} is meant", "script/server")
        assert not meant.exists()


def test_start_with_an_unreachable_postgresql_is_one_line(checkout: Checkout) -> None:
    url = f"postgresql://nobody:hidden@127.0.0.1:{free_port()}/none"
    said = checkout.run("script/server", PIXELKEEP_DATABASE_URL=url)
    one_line(said, "database")
    assert "hidden" not in said.stderr


def test_start_with_a_file_that_is_no_database_is_one_line(checkout: Checkout) -> None:
    instance = checkout.directory / "instance"
    instance.mkdir()
    (instance / "pixelkeep.db").write_bytes(b"not a database" * 1000)
    one_line(checkout.run("script/server"), "not a database")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PIXELKEEP_BINDD", "x", ["PIXELKEEP_BINDD", "PIXELKEEP_BIND?"]),
        ("PIXELKEEP_NONSENSE_ALTOGETHER", "x", ["PIXELKEEP_NONSENSE_ALTOGETHER", "settings"]),
        ("PIXELKEEP_BIND", "8000", ["host:port"]),
        ("PIXELKEEP_BIND", "127.0.0.1:99999", ["port"]),
        ("PIXELKEEP_WORKERS", "0", ["1 to 64"]),
        ("PIXELKEEP_WORKERS", "two", ["1 to 64"]),
        ("PIXELKEEP_SYNCHRONOUS", "OFF", ["FULL or NORMAL"]),
        ("PIXELKEEP_DATABASE_URL", "mysql://x", ["sqlite", "postgresql"]),
        ("PIXELKEEP_SECRET_KEY", "short", ["16"]),
        ("PIXELKEEP_SECRET_KEY_FILE", "/nowhere/key", ["no such file"]),
        ("PIXELKEEP_ADMIN_PASSWORD", "short", ["8"]),
        ("PIXELKEEP_PUBLIC_URL", "example.org", ["https://"]),
        ("PIXELKEEP_RESPECT_DNT", "yes", ["0 or 1"]),
        ("PIXELKEEP_GEOIP_DB", "/nowhere.mmdb", ["no such file"]),
        ("PIXELKEEP_GEOIP_DB", "README.md", ["MaxMind"]),
        ("PIXELKEEP_ADMIN_USERNAME", "x" * 256, ["255"]),
        ("PIXELKEEP_ADMIN_USERNAME", "two\nlines", ["can't be used"]),
        ("PIXELKEEP_ADMIN_PASSWORD", "x" * 1001, ["1000"]),
        ("PIXELKEEP_TRUSTED_PROXIES", "-1", ["0 to 16"]),
    ],
)
def test_start_with_a_bad_setting_is_one_line(
    tmp_path: Path, name: str, value: str, words: list[str]
) -> None:
    said = run_start(Server(tmp_path, None).env | {name: value}, PROJECT_DIR)
    one_line(said, name, *words)


def test_start_with_a_password_of_ones_own_does_not_print_it(checkout: Checkout) -> None:
    checkout.env["PIXELKEEP_ADMIN_PASSWORD"] = "my own long password"
    checkout.env["PIXELKEEP_ADMIN_USERNAME"] = "grace"
    process, client = checkout.serve()
    login = {"username": "grace", "password": "my own long password"}
    assert client.post("/api/auth/login", login).status == 200
    process.terminate()
    said = process.communicate(timeout=START_SECONDS_MAX)[0]
    assert "grace" in said
    assert "my own long password" not in said


def stand_in(directory: Path, script: str) -> str:
    """Put a `python3` of this behaviour first, and no other Python, on a PATH."""
    directory.mkdir()
    for tool in ("sh", "dirname", "cmp", "basename", "cp", "cat"):
        (directory / tool).symlink_to(subprocess.check_output(["which", tool], text=True).strip())
    python = directory / "python3"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return str(directory)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("exit 1", ["Python 3.11 or newer"]),
        ('case "$2" in *venv*) exit 1;; esac; exit 0', ["venv module", "python3-venv"]),
    ],
)
def test_setup_without_a_usable_python_is_one_line(
    checkout: Checkout, tmp_path: Path, behaviour: str, words: list[str]
) -> None:
    for part in (checkout.directory / ".venv").iterdir():
        part.unlink()
    path = stand_in(tmp_path / "bin", behaviour)
    one_line(checkout.run("script/server", PATH=path), *words)


def test_a_server_on_sqlite_loads_nothing_that_is_needed_elsewhere_only(tmp_path: Path) -> None:
    program = (
        "import sys; import server.start, server.worker, wsgi;"
        " print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT_DIR,
        env={"PIXELKEEP_DATA_DIR": str(tmp_path), "PIXELKEEP_SECRET_KEY": "k" * 64},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert {"flask", "numpy", "sqlalchemy"} <= loaded
    elsewhere = {"alembic", "maxminddb", "prometheus_client", "psycopg"}
    assert not loaded & (elsewhere | {"crawleruseragents"})
