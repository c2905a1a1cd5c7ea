"""The pages in a real Chromium, with and without JavaScript, and what axe-core says of each.

Whatever a page does, every request stays on this machine and the console stays silent: an answer
that the content security policy refuses would be said there.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from tests.conftest import PASSWORD, Client, Server, unique

CHROMIUM = shutil.which("chromium")
# What it sends as client hints, which an agent of another version would contradict.
SAID = CHROMIUM and subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True).stdout
VERSION = re.search(r"\d+|$", SAID or "")[0]  # type: ignore[index]
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    f" Chrome/{VERSION}.0.0.0 Safari/537.36"
)
THUNDERBIRD = "Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Thunderbird/115.9.0"
APPLE = "Mozilla/5.0"
PHONE = {"width": 360, "height": 740}
# A hit shows within one turn of the page's asking, which is three seconds.
LIVE_MS_MAX = 15_000

pytestmark = pytest.mark.needs("chromium")

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(start_server_for_module: Callable[..., Server]) -> Server:
    return start_server_for_module("sqlite")


@pytest.fixture(scope="module")
def admin_state(chromium: Browser, server: Server) -> Any:
    """The cookies of the first user, signed in."""
    with chromium.new_context(user_agent=CHROME, timezone_id="Europe/Berlin") as context:
        sign_in(context.new_page(), server, "admin")
        return context.storage_state()


@pytest.fixture
def open_context(chromium: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Open browsers whose requests all stay here and whose consoles must stay silent."""
    contexts: list[BrowserContext] = []
    strays: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # The browser's own remark where somebody was quicker than the page.
        if "Autofocus processing was blocked" not in message.text:
            strays.append(f"{message.type}: {message.text}")

    def watch(page: Page) -> None:
        page.on("request", lambda request: strays.append(request.url))
        page.on("console", note)
        page.on("pageerror", lambda error: strays.append(f"error: {error}"))

    def open_one(**options: Any) -> BrowserContext:
        context = chromium.new_context(user_agent=CHROME, timezone_id="Europe/Berlin", **options)
        context.set_default_timeout(LIVE_MS_MAX)
        context.on("page", watch)
        contexts.append(context)
        return context

    yield open_one
    for context in contexts:
        context.close()
    assert [stray for stray in strays if urlsplit(stray).hostname != "127.0.0.1"] == []


@pytest.fixture
def page(open_context: Callable[..., BrowserContext], admin_state: Any) -> Page:
    """A page of the first user, signed in, who may copy."""
    context = open_context(
        storage_state=admin_state, permissions=["clipboard-read", "clipboard-write"]
    )
    return context.new_page()


def sign_in(page: Page, server: Server, username: str) -> None:
    page.goto(server.base)
    page.get_by_label("User name").fill(username)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/pixels")


@pytest.fixture(scope="module")
def newcomer(server: Server) -> Callable[[], str]:
    """Make a user who has no pixel yet; return the name."""
    client = Client(server.base)
    login = client.post("/api/auth/login", {"username": "admin", "password": PASSWORD})
    admin = client.with_token(login.json["token"])

    def make() -> str:
        username = unique("newcomer")
        body = {"username": username, "password": PASSWORD, "role": "user"}
        assert admin.post("/api/users", body).status == 200
        return username

    return make


@contextmanager
def mail_that_embeds(snippet: str, directory: Path) -> Iterator[str]:
    """Serve a page with the snippet in it, on an origin of its own; yield its address."""
    head = '<!doctype html><title>Mail</title><link rel="icon" href="data:,">'
    directory.joinpath("mail.html").write_text(head + snippet)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=directory)) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/mail.html"
        served.shutdown()


def create_pixel(page: Page, server: Server) -> tuple[str, str]:
    """Create a pixel; return its page's address and its slug."""
    slug = unique("pixel")
    page.goto(f"{server.base}/pixels/new")
    page.get_by_label("Name").fill(slug)
    page.get_by_label("Slug").fill(slug)
    page.get_by_role("button", name="Create pixel").click()
    page.wait_for_url(re.compile(r"/pixels/[0-9a-f-]{36}$"))
    return page.url, slug


def open_as(server: Server, slug: str, agent: str, query: str = "") -> None:
    answer = Client(server.base).get(f"/p/{slug}{query}", headers={"User-Agent": agent})
    assert answer.status == 200


def headline(page: Page) -> str:
    return page.locator("h2.headline").inner_text()


def test_newcomer_makes_embeds_and_sees_the_first_open(
    open_context: Callable[..., BrowserContext],
    newcomer: Callable[[], str],
    server: Server,
    tmp_path: Path,
) -> None:
    context = open_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    sign_in(page, server, newcomer())
    page.get_by_role("link", name="Make your first pixel").click()
    name = unique("Märznews")
    page.get_by_label("Name").press_sequentially(name)
    expect(page.get_by_label("Slug")).to_have_value(name.replace("Märznews", "marznews"))
    page.get_by_role("button", name="Create pixel").click()
    expect(page.get_by_text("Waiting for the first open")).to_be_visible()
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    snippet = page.evaluate("navigator.clipboard.readText()")
    with mail_that_embeds(snippet, tmp_path) as address:
        context.new_page().goto(address)
        # All of the page turns at once: the first steps go, the report comes.
        expect(page.locator("h2.headline")).to_have_text("1 open · 1 unique")
        expect(page.locator(".hits tbody tr")).to_contain_text("Chrome · Linux")
        page.get_by_role("link", name="Embed").click()
        expect(page.get_by_text("It works.")).to_be_visible()
        expect(page.get_by_role("status")).to_contain_text("open, Chrome on Linux")
        page.get_by_role("link", name="See the report").click()
        context.new_page().goto(address)
        expect(page.locator("h2.headline")).to_have_text("2 opens · 1 unique")
        expect(page.locator(".class-strip .note")).to_have_text(
            "2 fetches of the image, by what fetched it"
        )
        expect(page.locator(".hits tbody tr")).to_have_count(2)


def test_the_same_without_javascript(
    open_context: Callable[..., BrowserContext],
    newcomer: Callable[[], str],
    server: Server,
    tmp_path: Path,
) -> None:
    context = open_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, server, newcomer())
    page.get_by_role("link", name="Make your first pixel").click()
    name = unique("plain")
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create pixel").click()
    assert page.get_by_role("button", name="Copy").count() == 0
    snippet = page.locator("#html").inner_text()
    with mail_that_embeds(snippet, tmp_path) as address:
        context.new_page().goto(address)
    page.get_by_role("link", name="look again").click()
    assert headline(page) == "1 open · 1 unique"
    page.get_by_role("link", name="30 days").click()
    page.get_by_role("link", name="Chrome").first.click()
    page.get_by_role("link", name="Remove the filter Program: Chrome").click()
    page.get_by_role("link", name="Settings").click()
    page.get_by_label("Type").fill(name)
    page.get_by_role("button", name="Delete this pixel").click()
    expect(page.get_by_role("status")).to_have_text(f"{name} and its hits are deleted.")


def test_zone_is_the_viewers_own(page: Page, server: Server) -> None:
    address, slug = create_pixel(page, server)
    open_as(server, slug, THUNDERBIRD)
    page.goto(address)
    expect(page.get_by_role("link", name="Europe/Berlin time")).to_be_visible()
    page.get_by_role("link", name="Europe/Berlin time").click()
    page.get_by_label("Time zone").select_option("Asia/Kolkata")
    page.get_by_role("button", name="Use this zone").click()
    page.wait_for_url(address)
    expect(page.get_by_role("link", name="Asia/Kolkata time")).to_be_visible()


def test_rows_filter_and_classes_switch(page: Page, server: Server) -> None:
    address, slug = create_pixel(page, server)
    open_as(server, slug, THUNDERBIRD, "?utm_campaign=march")
    open_as(server, slug, CHROME)
    open_as(server, slug, APPLE)
    page.goto(address)
    assert headline(page) == "2 opens · 2 unique"
    page.get_by_role("link", name="march", exact=True).click()
    assert headline(page) == "1 open · 1 unique"
    page.get_by_role("link", name="Thunderbird").click()
    assert headline(page) == "1 open · 1 unique"
    page.get_by_role("link", name="Remove the filter Campaign: march").click()
    expect(page.get_by_role("link", name="Remove the filter Campaign")).to_have_count(0)
    page.get_by_role("link", name="Remove the filter Program: Thunderbird").click()
    page.get_by_role("link", name="Machines").click()
    assert headline(page) == "1 machine fetch · 1 unique"
    expect(page.get_by_role("link", name="Apple Mail Privacy Protection")).to_be_visible()
    page.get_by_text("Custom").click()
    page.get_by_label("From", exact=True).fill("2026-01-01")
    page.get_by_label("To", exact=True).fill("2026-01-31")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("1 Jan 2026 – 31 Jan 2026")).to_be_visible()
    assert headline(page) == "0 machine fetches · 0 unique"


def test_recent_hits_arrive_by_themselves(page: Page, server: Server) -> None:
    address, slug = create_pixel(page, server)
    open_as(server, slug, THUNDERBIRD, "?r=anna@example.org")
    page.goto(address)
    rows = page.locator(".hits tbody tr")
    expect(rows).to_contain_text("Thunderbird")
    expect(rows).to_contain_text("anna@example.org")
    page.get_by_text("As a table").click()
    open_as(server, slug, CHROME)
    expect(page.locator(".hits tbody tr.new")).to_contain_text("Chrome")
    # What was opened stays so.
    expect(page.get_by_role("region", name="The figures of the chart")).to_be_visible()


def test_chart_tells_its_values_to_mouse_and_keyboard(page: Page, server: Server) -> None:
    address, slug = create_pixel(page, server)
    open_as(server, slug, THUNDERBIRD)
    page.goto(f"{address}?range=24h")
    slots = page.locator(".slots > g")
    assert slots.count() == 24
    tip = slots.last.locator(".tip")
    expect(tip).to_be_hidden()
    slots.last.locator(".hit").hover()
    expect(tip).to_be_visible()
    expect(tip).to_contain_text("1 open · 1 unique")
    page.mouse.move(0, 0)
    expect(tip).to_be_hidden()
    slots.last.focus()
    expect(tip).to_be_visible()
    # One stop of the Tab key passes the whole chart by.
    page.get_by_role("link", name="Skip the chart").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_text("As a table")).to_be_focused()


def test_popover_closes_on_escape_and_outside(page: Page, server: Server) -> None:
    address, slug = create_pixel(page, server)
    open_as(server, slug, THUNDERBIRD)
    page.goto(address)
    field = page.get_by_label("From", exact=True)
    for close in (lambda: page.keyboard.press("Escape"), lambda: page.locator("h1").click()):
        page.get_by_text("Custom").click()
        expect(field).to_be_visible()
        close()
        expect(field).to_be_hidden()


def test_share_is_seen_by_everybody_and_ends(
    page: Page, open_context: Callable[..., BrowserContext], server: Server
) -> None:
    address, slug = create_pixel(page, server)
    open_as(server, slug, THUNDERBIRD, "?r=anna@example.org")
    page.goto(f"{address}/settings")
    page.get_by_label("Who is it for?").fill("The board")
    page.get_by_role("button", name="Make a link").click()
    shared = str(page.get_by_role("link", name="/share/").get_attribute("href"))
    guest = open_context(color_scheme="dark").new_page()
    guest.goto(server.base + shared)
    expect(guest.get_by_role("heading", name=slug)).to_be_visible()
    expect(guest.get_by_role("link", name="Europe/Berlin time")).to_be_visible()
    assert headline(guest) == "1 open · 1 unique"
    assert "anna@example.org" not in guest.content()
    guest.get_by_role("link", name="Thunderbird").click()
    expect(guest.get_by_role("link", name="Remove the filter Program")).to_be_visible()
    assert guest.get_by_role("link", name="Settings").count() == 0
    page.get_by_role("link", name="Stop sharing…").click()
    expect(page.get_by_role("heading", name="Stop sharing with “The board”?")).to_be_visible()
    page.get_by_role("button", name="Stop sharing").click()
    expect(page.get_by_role("status")).to_be_visible()
    answer = guest.request.get(server.base + shared)
    assert answer.status == 404


def test_recipients_go_in_and_links_come_out(page: Page, server: Server, tmp_path: Path) -> None:
    address, _ = create_pixel(page, server)
    page.goto(f"{address}/recipients")
    page.get_by_role("link", name="Make links").click()
    listed = tmp_path / "list.csv"
    listed.write_text("Email,Name\nanna@example.org,Anna\nben@example.org,Ben\n")
    page.get_by_label("Or a file").set_input_files(listed)
    page.get_by_role("button", name="Check the list").click()
    expect(page.get_by_role("heading", name="2 rows, 2 people")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Make 2 links").click()
    assert download.value.suggested_filename == "list.csv"
    lines = download.value.path().read_text().splitlines()
    assert lines[0] == "Email,Name,url,html,opt_out_url"
    assert [line.partition(",")[0] for line in lines[1:]] == ["anna@example.org", "ben@example.org"]
    page.goto(f"{address}/recipients")
    expect(page.get_by_role("rowheader")).to_have_text(["anna@example.org", "ben@example.org"])
    # What is done to whoever is checked is asked first.
    expect(page.get_by_role("button", name="Forget…")).to_be_hidden()
    page.get_by_label("ben@example.org").check()
    expect(page.get_by_text("1 checked")).to_be_visible()
    page.get_by_role("button", name="Forget…").click()
    expect(page.get_by_role("heading", name="Forget ben@example.org?")).to_be_visible()
    page.get_by_role("button", name="Forget").click()
    expect(page.get_by_role("status")).to_have_text("1 person is forgotten.")
    expect(page.get_by_role("rowheader")).to_have_text(["anna@example.org"])


def links_of(page: Page, address: str, names: str) -> list[str]:
    """Make links for some people; return where they lead to."""
    page.goto(f"{address}/links")
    page.get_by_label("Recipients one a line").fill(names)
    page.get_by_label("Goes out at").fill("2026-01-05T09:00")
    page.get_by_role("button", name="Check the list").click()
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("Make .* link")).click()
    rows = csv.DictReader(download.value.path().read_text().splitlines())
    return [row["url"].removeprefix(f"http://{urlsplit(address).netloc}") for row in rows]


def test_five_questions_are_answered_where_one_would_look(page: Page, server: Server) -> None:
    """What was the rate, who has not opened, which did better, when, and are they real people."""
    addresses = []
    for agents in ((THUNDERBIRD, APPLE), (THUNDERBIRD,)):
        address, _ = create_pixel(page, server)
        addresses.append(address)
        paths = links_of(page, address, "anna@example.org\nben@example.org\nchiara@example.org")
        for path, agent in zip(paths, agents, strict=False):
            assert Client(server.base).get(path, headers={"User-Agent": agent}).status == 200
    page.goto(addresses[0])
    expect(page.locator("h2.headline")).to_have_text("1 of 3 opened · 33.3\u202f%")
    expect(page.get_by_text("Fetched by machines only")).to_be_in_viewport()
    expect(page.get_by_text("Median time to open")).to_be_in_viewport()
    expect(page.get_by_role("heading", name="Opened since sending")).to_be_visible()
    page.get_by_role("link", name="Not opened").click()
    expect(page.get_by_role("rowheader")).to_have_text(["chiara@example.org"])
    page.get_by_role("link", name="chiara@example.org").click()
    expect(page.get_by_role("heading", name="Opened 0 of 2 mailings")).to_be_visible()
    page.goto(f"{server.base}/pixels")
    boxes = page.get_by_role("checkbox")
    expect(page.get_by_role("button", name="Compare checked")).to_be_hidden()
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.get_by_role("button", name="Compare checked").click()
    expect(page.get_by_role("heading", name="Two mailings compared")).to_be_visible()


@pytest.fixture(scope="module")
def places(chromium: Browser, server: Server, admin_state: Any) -> list[str]:
    """The address of every page, each with something on it."""
    with chromium.new_context(user_agent=CHROME, storage_state=admin_state) as context:
        page = context.new_page()
        address, slug = create_pixel(page, server)
        for agent, query in (
            (THUNDERBIRD, "?r=anna@example.org&utm_campaign=march"),
            (CHROME, "?utm_campaign=" + "long" * 30),
            (APPLE, "?r=" + "x" * 150),
            ("curl/8.5.0", ""),
        ):
            open_as(server, slug, agent, query)
        page.goto(f"{address}/settings")
        page.get_by_label("Who is it for?").fill("The board")
        page.get_by_role("button", name="Make a link").click()
        page.get_by_role("link", name="Webhooks of this pixel").click()
        page.get_by_label("Address").fill("https://8.8.8.8/" + "in/" * 60)
        page.get_by_role("button", name="Make a webhook").click()
        page.goto(f"{server.base}/webhooks")
        webhook = str(page.locator(".things a").first.get_attribute("href"))
        page.goto(f"{address}/settings")
        shared = str(page.get_by_role("link", name="/share/").get_attribute("href"))
        page.goto(f"{server.base}/teams")
        page.get_by_label("Name").fill("Marketing")
        page.get_by_role("button", name="Create team").click()
        team = urlsplit(page.url).path
        page.goto(f"{server.base}/users")
        user = str(page.locator(".things a").first.get_attribute("href"))
        empty, _ = create_pixel(page, server)
        mailing, _ = create_pixel(page, server)
        for path in links_of(page, mailing, "eva@example.org\nfred@example.org")[:1]:
            Client(server.base).get(path, headers={"User-Agent": THUNDERBIRD})
    report = urlsplit(address).path
    return [
        *("/sign-in", "/zone", "/pixels", "/pixels?search=nothing", "/pixels/new", "/nowhere"),
        *(report, f"{report}?class=all&range=90d&browser=thunderbird", f"{report}/by/utmCampaign"),
        *(f"{report}/embed", f"{report}/recipients", f"{report}/settings", shared),
        *(urlsplit(empty).path, f"{report}/links", f"{report}/start-anew", f"{report}?range=24h"),
        *(f"{report}/embed?sender=merge&campaign=march", f"{report}/recipients?search=nobody"),
        *("/webhooks", webhook, f"{webhook}/delete", "/account"),
        *("/teams", team, f"{team}/leave", f"{team}/code"),
        *("/users", user, "/invite", "/docs"),
        *(
            urlsplit(mailing).path + suffix
            for suffix in ("", "/recipients", "/links", "/opted-out")
        ),
        *(
            urlsplit(mailing).path + suffix
            for suffix in ("/recipients?status=unopened", "/settings")
        ),
        *("/person?name=eva@example.org", "/person/forget?name=eva@example.org"),
        f"/compare?ids={mailing.rpartition('/')[2]}",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(
    chromium: Browser, server: Server, admin_state: Any, places: list[str], scheme: Any
) -> None:
    found = {}
    with chromium.new_context(storage_state=admin_state, color_scheme=scheme) as context:
        page = context.new_page()
        for path in places:
            page.goto(server.base + path)
            for details in page.locator("details").all():
                details.evaluate("details => details.open = true")
            violations = Axe().run(page).response["violations"]
            if violations:
                found[path] = [
                    (violation["id"], [node["html"][:200] for node in violation["nodes"]])
                    for violation in violations
                ]
    assert not found, json.dumps(found, indent=1)


def test_no_page_is_wider_than_a_phone(
    chromium: Browser, server: Server, admin_state: Any, places: list[str]
) -> None:
    with chromium.new_context(storage_state=admin_state, viewport=PHONE) as context:
        page = context.new_page()
        widths = {}
        for path in places:
            page.goto(server.base + path)
            widths[path] = page.evaluate("document.documentElement.scrollWidth")
    assert {path: width for path, width in widths.items() if width > PHONE["width"]} == {}


def test_no_page_transfers_more_than_60_kilobytes(
    chromium: Browser, server: Server, admin_state: Any, places: list[str]
) -> None:
    sizes = {}
    for path in places:
        with chromium.new_context(storage_state=admin_state) as context:
            page = context.new_page()
            answers: list[Any] = []
            page.on("response", lambda answer, answers=answers: answers.append(answer))
            page.goto(server.base + path, wait_until="networkidle")
            sizes[path] = sum(answer.request.sizes()["responseBodySize"] for answer in answers)
    # The API's document is one page to search in.
    assert sizes.pop("/docs") < 120_000
    assert {path: size for path, size in sizes.items() if size > 60_000} == {}


def test_signing_out_leaves_nothing_to_go_back_to(page: Page, server: Server) -> None:
    page.context.clear_cookies()
    sign_in(page, server, "admin")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(re.compile("/sign-in"))
    page.go_back()
    page.wait_for_url(re.compile("/sign-in"))
    assert page.title() == "Sign in · Pixelkeep"
