"""What an issue report needs, and the version that every start and command says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.version import VERSION
from tests.conftest import PASSWORD, PROJECT_DIR, Server

SECRET = "a-signing-key-that-nobody-may-see"


def test_version_is_said_by_the_command_the_start_and_the_document(
    start_server: Callable[..., Server],
) -> None:
    server = start_server()
    assert server.cli("--version").stdout == f"Pixelkeep {VERSION}\n"
    assert f"Pixelkeep {VERSION} serves at {server.base}" in server.log
    assert server.admin.get("/openapi.json").json["info"]["version"] == VERSION


def test_changelog_has_the_version_as_its_newest_release_with_its_day_and_tag() -> None:
    text = (PROJECT_DIR / "CHANGELOG.md").read_text()
    newest = re.search(r"^## \[(\d[\d.]*)\] - (\d{4}-\d\d-\d\d)\n\n(.*?)\n\n", text, re.M | re.S)
    assert newest
    assert newest[1] == VERSION
    assert f"`v{VERSION}`" in newest[3]


def test_support_says_what_a_report_needs_and_no_secret(
    start_server: Callable[..., Server], database: str
) -> None:
    server = start_server(database, secret_key=SECRET, public_url="https://private.example")
    pixel = server.admin.create_pixel("a-private-slug")
    assert server.admin.get(f"/p/{pixel['slug']}").status == 200
    said = server.cli("support").stdout
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in said.splitlines())
    assert lines["Pixelkeep"] == VERSION
    assert lines["database"] == database
    assert (lines["migrations"], lines["tables"]) == ("ok", "ok")
    assert (lines["pixels"], lines["hits"]) == ("1", "1")
    assert lines["PIXELKEEP_SECRET_KEY"] == "(set)"
    secrets = [SECRET, PASSWORD, "private", server.admin.token or "", server.database_url or SECRET]
    assert not any(secret in said for secret in secrets)


@pytest.mark.processes
def test_support_answers_where_there_is_no_database(tmp_path: Path) -> None:
    env = {"PIXELKEEP_DATA_DIR": str(tmp_path), "PIXELKEEP_SECRET_KEY": SECRET}
    said = subprocess.run(
        [sys.executable, "-m", "cli.run", "support"],
        cwd=PROJECT_DIR,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert "no answer" in said.stdout
    assert said.stderr == ""


def test_log_level_is_one_of_four(start_server: Callable[..., Server]) -> None:
    server = start_server(new_values_per_hour="1", log_level="error", workers="1")
    slug = server.admin.create_pixel()["slug"]
    for number in range(3):
        assert server.admin.get(f"/p/{slug}?q={number}").status == 200
    assert "more new agents" not in server.log
