"""What a terminal is shown of what strangers sent, and how a lost password is replaced."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.conftest import PASSWORD, Client, Server, unique

EVIL = "\x1b]0;x\x07\r\nFAKE\x9b31m\u202e\u2028\x00\x7f"


def is_plain(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def test_controls_are_dropped_from_whatever_is_stored(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    query = f"r={quote(EVIL)}x&utm_source={quote(EVIL)}y&q=\u009b"
    answer = admin.get(f"/p/{pixel['slug']}?{quote(query, safe='=&%')}")
    assert answer.status == 200
    sent = {
        "type": "event",
        "payload": {
            "pixel": pixel["id"],
            "id": f"{EVIL}z",
            "referrer": f"https://e.example/{EVIL}",
            "userAgent": f"Mozilla/5.0 {EVIL}",
            "url": f"/x?utm_term={EVIL}",
        },
    }
    assert admin.post("/api/send", sent).status == 200
    number = server.number_of(pixel)
    stored = [
        *server.query(f"SELECT recipient FROM recipients WHERE pixel_number = {number}"),
        *server.query(f"SELECT value FROM texts WHERE pixel_number = {number}"),
        *server.query("SELECT user_agent FROM agents"),
    ]
    for (value,) in stored:
        assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in value)
    assert ("]0;xFAKE31m\u202e\u2028x",) in stored
    hits = admin.get(f"/api/pixels/{pixel['id']}/events?class=all").json["data"]
    assert len(hits) == 2


@pytest.mark.parametrize(
    "command",
    [
        ("recipients", "list", "{slug}"),
        ("stats", "{slug}", "--class", "all", "--by", "recipient"),
        ("stats", "{slug}", "--class", "all", "--by", "utmSource"),
        ("stats", "{slug}", "--class", "all", "--by", "query"),
        ("pixels", "list"),
    ],
    ids=" ".join,
)
def test_tables_show_what_cant_be_printed_as_escaped(
    server: Server, admin: Client, command: tuple[str, ...]
) -> None:
    pixel = admin.create_pixel()
    query = "r=EVIL&utm_source=%1B%5D0;x%07%0D%0AFAKE%E2%80%AE"
    assert admin.get(f"/p/{pixel['slug']}?{query}").status == 200
    # As earlier versions stored it.
    number = server.number_of(pixel)
    evil = EVIL.replace("\0", "")
    server.execute(f"UPDATE recipients SET recipient = '{evil}' WHERE pixel_number = {number}")
    server.execute(f"UPDATE pixels SET name = '{evil}' WHERE number = {number}")
    server.execute("UPDATE catalogue SET version = version + 1")
    server.execute(f"UPDATE pixels SET revision = revision + 1 WHERE number = {number}")
    words = [word.format(slug=pixel["slug"]) for word in command]
    table = server.cli(*words).stdout
    assert is_plain(table), table
    assert "\\x1b" in table or "query" in words or "utmSource" in words
    printed = server.cli(*words, "--json").stdout
    assert is_plain(printed), printed
    assert json.loads(printed)
    server.execute(f"UPDATE pixels SET name = 'plain' WHERE number = {number}")


def test_lost_password_is_replaced_and_ends_every_token(server: Server, admin: Client) -> None:
    name = unique("Lost")
    user = {"username": name, "password": PASSWORD, "role": "user"}
    admin.post("/api/users", user)
    token = admin.post("/api/auth/login", user).json["token"]
    said = server.cli("users", "password", name, "--password", "another secret phrase")
    assert name in said.stdout
    assert "another secret phrase" not in said.stdout + said.stderr
    assert admin.with_token(token).get("/api/me").status == 401
    assert admin.post("/api/auth/login", user).status == 401
    changed = {**user, "password": "another secret phrase"}
    assert admin.post("/api/auth/login", changed).status == 200


def test_password_is_asked_for_on_a_terminal_only(server: Server) -> None:
    said = server.cli("users", "password", "admin", check=False)
    assert said.returncode != 0
    assert "--password" in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1


def test_password_that_is_too_short_or_of_nobody_is_refused(server: Server) -> None:
    short = server.cli("users", "password", "admin", "--password", "short", check=False)
    assert short.returncode != 0
    assert "8" in short.stderr
    nobody = server.cli("users", "password", unique("x"), "--password", PASSWORD, check=False)
    assert nobody.returncode != 0
    assert "users list" in nobody.stderr
