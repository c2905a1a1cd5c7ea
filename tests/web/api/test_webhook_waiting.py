"""What waits for another try: for how long, and that no clock that is set wrong changes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import wait_until
from tests.hits.test_clock import SkewedServer
from tests.web.api.test_webhooks import Receiver, hit, webhook

pytestmark = pytest.mark.processes

DAY = 86_400


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SkewedServer]:
    """A server that may send to this machine, and whose clocks can be moved."""
    made = SkewedServer(tmp_path_factory.mktemp("skewed"), None, webhook_private="1", workers="1")
    made.start()
    yield made
    made.kill()


@pytest.mark.parametrize("jump", [400 * DAY, -400 * DAY])
def test_clock_that_jumps_neither_pauses_nor_loses(
    skewed: SkewedServer, receiver: Receiver, jump: int
) -> None:
    admin = skewed.admin
    pixel = admin.create_pixel()
    receiver.answers = [500] * 2
    made = webhook(admin, receiver.url, pixel, "hit")
    for number in range(3):
        hit(admin, pixel, f"?r={number}")
    wait_until(lambda: receiver.received)
    skewed.move_clock(jump)
    try:
        wait_until(lambda: len(receiver.received) >= 5)
    finally:
        skewed.move_clock(0)
    found = admin.get(f"/api/webhooks/{made['id']}").json
    told = [body["data"]["recipient"] for body in receiver.bodies]
    assert told == ["0"] * 3 + ["1", "2"]
    assert (found["status"], found["problem"]) == ("active", None)


def test_endpoint_that_fails_for_an_hour_gets_all_in_order(
    skewed: SkewedServer, receiver: Receiver
) -> None:
    admin = skewed.admin
    pixel = admin.create_pixel()
    receiver.answers = [500] * 1_000
    made = webhook(admin, receiver.url, pixel, "hit")
    for number in range(5):
        hit(admin, pixel, f"?r={number}")
    wait_until(lambda: receiver.received)
    # Less than an hour by far, however slow this machine is.
    for minutes in (1, 5, 9, 15, 20):
        tries = len(receiver.received)
        skewed.let_pass(minutes * 60)
        wait_until(lambda tries=tries: len(receiver.received) > tries)
    assert {body["data"]["recipient"] for body in receiver.bodies} == {"0"}
    receiver.answers.clear()
    skewed.let_pass(3_600)
    wait_until(lambda: len({body["data"]["hitId"] for body in receiver.bodies}) == 5)
    told = [body["data"]["recipient"] for body in receiver.bodies]
    assert list(dict.fromkeys(told)) == [str(number) for number in range(5)]
    assert admin.get(f"/api/webhooks/{made['id']}").json["status"] == "active"


def test_event_that_fails_for_three_days_pauses_the_webhook(
    skewed: SkewedServer, receiver: Receiver
) -> None:
    admin = skewed.admin
    pixel = admin.create_pixel()
    receiver.answers = [500] * 1_000
    path = f"/api/webhooks/{webhook(admin, receiver.url, pixel, 'hit')['id']}"
    hit(admin, pixel, "?r=first")
    hit(admin, pixel, "?r=second")
    wait_until(lambda: receiver.received)
    # After an hour the second is tried too.
    for _ in range(3):
        tries = len(receiver.received)
        skewed.let_pass(DAY)
        wait_until(lambda tries=tries: len(receiver.received) > tries)
    assert {body["data"]["recipient"] for body in receiver.bodies} == {"first", "second"}
    wait_until(lambda: admin.get(path).json["status"] == "paused")
    assert "three days" in admin.get(path).json["problem"]
