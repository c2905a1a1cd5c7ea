"""The routes that say how the service does: heartbeat, health, and the API's document."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, current_app

from core.database import db
from core.locks import probe_write
from core.sqlite import has_wal_reset_bug, sqlite_version
from core.tables import tables_problem
from schemas import Ok
from stats import future
from web.api.blueprint import JsonBlueprint

blueprint = JsonBlueprint("service", __name__, description="The service itself")
pages = Blueprint("service_pages", __name__)

# Crawlers that follow a share's link can read on the page that it is not to be indexed; otherwise
# the bare link might be listed.
ROBOTS = """User-agent: *
Allow: /share/
Disallow: /
"""


@blueprint.get("/api/heartbeat", operation_id="getHeartbeat")
@blueprint.response(200, Ok)
def heartbeat() -> dict[str, bool]:
    """Tell that the process answers; asks the database nothing."""
    return {"ok": True}


@pages.get("/healthz")
def healthz() -> Response:
    """Tell whether a write to the database works, into this release's tables; 503 if it doesn't.

    The answer may be a second old, and is the same for all processes of a node.
    """
    answer = current_app.extensions["health"].get(lambda: json.dumps(_health()).encode())
    if answer is None:
        answer = json.dumps(_shape(["a write to the database takes more than a second"], []))
    status = 200 if json.loads(answer)["ok"] else 503
    return Response(answer, status, mimetype="application/json")


def _health() -> dict[str, Any]:
    problem = probe_write() or tables_problem()
    warnings = []
    if db.engine.dialect.name == "sqlite" and has_wal_reset_bug():
        warnings.append(f"SQLite {sqlite_version()} has the WAL-reset bug; use 3.51.3 or newer")
    if problem is None and (ahead := future.warning()):
        warnings.append(ahead)
    return _shape([problem] if problem else [], warnings)


def _shape(problems: list[str], warnings: list[str]) -> dict[str, Any]:
    return {"ok": not problems, "problems": problems, "warnings": warnings}


@pages.get("/robots.txt")
def robots() -> Response:
    """Tell search engines that nothing here is for them."""
    return Response(ROBOTS, mimetype="text/plain")


@pages.get("/metrics")
def metrics() -> Response:
    """Return hits, commits, failures and the queue, for Prometheus."""
    return Response(current_app.extensions["metrics"].text(), mimetype="text/plain")
