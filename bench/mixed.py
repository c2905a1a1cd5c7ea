"""What hits and questions do to each other on one machine, and what a server takes beside them.

`--data` keeps the made-up data, so that the next run starts at once. Each part runs by itself:

- `images`: images at 64 connections, 50,000 recipients at random and 200 agents, of a pixel without
  a past, of one with a day of `--hits` hits, and of that one with three reports open;
- `askers`: 8 and 32 people's programs ask for `stats` of that pixel, without and with 55 hits/s;
- `housekeeping`: what the service does by itself about pixels that have one new hit each;
- `years`: questions about 30,000 hits of five years;
- `start`: from the command to the first image, on a second start; and what is in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.hits import (
    UNITS_MS,
    Variant,
    free_port,
    machine,
    postgresql,
    postgresql_server,
    running,
    sqlite,
    wait_for,
)
from bench.questions import MS_PER_DAY, PASSWORD, get, post_json, sign_in
from core.settings import PROJECT_DIR, Settings

PARTS = ("images", "askers", "housekeeping", "years", "start")
CONNECTIONS = 64
RECIPIENTS, AGENTS = 50_000, 200
REPORTS = 3
REPORT_PAUSE_SECONDS = 3.0
HITS_A_SECOND = 55
ASKERS = (8, 32)
YEARS_HITS, YEARS_DAYS = 30_000, 1_826
FOLDED_SECONDS_MAX = 150.0

# wrk's own language: each request has a recipient and an agent of its own.
SCRIPT = """
math.randomseed(os.time())
local agents = {}
for number = 1, %(agents)d do
  agents[number] = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36"
    .. " (KHTML, like Gecko) Chrome/" .. (100 + number %% 50) .. ".0." .. number .. ".0"
end
request = function()
  wrk.headers["User-Agent"] = agents[math.random(%(agents)d)]
  local name = "reader" .. math.random(%(recipients)d) .. "%%40example.org"
  return wrk.format("GET", "/p/%(slug)s?r=" .. name)
end
"""


class Images(NamedTuple):
    """What `wrk` saw of a load of images, in milliseconds."""

    per_second: float
    p50: float
    p99: float
    slowest: float
    failed: int


class Answers(NamedTuple):
    """How long each answer took, in seconds, and how long all of it lasted."""

    taken: list[float]
    seconds: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.taken) / self.seconds


class Site(NamedTuple):
    """A running server, and whose token asks it."""

    server: Variant
    base: str
    headers: dict[str, str]
    # Asks the database for one number.
    ask: Callable[[str], int]

    def json(self, path: str) -> Any:
        """Return what a GET answers."""
        return json.loads(get(self.base + path, self.headers))

    def create_pixel(self, slug: str) -> str:
        """Create a pixel; return its id."""
        pixel = {"name": slug, "slug": slug}
        token = self.headers["Authorization"].removeprefix("Bearer ")
        return str(post_json(f"{self.base}/api/pixels", pixel, token)["id"])

    def pixel_id(self, slug: str) -> str:
        """Return the id of a pixel that is there."""
        found = self.json(f"/api/pixels?search={slug}")["data"]
        return str(next(pixel["id"] for pixel in found if pixel["slug"] == slug))


def main() -> None:
    """Make what is asked about, run the chosen parts, and print their tables."""
    chosen = _arguments()
    print(f"{machine(chosen)}; {chosen.database}")
    with ExitStack() as stack:
        if chosen.data is None:
            chosen.data = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="pixelkeep-bench-")
            )
        env = {
            "PIXELKEEP_BIND": f"127.0.0.1:{free_port()}",
            "PIXELKEEP_DATA_DIR": str(chosen.data),
            "PIXELKEEP_ADMIN_PASSWORD": PASSWORD,
            # Every agent is one to be stored, and no sender is a stranger.
            "PIXELKEEP_NEW_VALUES_PER_HOUR": "100000000",
            "PIXELKEEP_NEW_VALUES_PER_DAY": "100000000",
        }
        if chosen.database == "postgresql":
            env["PIXELKEEP_DATABASE_URL"] = stack.enter_context(
                postgresql_server(str(Path(chosen.data) / "postgresql"))
            )
        _prepare(chosen, env)
        for part in chosen.parts:
            with _site(env) as site:
                {
                    "images": _measure_images,
                    "askers": _measure_askers,
                    "housekeeping": _measure_housekeeping,
                    "years": _measure_years,
                    "start": _measure_start,
                }[part](site, chosen)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/bench mixed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--data", help="a directory to keep, with the hits that are made up in it")
    parser.add_argument("--hits", type=int, default=1_000_000, help="of today (default 1,000,000)")
    parser.add_argument(
        "--pixels", type=int, default=1_000, help="with one new hit (default 1,000)"
    )
    parser.add_argument("--seconds", type=int, default=8, help="of each load (default 8)")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.set_defaults(workers=Settings().workers, threads=Settings().threads)
    chosen = parser.parse_args()
    chosen.parts = [] if chosen.parts == ["none"] else chosen.parts or [*PARTS]
    if not set(chosen.parts) <= set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}, or none to make the hits only")
    return chosen


@contextmanager
def _site(env: dict[str, str]) -> Iterator[Site]:
    base = f"http://{env['PIXELKEEP_BIND']}"
    with running(["-m", "server.start"], env) as (process, _):
        wait_for(f"{base}/api/heartbeat")
        credentials = {"username": "admin", "password": PASSWORD}
        token = post_json(f"{base}/api/auth/login", credentials)["token"]
        port = int(base.rpartition(":")[2])
        headers = {"Authorization": f"Bearer {token}"}
        url, file = env.get("PIXELKEEP_DATABASE_URL"), Path(env["PIXELKEEP_DATA_DIR"])
        ask = postgresql(url) if url else sqlite(file / "pixelkeep.db")
        yield Site(Variant("Pixelkeep", process, port), base, headers, ask)


def _prepare(chosen: argparse.Namespace, env: dict[str, str]) -> None:
    """Make the hits, unless the directory has them from another time."""
    made = {"today": (chosen.hits, 1, 100_000), "years": (YEARS_HITS, YEARS_DAYS, 10_000)}
    missing = {slug for slug in made if not (Path(chosen.data) / f"has-{slug}").exists()}
    if not missing:
        return
    with _site(env):
        for slug in sorted(missing):
            _make(env, slug, *made[slug])
            (Path(chosen.data) / f"has-{slug}").touch()


def _make(env: dict[str, str], slug: str, hits: int, days: int, visitors: int) -> None:
    options = [f"--slug={slug}", f"--hits={hits}", f"--days={days}", f"--visitors={visitors}"]
    started_at = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "cli.run", "demo", "--seed=1", *options],
        cwd=PROJECT_DIR,
        env={"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir(), **env},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    print(f"{hits} hits of {slug} stored and counted in {time.monotonic() - started_at:.0f} s")


def _measure_images(site: Site, chosen: argparse.Namespace) -> None:
    new = f"new-{random.getrandbits(32):x}"
    site.create_pixel(new)
    print(f"\n{CONNECTIONS} connections, {RECIPIENTS} recipients at random, {AGENTS} agents")
    print("| | images/s | p50 ms | p99 ms | slowest ms | failed |\n|---|---|---|---|---|---|")
    for name, slug, reports in (
        ("a pixel without a past", new, 0),
        (f"a day of {chosen.hits} hits", "today", 0),
        (f"the same, {REPORTS} reports open", "today", REPORTS),
    ):
        with _open_reports(site, site.pixel_id(slug), reports) as pages:
            found = _load(site.base, slug, chosen.seconds)
        print(
            f"| {name} | {found.per_second:.0f} | {found.p50:.1f} | {found.p99:.1f}"
            f" | {found.slowest:.0f} | {found.failed} |"
        )
        if pages:
            print(f"raw seconds of the pages: {' '.join(f'{seconds:.2f}' for seconds in pages)}")
    print(f"{site.server.memory_mib():.0f} MiB in memory after it")


def _load(base: str, slug: str, seconds: int) -> Images:
    if not shutil.which("wrk"):
        sys.exit("images: needs wrk, which is not installed")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT % {"agents": AGENTS, "recipients": RECIPIENTS, "slug": slug})
        script.flush()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout=30s", "--latency"]
        done = subprocess.run(
            [*command, "-s", script.name, base], capture_output=True, text=True, check=True
        )
    text = done.stdout
    shares = dict(re.findall(r"^ +(50|99)% +(\S+)$", text, re.MULTILINE))
    slowest = re.search(r"Latency +\S+ +\S+ +(\S+)", text)
    per_second = re.search(r"Requests/sec: +(\S+)", text)
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    assert slowest, text
    assert per_second, text
    return Images(
        float(per_second[1]),
        _milliseconds(shares.get("50", "nans")),
        _milliseconds(shares.get("99", "nans")),
        _milliseconds(slowest[1]),
        int(failed[1]) if failed else 0,
    )


def _milliseconds(text: str) -> float:
    found = re.fullmatch(r"([\d.]+|nan)([a-z]+)", text)
    assert found, text
    return float(found[1]) * UNITS_MS[found[2]]


@contextmanager
def _open_reports(site: Site, pixel_id: str, count: int) -> Iterator[list[float]]:
    """Have reports open meanwhile, each read anew when there is more, as its script does."""
    taken: list[float] = []
    stopping = threading.Event()
    browse = sign_in(site.base)
    page = f"{site.base}/pixels/{pixel_id}"

    def watch() -> None:
        seen = b""
        while not stopping.is_set():
            newest = browse(f"{page}/newest")
            if newest != seen:
                seen, started_at = newest, time.perf_counter()
                browse(f"{page}?range=30d")
                taken.append(time.perf_counter() - started_at)
            stopping.wait(REPORT_PAUSE_SECONDS)

    threads = [threading.Thread(target=watch) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield taken
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def _measure_askers(site: Site, chosen: argparse.Namespace) -> None:
    pixel_id = site.pixel_id("today")
    url = f"{site.base}/api/pixels/{pixel_id}/stats?{_span(30)}"
    _ask(site, url, 2, 2)
    print("\n`stats` of a day of hits, asked one after the other by each")
    print("| askers | without hits/s | worst s | with 55 hits/s | worst s | of those without |")
    print("|---|---|---|---|---|---|")
    for askers in ASKERS:
        without = _ask(site, url, askers, chosen.seconds)
        with _hits_come(site, "today"):
            time.sleep(1)
            beside = _ask(site, url, askers, chosen.seconds)
        print(
            f"| {askers} | {without.per_second:.0f} | {max(without.taken):.2f}"
            f" | {beside.per_second:.0f} | {max(beside.taken):.2f}"
            f" | {beside.per_second / without.per_second:.2f} |"
        )


def _span(days: int) -> str:
    # What comes meanwhile is in the range too.
    end = time.time_ns() // 1_000_000 + 3_600_000
    return f"startAt={end - days * MS_PER_DAY}&endAt={end}"


def _ask(site: Site, url: str, askers: int, seconds: float) -> Answers:
    taken: list[float] = []
    started_at = time.perf_counter()

    def ask() -> None:
        while (before := time.perf_counter()) < started_at + seconds:
            get(url, site.headers)
            taken.append(time.perf_counter() - before)

    threads = [threading.Thread(target=ask) for _ in range(askers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Answers(taken, time.perf_counter() - started_at)


@contextmanager
def _hits_come(site: Site, slug: str) -> Iterator[None]:
    """Have hits come evenly meanwhile, in a process of their own."""
    program = (
        "import itertools, random, time, urllib.request\n"
        "started_at = time.monotonic()\n"
        "for number in itertools.count():\n"
        f"    time.sleep(max(started_at + number / {HITS_A_SECOND} - time.monotonic(), 0))\n"
        f"    name = f'reader{{random.randrange({RECIPIENTS})}}@example.org'\n"
        f"    urllib.request.urlopen(f'{site.base}/p/{slug}?r={{name}}').read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        try:
            yield
        finally:
            process.kill()


def _measure_housekeeping(site: Site, chosen: argparse.Namespace) -> None:
    slugs = [f"one-{random.getrandbits(48):x}" for _ in range(chosen.pixels)]
    for slug in slugs:
        site.create_pixel(slug)
    for slug in slugs:
        _hit(site, slug)
    _wait_until_folded(site, slugs)
    rest = _cpu_seconds(site, 10) / 10
    for slug in slugs:
        _hit(site, slug)
    time.sleep(1)
    before, started_at = site.server.cpu_seconds(), time.monotonic()
    _wait_until_folded(site, slugs)
    seconds = time.monotonic() - started_at
    taken = site.server.cpu_seconds() - before - rest * seconds
    each_ms = taken / len(slugs) * 1000
    print(f"\nhousekeeping: {len(slugs)} pixels with a new hit: {each_ms:.2f} ms of CPU each,")
    print(f"which of 10,000 pixels hit once a minute is {each_ms * 10_000 / 60_000:.2f} of a core;")
    print(f"at rest {rest:.3f} of a core, with {len(slugs)} pixels and more")


def _hit(site: Site, slug: str) -> None:
    with urllib.request.urlopen(f"{site.base}/p/{slug}") as answer:  # noqa: S310
        answer.read()


def _cpu_seconds(site: Site, seconds: float) -> float:
    before = site.server.cpu_seconds()
    time.sleep(seconds)
    return site.server.cpu_seconds() - before


def _wait_until_folded(site: Site, slugs: list[str]) -> None:
    """Wait until the service has counted the newest hits of some pixels by itself."""
    give_up_at = time.monotonic() + FOLDED_SECONDS_MAX
    names = ", ".join(f"'{slug}'" for slug in slugs)
    pending = (
        "SELECT count(*) FROM pixels WHERE folded_through < (SELECT max(id) FROM hits"  # noqa: S608
        f" WHERE pixel_number = pixels.number) AND slug IN ({names})"
    )
    while site.ask(pending):
        if time.monotonic() > give_up_at:
            sys.exit(f"housekeeping: not folded within {FOLDED_SECONDS_MAX:.0f} s")
        time.sleep(0.5)


def _measure_years(site: Site, _chosen: argparse.Namespace) -> None:
    base = f"{site.base}/api/pixels/{site.pixel_id('years')}"
    span = _span(YEARS_DAYS)
    asked = {
        "stats": f"{base}/stats?{span}",
        "stats, filtered": f"{base}/stats?{span}&browser=eq.chrome",
        "by day": f"{base}/pageviews?{span}&unit=day",
        "by day, filtered": f"{base}/pageviews?{span}&unit=day&browser=eq.chrome",
        "by month, Berlin": f"{base}/pageviews?{span}&unit=month&timezone=Europe/Berlin",
        "by browser": f"{base}/metrics?{span}&type=browser",
    }
    taken: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(12):
        for name, url in asked.items():
            started_at = time.perf_counter()
            get(url, site.headers)
            taken[name].append((time.perf_counter() - started_at) * 1000)
    print(f"\n{YEARS_HITS} hits of {YEARS_DAYS} days")
    print("| | best ms | median ms | worst ms |\n|---|---|---|---|")
    for name, times in taken.items():
        # The first two answers read what a process keeps.
        times = sorted(times[2:])
        print(f"| {name} | {times[0]:.0f} | {statistics.median(times):.0f} | {times[-1]:.0f} |")


def _measure_start(site: Site, chosen: argparse.Namespace) -> None:
    print(f"\n{site.server.memory_mib():.0f} MiB in memory at rest")
    pixel_id = site.pixel_id("today")
    get(f"{site.base}/api/pixels/{pixel_id}/stats?{_span(30)}", site.headers)
    print(f"{site.server.memory_mib():.0f} MiB after a question about {chosen.hits} hits of a day")
    taken = []
    for _ in range(5):
        env = site.server.process.environ()
        bind = f"127.0.0.1:{free_port()}"
        started_at = time.perf_counter()
        with running(["-m", "server.start"], {**env, "PIXELKEEP_BIND": bind}):
            _wait_for_image(f"http://{bind}/p/today")
            taken.append(time.perf_counter() - started_at)
    print(f"start to first image: {' '.join(f'{seconds:.2f}' for seconds in taken)} s")


def _wait_for_image(url: str) -> None:
    while True:
        try:
            with urllib.request.urlopen(url):  # noqa: S310
                return
        except OSError:
            time.sleep(0.01)


if __name__ == "__main__":
    main()
