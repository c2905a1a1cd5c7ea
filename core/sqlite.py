"""SQLite itself: the driver, the file behind an engine, and the version's known bugs."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

try:
    import pysqlite3.dbapi2 as driver
except ImportError:  # No wheel for this platform: the system's SQLite serves.
    import sqlite3 as driver

sqlite_module: Any = driver
# statx(2) and <linux/stat.h>.
AT_FDCWD, STATX_INO, STATX_BYTES, STATX_INO_AT = -100, 0x100, 256, slice(32, 40)
# What SQLite's file format says at offset 18 of a database without a write-ahead log.
NO_LOG = b"\x01\x01"
WAL_RESET_BUG_FIXED = (3, 51, 3)
WAL_RESET_BUG_BACKPORTS = {(3, 44): 6, (3, 50): 7}


@functools.cache
def sqlite_file(engine: Engine) -> Path | None:
    """Return the file of a SQLite database, None for PostgreSQL."""
    return Path(str(engine.url.database)) if engine.dialect.name == "sqlite" else None


def file_identity(path: Path | None) -> tuple[int, ...]:
    """Return what tells the files at `path` from others put in their place: the inodes.

    Zero stands for a file that isn't there; nothing at all for PostgreSQL.
    """
    if path is None:
        return ()
    return _inode(str(path)), _inode(f"{path}-wal")


def _inode(path: str) -> int:
    """Return a file's inode, 0 if it isn't there.

    Where the system can be asked for nothing else (statx), it is: since 6.13, a program that asks
    Linux for a file's time as well has its next write noted to the nanosecond, and then each sync
    of SQLite's log writes the file system's journal too.
    """
    answer = ctypes.create_string_buffer(STATX_BYTES)
    if _statx and not _statx(AT_FDCWD, os.fsencode(path), 0, STATX_INO, answer):
        return int.from_bytes(answer.raw[STATX_INO_AT], sys.byteorder)
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


_statx: Any = getattr(ctypes.CDLL(None), "statx", None)


def is_sqlite_url(url: str) -> bool:
    """Tell whether a SQLAlchemy URL names SQLite."""
    return url.startswith("sqlite")


def drop_foreign_log(path: Path) -> None:
    """Remove a write-ahead log beside a backup that was put in its database's place.

    SQLite would bring back from it what was deleted, or mix the two. A backup's header says that
    it has no log, and a database of ours is never without one.
    """
    log = path.with_name(f"{path.name}-wal")
    if not path.is_file() or not log.exists():
        return
    with path.open("rb") as file:
        has_no_log = file.read(20)[18:20] == NO_LOG
    if has_no_log:
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def sqlite_version() -> str:
    """Return the version of the SQLite library in use."""
    return str(sqlite_module.sqlite_version)


def has_wal_reset_bug() -> bool:
    """Tell whether this SQLite can lose committed pages when connections write at once.

    Source: sqlite.org/wal.html, "The WAL-Reset Bug": 3.7.0 to 3.51.2, but for 3.44.6 and 3.50.7.
    """
    version = tuple(int(part) for part in sqlite_version().split("."))
    fixed_in = WAL_RESET_BUG_BACKPORTS.get((version[0], version[1]))
    if fixed_in is not None:
        return version[2] < fixed_in
    return version < WAL_RESET_BUG_FIXED
