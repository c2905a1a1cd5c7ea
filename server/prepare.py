"""Before the first request: migrations, the first user, and their secrets shown once.

Run as a program by `server`, on every start.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from flask_migrate import Migrate, upgrade
from marshmallow import ValidationError
from sqlalchemy import make_url, select, text
from sqlalchemy.exc import SQLAlchemyError

from app import create_app
from core import secret_keys, settings
from core.database import db
from core.locks import ADVISORY_LOCK, write_lock
from core.permissions import Role, Scope
from core.settings import PROJECT_DIR, Settings, SettingsError
from core.sqlite import has_wal_reset_bug, is_sqlite_url, sqlite_file, sqlite_version
from core.tables import problem_of_tables
from models import User
from people import accounts
from schemas import UserCreate

PASSWORD_BYTES = 12
# Another process may be migrating.
MIGRATION_PATIENCE_SECONDS = 600


def main() -> None:
    """Prepare the database that the environment names; print the first user's secrets, once."""
    try:
        chosen = settings.load(os.environ)
        secret_keys.ensure_secret(chosen)
        first = prepare(create_app(chosen))
    except SettingsError as error:
        sys.exit(f"pixelkeep: {error}")
    except (SQLAlchemyError, OSError) as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        sys.exit(f"pixelkeep: The database can't be prepared: {cause}")
    if is_sqlite_url(chosen.sqlalchemy_url) and has_wal_reset_bug():
        print(
            f"WARNING: SQLite {sqlite_version()} has the WAL-reset bug (sqlite.org/wal.html);"
            " install pysqlite3 or SQLite 3.51.3 or newer. Until then one process serves.",
            file=sys.stderr,
        )
    if first:
        print(_welcome(first, chosen.base_url), flush=True)


@dataclass(frozen=True, slots=True)
class FirstUser:
    """The first user's secrets, in clear nowhere but here; no password if the operator chose it."""

    username: str
    password: str | None
    key: str


def prepare(app: Flask) -> FirstUser | None:
    """Migrate the database of `app`; make the first user where there is none, and return them.

    Several nodes may start at once on one PostgreSQL: they take turns.
    """
    Migrate(app, db, directory=str(PROJECT_DIR / "migrations"))
    with app.app_context():
        path = sqlite_file(db.engine)
        if path is not None:
            _refuse_astray(app.config["SETTINGS"], path)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Connections open a file that is there and never make one (see `database`).
            path.touch(mode=0o600)
        try:
            return _migrate_and_make_user(app.config["SETTINGS"])
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


def _migrate_and_make_user(chosen: Settings) -> FirstUser | None:
    with db.engine.connect() as turn:
        if turn.dialect.name == "postgresql":
            turn.execute(text(f"SELECT pg_advisory_lock({ADVISORY_LOCK} + 1)"))
        _migrate()
        problem = problem_of_tables(turn)
        if problem:
            raise SettingsError(f"The database can't be used: {problem}.")
        if db.session.scalar(select(User.id).limit(1)) is not None:
            return None
        password = chosen.admin_password or secrets.token_urlsafe(PASSWORD_BYTES)
        _require_usable(chosen.admin_username, password)
        user = accounts.create_user(chosen.admin_username, password, Role.ADMIN)
        # For scripts that make pixels; what rules over people takes a sign-in.
        _, key = accounts.create_key(user, "first start", scope=Scope.WRITE)
        return FirstUser(user.username, None if chosen.admin_password else password, key)


def _require_usable(username: str, password: str) -> None:
    """Refuse what nobody could sign in with, by the rules of every other user."""
    try:
        UserCreate().load({"username": username, "password": password, "role": Role.ADMIN})
    except ValidationError as error:
        name, problems = next(iter(error.messages_dict.items()))
        raise SettingsError(
            f"PIXELKEEP_ADMIN_{name.upper()} can't be used: {problems[0]}"
        ) from None


def _migrate() -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with write_lock(db.engine, MIGRATION_PATIENCE_SECONDS):
        upgrade()


def migration_problem() -> str | None:
    """Return what is missing of the migrations, None if the database is at the newest."""
    newest = ScriptDirectory(str(PROJECT_DIR / "migrations")).get_current_head()
    with db.engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current == newest:
        return None
    return f"the database is at {current}, not at {newest}; `script/server` migrates it"


def _welcome(first: FirstUser, base: str) -> str:
    """Return what the operator reads once: the secrets and the first two things to do."""
    password = first.password or "the one in PIXELKEEP_ADMIN_PASSWORD"
    return f"""
Pixelkeep is set up. This is shown once; keep it safe.

  user name: {first.username}
  password:  {password}
  API key:   {first.key}

Open {base}/ in a browser and sign in, or create a pixel here:

curl -X POST "{base}/api/pixels" \\
  -H "Authorization: Bearer {first.key}" \\
  -H "Content-Type: application/json" \\
  -d '{{
    "name": "Email Campaign Tracker",
    "slug": "email-campaign"
  }}'

Embed it:

<img src="{base}/api/send?slug=email-campaign" width="1" height="1" alt="" />
"""


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
