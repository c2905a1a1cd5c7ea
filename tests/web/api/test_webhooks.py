"""Webhooks: told of every hit, signed, in order, whatever happens to either side."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook as Verifier

from tests.conftest import Client, Server, free_port, unique, wait_until

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"
ALL = ["hit", "open", "first-open"]


class Receiver:
    """Somebody's server: keeps what it is sent, and answers what it is told to."""

    def __init__(self, port: int = 0) -> None:
        self.answers: list[int] = []
        self.received: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers.pop(0) if receiver.answers else 200
                receiver.received.append(
                    ({name.lower(): value for name, value in self.headers.items()}, body)
                )
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/in"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.received]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def telling(
    start_server_for_module: Callable[..., Server], request: pytest.FixtureRequest
) -> Server:
    """A server that may send to this machine, and sends hits of its own pixels only."""
    return start_server_for_module(str(request.param), webhook_private="1")


def hit(client: Client, pixel: dict[str, Any], query: str = "", agent: str = FIREFOX) -> None:
    path = f"/p/{pixel['slug']}{query}"
    assert client.with_token(None).get(path, headers={"User-Agent": agent}).status == 200


def webhook(client: Client, url: str, pixel: dict[str, Any], *events: str) -> dict[str, Any]:
    body = {"url": url, "pixelId": pixel["id"], "events": list(events)}
    answer = client.post("/api/webhooks", body)
    assert answer.status == 200, answer.body
    made: dict[str, Any] = answer.json
    return made


def test_hits_are_told_once_each_as_what_they_are(telling: Server, receiver: Receiver) -> None:
    admin = telling.admin
    pixel, another = admin.create_pixel(), admin.create_pixel()
    hit(admin, pixel, "?r=before")
    made = webhook(admin, receiver.url, pixel, *ALL)
    assert made["secret"].startswith("whsec_")
    assert "secret" not in admin.get(f"/api/webhooks/{made['id']}").json
    assert made["id"] in [listed["id"] for listed in admin.get("/api/webhooks").json["data"]]
    hit(admin, another)
    hit(admin, pixel, "?r=ann")
    hit(admin, pixel, agent="curl/8.0")
    hit(admin, pixel, "?r=ann")
    hit(admin, pixel, "?r=before")
    wait_until(lambda: len(receiver.received) >= 8)
    told = [(body["type"], body["data"]["recipient"]) for body in receiver.bodies]
    assert told == [
        *(("pixel.hit", "ann"), ("pixel.open", "ann"), ("pixel.first-open", "ann")),
        ("pixel.hit", None),
        *(("pixel.hit", "ann"), ("pixel.open", "ann")),
        *(("pixel.hit", "before"), ("pixel.open", "before")),
    ]
    for headers, body in receiver.received:
        assert Verifier(made["secret"]).verify(body, headers)
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 8
    for headers, body in receiver.received:
        told = json.loads(body)
        assert told["timestamp"] == told["data"]["createdAt"]
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    data = receiver.bodies[0]["data"]
    event = admin.get(f"/api/pixels/{pixel['id']}/events?class=all").json["data"][3]
    assert data == {
        "pixelId": pixel["id"],
        "slug": pixel["slug"],
        "hitId": event["id"],
        "recipient": "ann",
        **{name: event[name] for name in ("class", "reason", "createdAt", "country")},
        **{name: event[name] for name in ("browser", "os", "device")},
    }


def test_what_fails_is_tried_again_in_its_order_or_given_up(
    telling: Server, receiver: Receiver
) -> None:
    admin = telling.admin
    pixel = admin.create_pixel()
    receiver.answers = [500, 302, 200, 400, 429]
    made = webhook(admin, receiver.url, pixel, "hit")
    for name in ("first", "second", "third"):
        hit(admin, pixel, f"?r={name}")
    wait_until(lambda: len(receiver.received) >= 6)
    told = [body["data"]["recipient"] for body in receiver.bodies]
    assert told == ["first", "first", "first", "second", "third", "third"]
    message_ids = [headers["webhook-id"] for headers, _ in receiver.received]
    assert len(set(message_ids)) == 3
    path = f"/api/webhooks/{made['id']}/deliveries"
    wait_until(lambda: len(admin.get(path).json["data"]) == 6)
    log = admin.get(path).json["data"]
    assert [(delivery["status"], delivery["attempt"]) for delivery in log[::-1]] == [
        *((500, 1), (302, 2), (200, 3)),
        (400, 1),
        *((429, 1), (200, 2)),
    ]


def test_name_of_somebody_who_opts_out_or_is_forgotten_before_a_try_is_not_told(
    telling: Server, receiver: Receiver
) -> None:
    admin = telling.admin
    pixel = admin.create_pixel()
    # All are read at once, and the first is tried again after one second, two, and five.
    receiver.answers = [500] * 3
    webhook(admin, receiver.url, pixel, "hit")
    names = [unique(name) for name in ("first", "gone", "out", "last")]
    issued = admin.post(f"/api/pixels/{pixel['id']}/recipients", {"recipients": names}).json
    for link in issued["data"]:
        hit(admin, pixel, f"?{link['url'].partition('?')[2]}")
    hit(admin, pixel, f"?r={names[2]}")
    wait_until(lambda: len(receiver.received) >= 1)
    path = f"/api/pixels/{pixel['id']}/recipient?name={names[1]}"
    assert admin.delete(path).status == 200
    out = issued["data"][2]["optOutUrl"].removeprefix(admin.base)
    assert admin.with_token(None).post(out).status == 200
    wait_until(lambda: len(receiver.received) >= 8)
    told = [body["data"]["recipient"] for body in receiver.bodies]
    assert told[-5:] == [names[0], None, None, names[3], None]


def test_gone_ends_a_webhook_and_telling_it_resumes_it(telling: Server, receiver: Receiver) -> None:
    admin = telling.admin
    pixel = admin.create_pixel()
    receiver.answers = [410]
    path = f"/api/webhooks/{webhook(admin, receiver.url, pixel, 'hit')['id']}"
    hit(admin, pixel)
    hit(admin, pixel)
    wait_until(lambda: admin.get(path).json["status"] == "ended")
    assert len(receiver.received) == 1
    assert admin.get(path).json["problem"]
    assert admin.post(path, {"status": "active"}).json["problem"] is None
    wait_until(lambda: len(receiver.received) >= 2)
    tried = admin.post(f"{path}/test").json
    assert (tried["status"], tried["type"], tried["error"]) == (200, "pixel.test", None)
    assert receiver.bodies[-1]["type"] == "pixel.test"
    assert admin.delete(path).json == {"ok": True}
    assert admin.get(path).status == 404


def test_all_arrives_in_order_though_both_sides_are_killed(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(webhook_private="1")
    admin, port = server.admin, free_port()
    pixel = admin.create_pixel()
    webhook(admin, f"http://127.0.0.1:{port}/", pixel, "open")
    for number in range(30):
        hit(admin, pixel, f"?r={number}")
    server.kill()
    receiver = Receiver(port)
    server.start()
    for number in range(30, 60):
        hit(admin, pixel, f"?r={number}")
    wait_until(lambda: len(receiver.received) >= 40)
    receiver.close()
    first, receiver = receiver, Receiver(port)
    try:
        wait_until(lambda: len(first.received) + len(receiver.received) >= 60)
        server.kill()
        told = [body["data"]["recipient"] for body in first.bodies + receiver.bodies]
        # Whatever came again: the first time each came is in the order of the hits.
        assert list(dict.fromkeys(told)) == [str(number) for number in range(60)]
    finally:
        receiver.close()


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://localhost:9/", "https://[::1]/", "http://10.0.0.1/"),
        *("http://169.254.169.254/latest/meta-data", "http://2130706433/", "ftp://8.8.8.8/", ""),
    ],
)
def test_url_that_leads_inside_is_refused(server: Server, admin: Client, url: str) -> None:
    pixel = admin.create_pixel()
    body = {"url": url, "pixelId": pixel["id"], "events": ["hit"]}
    refused = admin.post("/api/webhooks", body)
    assert refused.status == 400
    assert "url" in refused.json["error"]["errors"]
    made = webhook(admin, "https://8.8.8.8/", pixel, "hit")
    assert admin.post(f"/api/webhooks/{made['id']}", {"url": url}).status == 400
    assert admin.delete(f"/api/webhooks/{made['id']}").status == 200


@pytest.mark.parametrize(
    "body",
    [
        {"events": ["hit"]},
        {"url": "https://8.8.8.8/"},
        {"url": "https://8.8.8.8/", "events": []},
        {"url": "https://8.8.8.8/", "events": ["close"]},
        {"url": "https://8.8.8.8/", "events": ["hit"], "pixelId": "x"},
    ],
)
def test_webhook_that_is_none_is_refused(admin: Client, body: dict[str, Any]) -> None:
    assert admin.post("/api/webhooks", body).status == 400


def test_secret_is_stored_nowhere_and_the_command_line_lists(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    made = webhook(admin, "https://8.8.8.8/hook", pixel, "hit")
    kept = server.query(
        f"SELECT secret_hash, events, held FROM webhooks WHERE url = '{made['url']}'"
    )
    assert made["secret"] not in str(kept)
    listed = json.loads(server.cli("webhooks", "list", "--json").stdout)
    assert made["id"] in [row["id"] for row in listed]
    server.cli("webhooks", "delete", made["id"], "--yes")
    assert admin.get(f"/api/webhooks/{made['id']}").status == 404
