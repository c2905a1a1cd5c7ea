"""What people want: to be counted without a name, to be forgotten, to be told."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from core.links import Links
from tests.conftest import Client, Server, unique, verdicts
from tests.pixels.test_mailings import ago, fetch, links_of, mailing, people
from tests.pixels.test_recipients import old_token
from tests.upkeep.test_retention import age

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/142.0.0.0 Safari/537.36"
)


def somebody() -> str:
    return f"{unique('Ann')}@example.org"


def names(server: Server, pixel: dict[str, Any]) -> list[str | None]:
    return [recipient for _, _, recipient in verdicts(server, pixel)]


def follow(client: Client, link: dict[str, Any]) -> None:
    """Opt out as a mail's reader does: a bare POST."""
    path = link["optOutUrl"].removeprefix(client.base)
    answer = client.with_token(None).post(path)
    assert answer.status == 200, answer.body


def totals(client: Client, pixel: dict[str, Any]) -> dict[str, Any]:
    path = f"/api/pixels/{pixel['id']}/stats?class=all&startAt=0&endAt=4000000000000"
    return client.get(path).json


# Opting out


def test_opt_out_page_is_one_button_without_script_or_cookie(admin: Client) -> None:
    pixel, name = admin.create_pixel(), somebody()
    link = links_of(admin, pixel, name)[name]
    path = link["optOutUrl"].removeprefix(admin.base)
    anybody = admin.with_token(None)
    page = anybody.get(path)
    assert page.status == 200
    assert page.body.count(b"<button") == 1
    assert b"<script" not in page.body
    assert name.encode() not in page.body
    assert b"<strong>admin</strong>" in page.body
    assert page.headers["Set-Cookie"] is None
    assert people(admin, pixel)["data"][0]["optedOut"] is False
    done = anybody.post(path)
    assert (done.status, done.headers["Set-Cookie"]) == (200, None)
    assert b"<button" not in done.body
    assert b"<button" not in anybody.get(path).body
    assert people(admin, pixel)["data"][0]["optedOut"] is True
    assert anybody.get(path[:-4] + "AAAA").status == 404
    assert anybody.post("/opt-out/x").status == 404


@pytest.mark.parametrize(
    ("languages", "language", "button"),
    [
        ("de-AT,de;q=0.9", "de", "Widersprechen"),
        ("fr", "fr", "M’opposer"),
        ("it-CH, en;q=0.5", "it", "Mi oppongo"),
        ("es-MX", "es", "Oponerme"),
        ("pl", "en", "Opt out"),
        ("", "en", "Opt out"),
    ],
)
def test_opt_out_page_speaks_the_browsers_language(
    admin: Client, languages: str, language: str, button: str
) -> None:
    name = somebody()
    link = links_of(admin, admin.create_pixel(), name)[name]
    path = link["optOutUrl"].removeprefix(admin.base)
    page = admin.get(path, headers={"Accept-Language": languages})
    assert f'<html lang="{language}">' in page.body.decode()
    assert button in page.body.decode()
    assert page.headers["Content-Language"] == language


def test_whoever_opted_out_is_named_on_none_of_the_owners_pixels(
    server: Server, admin: Client, stranger: Client
) -> None:
    first, second, foreign = stranger.create_pixel(), stranger.create_pixel(), admin.create_pixel()
    name, other = somebody(), somebody()
    links = [
        links_of(client, pixel, name, other)[name]
        for client, pixel in ((stranger, first), (stranger, second), (admin, foreign))
    ]
    for pixel, link in zip((first, second, foreign), links, strict=True):
        for _ in range(4):  # Each process knows whose it is.
            fetch(admin, link)
        fetch(admin, f"/p/{pixel['slug']}?r={name}")
    before = totals(stranger, second)
    follow(stranger, links[0])
    for pixel, link in zip((first, second, foreign), links, strict=True):
        for _ in range(4):
            fetch(admin, link)
            fetch(admin, f"/p/{pixel['slug']}?r={name.lower()}")
    assert names(server, first) == names(server, second) == [name] * 5 + [None] * 8
    assert names(server, foreign) == [name] * 13
    assert totals(stranger, second)["pageviews"] == before["pageviews"] + 8
    found = mailing(stranger, second)
    assert (found["sent"], found["opened"], found["unopened"]) == (1, 0, 1)
    listed = people(stranger, second, "status=opened")
    assert (listed["data"], listed["counts"]["all"]) == ([], 1)
    again = links_of(stranger, stranger.create_pixel(), name.upper())[name.upper()]
    assert again["optedOut"] is True
    assert stranger.get(f"/api/recipient?name={name}").json["optedOut"] is True
    (said,) = stranger.get("/api/opt-outs").json["data"]
    assert (said["recipient"], said["saidBy"]) == (name, "link")


def test_opens_of_whoever_opted_out_are_in_no_figure_of_the_mailing(
    server: Server, stranger: Client
) -> None:
    pixel, name, other = stranger.create_pixel(), somebody(), somebody()
    links = links_of(stranger, pixel, name, other, sentAt=ago(hours=1, minutes=30))
    for link in (links[name], links[name], links[other], f"/p/{pixel['slug']}?r={name}"):
        fetch(stranger, link)
    before = mailing(stranger, pixel)
    assert (before["sent"], before["opened"], before["opens"]) == (2, 2, 4)
    follow(stranger, links[name])
    found = mailing(stranger, pixel)
    assert (found["sent"], found["opened"], found["openRate"], found["opens"]) == (1, 1, 1.0, 1)
    assert found["hours"][1] == {"hour": 1, "opened": 1, "opens": 1}
    assert sum(hour["opens"] for hour in found["hours"]) == 1
    (listed,) = stranger.get(f"/api/pixels/mailings?ids={pixel['id']}").json["data"]
    assert listed["opens"] == 1
    shown = json.loads(server.cli("mailings", "show", pixel["slug"], "--json").stdout)
    assert shown == found
    # Hits that came since have no name, and count as anybody's.
    fetch(stranger, links[name])
    assert mailing(stranger, pixel)["opens"] == 2


def test_opens_of_whoever_opted_out_leave_days_whose_hits_are_pruned(
    server: Server, stranger: Client
) -> None:
    pixel, name, other = stranger.create_pixel(), somebody(), somebody()
    links = links_of(stranger, pixel, name, other, sentAt=ago(days=40, hours=1))
    for link in (links[name], links[name], links[other]):
        fetch(stranger, link)
    age(server, pixel, 40)
    server.cli("prune", "--days", "30", "--yes")
    found = mailing(stranger, pixel)
    assert (found["opens"], sum(hour["opens"] for hour in found["hours"])) == (3, 3)
    follow(stranger, links[name])
    found = mailing(stranger, pixel)
    assert (found["opens"], sum(hour["opens"] for hour in found["hours"])) == (1, 1)


def test_whoever_opted_out_of_a_mailing_with_a_count_is_not_counted(stranger: Client) -> None:
    pixel, name, other = stranger.create_pixel(), somebody(), somebody()
    values = {"sentCount": 10, "sentAt": ago(minutes=30)}
    stranger.post(f"/api/pixels/{pixel['id']}", values)
    for recipient in (name, name, other):
        fetch(stranger, f"/p/{pixel['slug']}?r={recipient}")
    elsewhere = stranger.create_pixel()
    follow(stranger, links_of(stranger, elsewhere, name)[name])
    found = mailing(stranger, pixel)
    assert (found["basis"], found["opened"], found["opens"], found["openRate"]) == (
        *("count", 1, 1),
        0.1,
    )
    assert found["hours"][0] == {"hour": 0, "opened": 1, "opens": 1}


def test_operator_opts_out_for_every_owner_and_back_in(
    server: Server, admin: Client, stranger: Client
) -> None:
    name = somebody()
    pixels = [(admin, admin.create_pixel()), (stranger, stranger.create_pixel())]
    links = [links_of(client, pixel, name)[name] for client, pixel in pixels]
    server.cli("recipients", "opt-out", name.upper())
    for link in links:
        fetch(admin, link)
    server.cli("recipients", "opt-in", name)
    for link in links:
        fetch(admin, link)
    assert [names(server, pixel) for _, pixel in pixels] == [[None, name]] * 2
    refused = server.cli("recipients", "opt-in", name, check=False)
    assert (refused.returncode, "Nobody opted out" in refused.stderr) == (1, True)


def test_opt_out_goes_along_when_a_pixel_moves(server: Server, stranger: Client) -> None:
    pixel, name = stranger.create_pixel(), somebody()
    link = links_of(stranger, pixel, name)[name]
    follow(stranger, link)
    team = stranger.post("/api/teams", {"name": "Team"}).json[0]
    stranger.post(f"/api/pixels/{pixel['id']}", {"teamId": team["id"]})
    fetch(stranger, link)
    fetch(stranger, f"/p/{pixel['slug']}?r={name}")
    assert names(server, pixel) == [None, None]


def test_opt_out_link_outlives_the_key_the_pixel_and_the_name(
    start_server: Callable[..., Server],
) -> None:
    server = start_server()
    admin, name = server.admin, somebody()
    pixel = admin.create_pixel()
    link = links_of(admin, pixel, name)[name]
    assert admin.delete(f"/api/recipient?name={name}").status == 200
    assert admin.delete(f"/api/pixels/{pixel['id']}").status == 200
    server.cli("secret", "rotate", "--drop-old", "--yes")
    server.stop()
    server.start()
    login = {"username": "admin", "password": server.env["PIXELKEEP_ADMIN_PASSWORD"]}
    admin.token = admin.post("/api/auth/login", login).json["token"]
    follow(admin, link)
    pixel = admin.create_pixel()
    issued = links_of(admin, pixel, name)[name]
    assert issued["optedOut"] is True
    fetch(admin, issued)
    assert names(server, pixel) == [None]
    (said,) = admin.get("/api/opt-outs").json["data"]
    assert said["recipient"] is None


# Forgetting


def test_forgotten_person_leaves_the_totals_and_no_name(server: Server, admin: Client) -> None:
    pixel, name, other = admin.create_pixel(), somebody(), somebody()
    links = links_of(admin, pixel, name, other)
    for link in links.values():
        fetch(admin, link)
        fetch(admin, link)
    fetch(admin, f"/p/{pixel['slug']}?r={name.upper()}&utm_content={quote(name)}x")
    fetch(admin, f"/p/{pixel['slug']}?utm_content={quote(name)}&utm_source=a")
    before = totals(admin, pixel)
    assert admin.delete(f"/api/recipient?name={name.upper()}").json == {"ok": True}
    assert totals(admin, pixel) == before
    for _ in range(3):
        fetch(admin, links[name])
        fetch(admin, f"/p/{pixel['slug']}?r={name}")
        fetch(admin, links[other])
    kept = {other, None}
    assert set(names(server, pixel)) == kept
    after = totals(admin, pixel)
    assert after["pageviews"] == before["pageviews"] + 9
    assert after["visitors"] == before["visitors"]
    assert [row["recipient"] for row in people(admin, pixel)["data"]] == [other]
    assert admin.get(f"/api/recipient?name={name}").code == "not-found"
    assert admin.delete(f"/api/recipient?name={name}").code == "not-found"
    number = server.number_of(pixel)
    texts = server.query(f"SELECT value FROM texts WHERE pixel_number = {number} ORDER BY value")
    assert texts[-1] == ("utm_content=forgotten&utm_source=a",)
    new = links_of(admin, pixel, name)[name]
    assert new["url"] != links[name]["url"]
    fetch(admin, links[name])
    fetch(admin, new)
    assert names(server, pixel)[-2:] == [None, name]


def test_figures_of_a_mailing_stay_when_somebody_is_forgotten(
    server: Server, admin: Client
) -> None:
    pixel, sent_at = admin.create_pixel(), ago(hours=1, minutes=30)
    opener, other, out = somebody(), somebody(), somebody()
    links = links_of(admin, pixel, opener, other, out, sentAt=sent_at)
    for name in (opener, opener, out):
        fetch(admin, links[name])
    follow(admin, links[out])
    before, counts = mailing(admin, pixel), people(admin, pixel)["counts"]
    assert (before["sent"], before["opened"], before["opens"]) == (2, 1, 2)
    for name in (opener, other, out):
        assert admin.delete(f"/api/recipient?name={name}").status == 200
    assert mailing(admin, pixel) == before
    found = people(admin, pixel)
    assert (found["data"], found["count"], found["counts"]) == ([], 0, counts)
    assert people(admin, pixel, "orderBy=opens&status=opened")["count"] == 0
    exported = admin.get(f"/api/pixels/{pixel['id']}/recipients/export?format=jsonl")
    assert exported.body == b""
    known = admin.get("/api/recipients?pageSize=100").json
    assert not {opener, other, out} & {row["recipient"] for row in known["data"]}
    # Their link is nobody's, and issued again they are somebody new.
    fetch(admin, links[other])
    new = links_of(admin, pixel, opener, sentAt=sent_at)[opener]
    assert new["url"] != links[opener]["url"]
    after = mailing(admin, pixel)
    assert (after["sent"], after["opened"], after["unopened"]) == (3, 1, 2)
    fetch(admin, new)
    assert mailing(admin, pixel)["opened"] == 2
    number = server.number_of(pixel)
    rows = server.query(
        "SELECT recipient, person, issued_at FROM recipients"
        f" WHERE pixel_number = {number} AND recipient IS NULL"
    )
    assert rows == [(None, None, None)] * 3
    # Reclassified, all is counted anew.
    server.execute(f"UPDATE profiles SET rules_version = -1 WHERE pixel_number = {number}")
    before = mailing(admin, pixel)
    server.cli("reclassify")
    assert mailing(admin, pixel) == before


def test_person_is_forgotten_on_one_pixel_alone(server: Server, admin: Client) -> None:
    first, second, name = admin.create_pixel(), admin.create_pixel(), somebody()
    for pixel in (first, second):
        fetch(admin, links_of(admin, pixel, name)[name])
    path = f"/api/pixels/{first['id']}/recipient?name={name}"
    assert admin.delete(path).status == 200
    assert names(server, first) + names(server, second) == [None, name]
    assert admin.delete(path).code == "not-found"


def test_stranger_forgets_nobody_of_others(server: Server, admin: Client, stranger: Client) -> None:
    pixel, name = admin.create_pixel(), somebody()
    fetch(admin, links_of(admin, pixel, name)[name])
    assert stranger.delete(f"/api/recipient?name={name}").code == "not-found"
    assert stranger.delete(f"/api/pixels/{pixel['id']}/recipient?name={name}").status == 404
    assert names(server, pixel) == [name]


def test_no_file_holds_the_name_of_somebody_forgotten(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server()
    admin, name = server.admin, f"{unique('unforgettable')}@example.org"
    pixel = admin.create_pixel()
    many = [f"{unique('reader')}@example.org" for _ in range(3_000)]
    links = links_of(admin, pixel, *many[:1_500], name, *many[1_500:], sentAt="2026-11-01T00:00Z")
    fetch(admin, links[name])
    for reader in many[:20]:
        fetch(admin, links[reader])
    fetch(admin, f"/p/{pixel['slug']}?r={name}&utm_content={name}")
    follow(admin, links[name])
    server.cli("recipients", "forget", name.upper(), "--yes")
    for _ in range(4):
        fetch(admin, links[name])
        fetch(admin, f"/p/{pixel['slug']}?r={name}")
    server.cli("backup", str(tmp_path / "copy.db"))
    needle = name.partition("@")[0].lower().encode()
    files = [path for where in (server.data_dir, tmp_path) for path in where.rglob("*")]
    held = [path.name for path in files if path.is_file() and needle in path.read_bytes().lower()]
    assert held == []
    assert many[0].encode() in (server.data_dir / "pixelkeep.db").read_bytes()
    for path in ("export", "recipients/export"):
        assert needle not in admin.get(f"/api/pixels/{pixel['id']}/{path}").body.lower()


def test_no_query_finds_the_name_of_somebody_forgotten_on_postgresql(
    start_server: Callable[..., Server],
) -> None:
    server = start_server("postgresql", webhook_private="1")
    admin, name = server.admin, f"{unique('unforgettable')}@example.org"
    pixel = admin.create_pixel()
    for events in (["hit"], ["first-open"]):
        hook = {"url": "http://127.0.0.1:9/", "events": events}
        assert admin.post("/api/webhooks", hook).status == 200
    link = links_of(admin, pixel, name, "ann", sentAt="2026-11-01T00:00Z")[name]
    fetch(admin, link)
    fetch(admin, f"/p/{pixel['slug']}?r={name}&utm_content={quote(name)}&x={name}")
    headers = {"User-Agent": f"Reader/1 ({name})", "Referer": f"https://x.example/{name}?a={name}"}
    assert admin.get(f"/p/{pixel['slug']}", headers=headers).status == 200
    follow(admin, link)
    needle = name.partition("@")[0].lower()
    assert {"recipients", "texts", "agents", "opt_outs"} <= tables_holding(server, needle)
    assert admin.delete(f"/api/recipient?name={name.upper()}").status == 200
    for _ in range(4):
        fetch(admin, link)
        fetch(admin, f"/p/{pixel['slug']}?r={name}")
    assert tables_holding(server, needle) == set()
    assert needle not in server.log.lower()
    for path in ("export?class=all", "recipients/export"):
        assert needle not in admin.get(f"/api/pixels/{pixel['id']}/{path}").body.decode().lower()


def tables_holding(server: Server, needle: str) -> set[str]:
    """Return the tables of which any column of any row holds a text, whatever its type."""
    tables = server.query(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    return {
        table
        for (table,) in tables
        if any(needle in repr(row).lower() for row in server.query(f'SELECT * FROM "{table}"'))
    }


def test_link_of_older_times_names_until_forgotten(server: Server, admin: Client) -> None:
    pixel, name = admin.create_pixel(), somebody()
    keys = (server.data_dir / "secret_key").read_text().split()[::-1]
    token = old_token(Links(keys), uuid.UUID(pixel["id"]), name)
    path = f"/p/{pixel['slug']}?s={token}"
    fetch(admin, path)
    fetch(admin, path)
    assert [row["opens"] for row in people(admin, pixel)["data"]] == [2]
    issued = links_of(admin, pixel, name)[name]
    fetch(admin, issued)
    assert [row["opens"] for row in people(admin, pixel)["data"]] == [3]
    admin.delete(f"/api/recipient?name={name}")
    fetch(admin, path)
    assert names(server, pixel) == [None] * 4


# Consent


def test_pixel_that_asks_for_consent_names_only_those_who_gave_it(
    server: Server, admin: Client
) -> None:
    pixel, ann, bob = admin.create_pixel(), somebody(), somebody()
    admin.post(f"/api/pixels/{pixel['id']}", {"privacy": "consent"})
    with_consent = links_of(admin, pixel, ann, consent=True)[ann]
    without = links_of(admin, pixel, bob)[bob]
    fetch(admin, with_consent)
    fetch(admin, without)
    fetch(admin, f"/p/{pixel['slug']}?r={bob}")
    assert names(server, pixel) == [ann, None, None]
    assert totals(admin, pixel)["visitors"] == 2
    assert [row["recipient"] for row in people(admin, pixel)["data"]] == [ann]
    later = links_of(admin, pixel, bob, consent=True)[bob]
    fetch(admin, later)
    assert names(server, pixel)[-1] == bob


def test_consent_is_asked_of_those_issued_before(server: Server, admin: Client) -> None:
    pixel, ann = admin.create_pixel(), somebody()
    link = links_of(admin, pixel, ann)[ann]
    fetch(admin, link)
    admin.post(f"/api/pixels/{pixel['id']}", {"privacy": "consent"})
    fetch(admin, link)
    links_of(admin, pixel, ann, consent=True)
    fetch(admin, link)
    assert names(server, pixel) == [ann, None, ann]


# Tags that nobody replaced


@pytest.mark.parametrize(
    "tag", ["*|EMAIL|*", "{{ email }}", "%recipient%", "[EMAIL]", "%%emailaddr%%", "${email}"]
)
def test_unreplaced_merge_tag_is_no_person(server: Server, admin: Client, tag: str) -> None:
    pixel = admin.create_pixel()
    fetch(admin, f"/p/{pixel['slug']}?r={quote(tag)}")
    fetch(admin, f"/p/{pixel['slug']}?r=[ann")
    assert verdicts(server, pixel) == [
        ("open", "merge-tag", None),
        ("open", "mail-client", "[ann"),
    ]


# Telling


def test_command_shows_all_that_is_kept(server: Server, admin: Client) -> None:
    pixel, name = admin.create_pixel(), somebody()
    fetch(admin, links_of(admin, pixel, name)[name])
    shown = json.loads(server.cli("recipients", "show", name.lower(), "--json").stdout)
    assert shown == admin.get(f"/api/recipient?name={name}").json
    words = server.cli("recipients", "show", name).stdout
    assert name in words
    assert "Outlook-Android" in words
    follow(admin, links_of(admin, pixel, name)[name])
    listed = server.cli("recipients", "opt-outs", "--csv", "-").stdout
    assert f"{name}," in listed
