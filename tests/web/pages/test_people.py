"""The pages that change things: settings, shares, recipients, teams, the account, users."""

from __future__ import annotations

import csv
import io
import re
import secrets
from collections.abc import Iterator

import pytest

from tests.conftest import PASSWORD, Answer, Client, Server, new_user, unique
from tests.web.pages.test_pages import (
    THUNDERBIRD,
    Browser,
    create_pixel,
    headline,
    open_as,
    text_of,
)


@pytest.fixture(scope="module")
def signed_in(server: Server) -> dict[str, Browser]:
    """Three people who have signed in once."""
    names = {"person": new_user(server)[0], "other": new_user(server)[0], "admin": "admin"}
    return {role: Browser(Client(server.base)).sign_in(name) for role, name in names.items()}


@pytest.fixture
def person(signed_in: dict[str, Browser]) -> Browser:
    return signed_in["person"]


@pytest.fixture
def other(signed_in: dict[str, Browser]) -> Browser:
    return signed_in["other"]


@pytest.fixture
def admin_browser(signed_in: dict[str, Browser]) -> Browser:
    return signed_in["admin"]


def rows_of(answer: Answer) -> list[dict[str, str]]:
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    return list(csv.DictReader(io.StringIO(answer.body.decode("utf-8-sig"))))


def test_rename_holds_for_the_next_request(person: Browser) -> None:
    pixel_id, slug = create_pixel(person)
    path, renamed = f"/pixels/{pixel_id}/settings", unique("renamed")
    assert person.send(path, name="Renamed", slug=renamed).status == 303
    page = text_of(person.get(path))
    assert "Saved." in page
    assert "<h1>Renamed</h1>" in page
    assert person.client.get(f"/p/{slug}").status == 404
    assert person.client.get(f"/p/{renamed}").status == 200


def test_settings_say_what_is_wrong_at_the_field(person: Browser) -> None:
    _, taken = create_pixel(person)
    pixel_id, _ = create_pixel(person)
    path = f"/pixels/{pixel_id}/settings"
    answer = person.send(path, name="Name", slug=taken)
    assert answer.status == 400
    page = answer.body.decode()
    assert 'id="slug-note">That slug is already taken.' in page
    # What was typed stays, the focus is there, and the tab is still marked.
    assert re.search(rf'id="slug"[^>]*aria-invalid="true" autofocus value="{taken}"', page)
    assert re.search(r'/settings" aria-current="page">Settings', page)


def test_embed_has_a_paragraph_for_a_privacy_notice_that_is_true(person: Browser) -> None:
    pixel_id, _ = create_pixel(person)
    settings = f"/pixels/{pixel_id}/settings"
    expected = {
        "full": "with which program, and from it the country",
        "consent": "If you agreed to it, this is noted under your name.",
        "anonymous": "Who opened it is not noted, nor with which program",
    }
    for privacy, words in expected.items():
        answer = person.send(
            f"/pixels/{pixel_id}/privacy", settings, privacy=privacy, retentionDays="400"
        )
        assert answer.status == 303
        page = text_of(person.get(f"/pixels/{pixel_id}/embed"))
        assert '<a href="#notice">A paragraph to paste</a>' in page
        assert words in page
        assert ("kept for 400 days" in page) == (privacy != "anonymous")


def test_privacy_is_chosen_by_itself(person: Browser) -> None:
    pixel_id, slug = create_pixel(person)
    path, page = f"/pixels/{pixel_id}/privacy", f"/pixels/{pixel_id}/settings"
    assert person.send(path, page, privacy="nonsense").status == 400
    assert person.send(path, page, privacy="anonymous").status == 303
    assert 'value="anonymous" checked' in text_of(person.get(page))
    assert slug in text_of(person.get(page))


RUNS = "retention_runs (id, begins_at, ran_at, hits_removed, names_removed)"


@pytest.fixture
def no_retention(server: Server) -> Iterator[None]:
    """Let retention have never run; afterwards it is as it was."""
    columns = RUNS.partition("(")[2].rstrip(")")
    before = server.query(f"SELECT {columns} FROM retention_runs")
    server.execute("DELETE FROM retention_runs")
    yield
    server.execute("DELETE FROM retention_runs")
    for row in before:
        values = ", ".join("NULL" if value is None else str(value) for value in row)
        server.execute(f"INSERT INTO {RUNS} VALUES ({values})")


@pytest.mark.usefixtures("no_retention")
def test_settings_say_when_retention_ran_and_what_it_removed(
    person: Browser, server: Server
) -> None:
    path = f"/pixels/{create_pixel(person)[0]}/settings"
    # So late that it doesn't run meanwhile.
    begins_ms, ran_ms = 4071006245000, 4071096306000
    # Another test's pixel may have had the row made already.
    server.execute(
        f"INSERT INTO {RUNS} VALUES (1, {begins_ms}, NULL, 0, 0) ON CONFLICT (id) DO UPDATE"
        f" SET begins_at = {begins_ms}, ran_at = NULL"
    )
    page = text_of(person.get(path))
    assert "Nothing is removed before 2 Jan 2099, 03:04." in page
    assert "Last run" not in page
    server.execute(
        f"UPDATE retention_runs SET ran_at = {ran_ms}, hits_removed = 1234, names_removed = 1"
    )
    said = "Last run 3 Jan 2099, 04:05: 1\u202f234 hits and 1 unsigned name removed"
    assert said in text_of(person.get(path))


def test_delete_wants_the_name_typed(person: Browser) -> None:
    pixel_id, slug = create_pixel(person)
    page, path = f"/pixels/{pixel_id}/settings", f"/pixels/{pixel_id}/delete"
    answer = person.send(path, page, confirmation=slug.upper())
    assert answer.status == 400
    assert "That is not the name." in text_of(answer)
    assert person.client.get(f"/p/{slug}").status == 200
    assert person.send(path, page, confirmation=f" {slug} ").status == 303
    assert person.client.get(f"/p/{slug}").status == 404
    assert person.get(page).status == 404


def test_shared_link_shows_the_report_to_everybody_until_it_ends(person: Browser) -> None:
    pixel_id, slug = create_pixel(person)
    open_as(person, slug, THUNDERBIRD, "?r=secret.person@example.org&utm_campaign=march")
    page = f"/pixels/{pixel_id}/settings"
    assert person.send(f"/pixels/{pixel_id}/shares", page, name="The board").status == 303
    found = re.search(r'href="(/share/[^"]+)"', person.get(page).body.decode())
    assert found
    nobody = Browser(person.client)
    for path in ("", "/newest", "/by/browser", "?utmCampaign=march&range=24h"):
        answer = nobody.get(found[1] + path)
        assert answer.status == 200, path
        text = text_of(answer)
        assert "secret.person" not in text
        assert pixel_id not in text
    assert nobody.get(f"{found[1]}?recipient=secret.person@example.org").status == 200
    assert nobody.get(f"{found[1]}/by/recipient").status == 404
    assert nobody.get(f"{found[1]}/by/query").status == 404
    ending = re.search(r'href="(/pixels/[^"]+/end)"', person.get(page).body.decode())
    assert ending
    assert "Stop sharing with “The board”?" in text_of(person.get(ending[1]))
    assert nobody.get(found[1]).status == 200
    assert person.send(ending[1]).status == 303
    assert nobody.get(found[1]).status == 404


def test_share_of_another_pixel_is_not_ended(person: Browser) -> None:
    ids = [create_pixel(person)[0] for _ in range(2)]
    page = f"/pixels/{ids[0]}/settings"
    person.send(f"/pixels/{ids[0]}/shares", page, name="One")
    ending = re.search(r'href="(/pixels/[^"]+/end)"', person.get(page).body.decode())
    assert ending
    wrong = ending[1].replace(ids[0], ids[1])
    assert person.get(wrong).status == 404
    assert person.send(wrong, page).status == 404


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("anna@example.org\r\n\r\n ben@example.org ", ["anna@example.org", "ben@example.org"]),
        ("Email;Name\nanna@example.org;Anna\n", ["anna@example.org"]),
        ("+49 170 1234567", ["+49 170 1234567"]),
    ],
)
def test_pasted_list_comes_back_with_links_that_count(
    person: Browser, text: str, names: list[str]
) -> None:
    pixel_id, _ = create_pixel(person)
    path, answer = f"/pixels/{pixel_id}/links", b""
    page = text_of(person.send(path, list=text))
    data = re.search(r'name="data" value="([^"]+)"', page)
    assert data
    answer = person.send(f"{path}/make", path, data=data[1], bad="skip").body
    delimiter = ";" if ";" in text else ","
    rows = list(csv.DictReader(io.StringIO(answer.decode()), delimiter=delimiter))
    assert [next(iter(row.values())).strip() for row in rows] == names
    for row in rows:
        assert row["html"].startswith("<img src=")
        assert person.client.get(row["url"].removeprefix(person.client.base)).status == 200
        assert person.client.get(row["opt_out_url"].removeprefix(person.client.base)).status == 200
    assert "unsigned" not in text_of(person.get(f"/pixels/{pixel_id}/recipients"))
    assert len(rows_of(person.get(f"/pixels/{pixel_id}/recipients.csv"))) == len(names)


def test_file_of_recipients_may_be_larger_than_other_forms(person: Browser) -> None:
    pixel_id, _ = create_pixel(person)
    path = f"/pixels/{pixel_id}/links"
    lines = "\n".join(f"recipient-number-{number}@example.org" for number in range(5000))
    boundary = secrets.token_hex(8)
    parts = [
        f'Content-Disposition: form-data; name="form_token"\r\n\r\n{person.token_on(path)}',
        'Content-Disposition: form-data; name="list"\r\n\r\n',
        'Content-Disposition: form-data; name="sentAt"\r\n\r\n2026-11-23T09:30',
        'Content-Disposition: form-data; name="file"; filename="a.csv"\r\n'
        f"Content-Type: text/csv\r\n\r\n\ufeffE-Mail\n{lines}",
    ]
    body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + f"--{boundary}--\r\n"
    answer = person.client.post(
        path,
        body=body.encode(),
        headers={**person._headers, "Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    page = text_of(answer)
    assert "5\u202f000 rows, 5\u202f000 people" in page
    assert "<code>a.csv</code>" in page
    data = re.search(r'name="data" value="([^"]+)"', page)
    assert data
    made = person.send(f"{path}/make", path, data=data[1], fileName="a.csv")
    assert len(made.body.decode("utf-8-sig").splitlines()) == 5001


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"list": " \n"}, 400, "Paste a list, or choose a file."),
        ({"list": "anna\n" + "x" * 201}, 200, "1 row can’t be used"),
        ({"list": "anna", "sentAt": "soon"}, 200, "That is not a date and time."),
        ({"list": '"anna\nben'}, 400, "a quote is not closed"),
    ],
)
def test_list_that_cannot_be_used_says_why(
    person: Browser, fields: dict[str, str], status: int, words: str
) -> None:
    pixel_id, _ = create_pixel(person)
    answer = person.send(f"/pixels/{pixel_id}/links", **fields)
    assert answer.status == status
    assert words in text_of(answer)


def test_export_is_of_what_the_page_counts(person: Browser) -> None:
    pixel_id, slug = create_pixel(person)
    open_as(person, slug, THUNDERBIRD)
    open_as(person, slug, "curl/8.5.0")
    assert len(rows_of(person.get(f"/pixels/{pixel_id}/export.csv"))) == 1
    assert len(rows_of(person.get(f"/pixels/{pixel_id}/export.csv?class=all"))) == 2
    assert person.get(f"/pixels/{pixel_id}/export.jsonl?class=bot").body.count(b"\n") == 1


def test_stranger_may_change_nothing_of_a_pixel(person: Browser, other: Browser) -> None:
    pixel_id, slug = create_pixel(person)
    base = f"/pixels/{pixel_id}"
    for path in ("/settings", "/recipients", "/recipients.csv", "/export.csv", "/start-anew"):
        assert other.get(base + path).status == 404
    for path, fields in (
        ("/settings", {"name": "Mine", "slug": slug}),
        ("/privacy", {"privacy": "full"}),
        ("/shares", {"name": "Mine"}),
        ("/links", {"list": "anna"}),
        ("/start-anew", {}),
        ("/delete", {"confirmation": slug}),
    ):
        assert other.send(base + path, "/pixels/new", **fields).status == 404
    assert person.get(base).status == 200


def test_team_is_made_joined_and_left(person: Browser, other: Browser, server: Server) -> None:
    name = unique("Marketing")
    location = person.send("/teams", name=name).headers["Location"]
    page = text_of(person.get(location))
    code = re.search(r"team_[\w-]+", page)
    assert code
    assert other.get(location).status == 404
    wrong = other.send("/teams/join", "/teams", accessCode="team_wrong")
    assert wrong.status == 400
    assert "No team has this access code." in text_of(wrong)
    team_id = location.rpartition("/")[2]
    joined = other.send("/teams/join", "/teams", accessCode=code[0]).headers["Location"]
    assert joined == f"/pixels?team={team_id}"
    assert code[0] not in text_of(other.get(location))
    pixel_id, slug = create_pixel(person, teamId=team_id)
    assert slug in text_of(other.get(f"/pixels?team={team_id}"))
    assert other.get(f"/pixels/{pixel_id}").status == 200
    member = re.search(rf'href="({location}/members/[^"]+)/remove"', text_of(person.get(location)))
    assert member
    assert "Remove" in text_of(person.get(f"{member[1]}/remove"))
    assert person.send(member[1], location, role="team-view-only").status == 303
    assert "but not change it" in text_of(other.get(f"/pixels/{pixel_id}/settings"))
    fields = {"confirmation": slug}
    assert other.send(f"/pixels/{pixel_id}/delete", "/pixels/new", **fields).status == 403
    assert other.send(member[1], location, role="team-owner").status == 403
    assert other.get(f"{member[1]}/remove").status == 403
    assert other.get(f"{location}/code").status == 403
    assert other.send(f"{location}/code", location).status == 403
    assert "You see none of its pixels any more." in text_of(other.get(f"{location}/leave"))
    assert other.send(f"{location}/leave", location).status == 303
    assert other.get(f"/pixels/{pixel_id}").status == 404
    only_owner = person.send(f"{location}/leave", location)
    assert only_owner.status == 400
    assert "The team needs another owner first." in text_of(only_owner)
    assert person.send(f"{location}/code", location).status == 303
    assert other.send("/teams/join", "/teams", accessCode=code[0]).status == 400
    assert person.send(location, name="Renamed team").status == 303
    wrong = person.send(f"{location}/delete", location, confirmation=name)
    assert wrong.status == 400
    assert person.send(f"{location}/delete", location, confirmation="Renamed team").status == 303
    assert person.client.get(f"/p/{slug}").status == 404


def test_api_key_is_shown_once_and_revoked(person: Browser) -> None:
    answer = person.send("/account/keys", "/account", name="For the newsletter")
    key = re.search(r"pk_[\w.-]+(?=<)", text_of(answer))
    assert key
    page = text_of(person.get("/account"))
    assert "For the newsletter" in page
    assert key[0] not in page
    client = person.client.with_token(key[0])
    assert client.get("/api/me").status == 200
    revoking = re.search(r'href="(/account/keys/[^"]+/revoke)"', page)
    assert revoking
    assert "Revoke “For the newsletter”?" in text_of(person.get(revoking[1]))
    assert client.get("/api/me").status == 200
    assert person.send(revoking[1]).status == 303
    assert client.get("/api/me").status == 401


def test_api_key_is_limited_as_the_form_says_and_listed_so(person: Browser, other: Browser) -> None:
    pixel_id, _ = create_pixel(person)
    another, _ = create_pixel(person)
    limits = {"scope": "read", "reach": f"pixel:{pixel_id}", "expiresAt": "2099-01-02T03:04"}
    answer = person.send("/account/keys", "/account", name="For the board", **limits)
    key = re.search(r"pk_[\w.-]+(?=<)", text_of(answer))
    assert key
    client = person.client.with_token(key[0])
    assert client.get(f"/api/pixels/{pixel_id}").status == 200
    assert client.get(f"/api/pixels/{another}").status == 403
    assert client.post(f"/api/pixels/{pixel_id}", {"name": "Renamed"}).status == 403
    listed = text_of(person.get("/account")).partition("For the board")[2].partition("</li>")[0]
    assert re.search(r"Read only · pixel “[^”]+” only · ends 2 Jan 2099, 03:04", listed), listed
    location = person.send("/teams", name=unique("Keys")).headers["Location"]
    of_team = {"scope": "all", "reach": f"team:{location.rpartition('/')[2]}"}
    answer = person.send("/account/keys", "/account", name="For the team", **of_team)
    listed = text_of(answer).partition("For the team")[2].partition("</li>")[0]
    assert re.search(r"All that you may · team “[^”]+” only · no end", listed), listed
    assert other.send("/account/keys", "/account", name="Mine", **of_team).status == 400
    assert other.send("/account/keys", "/account", name="Mine", **limits).status == 400
    assert "Mine" not in text_of(other.get("/account"))


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("expiresAt", "2020-01-02T03:04", "Must be in the future."),
        ("expiresAt", "soon", ""),
        ("scope", "everything", ""),
        ("reach", "pixel:none", "Choose one of these."),
    ],
)
def test_api_key_says_what_is_wrong_at_the_field(
    person: Browser, field: str, value: str, problem: str
) -> None:
    answer = person.send("/account/keys", "/account", **{"name": "Wrong", field: value})
    assert answer.status == 400
    page = text_of(answer)
    assert re.search(rf'id="{field}"[^>]*aria-invalid="true"', page)
    assert problem in page
    assert 'value="Wrong"' in page


def test_password_change_ends_other_sessions_but_not_this(
    admin_browser: Browser, server: Server
) -> None:
    username = unique("changes")
    fields = {"username": username, "password": PASSWORD, "role": "user"}
    assert admin_browser.send("/users", **fields).status == 303
    here, elsewhere = (Browser(Client(server.base)).sign_in(username) for _ in range(2))
    wrong = {"currentPassword": "not the password", "newPassword": "another password"}
    answer = here.send("/account/password", "/account", **wrong)
    assert answer.status == 400
    assert "The current password is incorrect." in text_of(answer)
    right = wrong | {"currentPassword": PASSWORD}
    assert here.send("/account/password", "/account", **right).status == 303
    assert here.get("/account").status == 200
    assert elsewhere.get("/account").status == 303


def test_users_are_for_admins(person: Browser, admin_browser: Browser, server: Server) -> None:
    username = unique("managed")
    fields = {"username": username, "password": PASSWORD, "role": "user"}
    assert person.get("/users").status == 403
    assert person.send("/users", "/account", **fields).status == 403
    assert admin_browser.send("/users", **fields).status == 303
    assert "already taken" in text_of(admin_browser.send("/users", **fields))
    short = admin_browser.send("/users", **(fields | {"password": "short"}))
    assert short.status == 400
    page = text_of(admin_browser.get(f"/users?search={username}"))
    found = re.search(r'href="(/users/[^"]+)"', page)
    assert found
    managed = Browser(Client(server.base)).sign_in(username)
    changes = {"username": username, "role": "view-only", "password": ""}
    assert person.send(found[1], "/account", **changes).status == 403
    assert admin_browser.send(found[1], **changes).status == 303
    assert managed.get("/pixels").status == 303
    managed.sign_in(username)
    assert "New pixel" not in text_of(managed.get("/pixels"))
    deletion = f"{found[1]}/delete"
    assert person.get(deletion).status == 403
    assert admin_browser.send(deletion, confirmation="?", pixels="delete").status == 400
    assert admin_browser.send(deletion, confirmation=username, pixels="delete").status == 303
    assert managed.get("/pixels").status == 303


def test_deleting_a_user_asks_where_their_pixels_go(admin_browser: Browser, server: Server) -> None:
    username, slugs = new_user(server)[0], []
    owner = Browser(Client(server.base)).sign_in(username)
    for _ in range(2):
        slugs.append(create_pixel(owner)[1])
    page = text_of(admin_browser.get(f"/users?search={username}"))
    found = re.search(r'href="(/users/[^"]+)"', page)
    assert found
    deletion = f"{found[1]}/delete"
    assert "Their 2 pixels" in text_of(admin_browser.get(deletion))
    answer = admin_browser.send(deletion, confirmation=username)
    assert answer.status == 400
    assert "Say where their pixels go." in text_of(answer)
    assert admin_browser.send(deletion, confirmation=username, pixels="me").status == 303
    for slug in slugs:
        assert slug in text_of(admin_browser.get(f"/pixels?search={slug}"))
        assert owner.client.get(f"/p/{slug}").status == 200


def test_invitation_makes_one_account_in_the_team(
    admin_browser: Browser, person: Browser, server: Server
) -> None:
    name = unique("Invited to")
    team = admin_browser.send("/teams", name=name).headers["Location"]
    team_id = team.rpartition("/")[2]
    assert person.get("/invite").status == 403
    assert person.send("/invite", "/account", role="admin").status == 403
    wrong = admin_browser.send("/invite", role="emperor", teamId="")
    assert wrong.status == 400
    page = text_of(admin_browser.send("/invite", role="user", teamId=team_id))
    link = re.search(rf"{server.base}(/invitation/[\w.-]+)", page)
    assert link
    guest = Browser(Client(server.base))
    assert name in text_of(guest.get(link[1]))
    taken = guest.send(link[1], username="admin", password=PASSWORD)
    assert taken.status == 400
    assert "already taken" in text_of(taken)
    username = unique("invited")
    assert guest.send(link[1], username=username, password=PASSWORD).status == 303
    assert f"Welcome, {username}." in text_of(guest.get("/pixels"))
    assert name in text_of(guest.get("/pixels"))
    # Once.
    late = Browser(Client(server.base))
    assert late.get(link[1]).status == 404
    token = late.token_on("/sign-in")
    again = {"form_token": token, "username": unique("second"), "password": PASSWORD}
    assert late.send(link[1], "/sign-in", **again).status == 404
    assert Browser(Client(server.base)).sign_in(username).get(team).status == 200


def test_invitation_ends_with_the_code_of_its_team(admin_browser: Browser, server: Server) -> None:
    team = admin_browser.send("/teams", name=unique("Code")).headers["Location"]
    page = text_of(admin_browser.send("/invite", role="user", teamId=team.rpartition("/")[2]))
    link = re.search(rf"{server.base}(/invitation/[\w.-]+)", page)
    assert link
    guest = Browser(Client(server.base))
    assert guest.get(link[1]).status == 200
    assert guest.get(link[1][:-1] + ("A" if link[1][-1] != "A" else "B")).status == 404
    assert admin_browser.send(f"{team}/code").status == 303
    assert guest.get(link[1]).status == 404


def test_start_anew_removes_what_came_and_nothing_else(person: Browser) -> None:
    pixel_id, slug = create_pixel(person)
    base = f"/pixels/{pixel_id}"
    made = person.send(f"{base}/links/make", f"{base}/links", list="anna@example.org")
    row = next(csv.DictReader(io.StringIO(made.body.decode())))
    link = row["url"].removeprefix(person.client.base)
    for path in (link, link, f"/p/{slug}"):
        assert person.client.get(path, headers={"User-Agent": THUNDERBIRD}).status == 200
    assert headline(text_of(person.get(base))).startswith("1 of 1 opened")
    assert "Remove all 3 hits" in text_of(person.get(f"{base}/start-anew"))
    assert person.send(f"{base}/start-anew").status == 303
    assert "Waiting for the first open" in text_of(person.get(base))
    assert rows_of(person.get(f"{base}/recipients.csv"))[0]["opens"] == "0"
    # The link is still good, and counts from one again.
    assert person.client.get(link, headers={"User-Agent": THUNDERBIRD}).status == 200
    assert headline(text_of(person.get(base))).startswith("1 of 1 opened")
    assert rows_of(person.get(f"{base}/recipients.csv"))[0]["opens"] == "1"


def test_admin_neither_deletes_nor_demotes_the_last_admin(admin_browser: Browser) -> None:
    page = text_of(admin_browser.get("/users?search=admin"))
    found = re.search(r'href="(/users/[^"]+)"><strong>admin<', page)
    assert found
    changes = {"username": "admin", "role": "user", "password": ""}
    answer = admin_browser.send(found[1], **changes)
    assert answer.status == 400
    assert "The last admin can't be deleted or demoted." in text_of(answer)
    deletion = f"{found[1]}/delete"
    assert admin_browser.send(deletion, found[1], confirmation="admin").status == 400
