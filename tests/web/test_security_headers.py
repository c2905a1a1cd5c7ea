"""What browsers are told of every answer, and the cookies they get."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from http.cookies import SimpleCookie

import pytest

from tests.conftest import PASSWORD, Answer, Client, Server

PATHS = ["/docs", "/sign-in", "/zone", "/static/pages.css", "/openapi.json", "/nothing", "/api/me"]


def directives_of(answer: Answer) -> dict[str, str]:
    policy = answer.headers["Content-Security-Policy"]
    return dict(directive.strip().split(" ", 1) for directive in policy.split(";"))


@pytest.mark.parametrize("path", PATHS)
def test_browser_is_told_to_load_nothing_from_elsewhere(admin: Client, path: str) -> None:
    answer = admin.with_token(None).get(path)
    directives = directives_of(answer)
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == "'self'"
    assert directives["style-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"
    assert directives["base-uri"] == "'none'"
    assert "unsafe" not in str(directives)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/docs", "/sign-in", "/zone", "/nothing"])
def test_page_holds_no_inline_script_or_style(admin: Client, path: str) -> None:
    page = admin.with_token(None).get(path).body.decode()
    assert "<style" not in page
    assert "style=" not in page
    assert "<script>" not in page
    assert " onclick=" not in page


def test_what_an_account_may_see_is_kept_in_no_cache(admin: Client) -> None:
    for path in ("/api/me", "/api/pixels", "/sign-in"):
        assert admin.get(path).headers["Cache-Control"] == "no-store"


def test_files_are_compressed_and_pages_are_not(admin: Client) -> None:
    zipped = {"Accept-Encoding": "gzip"}
    for path in ("/static/pages.css", "/static/pages.js"):
        plain, packed = admin.get(path), admin.get(path, headers=zipped)
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.body) == plain.body
        assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
        known = {**zipped, "If-None-Match": packed.headers["ETag"]}
        assert admin.get(path, headers=known).status == 304
    assert admin.get("/sign-in", headers=zipped).headers["Content-Encoding"] is None


def test_images_set_no_cookie_and_have_no_policy_of_pages(admin: Client) -> None:
    pixel = admin.create_pixel()
    for path in (f"/p/{pixel['slug']}", f"/api/send?slug={pixel['slug']}", "/p/nothing"):
        answer = admin.get(path)
        assert answer.headers["Set-Cookie"] is None
        assert answer.headers["Content-Security-Policy"] is None
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_json_api_sets_no_cookie(server: Server) -> None:
    credentials = {"username": "admin", "password": PASSWORD}
    answer = server.admin.with_token(None).post("/api/auth/login", credentials)
    assert answer.status == 200
    assert answer.headers["Set-Cookie"] is None


def session_cookie(client: Client, **headers: str) -> SimpleCookie:
    return SimpleCookie(client.get("/sign-in", headers=headers).headers["Set-Cookie"])


def test_session_cookie_is_out_of_reach_of_scripts_and_of_other_sites(admin: Client) -> None:
    [cookie] = session_cookie(admin.with_token(None)).values()
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert not cookie["secure"]


def test_session_cookie_is_for_tls_alone_behind_tls(start_server: Callable[..., Server]) -> None:
    behind_proxy = Client(start_server(trusted_proxies="1").base)
    [cookie] = session_cookie(behind_proxy, **{"X-Forwarded-Proto": "https"}).values()
    assert cookie["secure"]
    [cookie] = session_cookie(behind_proxy).values()
    assert not cookie["secure"]


def test_forwarded_headers_of_nobody_trusted_are_ignored(admin: Client) -> None:
    forged = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "host=evil.example;proto=https",
    }
    [cookie] = session_cookie(admin.with_token(None), **forged).values()
    assert not cookie["secure"]
    pixel = admin.create_pixel()
    answer = admin.get(f"/api/pixels/{pixel['id']}/embed", headers=forged)
    assert "evil" not in answer.body.decode()
    assert answer.json["url"].startswith("http://127.0.0.1")


def test_of_the_forwarded_hosts_the_nth_from_the_right_is_believed(
    start_server: Callable[..., Server],
) -> None:
    client = start_server(trusted_proxies="2", trusted_headers="for,host").admin
    pixel = client.create_pixel()
    path = f"/api/pixels/{pixel['id']}/embed"
    named = {"X-Forwarded-Host": "evil.example, mail.example.org, inner.example"}
    assert client.get(path, headers=named).json["url"].startswith("http://mail.example.org/")
    # One proxy too few in front: what the client sent itself is never the second.
    short = {"X-Forwarded-Host": "evil.example"}
    assert "evil" not in client.get(path, headers=short).json["url"]
