"""What `examples/` holds does what it says, with nothing but Python beside it."""

from __future__ import annotations

import base64
import email
import json
import re
import secrets
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook as Signer

from tests.conftest import PROJECT_DIR, Client, Server, free_port, wait_until

EXAMPLES = PROJECT_DIR / "examples"


class MailServer(socketserver.TCPServer):
    """Takes mails by SMTP, as little of it as a client needs."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.mails: list[bytes] = []


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 ready\r\n")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.mails.append(
                    b"".join(mail_line.removeprefix(b".") for mail_line in lines)
                )
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with MailServer() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def test_mail_merge_sends_each_their_own_image(
    server: Server, mail_server: MailServer, tmp_path: Path
) -> None:
    pixel = server.admin.create_pixel()
    table = tmp_path / "people.csv"
    table.write_text("email,name\nann@example.org,Ann\nbob@example.org,Bob\n")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "mail_merge.py"), str(table)],
        env={
            "SITE": server.base,
            "KEY": server.admin.token or "",
            "PIXEL": pixel["id"],
            "SMTP": f"127.0.0.1:{mail_server.server_address[1]}",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "Sent 2 mails.\n"
    mails = [email.message_from_bytes(message) for message in mail_server.mails]
    assert [mail["To"] for mail in mails] == ["ann@example.org", "bob@example.org"]
    for mail in mails:
        html = mail.get_payload()[1].get_payload(decode=True).decode()
        path = re.search(r'src="https?://[^/"]+(/[^"]+)"', html)
        assert path
        browser = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101"}
        server.admin.get(path[1].replace("&amp;", "&"), headers=browser)
    path = f"/api/pixels/{pixel['id']}/recipients"
    rows = server.admin.get(path).json["data"]
    hits = {row["recipient"]: row["opens"] + row["prefetches"] + row["bots"] for row in rows}
    assert hits == {"ann@example.org": 1, "bob@example.org": 1}


def test_mail_merge_is_thirty_lines() -> None:
    code = (EXAMPLES / "mail_merge.py").read_text().split('"""', 2)[2]
    assert len(code.strip().splitlines()) <= 30


def test_webhook_receiver_takes_only_what_is_signed_and_once() -> None:
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "webhook_receiver.py"), str(port)],
        env={"SECRET": secret},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        client = Client(f"http://127.0.0.1:{port}")

        def answers() -> bool:
            try:
                return client.post("/").status == 401
            except OSError:
                return False

        wait_until(answers)
        data = {"slug": "spring", "recipient": "ann", "createdAt": "2026-01-01T00:00:00.000Z"}
        body = json.dumps({"type": "pixel.open", "data": data})
        other = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        for key, age, sent, status in (
            (other, 0, body, 401),
            (secret, 600, body, 401),
            (secret, 0, body.replace("ann", "eve"), 401),
            (secret, 0, body, 204),
            (secret, 0, body, 204),
        ):
            assert _tell(client, key, age, body, sent) == status
    finally:
        process.terminate()
        printed, _ = process.communicate(timeout=30)
    assert printed == "pixel.open spring ann 2026-01-01T00:00:00.000Z\n"


def _tell(client: Client, key: str, age_s: int, signed: str, sent: str) -> int:
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Signer(key).sign("msg_1", at, signed),
    }
    return client.post("/", body=sent.encode(), headers=headers).status


def test_dashboard_asks_for_metrics_that_are_there(server: Server) -> None:
    dashboard = json.loads((EXAMPLES / "grafana.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    [source] = dashboard["templating"]["list"]
    assert (source["name"], source["type"]) == ("datasource", "datasource")
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    server.admin.get("/p/nobody-has-this")
    shown = server.admin.get("/metrics").body.decode()
    there = set(re.findall(r"^(pixelkeep_\w+)", shown, re.MULTILINE))
    for panel in panels:
        for target in panel["targets"]:
            asked = set(re.findall(r"pixelkeep_\w+", target["expr"]))
            assert asked
            assert asked <= there, target["expr"]
    results = set(re.findall(r'pixelkeep_hits_total\{result="(\w+)"\}', shown))
    assert "unstored" in results
