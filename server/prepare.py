"""Before the first request: migrations, the first user, and their secrets shown once.

Run by `start` in a process of its own, on every start; also a program.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from core import migrations, secret_keys, settings
from core.database import db
from core.links import Links
from core.locks import ADVISORY_LOCK, write_lock
from core.settings import Settings, SettingsError
from core.sqlite import has_wal_reset_bug, is_sqlite_url, sqlite_file, sqlite_version
from core.tables import problem_of_tables
from people import first_start
from people.first_start import FirstStart
from pixels import numbering

# Another process may be migrating.
MIGRATION_PATIENCE_SECONDS = 600
TURN_POLL_SECONDS = 0.5


def main() -> None:
    """Prepare the database that the environment names; show the first user's secrets, once."""
    with ending_in_one_line():
        app = application()
        first = prepare(app)
    chosen: Settings = app.config["SETTINGS"]
    if is_sqlite_url(chosen.sqlalchemy_url) and has_wal_reset_bug():
        print(
            f"WARNING: SQLite {sqlite_version()} has the WAL-reset bug (sqlite.org/wal.html);"
            " install pysqlite3 or SQLite 3.51.3 or newer. Until then one process serves.",
            file=sys.stderr,
        )
    if first:
        _show(first)
    elif chosen.first_start_path.exists():
        print(f"Nobody has signed in yet: see {chosen.first_start_path}.", file=sys.stderr)


@contextmanager
def ending_in_one_line() -> Iterator[None]:
    """End the program with one line where it can't start."""
    before = signal.getsignal(signal.SIGINT)
    try:
        # Drafts of secrets are removed on Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    except SettingsError as error:
        sys.exit(f"pixelkeep: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except (SQLAlchemyError, OSError) as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        sys.exit(f"pixelkeep: The database can't be prepared: {cause}")
    finally:
        signal.signal(signal.SIGINT, before)


def application() -> Flask:
    """Build what the database is prepared with and gunicorn serves, once there is a key for it."""
    secret_keys.ensure_secret(settings.load(os.environ))
    app: Flask = importlib.import_module("wsgi").app
    return app


def prepare(app: Flask) -> FirstStart | None:
    """Migrate the database of `app`; make the first user where there is none, and return them.

    Several nodes may start at once on one PostgreSQL: they take turns.
    """
    with migrated(app):
        chosen: Settings = app.config["SETTINGS"]
        numbering.prepare(Links(chosen.secret_keys()))
        return first_start.make_admin(chosen)


@contextmanager
def migrated(app: Flask) -> Iterator[None]:
    """Migrate the database of `app`, and keep other nodes from it meanwhile.

    Raises: SettingsError where this release can't use it.
    """
    with app.app_context():
        path = sqlite_file(db.engine)
        if path is not None:
            _refuse_astray(app.config["SETTINGS"], path)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Connections open a file that is there and never make one (see `database`).
            path.touch(mode=0o600)
        try:
            with db.engine.connect() as turn:
                _wait_for_turn(turn)
                _migrate()
                problem = problem_of_tables(turn)
                if problem:
                    raise SettingsError(f"The database can't be used: {problem}.")
                yield
        finally:
            # The turn on PostgreSQL ends with its connection.
            db.session.remove()
            db.engine.dispose()


def _refuse_astray(chosen: Settings, path: Path) -> None:
    """Stop before an empty database is made where an older version read its path as a URL."""
    astray = Path(make_url(f"sqlite:///{path}").database or "")
    if not chosen.database_url and not path.exists() and astray.is_file():
        raise SettingsError(
            f"PIXELKEEP_DATA_DIR is {path.parent}, and an older version kept its database in"
            f" {astray}: move it, with its -wal and -shm, to {path}."
        )


def _wait_for_turn(turn: Connection) -> None:
    """Take PostgreSQL's lock until the connection's transaction ends, however long others have it.

    Each try is a statement of its own, since one that waits would keep PostgreSQL from tidying up.
    """
    if turn.dialect.name != "postgresql":
        return
    taking = text(f"SELECT pg_try_advisory_xact_lock({ADVISORY_LOCK} + 1)")
    if turn.scalar(taking):
        return
    words = "Another node prepares the database; this one starts after it."
    print(words, file=sys.stderr, flush=True)
    while not turn.scalar(taking):
        time.sleep(TURN_POLL_SECONDS)


def _migrate() -> None:
    with write_lock(db.engine, MIGRATION_PATIENCE_SECONDS):
        current = migrations.current_revision()
        problem = migrations.later_release_problem(current)
        if problem:
            raise SettingsError(problem)
        if current != migrations.newest_revision():
            _upgrade()


def _upgrade() -> None:
    # To load what runs migrations takes a quarter of a second, and most starts have none to run.
    alembic: Any = importlib.import_module("alembic.command")
    config: Any = importlib.import_module("alembic.config").Config()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # A `%` would begin the name of another option.
    config.set_main_option("script_location", str(migrations.DIRECTORY).replace("%", "%%"))
    alembic.upgrade(config, "head")


def _show(first: FirstStart) -> None:
    """Show the secrets on a terminal; elsewhere, where it is kept by others, say where they are."""
    say(first.text if sys.stdout.isatty() else first.whereabouts)


def say(line: str) -> None:
    """Print a line; an output that can't be written, as on a full disk, stops no start.

    What has to last is in a file.
    """
    try:
        print(line, flush=True)
    except OSError:
        # Python would try again at its end, and fail there.
        sys.stdout = None


if __name__ == "__main__":
    main()
