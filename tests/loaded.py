"""What commands and servers of the tests are forks of: the code, loaded and ready.

A fork shares the memory of this for as long as neither writes to it, and the collector writes to
all that it looks at.
"""

from __future__ import annotations

import gc
from importlib import import_module

from sqlalchemy.orm import configure_mappers

from cli.run import COMMANDS

# `wsgi` is left out: it builds the application of an environment. The last are gunicorn's choice,
# and the database's.
MODULES = (
    *(f"cli.{module}" for module in sorted({module for module, _ in COMMANDS.values()})),
    *("app", "alembic.command", "server.prepare", "server.start", "server.worker"),
    *("server.housekeeping", "server.burst_watch", "server.webhook_sender"),
    *("gunicorn.arbiter", "sqlalchemy.dialects.sqlite.pysqlite"),
    *("sqlalchemy.dialects.postgresql.psycopg", "psycopg", "pysqlite3"),
)

for name in MODULES:
    import_module(name)
configure_mappers()
gc.collect()
gc.freeze()
