"""What the operator's commands share: the group, options, tables, and how things are named.

A module adds its commands to `main`; `cli.run` knows which module a command is in.

What lists prints a table, or JSON with `--json`; what destroys asks first, or takes `--yes`.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from flask import Flask, current_app
from flask.cli import AppGroup, ScriptInfo

from core import settings
from core.application import configure
from core.clock import iso
from core.settings import Settings
from models import Pixel, Team, User
from people import accounts
from pixels import pixels
from web.pages import formats

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
file_in = click.Path(exists=True, dir_okay=False, path_type=Path)
file_out = click.Path(dir_okay=False, writable=True, path_type=Path)
yes = click.option("--yes", is_flag=True, help="Don't ask.")


class _ListedWhole(click.Command):
    """A command that a list of commands shows with its whole first sentence."""

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first sentence, which click would cut to `limit`; its lists break lines."""
        return super().get_short_help_str(limit=1000)


class Commands(AppGroup, _ListedWhole):
    """A group whose commands run in the application's context."""

    command_class = _ListedWhole


# Those of the modules that are loaded.
main = Commands("commands")


def application(environ: Mapping[str, str]) -> ScriptInfo:
    """Return what builds the application that commands run in, once one does."""

    def build() -> Flask:
        app = Flask("cli")
        configure(app, settings.load(environ))
        return app

    return ScriptInfo(create_app=build)


def print_rows(rows: Iterable[dict[str, Any]], as_json: bool) -> None:
    """Print rows of one shape as JSON or as a table."""
    listed = list(rows)
    if as_json:
        text = json.dumps(listed, indent=2, default=_plain, ensure_ascii=False)
        click.echo("\n".join(_escaped(line, _as_json) for line in text.split("\n")))
    elif not listed:
        click.echo("None.")
    else:
        heads = [_head(name, [row[name] for row in listed]) for name in listed[0]]
        _print_table([heads, *([in_words(value) for value in row.values()] for row in listed)])


def print_record(record: Mapping[str, Any], width: int, indent: str = "") -> None:
    """Print one thing, a line for each of its values, as a table would say them."""
    for name, value in record.items():
        click.echo(f"{indent}{_head(name, [value]):<{width}}{in_words(value)}")


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _plain(value: object) -> str:
    return iso(value) if isinstance(value, datetime) else str(value)


def _head(name: str, values: Iterable[object]) -> str:
    return f"{name} (UTC)" if any(isinstance(value, datetime) for value in values) else name


def in_words(value: object) -> str:
    """Return a value as people write it; an instant is in UTC, which its head says."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        at = value.astimezone(UTC)
        return f"{at.day} {at:%b %Y, %H:%M}"
    return "-" if value is None else printable(str(value))


def printable(text: str) -> str:
    """Return text in which what a terminal obeys, or does not show, is escaped."""
    return _escaped(text, lambda character: character.encode("unicode_escape").decode())


def span(seconds: float) -> str:
    """Return how long something took as pages write it, with blanks that any terminal shows."""
    return formats.span(seconds).replace(formats.NARROW, " ")


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else escape(character) for character in text
    )


def _as_json(character: str) -> str:
    return json.dumps(character)[1:-1]


def confirm(question: str, yes: bool) -> None:
    """Ask before something is destroyed, unless `--yes` was said; end the command on a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.ClickException("This asks first, on a terminal; say --yes.")
    click.confirm(printable(question), abort=True)


def new_password(password: str | None) -> str:
    """Return a password that was given, or ask for it twice, on a terminal only."""
    if password is not None:
        return password
    if not sys.stdin.isatty():
        raise click.ClickException("The password is asked for on a terminal; say --password.")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


def user_named(username: str) -> User:
    """Return the user of that name, or end the command with one line."""
    user = accounts.find_user(username)
    if user is None:
        raise click.ClickException(f"No user {username!r}; `users list` shows them.")
    return user


def team_named(team_id: UUID) -> Team:
    """Return the team of that id, or end the command with one line."""
    teams: Any = importlib.import_module("people.teams")
    team: Team | None = teams.find_team(team_id)
    if team is None:
        raise click.ClickException(f"No team {team_id}; `teams list` shows them.")
    return team


def pixel_named(slug: str) -> Pixel:
    """Return the pixel of that slug, or end the command with one line."""
    pixel = pixels.find_by_slug(slug)
    if pixel is None:
        raise click.ClickException(f"No pixel {slug!r}; `pixels list` shows them.")
    return pixel


def loaded(schema: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return values by the rules of the API, those of one of its schemas.

    They are loaded by this: a command that only shows something does without.
    """
    schemas: Any = importlib.import_module("schemas")
    try:
        return dict(getattr(schemas, schema)().load(values))
    except schemas.ValidationError as error:
        problems = error.messages_dict.items()
        raise click.ClickException(
            "; ".join(f"{key}: {said[0]}" for key, said in problems)
        ) from None


def base_url() -> str:
    """Return the base of the URLs that the command line hands out."""
    chosen: Settings = current_app.config["SETTINGS"]
    return chosen.base_url
