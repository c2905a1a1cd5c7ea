"""A copy of the SQLite database while it is served, and the way back, also while it is served.

PostgreSQL has its own tools for this (pg_dump, pg_restore).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from core.database import BUSY_TIMEOUT_MS, is_database_error
from core.locks import write_lock
from core.sqlite import sqlite_file
from core.tables import problem_of_tables

COPY_MODE = 0o600


class BackupError(Exception):
    """A backup that can't be made or restored; its text is the one line the operator sees."""


def back_up(engine: Engine, target: Path) -> int:
    """Copy the database as it is at one instant into a new file; return its size in bytes.

    Every hit that was answered before the call is in it. The day's salt is not: a copy that is
    kept would let anybody find out who an anonymous visitor was.

    Raises: BackupError; then there is no file.
    """
    if target.exists():
        raise BackupError(f"{target} exists already; choose another name.")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL, COPY_MODE))
        with _open(engine, _file_of(engine)) as source, _open(engine, draft) as copy:
            # One step: steps apart would start again with each commit in between.
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            copy.execute("PRAGMA secure_delete = ON")
            copy.execute("DELETE FROM salts")
            _check(copy)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.rename(target)
        _sync_directory(target.parent)
    except OSError as error:
        raise BackupError(f"No backup could be made: {error}") from None
    finally:
        draft.unlink(missing_ok=True)
    return target.stat().st_size


def restore(engine: Engine, source: Path) -> None:
    """Make the database what a backup holds, in one transaction; hits wait for it meanwhile.

    Until it commits nothing has changed, whatever happens. A running server goes on with what
    is restored from its next request on.

    Raises: BackupError.
    """
    path = _file_of(engine)
    if not source.is_file():
        raise BackupError(f"{source} is no file.")
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
            # Greater than both: what processes remember of pixels is asked for anew.
            version = max(version, _version(database)) + 1
            database.execute("UPDATE catalogue SET version = ?", (version,))


def _file_of(engine: Engine) -> Path:
    path = sqlite_file(engine)
    if path is None:
        raise BackupError("This database is PostgreSQL: use pg_dump and pg_restore.")
    return path


@contextmanager
def _open(engine: Engine, path: Path) -> Iterator[Any]:
    """Open a file that is there; what SQLite finds wrong with it is a BackupError."""
    try:
        connection: Any = engine.dialect.loaded_dbapi.connect(
            f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_MS / 1000
        )
        with closing(connection):
            connection.isolation_level = None
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
    except Exception as error:
        if is_database_error(error):
            raise BackupError(f"{path}: {error}") from None
        raise


def _check(connection: Any) -> None:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise BackupError(f"The copy is damaged: {found}")


def _revision(connection: Any) -> str:
    return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def _tables_problem(connection: Any) -> str | None:
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    with engine.connect() as wrapped:
        return problem_of_tables(wrapped)


def _version(connection: Any) -> int:
    return int(connection.execute("SELECT version FROM catalogue").fetchone()[0])


def _sync_directory(directory: Path) -> None:
    """Make a new name in `directory` survive loss of power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
