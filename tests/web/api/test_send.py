"""`POST /api/send`: hits without an image, as Umami's clients send them."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from tests.conftest import Answer, Client, Server, verdicts

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"


def send(client: Client, pixel: dict[str, Any], agent: str = FIREFOX, **payload: Any) -> Answer:
    return client.with_token(None).post(
        "/api/send",
        {"type": "event", "payload": {"pixel": pixel["id"], **payload}},
        headers={"User-Agent": agent},
    )


def test_timestamp_dates_the_hit_of_a_caller_who_may_change_the_pixel(
    server: Server, admin: Client, stranger: Client
) -> None:
    pixel = admin.create_pixel()
    yesterday = int(time.time()) - 86_400
    payload = {"pixel": pixel["id"], "timestamp": yesterday, "userAgent": FIREFOX}
    sent = {"type": "event", "payload": payload}
    later = {"type": "event", "payload": {**payload, "timestamp": yesterday + 10 * 86_400}}
    for client, body in (
        (admin, sent),
        (admin, sent),
        (admin, later),
        (stranger, sent),
        (admin.with_token(None), sent),
    ):
        assert client.post("/api/send", body).status == 200

    def asked(start: int, end: int) -> tuple[int, int]:
        span = f"startAt={start * 1000}&endAt={end * 1000}"
        found = admin.get(f"/api/pixels/{pixel['id']}/stats?{span}").json
        return found["pageviews"], found["visitors"]

    assert asked(yesterday, yesterday) == (2, 1)
    now = int(time.time())
    # What is yet to come is now, and nobody else is believed.
    assert asked(now - 600, now + 1) == (3, 1)
    assert asked(0, now + 1000) == (5, 2)


def test_sent_hit_is_stored_with_what_it_tells(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    answer = send(
        admin,
        pixel,
        url="https://example.org/read?utm_source=mail&x=1#end",
        referrer="https://mail.example.org/",
        hostname="Example.org",
        language="de-AT",
        id="someone@example.org",
        screen="1920x1080",
    )
    assert answer.status == 200
    assert set(answer.json) == {"cache", "sessionId", "visitId"}
    assert verdicts(server, pixel) == [("open", "browser", "someone@example.org")]
    ((language, hostname, referrer, query),) = server.query(
        "SELECT p.language, p.hostname, r.value, q.value FROM profiles p"
        " JOIN texts r ON r.pixel_number = p.pixel_number AND r.id = p.referrer"
        " JOIN texts q ON q.pixel_number = p.pixel_number AND q.id = p.query"
        f" WHERE p.pixel_number = {server.number_of(pixel)}"
    )
    assert (language, hostname) == ("de-AT", "example.org")
    assert referrer == "https://mail.example.org/"
    assert query == "utm_source=mail&x=1"


def test_link_of_ours_in_the_url_names_its_recipient_and_is_not_kept(
    server: Server, admin: Client
) -> None:
    pixel = admin.create_pixel()
    link = admin.get(f"/api/pixels/{pixel['id']}/embed?recipient=ann").json["url"]
    for url in (f"{link}&utm_source=m", "https://example.org/?s=shoes&r=1"):
        assert send(admin, pixel, url=url).status == 200
    assert verdicts(server, pixel) == [("open", "browser", "ann"), ("open", "browser", None)]
    texts = f"SELECT value FROM texts WHERE pixel_number = {server.number_of(pixel)}"
    assert {text for (text,) in server.query(texts)} == {"utm_source=m", "s=shoes&r=1"}


def test_same_visitor_has_the_same_session_in_every_process(admin: Client) -> None:
    pixel, other = admin.create_pixel(), admin.create_pixel()
    sessions = {send(admin, pixel).json["sessionId"] for _ in range(8)}
    assert len(sessions) == 1
    assert send(admin, other).json["sessionId"] not in sessions
    assert send(admin, pixel, agent="Thunderbird/128.0").json["sessionId"] not in sessions


def test_session_of_an_anonymous_pixel_is_worth_nothing(admin: Client) -> None:
    pixel = admin.create_pixel()
    admin.post(f"/api/pixels/{pixel['id']}", {"privacy": "anonymous"})
    assert len({send(admin, pixel).json["sessionId"] for _ in range(4)}) == 4


def test_bot_is_stored_as_a_bot_and_answered_as_anybody(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    answer = send(admin, pixel, agent="Googlebot/2.1 (+http://www.google.com/bot.html)")
    assert set(answer.json) == {"cache", "sessionId", "visitId"}
    assert [verdict[0] for verdict in verdicts(server, pixel)] == ["bot"]


def test_agent_in_the_payload_is_whose_the_hit_is(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    assert send(admin, pixel, agent="node", userAgent=FIREFOX).status == 200
    assert verdicts(server, pixel) == [("open", "browser", None)]


def test_unknown_pixel_is_404(admin: Client) -> None:
    answer = send(admin, {"id": str(uuid.uuid4())})
    assert (answer.status, answer.code) == (404, "not-found")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "event"},
        {"type": "event", "payload": {}},
        {"type": "event", "payload": {"link": str(uuid.uuid4())}},
        {"type": "event", "payload": {"pixel": "no-uuid"}},
        {"type": "event", "payload": {"pixel": str(uuid.uuid4()), "url": 1}},
        {"type": "record", "payload": {"pixel": str(uuid.uuid4())}},
    ],
)
def test_what_is_no_hit_is_400(admin: Client, body: dict[str, Any]) -> None:
    answer = admin.with_token(None).post("/api/send", body)
    assert (answer.status, answer.code) == (400, "bad-request")


@pytest.mark.parametrize("text", ["\0", "\ud800", "x" * 20_000, "http://[", "💌"])
def test_no_text_fails_a_hit(server: Server, admin: Client, text: str) -> None:
    pixel = admin.create_pixel()
    keys = ("url", "referrer", "hostname", "language", "userAgent", "id")
    for key in keys:
        assert send(admin, pixel, **{key: text}).status == 200, key
    assert len(verdicts(server, pixel)) == len(keys)


def test_what_is_wrong_with_the_payload_as_a_whole_is_told_of_it(admin: Client) -> None:
    answer = admin.post("/api/send", {"type": "event", "payload": ["p"]})
    assert (answer.status, list(answer.json["error"]["errors"])) == (400, ["payload"])


MALFORMED = {"timestamp": ["yesterday", -1, 1.5, [], True], "ip": ["nowhere", 7, ["8.8.8.8"], {}]}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in MALFORMED for value in MALFORMED[name]]
)
def test_what_a_stranger_says_of_time_and_address_is_not_read(
    server: Server, admin: Client, stranger: Client, name: str, value: Any
) -> None:
    pixel = admin.create_pixel()
    event = {"type": "event", "payload": {"pixel": pixel["id"], name: value}}
    for client in (stranger, admin.with_token(None)):
        assert client.post("/api/send", event).status == 200
        assert client.post("/api/batch", [event]).json["errors"] == 0
    assert len(verdicts(server, pixel)) == 4
    refused = admin.post("/api/send", event)
    assert (refused.status, list(refused.json["error"]["errors"])) == (400, [f"payload.{name}"])
    [detail] = admin.post("/api/batch", [event]).json["details"]
    assert list(detail["response"]["error"]["errors"]) == [f"payload.{name}"]
    assert len(verdicts(server, pixel)) == 4


@pytest.mark.parametrize("seconds", [4_102_444_801, 9_999_999_999_999, 10**30])
def test_time_that_is_later_than_we_can_hold_is_now(admin: Client, seconds: int) -> None:
    pixel = admin.create_pixel()
    payload = {"pixel": pixel["id"], "timestamp": seconds, "userAgent": FIREFOX}
    assert admin.post("/api/send", {"type": "event", "payload": payload}).status == 200
    assert admin.get(f"/api/pixels/{pixel['id']}/active").json == {"visitors": 1}


def test_pixel_and_website_together_are_refused(admin: Client) -> None:
    pixel = admin.create_pixel()
    payload = {"pixel": pixel["id"], "website": pixel["id"]}
    assert admin.post("/api/send", {"type": "event", "payload": payload}).status == 400


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_another_method_is_told_of_all_that_the_path_takes(admin: Client, method: str) -> None:
    answer = admin(method, "/api/send")
    assert (answer.status, answer.code) == (405, "method-not-allowed")
    told = {allowed.strip() for allowed in answer.headers["Allow"].split(",")}
    assert told == {"GET", "HEAD", "OPTIONS", "POST"}
