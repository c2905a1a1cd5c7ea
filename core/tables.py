"""Whether a database has the tables that this code is written for.

A revision says which migrations have run, not what they were on the day: a migration that was
edited after it had landed leaves tables that take hits and can't answer for them.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, Dialect, Table, UniqueConstraint, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.type_api import TypeEngine

from core.database import db

DIFFERENCES_SHOWN_MAX = 3


def tables_problem() -> str | None:
    """Return how the database's tables differ, None where they don't or it doesn't answer."""
    try:
        with db.engine.connect() as connection:
            return problem_of_tables(connection)
    except SQLAlchemyError:
        return None  # What asks whether a write works says why.


def problem_of_tables(connection: Connection) -> str | None:
    """Return in one line how the tables differ from the models, None where they don't.

    Compared are tables, columns with their types, keys, and the names of indexes.
    """
    found = list(_differences(connection))
    if not found:
        return None
    shown = ", ".join(found[:DIFFERENCES_SHOWN_MAX])
    more = len(found) - DIFFERENCES_SHOWN_MAX
    return (
        f"the tables are not this release's: {shown}"
        + (f" and {more} more" if more > 0 else "")
        + "; a version between releases made them, or another hand"
    )


# By name, since SQLAlchemy can't read an index of an expression.
_INDEX_NAMES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'index'",
    "postgresql": "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()",
}


def _differences(connection: Connection) -> Iterator[str]:
    inspector = inspect(connection)
    columns = {name: found for (_, name), found in inspector.get_multi_columns().items()}
    keys = inspector.get_multi_pk_constraint()
    named = set(connection.scalars(text(_INDEX_NAMES[connection.dialect.name])))
    for uniques in inspector.get_multi_unique_constraints().values():
        named.update(str(constraint["name"]) for constraint in uniques)
    for table in db.metadata.sorted_tables:
        if table.name not in columns:
            yield f"{table.name} is missing"
            continue
        kept = {
            column["name"]: (_written(column["type"], inspector.dialect), column["nullable"])
            for column in columns[table.name]
        }
        yield from _differing_columns(table, kept, inspector.dialect)
        key = keys[None, table.name]["constrained_columns"]
        if key != [column.name for column in table.primary_key]:
            yield f"{table.name} has another key"
        for name in sorted(_names_of_indexes(table) - named):
            yield f"{table.name} lacks {name}"


def _differing_columns(
    table: Table, kept: dict[str, tuple[str, bool]], dialect: Dialect
) -> Iterator[str]:
    for column in table.columns:
        if column.name not in kept:
            yield f"{table.name} lacks the column {column.name}"
        elif kept[column.name] != (_written(column.type, dialect), column.nullable):
            yield f"{table.name}.{column.name} is of another type"
    for name in kept.keys() - table.columns.keys():
        yield f"{table.name} has a column {name} too many"


def _names_of_indexes(table: Table) -> set[str]:
    unique = {
        str(constraint.name)
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    }
    return unique | {str(index.name) for index in table.indexes}


def _written(type_: TypeEngine[object], dialect: Dialect) -> str:
    return type_.compile(dialect=dialect)
