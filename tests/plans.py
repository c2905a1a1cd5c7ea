"""The statements that ran, and how SQLite goes about each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from core.database import db

Statement = tuple[str, Any]


@contextmanager
def noted(engine: Engine) -> Iterator[list[Statement]]:
    """Yield a list of the statements of the block with their values, but for pragmas and begins."""
    statements: list[Statement] = []

    def note(_: Any, __: Any, statement: str, values: Any, ___: Any, is_many: bool) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            statements.append((statement, values[0] if is_many else values))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


def steps_of(statements: Iterable[Statement]) -> Iterator[tuple[str, str]]:
    """Yield the steps of SQLite's plans, as it words them, each with its statement."""
    for statement, values in statements:
        explained = db.session.connection().exec_driver_sql(
            f"EXPLAIN QUERY PLAN {statement}", values
        )
        for *_, step in explained:
            yield step, statement
