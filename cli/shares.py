"""The commands for shares: links to a pixel's figures, for people without an account."""

from __future__ import annotations

import click

from cli.commands import (
    Commands,
    as_json,
    base_url,
    confirm,
    loaded,
    main,
    pixel_named,
    print_rows,
    yes,
)
from core.lists import ListQuery
from models import Share
from pixels import shares


@main.group("shares", cls=Commands)
def share_commands() -> None:
    """List, create and end links that show a pixel's figures to people without an account."""


@share_commands.command("list")
@click.argument("slug")
@as_json
def list_shares(slug: str, as_json: bool) -> None:
    """List the shares of the pixel SLUG, the newest first."""
    found = shares.listing(pixel_named(slug), ListQuery(page_size=shares.SHARES_PER_PIXEL_MAX))
    print_rows(
        (
            {
                "slug": share.slug,
                "name": share.name,
                "url": _url_of(share),
                "createdAt": share.created_at,
            }
            for share in found.data
        ),
        as_json,
    )


@share_commands.command("create")
@click.argument("slug")
@click.argument("name")
def create_share(slug: str, name: str) -> None:
    """Share the figures of the pixel SLUG, and print the link."""
    values = loaded("ShareCreate", {"name": name})
    click.echo(_url_of(shares.create(pixel_named(slug), values["name"], values["parameters"])))


# One slug in 64 begins with a hyphen, and must not be taken for an option.
@share_commands.command("end", context_settings={"ignore_unknown_options": True})
@click.argument("share")
@yes
def end_share(share: str, yes: bool) -> None:
    """End the share whose link ends in SHARE."""
    found = shares.find_by_slug(share)
    confirm(f"End the share {found.name}? Its link shows nothing any more.", yes)
    shares.remove(found)
    click.echo(f"Ended {share}.")


def _url_of(share: Share) -> str:
    return f"{base_url()}/share/{share.slug}"
