"""The command that takes hits over from a file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
from flask import current_app

from cli.commands import file_in, main, pixel_named, printable
from core.clock import now, now_ms
from hits import operator_rules
from pixels import import_files
from pixels.import_files import FileRow, OtherRow, RefusedRow
from stats import folding
from upkeep import imports

BAD_ROWS_SHOWN_MAX = 20


@main.command("import")
@click.argument("slug")
@click.option(
    "--from",
    "kind",
    type=click.Choice(["csv", "jsonl", "umami"]),
    required=True,
    help="What wrote the file: `export`, or Umami (its CSV, or a dump of its PostgreSQL).",
)
@click.option("--website", type=click.UUID, help="Whose rows, if Umami's file has several.")
@click.option("--skip-bad", is_flag=True, help="Leave bad rows out instead of importing nothing.")
@click.argument("file", type=file_in)
def import_hits(slug: str, kind: str, website: object, skip_bad: bool, file: Path) -> None:
    """Take over the hits of FILE, at their instants; what was taken over before is left out.

    They are classified anew by their user agents. Webhooks are not told of them. Stop and start
    again as you like.
    """
    pixel = pixel_named(slug)
    chosen = str(website) if website else None
    if kind == "umami" and chosen is None and len(found := import_files.websites(file)) > 1:
        raise click.UsageError(f"The file has {len(found)} websites; choose one with --website.")
    started_ms = now_ms()
    rows, others = _checked(import_files.read(file, kind, started_ms, chosen), skip_bad)
    following = import_files.read(file, kind, started_ms, chosen)
    wanted = (row for row in following if isinstance(row, FileRow))
    rules = operator_rules.load(current_app.config["SETTINGS"].rules)
    stored = imports.store(pixel.number, wanted, current_app.extensions["links"], rules)
    hits = 0
    with click.progressbar(length=rows, label="Storing ", file=sys.stderr) as bar:
        for chunk in stored:
            hits += chunk.hits
            bar.update(chunk.rows)
    with click.progressbar(length=hits, label="Counting", file=sys.stderr) as bar:
        for count in folding.fold_what_is_there(pixel.number):
            bar.update(count)
    folding.finish(pixel.number, now())
    left_out = f"; {others} rows are another website's, or no views" if others else ""
    click.echo(f"Imported {hits} hits; {rows - hits} were there already{left_out}.")


def _checked(rows: Iterator[import_files.ImportRow], skip_bad: bool) -> tuple[int, int]:
    """Return how many rows are hits, and how many are nothing of ours; end at a bad one."""
    counts: Counter[type] = Counter()
    for row in rows:
        counts[type(row)] += 1
        if isinstance(row, RefusedRow):
            said = f"Line {row.line}: {printable(row.problem)}"
            if not skip_bad:
                raise click.ClickException(
                    f"{said} Nothing was imported; --skip-bad leaves such rows out."
                )
            if counts[RefusedRow] <= BAD_ROWS_SHOWN_MAX:
                click.echo(said, err=True)
    if counts[RefusedRow]:
        click.echo(f"Bad rows that are left out: {counts[RefusedRow]}.", err=True)
    return counts[FileRow], counts[OtherRow]
