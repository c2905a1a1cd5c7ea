"""The routes that say how the service does: heartbeat, health, and the API's document."""

from __future__ import annotations

import importlib
import json
from typing import Any

from flask import Blueprint, Response, current_app
from sqlalchemy.exc import SQLAlchemyError

from core.database import db
from core.locks import probe_write
from core.sqlite import has_wal_reset_bug, sqlite_version
from core.tables import tables_problem
from hits.metrics import Gauge
from schemas import Ok
from stats import future
from upkeep import retention
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
    """Return hits, commits, failures, the queue and the last retention, for Prometheus."""
    # Loaded where somebody asks.
    exposition = importlib.import_module("hits.exposition")
    text = exposition.text(current_app.extensions["metrics"], _retention())
    return Response(text, mimetype="text/plain")


def _retention() -> list[Gauge]:
    """Return when old hits went by themselves last, and what went; nothing if they never did."""
    try:
        run = retention.last_run()
    except SQLAlchemyError:
        return []  # The other numbers are worth most when the database is gone.
    if run is None or run.ran_at is None:
        return []
    return [
        Gauge(f"pixelkeep_retention_{name}", meaning, value)
        for name, meaning, value in (
            (
                "last_run_timestamp_seconds",
                "When old hits went by themselves last.",
                run.ran_at.timestamp(),
            ),
            ("hits_removed", "Hits that went then.", run.hits_removed),
            ("names_removed", "Unverified names that went then.", run.names_removed),
        )
    ]
