"""The operator's command line, as an operator types it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.commands import print_rows
from cli.run import COMMANDS, main
from tests.conftest import PASSWORD, PROJECT_DIR, Client, Server, unique

CONTEXT = click.Context(main)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command and group, with its words."""
    yield path, group
    for name in group.list_commands(CONTEXT):
        command = group.get_command(CONTEXT, name)
        assert command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


EVERY_COMMAND = list(commands(main))


@pytest.mark.parametrize("words", [words for words, _ in EVERY_COMMAND], ids=" ".join)
def test_help_of_each_command_says_what_it_does(words: tuple[str, ...]) -> None:
    said = CliRunner().invoke(main, [*words, "--help"], prog_name="script/pixelkeep").output
    assert said.startswith(" ".join(["Usage: script/pixelkeep", *words]))
    assert re.search(r"^  [A-Z][^.]+\.", said, re.MULTILINE), said


def test_every_option_of_every_command_has_a_help_text() -> None:
    silent = [
        " ".join((*words, option.opts[-1]))
        for words, command in EVERY_COMMAND
        for option in command.params
        if isinstance(option, click.Option) and not (option.help or "").strip()
    ]
    assert silent == []


def test_list_of_commands_says_of_each_what_its_own_help_begins_with() -> None:
    own = {
        words[0]: command.get_short_help_str()
        for words, command in EVERY_COMMAND
        if words[:1] and not words[1:]
    }
    assert {name: says for name, (_, says) in COMMANDS.items()} == own


@pytest.mark.processes
def test_help_loads_nothing_of_the_application() -> None:
    code = (
        "import sys; from cli.run import main; main(['--help'], standalone_mode=False);"
        " print('loaded', sorted({'flask', 'sqlalchemy', 'numpy'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_DIR, capture_output=True, text=True, check=False
    )
    assert "pixels" in said.stdout
    assert said.stdout.endswith("loaded []\n"), said


def listed(server: Server, *command: str) -> list[dict[str, object]]:
    return json.loads(server.cli(*command, "--json").stdout)


def test_users_are_created_listed_and_deleted(server: Server, admin: Client) -> None:
    name = unique("ada")
    server.cli("users", "create", name, "--password", PASSWORD)
    by_name = {user["username"]: user for user in listed(server, "users", "list")}
    assert by_name[name]["role"] == "user"
    answer = admin.post("/api/auth/login", {"username": name, "password": PASSWORD})
    assert answer.status == 200
    key = server.cli("keys", "create", name, "laptop").stdout.strip()
    pixel = admin.with_token(key).create_pixel()
    server.cli("users", "delete", name, "--yes")
    assert admin.with_token(key).get("/api/me").status == 401
    assert admin.with_token(answer.json["token"]).get("/api/me").status == 401
    assert admin.get(f"/p/{pixel['slug']}").status == 404


def test_user_of_a_taken_name_is_one_line(server: Server) -> None:
    said = server.cli("users", "create", "admin", "--password", PASSWORD, check=False)
    assert said.returncode == 1
    assert said.stderr.strip() == "pixelkeep: That username is already taken."


def test_user_without_a_name_is_refused(server: Server) -> None:
    for name in (" ", "x" * 256):
        said = server.cli("users", "create", name, "--password", PASSWORD, check=False)
        assert said.returncode == 1
        assert said.stderr.startswith("Error: username: ")


@pytest.mark.processes
def test_command_before_the_first_start_makes_no_key(tmp_path: Path) -> None:
    said = Server(tmp_path / "new", None).cli("users", "list", check=False)
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert "script/server" in said.stderr
    assert not (tmp_path / "new").exists()


def test_short_password_is_refused(server: Server) -> None:
    said = server.cli("users", "create", unique("x"), "--password", "short", check=False)
    assert said.returncode == 1
    assert "password: Length must be between 8 and 1000" in said.stderr


def test_keys_are_made_with_limits(server: Server, admin: Client) -> None:
    pixel, name = admin.create_pixel(), unique("limited")
    limits = ["--scope", "read", "--pixel", pixel["slug"], "--expires-at", "2099-01-31T00:00:00Z"]
    key = server.cli("keys", "create", "admin", name, *limits).stdout.strip()
    assert admin.with_token(key).get(f"/api/pixels/{pixel['id']}").status == 200
    assert admin.with_token(key).get("/api/pixels").status == 403
    row = next(row for row in listed(server, "keys", "list") if row["name"] == name)
    assert [row[limit] for limit in ("scope", "pixelId", "teamId", "expiresAt")] == [
        *("read", pixel["id"], None, "2099-01-31T00:00:00.000Z")
    ]


def test_keys_are_listed_by_prefix_and_end_when_revoked(server: Server, admin: Client) -> None:
    name = unique("key")
    key = server.cli("keys", "create", "admin", name).stdout.strip()
    assert admin.with_token(key).get("/api/me").status == 200
    row = next(row for row in listed(server, "keys", "list") if row["name"] == name)
    assert key.startswith(str(row["keyPrefix"]))
    assert key not in json.dumps(listed(server, "keys", "list"))
    server.cli("keys", "revoke", "admin", str(row["id"]), "--yes")
    assert admin.with_token(key).get("/api/me").status == 401


def test_teams_have_members_until_they_are_removed(server: Server) -> None:
    name, member = unique("team"), unique("member")
    server.cli("users", "create", member, "--password", PASSWORD)
    server.cli("teams", "create", name, "--owner", "admin")
    team = next(row for row in listed(server, "teams", "list") if row["name"] == name)
    team_id = str(team["id"])
    assert team["members"] == 1
    server.cli("teams", "add", team_id, member, "--role", "team-manager")
    server.cli("teams", "add", team_id, member, "--role", "team-member")
    roles = {row["username"]: row["role"] for row in listed(server, "teams", "members", team_id)}
    assert roles == {"admin": "team-owner", member: "team-member"}
    server.cli("teams", "remove", team_id, member, "--yes")
    assert len(listed(server, "teams", "members", team_id)) == 1
    slug = unique("teams")
    server.cli("pixels", "create", "Team's", slug, "--team", team_id)
    table = server.cli("pixels", "list", "--search", slug).stdout
    assert name in table
    assert team_id not in table
    server.cli("teams", "delete", team_id, "--yes")
    assert name not in server.cli("teams", "list").stdout


def test_pixels_are_created_embedded_listed_and_deleted(server: Server, admin: Client) -> None:
    slug = unique("letter")
    said = server.cli("pixels", "create", "Letter", slug).stdout
    image = re.search(r'<img src="([^"]+)" width="1" height="1" alt="" />', said)
    assert image
    assert server.cli("pixels", "embed", slug).stdout.strip() == image[0]
    assert admin.get(image[1].removeprefix(admin.base)).status == 200
    signed = server.cli("pixels", "embed", slug, "--recipient", "ada").stdout
    assert f"/p/{slug}?s=" in signed
    row = listed(server, "pixels", "list", "--search", slug)[0]
    assert (row["slug"], row["hits"]) == (slug, 1)
    assert (row["owner"], row["ownerName"]) == (admin.get("/api/me").json["user"]["id"], "admin")
    assert re.fullmatch(r"\d{4}-.*Z", str(row["lastHitAt"]))
    server.cli("pixels", "delete", slug, "--yes")
    assert listed(server, "pixels", "list", "--search", slug) == []


def test_stats_and_export_show_the_hits_of_a_pixel(server: Server, admin: Client) -> None:
    slug = admin.create_pixel()["slug"]
    for agent in ("Outlook-Android/2.0", "Outlook-Android/2.0", "curl/8.0"):
        assert admin.get(f"/p/{slug}", headers={"User-Agent": agent}).status == 200
    assert listed(server, "stats", slug)[0]["pageviews"] == 2
    by_class = listed(server, "stats", slug, "--class", "all", "--by", "class")
    assert {row["name"]: row["pageviews"] for row in by_class} == {"open": 2, "bot": 1}
    lines = server.cli("export", slug, "--class", "all", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["mail-client"] * 2 + ["tool"]
    path = server.data_dir / f"{slug}.csv"
    server.cli("export", slug, "--out", str(path))
    assert len(path.read_text().splitlines()) == 3


def test_pixel_with_a_blank_slug_is_one_line(server: Server) -> None:
    said = server.cli("pixels", "create", "x", "  ", check=False)
    assert said.returncode == 1
    assert "slug: Must not be blank." in said.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["users", "delete", "admin"],
        ["pixels", "delete", "SLUG"],
    ],
)
def test_destructive_command_asks_and_does_nothing_without_an_answer(
    server: Server, admin: Client, command: list[str]
) -> None:
    slug = admin.create_pixel()["slug"]
    words = [slug if word == "SLUG" else word for word in command]
    # Where nobody can answer, nothing is asked.
    said = server.cli(*words, check=False)
    assert said.returncode == 1
    assert "--yes" in said.stderr
    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")
    asked = subprocess.run(
        [sys.executable, "-m", "cli.run", *words],
        cwd=PROJECT_DIR,
        env=server.env,
        stdin=theirs,
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    assert asked.returncode == 1
    assert "[y/N]" in asked.stdout
    assert admin.get(f"/p/{slug}").status == 200


@pytest.mark.parametrize(
    "command",
    [
        ["users", "delete", "nobody-of-this-name", "--yes"],
        ["keys", "create", "nobody-of-this-name", "x"],
        ["pixels", "embed", "no-such-slug"],
        ["teams", "members", "880e8400-e29b-41d4-a716-446655440003"],
    ],
)
def test_command_about_nothing_says_what_lists_it(server: Server, command: list[str]) -> None:
    said = server.cli(*command, check=False)
    assert said.returncode == 1
    assert "list` shows them" in said.stderr


def test_check_is_ok_on_a_server_that_is(server: Server) -> None:
    found = dict(re.findall(r"^(\w+) +(.*)$", server.cli("check").stdout, re.MULTILINE))
    assert {"settings", "database", "migrations", "SQLite", "rules", "disk"} <= set(found)
    assert set(found.values()) == {"ok", "nothing goes by itself"}


def test_list_of_nothing_says_none(server: Server) -> None:
    assert server.cli("pixels", "list", "--search", unique("nothing")).stdout == "None.\n"


def test_lists_of_commands_are_not_cut() -> None:
    for words in ([], ["recipients"], ["users"], ["secret"]):
        said = CliRunner().invoke(main, [*words, "--help"], prog_name="script/pixelkeep").output
        _, _, commands_shown = said.partition("Commands:")
        assert commands_shown
        assert "..." not in commands_shown


def test_dimension_spelled_in_another_way_is_suggested(server: Server, admin: Client) -> None:
    slug = admin.create_pixel()["slug"]
    for spelled in ("utm_campaign", "utmcampain", "UTM-Campaign"):
        said = server.cli("stats", slug, "--by", spelled, check=False)
        assert said.returncode != 0
        assert "did you mean utmCampaign?" in said.stderr


def test_shares_are_created_listed_and_ended(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    url = server.cli("shares", "create", pixel["slug"], "for Ada").stdout.strip()
    assert Client(server.base).get(url.removeprefix(server.base)).status == 200
    [share] = listed(server, "shares", "list", pixel["slug"])
    assert (share["url"], share["name"]) == (url, "for Ada")
    refused = server.cli("shares", "end", str(share["slug"]), check=False)
    assert "--yes" in refused.stderr
    server.cli("shares", "end", str(share["slug"]), "--yes")
    assert Client(server.base).get(url.removeprefix(server.base)).status == 404
    assert listed(server, "shares", "list", pixel["slug"]) == []


def test_pixel_is_renamed_and_a_taken_slug_is_one_line(server: Server, admin: Client) -> None:
    pixel, other, slug = admin.create_pixel(), admin.create_pixel(), unique("renamed")
    server.cli("pixels", "rename", pixel["slug"], "--name", "Spring", "--slug", slug)
    now = admin.get(f"/api/pixels/{pixel['id']}").json
    assert (now["name"], now["slug"]) == ("Spring", slug)
    assert admin.get(f"/p/{slug}").status == 200
    for wrong in ([], ["--slug", other["slug"]], ["--name", ""]):
        refused = server.cli("pixels", "rename", slug, *wrong, check=False)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
    assert admin.get(f"/p/{slug}").status == 200


def test_table_says_instants_as_people_do(server: Server, admin: Client) -> None:
    slug = admin.create_pixel()["slug"]
    server.cli("shares", "create", slug, "all")
    head, row = server.cli("shares", "list", slug).stdout.splitlines()
    assert head.endswith("createdAt (UTC)")
    assert re.search(r"  \d{1,2} [A-Z][a-z]{2} \d{4}, \d\d:\d\d$", row)
    [share] = listed(server, "shares", "list", slug)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", str(share["createdAt"]))


def test_what_is_told_of_people_and_mailings_is_in_words(server: Server, admin: Client) -> None:
    pixel, name = admin.create_pixel(), unique("ann")
    assert admin.get(f"/p/{pixel['slug']}?r={name}", headers={"User-Agent": FIREFOX}).status == 200
    shown = server.cli("recipients", "show", name).stdout
    listed = server.cli("recipients", "list", pixel["slug"]).stdout
    mailing = server.cli("mailings", "show", pixel["slug"]).stdout
    server.cli("recipients", "opt-out", name)
    opted_out = server.cli("recipients", "opt-outs").stdout
    for told in (shown, listed, mailing, opted_out):
        assert re.search(r"\d{1,2} [A-Z][a-z]{2} \d{4}, \d\d:\d\d", told), told
        assert not re.search(r"\d{4}-\d\d-\d\d|True|False", told), told
        assert "(UTC)" in told
    assert re.search(r"^  verified +no$", shown, re.MULTILINE)


def test_table_says_yes_and_no(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"verified": True}, {"verified": False}], as_json=False)
    assert capsys.readouterr().out.split() == ["verified", "yes", "no"]
