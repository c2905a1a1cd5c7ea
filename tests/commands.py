"""Runs the operator's command line in a process of its own that has loaded it already.

Loading it takes a second, and there are hundreds of calls. A helper process of Python's own loads
it once, and each call is a fork of that: nothing of a test is in it.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import get_context
from pathlib import Path
from subprocess import CalledProcessError, CompletedProcess
from tempfile import TemporaryDirectory

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["cli.run"])
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


def _command(args: tuple[str, ...], env: dict[str, str], directory: Path, outputs: Path) -> None:
    for descriptor, name in enumerate(OUTPUTS, start=1):
        file = os.open(outputs / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(directory)
    sys.argv = ["script/pixelkeep", *args]
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    from cli.run import run

    run()
