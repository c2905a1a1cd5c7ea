"""Where the database stands among the migrations.

What runs them is loaded where some are to be run: files and one row say whether there are any.
"""

from __future__ import annotations

from sqlalchemy import inspect, text

from core.database import db
from core.settings import PROJECT_DIR
from core.version import VERSION

DIRECTORY = PROJECT_DIR / "migrations"
# alembic's own.
TABLE = "alembic_version"


def migration_problem() -> str | None:
    """Return what is missing of the migrations, None if the database is at the newest."""
    newest, current = newest_revision(), current_revision()
    if current == newest:
        return None
    return later_release_problem(current) or (
        f"the database is at {current}, not at {newest}; `script/server` migrates it"
    )


def later_release_problem(current: str | None) -> str | None:
    """Return what to do where a database is a later release's than this one; None if it is not."""
    if not current or current in revisions():
        return None
    return (
        f"The database is at {current}, which Pixelkeep {VERSION} doesn't know: this release is"
        " older. Start the one that the database is of, or bring a backup from before it back."
    )


def newest_revision() -> str:
    """Return the migration after which tables are the models'."""
    return max(revisions())


def revisions() -> set[str]:
    """Return all migrations, each by the number that its file's name begins with."""
    files = (DIRECTORY / "versions").glob("[0-9]*_*.py")
    return {file.name.partition("_")[0] for file in files}


def current_revision() -> str | None:
    """Return the newest migration that the database has been through, None if it has none."""
    with db.engine.connect() as connection:
        if not inspect(connection).has_table(TABLE):
            return None
        found: str | None = connection.scalar(text(f"SELECT version_num FROM {TABLE}"))  # noqa: S608
        return found
