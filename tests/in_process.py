"""An application in the tests' own process, on a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask

from app import create_app
from core import secret_keys, settings
from core.database import db
from server.prepare import migrated, prepare


def new_environment(
    tmp_path_factory: pytest.TempPathFactory, database: str, request: pytest.FixtureRequest
) -> dict[str, str]:
    """Return the settings of a new database of one kind or the other."""
    data_dir = tmp_path_factory.mktemp("data")
    url = request.getfixturevalue("create_tables")(database, data_dir)
    return {
        "PIXELKEEP_DATA_DIR": str(data_dir),
        **({"PIXELKEEP_DATABASE_URL": url} if url else {}),
    }


@contextmanager
def application(environment: dict[str, str]) -> Iterator[Flask]:
    """Prepare a database, and run the block in an application's context."""
    chosen = settings.load(environment)
    secret_keys.ensure_secret(chosen)
    app = create_app(chosen)
    prepare(app)
    with app.app_context():
        yield app
        db.session.remove()
        db.engine.dispose()


def make_tables(environment: dict[str, str]) -> None:
    """Migrate an empty database, and put nothing into it."""
    chosen = settings.load(environment)
    secret_keys.ensure_secret(chosen)
    with migrated(create_app(chosen)):
        pass
