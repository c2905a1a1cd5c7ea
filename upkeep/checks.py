"""What an operator is told of a Pixelkeep's state: what doesn't hold, and how much is stored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from core.clock import iso
from core.database import db
from core.locks import probe_write
from core.migrations import migration_problem
from core.sqlite import has_wal_reset_bug, sqlite_file, sqlite_version
from core.tables import tables_problem
from hits.operator_rules import OperatorRules
from models import Hit, Pixel, User
from stats import future
from upkeep import reclassify, retention

DISK_FREE_BYTES_MIN = 100 * 1024 * 1024


class Check(NamedTuple):
    """What was looked at, and what is wrong with it: None where nothing is."""

    name: str
    problem: str | None


def checks(data_dir: Path, rules: OperatorRules) -> list[Check]:
    """Look at all that has to hold, each of which says in one line what doesn't."""
    behind = migration_problem()
    return [
        Check("database", probe_write()),
        Check("migrations", behind),
        Check("tables", None if behind else tables_problem()),
        Check("SQLite", _sqlite_problem()),
        Check("disk", _disk_problem(data_dir)),
        Check("rules", _rules_problem(rules)),
    ]


def time_warning() -> str | None:
    """Return what there is to be told of hits in the future, None where there are none."""
    try:
        return future.warning()
    except SQLAlchemyError:
        return None  # The line of the database says why.


def retention_told() -> str:
    """Return when old hits went by themselves, or will, or why they don't."""
    try:
        run, doubt = retention.last_run(), retention.doubt()
    except SQLAlchemyError:
        return "unknown"  # The line of the database says why.
    if run is None:
        return "nothing goes by itself"
    if doubt:
        return doubt
    if run.ran_at is None:
        return f"old hits go by themselves from {iso(run.begins_at)} on"
    return (
        f"ran {iso(run.ran_at)}: {run.hits_removed} hits, {run.names_removed} unverified names gone"
    )


def count_users() -> int:
    """Return how many users there are."""
    return db.session.scalar(select(func.count(User.id))) or 0


def count_pixels() -> int:
    """Return how many pixels there are."""
    return db.session.scalar(select(func.count(Pixel.number))) or 0


def count_stored_hits() -> int:
    """Return how many hits are stored; reads all of them."""
    return db.session.scalar(select(func.count(Hit.id))) or 0


def answer_of(ask: Callable[[], object]) -> object:
    """Return what a question to the database is answered, or that it got no answer."""
    try:
        return ask()
    except SQLAlchemyError as error:
        return f"no answer: {type(error.__cause__ or error).__name__}"


def _sqlite_problem() -> str | None:
    if sqlite_file(db.engine) is not None and has_wal_reset_bug():
        return f"{sqlite_version()} has the WAL-reset bug; install 3.51.3 or newer"
    return None


def _disk_problem(data_dir: Path) -> str | None:
    if not data_dir.exists():  # PostgreSQL, and keys that are kept elsewhere.
        return None
    free = shutil.disk_usage(data_dir).free
    if free < DISK_FREE_BYTES_MIN:
        return f"only {free // 1024**2} MiB are free"
    return None


def _rules_problem(rules: OperatorRules) -> str | None:
    try:
        outdated = reclassify.count_outdated(rules)
    except SQLAlchemyError:
        return None  # The line of the database says why.
    if outdated:
        return f"{outdated} kinds of hits are classified by other rules; run `reclassify`"
    return None
