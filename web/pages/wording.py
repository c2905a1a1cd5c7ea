"""What the pages call things: classes, reasons, dimensions and their values, in plain words."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from web.pages.formats import counted

if TYPE_CHECKING:
    from pixels.persons import Burst
    from pixels.recipient_lists import RecipientRow
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


CLASS_LABELS = {
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

STATUS_LABELS = {"opened": "Opened", "machine": "Machine only", "unopened": "Not opened"}


class Reason(NamedTuple):
    """A reason for a class: its name, what is behind it, and how certain the class is."""

    name: str
    meaning: str
    certainty: str


REASONS_IN_WORDS = {
    "prefetch-header": Reason(
        "Announced as a prefetch",
        "The browser said that it fetches ahead; nobody looks at it yet.",
        "Certain: the browser says so.",
    ),
    "apple-mpp": Reason(
        "Apple Mail Privacy Protection",
        "Apple's relay fetched it, ahead of the person or as they opened the mail.",
        "Nobody can know: Apple makes both look the same, so it is not counted as an open.",
    ),
    "gmail-prefetch": Reason(
        "Gmail, at delivery",
        "Gmail fetched it as the mail was delivered, before anybody could open it.",
        "Certain: nothing else sends this.",
    ),
    "too-soon": Reason(
        "Within seconds of sending",
        "It was fetched within three seconds of sending, as security gateways do.",
        "Very likely: a mail is hardly delivered and opened in that time.",
    ),
    "burst": Reason(
        "A gateway's burst",
        "Several people's own links were fetched from one address, by one program, within seconds.",
        "Very likely: a security gateway follows the links of many mails at once.",
    ),
    "gmail-proxy": Reason(
        "Gmail, as it was opened",
        "Somebody opened the mail in Gmail, which fetched the image for them.",
        "Very likely; Gmail may keep the image, so later opens can be missing.",
    ),
    "yahoo-proxy": Reason(
        "Yahoo, as it was opened",
        "Somebody opened the mail in Yahoo Mail, which fetched the image for them.",
        "Very likely.",
    ),
    "mail-client": Reason(
        "Mail program", "A mail program fetched it on somebody's own machine.", "Very likely."
    ),
    "browser": Reason(
        "Browser",
        "A browser fetched it, as webmail and many mail programs do.",
        "Likely; some gateways call themselves a browser.",
    ),
    "document": Reason(
        "Address opened in a browser",
        "Somebody opened the image's own address in a browser, outside any mail.",
        "Certain that it was opened so; it says nothing of the mail.",
    ),
    "soon": Reason(
        "Browser, soon after sending",
        "A browser fetched it between three and thirty seconds after sending.",
        "Doubtful: a quick reader or a security gateway.",
    ),
    "unknown": Reason(
        "Unknown program", "A program that names itself in no way we know.", "Doubtful."
    ),
    "crawler": Reason(
        "Crawler or link preview",
        "A crawler, a monitor, a scanner or a preview of links fetched it.",
        "Very likely: it names itself.",
    ),
    "tool": Reason(
        "Command-line tool or library",
        "A program without a window fetched it, such as curl.",
        "Very likely: it names itself, and no system or browser.",
    ),
    "no-agent": Reason(
        "Nameless program",
        "What fetched it does not say what it is; what people read with does.",
        "Very likely.",
    ),
    "own": Reason(
        "Your own network",
        "It came from a network that the operator calls their own.",
        "Certain: the operator's rule.",
    ),
    "merge-tag": Reason(
        "Merge tag that nothing replaced",
        "The link carried the tag itself, such as *|EMAIL|*, so nobody is named.",
        "Certain of the link, not of who fetched it.",
    ),
    "forged-token": Reason(
        "Link with a forged recipient",
        "The link's signature is not ours, so nobody is named.",
        "Certain of the link, not of who fetched it.",
    ),
}
REASONS = {reason: words.name for reason, words in REASONS_IN_WORDS.items()}
NOTHING_FETCHED = Reason(
    STATUS_LABELS["unopened"],
    "Nothing has fetched the image that was sent to them.",
    "Not certain: somebody who reads without images is not seen.",
)
RULE_PREFIX = "rule:"


def reason_in_words(reason: str) -> Reason:
    """Return what to tell of a reason, the operator's own rules included."""
    if reason.startswith(RULE_PREFIX):
        name = reason.removeprefix(RULE_PREFIX)
        return Reason(f"Rule: {name}", "A rule of the operator's decided.", "As the rule has it.")
    return REASONS_IN_WORDS.get(reason) or Reason(reason, "", "")


def fetched_with(burst: Burst) -> list[str]:
    """Return the note to a fetch that was one of a burst; none if no other is known any more."""
    if not burst.others:
        return []
    others = "another" if burst.others == 1 else f"{burst.others} others"
    return [f"fetched with {others} within {counted(burst.seconds, 'second')}"]


def meanings(reasons: Iterable[str | None]) -> list[Reason]:
    """Return what to tell of some reasons, each once."""
    return [reason_in_words(reason) for reason in dict.fromkeys(reasons) if reason]


def meanings_of_people(rows: Iterable[RecipientRow]) -> list[Reason]:
    """Return what is behind the statuses of some people: the reasons, or that nothing came."""
    rows = list(rows)
    found = meanings(row.reason for row in rows)
    silent = any(row.status == "unopened" and not row.reason for row in rows)
    return [*found, NOTHING_FETCHED] if silent else found


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
    "device": "Unknown or proxied",
    "country": "Unknown or proxied",
    "os": "Unknown or proxied",
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
    (
        "consent",
        "Consent",
        "Names only of people whose link was made with their consent; everybody else is counted.",
    ),
    ("anonymous", "Anonymous", "Opens and countries only. Nobody can be told apart."),
)

ROLES = {
    "admin": "Admin: everything",
    "user": "User: makes pixels and teams",
    "view-only": "Viewer: looks only",
}

# What a webhook is told of, and how it is with it.
EVENT_LABELS = {
    "hit": "Every fetch",
    "open": "Opens",
    "first-open": "The first open of each person",
}
WEBHOOK_STATUS_LABELS = {"active": "Active", "paused": "Paused", "ended": "Ended"}

# How far an API key reaches.
SCOPES = {
    "read": "Read only",
    "write": "Read, and change pixels, recipients and webhooks",
    "all": "All that you may",
}

TEAM_ROLES = {
    "team-owner": "Owner",
    "team-manager": "Manager",
    "team-member": "Member",
    "team-view-only": "Viewer",
}

# Names that capitals and spaces don't suffice to make of Umami's words.
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
        return reason_in_words(value).name
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
