"""The pages of a mailing: who opened, who didn't, was it a good one, and what people want kept."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest

from tests.conftest import Client, Server, new_user, unique
from tests.web.pages.test_pages import (
    APPLE,
    THUNDERBIRD,
    Browser,
    create_pixel,
    headline,
    text_of,
)

PEOPLE = ("anna@example.org", "ben@example.org", "chiara@example.org", "dora@example.org")
AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture(scope="module")
def signed_in(server: Server) -> dict[str, Browser]:
    names = {"person": new_user(server)[0], "other": new_user(server)[0]}
    return {role: Browser(Client(server.base)).sign_in(name) for role, name in names.items()}


@pytest.fixture
def person(signed_in: dict[str, Browser]) -> Browser:
    return signed_in["person"]


@pytest.fixture
def other(signed_in: dict[str, Browser]) -> Browser:
    return signed_in["other"]


def merge(person: Browser, pixel_id: str, text: str, **fields: str) -> list[dict[str, str]]:
    """Hand in a list, check it, and return the rows that come back."""
    path = f"/pixels/{pixel_id}/links"
    page = person.send(path, list=text, **fields).body.decode()
    data = re.search(r'name="data" value="([^"]+)"', page)
    assert data, page
    answer = person.send(f"{path}/make", path, data=data[1], **fields)
    assert answer.status == 200, text_of(answer)
    return list(csv.DictReader(io.StringIO(answer.body.decode())))


def send_mailing(person: Browser, sent_at: datetime = AN_HOUR_AGO) -> tuple[str, str]:
    """Send a pixel to four people: one opens twice, one's mail is fetched by a machine."""
    pixel_id, slug = create_pixel(person)
    rows = merge(person, pixel_id, "\n".join(PEOPLE), sentAt=f"{sent_at:%Y-%m-%dT%H:%M}")
    paths = [row["url"].removeprefix(person.client.base) for row in rows]
    for path, agent in ((paths[0], THUNDERBIRD), (paths[0], THUNDERBIRD), (paths[1], APPLE)):
        assert person.client.get(path, headers={"User-Agent": agent}).status == 200
    return pixel_id, slug


def test_report_answers_in_its_first_line(person: Browser, other: Browser) -> None:
    pixel_id, _ = send_mailing(person)
    page = text_of(person.get(f"/pixels/{pixel_id}"))
    assert headline(page) == "1 of 4 opened · 25.0\u202f%"
    assert 'aria-label="1 opened, 1 fetched by machines only, 2 not opened"' in page
    for status in ("opened", "machine", "unopened"):
        assert f'href="/pixels/{pixel_id}/recipients?status={status}"' in page
    assert "Opened since sending" in page
    assert len(re.findall(r'<g tabindex="0"', page)) == 24
    assert "3 fetches of the image" in page
    assert other.get(f"/pixels/{pixel_id}").status == 404


def test_report_compares_with_the_mailing_before(person: Browser) -> None:
    first, slug = send_mailing(person, AN_HOUR_AGO - timedelta(days=3000))
    second, _ = send_mailing(person, AN_HOUR_AGO - timedelta(days=2999))
    page = person.get(f"/pixels/{second}").body.decode()
    assert f">As many as</a> {slug}, 25.0\u202f%" in page
    link = re.search(r'href="(/compare\?[^"]+)">As many', page)
    assert link
    page = text_of(person.get(unescape(link[1])))
    assert "Two mailings compared" in page
    assert f'href="/pixels/{first}"' in page
    shared = person.send(f"/pixels/{second}/shares", f"/pixels/{second}/settings", name="Board")
    assert shared.status == 303
    found = re.search(r'href="(/share/[^"]+)"', text_of(person.get(f"/pixels/{second}/settings")))
    assert found
    page = text_of(Browser(person.client).get(found[1]))
    assert headline(page) == "1 of 4 opened · 25.0\u202f%"
    assert slug not in page
    assert "/recipients" not in page


def test_mailing_that_is_only_counted_says_what_it_counts(person: Browser) -> None:
    pixel_id, slug = create_pixel(person)
    path, page = f"/pixels/{pixel_id}/sending", f"/pixels/{pixel_id}/settings"
    assert person.send(path, page, sentAt="soon", sentCount="").status == 400
    assert person.send(path, page, sentAt="", sentCount="many").status == 400
    sent_at = f"{AN_HOUR_AGO:%Y-%m-%dT%H:%M}"
    assert person.send(path, page, sentAt=sent_at, sentCount="1 000").status == 303
    assert f'value="{sent_at}"' in text_of(person.get(page))
    person.client.get(f"/p/{slug}", headers={"User-Agent": THUNDERBIRD})
    page = text_of(person.get(f"/pixels/{pixel_id}"))
    assert headline(page) == "1 unique open of 1\u202f000 sent · 0.1\u202f%"
    assert "Machine only" not in page


def test_recipients_are_told_apart_by_status(person: Browser) -> None:
    pixel_id, _ = send_mailing(person)
    path = f"/pixels/{pixel_id}/recipients"
    page = text_of(person.get(path))
    counts = re.findall(r"(All|Opened|Machine only|Not opened) <span>(\d+)</span>", page)
    assert counts == [("All", "4"), ("Opened", "1"), ("Machine only", "1"), ("Not opened", "2")]
    for status, names in (("opened", {0}), ("machine", {1}), ("unopened", {2, 3})):
        page = text_of(person.get(f"{path}?status={status}"))
        assert {name for name in PEOPLE if f">{name}</a>" in page} == {PEOPLE[n] for n in names}
        answer = person.get(f"{path}.csv?status={status}")
        assert len(answer.body.decode().splitlines()) == len(names) + 1
    assert "Apple Mail Privacy Protection" in text_of(person.get(f"{path}?status=machine"))
    assert "Nobody matches “zoe”." in text_of(person.get(f"{path}?search=zoe"))
    assert person.get(f"{path}?status=nonsense&order=nonsense&direction=x").status == 200
    names = re.findall(r">(\w+@example.org)</a>", text_of(person.get(f"{path}?order=recipient")))
    assert names == sorted(PEOPLE)


def test_list_shows_rates_and_is_ordered_by_each_head(person: Browser) -> None:
    _, slug = send_mailing(person)
    page = text_of(person.get(f"/pixels?search={slug}"))
    assert "1 of 4" in page
    assert "25.0\u202f%" in page
    for order in ("name", "sentAt", "sent", "opened", "rate", "lastOpenedAt"):
        for direction, said in (("up", "ascending"), ("down", "descending")):
            page = text_of(person.get(f"/pixels?order={order}&direction={direction}"))
            assert len(re.findall(f'aria-sort="{said}"', page)) == 1
    rates = [
        float(rate)
        for rate in re.findall(
            r'class="n rate">([\d.]+)\u202f%', text_of(person.get("/pixels?order=rate"))
        )
    ]
    assert rates == sorted(rates, reverse=True)


def test_compare_takes_what_was_sent_and_what_one_may_see(person: Browser, other: Browser) -> None:
    pixel_id, _ = send_mailing(person)
    unsent, _ = create_pixel(person)
    assert person.get(f"/compare?ids={pixel_id}&ids={unsent}&hours=24").status == 200
    assert person.get("/compare").status == 400
    assert person.get("/compare?ids=nonsense").status == 400
    assert person.get(f"/compare?ids={unsent}").status == 400
    assert other.get(f"/compare?ids={pixel_id}").status == 404


def test_person_page_tells_everything_and_forgets(person: Browser, other: Browser) -> None:
    name = f"{unique('eva')}@example.org"
    pixel_id, _ = create_pixel(person)
    url = merge(person, pixel_id, name)[0]["url"].removeprefix(person.client.base)
    person.client.get(url, headers={"User-Agent": THUNDERBIRD})
    page = text_of(person.get(f"/person?name={name}"))
    assert headline(page) == "Opened 1 of 1 mailing"
    assert "Thunderbird" in page
    assert other.get(f"/person?name={name}").status == 404
    assert person.get("/person").status == 400
    kept = person.get(f"/person.json?name={name}").json
    assert kept["pixels"][0]["hits"][0]["class"] == "open"
    assert THUNDERBIRD in person.get(f"/person.csv?name={name}").body.decode()
    for path in ("/person.json", "/person.csv", "/person/forget", "/person/opt-out"):
        assert other.get(f"{path}?name={name}").status == 404
    asked = f"/person/opt-out?name={name}"
    assert f"Opt {name} out?" in text_of(person.get(asked))
    assert person.send(asked).status == 303
    assert "Opted out" in text_of(person.get(f"/person?name={name}"))
    assert name in text_of(person.get(f"/pixels/{pixel_id}/opted-out"))
    asked = f"/person/forget?name={name}"
    assert other.send(asked, "/account").status == 404
    assert person.send(asked).status == 303
    assert person.get(f"/person?name={name}").status == 404


def test_reasons_are_told_in_a_sentence_with_their_certainty(person: Browser) -> None:
    name = f"{unique('why')}@example.org"
    pixel_id, _ = create_pixel(person)
    silent = f"{unique('silent')}@example.org"
    url = merge(person, pixel_id, f"{name}\n{silent}")[0]["url"]
    path = url.removeprefix(person.client.base)
    person.client.get(path, headers={"User-Agent": THUNDERBIRD})
    why = "A mail program fetched it on somebody's own machine. Very likely."
    for place in ("", "/by/reason", "/recipients"):
        page = text_of(person.get(f"/pixels/{pixel_id}{place}"))
        assert page.count(f"<strong>Mail program</strong>: {why}") == 1, place
    page = text_of(person.get(f"/person?name={name}"))
    assert f"<strong>Mail program</strong>: {why}" in page
    assert f'<p class="note">{why}</p>' in page
    person.client.get(path, headers={"User-Agent": APPLE})
    assert "Nobody can know: Apple makes" in text_of(person.get(f"/person?name={name}"))
    not_certain = "Not certain: somebody who reads without images is not seen."
    assert not_certain in text_of(person.get(f"/person?name={silent}"))
    assert not_certain in text_of(person.get(f"/pixels/{pixel_id}/recipients"))
    assert not_certain not in text_of(person.get(f"/person?name={name}"))


def test_checked_people_are_asked_about_before_anything_goes(
    person: Browser, other: Browser
) -> None:
    pixel_id, _ = send_mailing(person)
    page, path = f"/pixels/{pixel_id}/recipients", f"/pixels/{pixel_id}/people"
    asked = person.send(path, page, do="remove", names=PEOPLE[3])
    assert f"Remove {PEOPLE[3]} from" in text_of(asked)
    assert PEOPLE[3] in text_of(person.get(page))
    assert other.send(f"{path}/do", "/account", do="remove", names=PEOPLE[3]).status == 404
    assert person.send(f"{path}/do", page, do="remove", names=PEOPLE[3]).status == 303
    assert PEOPLE[3] not in re.sub(r"<p class=.notice.*?</p>", "", text_of(person.get(page)))
    # The figures outlive the name.
    assert headline(text_of(person.get(f"/pixels/{pixel_id}"))).startswith("1 of 4 opened")
    assert person.send(path, page, do="remove").status == 400
    assert person.send(path, page, do="nonsense", names=PEOPLE[0]).status == 400


def test_list_is_checked_before_anything_is_stored(person: Browser) -> None:
    pixel_id, _ = create_pixel(person)
    path = f"/pixels/{pixel_id}/links"
    text = "Name;Email\nAnna;anna@example.org\nMira;\nA.;Anna@example.org\nBen;ben@example.org\n"
    answer = person.send(path, list=text)
    page = text_of(answer)
    assert answer.status == 200
    assert "4 rows, 2 people" in page
    assert "1 row can’t be used" in page
    assert "the same person" in page
    assert "Nobody yet" in text_of(person.get(f"/pixels/{pixel_id}/recipients"))
    data = re.search(r'name="data" value="([^"]+)"', page)
    assert data
    refused = person.send(f"{path}/make", path, data=data[1])
    assert refused.status == 400
    assert "or skip these rows" in text_of(refused)
    damaged = person.send(f"{path}/make", path, data="%%%")
    assert damaged.status == 400
    made = person.send(f"{path}/make", path, data=data[1], bad="skip", fileName="../a/list.csv")
    assert "filename=list.csv" in made.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(made.body.decode()), delimiter=";"))
    assert [row["Name"] for row in rows] == ["Anna", "A.", "Ben"]
    assert rows[0]["url"] == rows[1]["url"] != rows[2]["url"]
    back = re.search(rf'href="({path}/\d+/take-back)"', text_of(person.get(path)))
    assert back
    assert "Take this merge back?" in text_of(person.get(back[1]))
    assert person.send(back[1]).status == 303
    assert "Nobody yet" in text_of(person.get(f"/pixels/{pixel_id}/recipients"))


def test_pixel_moves_to_a_team_and_is_asked_first(person: Browser, other: Browser) -> None:
    name = unique("Movers")
    location = person.send("/teams", name=name).headers["Location"]
    team = location.rpartition("/")[2]
    code = re.search(r"team_[\w-]+", text_of(person.get(location)))
    assert code
    assert other.send("/teams/join", "/teams", accessCode=code[0]).status == 303
    pixel_id, _ = create_pixel(person)
    path = f"/pixels/{pixel_id}/move"
    assert f"to {name}?" in text_of(person.get(f"{path}?owner=team:{team}"))
    assert person.get(f"{path}?owner=team:{pixel_id}").status == 400
    assert other.get(f"/pixels/{pixel_id}").status == 404
    assert person.send(path, f"{path}?owner=team:{team}", owner=f"team:{team}").status == 303
    assert other.get(f"/pixels/{pixel_id}").status == 200
