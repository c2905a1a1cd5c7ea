"""The way in: builds the application and runs the operator's command."""

from __future__ import annotations

import os
import signal
import sys

from flask import Flask
from flask.cli import ScriptInfo
from sqlalchemy.exc import SQLAlchemyError

from app import create_app

# Imported for the commands that they add to `main`.
from cli import (  # noqa: F401
    hits,
    imports,
    mailings,
    people,
    pixels,
    recipients,
    reports,
    shares,
    support,
    upkeep,
    webhooks,
)
from cli.commands import main
from core import settings
from core.errors import DomainError
from core.settings import SettingsError
from upkeep.backup import BackupError


def run() -> None:
    """Run the command line; what goes wrong is one line on standard error."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        try:
            main(obj=ScriptInfo(create_app=_create_app), prog_name="script/pixelkeep")
        finally:
            sys.stdout.flush()
    except (SettingsError, DomainError, BackupError) as error:
        sys.exit(f"pixelkeep: {error}")
    except SQLAlchemyError as error:
        sys.exit(f"pixelkeep: The database can't be used: {_words(error)}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except OSError as error:
        # What is left in the buffer could not be written again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(f"pixelkeep: {place}{error.strerror or error}")


def _words(error: SQLAlchemyError) -> str:
    words = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    is_missing = any(
        each in words for each in ("unable to open", "no such table", "does not exist")
    )
    return words + (". `script/server` sets it up." if is_missing else ".")


def _create_app() -> Flask:
    return create_app(settings.load(os.environ))


if __name__ == "__main__":
    run()
