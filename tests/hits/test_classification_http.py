"""Every rule of the classification, and every user agent it names, met over HTTP.

The server stands behind a proxy that names a client of a known country, to see that a country is
stored only where the person's own machine fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conftest import Client, Server, verdicts

CLIENT = {"X-Forwarded-For": "8.8.8.8"}
COUNTRY = "US"

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
BLINK = "AppleWebKit/537.36 (KHTML, like Gecko)"
CHROME = f"{WINDOWS} {BLINK} Chrome/142.0.0.0 Safari/537.36"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"
APPLE_MPP = "Mozilla/5.0"
GMAIL_PREFETCH = f"{WINDOWS} {BLINK} Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"
GMAIL_PROXY = (
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
)
YAHOO_PROXY = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
OUTLOOK = "Mozilla/4.0 (compatible; ms-office; MSOffice 16)"
APPLE_MAIL = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
)
THUNDERBIRD = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.2.0"
FACEBOOK = "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)"
HEADLESS = f"Mozilla/5.0 (X11; Linux x86_64) {BLINK} HeadlessChrome/120.0.0.0 Safari/537.36"
UNNAMED = "something else"

ANDROID = f"Mozilla/5.0 (Linux; Android 10; K) {BLINK} Chrome/142.0.0.0 Mobile Safari/537.36"
LINUX = f"Mozilla/5.0 (X11; Linux x86_64) {BLINK} Chrome/142.0.0.0 Safari/537.36"
MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {BLINK} Chrome/142.0.0.0 Safari/537.36"


def hints(version: int, platform: str, brand: str = "Google Chrome") -> dict[str, str]:
    """Return what Chromium says of itself beside its agent."""
    return {
        "Sec-CH-UA": f'"Chromium";v="{version}", "{brand}";v="{version}", "Not_A Brand";v="99"',
        "Sec-CH-UA-Mobile": "?0",
        "Sec-CH-UA-Platform": f'"{platform}"',
    }


TRUE_HINTS = [
    (CHROME, hints(142, "Windows")),
    (f"{CHROME} Edg/142.0.0.0", hints(142, "Windows", "Microsoft Edge")),
    (MAC, hints(142, "macOS")),
    (ANDROID, hints(142, "Android")),
    # A page for a desktop, asked for on a telephone.
    (LINUX, hints(142, "Android")),
    (LINUX, hints(142, "Linux")),
    (CHROME, hints(142, "Fuchsia")),
    (CHROME, {"Sec-CH-UA": "nonsense"}),
]
FALSE_HINTS = [
    (CHROME, hints(120, "Windows")),
    (CHROME, hints(142, "Linux")),
    (MAC, hints(142, "Windows")),
    (ANDROID, hints(142, "macOS")),
    (FIREFOX, hints(142, "Linux")),
    (CHROME, hints(142, "Windows", "HeadlessChrome")),
]

# Rule, user agent, other headers, class, reason, whether the country is stored.
ROWS: list[tuple[int, str, dict[str, str], str, str, bool]] = [
    (1, CHROME, {"Sec-Purpose": "prefetch;prerender"}, "prefetch", "prefetch-header", True),
    (1, CHROME, {"Purpose": "prefetch"}, "prefetch", "prefetch-header", True),
    (1, CHROME, {"X-Purpose": "preview"}, "prefetch", "prefetch-header", True),
    (1, CHROME, {"X-Moz": "prefetch"}, "prefetch", "prefetch-header", True),
    (1, CHROME, {"Sec-Purpose": "Prerender"}, "prefetch", "prefetch-header", True),
    (1, "curl/8.5.0", {"Purpose": "prefetch"}, "prefetch", "prefetch-header", False),
    (2, APPLE_MPP, {}, "prefetch", "apple-mpp", False),
    (3, GMAIL_PREFETCH, {}, "prefetch", "gmail-prefetch", False),
    (4, GMAIL_PROXY, {}, "open", "gmail-proxy", False),
    (5, YAHOO_PROXY, {}, "open", "yahoo-proxy", False),
    (
        6,
        "Microsoft Office/16.0 (Microsoft Outlook 16.0.17928; Pro)",
        {},
        "open",
        "mail-client",
        True,
    ),
    (6, OUTLOOK, {}, "open", "mail-client", True),
    (6, "Outlook-Android/2.0", {}, "open", "mail-client", True),
    (6, "Outlook-iOS/723.4027091.prod.iphone (4.28.0)", {}, "open", "mail-client", True),
    (6, THUNDERBIRD, {}, "open", "mail-client", True),
    (6, APPLE_MAIL, {}, "open", "mail-client", False),
    (7, "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", {}, "bot", "crawler", False),
    (7, "Slack-ImgProxy (+https://api.slack.com/robots)", {}, "bot", "crawler", False),
    (7, "Twitterbot/1.0", {}, "bot", "crawler", False),
    (7, FACEBOOK, {}, "bot", "crawler", False),
    (7, "WhatsApp/2.23.20.0 A", {}, "bot", "crawler", False),
    (7, "TelegramBot (like TwitterBot)", {}, "bot", "crawler", False),
    (
        7,
        "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
        {},
        "bot",
        "crawler",
        False,
    ),
    (7, "github-camo (c006e452)", {}, "bot", "crawler", False),
    (7, HEADLESS, {}, "bot", "crawler", False),
    (7, "curl/8.5.0", {}, "bot", "tool", False),
    (7, "Wget/1.21.4", {}, "bot", "tool", False),
    (7, "python-requests/2.31.0", {}, "bot", "tool", False),
    (8, CHROME, {}, "open", "browser", True),
    (8, FIREFOX, {}, "open", "browser", True),
    (8, CHROME, {"Sec-Purpose": "navigate"}, "open", "browser", True),
    *((8, agent, hints, "open", "browser", True) for agent, hints in TRUE_HINTS),
    *((7, agent, hints, "bot", "crawler", False) for agent, hints in FALSE_HINTS),
    # Only what seems to be a browser is held against its hints.
    (6, OUTLOOK, FALSE_HINTS[0][1], "open", "mail-client", True),
    (0, "", {}, "bot", "no-agent", False),
    (9, UNNAMED, {}, "open", "unknown", True),
]

# What came within three seconds of the sending that a signed token tells.
SOON: list[tuple[str, str, str]] = [
    (GMAIL_PROXY, "prefetch", "too-soon"),
    (YAHOO_PROXY, "prefetch", "too-soon"),
    (OUTLOOK, "prefetch", "too-soon"),
    (CHROME, "prefetch", "too-soon"),
    ("", "bot", "no-agent"),
    (UNNAMED, "prefetch", "too-soon"),
    (APPLE_MPP, "prefetch", "apple-mpp"),
    (GMAIL_PREFETCH, "prefetch", "gmail-prefetch"),
    ("Twitterbot/1.0", "bot", "crawler"),
    ("curl/8.5.0", "bot", "tool"),
]


@pytest.fixture(scope="module")
def proxied(start_server_for_module: Callable[..., Server], database: str) -> Server:
    """A server that believes one proxy."""
    return start_server_for_module(database, trusted_proxies="1")


def country_of(server: Server, pixel: dict[str, Any]) -> str | None:
    ((country,),) = server.query(
        "SELECT profiles.country FROM hits JOIN pixels ON pixels.number = hits.pixel_number"
        " JOIN profiles ON profiles.pixel_number = hits.pixel_number"
        f" AND profiles.id = hits.profile WHERE pixels.slug = '{pixel['slug']}'"
    )
    return country


def fetch(client: Client, path: str, user_agent: str, headers: dict[str, str]) -> None:
    named = {"User-Agent": user_agent} if user_agent else {}
    assert client.with_token(None).get(path, headers={**CLIENT, **named, **headers}).status == 200


@pytest.mark.parametrize(("rule", "user_agent", "headers", "hit_class", "reason", "known"), ROWS)
def test_hit_has_the_class_reason_and_country_of_its_rule(
    proxied: Server,
    rule: int,
    user_agent: str,
    headers: dict[str, str],
    hit_class: str,
    reason: str,
    known: bool,
) -> None:
    pixel = proxied.admin.create_pixel()
    fetch(proxied.admin, f"/p/{pixel['slug']}", user_agent, headers)
    assert verdicts(proxied, pixel) == [(hit_class, reason, None)]
    assert country_of(proxied, pixel) == (COUNTRY if known else None)


@pytest.mark.parametrize(("user_agent", "hit_class", "reason"), SOON)
def test_hit_at_once_after_sending_is_too_soon_for_a_person(
    proxied: Server, user_agent: str, hit_class: str, reason: str
) -> None:
    pixel = proxied.admin.create_pixel()
    sent_at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    embed = proxied.admin.get(f"/api/pixels/{pixel['id']}/embed?recipient=ann&sentAt={sent_at}")
    fetch(proxied.admin, embed.json["url"].removeprefix(proxied.base), user_agent, {})
    assert verdicts(proxied, pixel) == [(hit_class, reason, "ann")]
    assert country_of(proxied, pixel) is None


def test_prefetch_header_wins_over_too_soon(proxied: Server) -> None:
    pixel = proxied.admin.create_pixel()
    sent_at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    embed = proxied.admin.get(f"/api/pixels/{pixel['id']}/embed?recipient=ann&sentAt={sent_at}")
    path = embed.json["url"].removeprefix(proxied.base)
    fetch(proxied.admin, path, CHROME, {"Purpose": "prefetch"})
    assert verdicts(proxied, pixel) == [("prefetch", "prefetch-header", "ann")]
