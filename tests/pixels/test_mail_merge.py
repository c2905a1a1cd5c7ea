"""A CSV for a mail merge: what comes in goes out, with each recipient's link beside it."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixels import mail_merge
from pixels.mail_merge import SheetError
from pixels.recipients import Link
from tests.conftest import Client, Server

ADDED = ["url", "html"]


def issue(names: list[str]) -> Sequence[Link]:
    return [Link(name, f"http://x/{name}", f"<img {name}>") for name in dict.fromkeys(names)]


def merged(path: Path, column: str | None = None, encoding: str | None = None) -> bytes:
    out = path.with_name("out.csv")
    sheet = mail_merge.open_sheet(path, column, encoding)
    mail_merge.merge(sheet, out, issue, lambda count: None)
    return out.read_bytes()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_merge_keeps_encoding_delimiter_and_line_ends(
    tmp_path: Path, encoding: str, delimiter: str, line_end: str
) -> None:
    lines = [["name", "email"], ["Zoë", "zoe@example.org"], ["a\nb", "b@example.org"]]
    path = tmp_path / "in.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator=line_end).writerows(lines)
    expected = [
        lines[0] + ADDED,
        *([*line, f"http://x/{line[1]}", f"<img {line[1]}>"] for line in lines[1:]),
    ]
    with (tmp_path / "expected.csv").open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator=line_end).writerows(expected)
    assert merged(path, "email") == (tmp_path / "expected.csv").read_bytes()


def test_merge_in_a_named_encoding_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes("recipient\nJörg\n".encode("cp1252"))
    with pytest.raises(SheetError, match=r"not utf-8.*--encoding"):
        merged(path)
    assert merged(path, encoding="cp1252").decode("cp1252").count("Jörg") == 3


def test_merge_takes_the_first_column_and_skips_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('recipient,note\n"ann",\n\nann\n')
    assert merged(path).decode().splitlines() == [
        "recipient,note,url,html",
        "ann,,http://x/ann,<img ann>",
        "ann,,http://x/ann,<img ann>",
    ]


def test_merge_leaves_what_looks_like_a_formula_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("recipient,note\nann,=1+1\n+49 30 1234,@x\n")
    rows = list(csv.reader(merged(path).decode().splitlines()))
    assert [row[:2] for row in rows[1:]] == [["ann", "=1+1"], ["+49 30 1234", "@x"]]


@pytest.mark.parametrize(
    ("content", "column", "problem"),
    [
        (b"", None, "begin"),
        (b"\n", None, "begin"),
        (b"a,a\nann,x\n", None, "begin"),
        (b"name\nann\n", "email", "no column 'email' but name"),
        (b"name,url\nann,x\n", None, "has a column 'url' already"),
        (b"name\nann\n \n", None, "line 3: Must not be blank"),
        (b"name,email\nann\n", "email", "line 2: Must not be blank"),
        (b"name\nann,bob\n", None, "line 2: 2 cells under 1 columns"),
        (b"name\n" + b"x" * 201 + b"\n", None, "line 2: Must be 1 to 200"),
        (b'name\n"ann\n', None, "line 2: unexpected end"),
        (b"name\na\0b\n", None, "line 2: "),
        (b"name\n" + b"x" * 200_000 + b"\n", None, "line 2: field larger"),
        (b"\x89PNG\r\n\x1a\n\0\0", None, "not utf-8"),
        (b"name\nann\n\xff\n", None, "not utf-8.*--encoding"),
        (b"name\n" + b"ann\n" * 100_000 + b"\xff\n", None, "not utf-8.*--encoding"),
    ],
)
def test_sheet_that_cannot_be_used_names_the_line_and_writes_nothing(
    tmp_path: Path, content: bytes, column: str | None, problem: str
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    (tmp_path / "out.csv").write_text("as it was")
    with pytest.raises(SheetError, match=problem):
        merged(path, column)
    assert (tmp_path / "out.csv").read_text() == "as it was"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_sheet_in_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("name\nann\n")
    with pytest.raises(SheetError, match="unknown encoding"):
        merged(path, encoding="klingon")


cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(st.lists(st.tuples(st.from_regex(r"[a-z@.]{1,20}", fullmatch=True), cells, cells)))
def test_any_cells_go_out_as_they_came(rows: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "in.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("recipient", "first", "second"), *rows])
        found = list(csv.reader(merged(path).decode().splitlines(keepends=True)))
    assert [tuple(row[:3]) for row in found[1:]] == rows


def test_command_writes_links_that_open_and_are_listed(
    server: Server, admin: Client, tmp_path: Path
) -> None:
    pixel = admin.create_pixel()
    (tmp_path / "in.csv").write_bytes("Name;Mail\r\nZoë;zoe@example.org\r\n".encode())
    files = ("--csv", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv"))
    done = server.cli("recipients", "links", pixel["slug"], *files, "--column", "Mail")
    assert "PIXELKEEP_PUBLIC_URL is not set" in done.stderr
    text = (tmp_path / "out.csv").read_bytes().decode()
    (row,) = csv.DictReader(text.splitlines(), delimiter=";")
    assert row["html"].startswith("<img ")
    path = row["url"].removeprefix(admin.base)
    assert admin.get(path, headers={"User-Agent": "Outlook-Android/2.0"}).status == 200
    (listed,) = json.loads(server.cli("recipients", "list", pixel["slug"], "--json").stdout)
    assert (listed["recipient"], listed["verified"]) == ("zoe@example.org", True)
    assert (listed["opens"], listed["prefetches"], listed["bots"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--column", "Mail"), "no column 'Mail'"),
        (("--sent-at", "soon"), "--sent-at"),
        (("--sent-at", "1960-01-01"), "--sent-at"),
        (("--out", "/no/such/directory/out.csv"), "No such file"),
    ],
)
def test_command_that_cannot_work_is_one_line(
    server: Server, admin: Client, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    pixel = admin.create_pixel()
    (tmp_path / "in.csv").write_text("name\nann\n")
    files = ("--csv", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv"))
    done = server.cli("recipients", "links", pixel["slug"], *files, *arguments, check=False)
    assert done.returncode == 1
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.csv").exists()
