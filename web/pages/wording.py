"""What the pages call things: classes, reasons, dimensions and their values, in plain words."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import NamedTuple


class Class(NamedTuple):
    """A class of hits: its name, and what it means in a sentence."""

    plural: str
    singular: str
    meaning: str


CLASSES = {
    "open": Class(
        "Opens",
        "Open",
        "Somebody looked at it, directly or through their mail provider's image proxy.",
    ),
    "prefetch": Class(
        "Prefetches",
        "Prefetch",
        "A machine was ahead of any person: Apple fetched this image before anybody read the mail.",
    ),
    "bot": Class(
        "Bots", "Bot", "No person at all: crawlers, scanners, link previews, tools such as curl."
    ),
}

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

# What a period is compared with.
SPANS_BEFORE = {
    "24h": "the 24 hours before",
    "7d": "the 7 days before",
    "30d": "the 30 days before",
    "90d": "the 90 days before",
    "custom": "as many days before",
}

# The dimensions that a pixel's page shows, in its order, and what each is a list of.
DIMENSION_LABELS = {
    "browser": "Mail programs and browsers",
    "os": "Systems",
    "device": "Devices",
    "country": "Countries",
    "referrer": "Referrers",
    "utmCampaign": "Campaigns",
    "reason": "Reasons",
    "recipient": "Recipients",
}

# What a filter by one value of a dimension is called.
ONE_OF = {
    "browser": "Program",
    "os": "System",
    "device": "Device",
    "country": "Country",
    "referrer": "Referrer",
    "utmCampaign": "Campaign",
    "reason": "Reason",
    "recipient": "Recipient",
}

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


@functools.cache
def country_names() -> dict[str, str]:
    """Return English names by ISO 3166 code; the table comes with the time zones."""
    table = files("tzdata.zoneinfo").joinpath("iso3166.tab").read_text(encoding="utf-8")
    lines = (line for line in table.splitlines() if not line.startswith("#"))
    return {code: name for code, _, name in (line.partition("\t") for line in lines)}
