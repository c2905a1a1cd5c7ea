"""Where the database stands among the migrations."""

from __future__ import annotations

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from core.database import db
from core.settings import PROJECT_DIR

DIRECTORY = PROJECT_DIR / "migrations"


def migration_problem() -> str | None:
    """Return what is missing of the migrations, None if the database is at the newest."""
    newest, current = _scripts().get_current_head(), current_revision()
    if current == newest:
        return None
    return f"the database is at {current}, not at {newest}; `script/server` migrates it"


def current_revision() -> str | None:
    """Return the newest migration that the database has been through, None if it has none."""
    with db.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def is_known(revision: str) -> bool:
    """Tell whether a migration is one of this release's."""
    return revision in {each.revision for each in _scripts().walk_revisions()}


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(DIRECTORY))
