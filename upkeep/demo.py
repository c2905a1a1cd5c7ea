"""Made-up hits, so that people can look around and benchmarks have something to count.

Newsletters go out on some days to a list of recipients; on other days and between them people
come whom nobody knows. Machines come too: Apple's and Gmail's prefetches, crawlers, gateways.
The same seed at the same moment makes the same hits. They are stored in the order of their ids,
in whole transactions, so that stopping it leaves fewer hits and no other trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import exists, insert, select, update

from core.clock import from_milliseconds, milliseconds
from core.database import db
from core.errors import BadRequest
from core.links import Links
from core.locks import writing
from hits.classify import classify_agent
from hits.people import people_key
from hits.references import HitContext, References
from models import HIT_ID_SHIFT, MS_PER_DAY, Hit, Pixel, Recipient
from stats.days import MS_PER_HOUR, Array

HITS_AT_ONCE = 10_000
RECIPIENTS_SHARE = 0.4
# How many more people a mail went to, who never fetch the image.
UNOPENED_SHARE = 0.5
# How many of a day's hits come from recipients who have been here before.
RETURNING_SHARE = 0.35

_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
# How often a visitor has it, and the user agent; machines first.
AGENTS = (
    (9, "Mozilla/5.0"),
    (
        4,
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/42.0.2311.135"
        " Safari/537.36 Edge/12.246 Mozilla/5.0",
    ),
    (1, "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"),
    (1, "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"),
    (1, "python-requests/2.32.3"),
    (
        26,
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    ),
    (4, "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"),
    (7, "Mozilla/4.0 (compatible; ms-office; MSOffice 16)"),
    (3, "Outlook-iOS/723.4027091.prod.iphone (4.28.0)"),
    (2, "Outlook-Android/2.0"),
    (4, "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Thunderbird/128.5.0"),
    (2, "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.5.0"),
    (4, f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_SAFARI}"),
    (4, f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {_SAFARI} Mobile/15E148"),
    (9, f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/142.0.0.0 Safari/537.36"),
    (
        4,
        f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Chrome/142.0.0.0 Safari/537.36",
    ),
    (6, f"Mozilla/5.0 (Linux; Android 10; K) {_WEBKIT} Chrome/142.0.0.0 Mobile Safari/537.36"),
    (3, "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0"),
    (3, f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_SAFARI} Version/18.1 Safari/605.1.15"),
    (
        3,
        f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {_SAFARI} Version/18.1"
        " Mobile/15E148 Safari/604.1",
    ),
)
# The first of the agents that are browsers, which send a language and may send a referrer.
BROWSERS_FROM = 14
COUNTRIES = (
    (18, "US", "en-US"),
    (14, "DE", "de-DE"),
    (10, "GB", "en-GB"),
    (8, "FR", "fr-FR"),
    (6, "NL", "nl-NL"),
    (5, "ES", "es-ES"),
    (5, "IT", "it-IT"),
    (4, "PL", "pl-PL"),
    (4, "BR", "pt-BR"),
    (4, "JP", "ja-JP"),
    (3, "CH", "de-CH"),
    (3, "AT", "de-AT"),
    (3, "SE", "sv-SE"),
    (3, "CA", "en-CA"),
    (3, "AU", "en-AU"),
    (3, "IN", "en-IN"),
    (2, "DK", "da-DK"),
    (2, "MX", "es-MX"),
)
REFERRERS = (
    (60, None),
    (16, "https://mail.google.com/"),
    (9, "https://outlook.live.com/"),
    (6, "https://mail.yahoo.com/"),
    (4, "https://www.linkedin.com/feed/"),
    (3, "https://t.co/"),
    (2, "https://news.ycombinator.com/"),
)
HOSTNAME = "pixel.example.org"
CAMPAIGNS = ("spring-letter", "release-notes", "weekly", "invitation", "survey", "thank-you")
VARIANTS = ("a", "b")
# Mail is read by the hour like this, in UTC; and by the day of the week, from Thursday (1970).
HOURLY_SHARES = (1, 1, 1, 1, 2, 4, 7, 11, 14, 13, 11, 10, 10, 11, 11, 10, 9, 9, 9, 8, 7, 5, 3, 2)
WEEKDAYS = (12, 8, 3, 3, 9, 16, 11)


class _Visitors(NamedTuple):
    """Each visitor's setup, as places in the tables above; the recipients come first."""

    recipients: int
    ids: Array
    agent: Array
    country: Array
    referrer: Array


def fill(
    pixel: Pixel,
    links: Links,
    *,
    hits: int,
    days: int,
    visitors: int,
    seed: int,
    now: datetime,
) -> Iterator[int]:
    """Give an empty pixel made-up hits of the last days; yield after each chunk how many.

    Raises: BadRequest for a pixel that has hits: what comes before these could not be folded.
    """
    if db.session.scalar(select(exists().where(Hit.pixel_number == pixel.number))):
        raise BadRequest(f"{pixel.slug} has hits already; choose another slug.")
    random = np.random.default_rng(seed)
    at_ms = _instants(random, hits, days, milliseconds(now))
    people = _visitors(random, min(visitors, hits))
    who = _visitor_of_each_hit(random, at_ms // MS_PER_DAY, people)
    is_variant_b = random.random(hits) < 0.5
    has_query = random.random(hits) < 0.7
    references = References()
    _send(pixel, links, people, int(at_ms[0]))
    for start in range(0, hits, HITS_AT_ONCE):
        places = range(start, min(start + HITS_AT_ONCE, hits))
        rows = [
            _hit(pixel, place, at, people, visitor, _query(at, variant, asked), references)
            for place, at, visitor, variant, asked in zip(
                places,
                *(
                    column[start : start + HITS_AT_ONCE].tolist()
                    for column in (at_ms, who, is_variant_b, has_query)
                ),
                strict=True,
            )
        ]
        with writing():
            connection = db.session.connection()
            references.store(connection)
            connection.execute(insert(Hit), rows)
        references.learn()
        yield len(rows)


def abandon() -> None:
    """Leave out what `fill` had not stored yet when it was interrupted."""
    db.session.rollback()


def _send(pixel: Pixel, links: Links, people: _Visitors, sent_ms: int) -> None:
    """Issue the pixel to its recipients just before the first hit, and to some who never open."""
    sent_at = from_milliseconds(sent_ms)
    with writing():
        key = people_key(db.session.connection(), links)
        changed = update(Pixel).where(Pixel.number == pixel.number)
        db.session.execute(changed.values(sent_at=sent_at))
    sent = range(int(people.recipients * (1 + UNOPENED_SHARE)))
    for start in range(0, len(sent), HITS_AT_ONCE):
        rows = [
            {
                "pixel_number": pixel.number,
                "visitor": _issue_of(people, number),
                "recipient": (name := f"reader{number}@example.org"),
                "verified": True,
                "person": key.person(name),
                "issued_at": sent_at,
                "sent_at": sent_at,
            }
            for number in sent[start : start + HITS_AT_ONCE]
        ]
        with writing():
            db.session.connection().execute(insert(Recipient), rows)


def _issue_of(people: _Visitors, number: int) -> int:
    """Return the visitor that a recipient is; those who never come are told by their number."""
    return int(people.ids[number]) if number < people.recipients else number


def _instants(random: np.random.Generator, hits: int, days: int, now_ms: int) -> Array:
    """Return the hits' instants in milliseconds, in order, none in the future."""
    today = now_ms // MS_PER_DAY
    every_day = np.arange(today - days + 1, today + 1)
    day = random.choice(
        every_day, hits, p=_shares([WEEKDAYS[day_number % 7] for day_number in every_day])
    )
    hour = random.choice(24, hits, p=_shares(HOURLY_SHARES))
    at_ms = day * MS_PER_DAY + hour * MS_PER_HOUR + random.integers(0, MS_PER_HOUR, hits)
    if days > 1:
        at_ms = np.where(at_ms > now_ms, at_ms - MS_PER_DAY, at_ms)
    return np.sort(np.minimum(at_ms, now_ms))


def _visitors(random: np.random.Generator, count: int) -> _Visitors:
    recipients = int(count * RECIPIENTS_SHARE)
    agent = random.choice(len(AGENTS), count, p=_shares([row[0] for row in AGENTS]))
    referrer = random.choice(len(REFERRERS), count, p=_shares([row[0] for row in REFERRERS]))
    return _Visitors(
        recipients,
        random.integers(1 << 62, 1 << 63, count, dtype=np.uint64).astype(np.int64),
        agent,
        random.choice(len(COUNTRIES), count, p=_shares([row[0] for row in COUNTRIES])),
        np.where(agent < BROWSERS_FROM, 0, referrer),
    )


def _visitor_of_each_hit(random: np.random.Generator, day: Array, people: _Visitors) -> Array:
    """Return whose each hit is: the anonymous keep to one day, recipients come back.

    Everybody comes at least once, while there are hits enough on their day.
    """
    count = len(people.agent)
    first_day = day[random.integers(0, len(day), count)]
    first_day[: people.recipients].sort()
    who = np.zeros(len(day), np.int64)
    for day_number in np.flatnonzero(np.bincount(day - day[0])) + day[0]:
        start, end = np.searchsorted(day, [day_number, day_number + 1])
        newcomers = np.flatnonzero(first_day == day_number)
        known = int(np.searchsorted(first_day[: people.recipients], day_number, "right"))
        more = max(int(end - start) - len(newcomers), 0)
        again = _again(random, more, newcomers, known)
        who[start:end] = random.permutation(np.concatenate((newcomers, again))[: end - start])
    return who


def _again(random: np.random.Generator, count: int, newcomers: Array, known: int) -> Array:
    """Return who comes again: a newcomer of the day, or a recipient who is known by then."""
    if not len(newcomers):
        return random.integers(0, max(known, 1), count)
    returning = random.integers(0, max(known, 1), count)
    same_day = newcomers[random.integers(0, len(newcomers), count)]
    return np.where((random.random(count) < RETURNING_SHARE) & (known > 0), returning, same_day)


def _query(at_ms: int, is_variant_b: bool, has_query: bool) -> str | None:
    if not has_query:
        return None
    campaign = CAMPAIGNS[at_ms // MS_PER_DAY // 5 % len(CAMPAIGNS)]
    variant = VARIANTS[is_variant_b]
    return f"utm_source=newsletter&utm_medium=email&utm_campaign={campaign}&utm_content={variant}"


def _hit(
    pixel: Pixel,
    place: int,
    at_ms: int,
    people: _Visitors,
    number: int,
    query: str | None,
    references: References,
) -> dict[str, Any]:
    """Return a hit's row; `references` remembers what it refers to."""
    agent, referrer = int(people.agent[number]), int(people.referrer[number])
    _, country, language = COUNTRIES[people.country[number]]
    user_agent = AGENTS[agent][1]
    own_machine = classify_agent(user_agent).own_machine
    context = HitContext(
        user_agent,
        country=country if own_machine else None,
        language=language if agent >= BROWSERS_FROM else None,
        hostname=HOSTNAME,
        referrer=REFERRERS[referrer][1],
        query=query,
    )
    return {
        "pixel_number": pixel.number,
        "id": (at_ms << HIT_ID_SHIFT) + place % (1 << HIT_ID_SHIFT),
        "visitor": int(people.ids[number]),
        "profile": references.profile(pixel.number, context),
    }


def _shares(weights: Sequence[int]) -> Array:
    return np.array(weights) / sum(weights)
