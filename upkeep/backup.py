"""A copy of the SQLite database while it is served, and the way back, also while it is served.

PostgreSQL has its own tools for this (pg_dump, pg_restore).
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from core.database import BUSY_TIMEOUT_MS
from core.files import sync_directory, whole_file
from core.locks import write_lock
from core.sqlite import sqlite_file
from core.tables import problem_of_tables

COPY_MODE = 0o600
# What `name_at` makes, to the millisecond: in the order of time, and nobody else's.
_OWN_NAME = re.compile(r"pixelkeep-\d{8}T\d{9}Z\.db")


class BackupError(Exception):
    """A backup that can't be made or restored; its text is the one line the operator sees."""


def back_up(engine: Engine, target: Path, keys: Sequence[str] = ()) -> int:
    """Copy the database as it is at one instant into a new file; return its size in bytes.

    Every hit that was answered before the call is in it. The day's salt is not: a copy that is
    kept would let anybody find out who an anonymous visitor was. Signing keys go into a file
    beside it, `key_path`. What was written is read again before it gets its name.

    Raises: BackupError; then there is no file.
    """
    for path in (target, *([key_path(target)] if keys else [])):
        if path.exists():
            raise BackupError(f"{path} exists already; choose another name.")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL, COPY_MODE))
        _copy(engine, draft, target)
        if keys:
            with whole_file(key_path(target)) as file:
                file.write("\n".join(keys) + "\n")
        draft.rename(target)
        sync_directory(target.parent)
    except OSError as error:
        raise BackupError(f"{target}: no backup could be made: {error.strerror}.") from None
    finally:
        # SQLite leaves a journal beside a file on a disk that is full.
        for ending in ("", "-journal"):
            draft.with_name(draft.name + ending).unlink(missing_ok=True)
        if keys and not target.exists():
            key_path(target).unlink(missing_ok=True)
    return target.stat().st_size


def key_path(target: Path) -> Path:
    """Return the file that a backup's signing keys are beside it in."""
    return target.with_name(f"{target.name}.secret_key")


def name_at(at: datetime) -> str:
    """Return the name of a backup that is one of several in a directory."""
    return f"pixelkeep-{at:%Y%m%dT%H%M%S}{at.microsecond // 1000:03}Z.db"


def drop_older(newest: Path, keep: int) -> list[Path]:
    """Remove backups beside `newest` until `keep` are left, and return them, the oldest first.

    Only files that `name_at` has named go, with their keys; and never `newest`, whatever the
    clock said when the others were made.
    """
    others = sorted(
        path
        for path in newest.parent.iterdir()
        if _OWN_NAME.fullmatch(path.name) and path.name != newest.name and path.is_file()
    )
    dropped = others[: max(len(others) - (keep - 1), 0)]
    for path in dropped:
        key_path(path).unlink(missing_ok=True)
        path.unlink()
    return dropped


def restore(engine: Engine, source: Path) -> None:
    """Make the database what a backup holds, in one transaction; hits wait for it meanwhile.

    Until it commits nothing has changed, whatever happens. A running server goes on with what
    is restored from its next request on. Where there is no database the backup becomes it, of
    whichever release it is: the next start migrates it.

    Raises: BackupError.
    """
    path = _file_of(engine)
    if not source.is_file():
        raise BackupError(f"{source} is no file.")
    if not path.exists():
        _place(engine, source, path)
        return
    if source.resolve() == path.resolve():
        raise BackupError(f"{source} is the database itself.")
    with _open(engine, source) as backup:
        _check(backup)
        revision = _revision(backup)
        problem = _tables_problem(backup)
        with _open(engine, path) as database, write_lock(engine):
            if revision != _revision(database):
                raise BackupError(
                    f"{source} is of another release. Stop the server, put the file in the place of"
                    f" {path}, remove {path}-wal and {path}-shm, and start it: it migrates."
                )
            if problem:
                raise BackupError(f"{source} can't be used: {problem}.")
            # The copy would wait for a stranger's transaction without an end; this does not.
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
            version = _version(database)
            backup.backup(database)
            # Greater than both, so that processes forget what they remember of pixels.
            version = max(version, _version(database)) + 1
            database.execute("UPDATE catalogue SET version = ?", (version,))


def _place(engine: Engine, source: Path, path: Path) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL, COPY_MODE))
        with _open(engine, source) as backup, _open(engine, draft, path) as copy:
            _check(backup)
            _revision(backup)
            backup.backup(copy)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        # A database that was made meanwhile stays.
        path.hardlink_to(draft)
        sync_directory(path.parent)
    except OSError as error:
        raise BackupError(f"{path} can't be made: {error.strerror}.") from None
    finally:
        for ending in ("", "-journal"):
            draft.with_name(draft.name + ending).unlink(missing_ok=True)


def _copy(engine: Engine, draft: Path, shown: Path) -> None:
    """Write a copy that survives a loss of power, and read all of it again."""
    with _open(engine, _file_of(engine)) as source, _open(engine, draft, shown) as copy:
        # One step: steps apart would start again with each commit in between.
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        copy.execute("PRAGMA secure_delete = ON")
        copy.execute("DELETE FROM salts")
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    with _open(engine, draft, shown) as copy:
        _check(copy, "integrity_check")


def _file_of(engine: Engine) -> Path:
    path = sqlite_file(engine)
    if path is None:
        raise BackupError("This database is PostgreSQL: use pg_dump and pg_restore.")
    return path


@contextmanager
def _open(engine: Engine, path: Path, shown: Path | None = None) -> Iterator[Any]:
    """Open a file that is there; what SQLite finds wrong with it is a BackupError.

    `shown` is what the error calls the file.
    """
    driver: Any = engine.dialect.loaded_dbapi
    try:
        connection = driver.connect(
            f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_MS / 1000
        )
        with closing(connection):
            connection.isolation_level = None
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
    # What a copy raises has no code by which `is_database_error` would know it.
    except driver.Error as error:
        raise BackupError(f"{shown or path}: {error}.") from None


def _check(connection: Any, check: str = "quick_check") -> None:
    (found,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
    if found != "ok":
        # The line before the last only says which of the connection's databases it is.
        raise BackupError(f"The copy is damaged: {found.splitlines()[-1]}")


def _revision(connection: Any) -> str:
    return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def _tables_problem(connection: Any) -> str | None:
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    with engine.connect() as wrapped:
        return problem_of_tables(wrapped)


def _version(connection: Any) -> int:
    return int(connection.execute("SELECT version FROM catalogue").fetchone()[0])
