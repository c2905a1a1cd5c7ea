"""Files that are taken out of Pixelkeep: what is in them, for whom, and the way back."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from urllib.parse import quote

import pytest

from pixels.spreadsheets import BYTE_ORDER_MARK
from tests.conftest import Client, Server, unique
from tests.web.pages.test_pages import Browser

NAMES = ["=1+1", "x;=1+2", "＝1+1", "José, @home", "'=quoted", "plain"]


@pytest.fixture
def pixel_of_admin(server: Server, admin: Client) -> dict[str, str]:
    pixel = admin.create_pixel()
    assert admin.post(f"/api/pixels/{pixel['id']}/recipients", {"recipients": NAMES}).status == 200
    assert admin.get(f"/p/{pixel['slug']}?r={quote(NAMES[1])}&q=x;=1").status == 200
    return pixel


def test_what_pages_let_people_download_is_utf8_for_spreadsheets(
    server: Server, pixel_of_admin: dict[str, str]
) -> None:
    browser = Browser(Client(server.base)).sign_in("admin")
    path = f"/pixels/{pixel_of_admin['id']}"
    for name in ("recipients.csv", "export.csv?class=all"):
        text = browser.get(f"{path}/{name}").body.decode()
        assert text.startswith(BYTE_ORDER_MARK)
        assert ";=1" not in text
        assert ";'=1" in text
    assert not browser.get(f"{path}/export.jsonl?class=all").body.startswith(b"\xef\xbb\xbf")


def test_programs_get_no_byte_order_mark(
    server: Server, admin: Client, pixel_of_admin: dict[str, str]
) -> None:
    exported = admin.get(f"/api/pixels/{pixel_of_admin['id']}/export?class=all").body.decode()
    assert exported.startswith("id,")
    assert server.cli("export", pixel_of_admin["slug"], "--class", "all").stdout.startswith("id,")


def test_exported_recipients_come_back_as_they_were(
    server: Server, admin: Client, pixel_of_admin: dict[str, str], tmp_path: Path
) -> None:
    browser = Browser(Client(server.base)).sign_in("admin")
    sheet = tmp_path / "recipients.csv"
    sheet.write_bytes(browser.get(f"/pixels/{pixel_of_admin['id']}/recipients.csv").body)
    signed = tmp_path / "signed.csv"
    other = admin.create_pixel()
    server.cli("recipients", "links", other["slug"], "--csv", str(sheet), "--out", str(signed))
    listed = admin.get(f"/api/pixels/{other['id']}/recipients?pageSize=100").json["data"]
    assert sorted(row["recipient"] for row in listed) == sorted(NAMES)
    # A merge's own cells stay as they came.
    before = list(csv.reader(io.StringIO(sheet.read_text("utf-8-sig"), newline="")))
    after = list(csv.reader(io.StringIO(signed.read_text("utf-8-sig"), newline="")))
    assert [row[: len(before[0])] for row in after] == before

    third = admin.create_pixel()
    path = f"/pixels/{third['id']}/links"
    pasted = sheet.read_bytes().decode()
    assert browser.send(path, list=pasted).status == 200  # Shows what would be made.
    assert browser.send(f"{path}/make", path, list=pasted).status == 200
    listed = admin.get(f"/api/pixels/{third['id']}/recipients?pageSize=100").json["data"]
    assert sorted(row["recipient"] for row in listed) == sorted(NAMES)


def test_files_of_peoples_names_are_their_owners_only(
    server: Server, admin: Client, pixel_of_admin: dict[str, str], tmp_path: Path
) -> None:
    sheet, signed, hits = tmp_path / "in.csv", tmp_path / "signed.csv", tmp_path / "hits.csv"
    sheet.write_text(f"recipient\n{unique('ada')}\n")
    hits.write_text("world-readable before")
    slug = pixel_of_admin["slug"]
    server.cli("recipients", "links", slug, "--csv", str(sheet), "--out", str(signed))
    server.cli("export", slug, "--class", "all", "--out", str(hits))
    for file in (signed, hits):
        assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("*.part")] == []
