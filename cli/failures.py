"""What went wrong, in the one line that the operator sees."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.exc import SQLAlchemyError

from core import settings
from core.errors import DomainError
from core.settings import SettingsError
from upkeep.backup import BackupError
from upkeep.moving import MoveError


def in_one_line(error: Exception, environ: Mapping[str, str]) -> str | None:
    """Return what to say of an error that is not a fault of ours, None for one that is."""
    if isinstance(error, SettingsError | DomainError | BackupError | MoveError):
        return str(error)
    if isinstance(error, SQLAlchemyError):
        return f"The database can't be used: {_words(error, environ)}"
    return None


def _words(error: SQLAlchemyError, environ: Mapping[str, str]) -> str:
    words = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    is_missing = any(
        phrase in words for phrase in ("unable to open", "no such table", "does not exist")
    )
    return words + (f". {settings.load(environ).setup_hint}" if is_missing else ".")
