"""What the pages call things: classes, reasons, dimensions and their values, in plain words."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from stats.shapes import Event


class Class(NamedTuple):
    """A class of hits: its names, and how it is marked: filled, hatched or hollow."""

    plural: str
    singular: str
    mark: str


class Noun(NamedTuple):
    """What one hit, and what several are called."""

    one: str
    many: str


CLASSES = {
    "open": Class("Opens", "Open", "opened"),
    "prefetch": Class("Machines", "Machine", "machine"),
    "bot": Class("Bots", "Bot", "unopened"),
}

# What is counted when the hits of a class are shown.
NOUNS = {
    "open": Noun("open", "opens"),
    "prefetch": Noun("machine fetch", "machine fetches"),
    "bot": Noun("bot fetch", "bot fetches"),
    "all": Noun("fetch", "fetches"),
}

STATUSES = {"opened": "Opened", "machine": "Machine only", "unopened": "Not opened"}

REASONS = {
    "prefetch-header": "Announced as a prefetch",
    "apple-mpp": "Apple Mail Privacy Protection",
    "gmail-prefetch": "Gmail, at delivery",
    "too-soon": "Within seconds of sending",
    "gmail-proxy": "Gmail, as it was opened",
    "yahoo-proxy": "Yahoo, as it was opened",
    "mail-client": "Mail program",
    "browser": "Browser",
    "unknown": "Unknown program",
    "crawler": "Crawler or link preview",
    "tool": "Command-line tool or library",
    "forged-token": "Link with a forged recipient",
}

# What a period is compared with; the time since sending with nothing.
SPANS_BEFORE = {
    "24h": "the 24 hours before",
    "7d": "the 7 days before",
    "30d": "the 30 days before",
    "90d": "the 90 days before",
    "custom": "as many days before",
}

# What can be listed, and what its list is called.
DIMENSION_LABELS = {
    "browser": "Mail programs",
    "device": "Devices",
    "country": "Countries",
    "reason": "How it was opened",
    "os": "Systems",
    "referrer": "Referrers",
    "channel": "Channels",
    "utmCampaign": "Campaigns",
    "utmSource": "Sources",
    "utmMedium": "Media",
    "utmContent": "Contents",
    "utmTerm": "Terms",
    "language": "Languages",
    "hostname": "Host names",
    "query": "Queries",
    "recipient": "Recipients",
}
# The lists on the report, in its order; some of them only where there is something in them.
LISTED = ("browser", "device", "country", "reason", "os", "referrer", "utmCampaign", "recipient")
RARELY_THERE = frozenset({"os", "referrer", "utmCampaign", "recipient"})
# What is left where a value is not known.
UNKNOWN = {
    "browser": "Unknown program",
    "device": "Unknown or behind a proxy",
    "country": "Unknown or behind a proxy",
    "os": "Unknown or behind a proxy",
}

# What a filter by one value of a dimension is called.
ONE_OF = {
    "browser": "Program",
    "device": "Device",
    "country": "Country",
    "reason": "Reason",
    "os": "System",
    "referrer": "Referrer",
    "channel": "Channel",
    "utmCampaign": "Campaign",
    "utmSource": "Source",
    "utmMedium": "Medium",
    "utmContent": "Content",
    "utmTerm": "Term",
    "language": "Language",
    "hostname": "Host name",
    "query": "Query",
    "recipient": "Recipient",
}

# How much of people a pixel keeps.
PRIVACY = (
    ("full", "Full", "Who opened, by name where a link is somebody’s own."),
    ("anonymous", "Anonymous", "Opens and countries only. Nobody can be told apart."),
)

ROLES = {
    "admin": "Admin: everything",
    "user": "User: makes pixels and teams",
    "view-only": "Viewer: looks only",
}

TEAM_ROLES = {
    "team-owner": "Owner",
    "team-manager": "Manager",
    "team-member": "Member",
    "team-view-only": "Viewer",
}

# Names that neither capitals nor spaces alone make of Umami's words.
_WRITTEN = {
    "ios": "iOS",
    "ipados": "iPadOS",
    "macos": "macOS",
    "mac os": "macOS",
    "chrome os": "ChromeOS",
    "ios-webview": "iOS web view",
    "facebook": "Facebook",
    "em-client": "eM Client",
    "the-bat": "The Bat!",
    "fairemail": "FairEmail",
    "aquamail": "AquaMail",
    "mailmate": "MailMate",
    "bluemail": "BlueMail",
    "incredimail": "IncrediMail",
    "kmail": "KMail",
    "k9-mail": "K-9 Mail",
    "hey-proxy": "HEY",
    "ukrnet-proxy": "Ukr.net",
    "gmail-proxy": "Gmail",
    "yahoo-proxy": "Yahoo Mail",
    "mobile": "Phone",
}


def value_of(dimension: str, value: str) -> str:
    """Return how a value of a dimension is written for a reader."""
    if dimension == "country":
        return country_names().get(value, value)
    if dimension == "reason":
        return REASONS.get(value, value)
    if dimension in ("browser", "os", "device"):
        return program(value)
    return value


def program(name: str) -> str:
    """Return how the name of a program, a system or a device is written."""
    if name in _WRITTEN or name.lower() in _WRITTEN:
        return _WRITTEN.get(name) or _WRITTEN[name.lower()]
    if not name.islower():
        return name
    words = name.removesuffix("-proxy").replace("-", " ").split()
    return " ".join(word.capitalize() for word in words)


def fetched_by(hit: Event) -> str:
    """Return what fetched the image, and on what: `Outlook · Windows`."""
    browser, system = hit.values.get("browser"), hit.values.get("os")
    name = program(browser) if browser else REASONS.get(hit.source.reason, hit.source.reason)
    return f"{name} · {program(system)}" if system and program(system) != name else name


@functools.cache
def country_names() -> dict[str, str]:
    """Return English names by ISO 3166 code; the table comes with the time zones."""
    table = files("tzdata.zoneinfo").joinpath("iso3166.tab").read_text(encoding="utf-8")
    lines = (line for line in table.splitlines() if not line.startswith("#"))
    return {code: name for code, _, name in (line.partition("\t") for line in lines)}
