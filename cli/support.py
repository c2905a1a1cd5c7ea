"""What an issue report needs: versions, settings, the database's state; no secret and no name."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import click
from flask import current_app

from cli.commands import main, printable
from core.database import db, server_version
from core.locks import probe_write
from core.migrations import migration_problem
from core.settings import PREFIX, PROJECT_DIR, Settings
from core.sqlite import sqlite_file, sqlite_version
from core.tables import tables_problem
from core.version import VERSION
from upkeep import checks

# Their values may name people or hosts.
PRIVATE = {"admin_username", "public_url"}
PACKAGES = ("Flask", "gunicorn", "SQLAlchemy", "psycopg", "pysqlite3", "numpy")


@main.command()
def support() -> None:
    """Print what an issue report needs: versions, settings, state; no secrets, no names."""
    for name, value in (*_program(), *_settings(), *_state()):
        click.echo(f"{name:<32}{printable(str(value))}")


def _program() -> Iterator[tuple[str, object]]:
    yield "Pixelkeep", VERSION
    yield "Python", sys.version.split()[0]
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "processors", os.cpu_count()
    for package in PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield package, "not installed"
    yield "SQLite", sqlite_version()


def _settings() -> Iterator[tuple[str, object]]:
    chosen: Settings = current_app.config["SETTINGS"]
    for setting in fields(Settings):
        value = getattr(chosen, setting.name)
        if value != setting.default:
            is_shown = not setting.metadata["secret"] and setting.name not in PRIVATE
            yield PREFIX + setting.name.upper(), value if is_shown else "(set)"


def _state() -> Iterator[tuple[str, object]]:
    path = sqlite_file(db.engine)
    yield "database", db.engine.dialect.name
    yield "database answers", probe_write() or "ok"
    for name, ask in (
        ("migrations", migration_problem),
        ("tables", lambda: migration_problem() or tables_problem()),
        ("users", checks.count_users),
        ("pixels", checks.count_pixels),
        ("hits", checks.count_stored_hits),
    ):
        yield name, _answer(ask)
    if path is None:
        yield "PostgreSQL", _answer(server_version)
    else:
        for file in (path, path.with_name(f"{path.name}-wal")):
            yield f"{file.name} MiB", f"{_bytes_of(file) / 1024**2:.1f}"
    directory = path.parent if path else PROJECT_DIR
    if directory.exists():
        yield "free MiB", shutil.disk_usage(directory).free // 1024**2


def _answer(ask: Callable[[], object]) -> object:
    answer = checks.answer_of(ask)
    return "ok" if answer is None else answer


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
