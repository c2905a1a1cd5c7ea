"""The start of the service: checks, migrations, the first user, then gunicorn in this process.

Whatever can't work is one line on standard error and a non-zero exit.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import NoReturn

from gunicorn.app.wsgiapp import WSGIApplication
from sqlalchemy.exc import SQLAlchemyError

import settings
from database import has_wal_reset_bug, is_sqlite_url, sqlite_version
from first_start import directory_problem, prepare, welcome
from settings import PROJECT_DIR, Settings, SettingsError


def main() -> None:
    """Run until a signal ends it."""
    try:
        chosen = settings.load(os.environ)
    except SettingsError as error:
        _stop(str(error))
    problem = directory_problem(chosen.data_dir) or _address_problem(chosen)
    if problem:
        _stop(problem)
    try:
        from wsgi import app

        first = prepare(app)
    except SettingsError as error:
        _stop(str(error))
    except (SQLAlchemyError, OSError) as error:
        _stop(f"The database can't be prepared: {_first_line(error)}")
    if is_sqlite_url(chosen.sqlalchemy_url) and has_wal_reset_bug():
        print(
            f"WARNING: SQLite {sqlite_version()} has the WAL-reset bug (sqlite.org/wal.html);"
            " install pysqlite3 or SQLite 3.51.3 or newer. Until then one process serves.",
            file=sys.stderr,
        )
    if first:
        print(welcome(first, chosen.base_url), flush=True)
    sys.argv = ["gunicorn", "--config", str(PROJECT_DIR / "gunicorn.conf.py"), "wsgi:app"]
    WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]", prog="gunicorn").run()


def _address_problem(chosen: Settings) -> str | None:
    host, _, port = chosen.bind.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            return (
                f"Can't listen on {chosen.bind}: {error.strerror}. Choose another PIXELKEEP_BIND."
            )
    return None


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]


def _stop(problem: str) -> NoReturn:
    sys.exit(f"pixelkeep: {problem}")


if __name__ == "__main__":
    main()
