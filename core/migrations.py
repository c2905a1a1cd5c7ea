"""Where the database stands among the migrations."""

from __future__ import annotations

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from core.database import db
from core.settings import PROJECT_DIR
from core.version import VERSION

DIRECTORY = PROJECT_DIR / "migrations"


def migration_problem() -> str | None:
    """Return what is missing of the migrations, None if the database is at the newest."""
    newest, current = _scripts().get_current_head(), current_revision()
    if current == newest:
        return None
    return later_release_problem(current) or (
        f"the database is at {current}, not at {newest}; `script/server` migrates it"
    )


def later_release_problem(current: str | None) -> str | None:
    """Return what to do where a database is a later release's than this one; None if it is not."""
    if not current or current in {each.revision for each in _scripts().walk_revisions()}:
        return None
    return (
        f"The database is at {current}, which Pixelkeep {VERSION} doesn't know: this release is"
        " older. Start the one that the database is of, or bring a backup from before it back."
    )


def current_revision() -> str | None:
    """Return the newest migration that the database has been through, None if it has none."""
    with db.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(DIRECTORY))
