"""The proxies' examples in `deploy/`, run as they are but for addresses, certificates and paths."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from core.settings import PROJECT_DIR
from hits.image import GIF, IMAGE_HEADERS
from tests.conftest import Answer, Client, Server, free_port, unique, wait_until
from tests.web.pages.test_pages import Browser

DEPLOY = PROJECT_DIR / "deploy"
NAME = "pixel.example.org"
FILES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "caddy": "Caddyfile"}
AGENT = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"}


@dataclass
class Front:
    """A proxy that runs on an example, and the server behind it."""

    server: Server
    plain_port: int
    client: TlsClient


class TlsClient(Client):
    """Asks for `NAME` over TLS, with a new connection each time, as one of this host's addresses.

    What it is shown must be the certificate of `cafile`.
    """

    def __init__(self, port: int, cafile: Path, source: str = "127.0.0.1") -> None:
        super().__init__(f"https://127.0.0.1:{port}")
        self.port, self.cafile, self.source = port, cafile, source
        self.context = ssl.create_default_context(cafile=str(cafile))

    def __call__(
        self,
        method: str,
        path: str,
        json_body: Any = None,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection(NAME, timeout=30)
        plain = socket.create_connection(("127.0.0.1", self.port), 30, (self.source, 0))
        connection.sock = self.context.wrap_socket(plain, server_hostname=NAME)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def as_seen_from(self, source: str) -> TlsClient:
        return TlsClient(self.port, self.cafile, source)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate, then its key, in one file."""
    directory = tmp_path_factory.mktemp("certificate")
    key, chain, both = (directory / name for name in ("key", "chain", "both"))
    command = "openssl req -x509 -nodes -days 2 -newkey ec -pkeyopt ec_paramgen_curve:P-256"
    subject = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    subprocess.run(
        [*command.split(), *subject, "-keyout", key, "-out", chain],
        check=True,
        capture_output=True,
    )
    both.write_text(chain.read_text() + key.read_text())
    return both


@pytest.fixture(scope="module")
def behind(start_server_for_module: Callable[..., Server]) -> Server:
    return start_server_for_module(trusted_proxies="1")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.needs(name, "openssl")) for name in FILES],
)
def front(
    request: pytest.FixtureRequest,
    behind: Server,
    certificate: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Front]:
    directory = tmp_path_factory.mktemp(request.param)
    port, plain_port = free_port(), free_port()
    changed = {
        "127.0.0.1:8000": f"127.0.0.1:{behind.port}",
        "/opt/pixelkeep/deploy": str(DEPLOY),
        **OTHERWISE[request.param](port, plain_port, certificate),
    }
    text = (DEPLOY / FILES[request.param]).read_text()
    for old, new in changed.items():
        assert old in text, old
        text = text.replace(old, new)
    config = directory / FILES[request.param]
    config.write_text(text)
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            COMMANDS[request.param](config),
            env=os.environ | {"HOME": str(directory), "XDG_DATA_HOME": str(directory)},
            stdout=log,
            stderr=log,
        )
    client = TlsClient(port, certificate)
    front = Front(behind, plain_port, client)
    try:
        wait_until(lambda: process.poll() is not None or answers(front))
        assert process.poll() is None, (directory / "log").read_text()
        yield front
    finally:
        process.terminate()
        process.wait(timeout=30)


def answers(front: Front) -> bool:
    try:
        return front.client.get("/api/heartbeat").status == 200
    except OSError:
        return False


def nginx_otherwise(port: int, plain_port: int, certificate: Path) -> dict[str, str]:
    return {
        "    listen [::]:80;\n": "",
        "    listen [::]:443 ssl;\n": "",
        "listen 80;": f"listen 127.0.0.1:{plain_port};",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        f"/etc/letsencrypt/live/{NAME}/fullchain.pem": str(certificate),
        f"/etc/letsencrypt/live/{NAME}/privkey.pem": str(certificate),
        "/var/log/nginx/error.log": "stderr",
    }


def haproxy_otherwise(port: int, plain_port: int, certificate: Path) -> dict[str, str]:
    return {
        "bind :80": f"bind 127.0.0.1:{plain_port}",
        "bind :443": f"bind 127.0.0.1:{port}",
        f"/etc/haproxy/{NAME}.pem": str(certificate),
    }


def caddy_otherwise(port: int, plain_port: int, certificate: Path) -> dict[str, str]:
    ports = f"https_port {port}\n\thttp_port {plain_port}\n\tdefault_bind 127.0.0.1"
    options = f"{{\n\tadmin off\n\t{ports}\n}}\n"
    # A certificate that is there already.
    return {f"{NAME} {{\n": f"{options}{NAME} {{\n\ttls {certificate} {certificate}\n"}


OTHERWISE = {"nginx": nginx_otherwise, "haproxy": haproxy_otherwise, "caddy": caddy_otherwise}


def nginx_command(config: Path) -> list[str]:
    """Include the example where `/etc/nginx/nginx.conf` does, in a configuration of no root's."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {config.parent}/{kind};" for kind in kinds)
    whole = config.with_name("whole.conf")
    whole.write_text(
        f"user root; daemon off; pid {config.parent}/pid; events {{}}"
        f"http {{ {paths} include {config}; }}"
    )
    return ["nginx", "-e", "stderr", "-p", str(config.parent), "-c", str(whole)]


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "nginx": nginx_command,
    "haproxy": lambda config: ["haproxy", "-db", "-f", str(config)],
    "caddy": lambda config: ["caddy", "run", "--adapter", "caddyfile", "--config", str(config)],
}


def visitors(server: Server, pixel: dict[str, Any]) -> list[Any]:
    number = server.number_of(pixel)
    rows = server.query(f"SELECT visitor FROM hits WHERE pixel_number = {number} ORDER BY id")
    return [row[0] for row in rows]


def test_image_comes_through_as_we_send_it(front: Front) -> None:
    pixel = front.server.admin.create_pixel(unique("Brief an Änne/50 %&é"))
    slug = quote(pixel["slug"], safe="")
    for path in (f"/p/{slug}", f"/p/{slug}.gif", f"/api/send?slug={slug}"):
        answer = front.client.get(path, headers=AGENT)
        assert (answer.status, answer.body) == (200, GIF)
        assert {name: answer.headers[name] for name, _ in IMAGE_HEADERS} == dict(IMAGE_HEADERS)
    assert len(visitors(front.server, pixel)) == 3


def test_bytes_that_a_mail_program_did_not_escape_come_through(front: Front) -> None:
    pixel = front.server.admin.create_pixel(unique("Grüße"))
    path = f"/p/{pixel['slug']}?r=Änne".encode()
    plain = socket.create_connection(("127.0.0.1", front.client.port), 30)
    with front.client.context.wrap_socket(plain, server_hostname=NAME) as tls:
        lines = (b"GET " + path + b" HTTP/1.1", f"Host: {NAME}".encode(), b"Connection: close")
        tls.sendall(b"\r\n".join((*lines, b"", b"")))
        answer = b"".join(iter(lambda: tls.recv(65_536), b""))
    assert answer.split(b" ", 2)[1] == b"200"
    assert answer.endswith(GIF)
    number = front.server.number_of(pixel)
    names = f"SELECT recipient FROM recipients WHERE pixel_number = {number}"
    assert front.server.query(names) == [("Änne",)]


def test_visitor_is_whoever_connects_to_the_proxy(front: Front) -> None:
    pixel = front.server.admin.create_pixel()
    path = f"/p/{pixel['slug']}"
    claims = {"X-Forwarded-For": "8.8.8.8", "Forwarded": "for=8.8.8.8", "X-Real-IP": "8.8.8.8"}
    assert front.client.get(path, headers=AGENT).status == 200
    assert front.client.get(path, headers=AGENT | claims).status == 200
    elsewhere = front.client.as_seen_from("127.0.0.2")
    assert elsewhere.get(path, headers=AGENT).status == 200
    first, claiming, other = visitors(front.server, pixel)
    assert first == claiming != other


def test_addresses_are_those_that_a_browser_sees(front: Front) -> None:
    pixel = front.server.admin.create_pixel()
    headers = {
        "Authorization": f"Bearer {front.server.admin.token}",
        "X-Forwarded-Proto": "ftp",
        "X-Forwarded-Host": "elsewhere.example",
    }
    embed = front.client.get(f"/api/pixels/{pixel['id']}/embed", headers=headers).json
    assert embed["url"] == f"https://{NAME}/p/{pixel['slug']}"


def test_person_signs_in(front: Front) -> None:
    browser = Browser(front.client)
    page = browser.get("/sign-in")
    assert page.status == 200
    assert "Secure" in page.headers["Set-Cookie"]
    browser.sign_in("admin")
    assert browser.get("/pixels").status == 200


def test_long_list_of_recipients_comes_through(front: Front) -> None:
    pixel = front.server.admin.create_pixel()
    headers = {
        "Authorization": f"Bearer {front.server.admin.token}",
        "Content-Type": "application/json",
    }
    body = b'{"recipients": ["ada"]}' + b" " * 3_000_000
    answer = front.client.post(f"/api/pixels/{pixel['id']}/recipients", body=body, headers=headers)
    assert answer.status == 200


def test_connections_to_us_are_kept_and_shared(front: Front) -> None:
    pixel = front.server.admin.create_pixel()

    def ask() -> set[int]:
        assert front.client.get(f"/p/{pixel['slug']}").status == 200
        return connections(front.server)

    kept = ask()
    for _ in range(20):
        kept &= ask()
    assert kept
    assert len(connections(front.server)) < 10


def connections(server: Server) -> set[int]:
    """Return the other side's ports of the connections that a server has."""
    assert server.process
    master = psutil.Process(server.process.pid)
    return {
        connection.raddr.port
        for process in [master, *master.children(recursive=True)]
        for connection in process.net_connections("tcp")
        if connection.raddr
        and connection.laddr.port == server.port
        and connection.status == "ESTABLISHED"
    }


def test_plain_http_is_sent_on_to_tls(front: Front) -> None:
    answer = Client(f"http://127.0.0.1:{front.plain_port}").get(
        "/p/a%2Fb?r=c", headers={"Host": NAME}
    )
    assert (answer.status, answer.headers["Location"]) == (308, f"https://{NAME}/p/a%2Fb?r=c")


def test_mail_gets_its_image_with_no_node_to_answer(front: Front) -> None:
    pixel = front.server.admin.create_pixel()
    path = f"/p/{pixel['slug']}"
    assert front.client.get(path).status == 200
    front.server.kill()
    try:
        for image in (path, f"{path}.gif?s=a.b.c", f"/api/send?slug={pixel['slug']}"):
            answer = front.client.get(
                image, headers={"If-Modified-Since": "Tue, 1 Jan 2030 00:00:00 GMT"}
            )
            assert answer.body == GIF
            # 502 where a connection that was kept has broken.
            assert answer.status in (502, 503)
            assert answer.headers["Content-Type"] == "image/gif"
            assert "no-store" in answer.headers["Cache-Control"]
            assert not {"ETag", "Last-Modified"} & set(answer.headers)
        for other in (front.client.get("/sign-in"), front.client.post("/api/send", body=b"{}")):
            assert other.status in (502, 503)
            assert other.body != GIF
    finally:
        front.server.start()
    wait_until(lambda: front.client.get(path).status == 200)


def test_image_beside_the_examples_is_ours() -> None:
    assert (DEPLOY / "pixel.gif").read_bytes() == GIF
