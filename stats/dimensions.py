"""What hits can be asked by: the names of the dimensions, and a profile's value in each.

Pure. The names and the values are Umami's wherever it has them; None is no value, and is left
out of every breakdown. A recipient is the one dimension that belongs to a visitor instead.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from core.fields import without_controls
from hits.agent_names import OTHER, AgentNames, agent_names_of
from hits.classify import RULES_VERSION

DIMENSIONS: Final = (
    "referrer",
    "channel",
    "browser",
    "os",
    "device",
    "country",
    "language",
    "hostname",
    "query",
    "utmSource",
    "utmMedium",
    "utmCampaign",
    "utmContent",
    "utmTerm",
    "class",
    "reason",
    "recipient",
)

# What of a query a share shows: not a dimension that is asked for by this name.
CAMPAIGN_QUERY: Final = "campaignQuery"

TEXTS_CACHED_MAX = 4096
# Of a value that is filtered by.
FILTER_CHARACTERS_MAX = 500

Value = str | None


class Source(NamedTuple):
    """What is stored of a profile, its agent and its texts."""

    hit_class: str
    reason: str
    user_agent: str
    country: str | None = None
    language: str | None = None
    hostname: str | None = None
    referrer: str | None = None
    query: str | None = None
    browser: str | None = None
    os: str | None = None
    device: str | None = None
    rules_version: int = 0

    @property
    def names(self) -> AgentNames:
        """The names of the agent: those that are stored, unless older rules read them."""
        if self.rules_version == RULES_VERSION:
            return AgentNames(self.browser, self.os, self.device)
        return agent_names_of(self.user_agent)

    @property
    def is_limited(self) -> bool:
        """Whether one of its texts was one too many, and is not kept."""
        return OTHER in (self.user_agent, self.query, self.referrer, self.hostname)


def values_of(source: Source) -> dict[str, Value]:
    """Return the value of every dimension but the recipient."""
    return {name: values[0] for name, values in values_by_dimension([source]).items()}


def values_by_dimension(sources: Sequence[Source]) -> dict[str, list[Value]]:
    """Return what `values_of` says of each of some profiles, a column for each dimension."""
    names = [source.names for source in sources]
    referrers = [referrer_domain(source.referrer, source.hostname) for source in sources]
    campaigns = [_utm(source.query) for source in sources]
    return {
        "referrer": referrers,
        "channel": [
            _channel(referrer, source.query, utm)
            for referrer, source, utm in zip(referrers, sources, campaigns, strict=True)
        ],
        "browser": [agent.browser for agent in names],
        "os": [agent.os for agent in names],
        "device": [agent.device for agent in names],
        "country": [source.country for source in sources],
        "language": [_main_language(source.language) for source in sources],
        "hostname": [source.hostname for source in sources],
        "query": [source.query for source in sources],
        CAMPAIGN_QUERY: [campaign_query(source.query) for source in sources],
        **{f"utm{name.capitalize()}": [utm.get(name) for utm in campaigns] for name in _UTM_NAMES},
        "class": [source.hit_class for source in sources],
        "reason": [source.reason for source in sources],
    }


@functools.lru_cache(TEXTS_CACHED_MAX)
def referrer_domain(referrer: Value, own_hostname: Value) -> Value:
    """Return the domain of a referrer without `www.`, None for none or for our own."""
    if referrer == OTHER:
        return OTHER
    try:
        domain = urlsplit(referrer or "").hostname or ""
    except ValueError:  # A bracket that is not an address.
        return None
    # A site that names itself is no source of its own hits.
    domain = domain.removeprefix("www.")
    return None if domain == (own_hostname or "").removeprefix("www.") else domain or None


@functools.lru_cache(TEXTS_CACHED_MAX)
def campaign_query(query: Value) -> Value:
    """Return the `utm_*` parameters of a query as they came, None without any.

    The others may name people: senders put addresses there, and what a mail program escaped twice
    ends as `amp;r=NAME`.
    """
    parts = [part for part in (query or "").split("&") if _UTM_PARAMETER.match(part)]
    return "&".join(parts) or None


def _main_language(language: Value) -> Value:
    return language.partition("-")[0].lower() if language else None


_UTM_PARAMETER = re.compile("utm_[a-z_]+=")
_UTM_NAMES = ("source", "medium", "campaign", "content", "term")


@functools.lru_cache(TEXTS_CACHED_MAX)
def _utm(query: Value) -> dict[str, str]:
    """Return the campaign's parameters of a query; of a repeated one the first."""
    if not query or "utm_" not in query:
        return {}
    pairs = parse_qsl(query, errors="replace")
    return {
        # Terminals obey controls, which are escaped in what is stored.
        name.removeprefix("utm_"): without_controls(value)
        for name, value in reversed(pairs)
        if name.startswith("utm_")
    }


# Parameters that advertisers add to the links that are paid for.
_PAID_PARAMETERS = tuple(
    f"{name}="
    for name in (
        *("ad_id", "aid", "dclid", "epik", "gclid", "li_fat_id", "msclkid", "ob_click_id"),
        *("pc_id", "rdt_cid", "scid", "ttclid"),
    )
)
_PAID_MEDIA = ("cp", "ppc", "retargeting", "paid")

# A site is known by a name among its domain's labels (`google` is google.co.uk too), or, with a
# dot in it, by its whole domain and what is below.
_LLM = {"chatgpt.com", "claude", "copilot.microsoft.com", "gemini.google.com", "meta.ai"} | {
    "perplexity"
}
_MAIL = {"mail", "gmail", "hotmail", "outlook", "protonmail", "webmail", "proton.me", "fastmail"}
_SEARCH = {"google", "bing", "duckduckgo", "ecosia", "yandex", "baidu", "msn", "startpage"} | {
    "qwant",
    "search.brave.com",
    "search.yahoo.com",
}
_SOCIAL = {"facebook", "fb", "instagram", "linkedin", "pinterest", "reddit", "snapchat"} | {
    *("tiktok", "twitter", "x.com", "t.co", "ig.com", "bsky.app", "threads.net", "threads.com"),
    "news.ycombinator.com",
}
_SHOPPING = {"alibaba", "aliexpress", "amazon", "bestbuy", "ebay", "etsy", "newegg", "target.com"}
_VIDEO = {"youtube", "youtu.be", "twitch", "vimeo"}


def _channel(referrer: Value, query: Value, utm: dict[str, str]) -> str:
    """Return how a hit came about, in Umami's words; the first rule that matches wins."""
    # The first rule that matches wins, so the order below is Umami's own.
    medium, source = utm.get("medium", "").lower(), utm.get("source", "").lower()
    if not referrer and not query:
        return "direct"
    if query and _is_paid_ad(query.lower(), medium, source):
        return "paidAds"
    if any(word in medium for word in ("referral", "app", "link")):
        return "referral"
    if "affiliate" in medium:
        return "affiliate"
    if "sms" in medium or "sms" in source:
        return "sms"
    return _channel_of_site(referrer or "", medium) or ("referral" if referrer else "direct")


def _is_paid_ad(query: str, medium: str, source: str) -> bool:
    starts = ("&" + query).replace("?", "&")
    return (
        any("&" + parameter in starts for parameter in _PAID_PARAMETERS)
        or medium in ("cpc", "paid", "paid_social")
        or source == "google"
    )


def _channel_of_site(domain: str, medium: str) -> Value:
    kind = "paid" if any(word in medium for word in _PAID_MEDIA) else "organic"
    # A webmail of a search engine is mail before it is a search.
    for sites, word, channel in (
        (_LLM, None, "llm"),
        (_MAIL, "mail", "email"),
        (_SEARCH, "organic", f"{kind}Search"),
        (_SOCIAL, "social", f"{kind}Social"),
        (_SHOPPING, "shop", f"{kind}Shopping"),
        (_VIDEO, "video", f"{kind}Video"),
    ):
        if _is_one_of(domain, sites) or (word and word in medium):
            return channel
    return None


def _is_one_of(domain: str, sites: set[str]) -> bool:
    labels = domain.split(".")
    above = {".".join(labels[start:]) for start in range(len(labels))}
    return not sites.isdisjoint(above) or not sites.isdisjoint(labels)
