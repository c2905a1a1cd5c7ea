"""Runs migrations over the application's own engine, however long they take."""

from alembic import context

from core.database import db, patient

# How long a migration waits for a table that others use; those that come meanwhile wait for it.
LOCK_TIMEOUT_MS = 600_000

engine = db.engine
with engine.connect() as connection, patient(connection, LOCK_TIMEOUT_MS):
    context.configure(
        connection=connection,
        # Constraints are named as the models name theirs.
        target_metadata=db.metadata,
        # Alembic expects no transaction of SQLite's to cover tables, and would commit after each
        # migration: one that fails would leave tables that no release has.
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
