"""The commands for pixels and their recipients."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from uuid import UUID

import click
from flask import current_app
from marshmallow import ValidationError
from sqlalchemy import select

from cli.commands import (
    Commands,
    as_json,
    base_url,
    confirm,
    file_in,
    file_out,
    loaded,
    main,
    pixel_named,
    print_rows,
    team_named,
    user_named,
    yes,
)
from core.database import db
from core.fields import SentAtField, iso
from core.permissions import Role
from models import Pixel, User
from pixels import mail_merge, pixels, recipients
from schemas import EmbedArgs, PixelUpdate, RecipientOut


@main.group("pixels", cls=Commands)
def pixel_commands() -> None:
    """Create, list, embed and delete pixels."""


@pixel_commands.command("create")
@click.argument("name")
@click.argument("slug")
@click.option("--user", "username", help="The owner; the first admin unless given.")
@click.option("--team", "team_id", type=click.UUID, help="The team that owns it instead.")
def create_pixel(name: str, slug: str, username: str | None, team_id: UUID | None) -> None:
    """Create a pixel and print what to embed."""
    pixel = pixels.create(new_pixel(name, slug, username, team_id))
    click.echo(f"Created {pixel.name}: {pixel.id}")
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
                "owner": pixel.team_id or pixel.user_id,
                "hits": hits,
                "lastHitAt": last and iso(last),
            }
            for pixel, hits, last in pixels.with_hits(search)
        ),
        as_json,
    )


@pixel_commands.command("embed")
@click.argument("slug")
@click.option("--recipient", help="Sign a link for this recipient.")
def embed_pixel(slug: str, recipient: str | None) -> None:
    """Print the HTML to embed a pixel."""
    pixel = pixel_named(slug)
    given = loaded(EmbedArgs(), {"recipient": recipient} if recipient else {})
    links = current_app.extensions["links"]
    click.echo(recipients.embed(links, pixel, given["recipient"], None, base_url()).html)


@main.group("recipients", cls=Commands)
def recipient_commands() -> None:
    """Sign links for recipients, and list who has opened."""


@recipient_commands.command("links")
@click.argument("slug")
@click.option("--csv", "path", type=file_in, required=True, help="The CSV with the recipients.")
@click.option("--out", type=file_out, required=True, help="The CSV to write.")
@click.option("--column", help="The column that has the recipients; the first unless given.")
@click.option("--sent-at", help="When the mail is sent, ISO 8601; hits at once are prefetches.")
@click.option("--encoding", help="The CSV's encoding, as cp1252; UTF-8 or by its byte order mark.")
def merge_links(
    slug: str,
    path: Path,
    out: Path,
    column: str | None,
    sent_at: str | None,
    encoding: str | None,
) -> None:
    """Sign a link for each row of a CSV, and write it with two more columns: url and html."""
    pixel = pixel_named(slug)
    sent = _sent_at(sent_at)
    if not current_app.config["SETTINGS"].public_url:
        click.echo(f"PIXELKEEP_PUBLIC_URL is not set: the links go to {base_url()}.", err=True)

    def issue(names: list[str]) -> list[recipients.Link]:
        return recipients.issue(current_app.extensions["links"], pixel, names, sent, base_url())

    try:
        sheet = mail_merge.open_sheet(path, column, encoding)
        count = sum(1 for _ in sheet.rows())
        with click.progressbar(length=count, label="Signing", file=sys.stderr) as bar:
            mail_merge.merge(sheet, out, issue, bar.update)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    except mail_merge.SheetError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Wrote {count} links to {out}.")


@recipient_commands.command("list")
@click.argument("slug")
@click.option("--search", default="", help="Part of a recipient.")
@as_json
def list_recipients(slug: str, search: str, as_json: bool) -> None:
    """List a pixel's recipients with their hits, the last to open first."""
    shape = RecipientOut()
    print_rows((shape.dump(each) for each in recipients.every(pixel_named(slug), search)), as_json)


@pixel_commands.command("delete")
@click.argument("slug")
@yes
def delete_pixel(slug: str, yes: bool) -> None:
    """Delete a pixel and its hits."""
    pixel = pixel_named(slug)
    confirm(f"Delete {pixel.name} and all of its hits?", yes)
    pixels.remove(pixel)
    click.echo(f"Deleted {slug}.")


def _sent_at(text: str | None) -> datetime | None:
    try:
        return SentAtField(allow_none=True).deserialize(text)
    except ValidationError as error:
        raise click.ClickException(f"--sent-at: {error.messages[0]}") from None


def new_pixel(name: str, slug: str, username: str | None, team_id: UUID | None) -> Pixel:
    """Create a pixel for a user or a team, by the rules of the API."""
    named = loaded(PixelUpdate(), {"name": name, "slug": slug})
    if team_id:
        return Pixel(**named, team_id=team_named(team_id).id)
    if username:
        return Pixel(**named, user_id=user_named(username).id)
    first_admin = select(User).where(User.role == Role.ADMIN).order_by(User.created_at).limit(1)
    return Pixel(**named, user_id=db.session.scalars(first_admin).one().id)
