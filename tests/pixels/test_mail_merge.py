"""Tables of people as programs write them: who is in them, and that every cell comes back."""

from __future__ import annotations

import csv
import io
import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.people_key import folded
from pixels import mail_merge, tables
from pixels.mail_merge import CheckedTable
from pixels.recipients import Link
from pixels.tables import TableError
from tests.conftest import Client, Server, unique
from tests.web.pages.test_pages import Browser, text_of

ADDED = ["url", "html", "opt_out_url"]
ANN, BEN, ZOE = "ann@example.org", "ben@example.org", "zoe@example.org"


def checked(data: bytes | str, column: str | None = None, **options: Any) -> CheckedTable:
    data = data.encode() if isinstance(data, str) else data
    return mail_merge.check(tables.read(data, column=column, **options), column)


def merged(check: CheckedTable) -> bytes:
    links = {
        folded(name): Link(name, f"http://x/{name}", f"<img {name}>", f"http://o/{name}")
        for name in check.people
    }
    return b"".join(mail_merge.merged(check, links))


def cells_of(data: bytes, encoding: str = "utf-8", delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(encoding), newline=""), delimiter=delimiter))


# Files as programs write them: the bytes, the people, the column.
FILES: dict[str, tuple[bytes, list[str], str]] = {
    "Excel, CSV UTF-8": (
        f"First Name,Email Address\r\nAnn,{ANN}\r\nZoë,{ZOE}\r\n".encode("utf-8-sig"),
        [ANN, ZOE],
        "Email Address",
    ),
    "Excel, CSV in Germany": (
        f"Vorname;E-Mail;Ort\r\nJörg;{ANN};Köln\r\nBen;{BEN};Bonn\r\n".encode("cp1252"),
        [ANN, BEN],
        "E-Mail",
    ),
    "Excel, with its own line": (f"sep=;\r\nid;email\r\n1;{ANN}\r\n".encode(), [ANN], "email"),
    "Excel, Unicode text": (
        f"id\temail\tname\r\n1\t{ANN}\tAnn\r\n2\t{ZOE}\tZoë\r\n".encode("utf-16"),
        [ANN, ZOE],
        "email",
    ),
    "Excel for Mac, old line ends": (
        f"email,name\r{ANN},A\r{BEN},B\r".encode(),
        [ANN, BEN],
        "email",
    ),
    "LibreOffice, all quoted": (
        f'"id","email","note"\n"1","{ANN}","a, b"\n"2","{BEN}","two\nlines"\n'.encode(),
        [ANN, BEN],
        "email",
    ),
    "LibreOffice, cut at |": (f"id|mail\n7|{ANN}\n8|{BEN}\n".encode(), [ANN, BEN], "mail"),
    "Google Sheets": (f"Name,Email\r\nAnn,{ANN}\r\n,{BEN}".encode(), [ANN, BEN], "Email"),
    "Mailchimp": (
        (
            '"Email Address","First Name","Last Name",MEMBER_RATING,OPTIN_TIME\n'
            f'"{ANN}",Ann,"O""Hara",2,"2026-01-02 03:04:05"\n'
        ).encode(),
        [ANN],
        "Email Address",
    ),
    "Thunderbird's address book": (
        (
            "First Name,Last Name,Display Name,Nickname,Primary Email,Secondary Email,Notes\r\n"
            f"Ann,A,Ann A,,{ANN},second@example.org,\r\nBen,B,Ben B,,{BEN},,@home\r\n"
        ).encode(),
        [ANN, BEN],
        "Primary Email",
    ),
    "mail program's line": (
        f'"Doe, A" <{ANN}>, Ben <{BEN}>, {ZOE}\n'.encode(),
        [ANN, BEN, ZOE],
        "Column 1",
    ),
    "one in each line": (f"{ANN}\nBen <{BEN}>\n{ZOE}\n".encode(), [ANN, BEN, ZOE], "Column 1"),
    "two in a line": (f"{ANN}; {BEN}\n{ZOE}\n".encode(), [ANN, BEN, ZOE], "Column 1"),
    "UTF-16 without a mark": (f"email;x\n{ANN};ä\n".encode("utf-16-be"), [ANN], "email"),
    "no header": (f"1,{ANN},Ann\n2,{BEN},Ben\n".encode(), [ANN, BEN], "Column 2"),
    "names alone": (b"recipient,note\nann,\nbob,x\n", ["ann", "bob"], "recipient"),
    "Excel, text cut at tabs": (
        f'Name\tE-Mail-Adresse\r\nJörg\t{ANN}\r\n"Ben, B"\t{BEN}\r\n'.encode("cp1252"),
        [ANN, BEN],
        "E-Mail-Adresse",
    ),
    "Excel, with columns that were emptied": (
        f"Email,Name,,\r\n{ANN},Ann,,\r\n{BEN},Ben,,\r\n,,,\r\n,,,\r\n".encode("utf-8-sig"),
        [ANN, BEN],
        "Email",
    ),
    "Excel, numbers and dates of its country": (
        (
            f"Kunde;Umsatz;Seit;Mail\r\n00042;1.234,50;01.02.2026;{ANN}\r\n00043;-5,00;03.04.2026;{BEN}\r\n"
        ).encode("cp1252"),
        [ANN, BEN],
        "Mail",
    ),
    "Excel, cells of several lines": (
        f'Address,E-mail\r\n"1 Main St\nTown",{ANN}\r\n"2 Main St\nTown",{BEN}\r\n'.encode(
            "utf-8-sig"
        ),
        [ANN, BEN],
        "E-mail",
    ),
    "LibreOffice, UTF-16": (
        f"Vorname,E-Mail\nÅsa,{ANN}\nZoë,{ZOE}\n".encode("utf-16"),
        [ANN, ZOE],
        "E-Mail",
    ),
    "LibreOffice, cut at tabs, without a header": (
        f"1\t{ANN}\n2\t{BEN}\n".encode(),
        [ANN, BEN],
        "Column 2",
    ),
    "LibreOffice, blanks around the cells": (
        f"id, email\n1, {ANN}\n2, {BEN}\n".encode(),
        [ANN, BEN],
        "email",
    ),
    "Google Sheets, cut at tabs": (
        (
            f"Timestamp\tEmail Address\tAgree?\n1/2/2026 3:04:05\t{ANN}\tYes\n1/2/2026 "
            f"3:05:05\t{BEN}\tYes"
        ).encode(),
        [ANN, BEN],
        "Email Address",
    ),
    "Google Contacts": (
        (
            "First Name,Last Name,Labels,E-mail 1 - Label,E-mail 1 - Value,E-mail 2 "
            f"- Value,Phone 1 - Value\r\nAnn,A,* myContacts ::: News,* ,{ANN},,+43 1 "
            f"234\r\nBen,B,* myContacts,Work,{BEN},second@example.org,\r\n"
        ).encode(),
        [ANN, BEN],
        "E-mail 1 - Value",
    ),
    "Mailchimp, with tags and notes": (
        (
            "Email Address,First Name,Last Name,MEMBER_RATING,OPTIN_TIME,OPTIN_IP,"
            f'NOTES,TAGS\n{ANN},Ann,A,2,"2026-01-02 03:04:05",203.0.113.5,"said ""hello"",'
            f' twice","""News"",""Beta, closed"""\n{BEN},,,3,,,,\n'
        ).encode(),
        [ANN, BEN],
        "Email Address",
    ),
    "Mailchimp, who unsubscribed": (
        f'Email Address,UNSUB_REASON,UNSUB_REASON_OTHER\n"{ANN}","NORMAL (NORMAL)",""\n'.encode(),
        [ANN],
        "Email Address",
    ),
    "Thunderbird, cut at tabs": (
        (
            f"First Name\tLast Name\tPrimary Email\tNotes\nAnn\tA\t{ANN}\t\nBen\tB\t{BEN}\t"
            "met @fair\n"
        ).encode(),
        [ANN, BEN],
        "Primary Email",
    ),
    "Thunderbird, a list of recipients": (
        f'Ann A <{ANN}>, "Doe, Ben" <{BEN}>,\r\n  {ZOE}\r\n'.encode(),
        [ANN, BEN, ZOE],
        "Column 1",
    ),
    "Outlook's contacts": (
        (
            '"First Name","Last Name","E-mail Address","E-mail Type","E-mail Display '
            f'Name"\r\n"Ann","A","{ANN}","SMTP","Ann A ({ANN})"\r\n"Ben","B","{BEN}",'
            '"SMTP","Ben B"\r\n'
        ).encode("cp1252"),
        [ANN, BEN],
        "E-mail Address",
    ),
    "our own export, opened and saved": (
        f"recipient,status\r\n'+{ANN},opened\r\n{BEN},unopened\r\n".encode("utf-8-sig"),
        ["+" + ANN, BEN],
        "recipient",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_file_gives_the_right_people_and_every_cell_back(name: str) -> None:
    data, people, column = FILES[name]
    found = checked(data)
    assert (found.people, found.column, found.bad) == (people, column, [])
    form = found.table.format
    back = merged(found)
    assert back.startswith(form.mark)
    rows = cells_of(back[len(form.mark) :], form.encoding, form.delimiter)
    rows = rows[bool(form.start) :]
    if found.table.has_header:
        assert rows.pop(0) == [*found.table.columns, *ADDED]
    assert [row[:-3] for row in rows] == [row.cells for row, _ in found.rows]
    if found.table.has_header:
        whole = cells_of(data[len(form.mark) :], form.encoding, form.delimiter)[bool(form.start) :]
        width = len(found.table.columns)
        kept = [row + [""] * (width - len(row)) for row in whole if any(row)]
        assert [row[:-3] for row in rows] == kept[1:]
    assert [row[-3] for row in rows] == [f"http://x/{person}" for person in people]


def test_file_comes_back_as_it_was_written() -> None:
    data = FILES["Excel, CSV in Germany"][0]
    back = merged(checked(data)).decode("cp1252")
    assert back.splitlines(keepends=True)[1].startswith(f"Jörg;{ANN};Köln;http")
    assert back.count("\r\n") == 3
    assert "Windows-1252" in checked(data).summary()[0]


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (f"email;name\n{ANN};Ann\n;Mira\n", 3, "The cell is blank."),
        (f"email;name\n{ANN};Ann\n\n{BEN};\n", 3, "The line is blank."),
        (f"email;name\n{ANN};Ann\nnobody;x\n", 3, "No mail address."),
        (f"email;name\n{ANN};Ann\n{BEN} {ZOE};x\n", 3, "Several mail addresses in one cell."),
        (f'email;name\n{ANN};"two\nlines"\nx;y\n', 4, "No mail address."),
        (f"email;name\n{ANN};Ann\n{BEN};x;y\n", 3, "3 cells under 2 columns."),
        (f"email\n{ANN}\n{'x' * 200}@example.org\n", 3, "Must be 1 to 200"),
    ],
)
def test_bad_row_is_told_with_its_line(content: str, line: int, reason: str) -> None:
    found = checked(content)
    (bad,) = found.bad
    assert (bad.line, bad.reason[: len(reason)]) == (line, reason)


def test_every_bad_row_and_duplicate_is_told_at_once() -> None:
    found = checked(f"name,email\nA,{ANN}\nB,\nC,{ANN.upper()}\nD,x\nE,Ann <{ANN}>\n\n\n")
    assert [row.line for row in found.bad] == [3, 5]
    assert [(duplicate.person, duplicate.lines) for duplicate in found.duplicates] == [
        (ANN, [2, 4, 6])
    ]
    assert found.people == [ANN]
    head, *others = found.summary()
    assert head.startswith("5 rows, 1 person, column email (2 of 2); UTF-8")
    assert others == [
        f"Lines 2, 4 and 6 are the same person: {ANN}",
        "Line 3: The cell is blank. ('B,')",
        "Line 5: No mail address. ('D,x')",
    ]


def test_column_is_the_one_that_is_named() -> None:
    text = f"id,email,work\n1,{ANN},{ZOE}\n2,{BEN},\n"
    assert checked(text, "work").people == [ZOE]
    assert checked(text, "3").people == [ZOE]
    assert checked(text, "ID").people == ["1", "2"]
    with pytest.raises(TableError, match="no column 'mail' but id, email, work"):
        checked(text, "mail")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "nobody"),
        (b"\n\n", "nobody"),
        (b"a,b\n1,2\n", "No column has mail addresses"),
        (f"email,url\n{ANN},x\n".encode(), "column 'url' already"),
        (f'email\n{ANN}\n"{BEN}\nx\n'.encode(), "line 3: a quote is not closed|Line 3: a quote"),
        (b"\x89PNG\r\n\x1a\n\0\0\x81", "no text"),
        (b"email\n" + b"x" * 200_000 + b"\n", "field larger"),
    ],
)
def test_table_that_cannot_be_used_says_why(content: bytes, problem: str) -> None:
    with pytest.raises(TableError, match=problem):
        checked(content)


def test_encoding_that_is_named_is_used() -> None:
    data = f"имя,email\nАня,{ANN}\n".encode("koi8-r")
    found = checked(data, encoding="koi8-r")
    assert found.table.columns == ["имя", "email"]
    assert merged(found).decode("koi8-r").count("Аня") == 1
    with pytest.raises(TableError, match="no encoding 'klingon'"):
        checked(data, encoding="klingon")
    with pytest.raises(TableError, match="not ascii"):
        checked(data, encoding="ascii")


cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
addresses = st.from_regex(r"[a-z]{1,8}@[a-z]{1,8}\.org", fullmatch=True)


@given(st.lists(st.tuples(addresses, cells, cells), min_size=1))
def test_any_cells_go_out_as_they_came(rows: list[tuple[str, str, str]]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("email", "first", "second"), *rows])
    found = checked(file.getvalue(), "email", delimiter=",")
    assert [tuple(row[:3]) for row in cells_of(merged(found))[1:]] == rows


# The browser and the command line


def test_browser_and_command_line_give_the_same_file_back(
    shared_server: Callable[[str], Server], tmp_path: Path
) -> None:
    server = shared_server("sqlite")
    admin = server.admin
    browser = Browser(Client(server.base)).sign_in("admin")
    # Each command takes a while; all files go through what the two share, above.
    for name, (data, people, _) in list(FILES.items())[::5]:
        pixel = admin.create_pixel()
        table, out = (tmp_path / f"{pixel['slug']}-{what}.csv" for what in ("in", "out"))
        page, encoded = f"/pixels/{pixel['id']}/links", b64encode(data).decode()
        table.write_bytes(data)
        assert f", {len(people)} pe" in text_of(browser.send(page, data=encoded)), name
        made = browser.send(f"{page}/make", page, data=encoded)
        assert made.status == 200, name
        links = ("recipients", "links", pixel["slug"], "--csv", str(table), "--out", str(out))
        assert f", {len(people)} pe" in server.cli(*links).stderr, name
        listed = admin.get(f"/api/pixels/{pixel['id']}/recipients?pageSize=100").json["data"]
        assert sorted(row["recipient"] for row in listed) == sorted(people), name
        # A bare list comes back from the browser under names.
        assert made.body.endswith(out.read_bytes()), name


def test_command_writes_links_that_open_and_are_listed(
    server: Server, admin: Client, tmp_path: Path
) -> None:
    pixel = admin.create_pixel()
    (tmp_path / "in.csv").write_bytes(f"Name;Mail\r\nZoë;{ZOE}\r\nZ;\r\n".encode())
    arguments = ("recipients", "links", pixel["slug"], "--csv", str(tmp_path / "in.csv"))
    out = ("--out", str(tmp_path / "out.csv"), "--sent-at", "2026-11-01T09:00+01:00")
    refused = server.cli(*arguments, *out, check=False)
    assert refused.returncode == 1
    assert "Line 3: The cell is blank." in refused.stderr
    assert admin.get(f"/api/pixels/{pixel['id']}/recipients").json["count"] == 0
    dry = server.cli(*arguments, "--skip-bad", "--dry-run")
    assert "2 rows, 1 person" in dry.stderr
    assert not (tmp_path / "out.csv").exists()
    done = server.cli(*arguments, *out, "--skip-bad")
    assert "PIXELKEEP_PUBLIC_URL is not set" in done.stderr
    assert "Goes out Sunday, 1 Nov 2026, 09:00" in done.stderr
    assert "08:00 UTC" in done.stderr
    text = (tmp_path / "out.csv").read_bytes().decode()
    (row,) = csv.DictReader(text.splitlines(), delimiter=";")
    assert row["html"].startswith("<img ")
    assert row["opt_out_url"].startswith(f"{admin.base}/opt-out/")
    path = row["url"].removeprefix(admin.base)
    assert admin.get(path, headers={"User-Agent": "Outlook-Android/2.0"}).status == 200
    (listed,) = json.loads(server.cli("recipients", "list", pixel["slug"], "--json").stdout)
    assert (listed["recipient"], listed["verified"], listed["opens"]) == (ZOE, True, 1)
    found = admin.get(f"/api/pixels/{pixel['id']}").json
    assert found["sentAt"] == "2026-11-01T08:00:00.000Z"
    standard = server.cli(*arguments, "--skip-bad", "--out", "-").stdout
    assert standard.startswith("Name;Mail;url;html;opt_out_url\n")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_merge_is_taken_back_but_for_those_who_opened(server: Server, tmp_path: Path) -> None:
    admin, table = server.admin, tmp_path / "in.csv"
    pixel, next_one = admin.create_pixel(), admin.create_pixel()
    known = admin.post(f"/api/pixels/{pixel['id']}/recipients", {"recipients": [ZOE]})
    table.write_text(f"email\n{ANN}\n{BEN}\n{ZOE}\n")
    out = server.cli("recipients", "links", pixel["slug"], "--csv", str(table), "--out", "-").stdout
    link = out.splitlines()[1].split(",")[1].removeprefix(admin.base)
    admin.get(link, headers={"User-Agent": "Outlook-Android/2.0"})
    again = server.cli(
        *("recipients", "links", next_one["slug"], "--from", pixel["slug"]),
        *("--status", "unopened", "--out", "-"),
    ).stdout
    assert [line.partition(",")[0] for line in again.splitlines()] == ["recipient", BEN, ZOE]
    merges = json.loads(server.cli("recipients", "merges", pixel["slug"], "--json").stdout)
    assert [(merge["people"], merge["canBeTakenBack"]) for merge in merges] == [(2, 1), (1, 1)]
    done = server.cli("recipients", "take-back", pixel["slug"], "--yes")
    assert done.stdout == "Removed 1 people.\n"
    left = admin.get(f"/api/pixels/{pixel['id']}/recipients?orderBy=recipient").json["data"]
    assert [row["recipient"] for row in left] == [ANN, ZOE]
    assert known.status == 200


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        (("--column", "Mail"), 1, "no column 'Mail'"),
        (("--sent-at", "soon"), 1, "That is not a date and time"),
        (("--sent-at", "1960-01-01"), 1, "Must not be before 1970"),
        (("--out", "/no/such/directory/out.csv"), 1, "No such file"),
        (("--out", "in.csv"), 2, "exists already"),
    ],
)
def test_command_that_cannot_work_is_one_line(
    server: Server,
    admin: Client,
    tmp_path: Path,
    arguments: tuple[str, ...],
    status: int,
    problem: str,
) -> None:
    slug = admin.create_pixel(unique("merge"))["slug"]
    table = tmp_path / "in.csv"
    table.write_text(f"name\n{ANN}\n")
    arguments = tuple(str(table) if argument == "in.csv" else argument for argument in arguments)
    files = ("--csv", str(table), "--out", str(tmp_path / "out.csv"))
    done = server.cli("recipients", "links", slug, *files, *arguments, check=False)
    assert done.returncode == status
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.csv").exists()
    assert ".part" not in done.stderr
    assert table.read_text() == f"name\n{ANN}\n"
    assert json.loads(server.cli("recipients", "list", slug, "--json").stdout) == []
