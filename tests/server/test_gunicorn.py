"""The same code on a gunicorn that our worker was not tested with: gunicorn's own worker serves."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path

import gunicorn
import pytest

from hits.image import GIF
from tests.conftest import Server, verdicts

pytestmark = pytest.mark.processes


@pytest.fixture
def other_gunicorn(tmp_path: Path) -> Path:
    """A directory with a gunicorn of another version: the installed one, but for its number."""
    package = tmp_path / "gunicorn"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(gunicorn.__file__).parent, package, ignore=ignored)
    source = (package / "__init__.py").read_text()
    changed, count = re.subn(r"version_info = \(.*\)", "version_info = (99, 1, 0)", source)
    assert count == 1
    (package / "__init__.py").write_text(changed)
    return tmp_path


def started(tmp_path: Path, **environment: str) -> Server:
    directory = tmp_path / "data"
    directory.mkdir()
    server = Server(directory, None, workers="1")
    server.env |= environment
    return server.start()


def test_gunicorn_that_was_not_tested_serves_with_its_own_worker_and_says_so(
    other_gunicorn: Path, tmp_path: Path
) -> None:
    server = started(tmp_path, PYTHONPATH=str(other_gunicorn))
    try:
        [warning] = [line for line in server.log.splitlines() if line.startswith("WARNING: gunic")]
        assert "gunicorn 99.1.0 was not tested" in warning
        for promise in ("slow clients", "half-received requests", "without the image"):
            assert promise in warning
        pixel = server.admin.create_pixel()
        answer = server.admin.get(f"/p/{pixel['slug']}?r=Ann")
        assert (answer.status, answer.body) == (200, GIF)
        assert [row[2] for row in verdicts(server, pixel)] == ["Ann"]
    finally:
        server.kill()


def test_gunicorn_that_was_tested_serves_with_our_worker_and_says_nothing(tmp_path: Path) -> None:
    server = started(tmp_path)
    try:
        assert "not tested" not in server.log
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(b"GET /p/a HTTP/1.1\r\nno colon\r\n\r\n")
            # What gunicorn's worker would answer with a page.
            assert b"".join(iter(lambda: client.recv(65_536), b"")).endswith(GIF)
    finally:
        server.kill()
