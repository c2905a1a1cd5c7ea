"""The commands for people: links for a mail merge, who has opened, and what each wants kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

import click
from flask import current_app
from marshmallow import Schema, ValidationError

from cli.commands import (
    Commands,
    as_json,
    base_url,
    confirm,
    file_in,
    file_out,
    in_words,
    main,
    pixel_named,
    print_record,
    print_rows,
    printable,
    yes,
)
from core.clock import now
from core.fields import InstantField, SentAtField
from core.files import whole_file
from core.links import Links
from models import EVERY_OWNER, STATUSES, Pixel
from pixels import (
    exports,
    forgetting,
    mail_merge,
    opt_outs,
    persons,
    recipient_lists,
    recipients,
    tables,
)
from pixels.mail_merge import CheckedTable
from schemas import OptOutOut, PersonOfPixelOut, RecipientOut, WholePersonOut

BAD_ROWS_SHOWN_MAX = 50

status = click.option(
    "--status", type=click.Choice(STATUSES[::-1]), help="Only those who opened, or did not."
)


@main.group("recipients", cls=Commands)
def recipient_commands() -> None:
    """Make links for people, list who has opened, and do what they ask for."""


@recipient_commands.command("links")
@click.argument("slug")
@click.option(
    "--csv", "path", type=file_in, help="A table with the people, as any program saves it."
)
@click.option("--from", "earlier", help="In place of a table: the people of an earlier pixel.")
@status
@click.option("--out", type=file_out, help="The file to write; - is standard output.")
@click.option("--column", help="The column with the people: name or number; detected by default.")
@click.option("--header/--no-header", default=None, help="Whether the first row names the columns.")
@click.option("--delimiter", help="What separates the cells; detected by default.")
@click.option("--encoding", help="How the text is encoded; detected by default.")
@click.option(
    "--sent-at",
    help="When the mail goes out: now, or a date and time. Machines that fetch at delivery aren't"
    " taken for people then, and the curve starts there.",
)
@click.option("--zone", help="The time zone of --sent-at, as Europe/Berlin; this machine's.")
@click.option("--consent", is_flag=True, help="All of them consented to be named.")
@click.option("--consent-column", help="The column that says who consented to be named.")
@click.option("--skip-bad", is_flag=True, help="Leave out rows that can't be used.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and store nothing.")
def merge_links(
    slug: str,
    path: Path | None,
    earlier: str | None,
    status: str | None,
    out: Path | None,
    column: str | None,
    header: bool | None,
    delimiter: str | None,
    encoding: str | None,
    sent_at: str | None,
    zone: str | None,
    consent: bool,
    consent_column: str | None,
    skip_bad: bool,
    dry_run: bool,
) -> None:
    """Make a link for each person of a table, and write it with three more columns.

    These are url, html and opt_out_url; all others come back as they were. Nothing is stored
    while a row can't be used, unless --skip-bad leaves such rows out.
    """
    pixel = pixel_named(slug)
    _require_files(path, earlier, out, dry_run)
    if path is not None:
        data = path.read_bytes()
        options: dict[str, Any] = {"encoding": encoding, "delimiter": delimiter}
        table = tables.read(data, has_header=header, column=column, **options)
    else:
        table = _people_of(str(earlier), status)
    checked = mail_merge.check(table, column, consent_column)
    for line in checked.summary(BAD_ROWS_SHOWN_MAX):
        click.echo(line, err=True)
    if not skip_bad:
        _require_good(checked)
    mail_merge.require_somebody(checked)
    sent = _sent_at(sent_at, zone)
    if dry_run or out is None:
        return
    if not current_app.config["SETTINGS"].public_url:
        click.echo(f"PIXELKEEP_PUBLIC_URL is not set: the links go to {base_url()}.", err=True)
    # Nobody is stored whose links can't be written.
    with _writing(out) as file:
        links = _issued(pixel, checked, sent, consent)
        file.writelines(mail_merge.merged(checked, links))
    click.echo(_told(checked, links, out), err=True)


@recipient_commands.command("merges")
@click.argument("slug")
@as_json
def list_merges(slug: str, as_json: bool) -> None:
    """List when people were added to a pixel, and how many each time."""
    print_rows(
        (
            {"issuedAt": at.isoformat(), "people": people, "canBeTakenBack": left}
            for at, people, left in recipients.issues(pixel_named(slug))
        ),
        as_json,
    )


@recipient_commands.command("take-back")
@click.argument("slug")
@click.option("--issued-at", help="Which merge, as `merges` lists it; by default the last.")
@yes
def take_back(slug: str, issued_at: str | None, yes: bool) -> None:
    """Remove the people of a merge of whom nothing came yet; their links then name nobody."""
    pixel = pixel_named(slug)
    found = {at.isoformat(): (at, left) for at, _, left in recipients.issues(pixel)}
    if not found or (issued_at and issued_at not in found):
        raise click.ClickException("There is no such merge; `recipients merges` lists them.")
    at, left = found[issued_at] if issued_at else next(iter(found.values()))
    confirm(f"Remove {left} people who were added at {at.isoformat()}?", yes)
    click.echo(f"Removed {recipients.take_back(pixel, at)} people.")


@recipient_commands.command("list")
@click.argument("slug")
@click.option("--search", default="", help="Part of a recipient.")
@status
@click.option("--csv", "out", type=file_out, help="Write a CSV file; - is standard output.")
@as_json
def list_recipients(
    slug: str, search: str, status: str | None, out: Path | None, as_json: bool
) -> None:
    """List a pixel's people with their hits."""
    pixel = pixel_named(slug)
    if out is not None:
        rows = exports.recipients_of(pixel, search, status)
        _write_csv(out, exports.as_csv(rows, exports.RECIPIENT_COLUMNS))
        return
    found = recipient_lists.every(pixel, search, status)
    print_rows(_shaped(RecipientOut(), found, as_json), as_json)


@recipient_commands.command("show")
@click.argument("name")
@as_json
def show_person(name: str, as_json: bool) -> None:
    """Show everything that is kept of a person, on all pixels."""
    found = persons.find(_links(), None, name)
    pixels = [persons.record_fields(record) for record in found.pixels]
    if as_json:
        shown = WholePersonOut().dump({**found._asdict(), "pixels": pixels})
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    said = f", opted out at {in_words(found.opt_outs[0].said_at)} UTC" if found.opt_outs else ""
    click.echo(f"{printable(found.recipient)}{said}")
    of_pixels = _shaped(PersonOfPixelOut(exclude=("hits",)), pixels, as_json)
    for of_pixel, record in zip(of_pixels, found.pixels, strict=True):
        click.echo()
        print_record(of_pixel, width=22, indent="  ")
        for hit in record.hits:
            what = f"{hit.source.hit_class}, {hit.source.reason}  {hit.source.user_agent}"
            click.echo(f"    {in_words(hit.at)}  {printable(what)}")


@recipient_commands.command("forget")
@click.argument("name")
@yes
def forget_person(name: str, yes: bool) -> None:
    """Forget a person on all pixels: the name goes, what was counted stays."""
    confirm(f"Forget {name} for good? Their old links name nobody from then on.", yes)
    if not forgetting.forget(_links(), name, None):
        raise click.ClickException("Nobody is known by that name.")
    click.echo("Forgotten.")


@recipient_commands.command("opt-out")
@click.argument("name")
def opt_out(name: str) -> None:
    """Count a person's hits without their name, on the pixels of every owner."""
    opt_outs.opt_out_by_name(_links(), EVERY_OWNER, name, "operator")
    click.echo("Their hits are counted without a name from now on.")


@recipient_commands.command("opt-in")
@click.argument("name")
def opt_in(name: str) -> None:
    """Take back that a person opted out, no matter who said so."""
    if not opt_outs.opt_in_by_name(_links(), EVERY_OWNER, name):
        raise click.ClickException("Nobody opted out by that name.")
    click.echo("Their hits are counted by name again.")


@recipient_commands.command("opt-outs")
@click.option("--csv", "out", type=file_out, help="Write a CSV file; - is standard output.")
@as_json
def list_opt_outs(out: Path | None, as_json: bool) -> None:
    """List who opted out, when and how; without a name if they were forgotten since."""
    shape, found = OptOutOut(), opt_outs.every()
    if out is not None:
        rows = (shape.dump(record) for record in found)
        _write_csv(out, exports.as_csv(rows, tuple(shape.fields)))
    else:
        print_rows(_shaped(shape, found, as_json), as_json)


def _links() -> Links:
    return current_app.extensions["links"]  # type: ignore[no-any-return]


def _shaped(shape: Schema, found: Iterable[object], as_json: bool) -> Iterator[dict[str, Any]]:
    """Yield what was found as the API shapes it, with instants as such where people read them."""
    instants = [] if as_json else _instants(shape)
    for one in found:
        kept = {name: shape.get_attribute(one, attribute, None) for name, attribute in instants}
        yield {**shape.dump(one), **kept}


def _instants(shape: Schema) -> list[tuple[str, str]]:
    return [
        (name, field.attribute or name)
        for name, field in shape.fields.items()
        if isinstance(field, InstantField)
    ]


def _require_files(path: Path | None, earlier: str | None, out: Path | None, dry_run: bool) -> None:
    if (path is None) == (earlier is None):
        raise click.UsageError("Give the people by --csv or by --from.")
    if out is None and not dry_run:
        raise click.UsageError("Name a file to write by --out.")
    # The table itself is one of them. A device is written as it is.
    if out and str(out) != "-" and out.is_file():
        raise click.UsageError(f"{out} exists already; name another file.")


def _people_of(slug: str, status: str | None) -> tables.Table:
    names = recipient_lists.names_of(pixel_named(slug), status)
    rows = [tables.TableRow(line, [name]) for line, name in enumerate(names, 2)]
    return tables.Table(tables.Format(), ["recipient"], True, rows)


def _require_good(checked: CheckedTable) -> None:
    if checked.bad:
        raise click.ClickException(
            "Nothing is stored. Mend the rows that can't be used, or leave them out by --skip-bad."
        )


def _sent_at(text: str | None, zone: str | None) -> datetime | None:
    """Return when the mail goes out, and say it back; asked for where somebody can answer."""
    if text is None and sys.stdin.isatty():
        text = click.prompt("When does it go out (now, or a date and time)?", "", err=True)
    if not text:
        return None
    try:
        at = now() if text == "now" else datetime.fromisoformat(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=ZoneInfo(zone)) if zone else at.astimezone()
        sent: datetime = SentAtField().deserialize(at.isoformat())
    except (ValueError, KeyError, OSError, OverflowError):
        raise click.ClickException("--sent-at: That is not a date and time.") from None
    except ValidationError as error:
        raise click.ClickException(f"--sent-at: {error.messages[0]}") from None
    shown = sent.astimezone(ZoneInfo(zone) if zone else at.tzinfo)
    in_zone = zone or shown.tzname() or "local time"
    click.echo(f"Goes out {shown:%A, %-d %b %Y, %H:%M} in {in_zone}, {sent:%H:%M} UTC.", err=True)
    return sent


def _issued(
    pixel: Pixel, checked: CheckedTable, sent: datetime | None, consent: bool
) -> dict[str, recipients.Link]:
    """Issue a link to each person; return them by folded name."""
    issuing = mail_merge.issue(_links(), pixel, checked, sent, base_url(), all_consent=consent)
    found: dict[str, recipients.Link] = {}
    with click.progressbar(
        length=len(checked.people), label="Making links", file=sys.stderr
    ) as bar:
        for some in issuing:
            found |= some
            bar.update(len(some))
    return found


def _told(checked: CheckedTable, links: dict[str, recipients.Link], out: Path) -> str:
    opted_out = sum(link.opted_out for link in links.values())
    told = f"Wrote {len(checked.rows)} rows with links for {len(links)} people to {out}."
    return told + (f" {opted_out} opted out: their links name nobody." if opted_out else "")


def _write_csv(out: Path, parts: Iterable[str]) -> None:
    with _writing(out) as file:
        file.writelines(part.encode() for part in parts)


@contextmanager
def _writing(out: Path) -> Iterator[BinaryIO]:
    """Open the file to write; what goes wrong is one line."""
    try:
        with nullcontext(sys.stdout) if str(out) == "-" else whole_file(out) as file:
            yield file.buffer
    except OSError as error:
        # Of standard output there is no name to tell; `run` says what is wrong.
        if str(out) == "-":
            raise
        raise click.ClickException(f"{out}: {error.strerror}") from None
