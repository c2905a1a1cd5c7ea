"""`script/pixelkeep demo`: made-up hits, repeatable, whole at any moment."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.conftest import PROJECT_DIR, Server, unique, wait_until

# So many that they are not all stored before it is interrupted, and few enough that the first are
# stored soon on a machine that is busy.
HITS = 500_000
MANY = ("--hits", str(HITS), "--visitors", "1000")


def demo(server: Server, slug: str, *options: str) -> subprocess.CompletedProcess[str]:
    return server.cli("demo", "--slug", slug, *options)


def pixel_of(server: Server, slug: str) -> dict[str, Any]:
    page = server.admin.get(f"/api/pixels?search={slug}").json
    return next(pixel for pixel in page["data"] if pixel["slug"] == slug)


def metrics(server: Server, slug: str, type: str) -> dict[str, int]:
    path = f"/api/pixels/{pixel_of(server, slug)['id']}/metrics?type={type}&limit=5000"
    rows = server.admin.get(f"{path}&class=all&startAt=0&endAt=4000000000000").json
    return {row["x"]: row["y"] for row in rows}


def test_demo_fills_a_pixel_plausibly(server: Server) -> None:
    slug = unique("demo")
    done = demo(server, slug, "--hits", "20000", "--days", "8", "--visitors", "3000")
    assert done.stdout == f"{slug} has 20000 hits of 8 days.\n"
    path = f"/api/pixels/{pixel_of(server, slug)['id']}/stats"
    stats = server.admin.get(f"{path}?class=all&startAt=0&endAt=4000000000000").json
    assert (stats["pageviews"], stats["visitors"]) == (20_000, 3_000)
    assert set(metrics(server, slug, "class")) == {"open", "prefetch", "bot"}
    assert {"gmail-proxy", "apple-mpp", "mail-client", "crawler"} <= set(
        metrics(server, slug, "reason")
    )
    assert len(metrics(server, slug, "country")) > 10
    assert len(metrics(server, slug, "utmCampaign")) > 1
    assert len(metrics(server, slug, "recipient")) == 1_200
    assert server.query("SELECT count(*) FROM pixels WHERE folded_through > 0")[0][0] >= 1


def test_demo_with_the_same_seed_makes_the_same_hits(server: Server) -> None:
    slugs = [unique("demo") for _ in range(3)]
    for slug, seed in zip(slugs, ("7", "7", "8"), strict=True):
        demo(server, slug, "--hits", "2000", "--seed", seed)
    first, again, other = (
        {kind: metrics(server, slug, kind) for kind in ("browser", "country", "recipient")}
        for slug in slugs
    )
    assert first == again
    assert first != other


def test_demo_refuses_a_pixel_with_hits(server: Server) -> None:
    pixel = server.admin.create_pixel()
    server.admin.get(f"/p/{pixel['slug']}")
    done = server.cli("demo", "--slug", pixel["slug"], check=False)
    assert done.returncode == 1
    assert "has hits already" in done.stderr


def interrupted(server: Server, slug: str) -> subprocess.CompletedProcess[str]:
    """Run a demo that is interrupted once some of its hits are stored."""
    before = server.hits()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "demo", "--slug", slug, *MANY],
        cwd=PROJECT_DIR,
        env=server.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: server.hits() > before or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_demo_that_is_interrupted_leaves_whole_hits_in_a_pixel_that_was_there(
    start_server: Callable[..., Server], database: str
) -> None:
    server, slug = start_server(database), unique("demo")
    server.cli("pixels", "create", slug, slug)
    done = interrupted(server, slug)
    assert done.returncode == 1
    assert f"`pixels delete {slug}`" in done.stderr
    assert 0 < server.hits() < HITS
    assert server.hits() % 10_000 == 0
    assert sum(metrics(server, slug, "class").values()) > 0


def test_demo_that_is_interrupted_removes_the_pixel_that_it_made(
    start_server: Callable[..., Server], database: str
) -> None:
    server, slug = start_server(database), unique("demo")
    kept = server.admin.create_pixel()
    assert server.admin.get(f"/p/{kept['slug']}").status == 200
    done = interrupted(server, slug)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert [pixel["slug"] for pixel in server.admin.get("/api/pixels").json["data"]] == [
        kept["slug"]
    ]
    for table in ("hits", "profiles", "recipients"):
        assert server.query(f"SELECT DISTINCT pixel_number FROM {table}") in (
            [],
            [(server.number_of(kept),)],
        )
