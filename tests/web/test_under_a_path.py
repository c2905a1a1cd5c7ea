"""Under a path of somebody's site: all that leads to us, and all we set, has the path."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.conftest import PASSWORD, Answer, Client, Server, unique
from tests.web.pages.test_pages import Browser

PREFIX = {"X-Forwarded-Prefix": "/track"}
PUBLIC = "https://mail.example.org/track"


class Under:
    """A browser before a proxy that strips `/track` and says so, or says nothing."""

    def __init__(self, server: Server, headers: dict[str, str]) -> None:
        self.browser = Browser(Client(server.base, headers=headers))
        self.paths: set[str] = set()

    def get(self, path: str) -> Answer:
        answer = self.browser.get(self._stripped(path))
        self._keep(answer)
        return answer

    def send(self, path: str, page: str | None = None, **fields: str) -> Answer:
        page = self._stripped(page) if page else None
        answer = self.browser.send(self._stripped(path), page, **fields)
        self._keep(answer)
        return answer

    def _stripped(self, path: str) -> str:
        assert path.startswith("/track/"), path
        return path.removeprefix("/track")

    def _keep(self, answer: Answer) -> None:
        for line in answer.headers.get_all("Set-Cookie", []):
            self.paths.update(re.findall(r"(?i);\s*path=([^;]*)", line))


@pytest.fixture(scope="module")
def by_header(start_server_for_module: Callable[..., Server]) -> Server:
    return start_server_for_module(
        trusted_proxies="1", trusted_headers="for,proto,prefix", workers="1"
    )


@pytest.fixture(scope="module")
def by_public_url(start_server_for_module: Callable[..., Server]) -> Server:
    return start_server_for_module(public_url=PUBLIC, workers="1")


@pytest.fixture(params=["header", "public URL"])
def under(request: pytest.FixtureRequest) -> tuple[Server, Under]:
    """A server under a path, by either way of saying so, and a browser before its proxy."""
    if request.param == "header":
        server = request.getfixturevalue("by_header")
        return server, Under(server, PREFIX)
    server = request.getfixturevalue("by_public_url")
    return server, Under(server, {})


def links_of(answer: Answer) -> set[str]:
    """Return what a page leads to, loads and sends forms to, but for places on itself."""
    found = re.findall(r'(?:href|src|action|data-live|data-suggest)="(/[^"]*)"', page_of(answer))
    return set(found)


def page_of(answer: Answer) -> str:
    assert answer.status in (200, 404), answer.body
    return answer.body.decode()


def sign_in(under: Under) -> None:
    answer = under.get("/track/account")
    assert answer.headers["Location"] == "/track/sign-in?next=/track/account"
    target = answer.headers["Location"]
    answer = under.send(target, target, username="admin", password=PASSWORD)
    assert answer.headers["Location"] == "/track/account"


def test_pages_lead_load_and_send_under_the_path_only(under: tuple[Server, Under]) -> None:
    server, browser = under
    pixel = server.admin.create_pixel()
    server.admin.get(f"/p/{pixel['slug']}")
    share = server.admin.post(f"/api/pixels/{pixel['id']}/shares", {"name": "all"}).json
    sign_in(browser)
    own = f"/track/pixels/{pixel['id']}"
    for path in (
        "/track/pixels",
        "/track/pixels/new",
        "/track/account",
        "/track/teams",
        "/track/users",
        "/track/invite",
        "/track/docs",
        "/track/zone?next=/track/pixels",
        "/track/nothing-here",
        own,
        f"{own}/recipients",
        f"{own}/embed",
        f"{own}/settings",
        f"/track/share/{share['slug']}",
    ):
        links = links_of(browser.get(path))
        assert links, path
        assert [address for address in links if not address.startswith("/track/")] == [], path
        for link in sorted(links):
            if "/static/" in link:
                assert browser.get(link).status == 200
    assert browser.get("/track/").headers["Location"] == "/track/pixels"
    assert '"brand" href="/track/"' in page_of(browser.get("/track/docs"))


def test_forms_and_cookies_stay_under_the_path(under: tuple[Server, Under]) -> None:
    _, browser = under
    sign_in(browser)
    slug = unique("under")
    made = browser.send("/track/pixels/new", name=slug, slug=slug)
    assert made.status == 303
    assert made.headers["Location"].startswith("/track/pixels/")
    zoned = browser.send("/track/zone", zone="Europe/Rome", next="/track/account")
    assert zoned.headers["Location"] == "/track/account"
    signed_out = browser.send("/track/sign-out", "/track/account")
    assert signed_out.headers["Location"] == "/track/sign-in"
    assert browser.paths == {"/track/"}


def test_document_says_the_path(under: tuple[Server, Under]) -> None:
    assert under[1].get("/track/openapi.json").json["servers"][0]["url"] == "/track"


def test_public_url_with_a_path_is_in_all_that_is_handed_out(by_public_url: Server) -> None:
    server, browser = by_public_url, Under(by_public_url, {})
    pixel = server.admin.create_pixel()
    embed = server.admin.get(f"/api/pixels/{pixel['id']}/embed?recipient=ada").json
    assert embed["url"].startswith(f"{PUBLIC}/p/{pixel['slug']}?s=")
    assert server.admin.get(embed["url"].removeprefix(PUBLIC)).status == 200
    sent = {"recipients": ["ada@example.org"]}
    issued = server.admin.post(f"/api/pixels/{pixel['id']}/recipients", sent)
    assert issued.json["data"][0]["optOutUrl"].startswith(f"{PUBLIC}/opt-out/")
    opt_out = urlsplit(issued.json["data"][0]["optOutUrl"]).path
    assert browser.get(opt_out).status == 200
    assert Client(server.base).post(opt_out.removeprefix("/track")).status == 200
    share = server.admin.post(f"/api/pixels/{pixel['id']}/shares", {"name": "all"}).json
    sign_in(browser)
    settings = page_of(browser.get(f"/track/pixels/{pixel['id']}/settings"))
    assert f"<code>{PUBLIC}/share/{share['slug']}<" in settings
    preview = re.search(
        r'"(https://[^"]*/preview/[^"]*)"',
        page_of(browser.get(f"/track/pixels/{pixel['id']}/embed")),
    )
    assert preview
    assert preview[1].startswith(f"{PUBLIC}/preview/")
    invited = browser.send("/track/invite", role="user", teamId="")
    assert f"{PUBLIC}/invitation/" in page_of(invited)


def test_path_of_the_public_url_may_be_stripped_or_not(by_public_url: Server) -> None:
    client, pixel = Client(by_public_url.base), by_public_url.admin.create_pixel()
    for path in (f"/p/{pixel['slug']}", f"/track/p/{pixel['slug']}"):
        assert client.get(path).status == 200
    assert client.get("/trackp/x").status == 404
    assert client.get("/track").headers["Location"] == "/track/sign-in?next=/track/"
    assert client.get("/track/healthz").status == 200
    assert client.get("/healthz").status == 200


def test_path_that_begins_as_one_of_ours_is_never_taken_off(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(public_url="https://mail.example.org/p", workers="1")
    pixel = server.admin.create_pixel()
    assert Client(server.base).get(f"/p/{pixel['slug']}").status == 200


@pytest.mark.parametrize(
    "prefix", ["//evil.example", "/\\evil.example", "evil.example", "/a b", "/track?x", "/a//b"]
)
def test_prefix_that_could_lead_elsewhere_is_ignored(by_header: Server, prefix: str) -> None:
    client = Client(by_header.base, headers={"X-Forwarded-Prefix": prefix})
    assert client.get("/pixels").headers["Location"] == "/sign-in?next=/pixels"


def test_slash_at_the_prefix_end_makes_no_difference(by_header: Server) -> None:
    client = Client(by_header.base, headers={"X-Forwarded-Prefix": "/track/"})
    assert client.get("/pixels").headers["Location"] == "/track/sign-in?next=/track/pixels"


def test_prefix_is_not_believed_unless_it_is_named(start_server: Callable[..., Server]) -> None:
    server = start_server(trusted_proxies="1", workers="1")
    client = Client(server.base, headers=PREFIX)
    assert client.get("/pixels").headers["Location"] == "/sign-in?next=/pixels"
