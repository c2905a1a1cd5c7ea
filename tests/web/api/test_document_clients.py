"""The API's document as others read it: a linter, and makers of clients in two languages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tests import npm
from tests.conftest import Client, Server, unique

FOLDER = Path(__file__).parent / "document-clients"
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
needs_npm = pytest.mark.needs("node", "npm")


@pytest.fixture(scope="module")
def npm_folder(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Path:
    """The pinned programs, installed, beside the document."""
    folder = npm.install(FOLDER, tmp_path_factory.mktemp("document") / "clients")
    document = server.admin.get("/openapi.json").body
    (folder / "openapi.json").write_bytes(document)
    npm.run(folder, "npx", "openapi-typescript", "openapi.json", "-o", "schema.d.ts")
    return folder


@pytest.fixture
def document(admin: Client) -> dict[str, Any]:
    found: dict[str, Any] = admin.with_token(None).get("/openapi.json").json
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return every operation with where it is, the parameters of its path among its own."""
    return [
        (
            f"{method} {path}",
            {
                **found,
                "parameters": [*item.get("parameters", []), *found.get("parameters", [])],
            },
        )
        for path, item in document["paths"].items()
        for method, found in item.items()
        if method != "parameters"
    ]


def test_everything_in_the_document_is_described(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    assert document["servers"] == [{"url": "/", "description": "This server."}]
    assert all(tag["description"] for tag in document["tags"])
    assert {"/p/{slug}", "/api/send"} <= set(document["paths"])
    for place, operation in operations(document):
        assert operation["operationId"], place
        assert operation["summary"], place
        assert operation["description"], place
        assert set(operation["tags"]) <= tags, place
        for parameter in operation["parameters"]:
            assert parameter["description"], (place, parameter["name"])
    for name, shape in document["components"]["schemas"].items():
        assert shape["description"], name
        for key, value in shape.get("properties", {}).items():
            assert value["description"], (name, key)


def test_filters_say_how_they_are_told_to_differ(document: dict[str, Any]) -> None:
    parameters = dict(operations(document))["get /api/pixels/{pixel_id}/stats"]["parameters"]
    [browser] = [parameter for parameter in parameters if parameter["name"] == "browser"]
    for operator in ("eq.", "neq.", "c.", "dnc."):
        assert f"`{operator}`" in browser["description"]


def test_every_operation_has_an_example_that_it_allows(document: dict[str, Any]) -> None:
    def allows(schema: dict[str, Any], value: Any, place: str) -> None:
        whole = {**schema, "components": document["components"]}
        errors = jsonschema_rs.Draft202012Validator(whole, validate_formats=True).iter_errors(value)
        assert [error.message for error in errors] == [], place

    for place, operation in operations(document):
        for parameter in operation["parameters"]:
            if "example" in parameter:
                allows(parameter["schema"], parameter["example"], f"{place} {parameter['name']}")
        body = operation.get("requestBody", {}).get("content", {})
        answer = operation["responses"]["200"]["content"]
        for content in (*body.values(), answer.get("application/json")):
            if content:
                allows(content["schema"], content["example"], place)


@needs_npm
def test_linter_finds_nothing(npm_folder: Path) -> None:
    said = npm.run(npm_folder, "npx", "redocly", "lint", "openapi.json", "--format=json", **QUIET)
    found = json.loads(said[said.index("{") :])
    assert found["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}


def expected(tag: str) -> dict[str, Any]:
    """Return what a round through a client finds."""
    return {
        "slug": tag,
        "taken": "slug-taken",
        "listed": [True],
        "changed": "Renamed",
        "recipient": "anna@example.org",
        "pageviews": 2,
        "browsers": [{"x": "firefox", "y": 1}],
        "shared": True,
        "deleted": True,
    }


@needs_npm
def test_openapi_fetch_does_the_main_jobs(server: Server, npm_folder: Path) -> None:
    npm.run(npm_folder, "npx", "tsc", "--project", ".")
    tag, key = unique("round"), server.admin.token or ""
    said = npm.run(npm_folder, "node", "round.js", SITE=server.base, KEY=key, TAG=tag)
    found = json.loads(said)
    # Nobody knows the country of a hit from this machine.
    assert found.pop("filtered") == []
    assert found == expected(tag)


def test_client_in_python_does_the_main_jobs(server: Server, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_bytes(server.admin.get("/openapi.json").body)
    arguments = ["generate", "--path", "openapi.json", "--output-path", "made", "--meta", "none"]
    made = subprocess.run(
        [sys.executable, "-c", "from openapi_python_client.cli import app; app()", *arguments],
        cwd=tmp_path,
        # Its files are left as they are made: there is no formatter on this path.
        env={"PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    # It has no word for an image; all else it understood.
    problems = [line for line in made.stdout.splitlines() if line.startswith(("WARNING", "ERROR"))]
    images = ("GET /p/{slug} within", "GET /api/send within")
    assert [line for line in problems if not any(image in line for image in images)] == []
    tag = unique("round")
    run = subprocess.run(
        [sys.executable, FOLDER / "python_round.py"],
        env={
            "PATH": server.env["PATH"],
            "PYTHONPATH": str(tmp_path),
            **{"SITE": server.base, "KEY": server.admin.token or "", "TAG": tag},
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert json.loads(run.stdout) == expected(tag)
