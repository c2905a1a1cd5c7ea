"""The pages of webhooks: made, seen at work, tried out, paused and deleted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Client, Server, new_user, wait_until
from tests.web.api.test_webhooks import Receiver
from tests.web.pages.test_pages import THUNDERBIRD, Browser, create_pixel, open_as, text_of


@pytest.fixture(scope="module")
def telling(start_server_for_module: Callable[..., Server]) -> Server:
    return start_server_for_module("sqlite", webhook_private="1")


@pytest.fixture(scope="module")
def person(telling: Server) -> Browser:
    return Browser(Client(telling.base)).sign_in(new_user(telling)[0])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def make(person: Browser, url: str, pixel_id: str, events: str = "open") -> tuple[str, str]:
    """Make a webhook; return its page and its secret."""
    fields = {"url": url, "events": events, "reach": f"pixel:{pixel_id}"}
    answer = person.send("/webhooks", **fields)
    assert answer.status == 200, text_of(answer)
    page = text_of(answer)
    path = re.search(r"/webhooks/[0-9a-f-]{36}", page)
    secret = re.search(r"whsec_[\w+/=]+", page)
    assert path
    assert secret
    return path[0], secret[0]


def test_webhook_is_made_from_a_pixels_settings_and_its_log_is_seen(
    person: Browser, receiver: Receiver
) -> None:
    pixel_id, slug = create_pixel(person)
    settings = text_of(person.get(f"/pixels/{pixel_id}/settings"))
    listed = f"/webhooks?pixel={pixel_id}"
    assert f'href="{listed}"' in settings
    assert 'href="/webhooks"' in text_of(person.get("/account"))
    assert f'value="pixel:{pixel_id}" selected' in text_of(person.get(listed))
    path, secret = make(person, receiver.url, pixel_id)
    page = text_of(person.get(path))
    assert secret not in page
    assert "Nothing yet." in page
    assert receiver.url in text_of(person.get(listed))
    receiver.answers = [500, 200]
    open_as(person, slug, THUNDERBIRD)
    wait_until(lambda: text_of(person.get(path)).count("<code>pixel.open</code>") == 2)
    page = text_of(person.get(path))
    assert re.search(
        r"Delivered.*HTTP 200 · \d+\sms · attempt 2.*Failed.*HTTP 500 · \d+\sms<", page, re.S
    )


def test_webhook_is_tried_out_paused_and_deleted_after_it_was_asked(
    person: Browser, receiver: Receiver
) -> None:
    path, _ = make(person, receiver.url, create_pixel(person)[0])
    receiver.answers = [200, 503]
    for answered in ("The test was delivered: HTTP 200", "The test failed: HTTP 503"):
        assert person.send(f"{path}/test", path).status == 303
        assert answered in text_of(person.get(path))
    assert [body["type"] for body in receiver.bodies] == ["pixel.test"] * 2
    assert person.send(f"{path}/status", path, status="paused").status == 303
    page = text_of(person.get(path))
    assert "It is paused." in page
    assert ">Paused</span>" in page
    assert person.send(f"{path}/status", path, status="active").status == 303
    assert ">Active</span>" in text_of(person.get(path))
    assert person.send(f"{path}/status", path, status="ended").status == 400
    assert "Delete this webhook?" in text_of(person.get(f"{path}/delete"))
    assert person.get(path).status == 200
    assert person.send(f"{path}/delete").status == 303
    assert person.get(path).status == 404


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"url": "ftp://example.org/"}, "url"),
        ({"reach": "pixel:none"}, "reach"),
        ({"events": ""}, "events"),
    ],
)
def test_webhook_says_what_is_wrong_at_the_field(
    person: Browser, wrong: dict[str, str], problem: str
) -> None:
    answer = person.send("/webhooks", **{"url": "https://8.8.8.8/", "events": "hit", **wrong})
    assert answer.status == 400
    page = text_of(answer)
    assert f'class="note error" id="{problem}-note"' in page
    assert "No webhook yet." in page or "/webhooks/" in page


def test_webhook_of_several_events_keeps_them_all(person: Browser) -> None:
    body = {"url": "https://8.8.8.8/", "events": ["hit", "first-open"], "reach": ""}
    answer = person.send("/webhooks", **body)
    assert "Every fetch, the first open of each person · all pixels of your own" in text_of(answer)


def test_webhook_is_unknown_to_strangers(telling: Server, person: Browser) -> None:
    pixel_id, _ = create_pixel(person)
    path, _ = make(person, "https://8.8.8.8/", pixel_id)
    stranger = Browser(Client(telling.base)).sign_in(new_user(telling)[0])
    assert stranger.get(path).status == 404
    assert stranger.get(f"/webhooks?pixel={pixel_id}").status == 404
    assert path not in text_of(stranger.get("/webhooks"))
    for page in ("/test", "/status", "/delete"):
        assert stranger.send(path + page, "/account", status="paused").status == 404
