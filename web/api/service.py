"""The routes that say how the service does: heartbeat, health, and the API's document."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, jsonify

from core.database import db
from core.locks import probe_write
from core.sqlite import has_wal_reset_bug, sqlite_version
from core.tables import tables_problem
from schemas import Ok
from web.api.blueprint import JsonBlueprint

blueprint = JsonBlueprint("service", __name__, description="The service itself")
pages = Blueprint("service_pages", __name__)


@blueprint.get("/api/heartbeat", operation_id="getHeartbeat")
@blueprint.response(200, Ok)
def heartbeat() -> dict[str, bool]:
    """Tell that the process answers; asks the database nothing."""
    return {"ok": True}


@pages.get("/healthz")
def healthz() -> tuple[Response, int]:
    """Tell whether a write to the database works, into this release's tables; 503 if it doesn't."""
    problem = probe_write() or tables_problem()
    shape: dict[str, Any] = {"ok": problem is None, "problems": [problem] if problem else []}
    if db.engine.dialect.name == "sqlite" and has_wal_reset_bug():
        shape["warnings"] = [
            f"SQLite {sqlite_version()} has the WAL-reset bug; use 3.51.3 or newer"
        ]
    return jsonify(shape), 503 if problem else 200


@pages.get("/metrics")
def metrics() -> Response:
    """Return hits, commits, failures and the queue, for Prometheus."""
    return Response(current_app.extensions["metrics"].text(), mimetype="text/plain")
