"""Gives space that nothing uses any more back to the disk, while hits come in.

A SQLite file keeps the pages of what was deleted, to use them again. Files of ours can be cut by a
few pages at a time (`auto_vacuum = INCREMENTAL`); those that older versions made have to be written
anew first, as a whole, which takes the one writer's place for as long as that lasts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine

from core.locks import empty_log, give_way, write_lock

# Of 4 KiB. A step takes a few milliseconds.
PAGES_AT_ONCE = 64
INCREMENTAL = 2


def shrinks_in_steps(engine: Engine) -> bool:
    """Tell whether the file can be cut while it is served."""
    return _pragma(engine, "auto_vacuum") == INCREMENTAL


def free_pages(engine: Engine) -> int:
    """Return how many of the file's pages nothing uses."""
    return _pragma(engine, "freelist_count")


def shrink(engine: Engine) -> Iterator[int]:
    """Cut the file by its free pages; yield after each step how many there were fewer.

    The file gets its size once the log is emptied, which the end of this does, or within a day
    the housekeeper.
    """
    before = free_pages(engine)
    while before:
        with write_lock(engine):
            _run(engine, f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")
        after = free_pages(engine)
        yield max(before - after, 0)
        before = after
        give_way()
    empty_log(engine)


def write_anew(engine: Engine) -> None:
    """Write the whole file anew; from then on it shrinks in steps.

    Raises: OperationalError if anybody else has it open.
    """
    engine.dispose()
    with write_lock(engine), _autocommitting(engine) as connection:
        # SQLite leaves its log to nobody but the only one who has the file open.
        connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
        connection.exec_driver_sql(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        connection.exec_driver_sql("VACUUM")
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")


def _pragma(engine: Engine, name: str) -> int:
    return int(_run(engine, f"PRAGMA {name}")[0][0])


def _run(engine: Engine, statement: str) -> list[Any]:
    with _autocommitting(engine) as connection:
        driver: Any = connection.connection.driver_connection
        # To its end, before which a step is not done.
        return list(driver.execute(statement).fetchall())


def _autocommitting(engine: Engine) -> Connection:
    """Open a connection each of whose statements is a transaction of its own."""
    return engine.execution_options(isolation_level="AUTOCOMMIT").connect()
