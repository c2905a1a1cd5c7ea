"""Commands for hits that a wrong clock has dated."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from cli.commands import Commands, as_json, confirm, main, pixel_named, print_rows, yes
from upkeep import redating
from upkeep.redating import PixelHits, Span

_LENGTH = re.compile(r"([+-]?)(\d{1,9})(ms|[smhd])")
_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


class Length(click.ParamType[timedelta]):
    """A length of time: a number and its unit, as in `-2d`."""

    name = "length"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        """Return the length of time that `value` says."""
        found = _LENGTH.fullmatch(value)
        if not found:
            self.fail(f"{value!r} is not a number with one of ms, s, m, h, d, as in -2d.")
        length = int(found[2]) * _UNITS[found[3]]
        return -length if found[1] == "-" else length


def _range(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which hits."""
    instant = click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"])
    for option in (
        click.option("--to", "end", type=instant, help="The last instant, in UTC; default none."),
        click.option("--from", "start", type=instant, help="The first, in UTC; default now."),
        click.option("--pixel", "slug", help="Only of the pixel with this slug."),
    ):
        command = option(command)
    return command


@main.group(cls=Commands)
def hits() -> None:
    """List hits that lie in the future, and redate or remove them.

    A clock that was wrong for a while dates the hits that were committed meanwhile. Those of one
    that was behind are named by --from and --to.
    """


@hits.command("future")
@_range
@as_json
def list_future(
    slug: str | None, start: datetime | None, end: datetime | None, as_json: bool
) -> None:
    """List the pixels that have hits in the future: how many, the first and the last."""
    found = list(redating.find(*_chosen(slug, start, end)))
    if not found and not as_json:
        click.echo("No hits lie in the future." if start is None else "No hits lie there.")
        return
    rows = [
        {
            "slug": pixel_hits.pixel.slug,
            "hits": pixel_hits.hits,
            "first": pixel_hits.first,
            "last": pixel_hits.last,
        }
        for pixel_hits in found
    ]
    print_rows(rows, as_json)


@hits.command("redate")
@click.option("--by", type=Length(), required=True, help="How far, as in -400d, -2h or +90s.")
@_range
@yes
def redate(
    by: timedelta, slug: str | None, start: datetime | None, end: datetime | None, yes: bool
) -> None:
    """Move hits in time: by default those that lie in the future."""
    chosen, found = _found(slug, start, end)
    count = sum(pixel_hits.hits for pixel_hits in found)
    confirm(f"Move {count} hits of {len(found)} pixels by {by}?", yes)
    _run((redating.redate(pixel_hits.pixel, chosen, by) for pixel_hits in found), count)
    click.echo(f"Moved {count} hits.")


@hits.command("remove")
@_range
@yes
def remove(slug: str | None, start: datetime | None, end: datetime | None, yes: bool) -> None:
    """Delete hits for good: by default those that lie in the future."""
    chosen, found = _found(slug, start, end)
    count = sum(pixel_hits.hits for pixel_hits in found)
    confirm(f"Delete {count} hits of {len(found)} pixels for good?", yes)
    _run((redating.remove(pixel_hits.pixel, chosen) for pixel_hits in found), count)
    click.echo(f"Deleted {count} hits.")


def _chosen(slug: str | None, start: datetime | None, end: datetime | None) -> tuple[Span, Any]:
    start, end = (instant and instant.replace(tzinfo=UTC) for instant in (start, end))
    return redating.span(start, end), pixel_named(slug) if slug is not None else None


def _found(
    slug: str | None, start: datetime | None, end: datetime | None
) -> tuple[Span, list[PixelHits]]:
    chosen, pixel = _chosen(slug, start, end)
    return chosen, list(redating.find(chosen, pixel))


def _run(of_pixels: Iterator[Iterator[int]], count: int) -> None:
    with click.progressbar(length=count, file=sys.stderr) as bar:
        for chunks in of_pixels:
            for done in chunks:
                bar.update(done)
