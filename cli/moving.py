"""The command that takes everything into another database."""

from __future__ import annotations

import sys
from dataclasses import replace

import click
from flask import Flask, current_app

from cli.commands import confirm, main, yes
from core import settings
from core.application import configure
from core.database import db
from core.migrations import migration_problem
from core.settings import PREFIX, Settings
from server.prepare import migrated
from upkeep import moving


@main.command("move")
@click.option("--to", "url", required=True, metavar="URL", help="An empty database's.")
@yes
def move(url: str, yes: bool) -> None:
    """Copy everything into an empty SQLite or PostgreSQL database; stop the server first.

    The copy is compared with what it was made of before it counts. Until then nothing has changed
    in either database, whatever happens.
    """
    chosen: Settings = current_app.config["SETTINGS"]
    other = settings.load({f"{PREFIX}DATABASE_URL": url}).database_url
    if other == chosen.sqlalchemy_url:
        raise click.ClickException("That is the database itself.")
    behind = migration_problem()
    if behind:
        raise click.ClickException(behind)
    confirm("Is the server stopped, on every node? Images are answered 503 meanwhile.", yes)
    source = db.engine
    count = moving.count_rows(source)
    target_app = Flask("target")
    configure(target_app, replace(chosen, database_url=other))
    with migrated(target_app):
        target = db.engine
        moving.refuse_used(target)
        with click.progressbar(length=count, label="Moving", file=sys.stderr) as bar:
            moving.move(source, target, bar.update)
    click.echo(f"Moved {count} rows; what is there now was compared with what was here.")
    click.echo(
        f"Set {PREFIX}DATABASE_URL to this URL and start the server; leave {PREFIX}DATA_DIR"
        f" ({chosen.data_dir}) as it is, whose secret_key signs the links that were sent."
    )
    click.echo("The old database is as it was, but for the day's salt; remove it once all is well.")
