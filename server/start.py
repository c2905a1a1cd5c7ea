"""The start of the service: checks, migrations, the first user, then gunicorn in this process.

Whatever can't work is one line on standard error and a non-zero exit.
"""

from __future__ import annotations

import gc
import os
import secrets
import socket
import sys
import tempfile

from gunicorn.app.wsgiapp import WSGIApplication

from core import settings
from core.settings import PROJECT_DIR, Settings, SettingsError
from core.sqlite import is_sqlite_url
from core.version import VERSION
from server import prepare
from server.prepare import ending_in_one_line, say


def main() -> None:
    """Run until a signal ends it."""
    # What is loaded stays: to look through it again and again took a tenth of a start.
    gc.freeze()
    try:
        chosen = settings.load(os.environ)
    except SettingsError as error:
        sys.exit(f"pixelkeep: {error}")
    problem = _directory_problem(chosen) or _address_problem(chosen) or _room_problem(chosen)
    if problem:
        sys.exit(f"pixelkeep: {problem}")
    with ending_in_one_line():
        prepare.application()
    gc.freeze()
    status = _prepare()
    if status:
        sys.exit(status if status > 0 else 128 - status)
    say(f"Pixelkeep {VERSION} serves at {chosen.base_url}")
    sys.argv = ["gunicorn", "--config", str(PROJECT_DIR / "gunicorn.conf.py"), "wsgi:app"]
    WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]", prog="gunicorn").run()


def _prepare() -> int:
    """Have the database prepared by a child of this process; return its exit status.

    What migrations need stays out of the service's memory so, and no connection is inherited.
    """
    child = os.fork()
    if not child:
        prepare.main()
        sys.exit()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _directory_problem(chosen: Settings) -> str | None:
    """Return why nothing can be kept in the data directory, None if it can or need not be."""
    directory = chosen.data_dir
    has_key = bool(chosen.secret_key or chosen.secret_key_file)
    if has_key and not is_sqlite_url(chosen.sqlalchemy_url):
        return None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".probe-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return f"{directory} can't be written: {error.strerror}"
    return None


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


def _room_problem(chosen: Settings) -> str | None:
    """Have temporary files made in the data directory where the system's can't be written.

    Return why there is no place for them, None if there is one.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        # For the processes that are started from here, too.
        os.environ["TMPDIR"] = str(chosen.data_dir)
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return f"Temporary files can be written nowhere, {chosen.data_dir} included; name a TMPDIR."
    return None


if __name__ == "__main__":
    main()
