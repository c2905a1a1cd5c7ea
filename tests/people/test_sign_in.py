"""Signing in: by a name in any case, in a place of one's own, not too often."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import PASSWORD, Answer, Client, Server, new_user, unique
from web.rate_limit import SIGN_INS_A_MINUTE_MAX

FLOODER, OTHER = "203.0.113.101", "203.0.113.102"


@pytest.fixture(scope="module")
def behind_proxy(start_server_for_module: Callable[..., Server]) -> Server:
    return start_server_for_module(trusted_proxies="1", real_sign_in=True)


def try_sign_in(server: Server, username: str, password: str, address: str = OTHER) -> Answer:
    credentials = {"username": username, "password": password}
    headers = {"X-Forwarded-For": address}
    return Client(server.base).post("/api/auth/login", credentials, headers=headers)


def test_address_that_signs_in_without_a_pause_keeps_nobody_out(behind_proxy: Server) -> None:
    username, _ = new_user(behind_proxy)
    statuses: Counter[int] = Counter()
    stopping = threading.Event()

    def flood() -> None:
        while not stopping.is_set():
            statuses[try_sign_in(behind_proxy, username, PASSWORD, FLOODER).status] += 1

    with ThreadPoolExecutor(14) as threads:
        for _ in range(14):
            threads.submit(flood)
        others = [
            try_sign_in(behind_proxy, username, PASSWORD, f"198.51.100.{number}").status
            for number in range(5)
        ]
        stopping.set()
    assert others == [200] * 5
    assert set(statuses) == {200, 429}


def test_hash_of_a_password_is_as_dear_as_owasp_has_it(behind_proxy: Server) -> None:
    new_user(behind_proxy)
    hashes = behind_proxy.query("SELECT password_hash FROM users")
    assert {kept.partition("$")[0] for (kept,) in hashes} == {"scrypt:16384:8:5"}


def test_successes_count_in_every_process(behind_proxy: Server) -> None:
    username, _ = new_user(behind_proxy)
    address = "203.0.113.110"
    statuses = set()

    def is_stopped() -> bool:
        with ThreadPoolExecutor(8) as threads:
            tries = [(behind_proxy, username, PASSWORD, address)] * SIGN_INS_A_MINUTE_MAX
            answers = threads.map(lambda attempt: try_sign_in(*attempt), tries)
            statuses.update(answer.status for answer in answers)
        # Nobody else of this address waits any more.
        return try_sign_in(behind_proxy, username, PASSWORD, address).status == 429

    # A minute may end meanwhile.
    assert any(is_stopped() for _ in range(3))
    assert statuses == {200, 429}
    assert try_sign_in(behind_proxy, username, PASSWORD, OTHER).status == 200


@pytest.mark.parametrize("spelled", [str.upper, str.lower, str.title])
def test_case_of_a_name_does_not_matter(server: Server, spelled: Callable[[str], str]) -> None:
    name = unique("Ådâ.Lovelace@Example")
    server.admin.post("/api/users", {"username": name, "password": PASSWORD, "role": "user"})
    answer = try_sign_in(server, spelled(name), PASSWORD)
    assert answer.json["user"]["username"] == name


@pytest.mark.parametrize("spelled", [str.upper, str.casefold, str.swapcase])
def test_new_name_that_another_has_in_any_case_is_taken(
    server: Server, spelled: Callable[[str], str]
) -> None:
    name = unique("Größe")
    body = {"username": name, "password": PASSWORD, "role": "user"}
    assert server.admin.post("/api/users", body).status == 200
    again = server.admin.post("/api/users", {**body, "username": spelled(name)})
    assert (again.status, again.code) == (409, "username-taken")
    other = server.admin.post("/api/users", {**body, "username": unique("other")}).json
    renamed = server.admin.post(f"/api/users/{other['id']}", {"username": spelled(name)})
    assert (renamed.status, renamed.code) == (409, "username-taken")


def test_own_name_may_change_its_case(server: Server) -> None:
    name = unique("Ada")
    body = {"username": name, "password": PASSWORD, "role": "user"}
    user = server.admin.post("/api/users", body).json
    changed = server.admin.post(f"/api/users/{user['id']}", {"username": name.upper()})
    assert changed.json["username"] == name.upper()
    assert try_sign_in(server, name.lower(), PASSWORD).status == 200


def test_of_names_that_differ_by_case_the_exact_one_signs_in(server: Server) -> None:
    first, second = unique("Twin"), unique("other")
    for name, password in ((first, "password of first"), (second, "password of second")):
        body = {"username": name, "password": password, "role": "user"}
        assert server.admin.post("/api/users", body).status == 200
    # As it may be from before names were compared so.
    server.execute(
        f"UPDATE users SET username = '{first.lower()}', folded_username = '{first.casefold()}'"
        f" WHERE username = '{second}'"
    )
    assert try_sign_in(server, first, "password of first").status == 200
    assert try_sign_in(server, first.lower(), "password of second").status == 200
    assert try_sign_in(server, first, "password of second").status == 401
    assert try_sign_in(server, first.upper(), "password of first").status == 401


def test_guesses_at_a_name_count_together_whatever_its_case(behind_proxy: Server) -> None:
    name = unique("guessed")
    address = "203.0.113.120"
    spellings = (name, name.upper(), name.title(), name.swapcase(), name.capitalize(), name)
    statuses = [
        try_sign_in(behind_proxy, spelling, "wrong", address).status for spelling in spellings
    ]
    assert statuses == [401] * 5 + [429]


def test_token_of_a_deleted_user_is_worth_nothing_to_a_new_one_of_the_same_id(
    server: Server,
) -> None:
    body = {"username": unique("old"), "password": PASSWORD, "role": "user"}
    id = str(uuid.uuid4())
    assert server.admin.post("/api/users", {**body, "id": id}).status == 200
    token = server.admin.post("/api/auth/login", body).json["token"]
    assert server.admin.delete(f"/api/users/{id}").status == 200
    body = {"username": unique("new"), "password": PASSWORD, "role": "admin", "id": id}
    assert server.admin.post("/api/users", body).status == 200
    assert server.admin.with_token(token).get("/api/me").status == 401


def test_guessing_access_codes_by_taking_them_is_stopped(behind_proxy: Server) -> None:
    def new_team() -> tuple[Client, dict[str, str]]:
        token = new_user(behind_proxy)[1]
        address = f"203.0.113.{uuid.uuid4().int % 50 + 130}"
        client = Client(behind_proxy.base, token, {"X-Forwarded-For": address})
        return client, client.post("/api/teams", {"name": unique("team")}).json[0]

    _, theirs = new_team()
    client, mine = new_team()
    path = f"/api/teams/{mine['id']}"
    taken = [client.post(path, {"accessCode": theirs["accessCode"]}) for _ in range(4)]
    assert [answer.status for answer in taken] == [409] * 4
    assert taken[0].code == "access-code-taken"
    # To take a free one in between proves nothing.
    assert client.post(path, {"accessCode": unique("free").ljust(16, "x")}).status == 200
    assert client.post(path, {"accessCode": theirs["accessCode"]}).status == 429
    # To join and to take are the same guess.
    assert client.post("/api/teams/join", {"accessCode": "x" * 16}).status == 429
    assert client.post(path, {"name": "Renamed"}).status == 200


def test_chosen_access_code_has_sixteen_characters(admin: Client) -> None:
    team = admin.post("/api/teams", {"name": unique("team")}).json[0]
    path = f"/api/teams/{team['id']}"
    refused = admin.post(path, {"accessCode": "x" * 15})
    assert list(refused.json["error"]["errors"]) == ["accessCode"]
    code = unique("code").ljust(16, "x")
    assert admin.post(path, {"accessCode": code}).json["accessCode"] == code


ALIKE = [("é", "e\u0301"), ("Ångström", "A\u030angstro\u0308m"), ("ﬁn", "FIN"), ("Ａ１", "a1")]


@pytest.mark.parametrize(("written", "typed"), ALIKE)
def test_normal_form_of_a_name_does_not_matter(server: Server, written: str, typed: str) -> None:
    end = unique("")
    name, alike = written + end, typed + end
    body = {"username": name, "password": PASSWORD, "role": "user"}
    assert server.admin.post("/api/users", body).status == 200
    assert try_sign_in(server, alike, PASSWORD).json["user"]["username"] == name
    again = server.admin.post("/api/users", {**body, "username": alike})
    assert (again.status, again.code) == (409, "username-taken")


def test_name_that_is_long_once_decomposed_is_found(server: Server) -> None:
    name = "ﷺ" * 200 + unique("")
    body = {"username": name, "password": PASSWORD, "role": "user"}
    assert server.admin.post("/api/users", body).status == 200
    assert try_sign_in(server, name, PASSWORD).status == 200
