"""Runs commands and servers in processes of their own that have loaded the code already.

Loading it takes a second, and there are hundreds of calls. A helper process of Python's own loads
it once (`tests.loaded`), and each call is a fork of that: nothing of a test is in it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CalledProcessError, CompletedProcess, TimeoutExpired
from tempfile import TemporaryDirectory

from core import passwords

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["tests.loaded"])
OUTPUTS = ("stdout", "stderr")
# A password's hash takes a fifth of a second by design, and most tests sign in for another end.
QUICK_HASHES = "scrypt:128:8:1"
SIGN_INS_A_MINUTE_MAX = 100_000


def run_command(
    args: tuple[str, ...], env: dict[str, str], directory: Path, *, check: bool
) -> CompletedProcess[str]:
    """Run one command to its end, with nothing to read, and return what it wrote.

    Raises: CalledProcessError if it fails and `check` is set.
    """
    done = _run(partial(_command, args), env, directory)
    done.args = ["script/pixelkeep", *args]
    if check and done.returncode:
        raise CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
    return done


def run_prepare(env: dict[str, str], directory: Path) -> CompletedProcess[str]:
    """Do what a start does before the first request, as `python -m server.prepare`."""
    return _run(_prepare, env, directory)


def begin_prepare(env: dict[str, str], directory: Path) -> BaseProcess:
    """Begin to do so, and return the process; what it writes is nowhere."""
    nowhere = [Path(os.devnull)] * len(OUTPUTS)
    process = FORKS.Process(target=_run_here, args=(_prepare, env, directory, nowhere))
    process.start()
    return process


def run_start(env: dict[str, str], directory: Path) -> CompletedProcess[str]:
    """Start a server that can't serve, as `python -m server.start`."""
    return _run(_start, env, directory)


class ServerProcess:
    """A server as `python -m server.start` starts it, in a session of its own.

    Has what the tests use of `subprocess.Popen`.
    """

    def __init__(
        self, env: dict[str, str], directory: Path, log_path: Path, *, real_sign_in: bool
    ) -> None:
        self._process = FORKS.Process(target=_serve, args=(env, directory, log_path, real_sign_in))
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


def _run(
    program: Callable[[], None], env: dict[str, str], directory: Path
) -> CompletedProcess[str]:
    with TemporaryDirectory() as outputs:
        paths = [Path(outputs) / name for name in OUTPUTS]
        process = FORKS.Process(target=_run_here, args=(program, env, directory, paths))
        process.start()
        process.join()
        written = [path.read_text(errors="replace") for path in paths]
    done = CompletedProcess([], process.exitcode or 0, *written)
    process.close()
    return done


def _run_here(
    program: Callable[[], None], env: dict[str, str], directory: Path, outputs: list[Path]
) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    _become(env, directory, *(os.open(path, flags, 0o600) for path in outputs))
    _sign_in_quickly()
    program()


def _command(args: tuple[str, ...]) -> None:
    from cli.run import run

    sys.argv = ["script/pixelkeep", *args]
    run()


def _prepare() -> None:
    from server.prepare import main

    sys.argv = ["server.prepare"]
    main()


def _start() -> None:
    from server.start import main

    sys.argv = ["server.start"]
    main()


def _serve(env: dict[str, str], directory: Path, log_path: Path, real_sign_in: bool) -> None:
    os.setsid()
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    _become(env, directory, log, log)
    if not real_sign_in:
        _sign_in_quickly()
    _start()


def _sign_in_quickly() -> None:
    from web import rate_limit

    # The tests are one address, whose sign-ins are limited for what their hashes take.
    rate_limit.SIGN_INS_A_MINUTE_MAX = SIGN_INS_A_MINUTE_MAX
    passwords.NOBODYS_HASH = passwords.NOBODYS_HASH.replace(passwords.METHOD, QUICK_HASHES)
    passwords.METHOD = QUICK_HASHES


def _become(env: dict[str, str], directory: Path, output: int, errors: int) -> None:
    """Make of this process what a shell would have started: its environment, place and files."""
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(directory)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    if "SKEW_FILE" in env:
        importlib.import_module("tests.skewed_clock")
