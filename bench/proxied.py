"""What a proxy in front costs: hits by way of nginx, beside the same server asked directly.

nginx runs with its defaults, as `proxy_pass` and nothing else, which is a connection for each
request, and with `deploy/nginx.conf`, which keeps its connections; both without TLS, so that only
the way through is measured. The load, nginx and the server share the machine's cores: the CPU
seconds say who has them.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

from bench.hits import (
    SLUG,
    START_SECONDS_MAX,
    Load,
    Variant,
    free_port,
    generate,
    machine,
    pixelkeep,
    wait_for,
)
from core.settings import PROJECT_DIR, Settings

DIRECT = "direct"
# Debian's, which a server's configuration stands in.
AROUND = (
    "daemon off; pid {directory}/pid; worker_processes auto; events {{ worker_connections 768; }}"
    " http {{ {paths} {http} }}"
)
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
BY_DEFAULT = (
    "access_log off; server {{ listen 127.0.0.1:{port};"
    " location / {{ proxy_pass http://127.0.0.1:{to}; }} }}"
)


class Route(NamedTuple):
    """A route to the server: the port to ask, and the proxy, if there is one."""

    port: int
    proxy: psutil.Process | None


class RouteResult(NamedTuple):
    """One load by one route, and the CPU seconds that it took of each."""

    load: Load
    server: float
    proxy: float
    generator: float


def main() -> None:
    """Measure in turn, and print the tables and every single result."""
    chosen = _arguments()
    print(f"{machine(chosen)}; {chosen.rounds} rounds of {chosen.seconds} s")
    with ExitStack() as stack:
        server = stack.enter_context(pixelkeep("FULL", chosen, trusted_proxies="1"))
        routes = {
            DIRECT: Route(server.port, None),
            "nginx, by default": stack.enter_context(_nginx(_by_default(server.port))),
            "nginx, deploy/nginx.conf": stack.enter_context(_nginx(_of_deploy(server.port))),
        }
        for route in routes.values():
            _measured(server, route, 32, 1)
        for connections in chosen.connections:
            rows: dict[str, list[RouteResult]] = {name: [] for name in routes}
            for _ in range(chosen.rounds):
                for name, route in routes.items():
                    rows[name].append(_measured(server, route, connections, chosen.seconds))
            _print_table(connections, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench proxied", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="of each load (default 3)")
    parser.add_argument("--rounds", type=int, default=5, help="of all ways (default 5)")
    parser.add_argument("--connections", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--workers", type=int, default=Settings().workers)
    parser.add_argument("--threads", type=int, default=Settings().threads)
    return parser.parse_args()


def _by_default(to: int) -> tuple[int, str]:
    port = free_port()
    return port, BY_DEFAULT.format(port=port, to=to)


def _of_deploy(to: int) -> tuple[int, str]:
    """Return the example, on a port without TLS."""
    port = free_port()
    text = (PROJECT_DIR / "deploy" / "nginx.conf").read_text()
    text = re.sub(r"server \{\n    listen 80;.*?\n\}\n", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"^    (listen \[|ssl_).*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^    error_log .*\n", "", text, flags=re.MULTILINE)
    text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    return port, text.replace("127.0.0.1:8000", f"127.0.0.1:{to}")


@contextmanager
def _nginx(listening: tuple[int, str]) -> Iterator[Route]:
    port, http = listening
    with tempfile.TemporaryDirectory(prefix="pixelkeep-bench-nginx-") as directory:
        paths = " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in TEMPORARY)
        config = Path(directory) / "nginx.conf"
        config.write_text(AROUND.format(directory=directory, paths=paths, http=http))
        command = ["nginx", "-e", f"{directory}/error.log", "-p", directory, "-c", str(config)]
        with subprocess.Popen(command) as process:
            try:
                wait_for(f"http://127.0.0.1:{port}/p/{SLUG}")
                yield Route(port, psutil.Process(process.pid))
            finally:
                process.terminate()
                process.wait(START_SECONDS_MAX)


def _measured(server: Variant, route: Route, connections: int, seconds: int) -> RouteResult:
    before = _cpu_seconds(server, route)
    url = f"http://127.0.0.1:{route.port}/p/{SLUG}"
    load = generate(url, connections, seconds, close=False)
    after = _cpu_seconds(server, route)
    return RouteResult(load, *(late - early for late, early in zip(after, before, strict=True)))


def _cpu_seconds(server: Variant, route: Route) -> tuple[float, float, float]:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    proxies = [route.proxy, *route.proxy.children()] if route.proxy else []
    times = [proxy.cpu_times() for proxy in proxies]
    return (
        server.cpu_seconds(),
        float(sum(cpu_times.user + cpu_times.system for cpu_times in times)),
        used.ru_utime + used.ru_stime,
    )


def _print_table(connections: int, rows: dict[str, list[RouteResult]]) -> None:
    print(f"\n{connections} connections (medians)", flush=True)
    print("| | requests/s | to direct | p50 ms | p99 ms | CPU s/10,000: ours | nginx's | wrk's |")
    print("|---|---|---|---|---|---|---|---|")
    for name, results in rows.items():
        pairs = zip(results, rows[DIRECT], strict=True)
        ratio = median(row.load.per_second / direct.load.per_second for row, direct in pairs)
        print(
            f"| {name} | {median(row.load.per_second for row in results):.0f} | {ratio:.2f}"
            f" | {median(row.load.p50_ms for row in results):.2f}"
            f" | {median(row.load.p99_ms for row in results):.1f}"
            f" | {_per_10k(results, 'server')} | {_per_10k(results, 'proxy')}"
            f" | {_per_10k(results, 'generator')} |"
        )
    for name, results in rows.items():
        failed = sum(row.load.failed for row in results)
        raw = " ".join(f"{row.load.per_second:.0f}" for row in results)
        print(f"raw {name}: {raw}" + (f"; {failed} failed" if failed else ""))


def _per_10k(rows: list[RouteResult], of: str) -> str:
    return f"{median(getattr(row, of) / max(row.load.answered, 1) for row in rows) * 10_000:.2f}"


if __name__ == "__main__":
    main()
