"""How the service says that it lives, and what its document says."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable

from core.sqlite import WAL_RESET_BUG_FIXED, sqlite_version
from tests.conftest import Client, Server


def test_heartbeat_is_ok_without_a_token(admin: Client) -> None:
    answer = admin.with_token(None).get("/api/heartbeat")
    assert (answer.status, answer.json) == (200, {"ok": True})


def test_healthz_is_ok_while_writes_work(admin: Client) -> None:
    answer = admin.with_token(None).get("/healthz")
    assert (answer.status, answer.json) == (200, {"ok": True, "problems": [], "warnings": []})


def test_healthz_is_503_when_a_write_does_not_work(start_server: Callable[..., Server]) -> None:
    server = start_server()
    path = server.data_dir / "pixelkeep.db"
    shutil.move(path, path.with_suffix(".away"))
    answer = server.admin.get("/healthz")
    assert answer.status == 503
    assert answer.json["ok"] is False
    assert answer.json["problems"]
    assert not path.exists()


def test_sqlite_has_not_the_wal_reset_bug() -> None:
    assert tuple(map(int, sqlite_version().split("."))) >= WAL_RESET_BUG_FIXED


def test_sqlite_file_is_in_wal_mode(start_server: Callable[..., Server]) -> None:
    server = start_server()
    assert server.query("PRAGMA journal_mode") == [("wal",)]


def test_document_names_every_route_of_the_api(admin: Client) -> None:
    document = admin.with_token(None).get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    create = document["paths"]["/api/pixels"]["post"]
    body = create["requestBody"]["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
    shape = document["components"]["schemas"][body]
    slug = re.compile(shape["properties"]["slug"]["pattern"])
    assert slug.search(f" {'a' * 100} ")
    assert not slug.search("a" * 101)
    assert set(shape["required"]) == {"name", "slug"}
    # To those who make types of it, what has a default is always there.
    assert not any("default" in property_shape for property_shape in shape["properties"].values())
    operations = [
        operation
        for methods in document["paths"].values()
        for name, operation in methods.items()
        if name in ("get", "post", "delete")
    ]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    assert {"createPixel", "getPixels", "getWebsiteStats", "listWebsites", "send"} <= {*ids}
    assert all(operation["summary"] and operation["description"] for operation in operations)
    assert "get" in document["paths"]["/p/{slug}"]


def test_docs_page_holds_each_path_and_loads_nothing_from_elsewhere(admin: Client) -> None:
    page = admin.with_token(None).get("/docs")
    text = page.body.decode()
    assert page.status == 200
    assert page.headers["Content-Type"].startswith("text/html")
    twins = "/api/websites/{pixel_id}/"
    assert twins in text
    for path in admin.get("/openapi.json").json["paths"]:
        assert path.replace(twins, "/api/pixels/{pixel_id}/") in text
    loaded = re.findall(r'<(?:link|script|img)[^>]+(?:href|src)="([^"]+)"', text)
    assert loaded
    for address in loaded:
        assert address.startswith("/")
        assert admin.with_token(None).get(address).status == 200
    assert "<script>" not in text
