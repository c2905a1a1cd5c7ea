"""Programs of npm that judge ours, pinned in a folder of the tests and run outside of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

INSTALL_SECONDS_MAX = 300
RUN_SECONDS_MAX = 120


def install(folder: Path, target: Path) -> Path:
    """Copy a folder with its package.json, and install what that pins beside it."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--silent", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=target, check=True, timeout=INSTALL_SECONDS_MAX)
    return target


def run(folder: Path, *command: str, **env: str) -> str:
    """Run a program of a folder, which must succeed, and return what it says."""
    found = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **env},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout
