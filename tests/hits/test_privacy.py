"""What is kept of people, and what is not: addresses, salts, visitors, countries, DNT."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from tests.conftest import Client, Server, verdicts, wait_until

OUTLOOK = "Outlook-Android/2.0"
FACTS = ("country", "language", "hostname", "referrer", "query")
# Of these, the built-in table knows the countries.
US, FR, DE_V6 = "8.8.8.8", "212.27.48.10", "2003:c0::1"


def fetch(client: Client, pixel: dict[str, Any], query: str = "", **headers: str) -> None:
    """Fetch a pixel as a mail client does; headers by names with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = client.with_token(None).get(
        f"/p/{pixel['slug']}?{query}", headers={"User-Agent": OUTLOOK, **named}
    )
    assert answer.status == 200


def visitors(server: Server, pixel: dict[str, Any]) -> list[int | None]:
    number = server.number_of(pixel)
    statement = f"SELECT visitor FROM hits WHERE pixel_number = {number} ORDER BY id"
    return [visitor for (visitor,) in server.query(statement)]


def agents_of(server: Server, pixel: dict[str, Any]) -> set[str]:
    """Return the user agents that a pixel's profiles have."""
    return {
        agent
        for (agent,) in server.query(
            "SELECT user_agent FROM agents JOIN profiles ON profiles.agent = agents.id"
            f" WHERE pixel_number = {server.number_of(pixel)}"
        )
    }


def facts(server: Server, pixel: dict[str, Any]) -> dict[str, Any]:
    """Return what the one profile of a pixel has."""
    number = server.number_of(pixel)
    columns = ", ".join(FACTS)
    (row,) = server.query(f"SELECT {columns} FROM profiles WHERE pixel_number = {number}")
    return dict(zip(FACTS, row, strict=True))


def country(server: Server, forwarded_for: str) -> str | None:
    pixel = server.admin.create_pixel()
    fetch(server.admin, pixel, X_Forwarded_For=forwarded_for)
    return facts(server, pixel)["country"]


def salts(server: Server) -> list[tuple[int, bytes]]:
    return [(day, bytes(salt)) for day, salt in server.query("SELECT day, salt FROM salts")]


@pytest.fixture(scope="module")
def proxied(start_server_for_module: Callable[..., Server], database: str) -> Server:
    return start_server_for_module(database, trusted_proxies="1")


# Visitors and their salts


def test_visitor_is_the_address_and_agent_of_one_pixel(proxied: Server) -> None:
    pixel, other = proxied.admin.create_pixel(), proxied.admin.create_pixel()
    for _ in range(8):  # Both processes answer.
        fetch(proxied.admin, pixel, X_Forwarded_For=US)
    fetch(proxied.admin, pixel, X_Forwarded_For=FR)
    fetch(proxied.admin, pixel, X_Forwarded_For=US, User_Agent="Thunderbird/128.0")
    fetch(proxied.admin, other, X_Forwarded_For=US)
    first, *others = [*dict.fromkeys(visitors(proxied, pixel)), *visitors(proxied, other)]
    assert visitors(proxied, pixel)[:8] == [first] * 8
    assert len({first, *others}) == 4
    assert len(salts(proxied)) == 1


def test_visitor_is_the_same_on_every_node(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    one = start_server("postgresql", trusted_proxies="1")
    other = Server(tmp_path, one.database_url, trusted_proxies="1")
    other.admin.token = one.admin.token
    pixel = one.admin.create_pixel()
    try:
        other.start()
        fetch(one.admin, pixel, X_Forwarded_For=US)
        fetch(other.admin, pixel, X_Forwarded_For=US)
    finally:
        other.stop()
    first, second = visitors(one, pixel)
    assert first == second is not None


def test_visitor_of_another_day_is_another(
    start_server: Callable[..., Server], database: str
) -> None:
    """The day boundary: today's salt is made yesterday's while the server is down."""
    server = start_server(database, trusted_proxies="1")
    pixel = server.admin.create_pixel()
    fetch(server.admin, pixel, X_Forwarded_For=US)
    ((day, salt),) = salts(server)
    server.stop()
    server.execute("UPDATE salts SET day = day - 1")
    server.start()
    # No hit comes, and yet it goes.
    wait_until(lambda: salts(server) == [])
    fetch(server.admin, pixel, X_Forwarded_For=US)
    ((new_day, new_salt),) = salts(server)
    assert new_day >= day
    assert new_salt != salt
    first, second = visitors(server, pixel)
    assert first != second


def test_deleted_salt_is_nowhere_in_the_files(start_server: Callable[..., Server]) -> None:
    server = start_server("sqlite")
    pixel = server.admin.create_pixel()
    fetch(server.admin, pixel)
    old_salt = bytes(range(100, 132))
    server.execute(f"INSERT INTO salts (day, salt) VALUES (1, X'{old_salt.hex()}')")
    ((_, salt),) = [row for row in salts(server) if row[0] > 1]
    assert holds(server.data_dir, [salt, old_salt]) == [salt, old_salt]
    wait_until(lambda: [day for day, _ in salts(server) if day == 1] == [])
    wait_until(lambda: (server.data_dir / "pixelkeep.db-wal").stat().st_size == 0)
    assert holds(server.data_dir, [salt, old_salt]) == [salt]


# Privacy modes


def test_anonymous_pixel_keeps_the_country_only(proxied: Server) -> None:
    pixel = proxied.admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}"
    token = proxied.admin.get(f"{path}/embed?recipient=ann").json["url"].partition("s=")[2]
    told = {"Accept_Language": "de-DE,de;q=0.9", "Referer": "https://example.org/x"}
    proxied.admin.post(path, {"privacy": "anonymous"})
    fetch(proxied.admin, pixel, "utm_source=mail&r=ann", X_Forwarded_For=US, **told)
    fetch(proxied.admin, pixel, f"s={token}&q=1", X_Forwarded_For=US, **told)
    assert visitors(proxied, pixel) == [None, None]
    assert facts(proxied, pixel) == dict.fromkeys(FACTS) | {"country": "US"}
    # Ann is who the link was issued to, before; nothing of these hits is hers.
    (ann,) = proxied.admin.get(f"{path}/recipients").json["data"]
    assert (ann["recipient"], ann["status"], ann["opens"]) == ("ann", "unopened", 0)
    number = proxied.number_of(pixel)
    assert proxied.query(f"SELECT * FROM texts WHERE pixel_number = {number}") == []
    assert agents_of(proxied, pixel) == {""}


def test_anonymous_pixel_keeps_class_and_reason_for_good(
    start_server: Callable[..., Server], database: str
) -> None:
    server = start_server(database)
    pixel, full = server.admin.create_pixel(), server.admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}"
    server.admin.post(path, {"privacy": "anonymous"})
    for agent in (OUTLOOK, "curl/8.5.0", "Mozilla/5.0", ""):
        fetch(server.admin, pixel, "s=forged" if agent == "curl/8.5.0" else "", User_Agent=agent)
    fetch(server.admin, full, User_Agent="")
    expected = [
        ("open", "mail-client", None),
        ("bot", "forged-token", None),
        ("prefetch", "apple-mpp", None),
        ("bot", "no-agent", None),
    ]
    assert verdicts(server, pixel) == expected
    server.execute("UPDATE profiles SET rules_version = rules_version + 1")
    server.cli("reclassify")
    assert verdicts(server, pixel) == expected
    (hit,) = server.admin.get(f"{path}/events?startAt=0&endAt=4000000000000").json["data"]
    assert [hit[name] for name in ("browser", "os", "device", "country")] == [None] * 4
    rows = server.admin.get(f"{path}/export?format=jsonl&class=all").body.decode().splitlines()
    assert {json.loads(row)["userAgent"] for row in rows} == {""}


def test_privacy_mode_holds_for_the_next_hit(proxied: Server) -> None:
    pixel = proxied.admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}"
    for privacy in ("anonymous", "full", "anonymous"):
        for _ in range(4):
            fetch(proxied.admin, pixel, "r=ann")
        proxied.admin.post(path, {"privacy": privacy})
    fetch(proxied.admin, pixel, "r=ann")
    known = [visitor is not None for visitor in visitors(proxied, pixel)]
    assert known == [True] * 4 + [False] * 4 + [True] * 4 + [False]


@pytest.mark.parametrize(
    ("host", "kept"),
    [
        ("Pixel.example.org:8443", "pixel.example.org"),
        ("my_host:", "my_host"),
        ("[2001:DB8::1]:80", "[2001:db8::1]"),
        ("b\xfccher.example", None),
        ("two words", None),
        ("host:80:80", None),
        ("x" * 101, None),
    ],
)
def test_hostname_is_kept_whole_or_not_at_all(proxied: Server, host: str, kept: str | None) -> None:
    pixel = proxied.admin.create_pixel()
    fetch(proxied.admin, pixel, Host=host)
    assert facts(proxied, pixel)["hostname"] == kept


def test_query_that_is_too_long_keeps_the_campaign(proxied: Server) -> None:
    pixel = proxied.admin.create_pixel()
    fetch(proxied.admin, pixel, f"x={'%C3%A9' * 200}&utm_source=late&utm_medium=mail")
    number = proxied.number_of(pixel)
    ((kept,),) = proxied.query(f"SELECT value FROM texts WHERE pixel_number = {number}")
    assert kept.startswith("utm_source=late&utm_medium=mail&x=%C3%A9")
    assert 498 <= len(kept) <= 500
    assert len(kept.rpartition("%")[2]) == 2


def test_full_pixel_keeps_what_the_statistics_ask_for(proxied: Server) -> None:
    pixel = proxied.admin.create_pixel()
    told = {"Accept_Language": "de-DE,de;q=0.9", "Referer": "https://example.org/x"}
    query = "s=forged&utm_source=mail&r=ann&utm_campaign=%C3%A9t%C3%A9&slug=x"
    fetch(proxied.admin, pixel, query, X_Forwarded_For=US, **told)
    found = facts(proxied, pixel)
    assert (found["country"], found["language"]) == ("US", "de-DE")
    assert found["hostname"] == "127.0.0.1"
    number = proxied.number_of(pixel)
    texts = {
        text for (text,) in proxied.query(f"SELECT value FROM texts WHERE pixel_number = {number}")
    }
    assert texts == {"https://example.org/x", "utm_source=mail&utm_campaign=%C3%A9t%C3%A9"}


@pytest.mark.parametrize("header", ["DNT", "Sec_GPC"])
@pytest.mark.parametrize("respected", ["1", "0"])
def test_opt_out_is_counted_and_not_attributed_where_respected(
    start_server: Callable[..., Server], request: pytest.FixtureRequest, header: str, respected: str
) -> None:
    server = request.getfixturevalue(f"respect_dnt_{respected}")
    pixel = server.admin.create_pixel()
    fetch(server.admin, pixel, "r=ann", **{header: "1"})
    fetch(server.admin, pixel, **{header: "1"})
    fetch(server.admin, pixel, **{header: "0"})
    attributed = [visitor is not None for visitor in visitors(server, pixel)]
    assert attributed == ([False, False, True] if respected == "1" else [True, True, True])
    listed = server.admin.get(f"/api/pixels/{pixel['id']}/recipients").json["count"]
    assert listed == (0 if respected == "1" else 1)


@pytest.fixture(scope="module")
def respect_dnt_1(start_server_for_module: Callable[..., Server]) -> Server:
    return start_server_for_module("sqlite", respect_dnt="1")


@pytest.fixture(scope="module")
def respect_dnt_0(start_server_for_module: Callable[..., Server]) -> Server:
    return start_server_for_module("sqlite")


# Countries and proxies


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (US, "US"),
        (FR, "FR"),
        (DE_V6, "DE"),
        (f"::ffff:{US}", "US"),
        ("127.0.0.1", None),
        ("10.1.2.3", None),
        ("fe80::1", None),
        ("not an address", None),
        ("8.8.8.8:1234", "US"),
        ("", None),
    ],
)
def test_country_is_that_of_the_address(
    proxied: Server, address: str, expected: str | None
) -> None:
    assert country(proxied, address) == expected


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [("0", [None, None, None]), ("1", ["US", "FR", "US"]), ("2", [None, "US", "FR"])],
)
def test_forwarded_address_is_believed_from_as_many_proxies_as_configured(
    start_server: Callable[..., Server], proxies: str, expected: list[str | None]
) -> None:
    server = start_server("sqlite", trusted_proxies=proxies)
    headers = [US, f"{US}, {FR}", f"1.1.1.1, {FR}, {US}"]
    assert [country(server, header) for header in headers] == expected


@pytest.fixture(scope="module")
def geoip_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, small file in MaxMind's format, in which the world is otherwise."""
    writer = MMDBWriter(6, "Test-Country", languages=["en"], ipv4_compatible=True)
    writer.insert_network(IPSet([f"{US}/32"]), {"country": {"iso_code": "NZ"}})
    writer.insert_network(IPSet(["2001:db8::/32"]), {"country": {"iso_code": "IS"}})
    writer.insert_network(IPSet([f"{FR}/32"]), {"country": {"iso_code": 7}})
    path = tmp_path_factory.mktemp("geoip") / "country.mmdb"
    writer.to_db_file(str(path))
    return path


def test_country_is_that_of_the_operators_database(
    start_server: Callable[..., Server], geoip_db: Path
) -> None:
    server = start_server("sqlite", trusted_proxies="1", geoip_db=str(geoip_db))
    asked = [US, "2001:db8::1", FR, "9.9.9.9", "not an address"]
    assert [country(server, address) for address in asked] == ["NZ", "IS", None, None, None]


# Addresses


def holds(directory: Path, needles: list[bytes]) -> list[bytes]:
    """Return which of some byte strings are in any file under a directory."""
    found: set[bytes] = set()
    for path in _files(directory):
        content = path.read_bytes()
        found.update(needle for needle in needles if needle in content)
    return [needle for needle in needles if needle in found]


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file())


def forms_of(address: str) -> list[bytes]:
    """Return an address as it might be written: as text, and its bytes where they tell."""
    parsed = ipaddress.ip_address(address)
    forms = {str(parsed), parsed.exploded, parsed.packed.hex(), str(int(parsed))}
    packed = [parsed.packed, parsed.packed[::-1]]
    return [*(form.encode() for form in sorted(forms)), *packed]


def say(server: Server, source: str, data: bytes) -> None:
    """Send bytes from a loopback address of one's own, and read until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), 10, (source, 0)) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass


def test_no_file_holds_a_clients_address(
    start_server: Callable[..., Server], database: str
) -> None:
    server = start_server(database, trusted_proxies="1")
    pixel = server.admin.create_pixel()
    clients = ["203.77.141.59", "198.51.173.201", "2a02:2e0:3fe:1001:7777:772e:2:85"]
    peer = "127.83.149.211"
    for client in clients:
        fetch(server.admin, pixel, X_Forwarded_For=client)
        fetch(server.admin, pixel, "r=ann", X_Forwarded_For=f"{client}, {client}")
        headers = {"X-Forwarded-For": client, "User-Agent": OUTLOOK}
        for path in ("/p/nothing", "/api/pixels", "/nowhere", "/api/send?slug=x", "/healthz"):
            server.admin.with_token(None).get(path, headers=headers)
        login = {"username": "admin", "password": "wrong"}
        server.admin.post("/api/auth/login", login, headers=headers)
    host = b"Host: x\r\n"
    image = f"GET /p/{pixel['slug']} HTTP/1.1\r\n".encode() + host
    say(server, peer, image + b"Connection: close\r\n\r\n")
    for nonsense in (
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n" + host + b"\r\n",
        image + b"X: " + b"x" * 20_000 + b"\r\n\r\n",
        image + b"Content-Length: x\r\n\r\n",
        b"POST /api/pixels HTTP/1.1\r\n" + host + b"Content-Length: 9\r\n\r\n{",
    ):
        say(server, peer, nonsense)
    directories = [server.data_dir]
    if server.database_url:
        server.execute("CHECKPOINT")
        ((directory,),) = server.query("SHOW data_directory")
        directories.append(Path(directory))
    server.stop()
    forms = [form for address in (*clients, peer) for form in forms_of(address)]
    if server.database_url:
        # Four bytes turn up by chance in what PostgreSQL keeps.
        forms = [form for form in forms if len(form) > 4]
    for directory in directories:
        assert holds(directory, forms) == []
