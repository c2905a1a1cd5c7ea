"""How long each question about a pixel of many hits takes, over HTTP, one at a time.

The hits are made up (`script/pixelkeep demo`) and asked about as a whole. Each route is asked a
few times first, so that what a process remembers of a pixel is there, and then `--rounds` times
in turn with all others.
"""

from __future__ import annotations

import argparse
import http.cookiejar
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.hits import Variant, free_port, machine, running, sqlite_bytes, wait_for
from core.settings import PROJECT_DIR, Settings

SLUG = "demo"
PASSWORD = "correct horse battery staple"  # noqa: S105
WARM_UPS = 4
MS_PER_DAY = 86_400_000

ROUTES = {
    "stats": "stats",
    "stats of all classes": "stats?class=all",
    "stats by browser and country": "stats?browser=eq.chrome&country=eq.DE",
    "stats of a recipient": "stats?recipient=eq.recipient-17@example.org",
    "pageviews by hour": "pageviews?unit=hour",
    "pageviews by hour of a browser": "pageviews?unit=hour&browser=eq.chrome",
    "pageviews by day": "pageviews?unit=day",
    "pageviews by day, Berlin": "pageviews?unit=day&timezone=Europe/Berlin",
    "pageviews by day, Kathmandu": "pageviews?unit=day&timezone=Asia/Kathmandu",
    "metrics: browser": "metrics?type=browser",
    "metrics: country": "metrics?type=country",
    "metrics: query": "metrics?type=query",
    "metrics: channel": "metrics?type=channel",
    "metrics: class": "metrics?type=class&class=all",
    "metrics: recipient": "metrics?type=recipient",
    "expanded: browser": "metrics/expanded?type=browser",
    "expanded: recipient": "metrics/expanded?type=recipient",
    "values": "values?type=browser",
    "active": "active",
    "daterange": "daterange",
    "events, page 1": "events",
    "events, page 1,000": "events?page=1000",
    "recipients": "recipients",
}
PAGES = {
    "page: pixels": "/pixels",
    "page: a pixel, 7 days": "/pixels/{id}?range=7d",
    "page: a pixel, 30 days": "/pixels/{id}?range=30d",
    "page: a pixel, 90 days": "/pixels/{id}?range=90d",
    "page: recipients": "/pixels/{id}/recipients",
}


def main() -> None:
    """Make the hits, start a server, ask all questions in turn, and print the table."""
    chosen = _arguments()
    print(f"{machine(chosen)}; {chosen.rounds} rounds")
    with tempfile.TemporaryDirectory(prefix="pixelkeep-bench-") as directory:
        port = free_port()
        env = {
            "PIXELKEEP_BIND": f"127.0.0.1:{port}",
            "PIXELKEEP_DATA_DIR": directory,
            "PIXELKEEP_ADMIN_PASSWORD": PASSWORD,
        }
        with running(["-m", "server.start"], env):
            wait_for(f"http://127.0.0.1:{port}/api/heartbeat")
            _make_hits(chosen, env)
        with running(["-m", "server.start"], env) as (process, _):
            wait_for(f"http://127.0.0.1:{port}/api/heartbeat")
            server = Variant("Pixelkeep", process, port)
            print_table(_ask_all(f"http://127.0.0.1:{port}", chosen.rounds))
            print(f"{server.memory_mib():.0f} MiB in memory after these questions")
        size = sqlite_bytes(Path(directory) / "pixelkeep.db")
        print(f"{size / 1e6:.1f} MB on disk: {size / chosen.hits:.1f} bytes a hit")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench statistics", description=__doc__)
    parser.add_argument("--hits", type=int, default=1_000_000, help="default 1,000,000")
    parser.add_argument("--visitors", type=int, default=100_000, help="default 100,000")
    parser.add_argument("--days", type=int, default=31, help="of the hits (default 31)")
    parser.add_argument("--rounds", type=int, default=15, help="of all questions (default 15)")
    parser.set_defaults(workers=Settings().workers, threads=Settings().threads)
    return parser.parse_args()


def _make_hits(chosen: argparse.Namespace, env: dict[str, str]) -> None:
    names = ("hits", "visitors", "days")
    options = [f"--{name}={getattr(chosen, name)}" for name in names]
    started_at = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "cli.run", "demo", f"--slug={SLUG}", "--seed=1", *options],
        cwd=PROJECT_DIR,
        env={"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir(), **env},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    seconds = time.monotonic() - started_at
    print(f"{chosen.hits} hits stored and counted in {seconds:.0f} s")


def _ask_all(base: str, rounds: int) -> dict[str, list[tuple[float, int]]]:
    """Return, for each question, the milliseconds and the bytes of each answer."""
    token = post_json(f"{base}/api/auth/login", {"username": "admin", "password": PASSWORD})
    headers = {"Authorization": f"Bearer {token['token']}"}
    pixels = json.loads(get(f"{base}/api/pixels", headers))
    pixel_id = pixels["data"][0]["id"]
    end = time.time_ns() // 1_000_000
    span = f"startAt={end - 31 * MS_PER_DAY}&endAt={end}"
    questions: dict[str, Callable[[], bytes]] = {}

    def add(name: str, url: str, ask: Callable[[str], bytes]) -> None:
        questions[name] = lambda: ask(url)

    for name, route in ROUTES.items():
        url = f"{base}/api/pixels/{pixel_id}/{route}{'&' if '?' in route else '?'}{span}"
        add(name, url, lambda url: get(url, headers))
    add("charts", f"{base}/api/pixels/charts?ids={pixel_id}&{span}", lambda url: get(url, headers))
    browse = sign_in(base)
    for name, path in PAGES.items():
        add(name, base + path.format(id=pixel_id), browse)
    return ask_in_turn(questions, rounds)


def ask_in_turn(
    questions: dict[str, Callable[[], bytes]], rounds: int
) -> dict[str, list[tuple[float, int]]]:
    """Return, for each question, the milliseconds and the bytes of each answer."""
    for ask in questions.values():
        for _ in range(WARM_UPS):
            ask()
    answers: dict[str, list[tuple[float, int]]] = {name: [] for name in questions}
    for _ in range(rounds):
        for name, ask in questions.items():
            started_at = time.perf_counter()
            size = len(ask())
            answers[name].append(((time.perf_counter() - started_at) * 1000, size))
    return answers


def sign_in(base: str) -> Callable[[str], bytes]:
    """Return what gets a page as the signed-in admin's browser does."""
    cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    opener = urllib.request.build_opener(cookies)
    page = opener.open(f"{base}/sign-in").read().decode()
    token = re.search(r'name="form_token" value="([^"]+)"', page)
    assert token, page
    form = {"username": "admin", "password": PASSWORD, "form_token": token[1]}
    opener.open(f"{base}/sign-in", urllib.parse.urlencode(form).encode()).close()

    def browse(url: str) -> bytes:
        request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})  # noqa: S310
        with opener.open(request) as answer:
            return bytes(answer.read())

    return browse


def get(url: str, headers: dict[str, str]) -> bytes:
    """Return the body of an answer."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:  # noqa: S310
        return bytes(answer.read())


def post_json(url: str, body: dict[str, str], token: str = "") -> dict[str, Any]:
    """Send a JSON body; return that of the answer."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return dict(json.loads(answer.read()))


def print_table(answers: dict[str, list[tuple[float, int]]]) -> None:
    """Print the times of each question as a table."""
    print("\n| | best ms | median ms | p95 ms | KB |\n|---|---|---|---|---|")
    for name, taken in answers.items():
        times = sorted(ms for ms, _ in taken)
        p95 = times[round(0.95 * (len(times) - 1))]
        size = max(size for _, size in taken) / 1000
        median = statistics.median(times)
        print(f"| {name} | {times[0]:.0f} | {median:.0f} | {p95:.0f} | {size:.1f} |")
    print()


if __name__ == "__main__":
    main()
