"""The commands that look after the service: checks, backups, keys, old hits, demo data."""

from __future__ import annotations

import os
import sys
from dataclasses import fields
from pathlib import Path

import click
from flask import current_app
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from cli.commands import Commands, as_json, confirm, main, print_rows, printable, yes
from cli.pixels import new_pixel
from core import secret_keys, settings
from core.clock import now
from core.database import database_now, db
from core.links import Links
from core.locks import is_busy
from core.settings import PREFIX, Settings
from core.sqlite import sqlite_file
from hits import classify, operator_rules
from hits.classify import RULES_VERSION
from hits.operator_rules import OperatorRules
from models import Pixel
from pixels import numbering, pixels
from stats import folding
from upkeep import backup, checks, compaction, demo, reclassify, retention


@main.command("settings", with_appcontext=False)
@as_json
def show_settings(as_json: bool) -> None:
    """List every setting: name, value in use, default, meaning."""
    chosen = settings.load(os.environ)
    rows = []
    for setting in fields(Settings):
        value = getattr(chosen, setting.name)
        hidden = setting.metadata["secret"] and value
        default = setting.metadata["shown"]
        in_use = "(set)" if hidden else default if value == setting.default else value
        rows.append(
            {
                "name": PREFIX + setting.name.upper(),
                "value": str(int(in_use) if isinstance(in_use, bool) else in_use),
                "default": default,
                "meaning": setting.metadata["meaning"],
            }
        )
    print_rows(rows, as_json)


@main.command()
def check() -> None:
    """Check settings, database, migrations, tables, SQLite and disk; exit 1 if any fails.

    Hits that lie in the future are told of, and fail nothing.
    """
    found = [
        checks.Check("settings", None),
        *checks.checks(current_app.config["SETTINGS"].data_dir, _rules()),
    ]
    for name, problem in found:
        click.echo(f"{name:<12}{problem or 'ok'}")
    click.echo(f"{'time':<12}{checks.time_warning() or 'ok'}")
    click.echo(f"{'retention':<12}{checks.retention_told()}")
    if any(problem for _, problem in found):
        sys.exit(1)


@main.command("backup")
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE|DIRECTORY")
@click.option("--with-key", is_flag=True, help="Put the signing key into a file beside it.")
@click.option(
    "--keep",
    type=click.IntRange(1, 10_000),
    help="Keep this many in DIRECTORY, remove older ones.",
)
def back_up(path: Path, with_key: bool, keep: int | None) -> None:
    """Copy the SQLite database while the server runs, and verify the copy.

    In a DIRECTORY it gets a name by the time, and --keep removes the oldest that were so named.
    Without the signing key, in `secret_key` unless --with-key copies it, a backup's links name
    nobody.
    """
    if keep and not path.is_dir():
        raise click.ClickException(f"{path} is no directory; --keep names the files in one.")
    target = path / backup.name_at(now()) if path.is_dir() else path
    keys = current_app.config["SETTINGS"].secret_keys()[::-1] if with_key else []
    size = backup.back_up(db.engine, target, keys)
    click.echo(f"{target}: {size / 1024**2:.1f} MiB, verified.")
    if with_key:
        click.echo(
            f"{backup.key_path(target)}: the SIGNING KEY. Whoever has it can sign in as anybody:"
            " keep it as you would a password."
        )
    for dropped in backup.drop_older(target, keep) if keep else ():
        click.echo(f"Removed {dropped}.")


@main.command("restore", with_appcontext=False)
@click.argument("file", type=click.Path(path_type=Path))
@yes
@click.pass_context
def restore(context: click.Context, file: Path, yes: bool) -> None:
    """Make the SQLite database what the backup FILE holds; a running server goes on with it.

    In a data directory that is empty it becomes the database, with the key beside it, if it has
    one.
    """
    chosen = settings.load(os.environ)
    key = backup.key_path(file)
    is_key_made = secret_keys.ensure_secret(chosen, key if key.exists() else None)
    try:
        with context.obj.load_app().app_context():
            path = sqlite_file(db.engine)
            if path and path.exists():
                confirm(f"Replace everything stored by what {file} holds?", yes)
            backup.restore(db.engine, file)
    except BaseException:
        if is_key_made:
            chosen.secret_path.unlink()
        raise
    click.echo(f"Restored to {path}.")
    if is_key_made:
        click.echo(_told_of_key(chosen, key))


def _told_of_key(chosen: Settings, key: Path) -> str:
    if key.exists():
        return f"{chosen.secret_path} is the signing key of {key} now."
    return (
        f"There was no signing key, and {key} is not there: {chosen.secret_path} has a new one."
        " What the old one signed names nobody, until the old one takes its place."
    )


@main.group(cls=Commands)
def secret() -> None:
    """Rotate the key that signs tokens, API keys and links."""


@secret.command("rotate")
@click.option("--drop-old", is_flag=True, help="End everything that older keys have signed.")
@yes
def rotate_secret(drop_old: bool, yes: bool) -> None:
    """Make a new signing key; older ones are still accepted unless they are dropped.

    Restart every server afterwards: each goes on with the keys that it started with.
    """
    if drop_old:
        confirm(
            "End every token, session, API key and share token, and make every signed link that"
            " was ever mailed a hit without its recipient?",
            yes,
        )
    secret_keys.rotate_secret(
        current_app.config["SETTINGS"],
        drop_old=drop_old,
        before=lambda keys: numbering.rewrap(Links(keys), keep_others=True),
    )
    click.echo(
        "There is a new signing key. Restart the server, on every node, before you sign links or"
        " make keys here: it doesn't know the new key yet."
    )


@main.command()
@click.option(
    "--days",
    type=click.IntRange(1, 36_500),
    help="Keep this many days; PIXELKEEP_RETENTION_DAYS.",
)
@yes
def prune(days: int | None, yes: bool) -> None:
    """Delete old hits, keep their daily totals, and finish what deleted pixels left."""
    for steps in (retention.finish_erasures(), retention.finish_restarts()):
        for _ in steps:
            pass
    days = days or current_app.config["SETTINGS"].retention_days
    if not days:
        click.echo("All hits are kept: PIXELKEEP_RETENTION_DAYS is 0, and --days is not given.")
        return
    at = database_now()
    for problem in retention.doubts(at):
        click.echo(f"Warning: {problem}")
    before_day = retention.day_of(at) - days
    count = retention.count_hits_before(before_day)
    confirm(f"Delete {count} hits older than {days} days? Their daily totals stay.", yes)
    with click.progressbar(length=count, label="Pruning", file=sys.stderr) as bar:
        for pruned in retention.prune(before_day):
            bar.update(pruned)
    click.echo(f"Deleted {count} hits.")
    if sqlite_file(db.engine) is not None:
        click.echo("The file keeps its size and reuses the space; `compact` makes it shrink.")


@main.command()
@yes
def compact(yes: bool) -> None:
    """Shrink the SQLite file to what it holds, in small steps while it is served.

    A file that an older version made is rewritten once, with the server stopped.
    """
    path = sqlite_file(db.engine)
    if path is None:
        raise click.ClickException("PostgreSQL makes room by itself; `VACUUM FULL` shrinks it.")
    before = path.stat().st_size
    try:
        if compaction.shrinks_in_steps(db.engine):
            pages = compaction.free_pages(db.engine)
            with click.progressbar(length=pages, label="Shrinking", file=sys.stderr) as bar:
                for removed in compaction.shrink(db.engine):
                    bar.update(removed)
        else:
            _write_anew(yes)
    except SQLAlchemyError as error:
        raise click.ClickException(f"{getattr(error, 'orig', None) or error}.") from None
    after = path.stat().st_size
    click.echo(f"{path}: {before / 1024**2:.1f} MiB, now {after / 1024**2:.1f} MiB.")


def _write_anew(yes: bool) -> None:
    confirm("Write the whole file anew? Nothing can be stored meanwhile.", yes)
    try:
        compaction.write_anew(db.engine)
    except OperationalError as error:
        if not is_busy(error):
            raise
        raise click.ClickException(
            "An older version made this file, which has to be written anew once. Stop the server"
            " first; from then on `compact` works while it runs."
        ) from None


@main.command("reclassify")
def reclassify_hits() -> None:
    """Classify the stored hits again by today's rules; stop and start again as you like."""
    rules = _rules()
    count = reclassify.count_outdated(rules)
    with click.progressbar(length=count, label="Classifying", file=sys.stderr) as bar:
        for done in reclassify.reclassify(rules):
            bar.update(done)
    click.echo(f"{count} kinds of hits went through the rules of version {RULES_VERSION}.")
    for reason, kept in reclassify.count_kept(rules).items():
        click.echo(
            f"{reason}: not asked again, since it asks an address or the time of sending, which no"
            f" hit keeps; {kept} kinds of hits have it and keep it."
        )


@main.command("classify")
@click.argument("agent")
@as_json
def classify_agent(agent: str, as_json: bool) -> None:
    """Say what a hit with the user agent AGENT is, which row of the rules decides, and why."""
    decision = classify.explain(agent)
    known = decision.agent
    hit_class: str = known.hit_class
    reason: str = known.reason
    decided_by, why = decision.matched, decision.why
    rule = _rules().find(agent[: classify.USER_AGENT_CHARACTERS_MAX])
    if rule is not None:
        hit_class, reason, decided_by = rule.hit_class, rule.reason, rule.asks
        why = "a rule of the operator's"
    row = {
        "class": hit_class,
        "reason": reason,
        "browser": known.browser,
        "os": known.os,
        "device": known.device,
        "decidedBy": decided_by,
        "why": why,
    }
    if as_json:
        print_rows([row], as_json)
        return
    for name, value in row.items():
        click.echo(f"{name:<12}{printable(value or '-')}")


@main.command("demo")
@click.option("--slug", default="demo", show_default=True, help="The slug of a new pixel.")
@click.option(
    "--hits",
    type=click.IntRange(1, 100_000_000),
    default=100_000,
    show_default=True,
    help="How many hits.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 3_650),
    default=31,
    show_default=True,
    help="Over how many days, of which today is the last.",
)
@click.option(
    "--visitors",
    type=click.IntRange(1, 100_000_000),
    help="How many people; a tenth of the hits unless given.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same hits."
)
def fill_demo(slug: str, hits: int, days: int, visitors: int | None, seed: int) -> None:
    """Fill a pixel with made-up hits, to look around or to measure.

    When interrupted, it removes the pixel it made.
    """
    found = pixels.find_by_slug(slug)
    pixel = found or new_pixel(slug, slug, None, None)
    chunks = demo.fill(
        pixel,
        current_app.extensions["links"],
        hits=hits,
        days=days,
        visitors=visitors or max(hits // 10, 1),
        seed=seed,
        now=now(),
    )
    try:
        with click.progressbar(length=hits, label="Storing ", file=sys.stderr) as bar:
            for count in chunks:
                bar.update(count)
        with click.progressbar(length=hits, label="Counting", file=sys.stderr) as bar:
            for count in folding.fold_what_is_there(pixel.number):
                bar.update(count)
        folding.finish(pixel.number, now())
    except KeyboardInterrupt:
        _clean_up_demo(pixel, was_there=found is not None)
        raise
    click.echo(f"{pixel.slug} has {hits} hits of {days} days.")


def _clean_up_demo(pixel: Pixel, *, was_there: bool) -> None:
    demo.abandon()
    if was_there:
        click.echo(
            f"\n{pixel.slug} was there before, and keeps what it has got by now:"
            f" `pixels delete {pixel.slug}` removes it.",
            err=True,
        )
        return
    click.echo(f"\nRemoving {pixel.slug}.", err=True)
    pixels.remove(pixel)
    for _ in retention.finish_erasures():
        pass


def _rules() -> OperatorRules:
    return operator_rules.load(current_app.config["SETTINGS"].rules)
