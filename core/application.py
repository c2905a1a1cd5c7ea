"""What the service and the operator's commands build on: settings, keys, database, links.

A command needs no more of the application than this, and starts in half the time without the rest.
"""

from __future__ import annotations

from flask import Flask

from core.database import db, engine_options, prepare_engine
from core.links import Links
from core.settings import Settings


def configure(app: Flask, settings: Settings) -> None:
    """Give an application its settings, keys, database and links; connects to nothing yet.

    Raises: SettingsError where there is no signing key.
    """
    secret_keys = settings.secret_keys()
    app.config.update(
        SETTINGS=settings,
        SECRET_KEY=secret_keys[-1],
        SECRET_KEY_FALLBACKS=secret_keys[:-1],
        SECRET_KEYS=secret_keys,
        SQLALCHEMY_DATABASE_URI=settings.sqlalchemy_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(settings),
    )
    db.init_app(app)
    with app.app_context():
        prepare_engine(db.engine, settings)
    app.extensions["links"] = Links(secret_keys)
