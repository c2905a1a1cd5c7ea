"""How often one may guess and ask, by account and by address, in every process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from people import login_throttle
from tests.conftest import PASSWORD, Answer, Client, Server, new_user, unique

ATTACKER, OWNER = "203.0.113.9", "198.51.100.7"


@pytest.fixture(scope="module")
def behind_proxy(start_server_for_module: Callable[..., Server], database: str) -> Server:
    return start_server_for_module(database, trusted_proxies="1")


def try_login(server: Server, username: str, password: str, address: str) -> Answer:
    credentials = {"username": username, "password": password}
    headers = {"X-Forwarded-For": address}
    return Client(server.base).post("/api/auth/login", credentials, headers=headers)


def test_guessing_at_an_account_stops_for_the_guesser_alone(behind_proxy: Server) -> None:
    username, _ = new_user(behind_proxy)
    statuses = [try_login(behind_proxy, username, "wrong", ATTACKER).status for _ in range(8)]
    assert statuses == [401] * login_throttle.PAIR_FAILURES_MAX + [429] * 3
    refused = try_login(behind_proxy, username, PASSWORD, ATTACKER)
    assert (refused.status, refused.code) == (429, "too-many-requests")
    assert 0 < int(refused.headers["Retry-After"]) <= login_throttle.WINDOW.total_seconds()
    assert try_login(behind_proxy, username, PASSWORD, OWNER).status == 200


def test_unknown_names_count_as_known_ones_do(behind_proxy: Server) -> None:
    username, address = unique("nobody"), "203.0.113.10"
    statuses = [try_login(behind_proxy, username, "wrong", address).status for _ in range(6)]
    assert statuses == [401] * login_throttle.PAIR_FAILURES_MAX + [429]


def test_many_tries_at_once_are_counted_before_they_are_checked(
    start_server: Callable[..., Server], database: str
) -> None:
    server = start_server(database, trusted_proxies="1", real_sign_in=True)
    username, _ = new_user(server)
    statuses: Counter[int] = Counter()

    def guess() -> None:
        statuses[try_login(server, username, "wrong", "203.0.113.11").status] += 1

    threads = [threading.Thread(target=guess) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses[401] <= login_throttle.PAIR_FAILURES_MAX
    assert statuses[401] + statuses[429] == 16


def test_address_that_guesses_at_many_accounts_is_stopped(behind_proxy: Server) -> None:
    address = "2001:db8:1:2::1"
    statuses = [
        try_login(behind_proxy, unique("any"), "wrong", address).status
        for _ in range(login_throttle.ADDRESS_FAILURES_MAX + 1)
    ]
    assert statuses == [401] * login_throttle.ADDRESS_FAILURES_MAX + [429]
    # Its neighbours in the network are the same client; others are not.
    assert try_login(behind_proxy, "any", "wrong", "2001:db8:1:2::ffff").status == 429
    assert try_login(behind_proxy, "any", "wrong", "2001:db8:1:3::1").status == 401


def test_account_guessed_at_from_everywhere_still_lets_its_owner_in(
    behind_proxy: Server,
) -> None:
    username, _ = new_user(behind_proxy)
    try_login(behind_proxy, username, "wrong", "203.0.113.20")
    behind_proxy.execute(
        "UPDATE failed_logins SET failures = "
        f"{login_throttle.ACCOUNT_FAILURES_MAX} WHERE failures = 1"
    )
    # One try for each address from now on, and that is enough for who knows the password.
    assert try_login(behind_proxy, username, "wrong", "203.0.113.21").status == 401
    assert try_login(behind_proxy, username, PASSWORD, "203.0.113.21").status == 429
    assert try_login(behind_proxy, username, PASSWORD, OWNER).status == 200
    assert try_login(behind_proxy, username, PASSWORD, OWNER).status == 200


def test_signing_in_takes_back_what_was_counted(behind_proxy: Server) -> None:
    username, _ = new_user(behind_proxy)
    address = "203.0.113.30"
    for _ in range(3):
        for _ in range(login_throttle.PAIR_FAILURES_MAX - 1):
            assert try_login(behind_proxy, username, "wrong", address).status == 401
        assert try_login(behind_proxy, username, PASSWORD, address).status == 200


def test_window_ends_and_its_rows_go(behind_proxy: Server) -> None:
    username, _ = new_user(behind_proxy)
    for _ in range(login_throttle.PAIR_FAILURES_MAX):
        try_login(behind_proxy, username, "wrong", "203.0.113.40")
    behind_proxy.execute("UPDATE failed_logins SET expires_at = 1")
    assert try_login(behind_proxy, username, "wrong", "203.0.113.40").status == 401
    assert len(behind_proxy.query("SELECT id FROM failed_logins")) == 3


def test_neither_names_nor_addresses_are_kept(behind_proxy: Server) -> None:
    username = unique("secretive")
    try_login(behind_proxy, username, "wrong", "203.0.113.50")
    rows = str(behind_proxy.query("SELECT * FROM failed_logins"))
    kept = rows + behind_proxy.log
    for path in behind_proxy.data_dir.glob("pixelkeep.db*"):
        kept += path.read_bytes().decode("latin-1")
    assert "203.0.113.50" not in kept
    assert username not in kept


def test_guessing_at_ones_own_password_or_at_access_codes_stops(behind_proxy: Server) -> None:
    _, token = new_user(behind_proxy)
    client = Client(behind_proxy.base, token, {"X-Forwarded-For": "203.0.113.60"})
    change = {"currentPassword": "wrong", "newPassword": "another password"}
    statuses = [client.post("/api/me/password", change).status for _ in range(6)]
    assert statuses == [400] * 5 + [429]
    codes = [client.post("/api/teams/join", {"accessCode": "guessed"}).status for _ in range(6)]
    assert codes == [404] * 5 + [429]


def test_forwarded_addresses_count_only_from_trusted_proxies(server: Server) -> None:
    username, _ = new_user(server)
    statuses = [
        try_login(server, username, "wrong", f"203.0.113.{number}").status for number in range(6)
    ]
    assert statuses == [401] * login_throttle.PAIR_FAILURES_MAX + [429]
    server.execute("DELETE FROM failed_logins")


def test_of_several_proxies_the_trusted_ones_word_counts(behind_proxy: Server) -> None:
    username, _ = new_user(behind_proxy)
    statuses = [
        try_login(behind_proxy, username, "wrong", f"198.51.100.{number}, 203.0.113.70").status
        for number in range(6)
    ]
    assert statuses == [401] * login_throttle.PAIR_FAILURES_MAX + [429]


def test_api_takes_so_many_requests_a_minute_and_images_any(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(api_rate_limit="20", trusted_proxies="1")
    first = Client(server.base, server.admin.token, {"X-Forwarded-For": "203.0.113.80"})
    pixel = first.create_pixel()
    slug = pixel["slug"]
    share = first.post(f"/api/pixels/{pixel['id']}/shares", {"name": "all"}).json["slug"]
    # A minute may end meanwhile, and two processes may count at once.
    answers = [first.get("/api/me") for _ in range(60)]
    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) >= 15
    assert refused[0].code == "too-many-requests"
    assert 0 < int(refused[0].headers["Retry-After"]) <= 60
    pages = [f"/share/{share}", f"/share/{share}/newest", "/sign-in"]
    assert {first.get(page).status for page in pages} == {429}
    for page in ("/healthz", "/metrics", "/api/heartbeat"):
        assert first.get(page).status == 200
    assert {first.get(f"/p/{slug}").status for _ in range(30)} == {200}
    assert {first.get(f"/api/send?slug={slug}").status for _ in range(30)} == {200}
    other = Client(server.base, server.admin.token, {"X-Forwarded-For": "203.0.113.81"})
    assert other.get("/api/me").status == 200
