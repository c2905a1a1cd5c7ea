"""The commands for mailings: how one did, and several side by side."""

from __future__ import annotations

import json
from typing import Any

import click

from cli.commands import Commands, as_json, main, pixel_named, print_record, print_rows, span
from pixels import mailings, pixels
from pixels.mailings import Mailing
from schemas import MailingOut, MailingWithHours

# The hours after which `compare` says how many had opened.
COMPARED_HOURS = (1, 3, 6, 12, 24, 48, 168)


@main.group("mailings", cls=Commands)
def mailing_commands() -> None:
    """Show how mailings did: sent, opened, when."""


@mailing_commands.command("list")
@as_json
def list_mailings(as_json: bool) -> None:
    """List all pixels' mailings, the last sent first."""
    found = pixels.last_sent_first()
    if as_json:
        shape = MailingOut()
        print_rows((shape.dump(mailings.of_pixel(pixel)) for pixel in found), as_json)
    else:
        print_rows(
            ({"slug": pixel.slug, **_told(mailings.of_pixel(pixel))} for pixel in found), False
        )


@mailing_commands.command("show")
@click.argument("slug")
@as_json
def show_mailing(slug: str, as_json: bool) -> None:
    """Show how a pixel's mailing did."""
    pixel = pixel_named(slug)
    mailing, hours = mailings.of_pixel(pixel), mailings.hours_of(pixel)
    if as_json:
        shown = MailingWithHours().dump({**mailing._asdict(), "hours": hours})
        click.echo(json.dumps(shown, indent=2))
        return
    after = {f"opened after {count} h": opened for count, opened in _after(hours)}
    print_record({**_told(mailing), **after}, width=22)


@mailing_commands.command("compare")
@click.argument("slugs", nargs=-1, required=True)
@as_json
def compare_mailings(slugs: tuple[str, ...], as_json: bool) -> None:
    """Show several mailings side by side, and how many had opened hours after sending."""
    found = [pixel_named(slug) for slug in slugs]
    rows = []
    for pixel in found:
        mailing, hours = mailings.of_pixel(pixel), mailings.hours_of(pixel)
        if as_json:
            rows.append(MailingWithHours().dump({**mailing._asdict(), "hours": hours}))
        else:
            after = {f"after {count} h": opened for count, opened in _after(hours)}
            missing = {f"after {count} h": None for count in COMPARED_HOURS}
            rows.append({"slug": pixel.slug, **_told(mailing), **missing, **after})
    print_rows(rows, as_json)


def _told(mailing: Mailing) -> dict[str, Any]:
    """Return a mailing's figures with their units, in words of mail."""
    rate, median = mailing.open_rate, mailing.median_seconds_to_open
    return {
        "sent at": mailing.sent_at,
        "sent": mailing.sent,
        "opened": mailing.opened,
        "machine only": mailing.machine,
        "not opened": mailing.unopened,
        "open rate": None if rate is None else f"{rate:.1%}",
        "opens": mailing.opens,
        "first open": mailing.first_opened_at,
        "median time to open": None if median is None else span(median),
    }


def _after(hours: list[mailings.Hour]) -> list[tuple[int, int]]:
    """Return how many had opened after some hours."""
    opened = [hour.opened for hour in hours]
    return [(count, sum(opened[:count])) for count in COMPARED_HOURS] if hours else []
