"""How long lists of the people that a pixel was sent to take, and to issue and export them.

The links are made by the command line from a CSV, as an operator would, and again for a tenth of
the people on a second pixel. That two in five have opened is then written into their rows, without
hits. Each list is asked for over HTTP, a few times first, then `--rounds` times in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import create_engine, text

from bench.hits import free_port, machine, running, wait_for
from bench.questions import PASSWORD, ask_in_turn, get, post_json, print_table, sign_in
from core.settings import PROJECT_DIR, Settings

PAGE_SIZE = 50
OPENED = (
    "UPDATE recipients SET status = 2, opens = 1 + visitor % 5,"
    " first_opened_at = 1764000000000 + visitor % 600000000,"
    " last_opened_at = 1765000000000 + visitor % 600000000 WHERE visitor % 5 < 2"
)
FETCHED = "UPDATE recipients SET status = 1, prefetches = 1 WHERE visitor % 5 = 2"
OPTED_OUT = "UPDATE recipients SET opted_out = {true} WHERE visitor % 100 = 7"


def main() -> None:
    """Issue to everybody, ask for all lists in turn, and print the tables."""
    chosen = _arguments()
    print(f"{machine(chosen)}; {chosen.people} people, {chosen.rounds} rounds")
    with tempfile.TemporaryDirectory(prefix="pixelkeep-bench-") as directory:
        port = free_port()
        base = f"http://127.0.0.1:{port}"
        env = {
            "PIXELKEEP_BIND": f"127.0.0.1:{port}",
            "PIXELKEEP_DATA_DIR": directory,
            "PIXELKEEP_ADMIN_PASSWORD": PASSWORD,
            **({"PIXELKEEP_DATABASE_URL": chosen.database_url} if chosen.database_url else {}),
        }
        url = chosen.database_url or f"sqlite:///{directory}/pixelkeep.db"
        with running(["-m", "server.start"], env):
            wait_for(f"{base}/api/heartbeat")
            _issue(base, chosen.people, Path(directory), env)
            _open(url)
            _ask(base, chosen)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench people", description=__doc__)
    parser.add_argument("--people", type=int, default=100_000, help="default 100,000")
    parser.add_argument("--rounds", type=int, default=9, help="of all lists (default 9)")
    parser.add_argument("--database-url", help="an empty PostgreSQL, in place of SQLite")
    parser.set_defaults(workers=Settings().workers, threads=Settings().threads)
    return parser.parse_args()


def _issue(base: str, people: int, directory: Path, env: dict[str, str]) -> None:
    login = post_json(f"{base}/api/auth/login", {"username": "admin", "password": PASSWORD})
    for slug in ("mailing", "another"):
        post_json(f"{base}/api/pixels", {"name": slug, "slug": slug}, login["token"])
    for words, slug, count in (
        ("issued", "mailing", people),
        ("issued again", "mailing", people),
        ("issued on another pixel", "another", people // 10),
    ):
        table = directory / "people.csv"
        rows = (f"{n},Reader {n},reader{n}@example{n % 50}.org\n" for n in range(count))
        table.write_text("id,name,email\n" + "".join(rows))
        command = ["recipients", "links", slug, "--csv", str(table)]
        started_at = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "cli.run", *command, "--out", str(directory / f"{words}.csv")],
            cwd=PROJECT_DIR,
            env={"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir(), **env},
            stderr=subprocess.DEVNULL,
            check=True,
        )
        print(f"{count} rows {words} in {time.monotonic() - started_at:.1f} s")


def _open(url: str) -> None:
    engine = create_engine(url)
    true = "true" if engine.dialect.name == "postgresql" else "1"
    with engine.begin() as connection:
        for statement in (OPENED, FETCHED, OPTED_OUT.format(true=true)):
            connection.execute(text(statement))
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # As autovacuum does a minute later.
            connection.execute(text("VACUUM ANALYZE recipients"))
    engine.dispose()


def _ask(base: str, chosen: argparse.Namespace) -> None:
    login = post_json(f"{base}/api/auth/login", {"username": "admin", "password": PASSWORD})
    headers = {"Authorization": f"Bearer {login['token']}"}
    found = json.loads(get(f"{base}/api/pixels?search=mailing", headers))["data"][0]["id"]
    path = f"{base}/api/pixels/{found}"
    last = chosen.people // PAGE_SIZE
    size = f"pageSize={PAGE_SIZE}"
    lists = {
        "first page": f"recipients?{size}",
        "a page in the middle": f"recipients?{size}&page={last // 2}",
        "last page": f"recipients?{size}&page={last}",
        "by name, a page in the middle": f"recipients?{size}&orderBy=recipient&page={last // 2}",
        "by first open": f"recipients?{size}&orderBy=firstOpenedAt&page={last // 10}",
        "by opens": f"recipients?{size}&orderBy=opens&sortDescending=true",
        "opened, a page in the middle": f"recipients?{size}&status=opened&page={last // 5}",
        "not opened, last page": f"recipients?{size}&status=unopened&page={last * 2 // 5 - 20}",
        "four opens at least": f"recipients?{size}&opensMin=4",
        "search: one": f"recipients?{size}&search=reader{chosen.people - 1}@",
        "search: nobody": f"recipients?{size}&search=zzz",
        "search: a fiftieth": f"recipients?{size}&search=EXAMPLE7.",
        "search: everybody": f"recipients?{size}&search=example",
        "search: beyond ASCII": f"recipients?{size}&search=%C3%BC",
        "mailing": "mailing",
    }
    over_all = {
        "people of all pixels": f"recipients?{size}",
        "people of all pixels, in the middle": f"recipients?{size}&page={last // 2}",
        "people of all pixels, search": f"recipients?{size}&search=reader{chosen.people - 1}@",
    }
    browse = sign_in(base)
    questions: dict[str, Callable[[], bytes]] = {}

    def add(name: str, url: str, ask: Callable[[str], bytes]) -> None:
        questions[name] = lambda: ask(url)

    for name, route in lists.items():
        add(name, f"{path}/{route}", lambda url: get(url, headers))
    for name, route in over_all.items():
        add(name, f"{base}/api/{route}", lambda url: get(url, headers))
    add("page: recipients", f"{base}/pixels/{found}/recipients", browse)
    add("page: pixels", f"{base}/pixels", browse)
    print_table(ask_in_turn(questions, chosen.rounds))
    started_at = time.monotonic()
    size_bytes = len(get(f"{path}/recipients/export", headers))
    seconds = time.monotonic() - started_at
    print(f"{chosen.people} rows exported in {seconds:.1f} s, {size_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
