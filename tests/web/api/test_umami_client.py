"""Umami's own clients work unchanged, and find in the answers what their types promise."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests import npm
from tests.conftest import PASSWORD, Server
from tests.web.api.umami_document import routes

FOLDER = Path(__file__).parent / "umami-client"
CALLS_MIN = 90
PRINT_OPERATIONS = """
import { operations } from '@umami/api-client';
const told = route => [route.operationId, route.method.toUpperCase(), route.path];
console.log(JSON.stringify(Object.values(operations).map(told)));
"""

pytestmark = pytest.mark.needs("node", "npm")


@pytest.fixture(scope="module")
def client_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pinned clients, installed; nothing is written into the project."""
    return npm.install(FOLDER, tmp_path_factory.mktemp("umami") / "client")


def test_client_of_umami_goes_from_login_to_logout(server: Server, client_folder: Path) -> None:
    credentials = {"USERNAME": "admin", "PASSWORD": PASSWORD}
    said = npm.run(client_folder, "node", "round.mjs", SITE=server.base, **credentials)
    print(said)
    found = re.search(r"^(\d+) calls went right, 0 wrong$", said, re.MULTILINE)
    assert found
    assert int(found[1]) >= CALLS_MIN
    called = set(re.findall(r"^ok +(\w+)", said, re.MULTILINE))
    assert {route.operation for route in routes() if route.state != "not there"} <= called


def test_routes_of_umamis_document_are_those_of_its_client(client_folder: Path) -> None:
    (client_folder / "operations.mjs").write_text(PRINT_OPERATIONS)
    found = json.loads(npm.run(client_folder, "node", "operations.mjs"))
    assert sorted(map(tuple, found)) == sorted(
        (route.operation, route.method, route.path) for route in routes()
    )


def test_client_of_umami_for_servers_sends_hits(server: Server, client_folder: Path) -> None:
    pixel = server.admin.create_pixel()
    said = npm.run(client_folder, "node", "node_round.mjs", SITE=server.base, PIXEL=pixel["id"])
    found = json.loads(said)
    answered = {"status": 200, "keys": ["cache", "sessionId", "visitId"]}
    assert found.pop("unknown") == {"status": 404, "keys": ["error"]}
    assert found == dict.fromkeys(("page", "event", "identified", "own"), answered)
    range_of_all = "startAt=0&endAt=9999999999999"
    base = f"/api/websites/{pixel['id']}"
    # The first two: to identify stores nothing, and the last is no browser's.
    assert server.admin.get(f"{base}/stats?{range_of_all}").json["pageviews"] == 2
    assert server.admin.get(f"{base}/stats?{range_of_all}&class=all").json["pageviews"] == 3
    sources = server.admin.get(f"{base}/metrics?{range_of_all}&type=utmSource").json
    assert sources == [{"x": "node", "y": 1}]
