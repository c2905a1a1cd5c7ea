"""The commands that answer questions: statistics and exports."""

from __future__ import annotations

import difflib
import re
import sys
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from cli.commands import as_json, file_out, main, pixel_named, print_rows, span
from core.clock import now
from core.files import whole_file
from pixels import exports
from stats import dimensions, questions, shapes

days_back = click.option(
    "--days", type=click.IntRange(1, 36_500), default=30, help="How far back; by default 30."
)
hit_class = click.option(
    "--class",
    "hit_class",
    type=click.Choice(["open", "prefetch", "bot", "all"]),
    default="open",
    help="Which hits; by default opens.",
)


class Dimension(click.Choice[str]):
    """A dimension by its name; one that is spelled in another way is suggested."""

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the dimension that `value` names."""
        if value not in self.choices:
            bare = {name.casefold(): name for name in self.choices}
            spelled = re.sub(r"[\W_]", "", str(value)).casefold()
            near = difflib.get_close_matches(spelled, bare, n=1)
            if near:
                self.fail(f"{value!r} is none; did you mean {bare[near[0]]}?", param, ctx)
        return super().convert(value, param, ctx)


@main.command("stats")
@click.argument("slug")
@days_back
@hit_class
@click.option("--by", type=Dimension(list(dimensions.DIMENSIONS)), help="Break the totals down.")
@click.option("--limit", type=click.IntRange(1), default=20, help="How many values of --by.")
@as_json
def show_stats(
    slug: str, days: int, hit_class: str, by: str | None, limit: int, as_json: bool
) -> None:
    """Show a pixel's opens, and how many of them are unique."""
    question = _question(slug, days, hit_class)
    totals = questions.totals(question)
    if by:
        found = questions.breakdown(question, by, limit=limit, offset=0)
        rows = (
            row._asdict() if as_json else {by: row.name, **_in_words(shapes.Totals(*row[1:]))}
            for row in found
        )
        print_rows(rows, as_json)
    else:
        print_rows([totals._asdict() if as_json else _in_words(totals)], as_json)
    if not totals.pageviews:
        _tell_of_other_classes(question)


def _in_words(totals: shapes.Totals) -> dict[str, object]:
    """Return totals in words of mail, with their units."""
    return {
        "opens": totals.pageviews,
        "unique opens": totals.visitors,
        "hours with opens": totals.visits,
        "of one open": totals.bounces,
        "time between opens": span(totals.totaltime),
    }


def _tell_of_other_classes(question: shapes.Question) -> None:
    """Say where the hits are when none is of the class: an attempt with curl is a bot."""
    others = questions.totals(replace(question, hit_class="all")).pageviews
    if others:
        click.echo(f"Hits of other classes: {others}; `--class all` counts them.", err=True)


@main.command("export")
@click.argument("slug")
@days_back
@hit_class
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "jsonl"]),
    default="csv",
    show_default=True,
    help="A table, or an object of JSON on each line.",
)
@click.option("--out", type=file_out, default="-", help="The file to write; - is standard output.")
def export_hits(slug: str, days: int, hit_class: str, kind: str, out: Path) -> None:
    """Write a pixel's hits, the oldest first, to a file or to standard output."""
    rows = exports.hits(pixel_named(slug), _question(slug, days, hit_class))
    parts = exports.as_csv(rows, exports.HIT_COLUMNS) if kind == "csv" else None
    try:
        with nullcontext(sys.stdout) if str(out) == "-" else whole_file(out) as file:
            for part in parts or exports.as_json_lines(rows):
                file.write(part)
    except OSError as error:
        # Of standard output there is no name to tell; `run` says what is wrong.
        if str(out) == "-":
            raise
        raise click.ClickException(f"{out} can't be written: {error.strerror}") from None


def _question(slug: str, days: int, hit_class: str) -> shapes.Question:
    at = now()
    return shapes.Question(pixel_named(slug).number, at - timedelta(days=days), at, hit_class)
