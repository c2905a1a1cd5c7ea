"""The image: its bytes and headers whatever comes, its slugs, and what a change does to it."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from tests.conftest import Answer, Client, Server, unique, verdicts

GIF = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b"
)
HEADERS = {
    "Content-Type": "image/gif",
    "Content-Length": "43",
    "Cache-Control": "private, no-store, no-cache, must-revalidate, max-age=0",
    "Pragma": "no-cache",
    "Expires": "0",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Access-Control-Allow-Origin": "*",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
# What the server adds to any answer.
SERVERS_OWN = {"Server", "Date", "Connection"}
SLUGS = [
    "two words",
    "a/b//c",
    "100%",
    "50%25",
    "really?",
    "a&b=c#d",
    "a+b",
    "..",
    "../..",
    ".",
    "/",
    "💌 été",
    "Straße",
    "x" * 100,
    "\N{ZERO WIDTH JOINER}",
    "'; DROP TABLE hits; --",
    'quo"te\\back',
]


def is_image(answer: Answer, status: int) -> bool:
    assert answer.status == status
    assert answer.body == GIF
    assert {**answer.headers}.items() >= HEADERS.items()
    return set(answer.headers) == {*HEADERS, *SERVERS_OWN}


def paths(slug: str) -> list[str]:
    encoded = quote(slug, safe="")
    return [f"/p/{encoded}", f"/p/{encoded}.gif", f"/api/send?{urlencode({'slug': slug})}"]


@pytest.fixture
def anybody(admin: Client) -> Client:
    return admin.with_token(None)


def test_image_has_these_bytes_and_headers_and_no_others(admin: Client, anybody: Client) -> None:
    pixel = admin.create_pixel()
    for path in paths(pixel["slug"]):
        assert is_image(anybody.get(path), 200)


def test_image_says_when_it_was_sent_and_whether_its_connection_stays(
    admin: Client, anybody: Client
) -> None:
    connection = http.client.HTTPConnection(urlsplit(admin.base).netloc, timeout=10)
    for connection_header in ("keep-alive", "close"):
        time.sleep(1)  # The last answer's second is over.
        connection.request("GET", "/p/unknown", headers={"Connection": connection_header})
        answer = connection.getresponse()
        assert answer.read() == GIF
        sent_at = parsedate_to_datetime(answer.headers["Date"])
        assert timedelta(0) <= datetime.now(UTC) - sent_at < timedelta(seconds=2)
        assert answer.headers["Connection"] == connection_header
        assert answer.headers["Server"] == anybody.get("/api/heartbeat").headers["Server"]
    assert connection.sock is None, "it was closed after the last answer"


@pytest.mark.parametrize("slug", SLUGS)
def test_every_slug_is_reached_by_all_three_paths(
    server: Server, admin: Client, anybody: Client, slug: str
) -> None:
    pixel = admin.create_pixel(unique(slug[:80]) if slug == "x" * 100 else slug)
    for path in paths(pixel["slug"]):
        assert is_image(anybody.get(path), 200), path
    assert len(verdicts(server, {"slug": pixel["slug"].replace("'", "''")})) == 3
    assert admin.delete(f"/api/pixels/{pixel['id']}").status == 200


def test_slug_that_ends_in_gif_wins_over_the_suffix(
    server: Server, admin: Client, anybody: Client
) -> None:
    plain = admin.create_pixel()
    assert is_image(anybody.get(f"/p/{plain['slug']}.gif"), 200)
    suffixed = admin.create_pixel(f"{plain['slug']}.gif")
    assert is_image(anybody.get(f"/p/{plain['slug']}.gif"), 200)
    assert is_image(anybody.get(f"/p/{plain['slug']}.gif.gif"), 200)
    assert is_image(anybody.get(f"/api/send?slug={plain['slug']}"), 200)
    assert [len(verdicts(server, pixel)) for pixel in (plain, suffixed)] == [2, 2]


def test_seed_path_takes_no_suffix(admin: Client, anybody: Client) -> None:
    pixel = admin.create_pixel()
    assert is_image(anybody.get(f"/api/send?slug={pixel['slug']}.gif"), 404)


@pytest.mark.parametrize(
    "path",
    [
        "/p/",
        "/p/no-such",
        "/p/%00",
        "/p/%FF%FE",
        "/p/%2e%2e",
        "/p/" + "x" * 5000,
        "/api/send",
        "/api/send?slug=",
        "/api/send?slug=no-such",
        "/api/send?slug=%00",
    ],
)
def test_unknown_slug_is_404_with_the_image(anybody: Client, path: str) -> None:
    assert is_image(anybody.get(path), 404)
    assert anybody("HEAD", path).status == 404


@pytest.mark.parametrize("slashes", ["//", "///", "/%2F"])
def test_more_slashes_before_a_path_change_nothing(
    server: Server, admin: Client, anybody: Client, slashes: str
) -> None:
    pixel = admin.create_pixel()
    for path in paths(pixel["slug"]):
        assert is_image(anybody.get(slashes + path[1:]), 200)
        assert anybody("HEAD", slashes + path[1:]).status == 200
    assert len(verdicts(server, pixel)) == len(paths(pixel["slug"]))
    assert is_image(anybody.get(f"{slashes}p/{unique('none')}"), 404)


def test_slugs_are_case_sensitive_and_decoded_once(admin: Client, anybody: Client) -> None:
    pixel = admin.create_pixel(unique("Case%41"))
    assert is_image(anybody.get(f"/p/{quote(pixel['slug'])}"), 200)
    assert is_image(anybody.get(f"/p/{pixel['slug']}"), 404)
    assert is_image(anybody.get(f"/p/{quote(pixel['slug'].lower())}"), 404)


def test_head_answers_the_headers_and_is_no_hit(
    server: Server, admin: Client, anybody: Client
) -> None:
    pixel = admin.create_pixel()
    for path in paths(pixel["slug"]):
        answer = anybody("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
        assert {**answer.headers}.items() >= HEADERS.items()
    assert verdicts(server, pixel) == []


def test_head_of_a_deleted_pixel_is_404_in_every_process(admin: Client, anybody: Client) -> None:
    pixel = admin.create_pixel()
    for _ in range(8):
        assert anybody.get(f"/p/{pixel['slug']}").status == 200
    admin.delete(f"/api/pixels/{pixel['id']}")
    assert {anybody("HEAD", f"/p/{pixel['slug']}").status for _ in range(16)} == {404}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_another_method_is_405_and_no_hit(
    server: Server, admin: Client, anybody: Client, method: str
) -> None:
    pixel = admin.create_pixel()
    answer = anybody(method, f"/p/{pixel['slug']}")
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert verdicts(server, pixel) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1"},
        {"If-None-Match": "*"},
        {"If-Modified-Since": "Mon, 23 Nov 2026 00:00:00 GMT"},
        {"Cookie": "session=x"},
        {"Accept-Encoding": "gzip"},
        {"Accept": "text/html"},
        {"Origin": "https://example.org"},
        {"Host": "\xfcml\xe4ut"},
        {"User-Agent": ""},
        {"User-Agent": "x" * 8000},
        {"User-Agent": "\xf0\x9f\x92\x8c\xff\xfe"},
        {"Referer": "\xff" * 2000},
        {"Accept-Language": ";;;,,,q=9"},
        {"Expect": "100-continue"},
        {"Expect": "nonsense"},
        {"Upgrade": "h2c", "Connection": "Upgrade"},
    ],
    ids=lambda headers: "-".join(f"{name}-{len(value)}" for name, value in headers.items()),
)
def test_no_header_changes_the_answer(
    server: Server, admin: Client, anybody: Client, headers: dict[str, str]
) -> None:
    pixel = admin.create_pixel()
    assert is_image(anybody.get(f"/p/{pixel['slug']}", headers=headers), 200)
    assert len(verdicts(server, pixel)) == 1


@pytest.mark.parametrize(
    "query",
    [
        "&".join(f"p{number}=1" for number in range(1100)),
        "q=" + "x" * 7000,
        "q=%FF%FE&r=%FF",
        "q=%00&r=%00&s=%00",
        "s=" + "A" * 2000,
        "s=&s=x&r=",
        "r=" + "x" * 3000,
        "=&&&===&;",
        "%73=x",
        "q=%ED%A0%80",
    ],
    ids=lambda query: query[:12],
)
def test_no_query_fails_a_hit(server: Server, admin: Client, query: str) -> None:
    pixel = admin.create_pixel()
    parts = urlsplit(admin.base)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        line = f"GET /p/{pixel['slug']}?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        connection.sendall(line.encode("latin-1"))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.read()) == (200, GIF)
    assert len(verdicts(server, pixel)) == 1


def test_client_of_http_1_0_gets_the_image(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    parts = urlsplit(admin.base)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(f"GET /p/{pixel['slug']} HTTP/1.0\r\n\r\n".encode())
        received = b"".join(iter(lambda: connection.recv(4096), b""))
    assert received.startswith((b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\n"))
    assert received.endswith(b"\r\n\r\n" + GIF)
    assert len(verdicts(server, pixel)) == 1


def test_repeated_requests_are_each_a_hit(server: Server, admin: Client, anybody: Client) -> None:
    pixel = admin.create_pixel()
    for _ in range(5):
        assert is_image(anybody.get(f"/p/{pixel['slug']}"), 200)
    ids = [
        hit
        for (hit,) in server.query(
            f"SELECT id FROM hits WHERE pixel_number = {server.number_of(pixel)} ORDER BY id"
        )
    ]
    assert len(set(ids)) == 5


# A change of a pixel holds for the very next request, in every process.

CHANGES = 12
REQUESTS_PER_CHANGE = 12


def at_once(count: int, call: Callable[[], Any]) -> list[Any]:
    """Return the results of calls made at the same time."""
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(call())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_rename_holds_for_the_next_request_in_every_process(
    server: Server, admin: Client, anybody: Client
) -> None:
    pixel = admin.create_pixel()
    slug = pixel["slug"]
    for _ in range(CHANGES):
        old, slug = slug, unique("renamed")
        assert set(at_once(8, lambda old=old: anybody.get(f"/p/{old}").status)) == {200}
        assert admin.post(f"/api/pixels/{pixel['id']}", {"slug": slug}).status == 200
        answers = at_once(
            REQUESTS_PER_CHANGE,
            lambda old=old, slug=slug: (
                anybody.get(f"/p/{old}").status,
                anybody.get(f"/p/{slug}").status,
            ),
        )
        assert set(answers) == {(404, 200)}
    pixel["slug"] = slug
    assert len(verdicts(server, pixel)) == CHANGES * (8 + REQUESTS_PER_CHANGE)


def test_slug_that_two_pixels_swap_counts_for_the_right_one(
    server: Server, admin: Client, anybody: Client
) -> None:
    one, other = admin.create_pixel(), admin.create_pixel()
    slug, aside = one["slug"], unique("aside")
    assert set(at_once(8, lambda: anybody.get(f"/p/{slug}").status)) == {200}
    admin.post(f"/api/pixels/{one['id']}", {"slug": aside})
    admin.post(f"/api/pixels/{other['id']}", {"slug": slug})
    assert set(at_once(8, lambda: anybody.get(f"/p/{slug}").status)) == {200}
    one["slug"], other["slug"] = aside, slug
    assert [len(verdicts(server, pixel)) for pixel in (one, other)] == [8, 8]


def test_delete_holds_for_the_next_request_in_every_process(admin: Client, anybody: Client) -> None:
    for _ in range(CHANGES):
        pixel = admin.create_pixel()
        path = f"/p/{pixel['slug']}"
        assert set(at_once(8, lambda path=path: anybody.get(path).status)) == {200}
        assert admin.delete(f"/api/pixels/{pixel['id']}").status == 200
        statuses = at_once(REQUESTS_PER_CHANGE, lambda path=path: anybody.get(path).status)
        assert set(statuses) == {404}


def test_new_pixel_is_served_at_once_though_its_slug_was_asked_for_before(
    admin: Client, anybody: Client
) -> None:
    slug = unique("later")
    assert set(at_once(8, lambda: anybody.get(f"/p/{slug}").status)) == {404}
    admin.create_pixel(slug)
    assert set(at_once(8, lambda: anybody.get(f"/p/{slug}").status)) == {200}


# What an HTTP client would not send.


def asked(server: Server, sent: bytes) -> Answer:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(sent)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return Answer(answer.status, answer.headers, answer.read())


@pytest.mark.parametrize("end", [b"", b"Expect: 100-continue\r\n", b"X: 1\r\nX: 2\r\n"])
def test_bytes_that_nobody_escaped_are_a_hit(server: Server, admin: Client, end: bytes) -> None:
    pixel = admin.create_pixel(unique("né\N{PILE OF POO}"))
    slug = pixel["slug"].encode()
    for target in (b"/p/" + slug, b"/p/x.gif?".replace(b"x", slug), b"/api/send?slug=" + slug):
        line = b"GET " + target + (b"&" if b"?" in target else b"?") + "r=José".encode()
        assert is_image(asked(server, line + b" HTTP/1.1\r\nHost: a\r\n" + end + b"\r\n"), 200)
    assert [row[2] for row in verdicts(server, pixel)] == ["José"] * 3


LINES = [b"X-%d: 1" % number for number in range(61)]
UNREADABLE = {
    "a line too long": (b"GET /p/%b?" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "more than 60 headers": (b"GET /p/%b HTTP/1.1\r\n" + b"\r\n".join(LINES) + b"\r\n\r\n", 431),
    "a header too long": (b"GET /p/%b HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
    "a head too long": (b"GET /p/%b HTTP/1.1\r\n" + b"X: " + b"x" * 40_000, 431),
    "a space": (b"GET /p/%b x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a control": (b"GET /p/%b\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no version": (b"GET /p/%b\r\n\r\n", 400),
    "a header without a colon": (b"GET /p/%b HTTP/1.1\r\nHost\r\n\r\n", 400),
    "two hosts": (b"GET /p/%b HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "bare line feeds": (b"GET /p/%b HTTP/1.1\nHost: a\n\n", 400),
    "another form": (b"GET http://a/p/%b HTTP/1.1\r\nHost\r\n\r\n", 400),
}


@pytest.mark.parametrize("sent", UNREADABLE)
@pytest.mark.parametrize("path", [b"/p/%b", b"/%70/%b", b"//p/%b", b"/api/send?slug=%b"])
def test_what_cannot_be_read_is_its_error_with_the_image(
    server: Server, admin: Client, sent: str, path: bytes
) -> None:
    pixel = admin.create_pixel()
    request, status = UNREADABLE[sent]
    request = request.replace(b"/p/%b", path).replace(b"%b", pixel["slug"].encode())
    assert is_image(asked(server, request), status)
    assert verdicts(server, pixel) == []


@pytest.mark.parametrize("sent", UNREADABLE)
def test_what_cannot_be_read_of_the_api_has_the_one_error_shape(server: Server, sent: str) -> None:
    request, status = UNREADABLE[sent]
    answer = asked(server, request.replace(b"/p/%b", b"/api/me"))
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    codes = {400: "bad-request", 414: "uri-too-long", 431: "request-header-fields-too-large"}
    assert answer.code == codes[status]


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 2",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: br",
    ],
)
def test_body_that_nobody_wants_is_no_reason_to_wait(
    server: Server, admin: Client, framing: bytes
) -> None:
    pixel = admin.create_pixel()
    line = b"GET /p/%b HTTP/1.1\r\nHost: a\r\n" % pixel["slug"].encode()
    answer = asked(server, line + framing + b"\r\n\r\n")
    assert is_image(answer, 200)
    assert answer.headers["Connection"] == "close"
    assert len(verdicts(server, pixel)) == 1


def test_ampersands_of_a_mail_that_was_escaped_twice(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    query = f"slug={pixel['slug']}&amp;r=Ann&amp;amp;utm_source=mail&amp;x=a%26amp;b"
    assert is_image(admin.get(f"/api/send?{query}"), 200)
    assert [row[2] for row in verdicts(server, pixel)] == ["Ann"]
    (event,) = admin.get(f"/api/pixels/{pixel['id']}/events?class=all").json["data"]
    assert event["urlQuery"] == "utm_source=mail&x=a%26amp;b"


@pytest.mark.parametrize(
    ("query", "recipient"),
    [
        ("r=ann+news@example.org", "ann+news@example.org"),
        ("r=ann+a+b%40example.org", "ann+a+b@example.org"),
        ("r=ann%20news@example.org", "ann+news@example.org"),
        ("r=ann%2Bnews@example.org", "ann+news@example.org"),
        ("r=+49171@example.org", "+49171@example.org"),
        ("r=%20ann@example.org%20", "ann@example.org"),
        ("r=Ann+Lee", "Ann Lee"),
        ("r=Ann+Lee+%3Cann@example.org%3E", "Ann Lee <ann@example.org>"),
        ("r=ann@example.org,+bob@example.org", "ann@example.org, bob@example.org"),
        ("r=ann+b@example.org+and+more", "ann b@example.org and more"),
    ],
)
def test_plus_in_a_mail_address_is_a_plus(
    server: Server, admin: Client, query: str, recipient: str
) -> None:
    pixel = admin.create_pixel()
    assert is_image(admin.get(f"/p/{pixel['slug']}?{query}"), 200)
    assert [row[2] for row in verdicts(server, pixel)] == [recipient]
