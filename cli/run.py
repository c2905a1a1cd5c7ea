"""The way in: builds the application and runs the operator's command."""

from __future__ import annotations

import os
import sys

from flask import Flask
from flask.cli import ScriptInfo
from sqlalchemy.exc import SQLAlchemyError

from app import create_app

# Imported for the commands that they add to `main`.
from cli import hits, mailings, people, pixels, recipients, reports, support, upkeep  # noqa: F401
from cli.commands import main
from core import settings
from core.errors import DomainError
from core.settings import SettingsError
from upkeep.backup import BackupError


def run() -> None:
    """Run the command line; what goes wrong is one line on standard error."""
    try:
        main(obj=ScriptInfo(create_app=_create_app), prog_name="script/pixelkeep")
    except (SettingsError, DomainError, BackupError) as error:
        sys.exit(f"pixelkeep: {error}")
    except SQLAlchemyError as error:
        words = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        sys.exit(f"pixelkeep: The database can't be used: {words}. `script/server` sets it up.")


def _create_app() -> Flask:
    return create_app(settings.load(os.environ))


if __name__ == "__main__":
    run()
