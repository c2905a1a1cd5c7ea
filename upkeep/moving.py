"""Everything of one database into another that is empty, whichever of the two kinds they are.

What is written is one transaction of the target's, which is compared with the source before it is
committed: until then nothing has changed, whatever happens. Nothing is stored in the source
meanwhile, since a hit that was answered would be left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Engine,
    Row,
    String,
    Table,
    TypeDecorator,
    bindparam,
    cast,
    delete,
    distinct,
    func,
    insert,
    select,
    text,
    type_coerce,
)

from core.database import BUSY_TIMEOUT_MS, db, patient
from core.locks import empty_log, lock_shared_state, write_lock
from models import Catalogue, Hit, Pixel, Profile, Salt, Segment

ROWS_AT_ONCE = 2_000
# What migrations and the housekeeper put into a database in which nobody has done anything.
_OF_AN_EMPTY_ONE = {"catalogue", "retention_runs"}


class MoveError(Exception):
    """A move that can't be made; its text is the one line the operator sees."""


def refuse_used(target: Engine) -> None:
    """Find the tables of a target empty.

    Raises: MoveError.
    """
    with target.connect() as connection:
        for table in db.metadata.sorted_tables:
            if table.name in _OF_AN_EMPTY_ONE:
                continue
            if connection.scalar(select(1).select_from(table).limit(1)):
                raise MoveError(
                    f"The target is not empty, there are rows in {table.name}: name a new database."
                )


def count_rows(source: Engine) -> int:
    """Return how many rows there are to be moved."""
    with source.connect() as connection, patient(connection, BUSY_TIMEOUT_MS):
        return sum(_counts(connection).values())


def move(source: Engine, target: Engine, on_rows: Callable[[int], object]) -> None:
    """Copy all rows, and delete the day's salt in the source, which must not outlive its day.

    `on_rows` is called with how many were copied since the last call.

    Raises: MoveError if what was written is not what was read; then nothing was.
    """
    with _standing_still(source) as reading:
        with _standing_still(target) as writing:
            for table in reversed(db.metadata.sorted_tables):
                writing.execute(delete(table))
            for table in db.metadata.sorted_tables:
                for rows in _read(reading, table):
                    _write(writing, table, rows)
                    on_rows(len(rows))
            _set_last_number(writing, _last_number(reading))
            _compare(reading, writing)
            writing.commit()
        reading.execute(delete(Salt))
        reading.commit()
    empty_log(source)


@contextmanager
def _standing_still(engine: Engine) -> Iterator[Connection]:
    """Begin a transaction in which nobody else writes."""
    with (
        write_lock(engine),
        engine.execution_options(immediate=True).connect() as connection,
        patient(connection, BUSY_TIMEOUT_MS),
    ):
        lock_shared_state(connection, exclusive=True)
        yield connection


def _read(connection: Connection, table: Table) -> Iterator[list[Row[Any]]]:
    statement = select(*(_plain(column) for column in table.columns))
    found = connection.execute(statement, execution_options={"yield_per": ROWS_AT_ONCE})
    for rows in found.partitions():
        yield list(rows)


def _plain(column: Column[Any]) -> Any:
    """Return what is kept in a column, which another database keeps in the same way."""
    if isinstance(column.type, JSON):
        # As it is written, since a null of JSON is not a null of SQL.
        return cast(column, String)
    if isinstance(column.type, TypeDecorator):
        return type_coerce(column, column.type.impl_instance)
    return column


def _write(connection: Connection, table: Table, rows: list[Row[Any]]) -> None:
    names = [column.name for column in table.columns]
    if connection.dialect.name == "postgresql":
        places = ", ".join(f'"{name}"' for name in names)
        driver: Any = connection.connection.driver_connection
        with driver.cursor().copy(f'COPY "{table.name}" ({places}) FROM STDIN') as copy:
            for row in rows:
                copy.write_row(row)
        return
    values = {
        column.name: bindparam(column.name, type_=_plain(column).type) for column in table.columns
    }
    connection.execute(
        insert(table).values(values), [dict(zip(names, row, strict=True)) for row in rows]
    )


def _last_number(connection: Connection) -> int:
    """Return the highest number that a pixel has ever had: none is given twice."""
    if connection.dialect.name == "postgresql":
        last = "SELECT last_value FROM pixels_number_seq WHERE is_called"
    else:
        last = "SELECT seq FROM sqlite_sequence WHERE name = 'pixels'"
    return int(connection.scalar(text(last)) or 0)


def _set_last_number(connection: Connection, number: int) -> None:
    if not number:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT setval('pixels_number_seq', :number)"), {"number": number})
        return
    connection.execute(text("DELETE FROM sqlite_sequence WHERE name = 'pixels'"))
    connection.execute(
        text("INSERT INTO sqlite_sequence (name, seq) VALUES ('pixels', :number)"),
        {"number": number},
    )


def _compare(source: Connection, target: Connection) -> None:
    """Count the rows of each table on both sides, and what the statistics are made of.

    Raises: MoveError.
    """
    before, after = _counts(source), _counts(target)
    differing = [name for name, count in before.items() if after[name] != count]
    for name, statement in _FIGURES.items():
        if source.execute(statement).all() != target.execute(statement).all():
            differing.append(name)
    if differing:
        raise MoveError(f"What was written differs in {', '.join(differing)}; nothing was moved.")


def _counts(connection: Connection) -> dict[str, int]:
    return {
        table.name: connection.scalar(select(func.count()).select_from(table)) or 0
        for table in db.metadata.sorted_tables
    }


_FIGURES: dict[str, Any] = {
    "the hits of pixels": select(
        Hit.pixel_number,
        Profile.hit_class,
        func.count(),
        func.count(distinct(Hit.visitor)),
        func.min(Hit.id),
        func.max(Hit.id),
    )
    .join(Profile, (Profile.pixel_number == Hit.pixel_number) & (Profile.id == Hit.profile))
    .group_by(Hit.pixel_number, Profile.hit_class)
    .order_by(Hit.pixel_number, Profile.hit_class),
    "what is counted of them": select(
        Segment.pixel_number, Segment.part, func.count(), func.sum(func.length(Segment.data))
    )
    .group_by(Segment.pixel_number, Segment.part)
    .order_by(Segment.pixel_number, Segment.part),
    "how far they are counted": select(
        Pixel.number, Pixel.folded_through, Pixel.visitor_count, Pixel.profile_count
    ).order_by(Pixel.number),
    "the catalogue": select(Catalogue.version, Catalogue.folded_through),
}
