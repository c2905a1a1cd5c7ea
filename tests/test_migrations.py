"""An empty database migrated equals the models, on both databases."""

from __future__ import annotations

import re
from collections.abc import Callable

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.schema import CreateTable

from core import migrations
from models import Pixel
from tests.conftest import Server, unique

METADATA = Pixel.metadata


def url_of(server: Server) -> str:
    url = server.database_url or f"sqlite:///{server.data_dir / 'pixelkeep.db'}"
    return url.replace("postgresql://", "postgresql+psycopg://")


def test_migrated_database_has_no_difference_from_the_models(server: Server) -> None:
    engine = create_engine(url_of(server))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, METADATA)
        tables = set(inspect(connection).get_table_names())
    engine.dispose()
    assert differences == []
    assert tables == set(METADATA.tables) | {"alembic_version"}


def test_migrated_sqlite_tables_are_written_as_the_models_would(
    start_server: Callable[..., Server],
) -> None:
    """Catch what alembic doesn't compare: keys, checks, WITHOUT ROWID, AUTOINCREMENT."""
    server = start_server()
    engine = create_engine(url_of(server))
    with engine.connect() as connection:
        found = {
            name: without_order(sql)
            for name, sql in connection.execute(
                text("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL")
            )
        }
        expected = {
            table.name: without_order(str(CreateTable(table).compile(engine)))
            for table in METADATA.sorted_tables
        }
    engine.dispose()
    assert {name: found[name] for name in expected} == expected


def without_order(sql: str) -> tuple[str, list[str]]:
    """Return a CREATE TABLE without white space and quotes, its parts in a fixed order."""
    sql = re.sub(r"[\s\"]+", " ", sql).strip()
    body, tail = sql[sql.index("(") + 1 : sql.rindex(")")], sql[sql.rindex(")") + 1 :]
    return tail.strip(), sorted(part.strip() for part in re.split(r",(?![^(]*\))", body))


def test_files_are_named_as_their_migrations() -> None:
    # A start reads names where it could ask alembic, which takes longer to load than the rest.
    scripts = ScriptDirectory(str(migrations.DIRECTORY))
    assert migrations.revisions() == {revision.revision for revision in scripts.walk_revisions()}
    assert migrations.newest_revision() == scripts.get_current_head()


def test_catalogue_has_its_one_row(server: Server) -> None:
    assert [row[0] for row in server.query("SELECT id FROM catalogue")] == [1]


def test_second_start_keeps_what_is_there(
    start_server: Callable[..., Server], database: str
) -> None:
    server = start_server(database)
    pixel = server.admin.create_pixel(unique("kept"))
    assert server.admin.get(f"/p/{pixel['slug']}").status == 200
    assert server.stop() == 0
    server.start()
    assert pixel.items() <= server.admin.get(f"/api/pixels/{pixel['id']}").json.items()
    assert server.hits() == 1
    assert server.query("SELECT count(*) FROM users") == [(1,)]
