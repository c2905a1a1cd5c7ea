"""Runs commands and servers in processes of their own that have loaded the code already.

Loading it takes a second, and there are hundreds of calls. A helper process of Python's own loads
it once, and each call is a fork of that: nothing of a test is in it.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import get_context
from pathlib import Path
from subprocess import CalledProcessError, CompletedProcess, TimeoutExpired
from tempfile import TemporaryDirectory

from cli.run import COMMANDS

MODULES = sorted({module for module, _ in COMMANDS.values()})
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    [f"cli.{module}" for module in ("run", *MODULES)]
    + ["app", "flask_migrate", "server.prepare", "server.start"]
)
OUTPUTS = ("stdout", "stderr")


def run_command(
    args: tuple[str, ...], env: dict[str, str], directory: Path, *, check: bool
) -> CompletedProcess[str]:
    """Run one command to its end, with nothing to read, and return what it wrote.

    Raises: CalledProcessError if it fails and `check` is set.
    """
    with TemporaryDirectory() as outputs:
        process = FORKS.Process(target=_command, args=(args, env, directory, Path(outputs)))
        process.start()
        process.join()
        written = [(Path(outputs) / name).read_text(errors="replace") for name in OUTPUTS]
    done = CompletedProcess(["script/pixelkeep", *args], process.exitcode or 0, *written)
    process.close()
    if check and done.returncode:
        raise CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
    return done


class ServerProcess:
    """A server as `python -m server.start` starts it, in a session of its own.

    Has what the tests use of `subprocess.Popen`.
    """

    def __init__(self, env: dict[str, str], directory: Path, log_path: Path) -> None:
        self._process = FORKS.Process(target=_serve, args=(env, directory, log_path))
        self._process.start()
        assert self._process.pid
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal's number, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once there is one.

        Raises: TimeoutExpired.
        """
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            raise TimeoutExpired("server.start", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal to its master, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _serve(env: dict[str, str], directory: Path, log_path: Path) -> None:
    os.setsid()
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    _become(env, directory, log, log)
    sys.argv = ["server.start"]
    from server.start import main

    main()


def _command(args: tuple[str, ...], env: dict[str, str], directory: Path, outputs: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    _become(env, directory, *(os.open(outputs / name, flags, 0o600) for name in OUTPUTS))
    sys.argv = ["script/pixelkeep", *args]
    from cli.run import run

    run()


def _become(env: dict[str, str], directory: Path, output: int, errors: int) -> None:
    """Make of this process what a shell would have started: its environment, place and files."""
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(directory)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
