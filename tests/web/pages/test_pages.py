"""The pages over HTTP: sessions, form tokens, who sees what, and what is wrong at which field."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.conftest import PASSWORD, Answer, Client, Server, new_user, unique

PAGES = ("/pixels", "/pixels/new", "/teams", "/account")


@dataclass
class Browser:
    """Keeps cookies and sends forms with the token that their page came with."""

    client: Client
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Answer:
        return self._keep(self.client.get(path, headers=self._headers))

    def send(self, path: str, page: str | None = None, **fields: Any) -> Answer:
        """Send a form, as it stands on `page` (its own address unless told)."""
        fields = {"form_token": self.token_on(page or path), **fields}
        headers = {**self._headers, "Content-Type": "application/x-www-form-urlencoded"}
        return self._keep(
            self.client.post(path, body=urlencode(fields, doseq=True).encode(), headers=headers)
        )

    def token_on(self, page: str) -> str:
        found = re.search(r'name="form_token" value="([^"]+)"', self.get(page).body.decode())
        assert found, page
        return found[1]

    def sign_in(self, username: str, password: str = PASSWORD) -> Browser:
        answer = self.send("/sign-in", username=username, password=password)
        assert answer.status == 303, answer.body
        return self

    @property
    def _headers(self) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}

    def _keep(self, answer: Answer) -> Answer:
        for line in answer.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
        return answer


def text_of(answer: Answer) -> str:
    return html.unescape(answer.body.decode())


@pytest.fixture(scope="module")
def username(server: Server) -> str:
    return new_user(server)[0]


@pytest.fixture(scope="module")
def other_username(server: Server) -> str:
    return new_user(server)[0]


@pytest.fixture
def browser(server: Server) -> Browser:
    return Browser(Client(server.base))


@pytest.fixture(scope="module")
def cookies(server: Server, username: str, other_username: str) -> list[dict[str, str]]:
    """What the browsers of two people hold who have signed in."""
    names = (username, other_username)
    return [Browser(Client(server.base)).sign_in(name).cookies for name in names]


@pytest.fixture
def person(server: Server, cookies: list[dict[str, str]]) -> Browser:
    """Somebody who has signed in."""
    return Browser(Client(server.base), dict(cookies[0]))


@pytest.fixture
def other(server: Server, cookies: list[dict[str, str]]) -> Browser:
    """Somebody else, who has signed in as well."""
    return Browser(Client(server.base), dict(cookies[1]))


def test_home_unsigned_asks_to_sign_in_and_comes_back(browser: Browser, username: str) -> None:
    answer = browser.get("/pixels/new?team=")
    assert answer.status == 303
    assert answer.headers["Location"] == "/sign-in?next=/pixels/new?team%3D"
    path = answer.headers["Location"]
    answer = browser.send(path, username=username, password=PASSWORD)
    assert answer.headers["Location"] == "/pixels/new?team="


@pytest.mark.parametrize("target", ["//evil.example/", "https://evil.example/", "/\\evil.example"])
def test_sign_in_never_leads_to_another_host(browser: Browser, username: str, target: str) -> None:
    path = "/sign-in?" + urlencode({"next": target})
    answer = browser.send(path, username=username, password=PASSWORD)
    assert answer.headers["Location"] == "/pixels"


def test_sign_in_with_a_wrong_password_says_so_and_starts_nothing(
    browser: Browser, username: str
) -> None:
    answer = browser.send("/sign-in", username=username, password="wrong password")
    assert answer.status == 401
    page = text_of(answer)
    assert "That name and password don’t go together." in page
    # The name stays, and the focus is where the fault may be.
    assert f'value="{username}"' in page
    assert re.search(r'id="password"[^>]*autofocus', page)
    assert browser.get("/pixels").status == 303


def test_session_cookie_is_kept_from_scripts_and_other_sites(person: Browser) -> None:
    answer = Browser(person.client).get("/sign-in")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie  # This server is reached without TLS.


def test_sign_out_ends_copies_of_the_cookie_too(browser: Browser, username: str) -> None:
    person = browser.sign_in(username)
    copy = Browser(person.client, dict(person.cookies))
    assert copy.get("/pixels").status == 200
    assert person.send("/sign-out", page="/pixels").status == 303
    assert person.get("/pixels").status == 303
    assert copy.get("/pixels").status == 303


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out", "/pixels/new", "/zone"])
@pytest.mark.parametrize("token", [None, "", "forged", "\u00fc"])
def test_form_without_its_token_is_refused(person: Browser, path: str, token: str | None) -> None:
    person.get("/pixels/new")
    fields = {} if token is None else {"form_token": token}
    headers = {**person._headers, "Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode({**fields, "name": "No", "slug": unique("no")}).encode()
    answer = person.client.post(path, body=body, headers=headers)
    assert answer.status == 400
    assert "This form is too old." in text_of(answer)


def test_create_leads_to_the_snippet_of_a_pixel_that_works(person: Browser) -> None:
    slug = unique("mail")
    answer = person.send("/pixels/new", name="March newsletter", slug=slug)
    assert answer.status == 303
    location, url = answer.headers["Location"], f"{person.client.base}/p/{slug}"
    assert f'<img src="{url}" width="1" height="1" alt="" />' in text_of(person.get(location))
    assert f"![]({url})" in text_of(person.get(f"{location}/embed"))
    assert person.client.get(f"/p/{slug}").status == 200


def test_create_without_a_slug_makes_one_from_the_name(person: Browser) -> None:
    name = unique("Über Größe & mehr")
    slug = name.replace("Über Größe & mehr", "uber-groe-mehr")
    for expected in (slug, f"{slug}-2", f"{slug}-3"):
        assert person.get("/pixels/slug?" + urlencode({"name": name})).json == {"slug": expected}
        answer = person.send("/pixels/new", name=name, slug=" ")
        assert f"/p/{expected}" in text_of(person.get(answer.headers["Location"]))


def test_create_says_what_is_wrong_at_the_field_and_keeps_the_rest(person: Browser) -> None:
    slug = unique("taken")
    person.send("/pixels/new", name="One", slug=slug)
    answer = person.send("/pixels/new", name="Two & <more>", slug=slug)
    assert answer.status == 400
    page = answer.body.decode()
    assert 'id="slug-note">That slug is already taken.' in page
    assert 'value="Two &amp; &lt;more&gt;"' in page
    answer = person.send("/pixels/new", name=" ", slug=unique("slug"))
    assert answer.status == 400
    assert 'id="name-note">Must not be blank.' in answer.body.decode()


def test_view_only_user_is_offered_no_pixel_and_refused_one(
    server: Server, browser: Browser
) -> None:
    browser.sign_in(new_user(server, "view-only")[0])
    assert "/pixels/new" not in text_of(browser.get("/pixels"))
    answer = browser.get("/pixels/new")
    assert answer.status == 403
    assert "You don't have permission to do this." in text_of(answer)


def test_list_is_of_the_owner_alone_and_can_be_searched(person: Browser, other: Browser) -> None:
    name = unique("Findable 100%")
    person.send("/pixels/new", name=name, slug=unique("findable"))
    person.send("/pixels/new", name="Another", slug=unique("another"))
    assert name in text_of(person.get("/pixels"))
    found = text_of(person.get("/pixels?search=100%25"))
    assert name in found
    assert "Another" not in found
    assert "Nothing matches" in text_of(person.get("/pixels?search=100_"))
    assert name not in text_of(other.get("/pixels"))


@pytest.mark.parametrize("path", ["/nowhere", "/pixels/00000000-0000-0000-0000-000000000000/embed"])
def test_unknown_page_is_a_page_too(person: Browser, path: str) -> None:
    answer = person.get(path)
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<h1>Not Found</h1>" in text_of(answer)
    # Whoever is signed in finds the way from there.
    assert 'href="/teams"' in text_of(answer)
    assert 'href="/teams"' not in text_of(Browser(person.client).get("/nowhere"))


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Nowhere/Else", "../../etc/passwd", "a" * 5000])
def test_zone_is_remembered_or_utc(person: Browser, zone: str) -> None:
    answer = person.send("/zone", zone=zone, next="/pixels")
    assert answer.status == 303
    assert person.cookies["zone"] == ("Europe/Berlin" if zone == "Europe/Berlin" else "UTC")
    person.cookies["zone"] = zone
    assert person.get("/pixels").status == 200


def test_pages_forbid_what_is_inline_or_from_elsewhere(person: Browser) -> None:
    for path in PAGES:
        answer = person.get(path)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
        page = answer.body.decode()
        assert not re.search(r"<style|<script(?![^>]+src=)|\sstyle=|\son[a-z]+=", page)
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page)


def headline(page: str) -> str:
    found = re.search(r'<h2 class="headline[^>]*>(.*?)</h2>', page)
    assert found
    return re.sub(r"<[^>]+>", "", found[1])


def row(page: str, name: str) -> tuple[str, ...]:
    """Return the figures beside a name of a breakdown."""
    found = re.search(rf">{re.escape(name)}</a></th><td>.*?</td>(.*?)</tr>", page)
    assert found
    return tuple(re.findall(r'<td class="n">([^<]+)</td>', found[1]))


def create_pixel(person: Browser, **fields: str) -> tuple[str, str]:
    """Create a pixel; return its id and its slug."""
    slug = unique("pixel")
    answer = person.send("/pixels/new", name=slug, slug=slug, **fields)
    return answer.headers["Location"].split("/")[2], slug


def open_as(person: Browser, slug: str, agent: str, query: str = "") -> None:
    answer = person.client.get(f"/p/{slug}{query}", headers={"User-Agent": agent})
    assert answer.status == 200


THUNDERBIRD = "Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Thunderbird/115.9.0"
APPLE = "Mozilla/5.0"


def test_new_pixel_waits_and_then_says_what_came(person: Browser) -> None:
    pixel_id, slug = create_pixel(person)
    for path in (f"/pixels/{pixel_id}", f"/pixels/{pixel_id}/embed"):
        assert "Waiting for the first open" in text_of(person.get(path))
    assert person.get(f"/pixels/{pixel_id}/newest").body == b""
    open_as(person, slug, "curl/8.5.0")
    assert person.get(f"/pixels/{pixel_id}/newest").body.isdigit()
    answer = text_of(person.get(f"/pixels/{pixel_id}/embed"))
    assert "It works." in answer
    assert "bot, Command-line tool or library" in answer
    assert "Waiting for the first open" not in text_of(person.get(f"/pixels/{pixel_id}"))


def test_preview_is_the_image_and_no_hit(person: Browser) -> None:
    pixel_id, slug = create_pixel(person)
    page = text_of(person.get(f"/pixels/{pixel_id}/embed"))
    preview = re.search(rf'href="{person.client.base}(/preview/[^"]+)"', page)
    assert preview
    answer = person.client.get(preview[1])
    assert answer.body == person.client.get(f"/p/{unique('nothing')}").body
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/gif")
    assert person.get(f"/pixels/{pixel_id}/newest").body == b""
    assert person.client.get(preview[1].replace(".gif", "x.gif")).status == 404
    person.send(f"/pixels/{pixel_id}/delete", f"/pixels/{pixel_id}/settings", confirmation=slug)
    assert person.client.get(preview[1]).status == 404


@pytest.mark.parametrize(
    ("sender", "tag"),
    [
        ("mailchimp", "*|EMAIL|*"),
        ("buttondown", "{{ subscriber.email }}"),
        ("listmonk", "{{ .Subscriber.Email }}"),
        ("mailcoach", "{{ subscriber.email }}"),
        ("keila", "{{ contact.email }}"),
    ],
)
def test_snippet_of_a_program_has_its_tag_and_the_campaign(
    person: Browser, sender: str, tag: str
) -> None:
    pixel_id, slug = create_pixel(person)
    query = urlencode({"sender": sender, "campaign": "märz & april"})
    page = person.get(f"/pixels/{pixel_id}/embed?{query}").body.decode()
    shown = re.search(r'<pre id="html"[^>]*><code>(.*?)</code>', page)
    assert shown
    snippet = html.unescape(re.sub(r"</?mark[^>]*>", "", shown[1]))
    campaign = "&amp;utm_campaign=m%C3%A4rz%20%26%20april"
    assert snippet == (
        f'<img src="{person.client.base}/p/{slug}?r={tag}{campaign}" width="1" height="1" alt="">'
    )
    assert "102 KB" in page
    assert "few words" in page
    assert "These links carry 127.0.0.1" in page


def test_report_counts_each_class_apart_and_filters(person: Browser) -> None:
    pixel_id, slug = create_pixel(person)
    open_as(person, slug, THUNDERBIRD, "?utm_campaign=march&utm_source=list")
    open_as(person, slug, THUNDERBIRD, "?r=anna@example.org")
    open_as(person, slug, APPLE)
    page = text_of(person.get(f"/pixels/{pixel_id}"))
    assert headline(page) == "2 opens · 2 unique"
    assert "3 fetches of the image" in page
    assert row(page, "Thunderbird") == ("2", "100.0\u202f%")
    page = text_of(person.get(f"/pixels/{pixel_id}?utmCampaign=march"))
    assert headline(page) == "1 open · 1 unique"
    assert "Remove the filter Campaign: march" in page
    # What is in no list of the page is a filter all the same.
    page = text_of(person.get(f"/pixels/{pixel_id}?utmSource=list"))
    assert headline(page) == "1 open · 1 unique"
    assert "Remove the filter Source: list" in page
    page = text_of(person.get(f"/pixels/{pixel_id}?class=prefetch&range=24h"))
    assert headline(page) == "1 machine fetch · 1 unique"
    assert "Apple Mail Privacy Protection" in page
    page = text_of(person.get(f"/pixels/{pixel_id}?class=all&range=90d&recipient=anna@example.org"))
    assert headline(page) == "1 fetch · 1 unique"


def test_report_speaks_of_mail(person: Browser) -> None:
    pixel_id, slug = create_pixel(person)
    open_as(person, slug, THUNDERBIRD, "?r=anna@example.org")
    for path in ("", "/by/browser", "/recipients", "/embed", "/settings"):
        page = text_of(person.get(f"/pixels/{pixel_id}{path}"))
        shown = re.sub(r"<[^>]+>", " ", page)
        assert not re.search(r"\b(visitors?|visits?|bounces?|sessions?)\b", shown, re.IGNORECASE)


@pytest.mark.parametrize(
    "query",
    [
        "range=custom&from=2026-01-01&to=2026-01-31",
        "range=custom&from=2026-03-02&to=2026-02-01",
        "range=custom&from=0001-01-01&to=9999-12-31",
        "range=custom&from=2000-01-01&to=2199-12-31",
        "range=custom",
        "range=forever&class=none&page=-1",
        "browser=%00&os=%ff&country=" + "x" * 3000,
        "utmCampaign=%3Cscript%3Ealert(1)%3C/script%3E",
    ],
)
def test_report_takes_any_address(person: Browser, query: str) -> None:
    pixel_id, _ = create_pixel(person)
    for path in (f"/pixels/{pixel_id}", f"/pixels/{pixel_id}/by/browser"):
        answer = person.get(f"{path}?{query}")
        assert answer.status == 200
        assert b"<script>alert" not in answer.body


def test_list_shows_the_opens_and_the_last(person: Browser) -> None:
    _, slug = create_pixel(person)
    assert "Not sent yet" in text_of(person.get(f"/pixels?search={slug}"))
    open_as(person, slug, THUNDERBIRD)
    page = text_of(person.get(f"/pixels?search={slug}"))
    assert "No time of sending" in page
    assert "1 open in 10 days" in page
    assert re.search(r'data-label="Last open"><time datetime=', page)


@pytest.mark.parametrize("page", ["", "/embed", "/newest", "/by/browser", "/links"])
def test_stranger_may_not_know_of_any_page_of_a_pixel(
    person: Browser, other: Browser, page: str
) -> None:
    pixel_id, _ = create_pixel(person)
    assert person.get(f"/pixels/{pixel_id}{page}").status == 200
    assert other.get(f"/pixels/{pixel_id}{page}").status == 404
    assert Browser(person.client).get(f"/pixels/{pixel_id}{page}").status == 303


def test_lists_of_the_report_agree_with_the_api(person: Browser, username: str) -> None:
    pixel_id, slug = create_pixel(person)
    for number, agent in enumerate([THUNDERBIRD, THUNDERBIRD, APPLE, "curl/8.5.0", "Mozilla/9"]):
        open_as(person, slug, agent, f"?utm_campaign=c{number}&r=person-{number % 2}")
    login = person.client.post("/api/auth/login", {"username": username, "password": PASSWORD})
    api = person.client.with_token(login.json["token"])
    page = text_of(person.get(f"/pixels/{pixel_id}?class=all&range=24h"))
    for dimension in ("browser", "utmCampaign", "recipient", "reason"):
        path = f"/api/pixels/{pixel_id}/metrics/expanded?type={dimension}&class=all"
        rows = api.get(f"{path}&startAt=0&endAt=4102444800000").json
        shown = re.findall(
            rf'[?&]{dimension}=([\w-]+)"[^>]*>[^<]*</a></th><td>.*?</td><td class="n">(\d+)<', page
        )
        found = {(row["name"], str(row["pageviews"])) for row in rows}
        assert len(shown) == len(found)
        assert {*shown} == found
        counts = [int(count) for _, count in shown]
        assert counts == sorted(counts, reverse=True)
        assert rows
