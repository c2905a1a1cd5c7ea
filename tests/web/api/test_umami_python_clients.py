"""Umami's clients in Python, which no one here wrote, do their whole round unchanged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import PASSWORD, Server

FOLDER = Path(__file__).parent / "umami_clients"
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"


def test_umami_analytics_goes_from_login_to_figures(server: Server) -> None:
    pixel = server.admin.create_pixel()
    server.admin.get(f"/p/{pixel['slug']}", headers={"User-Agent": AGENT})
    found = _round("analytics_round.py", server, pixel)
    assert found["alive"] is True
    assert found["role"] == "admin"
    assert found["verified"] is True
    assert found["verified again"] is True
    assert pixel["id"] in found["websites"]
    assert pixel["id"] in found["websites again"]
    assert found["visit"]
    # The image, the event before the login, an event, a view and a revenue.
    assert found["stats"]["all"]["pageviews"] == 5
    assert found["stats"]["filtered"]["pageviews"] == 0
    assert found["views again"] == 5
    assert found["active"] == found["active again"] >= 2


def test_umami_mcp_server_answers_with_each_of_its_tools(server: Server) -> None:
    pixel = server.admin.create_pixel()
    path = f"/p/{pixel['slug']}?utm_source=round"
    server.admin.get(path, headers={"User-Agent": AGENT})
    found = _round("mcp_round.py", server, pixel)
    assert found["tools"] == [
        *("get_active", "get_metrics", "get_pageviews", "get_stats", "get_websites")
    ]
    assert pixel["id"] in [website["id"] for website in found["websites"]["data"]]
    assert pixel["id"] in [website["id"] for website in found["with teams"]["data"]]
    assert found["searched"]["count"] == 0
    assert found["stats"]["pageviews"] == 1
    assert found["filtered"]["pageviews"] == 0
    assert sum(point["y"] for point in found["pageviews"]["pageviews"]) == 1
    assert found["metrics"]["browser"] == {"result": [{"x": "firefox", "y": 1}]}
    assert found["metrics"]["utmSource"] == {"result": [{"x": "round", "y": 1}]}
    assert found["metrics"]["path"] == {"result": []}
    assert found["expanded"]["result"][0]["pageviews"] == 1
    assert found["active"] == {"visitors": 1}


def _round(script: str, server: Server, pixel: dict[str, Any]) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, FOLDER / script],
        env={
            "PATH": server.env["PATH"],
            "HOME": str(server.data_dir),
            "SITE": server.base,
            "USERNAME": "admin",
            "PASSWORD": PASSWORD,
            "PIXEL": pixel["id"],
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found
