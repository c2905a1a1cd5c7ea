"""What an address may do to the pages: neither lead away, nor reach a function, nor be logged."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import pytest

from tests.conftest import PASSWORD, Answer, Client, Server

AWAY = (
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "/////evil.example/x",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/ /evil.example",
    "/%09/evil.example\r",
    "https://evil.example",
    "https:evil.example",
    "http:/evil.example",
    "javascript:alert(1)",
    "evil.example",
    "/\x00/evil.example",
    "/\x7f/evil.example",
    "/.//evil.example",
    "/..//evil.example",
    "/x/..//evil.example",
    "/x/../\\evil.example",
)
HERE = ("/pixels", "/pixels?page=2&search=a%20b", "/teams/x?next=//y", "/pixels?search=é b")


def followed(base: str, location: str) -> str:
    """Return where a browser goes: it strips some characters, and takes `\\` for `/`."""
    cleaned = location.strip(" \0\t\n\r\f").translate(
        {ord(character): None for character in "\t\n\r"}
    )
    return urljoin(f"{base}/sign-in", cleaned.replace("\\", "/"))


def form_token(page: Answer) -> tuple[str, str]:
    """Return a page's form token and the cookie that goes with it."""
    found = re.search(rb'name="form_token" value="([^"]+)"', page.body)
    assert found
    return found[1].decode(), page.headers["Set-Cookie"].partition(";")[0]


def send_form(base: str, page: str, path: str, **values: str) -> Answer:
    token, cookie = form_token(Client(base).get(page))
    body = "&".join(f"{name}={quote(value)}" for name, value in values.items())
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
    return Client(base).post(path, body=f"form_token={token}&{body}".encode(), headers=headers)


def sign_in(base: str, target: str) -> Answer:
    path = f"/sign-in?next={quote(target)}"
    return send_form(base, "/sign-in", path, username="admin", password=PASSWORD)


def choose_zone(base: str, target: str) -> Answer:
    return send_form(base, "/zone", "/zone", zone="Europe/Paris", next=target)


# To sign in takes a hash.
@pytest.mark.parametrize(("send", "targets"), [(sign_in, AWAY[:5]), (choose_zone, AWAY)])
def test_no_next_leads_away(
    server: Server, send: Callable[[str, str], Answer], targets: tuple[str, ...]
) -> None:
    for target in targets:
        answer = send(server.base, target)
        assert answer.status == 303, target
        goes_to = followed(server.base, answer.headers["Location"])
        assert goes_to.startswith(f"{server.base}/"), (target, answer.headers["Location"])
        assert not urlsplit(goes_to).path.startswith("//"), target


@pytest.mark.parametrize("target", HERE)
def test_next_leads_to_a_page_of_ours(server: Server, target: str) -> None:
    location = choose_zone(server.base, target).headers["Location"]
    assert location == quote(target, safe="/?&=%")


NAMES = ("endpoint", "values", "_external", "_scheme", "_anchor", "_method", "self", "changes")
NAMES += ("where", "pixel_id", "slug", "dimension", "report", "form", "app")


@pytest.fixture
def paths(admin: Client) -> dict[str, str]:
    """The pages of a report: of a share, and the slug."""
    pixel = admin.create_pixel()
    slug = admin.post(f"/api/pixels/{pixel['id']}/shares", {"name": "Share"}).json["slug"]
    assert admin.get(f"/p/{pixel['slug']}").status == 200
    return {"slug": slug, "share": f"/share/{slug}", "list": f"/share/{slug}/by/browser"}


@pytest.mark.parametrize("name", NAMES)
def test_no_parameter_of_an_address_reaches_a_function(
    server: Server, paths: dict[str, str], name: str
) -> None:
    client = Client(server.base)
    for path in (paths["share"], paths["list"], f"{paths['share']}/newest"):
        answer = client.get(f"{path}?{name}=https%3A//evil.example/x&class=all&{name}=2")
        assert answer.status == 200, (path, name)
        for address in re.findall(rb'(?:href|action)="([^"]+)"', answer.body):
            assert not urljoin(server.base, address.decode()).startswith("https"), address
    assert client.get(f"/zone?{name}=x").status == 200
    assert client.get(f"/sign-in?{name}=x").status == 200


def test_links_keep_what_was_asked_for(server: Server, paths: dict[str, str]) -> None:
    page = Client(server.base).get(f"{paths['share']}?class=all&range=7d&country=A%26B%C3%A9")
    links = re.findall(r'href="([^"]+)"', page.body.decode())
    assert any("class=bot" in link and "country=A%26B%C3%A9" in link for link in links), links


def test_report_of_a_member_has_its_exports_and_lists(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    admin.get(f"/p/{pixel['slug']}?r=Ada")
    cookie = sign_in(server.base, "/pixels").headers["Set-Cookie"].partition(";")[0]
    page = Client(server.base).get(f"/pixels/{pixel['id']}?class=all", headers={"Cookie": cookie})
    assert page.status == 200
    assert f"/pixels/{pixel['id']}/export.csv?class=all" in page.body.decode()


def test_error_of_ours_is_logged_without_the_address(
    start_server: Callable[..., Server],
) -> None:
    server = start_server()
    pixel = server.admin.create_pixel()
    slug = server.admin.post(f"/api/pixels/{pixel['id']}/shares", {"name": "S"}).json["slug"]
    server.execute("ALTER TABLE recipients RENAME COLUMN opens TO opened")
    server.execute("ALTER TABLE shares RENAME COLUMN name TO named")
    nobody = Client(server.base)
    page = nobody.get(f"/share/{slug}?r=SECRET")
    assert page.status in (500, 503)
    answer = nobody.get(f"/api/share/{slug}?r=SECRET")
    assert answer.status in (500, 503)
    assert slug not in answer.body.decode()
    assert slug not in server.log
    assert "SECRET" not in server.log
    assert "no such column" in server.log


def test_cookies_of_two_servers_on_one_host_are_two(
    server: Server, start_server: Callable[..., Server]
) -> None:
    other = start_server()
    names: list[Any] = []
    for base in (server.base, other.base, server.base):
        names.append(form_token(Client(base).get("/sign-in"))[1].partition("=")[0])
    assert names[0] == names[2]
    assert names[0] != names[1]
    assert all(name.startswith("pixelkeep") for name in names)


def test_session_of_an_earlier_version_goes_on(server: Server) -> None:
    answer = sign_in(server.base, "/pixels")
    _, _, value = answer.headers["Set-Cookie"].partition(";")[0].partition("=")
    client = Client(server.base)
    assert client.get("/pixels", headers={"Cookie": f"pixelkeep={value}"}).status == 200
    # Another server's on the same host is none.
    forged = f"pixelkeep={value[:-3]}xyz"
    assert client.get("/pixels", headers={"Cookie": forged}).status == 303
