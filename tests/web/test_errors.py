"""Every row of the contract's table of errors, met over HTTP."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

import pytest

from tests.conftest import Answer, Client, Server, new_user, unique

JSON = {"Content-Type": "application/json"}
KIB = 1024


def send_body(client: Client, body: bytes, **headers: str) -> Answer:
    return client("POST", "/api/pixels", body=body, headers={**JSON, **headers})


def assert_error(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status, answer.body
    assert answer.headers.get_content_type() == "application/json"
    assert answer.code == code
    assert set(answer.json) == {"error"}
    assert set(answer.json["error"]) <= {"message", "code", "status", "errors"}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b"[]",
        b'"text"',
        b"null",
        b"1",
        b"\xff\xfe",
        b'{"name": "\xff", "slug": "s"}',
        b'{"name": "n", "slug": NaN}',
        b'{"name": "n", "slug": Infinity}',
        b'{"name": "n", "slug": "s", "unknown": 1e999}',
        b"\0",
        b"[" * 30_000,
        b'{"a":' * 10_000,
        b'{"name": "n", "slug": "s"} x',
        b'\xef\xbb\xbf{"name": "n", "slug": "s"}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_body_that_is_no_json_object_is_refused(admin: Client, body: bytes) -> None:
    assert_error(send_body(admin, body), 400, "bad-request")


def test_body_of_64_kib_is_read_and_one_byte_more_is_not(admin: Client) -> None:
    body = json.dumps({"name": "n", "slug": unique("large")}).encode()
    large = body.ljust(64 * KIB)

    def in_chunks(body: bytes) -> Answer:
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        return send_body(admin, chunks, **{"Transfer-Encoding": "chunked"})

    assert send_body(admin, large).status == 200
    assert in_chunks(large).code == "slug-taken"
    assert_error(send_body(admin, large + b" "), 413, "payload-too-large")
    assert_error(in_chunks(large + b" "), 413, "payload-too-large")


def test_chunks_that_cannot_be_read_are_refused(server: Server) -> None:
    nobody = server.admin.with_token(None)
    headers = {**JSON, "Transfer-Encoding": "chunked"}
    answer = nobody("POST", "/api/auth/login", body=b"zz\r\n{}\r\n0\r\n\r\n", headers=headers)
    assert_error(answer, 400, "bad-request")
    assert "InvalidChunkSize" not in server.log


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None),
        ("name", 1),
        ("name", []),
        ("name", ""),
        ("name", " \t"),
        ("name", "x" * 101),
        ("name", "a\0b"),
        ("name", "a\nb"),
        ("name", "\ud800"),
        ("slug", {}),
        ("slug", "\x7f"),
        ("slug", "x" * 101),
        ("teamId", "no uuid"),
        ("teamId", 7),
        ("id", "no uuid"),
    ],
)
def test_value_that_fails_validation_is_named(admin: Client, field: str, value: object) -> None:
    answer = admin.post("/api/pixels", {"name": "n", "slug": unique("s"), field: value})
    assert_error(answer, 400, "bad-request")
    assert list(answer.json["error"]["errors"]) == [field]


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=x",
        "page=99999999999999999999",
        "pageSize=0",
        "orderBy=secret",
        "sortDescending=2",
        "search=%00",
        "search=" + "x" * 201,
    ],
)
def test_query_that_fails_validation_is_named(admin: Client, query: str) -> None:
    answer = admin.get(f"/api/pixels?{query}")
    assert_error(answer, 400, "bad-request")
    assert list(answer.json["error"]["errors"]) == [query.partition("=")[0]]


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer x", "Basic YTpi", "Bearer pk_x", "Bearer pk_a.b", "Bearer é"],
)
def test_missing_or_malformed_credential_is_unauthorized(admin: Client, header: str) -> None:
    client = admin.with_token(None)
    answer = client.get("/api/pixels", headers={"Authorization": header.encode("latin-1")})
    assert_error(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_credential_is_checked_before_the_body(admin: Client) -> None:
    client = admin.with_token(None)
    assert_error(send_body(client, b"nonsense"), 401, "unauthorized")
    assert_error(send_body(client, b"x" * 100 * KIB), 401, "unauthorized")
    text = client("POST", "/api/pixels", body=b"x", headers={"Content-Type": "text/plain"})
    assert_error(text, 401, "unauthorized")


def test_wrong_login_has_a_code_of_its_own(admin: Client) -> None:
    credentials = {"username": unique("nobody"), "password": "wrong"}
    assert_error(admin.post("/api/auth/login", credentials), 401, "incorrect-username-password")


def test_role_that_may_not_is_forbidden(server: Server, admin: Client) -> None:
    client = admin.with_token(new_user(server, "view-only")[1])
    answer = client.post("/api/pixels", {"name": "n", "slug": unique("s")})
    assert_error(answer, 403, "forbidden")


@pytest.mark.parametrize(
    "path",
    [
        "/api/nothing",
        "/api/",
        "/api/pixels/no-uuid",
        "/api/pixels/00000000-0000-0000-0000-000000000000",
        "/api/pixels/%00",
        "/api/" + "x" * 4000,
    ],
)
def test_what_is_not_there_is_not_found(admin: Client, path: str) -> None:
    assert_error(admin.get(path), 404, "not-found")


def test_method_that_a_path_does_not_take_is_named(admin: Client) -> None:
    for method in ("PUT", "PATCH", "DELETE"):
        answer = admin(method, "/api/pixels")
        assert_error(answer, 405, "method-not-allowed")
        assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


def test_slug_id_and_username_in_use_conflict(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    body = {"name": "n", "slug": pixel["slug"]}
    answer = admin.post("/api/pixels", body)
    assert_error(answer, 409, "slug-taken")
    assert answer.json["error"]["message"] == "That slug is already taken."
    answer = admin.post("/api/pixels", {"name": "n", "slug": unique("s"), "id": pixel["id"]})
    assert_error(answer, 409, "id-taken")
    user = {"username": new_user(server)[0], "password": "12345678", "role": "user"}
    assert_error(admin.post("/api/users", user), 409, "username-taken")


def test_body_over_64_kib_is_too_large(admin: Client) -> None:
    pixel = {"name": "n", "slug": unique("s")}
    filled = admin.post("/api/pixels", {**pixel, "filler": "x" * (64 * KIB - 100)})
    assert filled.status == 200
    too_large = admin.post("/api/pixels", {**pixel, "filler": "x" * 64 * KIB})
    assert_error(too_large, 413, "payload-too-large")


def test_chunked_body_over_64_kib_is_too_large(server: Server, admin: Client) -> None:
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    head = (
        "POST /api/pixels HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        f"Authorization: Bearer {admin.token}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(head.encode() + chunk * 3 + b"0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"payload-too-large"' in answer


@pytest.mark.parametrize("path", ["/sign-in", "/zone"])
def test_form_over_64_kib_is_too_large_however_it_is_framed(admin: Client, path: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b"username=" + b"x" * 64 * KIB
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    nobody = admin.with_token(None)
    chunked = {**form, "Transfer-Encoding": "chunked"}
    assert nobody("POST", path, body=body, headers=form).status == 413
    assert nobody("POST", path, body=chunks, headers=chunked).status == 413


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_body_that_is_not_json_is_unsupported(admin: Client, media_type: str) -> None:
    answer = send_body(admin, b'{"name": "n", "slug": "s"}', **{"Content-Type": media_type})
    assert_error(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "APPLICATION/JSON"])
def test_json_is_json_however_it_is_written(admin: Client, media_type: str) -> None:
    body = f'{{"name": "n", "slug": "{unique("s")}"}}'.encode()
    assert send_body(admin, body, **{"Content-Type": media_type}).status == 200


def test_empty_body_counts_as_an_empty_object(admin: Client) -> None:
    answer = admin.post("/api/pixels")
    assert_error(answer, 400, "bad-request")
    assert set(answer.json["error"]["errors"]) == {"name", "slug"}


def test_too_many_failures_are_told_when_to_come_back(
    start_server: Callable[..., Server],
) -> None:
    client = Client(start_server().base)
    credentials = {"username": "admin", "password": "wrong"}
    answers = [client.post("/api/auth/login", credentials) for _ in range(6)]
    assert_error(answers[-1], 429, "too-many-requests")
    assert int(answers[-1].headers["Retry-After"]) > 0


def test_inner_error_tells_nothing_of_the_inside(start_server: Callable[..., Server]) -> None:
    server = start_server()
    # A table that another version of the program would have left.
    server.execute("ALTER TABLE shares RENAME TO shares_of_before")
    answer = server.admin.get("/api/share/any")
    assert answer.status in (500, 503)
    assert "shares" not in answer.body.decode()
    server.execute("ALTER TABLE api_keys RENAME COLUMN last_used_on TO last_used")
    server.execute("UPDATE users SET role = 'of another version'")
    answer = server.admin.post("/api/teams", {"name": "Team"})
    assert answer.status in (500, 503)
    for inner in ("Traceback", "role", "SELECT", "last_used"):
        assert inner not in answer.body.decode()


def test_parameters_repeated_in_the_body_are_ignored(admin: Client) -> None:
    pixel = admin.create_pixel()
    body = {"pixelId": pixel["id"], "name": "Renamed", "unknown": {"deep": []}}
    assert admin.post(f"/api/pixels/{pixel['id']}", body).json["name"] == "Renamed"
