"""The commands for pixels."""

from __future__ import annotations

import importlib
from typing import Any
from uuid import UUID

import click
from flask import current_app

from cli.commands import (
    Commands,
    as_json,
    base_url,
    confirm,
    loaded,
    main,
    pixel_named,
    print_rows,
    team_named,
    user_named,
    yes,
)
from models import Owner, Pixel
from people import accounts
from pixels import pixels


@main.group("pixels", cls=Commands)
def pixel_commands() -> None:
    """Create, list, rename, embed and delete pixels."""


@pixel_commands.command("create")
@click.argument("name")
@click.argument("slug")
@click.option("--user", "username", help="The owner; by default the first admin.")
@click.option("--team", "team_id", type=click.UUID, help="The team that owns it instead.")
def create_pixel(name: str, slug: str, username: str | None, team_id: UUID | None) -> None:
    """Create a pixel and print what to embed."""
    pixel = new_pixel(name, slug, username, team_id)
    click.echo(f"Created {pixel.name}: {pixel.id}")
    recipients = _recipients()
    click.echo(recipients.img_of(recipients.url_of(base_url(), pixel.slug)))


@pixel_commands.command("list")
@click.option("--search", default="", help="Part of a name or a slug.")
@as_json
def list_pixels(search: str, as_json: bool) -> None:
    """List all pixels with their hits, the newest first."""
    print_rows(
        (
            {
                "id": pixel.id,
                "name": pixel.name,
                "slug": pixel.slug,
                **({"owner": pixel.owner, "ownerName": owner} if as_json else {"owner": owner}),
                "hits": hits,
                "lastHitAt": last,
            }
            for pixel, owner, hits, last in pixels.with_hits(search)
        ),
        as_json,
    )


@pixel_commands.command("embed")
@click.argument("slug")
@click.option("--recipient", help="Sign a link for this recipient.")
def embed_pixel(slug: str, recipient: str | None) -> None:
    """Print the HTML to embed a pixel."""
    pixel = pixel_named(slug)
    values = loaded("EmbedArgs", {"recipient": recipient} if recipient else {})
    links, recipients = current_app.extensions["links"], _recipients()
    click.echo(recipients.embed(links, pixel, values["recipient"], None, base_url()).html)


@pixel_commands.command("rename")
@click.argument("slug")
@click.option("--name", help="The new name.")
@click.option("--slug", "new_slug", help="The new slug: mails with the old one are not counted.")
def rename_pixel(slug: str, name: str | None, new_slug: str | None) -> None:
    """Give a pixel another name, another slug, or both."""
    pixel = pixel_named(slug)
    chosen = {"name": name, "slug": new_slug}
    values = {field: value for field, value in chosen.items() if value is not None}
    if not values:
        raise click.ClickException("Say --name, --slug or both.")
    pixels.change(pixel, **loaded("PixelUpdate", values))
    click.echo(f"It is {pixel.name} at {pixel.slug} now.")
    if pixel.slug != slug:
        click.echo(f"Mails that carry {slug} are not counted any more.", err=True)


@pixel_commands.command("delete")
@click.argument("slug")
@yes
def delete_pixel(slug: str, yes: bool) -> None:
    """Delete a pixel and its hits."""
    pixel = pixel_named(slug)
    confirm(f"Delete {pixel.name} and all of its hits?", yes)
    pixels.remove(pixel)
    click.echo(f"Deleted {slug}.")


def new_pixel(name: str, slug: str, username: str | None, team_id: UUID | None) -> Pixel:
    """Create a pixel for a user or a team, by the rules of the API."""
    values = loaded("PixelUpdate", {"name": name, "slug": slug})
    if team_id:
        owner = Owner(team_id=team_named(team_id).id)
    else:
        user = user_named(username) if username else accounts.first_admin()
        owner = Owner(user_id=user.id)
    return pixels.create(values["name"], values["slug"], owner)


def _recipients() -> Any:
    """Return `pixels.recipients`, which counts: to load numpy takes as long as to list pixels."""
    return importlib.import_module("pixels.recipients")
