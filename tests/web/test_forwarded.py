"""Who is asking, as proxies in front say it: the image, the API and the throttles see the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from people import login_throttle
from tests.conftest import Client, Server, new_user, unique

FORMS = [
    "203.0.113.7",
    "203.0.113.7:20001",
    '"203.0.113.7:20002"',
    " 203.0.113.7 ",
    "::ffff:203.0.113.7",
    "[::ffff:203.0.113.7]:443",
]
FORMS_OF_IPV6 = ["2001:db8::1", "[2001:db8::1]:443", "2001:DB8:0:0::1", '"[2001:db8::1]"']
NO_ADDRESS = ["unknown", "", "203.0.113.7.8", "203.0.113.7,", "a, b", "x" * 5000, "\xff"]


@pytest.fixture(scope="module")
def behind_proxy(start_server_for_module: Callable[..., Server]) -> Server:
    return start_server_for_module(trusted_proxies="1")


def visitors(server: Server, addresses: list[str]) -> int:
    """Return how many visitors those who open an image from these addresses are."""
    pixel = server.admin.create_pixel()
    send = {"type": "event", "payload": {"pixel": pixel["id"], "userAgent": "Firefox/130.0"}}
    for address in addresses:
        headers = {"X-Forwarded-For": address, "User-Agent": "Firefox/130.0"}
        assert server.admin.get(f"/p/{pixel['slug']}", headers=headers).status == 200
        # Read by gunicorn, and by way of Flask.
        headers_twice = headers | {"Expect": "100-continue"}
        assert server.admin.get(f"/p/{pixel['slug']}", headers=headers_twice).status == 200
        assert server.admin.post("/api/send", send, headers=headers).status == 200
    number = server.number_of(pixel)
    rows = server.query(f"SELECT visitor FROM hits WHERE pixel_number = {number}")
    assert len(rows) == 3 * len(addresses)
    return len(set(rows))


@pytest.mark.parametrize("forms", [FORMS, FORMS_OF_IPV6, NO_ADDRESS], ids=["4", "6", "none"])
def test_address_in_any_form_is_one_visitor(behind_proxy: Server, forms: list[str]) -> None:
    assert visitors(behind_proxy, forms) == 1


def test_addresses_that_differ_are_different_visitors(behind_proxy: Server) -> None:
    addresses = ["203.0.113.7", "203.0.113.8:80", "2001:db8::1", "[2001:db8::2]:80", "unknown"]
    assert visitors(behind_proxy, addresses) == len(addresses)


def test_country_is_that_of_the_address(behind_proxy: Server) -> None:
    pixel = behind_proxy.admin.create_pixel()
    for address in ("8.8.8.8:1234", "[2001:4860:4860::8888]:1234", '"8.8.4.4"'):
        headers = {"X-Forwarded-For": address, "User-Agent": "Mozilla/5.0 Firefox/130.0"}
        behind_proxy.admin.get(f"/p/{pixel['slug']}", headers=headers)
    question = "type=country&class=all&startAt=0&endAt=4102444800000"
    path = f"/api/pixels/{pixel['id']}/metrics?{question}"
    assert behind_proxy.admin.get(path).json == [{"x": "US", "y": 3}]


def failed_logins(server: Server, addresses: list[str]) -> list[int]:
    credentials = {"username": new_user(server)[0], "password": "wrong"}
    client = Client(server.base)
    return [
        client.post("/api/auth/login", credentials, headers={"X-Forwarded-For": address}).status
        for address in addresses
    ]


@pytest.mark.parametrize("pattern", ["198.51.100.3:{}", "[2001:db8:7::{}]:443", "nobody-{}"])
def test_throttle_of_logins_bites_whatever_port_or_host_it_is(
    behind_proxy: Server, pattern: str
) -> None:
    statuses = failed_logins(behind_proxy, [pattern.format(number) for number in range(20, 28)])
    most = login_throttle.PAIR_FAILURES_MAX
    assert statuses == [401] * most + [429] * (8 - most)
    behind_proxy.execute("DELETE FROM failed_logins")


def test_many_networks_of_one_site_count_as_one(behind_proxy: Server) -> None:
    most = login_throttle.SITE_FAILURES_MAX
    # What a hundred guesses leave, from as many networks, without a password's hash for each.
    assert failed_logins(behind_proxy, ["2001:db8:8:1::1"]) == [401]
    behind_proxy.execute(f"UPDATE failed_logins SET failures = {most} WHERE failures = 1")
    elsewhere = {"X-Forwarded-For": "2001:db8:8:2::1"}
    credentials = {"username": unique("nobody"), "password": "wrong"}
    client = Client(behind_proxy.base)
    assert client.post("/api/auth/login", credentials, headers=elsewhere).status == 429
    beyond = {"X-Forwarded-For": "2001:db8:8:100::1"}
    assert client.post("/api/auth/login", credentials, headers=beyond).status == 401
    behind_proxy.execute("DELETE FROM failed_logins")


def test_many_networks_of_one_site_share_the_limit_of_requests(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(trusted_proxies="1", api_rate_limit="10")
    client = Client(server.base)
    statuses = [
        client.get("/api/me", headers={"X-Forwarded-For": f"2001:db8:9:{number:x}::1"}).status
        for number in range(130)
    ]
    # A minute may end meanwhile.
    assert statuses.count(429) >= 130 - 2 * 40
    assert statuses.count(401) >= 40


FORWARDED = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "mail.example.org",
    "X-Forwarded-Port": "8443",
    "X-Forwarded-Prefix": "/track",
}


@pytest.mark.parametrize(
    ("named", "base"),
    [
        (None, "https://{}/p/"),
        ("host", "http://mail.example.org/p/"),
        ("For, PROTO,host,port,prefix", "https://mail.example.org:8443/track/p/"),
    ],
)
def test_only_headers_that_the_operator_names_are_believed(
    start_server: Callable[..., Server], named: str | None, base: str
) -> None:
    settings = {"trusted_headers": named} if named else {}
    server = start_server(trusted_proxies="1", workers="1", **settings)
    pixel = server.admin.create_pixel()
    answer = server.admin.get(f"/api/pixels/{pixel['id']}/embed", headers=FORWARDED)
    assert answer.json["url"].startswith(base.format(f"127.0.0.1:{server.port}"))
    is_address_believed = visitors(server, ["203.0.113.7", "203.0.113.8"]) == 2
    assert is_address_believed == (named != "host")


def test_links_are_made_of_no_other_protocol(behind_proxy: Server) -> None:
    path = f"/api/pixels/{behind_proxy.admin.create_pixel()['id']}/embed"
    for protocol, made in (("https", "https://"), ("javascript", "http://"), ("", "http://")):
        headers = {"X-Forwarded-Proto": protocol}
        assert behind_proxy.admin.get(path, headers=headers).json["url"].startswith(made)
