"""A hit's way in, whichever edge saw it: what may be kept of the request is read, then stored.

The address is looked up and handed on to name the visitor, and is never kept.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote_plus

from core.addresses import is_public
from core.clock import now_ms
from core.fields import without_controls
from core.links import RECIPIENT_CHARACTERS_MAX, Links
from hits import classify
from hits.bursts import Sighting, Sightings
from hits.countries import Lookup
from hits.metrics import Metrics
from hits.new_values import NewValues
from hits.operator_rules import OperatorRules
from hits.people import Addressee
from hits.pixel_names import PixelEntry, PixelName
from hits.recorder import NewHit, Recorder, Stored, WaitingHit
from hits.references import HitContext, Identity
from hits.user_agents import any_of

# Sec-Purpose, Purpose, X-Purpose and X-Moz, as WSGI names them.
PREFETCH_HEADERS: Final = ("HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_PURPOSE", "HTTP_X_MOZ")


def has_prefetch_header(environ: Mapping[str, Any]) -> bool:
    """Tell whether a WSGI environ carries a header that announces a prefetch."""
    # A loop, since a generator would take three times as long.
    for name in PREFETCH_HEADERS:
        if name in environ and _PREFETCH.search(environ[name].lower()):
            return True
    return False


_PREFETCH = any_of("prefetch", "preview", "prerender")


def header_signals(environ: Mapping[str, Any]) -> int:
    """Return the signals of a WSGI environ's headers beside the user agent.

    Browsers send `Sec-Fetch-*` and client hints over TLS: an image in a page or a mail is fetched
    for an `image`, an address that somebody opened for a `document`.
    """
    signals = classify.PREFETCH_HEADER if has_prefetch_header(environ) else 0
    if environ.get("HTTP_SEC_FETCH_DEST") == "document":
        signals |= classify.DOCUMENT
    brands = environ.get("HTTP_SEC_CH_UA")
    if brands and _is_driven(
        brands[:HINT_CHARACTERS_MAX],
        environ.get("HTTP_SEC_CH_UA_PLATFORM", ""),
        environ.get("HTTP_USER_AGENT", "")[: classify.USER_AGENT_CHARACTERS_MAX],
    ):
        signals |= classify.HEADLESS
    return signals


def _is_driven(brands: str, platform: str, agent: str) -> bool:
    """Tell whether client hints say that a program drives the browser, or contradict its agent.

    Chromium sends hints, and its version and system in them are the agent's; others send none.
    """
    if "headless" in brands.lower():
        return True
    hinted, said = _HINTED_CHROMIUM.search(brands), _SAID_CHROMIUM.search(agent)
    if hinted and (said is None or said[1] != hinted[1]):
        return True
    systems = _SYSTEMS_OF_PLATFORM.get(platform.strip('" ').lower())
    return systems is not None and not any(system in agent for system in systems)


_HINTED_CHROMIUM = re.compile(r'"Chromium"; ?v="(\d+)')
_SAID_CHROMIUM = re.compile(r"(?:Chrome|Chromium|CriOS)/(\d+)")
# What the agent says on a platform; a page for a desktop, asked for on a telephone, says Linux.
_SYSTEMS_OF_PLATFORM: Final = {
    "windows": ("Windows",),
    "macos": ("Mac OS X", "Macintosh"),
    "linux": ("Linux", "X11"),
    "android": ("Android", "Linux"),
    "chrome os": ("CrOS",),
    "chromium os": ("CrOS",),
}


HINT_CHARACTERS_MAX = 500
TOKEN, RECIPIENT = "s", "r"
OWN_PARAMETERS = frozenset({"slug", TOKEN, RECIPIENT})
QUERY_CHARACTERS_MAX = 500
REFERRER_CHARACTERS_MAX = 500
# A pixel that is renamed again while its hit waits is looked up again, so many times.
ATTEMPTS_MAX = 3
# What programs put a recipient in place of, if they are told to: `*|EMAIL|*`, `{{ email }}`,
# `%recipient%`, `[EMAIL]`, `${email}`, `<%= email %>`, `#EMAIL#`.
_MERGE_TAG = re.compile(
    r"\*\|.+\|\*|\$?\{+.+\}+|-?%%?[^%]+%%?-?|\[+[^\[\]]+\]+|<%.+%>|#+[^#]+#+", re.DOTALL
)
_LANGUAGE = re.compile(r"\s*([A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3})\s*(?:[,;]|$)")
_ESCAPED_AMPERSAND = re.compile(r"&(?:amp;)+")
# One and no more: neither a name beside it, nor a list.
_MAIL_ADDRESS = re.compile(r"[^\t\r\n@<>()\\,;:\"]+@[^\s+@<>()\\,;:\"]+")
_CUT_ESCAPE = re.compile(r"%[0-9A-Fa-f]?\Z")
_HOSTNAME = re.compile(r"([A-Za-z0-9._-]{1,100}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]*)?$")


class Fetch(NamedTuple):
    """What an edge saw of a request: text of any length and content, `None` where there is none.

    `token` is a signed recipient, `recipient` a plain one; `query` is without both. `at_ms` is when
    it was, in milliseconds since the epoch, if a permitted caller has said so.
    """

    address: str
    user_agent: str
    languages: str = ""
    host: str = ""
    referrer: str = ""
    query: str = ""
    token: str | None = None
    recipient: str = ""
    header_signals: int = 0
    opted_out: bool = False
    at_ms: int | None = None


class Intake:
    """Takes hits for one process."""

    def __init__(
        self,
        recorder: Recorder,
        links: Links,
        country_of: Lookup,
        metrics: Metrics,
        new_values: NewValues,
        *,
        rules: OperatorRules,
        sightings: Sightings,
        respect_dnt: bool,
    ) -> None:
        self._recorder = recorder
        self._links = links
        self._country_of = country_of
        self._metrics = metrics
        self._new_values = new_values
        self._rules = rules
        self._sightings = sightings
        self._watches = bool(rules.burst.people)
        self._respect_dnt = respect_dnt

    def enqueue(self, name: PixelName, fetch: Fetch) -> Callable[[], Stored | None]:
        """Put a hit into the queue; return what waits for its commit.

        That returns what was committed, None if `name` is no pixel's.

        Raises: Unstored; so does what is returned.
        """
        try:
            waiting = self._enqueue(name, fetch)
        except Exception:
            self._metrics.count_unstored()
            raise
        return functools.partial(self._wait, waiting, name, fetch)

    def _wait(self, waiting: WaitingHit | None, name: PixelName, fetch: Fetch) -> Stored | None:
        try:
            for attempt in range(ATTEMPTS_MAX):
                if attempt:
                    waiting = self._enqueue(name, fetch)
                if waiting is None:
                    break
                stored = self._recorder.wait(waiting)
                if stored is not None:
                    self._note(waiting, stored)
                    return stored
        except Exception:
            self._metrics.count_unstored()
            raise
        self._metrics.count_unknown()
        return None

    def _note(self, waiting: WaitingHit, stored: Stored) -> None:
        if stored.source is not None and stored.visitor is not None:
            number = waiting.item.pixel.number
            sighting = Sighting(number, stored.id, stored.visitor, stored.source, stored.at_ms)
            self._sightings.note(sighting)

    def _enqueue(self, name: PixelName, fetch: Fetch) -> WaitingHit | None:
        pixel = self._recorder.find(name)
        if pixel is None:
            return None
        context, identity = self._read(pixel, fetch)
        return self._recorder.enqueue(NewHit(name, pixel, context, identity, fetch.at_ms))

    def knows(self, name: PixelName) -> bool:
        """Tell whether a name is some pixel's at this moment.

        Raises: Unstored if the database doesn't answer.
        """
        return self._recorder.look_up(name) is not None

    def _read(self, pixel: PixelEntry, fetch: Fetch) -> tuple[HitContext, Identity | None]:
        """Return what is kept of a request, and whose it is."""
        at_ms = now_ms() if fetch.at_ms is None else fetch.at_ms
        agent = kept_text(fetch.user_agent, classify.USER_AGENT_CHARACTERS_MAX)
        addressee, more, seconds = self._addressee(pixel, fetch, at_ms)
        signals = fetch.header_signals | more
        says = classify.classify_agent(agent)
        verdict = classify.classify_hit(says, signals)
        rule = self._rules.find(agent, fetch.address, seconds)
        if rule is not None:
            verdict = rule.verdict(says)
        country = self._country_of(fetch.address) if verdict.own_machine else None
        if pixel.anonymous:
            return of_nobody(country, verdict), None
        context, identity = of_person(HitContext(agent, signals, country), fetch), None
        if rule is not None:
            context = context._replace(verdict=verdict)
        if not (self._respect_dnt and fetch.opted_out):
            watched = self._watches and _is_watched(addressee, verdict, fetch.address)
            identity = Identity(fetch.address, addressee, watched)
        kept = self._new_values.limited(
            pixel[:2],
            fetch.address,
            context,
            (says, verdict),
            identity and identity.addressee and identity.addressee.name,
            at_ms,
        )
        return kept, identity

    def _addressee(
        self, pixel: PixelEntry, fetch: Fetch, at_ms: int
    ) -> tuple[Addressee | None, int, float | None]:
        """Return what a request says of whom its link is for, the signals in that, and its age.

        The age is in seconds since the mail was sent, None where the link doesn't say when.
        """
        # A merge that left the token out means nobody's link, and no forged one.
        if not fetch.token:
            name = kept_text(fetch.recipient.strip(), RECIPIENT_CHARACTERS_MAX).strip()
            if _MERGE_TAG.fullmatch(name):
                return None, classify.MERGE_TAG, None
            return (Addressee(name) if name and not pixel.needs_consent else None), 0, None
        sent = self._links.read(pixel.id, fetch.token)
        if sent is None:
            return None, classify.FORGED_TOKEN, None
        signals, seconds = 0, None
        if sent.sent_at:
            seconds = at_ms / 1000 - sent.sent_at.timestamp()
            signals = classify.signal_of_delay(seconds)
        name = kept_text(sent.recipient, RECIPIENT_CHARACTERS_MAX).strip()
        if sent.issue is None and not name:
            return None, signals, seconds
        addressee = Addressee(name, sent.issue, verified=True, needs_consent=pixel.needs_consent)
        return addressee, signals, seconds


def _is_watched(addressee: Addressee | None, verdict: classify.Verdict, address: str) -> bool:
    """Tell whether a fetch may be a gateway's: a browser's, of somebody's own link, from afar."""
    return (
        addressee is not None
        and addressee.verified
        and verdict.reason in ("browser", "soon")
        # Others are those of a proxy, behind which there are many people.
        and is_public(address)
    )


def of_nobody(country: str | None, verdict: classify.Verdict, signals: int = 0) -> HitContext:
    """Return all that an anonymous pixel keeps of a hit: its country, its class and the reason."""
    return HitContext("", signals | classify.UNKEPT, country, verdict=verdict)


def of_person(context: HitContext, fetch: Fetch) -> HitContext:
    """Return a context with what an anonymous pixel doesn't keep."""
    return HitContext(
        context.user_agent,
        context.signals,
        context.country,
        language=_first_match(_LANGUAGE, fetch.languages),
        hostname=_first_match(_HOSTNAME, fetch.host.lower()),
        referrer=kept_text(fetch.referrer, REFERRER_CHARACTERS_MAX) or None,
        query=kept_text(_campaign_first(fetch.query), QUERY_CHARACTERS_MAX) or None,
        verdict=context.verdict,
    )


def unescaped(query: str) -> str:
    """Return a query with `&amp;` read as `&`: mails are escaped twice."""
    return _ESCAPED_AMPERSAND.sub("&", query) if "&amp;" in query else query


def parameters_of(query: str) -> dict[str, str]:
    """Return a query's parameters, percent-decoded once; of a repeated one the first."""
    # No limit on their number: the length of a request's first line is one.
    pairs = parse_qsl(query, keep_blank_values=True, errors="replace")
    return dict(reversed(pairs))


def recipient_of(query: str, parameters: dict[str, str]) -> str:
    """Return the plain recipient of a link.

    A merge tag puts `ann+news@example.org` into a link as it is, where a plus means a space: in
    what is one mail address and no more, the spaces before the `@` are pluses.
    """
    recipient = parameters.get(RECIPIENT, "")
    if " " not in recipient or "@" not in recipient:
        return recipient
    # Only here a plus is a plus, so that blanks at the ends can be told from it.
    literal = parameters_of(query.replace("+", "%2B"))[RECIPIENT].strip()
    return literal.replace(" ", "+") if _MAIL_ADDRESS.fullmatch(literal) else recipient


def kept_query(query: str) -> str:
    """Return a query as it came, without the parameters that are ours."""
    return "&".join(
        part
        for part in query.split("&")
        if unquote_plus(part.partition("=")[0]) not in OWN_PARAMETERS
    )


def _campaign_first(query: str) -> str:
    """Return a query such that of one that is too long the campaign's parameters are kept."""
    if len(query) <= QUERY_CHARACTERS_MAX:
        return query
    parts = sorted(query.split("&"), key=lambda part: not part.startswith("utm_"))
    # No character's escape is cut in two.
    return _CUT_ESCAPE.sub("", "&".join(parts)[:QUERY_CHARACTERS_MAX])


def kept_text(value: str, characters_max: int) -> str:
    """Return what may be kept of `value`: UTF-8 without controls, which terminals obey."""
    begin = value[:characters_max]
    if begin.isascii() and begin.isprintable():  # As nearly all are.
        return begin
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode()
    if not value.isprintable():
        value = without_controls(value)
    return value[:characters_max]


def _first_match(pattern: re.Pattern[str], value: str) -> str | None:
    match = pattern.match(value)
    return match[match.lastindex or 0] if match else None
