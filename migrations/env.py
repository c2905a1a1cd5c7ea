"""Runs migrations over the application's own engine (Flask-Migrate)."""

from alembic import context
from flask import current_app

from core.database import db

engine = db.engine
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=db.metadata,
        **current_app.extensions["migrate"].configure_args,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
