"""Umami's own client works unchanged, and finds in the answers what its types promise."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PASSWORD, Server

FOLDER = Path(__file__).parent / "umami-client"
CALLS_MIN = 40

pytestmark = pytest.mark.needs("node", "npm")


@pytest.fixture(scope="module")
def client_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pinned client, installed; nothing is written into the project."""
    folder = tmp_path_factory.mktemp("umami") / "client"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--silent"], cwd=folder, check=True, timeout=300)
    return folder


def test_client_of_umami_goes_from_login_to_logout(server: Server, client_folder: Path) -> None:
    environment = {"SITE": server.base, "USERNAME": "admin", "PASSWORD": PASSWORD}
    run = subprocess.run(
        ["node", "round.mjs"],
        cwd=client_folder,
        env={"PATH": server.env["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    found = re.search(r"^(\d+) calls went right, 0 wrong$", run.stdout, re.MULTILINE)
    assert found
    assert int(found[1]) >= CALLS_MIN
