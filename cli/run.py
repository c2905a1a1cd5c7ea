"""The way in: finds a command by its name, loads what it needs, and runs it.

`--help` loads nothing of the application, and a command the rooms that it works in.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any

import click

from core.version import VERSION

# The module that a command or a group stands in, and the first sentence of its help.
COMMANDS = {
    "backup": ("upkeep", "Copy the SQLite database while the server runs, and verify the copy."),
    "check": (
        "upkeep",
        "Check settings, database, migrations, tables, SQLite and disk; exit 1 if any fails.",
    ),
    "classify": (
        "upkeep",
        "Say what a hit with the user agent AGENT is, which row of the rules decides, and why.",
    ),
    "compact": (
        "upkeep",
        "Shrink the SQLite file to what it holds, in small steps while it is served.",
    ),
    "demo": ("upkeep", "Fill a pixel with made-up hits, to look around or to measure."),
    "export": (
        "reports",
        "Write a pixel's hits, the oldest first, to a file or to standard output.",
    ),
    "hits": ("hits", "List hits that lie in the future, and redate or remove them."),
    "import": (
        "imports",
        "Take over the hits of FILE, at their instants; what was taken over before is left out.",
    ),
    "keys": ("people", "Create, list and revoke API keys."),
    "mailings": ("mailings", "Show how mailings did: sent, opened, when."),
    "move": (
        "moving",
        "Copy everything into an empty SQLite or PostgreSQL database; stop the server first.",
    ),
    "pixels": ("pixels", "Create, list, rename, embed and delete pixels."),
    "prune": (
        "upkeep",
        "Delete old hits, keep their daily totals, and finish what deleted pixels left.",
    ),
    "recipients": (
        "recipients",
        "Make links for people, list who has opened, and do what they ask for.",
    ),
    "reclassify": (
        "upkeep",
        "Classify the stored hits again by today's rules; stop and start again as you like.",
    ),
    "restore": (
        "upkeep",
        "Make the SQLite database what the backup FILE holds; a running server goes on with it.",
    ),
    "secret": ("upkeep", "Rotate the key that signs tokens, API keys and links."),
    "settings": ("upkeep", "List every setting: name, value in use, default, meaning."),
    "shares": (
        "shares",
        "List, create and end links that show a pixel's figures to people without an account.",
    ),
    "stats": ("reports", "Show a pixel's opens, and how many of them are unique."),
    "support": (
        "support",
        "Print what an issue report needs: versions, settings, state; no secrets, no names.",
    ),
    "teams": ("people", "Create, list and delete teams, and their members."),
    "users": ("people", "Create, list and delete users."),
    "webhooks": ("webhooks", "List, test, resume and delete webhooks."),
}


class CommandsByName(click.Group):
    """Commands whose modules are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the command or the group of that name, None if there is none."""
        if name not in COMMANDS:
            return None
        module, _ = COMMANDS[name]
        importlib.import_module(f"cli.{module}")
        shared: Any = importlib.import_module("cli.commands")
        ctx.obj = ctx.obj or shared.application(os.environ)
        return shared.main.commands[name]  # type: ignore[no-any-return]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command to run; from here on one that is interrupted may have to clean up."""
        found = super().resolve_command(ctx, args)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what `--help` says of each command, without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, says) for name, (_, says) in sorted(COMMANDS.items())])


@click.group(
    cls=CommandsByName,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, prog_name="Pixelkeep", message="%(prog)s %(version)s")
def main() -> None:
    """Users, keys, teams, pixels and checks of this Pixelkeep."""


def run() -> None:
    """Run the command line; what goes wrong is one line on standard error."""
    _open_closed_streams()
    try:
        try:
            main(prog_name="script/pixelkeep")
        finally:
            sys.stdout.flush()
            # What is left is Python's own end, in which Ctrl-C would be a traceback.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except OSError as error:
        # What is left in the buffer could not be written again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(f"pixelkeep: {place}{error.strerror or error}")
    except Exception as error:
        told = importlib.import_module("cli.failures").in_one_line(error, os.environ)
        if told is None:
            raise
        sys.exit(f"pixelkeep: {told}")


def _open_closed_streams() -> None:
    """Have standard streams that the caller closed, as by `>&-`, lead nowhere.

    Python has none in their place then, and the next file that is opened would get their number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


if __name__ == "__main__":
    run()
