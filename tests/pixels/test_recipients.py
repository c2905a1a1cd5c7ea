"""Signed links: issued, forged, rotated; and who is listed with which opens."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous.encoding import base64_encode

from core.clock import milliseconds
from core.links import Links, SignedRecipient
from tests.conftest import Answer, Client, Server, new_user, unique, verdicts

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36"
)
APPLE_MPP = "Mozilla/5.0"
CURL = "curl/8.5.0"
PIXEL_ID = uuid.UUID(int=1)
OTHER_PIXEL_ID = uuid.UUID(int=2)
LINKS = Links(["an old key of some length", "a new key of some length"])


def issue(client: Client, pixel: dict[str, Any], *recipients: Any, **values: Any) -> Answer:
    body = {"recipients": list(recipients), **values}
    return client.post(f"/api/pixels/{pixel['id']}/recipients", body)


def links_of(client: Client, pixel: dict[str, Any], *recipients: str, **values: Any) -> list[str]:
    """Issue links that must succeed; return their paths with the queries."""
    answer = issue(client, pixel, *recipients, **values)
    assert answer.status == 200, answer.body
    return [link["url"].removeprefix(client.base) for link in answer.json["data"]]


def listed(client: Client, pixel: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"/api/pixels/{pixel['id']}/recipients?{query}")
    assert answer.status == 200, answer.body
    return answer.json["data"]


def fetch(client: Client, path: str, user_agent: str = CHROME, **headers: str) -> None:
    answer = client.get(path, headers={"User-Agent": user_agent, **headers})
    assert answer.status == 200


def old_token(
    links: Links, pixel_id: uuid.UUID, recipient: str, sent_at: datetime | None = None
) -> str:
    """Return a token as links had it before they carried the number of their issue."""
    sent_ms = milliseconds(sent_at) if sent_at else 0
    payload = sent_ms.to_bytes(6, "big") + recipient.encode()
    return links._signer(pixel_id).sign(base64_encode(payload)).decode()


def ago(**values: float) -> str:
    return (datetime.now(UTC) - timedelta(**values)).isoformat()


# Issuing


def test_issued_links_answer_in_order_with_url_and_html(admin: Client) -> None:
    pixel = admin.create_pixel()
    answer = issue(admin, pixel, " ann@example.org ", "Böb & <Söns>", "ann@example.org")
    assert answer.status == 200
    first, second = answer.json["data"]
    assert [first["recipient"], second["recipient"]] == ["ann@example.org", "Böb & <Söns>"]
    assert set(first) == {"recipient", "url", "html", "optOutUrl"}
    assert first["html"] == f'<img src="{first["url"]}" width="1" height="1" alt="" />'
    assert urlsplit(first["url"]).path == f"/p/{pixel['slug']}"


def test_link_of_issue_and_of_embed_are_the_same(admin: Client) -> None:
    pixel = admin.create_pixel()
    sent_at = "2026-11-23T10:00:00.000Z"
    (link,) = links_of(admin, pixel, "ann@example.org", sentAt=sent_at)
    query = f"recipient={quote('ann@example.org')}&sentAt={sent_at}"
    embedded = admin.get(f"/api/pixels/{pixel['id']}/embed?{query}").json["url"]
    assert embedded == admin.base + link


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "recipients"),
        ({"recipients": []}, "recipients"),
        ({"recipients": None}, "recipients"),
        ({"recipients": "ann"}, "recipients"),
        ({"recipients": ["ann", "  "]}, "recipients.1"),
        ({"recipients": ["ann", "bob", "x" * 201]}, "recipients.2"),
        ({"recipients": ["a\0b"]}, "recipients.0"),
        ({"recipients": ["\ud800"]}, "recipients.0"),
        ({"recipients": [7]}, "recipients.0"),
        ({"recipients": [["ann"]]}, "recipients.0"),
        ({"recipients": ["ann"], "sentAt": "soon"}, "sentAt"),
        ({"recipients": ["ann"], "sentAt": "1969-12-31T23:59:59Z"}, "sentAt"),
        ({"recipients": ["ann"], "sentAt": "0001-01-01T00:00:00+14:00"}, "sentAt"),
        ({"recipients": ["x"] * 10_001}, "recipients"),
    ],
)
def test_issue_of_bad_recipients_names_the_place(
    admin: Client, body: dict[str, Any], field: str
) -> None:
    pixel = admin.create_pixel()
    answer = admin.post(f"/api/pixels/{pixel['id']}/recipients", body)
    assert (answer.status, answer.code) == (400, "bad-request")
    assert list(answer.json["error"]["errors"]) == [field]
    assert listed(admin, pixel) == []


def test_embed_before_1970_is_refused(admin: Client) -> None:
    pixel = admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}/embed?recipient=ann&sentAt=1969-01-01T00:00:00Z"
    assert admin.get(path).status == 400


def test_ten_thousand_recipients_in_one_call_have_links_of_their_own(admin: Client) -> None:
    pixel = admin.create_pixel()
    names = [f"recipient-{number}@example.org".ljust(200, "x") for number in range(10_000)]
    assert len(set(links_of(admin, pixel, *names))) == 10_000
    page = admin.get(f"/api/pixels/{pixel['id']}/recipients?pageSize=1").json
    assert page["count"] == 10_000


def test_body_over_this_routes_limit_is_refused(admin: Client) -> None:
    pixel = admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}/recipients"
    length = {"Content-Type": "application/json", "Content-Length": str(4 * 1024 * 1024 + 1)}
    answer = admin.post(path, headers=length)
    assert (answer.status, answer.code) == (413, "payload-too-large")
    assert "4096 KiB" in answer.json["error"]["message"]


def test_issue_for_an_anonymous_pixel_is_refused(admin: Client) -> None:
    pixel = admin.create_pixel()
    admin.post(f"/api/pixels/{pixel['id']}", {"privacy": "anonymous"})
    embed = f"/api/pixels/{pixel['id']}/embed"
    assert admin.get(embed).status == 200
    assert admin.get(f"{embed}?recipient=ann").code == "bad-request"
    answer = issue(admin, pixel, "ann")
    assert (answer.status, answer.code) == (400, "bad-request")
    assert listed(admin, pixel) == []


# Who may


def test_stranger_learns_of_no_recipients(admin: Client, stranger: Client) -> None:
    pixel = admin.create_pixel()
    links_of(admin, pixel, "ann")
    assert issue(stranger, pixel, "bob").code == "not-found"
    assert stranger.get(f"/api/pixels/{pixel['id']}/recipients").code == "not-found"


def test_nobody_learns_of_no_recipients(admin: Client) -> None:
    pixel = admin.create_pixel()
    nobody = admin.with_token(None)
    assert issue(nobody, pixel, "").code == "unauthorized"
    assert nobody.get(f"/api/pixels/{pixel['id']}/recipients").code == "unauthorized"


def test_who_may_only_read_lists_but_issues_none(server: Server, admin: Client) -> None:
    created = server.cli("teams", "create", unique("team"), "--owner", "admin").stdout
    team_id = created.split(": ")[1].split(",")[0]
    username, key = new_user(server)
    server.cli("teams", "add", team_id, username, "--role", "team-view-only")
    reader = admin.with_token(key)
    pixel = admin.create_pixel(teamId=team_id)
    links_of(admin, pixel, "ann")
    assert [row["recipient"] for row in listed(reader, pixel)] == ["ann"]
    answer = issue(reader, pixel, "bob")
    assert (answer.status, answer.code) == (403, "forbidden")


# Who has opened


def test_issued_recipient_is_listed_before_any_hit(admin: Client) -> None:
    pixel = admin.create_pixel()
    links_of(admin, pixel, "ann")
    assert listed(admin, pixel) == [
        {
            "recipient": "ann",
            "verified": True,
            "status": "unopened",
            "sentAt": None,
            "optedOut": False,
            "firstOpenedAt": None,
            "lastOpenedAt": None,
            "opens": 0,
            "prefetches": 0,
            "bots": 0,
            "client": None,
            "reason": None,
        }
    ]


def test_hits_of_a_recipient_count_at_once_by_class(admin: Client) -> None:
    pixel = admin.create_pixel()
    (link,) = links_of(admin, pixel, "ann")
    fetch(admin, link, APPLE_MPP)
    assert listed(admin, pixel)[0]["firstOpenedAt"] is None
    fetch(admin, link)
    (once,) = listed(admin, pixel)
    assert once["firstOpenedAt"] == once["lastOpenedAt"] is not None
    fetch(admin, link, CURL)
    fetch(admin, link)
    (twice,) = listed(admin, pixel)
    assert (twice["opens"], twice["prefetches"], twice["bots"]) == (2, 1, 1)
    assert twice["firstOpenedAt"] == once["firstOpenedAt"] < twice["lastOpenedAt"]


def test_plain_recipient_is_listed_unverified_beside_the_signed(admin: Client) -> None:
    pixel = admin.create_pixel()
    (link,) = links_of(admin, pixel, "ann")
    fetch(admin, link)
    fetch(admin, f"/p/{pixel['slug']}?r=%20ann%20")
    fetch(admin, f"/api/send?slug={pixel['slug']}&r=ann")
    found = {row["verified"]: row["opens"] for row in listed(admin, pixel)}
    assert found == {True: 1, False: 2}


def test_plain_recipient_is_cut_and_blank_is_none(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    fetch(admin, f"/p/{pixel['slug']}?r={'x' * 300}")
    fetch(admin, f"/p/{pixel['slug']}?r=%20")
    fetch(admin, f"/p/{pixel['slug']}?r=%00")
    recipients = [recipient for _, _, recipient in verdicts(server, pixel)]
    assert recipients == ["x" * 200, None, None]


def test_list_is_paged_searched_and_ordered(admin: Client) -> None:
    pixel = admin.create_pixel()
    names = ["Ann_1", "bob%", "cyd", "Ann-2", "ÄNN"]
    links = dict(zip(names, links_of(admin, pixel, *names), strict=True))
    for name in ("cyd", "bob%", "cyd"):
        fetch(admin, links[name])

    def found(query: str) -> list[str]:
        return [row["recipient"] for row in listed(admin, pixel, query)]

    assert found("")[:2] == ["cyd", "bob%"]
    assert found("orderBy=firstOpenedAt")[:2] == ["cyd", "bob%"]
    assert found("orderBy=lastOpenedAt")[:2] == ["bob%", "cyd"]
    assert found("orderBy=opens&sortDescending=true")[:2] == ["cyd", "bob%"]
    assert found("orderBy=recipient&pageSize=2&page=2") == sorted(names)[2:4]
    assert sorted(found("search=ann")) == ["Ann-2", "Ann_1"]
    assert found("search=%C3%A4nn") == ["ÄNN"]
    assert found("search=n_1") == ["Ann_1"]
    assert found("search=%25") == ["bob%"]
    page = admin.get(f"/api/pixels/{pixel['id']}/recipients?search=ann&pageSize=1").json
    assert (page["count"], page["page"], page["pageSize"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("strasse", {"Rue STRASSE"}),
        ("ß", {"Straße 1"}),
        ("STRAẞE", {"Straße 1"}),
        ("ärger", {"Ärger_%"}),
        ("R_%", {"Ärger_%"}),
        ("ΟΔΟΣ", {"ΟΔΟΣ"}),
        ("οδος", {"οδος"}),
        ("kelvin", {"Kelvin ASCII"}),
        ("\N{KELVIN SIGN}ELVIN", {"Kelvin ASCII"}),
        ("istanbul", {"istanbul"}),
        ("émile ", {"ÉMILE Zola"}),
    ],
)
def test_search_takes_case_alike_on_both_databases(
    server: Server, admin: Client, search: str, found: set[str]
) -> None:
    """On both of them letters of ASCII are found by ASCII only, others by their own case."""
    pixel = admin.create_pixel()
    names = ["Straße 1", "Rue STRASSE", "Ärger_%", "ΟΔΟΣ", "οδος", "Kelvin ASCII", "istanbul"]
    names += ["\N{KELVIN SIGN}elvin", "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}stanbul"]
    names += ["ÉMILE Zola"]
    links_of(admin, pixel, *names)
    query = f"search={quote(search)}"
    assert {row["recipient"] for row in listed(admin, pixel, query)} == found
    theirs = admin.get(f"/api/recipients?{query}").json["data"]
    assert {row["recipient"] for row in theirs} & {*names} == found


ORDERS = ("recipient", "firstOpenedAt", "lastOpenedAt", "opens")


def test_pages_of_any_list_are_parts_of_one_order(server: Server, admin: Client) -> None:
    """Each page, counted from whichever end, against a sort of all that is listed."""
    pixel = admin.create_pixel()
    names = [f"{name}{n}@example.org" for n in range(9) for name in ("ann", "Bob", "çyd")]
    links = dict(zip(names, links_of(admin, pixel, *names), strict=True))
    for n, name in enumerate(names[::2]):
        for _ in range(1 + n % 3):
            fetch(admin, links[name])
    for name in names[1:10:4]:
        fetch(admin, links[name], APPLE_MPP)
    for plain in ("bob1", "Zoe@example.org", "zoe", "ann5@example.org"):
        fetch(admin, f"/p/{pixel['slug']}?r={plain}", APPLE_MPP if plain == "zoe" else CHROME)
    for name in (names[0], names[9]):
        assert admin.delete(f"/api/pixels/{pixel['id']}/recipient?name={quote(name)}").status == 200
    server.cli("recipients", "opt-out", names[3])
    whole = listed(admin, pixel, "pageSize=100")
    assert len(whole) == 25 + 4
    wanted = [
        ("", whole),
        *(
            (f"status={status}", [r for r in whole if r["status"] == status and not r["optedOut"]])
            for status in ("opened", "machine", "unopened")
        ),
        ("search=B", [row for row in whole if "b" in row["recipient"].lower()]),
        ("search=%C3%87YD", [row for row in whole if "çyd" in row["recipient"]]),
        ("search=e&opensMin=2", [row for row in whole if row["opens"] >= 2]),
        ("search=nobody", []),
    ]
    for asked, rows in wanted:
        for order in ORDERS:
            for descending in (False, True):
                query = f"{asked}&orderBy={order}&sortDescending={str(descending).lower()}"
                pages = [
                    admin.get(
                        f"/api/pixels/{pixel['id']}/recipients?{query}&pageSize=7&page={page}"
                    ).json
                    for page in (1, 2, 3, 4, 5)
                ]
                found = [row for page in pages for row in page["data"]]
                assert {page["count"] for page in pages} == {len(rows)}, query
                assert by_name(found) == by_name(rows), query
                values = [row[order] for row in found if row[order] is not None]
                if order != "recipient":
                    assert values == sorted(values, reverse=descending), query
                    assert [row[order] for row in found[: len(values)]] == values, query
                else:
                    ascii_only = [value for value in values if value.isascii() and value.islower()]
                    assert ascii_only == sorted(ascii_only, reverse=descending), query


def by_name(rows: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    return sorted((row["recipient"], row["verified"]) for row in rows)


@pytest.mark.parametrize("query", ["orderBy=bots", "pageSize=0", "page=0", "search=%00"])
def test_list_with_bad_query_is_refused(admin: Client, query: str) -> None:
    pixel = admin.create_pixel()
    assert admin.get(f"/api/pixels/{pixel['id']}/recipients?{query}").code == "bad-request"


# What a token is worth


def test_open_too_soon_after_sending_is_a_prefetch(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    (now,) = links_of(admin, pixel, "now", sentAt=ago(seconds=0))
    (earlier,) = links_of(admin, pixel, "earlier", sentAt=ago(hours=1))
    (later,) = links_of(admin, pixel, "later", sentAt=ago(hours=-1))
    (unknown,) = links_of(admin, pixel, "unknown")
    for link in (now, earlier, later, unknown):
        fetch(admin, link)
    assert verdicts(server, pixel) == [
        ("prefetch", "too-soon", "now"),
        ("open", "browser", "earlier"),
        ("open", "browser", "later"),
        ("open", "browser", "unknown"),
    ]


def test_token_of_another_pixel_is_a_hit_without_recipient(server: Server, admin: Client) -> None:
    pixel, other = admin.create_pixel(), admin.create_pixel()
    (link,) = links_of(admin, other, "ann")
    fetch(admin, f"/p/{pixel['slug']}?{urlsplit(link).query}&r=ann")
    assert verdicts(server, pixel) == [("open", "forged-token", None)]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-1],
        lambda token: token[1:],
        lambda token: token.swapcase(),
        lambda token: token + "A",
        lambda token: "x" * 7_000,
        lambda token: ".",
        lambda token: "%00",
        lambda token: "%FF%FE",
        lambda token: "%F0%9F%92%8C." + token,
        lambda token: base64.urlsafe_b64encode(b"\0" * 6 + b"eve").decode() + "." + token[-22:],
    ],
)
def test_spoilt_token_is_a_hit_without_recipient(
    server: Server, admin: Client, spoil: Callable[[str], str]
) -> None:
    pixel = admin.create_pixel()
    (link,) = links_of(admin, pixel, "ann")
    fetch(admin, f"/p/{pixel['slug']}?s={spoil(parse_qs(urlsplit(link).query)['s'][0])}")
    assert verdicts(server, pixel) == [("open", "forged-token", None)]


def test_token_that_is_empty_is_none(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    fetch(admin, f"/p/{pixel['slug']}?s=")
    fetch(admin, f"/p/{pixel['slug']}?s=&r=ann")
    assert verdicts(server, pixel) == [("open", "browser", None), ("open", "browser", "ann")]


def test_forged_token_keeps_the_class_of_its_agent(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    fetch(admin, f"/p/{pixel['slug']}?s=forged", APPLE_MPP)
    fetch(admin, f"/p/{pixel['slug']}?s=forged", CURL)
    assert verdicts(server, pixel) == [
        ("prefetch", "forged-token", None),
        ("bot", "forged-token", None),
    ]


def test_links_outlive_the_rotation_of_the_key(start_server: Callable[..., Server]) -> None:
    old, new = "old key of some length".replace(" ", "-"), "new-key-of-some-length"
    server = start_server(secret_key=old)
    pixel = server.admin.create_pixel()
    (link,) = links_of(server.admin, pixel, "ann")
    for keys, recipient in ((f"{new} {old}", "ann"), (new, None)):
        server.stop()
        server.env["PIXELKEEP_SECRET_KEY"] = keys
        server.start()
        fetch(server.admin, link)
        assert verdicts(server, pixel)[-1][2] == recipient


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.datetimes(min_value=datetime(1970, 1, 2)) | st.none(),
)
def test_token_tells_what_was_signed(issue: int, sent_at: datetime | None) -> None:
    sent_at = sent_at and sent_at.replace(microsecond=0, tzinfo=UTC)
    token = LINKS.sign(PIXEL_ID, issue, sent_at)
    assert re.fullmatch(r"[0-9A-Za-z]{42}", token)
    assert LINKS.read(PIXEL_ID, token) == SignedRecipient(issue, "", sent_at)
    assert LINKS.read(OTHER_PIXEL_ID, token) is None
    assert Links(["another key of some length"]).read(PIXEL_ID, token) is None


@given(st.text(max_size=200), st.datetimes(min_value=datetime(1970, 1, 2)) | st.none())
def test_token_of_older_times_tells_the_name(recipient: str, sent_at: datetime | None) -> None:
    sent_at = sent_at and sent_at.replace(microsecond=0, tzinfo=UTC)
    token = old_token(LINKS, PIXEL_ID, recipient, sent_at)
    assert LINKS.read(PIXEL_ID, token) == SignedRecipient(None, recipient, sent_at)
    assert LINKS.read(OTHER_PIXEL_ID, token) is None


@given(
    st.text(st.characters(exclude_categories=[]), max_size=10_000)
    | st.from_regex(r"[\w-]+\.[\w-]{22}")
)
def test_any_text_is_no_token(text: str) -> None:
    assert LINKS.read(PIXEL_ID, text) is None


@given(st.data())
def test_token_with_another_character_is_no_token(data: st.DataObject) -> None:
    token = LINKS.sign(PIXEL_ID, 12_345, None)
    # The last character of a part carries bits that base64 ignores.
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[place]))
    assert LINKS.read(PIXEL_ID, token[:place] + other + token[place + 1 :]) is None
