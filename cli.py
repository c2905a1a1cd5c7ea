"""The operator's commands: a thin front to Flask's own command line.

What lists prints a table, or JSON with `--json`; what destroys asks first, or takes `--yes`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from flask import Flask, current_app
from flask.cli import AppGroup, ScriptInfo
from marshmallow import Schema, ValidationError
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

import accounts
import backup
import demo
import exports
import mailmerge
import pixels
import recipients
import reclassify
import retention
import segments
import settings as settings_table
import stats
from app import create_app
from backup import BackupError
from classify import RULES_VERSION
from database import db, has_wal_reset_bug, now, probe_write, sqlite_file, sqlite_version
from errors import DomainError
from first_start import migration_problem
from models import ApiKey, Pixel, Team, TeamUser, User
from permissions import Role, TeamRole
from schemas import (
    ApiKeyCreate,
    EmbedArgs,
    PixelUpdate,
    RecipientOut,
    SentField,
    TeamCreate,
    UserCreate,
    iso,
)
from settings import PREFIX, Settings, SettingsError

DISK_FREE_BYTES_MIN = 100 * 1024 * 1024

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
_file_in = click.Path(exists=True, dir_okay=False, path_type=Path)
_file_out = click.Path(dir_okay=False, writable=True, path_type=Path)
days_back = click.option(
    "--days", type=click.IntRange(1, 36_500), default=30, help="How far back; 30 unless given."
)
hit_class = click.option(
    "--class",
    "hit_class",
    type=click.Choice(["open", "prefetch", "bot", "all"]),
    default="open",
    help="Which hits; opens unless given.",
)
yes = click.option("--yes", is_flag=True, help="Don't ask.")


class Commands(AppGroup):
    """A group whose commands run in the application's context."""


main = Commands(
    "pixelkeep",
    help="Users, keys, teams, pixels and checks of this Pixelkeep.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def run() -> None:
    """Run the command line; what goes wrong is one line on standard error."""
    try:
        main(obj=ScriptInfo(create_app=_create_app), prog_name="script/pixelkeep")
    except (SettingsError, DomainError, BackupError) as error:
        sys.exit(f"pixelkeep: {error}")
    except SQLAlchemyError as error:
        words = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        sys.exit(f"pixelkeep: The database can't be used: {words}. `script/server` sets it up.")


def _create_app() -> Flask:
    return create_app(settings_table.load(os.environ))


@main.command("settings", with_appcontext=False)
@as_json
def show_settings(as_json: bool) -> None:
    """List every setting: name, value in use, default, meaning."""
    chosen = settings_table.load(os.environ)
    rows = []
    for each in fields(Settings):
        value = getattr(chosen, each.name)
        hidden = each.metadata["secret"] and value
        default = each.metadata["shown"]
        in_use = "(set)" if hidden else default if value == each.default else value
        rows.append(
            {
                "name": PREFIX + each.name.upper(),
                "value": str(int(in_use) if isinstance(in_use, bool) else in_use),
                "default": default,
                "meaning": each.metadata["meaning"],
            }
        )
    _print(rows, as_json)


@main.command()
def check() -> None:
    """Check settings, database, SQLite's version, migrations and disk; exit 1 if any fails."""
    found = [
        ("settings", None),
        ("database", probe_write()),
        ("migrations", migration_problem()),
        ("SQLite", _sqlite_problem()),
        ("disk", _disk_problem()),
        ("rules", _rules_problem()),
    ]
    for name, problem in found:
        click.echo(f"{name:<12}{problem or 'ok'}")
    if any(problem for _, problem in found):
        sys.exit(1)


@main.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
def back_up(file: Path) -> None:
    """Copy the SQLite database into FILE, while it is served; keep `secret_key` beside it."""
    size = backup.back_up(db.engine, file)
    click.echo(f"{file}: {size / 1024**2:.1f} MiB")


@main.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@yes
def restore(file: Path, yes: bool) -> None:
    """Make the SQLite database what the backup FILE holds; a running server goes on with it."""
    _confirm(f"Replace everything stored by what {file} holds?", yes)
    backup.restore(db.engine, file)
    click.echo("Restored.")


@main.group(cls=Commands)
def secret() -> None:
    """Rotate the key that signs tokens, API keys and links."""


@secret.command("rotate")
@click.option("--drop-old", is_flag=True, help="End all that older keys have signed.")
@yes
def rotate_secret(drop_old: bool, yes: bool) -> None:
    """Make a new signing key; older ones go on verifying unless they are dropped.

    Restart every server afterwards: each goes on with the keys that it started with.
    """
    if drop_old:
        _confirm(
            "End every token, session, API key and share token, and make every signed link that"
            " was ever mailed a hit without its recipient?",
            yes,
        )
    settings_table.rotate_secret(current_app.config["SETTINGS"], drop_old=drop_old)
    click.echo(
        "There is a new signing key. Restart the server, on every node, before you sign links or"
        " make keys here: it doesn't know the new key yet."
    )


@main.group(cls=Commands)
def users() -> None:
    """Create, list and delete users."""


@users.command("create")
@click.argument("username")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.USER.value)
@click.option("--password", prompt=True, hide_input=True, confirmation_prompt=True)
def create_user(username: str, role: str, password: str) -> None:
    """Create a user; the password is asked for unless given."""
    given = _loaded(UserCreate(), {"username": username, "password": password, "role": role})
    user = accounts.create_user(given["username"], given["password"], Role(role))
    click.echo(f"Created {role} {user.username}: {user.id}")


@users.command("list")
@as_json
def list_users(as_json: bool) -> None:
    """List all users by name."""
    statement = select(User).order_by(User.username)
    _print(
        (
            {
                "id": user.id,
                "username": user.username,
                "role": user.role,
                "createdAt": iso(user.created_at),
            }
            for user in db.session.scalars(statement)
        ),
        as_json,
    )


@users.command("delete")
@click.argument("username")
@yes
def delete_user(username: str, yes: bool) -> None:
    """Delete a user and their personal pixels; a team's pixels stay."""
    user = _user(username)
    _confirm(f"Delete {username} and all of their personal pixels?", yes)
    accounts.remove_user(user)
    click.echo(f"Deleted {username}.")


@main.group(cls=Commands)
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command("create")
@click.argument("username")
@click.argument("name")
def create_key(username: str, name: str) -> None:
    """Create an API key for a user; it is printed this once."""
    given = _loaded(ApiKeyCreate(), {"name": name})
    _, key = accounts.create_key(_user(username), given["name"])
    click.echo(key)


@keys.command("list")
@as_json
def list_keys(as_json: bool) -> None:
    """List all API keys, never the keys themselves."""
    statement = select(ApiKey).join(User).order_by(User.username, ApiKey.created_at)
    _print(
        (
            {
                "id": key.id,
                "username": key.user.username,
                "name": key.name,
                "keyPrefix": key.key_prefix,
                "createdAt": iso(key.created_at),
                "lastUsedOn": key.last_used_on,
            }
            for key in db.session.scalars(statement)
        ),
        as_json,
    )


@keys.command("revoke")
@click.argument("username")
@click.argument("key_id", type=click.UUID)
@yes
def revoke_key(username: str, key_id: UUID, yes: bool) -> None:
    """End an API key at once."""
    _confirm("Revoke the key?", yes)
    accounts.revoke_key(_user(username), key_id)
    click.echo("Revoked.")


@main.group(cls=Commands)
def teams() -> None:
    """Create, list and delete teams, and their members."""


@teams.command("create")
@click.argument("name")
@click.option("--owner", required=True, help="The owner's username.")
def create_team(name: str, owner: str) -> None:
    """Create a team."""
    given = _loaded(TeamCreate(), {"name": name})
    team, _ = accounts.create_team(given["name"], _user(owner))
    click.echo(f"Created {team.name}: {team.id}, access code {team.access_code}")


@teams.command("list")
@as_json
def list_teams(as_json: bool) -> None:
    """List all teams with the number of their members."""
    count = select(func.count()).where(TeamUser.team_id == Team.id).scalar_subquery()
    _print(
        (
            {
                "id": team.id,
                "name": team.name,
                "members": members,
                "createdAt": iso(team.created_at),
            }
            for team, members in db.session.execute(select(Team, count).order_by(Team.name))
        ),
        as_json,
    )


@teams.command("members")
@click.argument("team_id", type=click.UUID)
@as_json
def list_members(team_id: UUID, as_json: bool) -> None:
    """List the members of a team."""
    statement = select(TeamUser).where(TeamUser.team_id == _team(team_id).id)
    _print(
        (
            {"userId": each.user_id, "username": each.user.username, "role": each.role}
            for each in db.session.scalars(statement.order_by(TeamUser.created_at))
        ),
        as_json,
    )


@teams.command("add")
@click.argument("team_id", type=click.UUID)
@click.argument("username")
@click.option(
    "--role",
    type=click.Choice([role.value for role in TeamRole]),
    default=TeamRole.MEMBER.value,
)
def add_member(team_id: UUID, username: str, role: str) -> None:
    """Add a user to a team, or change their role in it."""
    accounts.set_member(_team(team_id), _user(username), TeamRole(role))
    click.echo(f"{username} is {role}.")


@teams.command("remove")
@click.argument("team_id", type=click.UUID)
@click.argument("username")
@yes
def remove_member(team_id: UUID, username: str, yes: bool) -> None:
    """Take a user out of a team."""
    _confirm(f"Take {username} out of the team?", yes)
    accounts.remove_member(_team(team_id), _user(username).id)
    click.echo(f"{username} is out.")


@teams.command("delete")
@click.argument("team_id", type=click.UUID)
@yes
def delete_team(team_id: UUID, yes: bool) -> None:
    """Delete a team and all of its pixels."""
    team = _team(team_id)
    _confirm(f"Delete {team.name} and all of its pixels?", yes)
    accounts.remove_team(team)
    click.echo(f"Deleted {team.name}.")


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
    pixel = pixels.create(_new_pixel(name, slug, username, team_id))
    click.echo(f"Created {pixel.name}: {pixel.id}")
    click.echo(recipients.img_of(recipients.url_of(_base(), pixel.slug)))


@pixel_commands.command("list")
@click.option("--search", default="", help="Part of a name or a slug.")
@as_json
def list_pixels(search: str, as_json: bool) -> None:
    """List all pixels with their hits, the newest first."""
    _print(
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
    pixel = _pixel(slug)
    given = _loaded(EmbedArgs(), {"recipient": recipient} if recipient else {})
    links = current_app.extensions["links"]
    click.echo(recipients.embed(links, pixel, given["recipient"], None, _base()).html)


@main.group("recipients", cls=Commands)
def recipient_commands() -> None:
    """Sign links for recipients, and list who has opened."""


@recipient_commands.command("links")
@click.argument("slug")
@click.option("--csv", "path", type=_file_in, required=True, help="The CSV with the recipients.")
@click.option("--out", type=_file_out, required=True, help="The CSV to write.")
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
    pixel = _pixel(slug)
    sent = _sent_at(sent_at)
    if not current_app.config["SETTINGS"].public_url:
        click.echo(f"PIXELKEEP_PUBLIC_URL is not set: the links go to {_base()}.", err=True)

    def issue(names: list[str]) -> list[recipients.Link]:
        return recipients.issue(current_app.extensions["links"], pixel, names, sent, _base())

    try:
        sheet = mailmerge.open_sheet(path, column, encoding)
        count = sum(1 for _ in sheet.rows())
        with click.progressbar(length=count, label="Signing", file=sys.stderr) as bar:
            mailmerge.merge(sheet, out, issue, bar.update)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    except mailmerge.SheetError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Wrote {count} links to {out}.")


@recipient_commands.command("list")
@click.argument("slug")
@click.option("--search", default="", help="Part of a recipient.")
@as_json
def list_recipients(slug: str, search: str, as_json: bool) -> None:
    """List a pixel's recipients with their hits, the last to open first."""
    shape = RecipientOut()
    _print((shape.dump(each) for each in recipients.every(_pixel(slug), search)), as_json)


@pixel_commands.command("delete")
@click.argument("slug")
@yes
def delete_pixel(slug: str, yes: bool) -> None:
    """Delete a pixel and its hits."""
    pixel = _pixel(slug)
    _confirm(f"Delete {pixel.name} and all of its hits?", yes)
    pixels.remove(pixel)
    click.echo(f"Deleted {slug}.")


@main.command("stats")
@click.argument("slug")
@days_back
@hit_class
@click.option("--by", type=click.Choice(stats.DIMENSIONS), help="Break the totals down.")
@click.option("--limit", type=click.IntRange(1), default=20, help="How many values of --by.")
@as_json
def show_stats(
    slug: str, days: int, hit_class: str, by: str | None, limit: int, as_json: bool
) -> None:
    """Show what a pixel's hits come to: views, visitors, visits, bounces, seconds."""
    question = _question(slug, days, hit_class)
    totals = stats.totals(question)
    if by:
        rows = stats.breakdown(question, by, limit=limit, offset=0)
        _print((row._asdict() for row in rows), as_json)
    else:
        _print([totals._asdict()], as_json)
    if not totals.pageviews:
        _tell_of_other_classes(question)


def _tell_of_other_classes(question: stats.Question) -> None:
    """Say where the hits are when none is of the class: who tries with curl is a bot."""
    others = stats.totals(replace(question, hit_class="all")).pageviews
    if others:
        click.echo(f"Hits of other classes: {others}; `--class all` counts them.", err=True)


@main.command("export")
@click.argument("slug")
@days_back
@hit_class
@click.option("--format", "kind", type=click.Choice(["csv", "jsonl"]), default="csv")
@click.option("--out", type=_file_out, default="-", help="The file to write; - is standard output.")
def export_hits(slug: str, days: int, hit_class: str, kind: str, out: Path) -> None:
    """Write a pixel's hits, the oldest first, to a file or to standard output."""
    rows = exports.hits(_pixel(slug), _question(slug, days, hit_class))
    parts = exports.as_csv(rows, exports.HIT_COLUMNS) if kind == "csv" else None
    try:
        with nullcontext(sys.stdout) if str(out) == "-" else mailmerge.whole_file(out) as file:
            for part in parts or exports.as_json_lines(rows):
                file.write(part)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise click.ClickException(f"{out} can't be written: {error.strerror}") from None


@main.command()
@click.option(
    "--days",
    type=click.IntRange(1, 36_500),
    help="Keep so many days; PIXELKEEP_RETENTION_DAYS.",
)
@yes
def prune(days: int | None, yes: bool) -> None:
    """Delete old hits, keep their daily totals; and finish what deleted pixels left."""
    for _ in retention.finish_erasures():
        pass
    days = days or current_app.config["SETTINGS"].retention_days
    if not days:
        click.echo("All hits are kept: PIXELKEEP_RETENTION_DAYS is 0, and --days is not given.")
        return
    before_day = retention.day_of(now()) - days
    count = retention.count_hits_before(before_day)
    _confirm(f"Delete {count} hits older than {days} days? Their daily totals stay.", yes)
    with click.progressbar(length=count, label="Pruning", file=sys.stderr) as bar:
        for pruned in retention.prune(before_day):
            bar.update(pruned)
    click.echo(f"Deleted {count} hits.")


@main.command("reclassify")
def reclassify_hits() -> None:
    """Classify the stored hits again by today's rules; stop and start again as you like."""
    count = reclassify.count_outdated()
    with click.progressbar(length=count, label="Classifying", file=sys.stderr) as bar:
        for done in reclassify.reclassify():
            bar.update(done)
    click.echo(f"{count} kinds of hits went through the rules of version {RULES_VERSION}.")


@main.command("demo")
@click.option("--slug", default="demo", show_default=True, help="The slug of a new pixel.")
@click.option("--hits", type=click.IntRange(1, 100_000_000), default=100_000, show_default=True)
@click.option("--days", type=click.IntRange(1, 3_650), default=31, show_default=True)
@click.option("--visitors", type=click.IntRange(1, 100_000_000), help="A tenth of the hits.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same hits."
)
def fill_demo(slug: str, hits: int, days: int, visitors: int | None, seed: int) -> None:
    """Fill a pixel with made-up hits, to look around or to measure."""
    found = db.session.scalar(select(Pixel).where(Pixel.slug == slug))
    pixel = found or pixels.create(_new_pixel(slug, slug, None, None))
    chunks = demo.fill(
        pixel,
        hits=hits,
        days=days,
        visitors=visitors or max(hits // 10, 1),
        seed=seed,
        now=now(),
    )
    with click.progressbar(length=hits, label="Storing ", file=sys.stderr) as bar:
        for count in chunks:
            bar.update(count)
    with click.progressbar(length=hits, label="Counting", file=sys.stderr) as bar:
        while count := segments.fold(pixel.number, demo.FOLDED_AT_ONCE):
            bar.update(count)
    click.echo(f"{pixel.slug} has {hits} hits of {days} days.")


def _print(rows: Iterable[dict[str, Any]], as_json: bool) -> None:
    """Print rows of one shape as JSON or as a table."""
    listed = list(rows)
    if as_json:
        click.echo(json.dumps(listed, indent=2, default=str, ensure_ascii=False))
    elif not listed:
        click.echo("None.")
    else:
        _print_table(
            [list(listed[0]), *([_cell(value) for value in row.values()] for row in listed)]
        )


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _cell(value: object) -> str:
    return "-" if value is None else str(value)


def _confirm(question: str, yes: bool) -> None:
    if not yes:
        click.confirm(question, abort=True)


def _user(username: str) -> User:
    user = accounts.find_user(username)
    if user is None:
        raise click.ClickException(f"No user {username!r}; `users list` shows them.")
    return user


def _team(team_id: UUID) -> Team:
    team = db.session.get(Team, team_id)
    if team is None:
        raise click.ClickException(f"No team {team_id}; `teams list` shows them.")
    return team


def _pixel(slug: str) -> Pixel:
    pixel = db.session.scalar(select(Pixel).where(Pixel.slug == slug))
    if pixel is None:
        raise click.ClickException(f"No pixel {slug!r}; `pixels list` shows them.")
    return pixel


def _question(slug: str, days: int, hit_class: str) -> stats.Question:
    at = now()
    return stats.Question(_pixel(slug).number, at - timedelta(days=days), at, hit_class)


def _sent_at(text: str | None) -> datetime | None:
    try:
        return SentField(allow_none=True).deserialize(text)
    except ValidationError as error:
        raise click.ClickException(f"--sent-at: {error.messages[0]}") from None


def _new_pixel(name: str, slug: str, username: str | None, team_id: UUID | None) -> Pixel:
    named = _loaded(PixelUpdate(), {"name": name, "slug": slug})
    if team_id:
        return Pixel(**named, team_id=_team(team_id).id)
    if username:
        return Pixel(**named, user_id=_user(username).id)
    first_admin = select(User).where(User.role == Role.ADMIN).order_by(User.created_at).limit(1)
    return Pixel(**named, user_id=db.session.scalars(first_admin).one().id)


def _loaded(schema: Schema, values: dict[str, Any]) -> dict[str, Any]:
    """Return values by the rules of the API."""
    try:
        return dict(schema.load(values))
    except ValidationError as error:
        problems = error.messages_dict.items()
        raise click.ClickException(
            "; ".join(f"{key}: {said[0]}" for key, said in problems)
        ) from None


def _base() -> str:
    chosen: Settings = current_app.config["SETTINGS"]
    return chosen.base_url


def _sqlite_problem() -> str | None:
    if sqlite_file(db.engine) is not None and has_wal_reset_bug():
        return f"{sqlite_version()} has the WAL-reset bug; install 3.51.3 or newer"
    return None


def _disk_problem() -> str | None:
    free = shutil.disk_usage(current_app.config["SETTINGS"].data_dir).free
    if free < DISK_FREE_BYTES_MIN:
        return f"only {free // 1024**2} MiB are free"
    return None


def _rules_problem() -> str | None:
    try:
        outdated = reclassify.count_outdated()
    except SQLAlchemyError:
        return None  # The line of the database says why.
    if outdated:
        return f"{outdated} kinds of hits are classified by other rules; run `reclassify`"
    return None


if __name__ == "__main__":
    run()
