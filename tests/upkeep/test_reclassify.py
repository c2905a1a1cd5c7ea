"""Stored hits go through today's rules, and everything that is counted from them follows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from hits.classify import RULES_VERSION
from tests.conftest import Client, Server, verdicts

OUTLOOK = "Outlook-Android/2.0"
CURL = "curl/8.5.0"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36"
)


def fetch(
    client: Client, pixel: dict[str, Any], agent: str, query: str = "", **headers: str
) -> None:
    sent = {"User-Agent": agent, **headers}
    assert client.get(f"/p/{pixel['slug']}?{query}", headers=sent).status == 200


def misjudge(server: Server, pixel: dict[str, Any], hit_class: str, condition: str = "") -> None:
    """Make a pixel's profiles look as if other rules had judged them."""
    server.execute(
        f"UPDATE profiles SET hit_class = '{hit_class}', reason = 'unknown', rules_version = -1"
        f" WHERE pixel_number = {server.number_of(pixel)} {condition}"
    )


def counts(client: Client, pixel: dict[str, Any]) -> dict[str, int]:
    """Return the page views of each class by the statistics, and of the recipients."""
    path = f"/api/pixels/{pixel['id']}"
    found = {}
    for hit_class in ("open", "prefetch", "bot", "all"):
        query = f"startAt=1700000000000&endAt=4000000000000&class={hit_class}"
        found[hit_class] = client.get(f"{path}/stats?{query}").json["pageviews"]
    recipients = client.get(f"{path}/recipients").json["data"]
    for name in ("opens", "prefetches", "bots"):
        found[name] = sum(recipient[name] for recipient in recipients)
    return found


def test_reclassify_applies_todays_rules_to_hits_and_counts(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    for agent in (OUTLOOK, CHROME, CURL):
        fetch(admin, pixel, agent, "r=ann")
        fetch(admin, pixel, agent)
    fetch(admin, pixel, CHROME, Purpose="prefetch")
    fetch(admin, pixel, CHROME, "s=forged")
    judged, counted = verdicts(server, pixel), counts(admin, pixel)
    expected = {"open": 5, "prefetch": 1, "bot": 2, "all": 8}
    assert counted == {**expected, "opens": 2, "prefetches": 0, "bots": 1}
    misjudge(server, pixel, "bot")
    done = server.cli("reclassify")
    assert "went through the rules" in done.stdout
    assert "Warning" not in done.stderr
    assert verdicts(server, pixel) == judged
    assert counts(admin, pixel) == counted
    # And now from what has been counted by the wrong rules.
    misjudge(server, pixel, "prefetch")
    server.execute(f"UPDATE pixels SET revision = revision + 1 WHERE slug = '{pixel['slug']}'")
    assert counts(admin, pixel)["prefetch"] == 8
    fetch(admin, pixel, CURL, "r=ann")
    server.cli("reclassify")
    assert verdicts(server, pixel)[:-1] == judged
    assert counts(admin, pixel) == {**counted, "bot": 3, "all": 9, "bots": 2}


def test_reclassify_of_what_is_up_to_date_changes_nothing(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    fetch(admin, pixel, OUTLOOK)
    server.cli("reclassify")
    judgements = "SELECT hit_class, reason, rules_version FROM profiles ORDER BY pixel_number, id"
    before = server.query(judgements)
    assert "0 kinds of hits" in server.cli("reclassify").stdout
    assert server.query(judgements) == before


def test_interrupted_reclassify_is_finished_by_the_next(server: Server, admin: Client) -> None:
    """Stopped between the profiles and the days: the marks are there, the counts are not."""
    pixel = admin.create_pixel()
    fetch(admin, pixel, OUTLOOK, "r=ann")
    misjudge(server, pixel, "bot")
    server.execute(f"UPDATE pixels SET revision = revision + 1 WHERE slug = '{pixel['slug']}'")
    assert counts(admin, pixel)["bots"] == 1
    server.execute(
        "UPDATE profiles SET hit_class = 'open', reason = 'mail-client', rules_version = 0"
        f" WHERE pixel_number = {server.number_of(pixel)}"
    )
    server.cli("reclassify")
    found = counts(admin, pixel)
    assert (found["open"], found["opens"], found["bots"]) == (1, 1, 0)
    unmarked = f"SELECT rules_version FROM profiles WHERE pixel_number = {server.number_of(pixel)}"
    assert server.query(unmarked) == [(RULES_VERSION,)]


def test_country_goes_where_the_rules_now_see_a_proxy(
    start_server: Callable[..., Server], database: str
) -> None:
    server = start_server(database)
    pixel = server.admin.create_pixel()
    fetch(server.admin, pixel, CURL)
    fetch(server.admin, pixel, CHROME)
    server.execute("UPDATE profiles SET country = 'DE', rules_version = -1")
    server.cli("reclassify")
    found = server.query("SELECT reason, country FROM profiles ORDER BY reason")
    assert found == [("browser", "DE"), ("tool", None)]


def test_check_says_when_a_reclassify_is_due(
    start_server: Callable[..., Server], database: str
) -> None:
    server = start_server(database)
    pixel = server.admin.create_pixel()
    fetch(server.admin, pixel, OUTLOOK)
    misjudge(server, pixel, "bot")
    due = server.cli("check", check=False)
    assert due.returncode == 1
    assert "1 kinds of hits are classified by other rules" in due.stdout
    server.cli("reclassify")
    assert "other rules" not in server.cli("check", check=False).stdout


def test_hits_go_on_while_hits_are_classified_again(server: Server, admin: Client) -> None:
    pixel = admin.create_pixel()
    for number in range(60):
        fetch(admin, pixel, OUTLOOK, f"q={number}")
    misjudge(server, pixel, "bot")
    stopping = threading.Event()
    answered = 60

    def keep_fetching() -> None:
        nonlocal answered
        while not stopping.is_set():
            fetch(admin, pixel, OUTLOOK, f"q={answered % 70}")
            answered += 1

    thread = threading.Thread(target=keep_fetching)
    thread.start()
    try:
        server.cli("reclassify")
    finally:
        stopping.set()
        thread.join()
    assert verdicts(server, pixel) == [("open", "mail-client", None)] * answered
    assert counts(admin, pixel)["open"] == answered
