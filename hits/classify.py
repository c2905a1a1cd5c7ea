"""What fetched the image: user agent and signals in; class, reason and client out.

Pure: no Flask, no database, no clock, nothing kept but a bounded cache. The rules about user
agents are data, in `hits.user_agents`. First match wins:

1. no user agent: bot
2. Apple Mail Privacy Protection, by its exact user agent: prefetch
3. Gmail's fetch at delivery, by the end of its user agent: prefetch
4. the image proxies of mail providers, sent by a person who opened the mail: open
5. monitors, scanners, browsers that a program drives, by a token of theirs: bot
6. Apple's Mail and others that name no browser: open
7. an agent of nothing but a browser's own words: open
8. robots' words: bot
9. mail programs: open
10. tools and HTTP libraries, crawlers and link previews: bot
11. a browser: open
12. a product and nothing that only a person's program says: bot
13. anything else: open

A header that announces a prefetch goes before all of them. What is an open by these rules, but
came sooner than a person can, is a prefetch after all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from hits import user_agents as rules
from hits.user_agents import RULES_VERSION, Mark, Name

__all__ = ["RULES_VERSION", "Agent", "Verdict", "classify_agent", "classify_hit", "explain"]

USER_AGENT_CHARACTERS_MAX: Final = 512
AGENTS_CACHED_MAX: Final = 2048
TOO_SOON_SECONDS_MAX: Final = 3.0
SOON_SECONDS_MAX: Final = 30.0
CLOCK_SKEW_SECONDS_MAX: Final = 10.0

HitClass = Literal["open", "prefetch", "bot"]
Reason = Literal[
    "prefetch-header",
    "apple-mpp",
    "gmail-prefetch",
    "gmail-proxy",
    "yahoo-proxy",
    "mail-client",
    "crawler",
    "tool",
    "no-agent",
    "browser",
    "unknown",
    "too-soon",
    "soon",
    "burst",
    "document",
    "forged-token",
    "merge-tag",
]
# The class that goes with a reason; a forged token is noted whatever the class, and so is a merge
# tag that nobody replaced by a recipient.
CLASS_OF_REASON: Final[Mapping[Reason, HitClass]] = {
    "prefetch-header": "prefetch",
    "apple-mpp": "prefetch",
    "gmail-prefetch": "prefetch",
    "gmail-proxy": "open",
    "yahoo-proxy": "open",
    "mail-client": "open",
    "crawler": "bot",
    "tool": "bot",
    "no-agent": "bot",
    "browser": "open",
    "unknown": "open",
    "too-soon": "prefetch",
    "soon": "open",
    "burst": "prefetch",
    "document": "open",
}

# What a request tells of itself beside its user agent, as bits that are stored with a hit.
PREFETCH_HEADER: Final = 1
TOO_SOON: Final = 2
FORGED_TOKEN: Final = 4
SOON: Final = 8
MERGE_TAG: Final = 16
BURST: Final = 128
DOCUMENT: Final = 32
# By its client hints: no window, or another browser than its agent says.
HEADLESS: Final = 64
# A hit of a file: it was no news when it was stored.
IMPORTED: Final = 256
# What fetched is not kept, only what was made of it: the verdict can't be made again.
UNKEPT: Final = 512


@dataclass(frozen=True, slots=True)
class Agent:
    """What a user-agent string says by itself.

    browser, os and device are named as Umami names them, with mail clients among the browsers;
    None is unknown, and all three are None for bots and, but for browser, for a provider's proxy.
    own_machine: the person's own machine fetched, so its address may tell the person's country.
    """

    reason: Reason
    browser: str | None = None
    os: str | None = None
    device: str | None = None
    own_machine: bool = False

    @property
    def hit_class(self) -> HitClass:
        """The class that goes with the reason."""
        return CLASS_OF_REASON[self.reason]


class Verdict(NamedTuple):
    """What one hit is, by a reason of ours or by a rule of the operator's.

    Look a country up only where own_machine is true.
    """

    hit_class: HitClass
    reason: str
    own_machine: bool


class Decision(NamedTuple):
    """What an agent is, what decided it, and why that does."""

    agent: Agent
    matched: str
    why: str


def classify_hit(agent: Agent, signals: int = 0) -> Verdict:
    """Return the verdict on one hit from its agent and its signals, PREFETCH_HEADER and so on.

    A prefetch that a header announces comes from the person's own browser, so own_machine stays
    as the agent has it. What comes too soon is a gateway that the mail passes (gophish#1390,
    #973), whatever its agent says. A forged token is the reason to be told, and changes no class.
    """
    verdict = Verdict(agent.hit_class, agent.reason, agent.own_machine)
    if signals & PREFETCH_HEADER:
        verdict = Verdict("prefetch", "prefetch-header", agent.own_machine)
    elif signals & TOO_SOON and agent.hit_class == "open":
        verdict = Verdict("prefetch", "too-soon", False)
    elif signals & BURST and agent.hit_class == "open":
        verdict = Verdict("prefetch", "burst", False)
    elif agent.reason == "browser":
        verdict = _browsers_hit(agent, signals)
    if signals & MERGE_TAG:
        verdict = verdict._replace(reason="merge-tag")
    return verdict._replace(reason="forged-token") if signals & FORGED_TOKEN else verdict


def _browsers_hit(agent: Agent, signals: int) -> Verdict:
    """Return the verdict on a browser's hit: only browsers' headers can be held against them."""
    if signals & HEADLESS:
        return Verdict("bot", "crawler", False)
    if signals & DOCUMENT:
        return Verdict("open", "document", agent.own_machine)
    return Verdict("open", "soon" if signals & SOON else "browser", agent.own_machine)


def signal_of_delay(seconds_since_sent: float) -> int:
    """Return the signal of a hit that came so many seconds after its mail was sent, 0 for none.

    Nobody opens a mail within 3 s; gateways fetch up to 30 s after sending (gophish#2803). A
    sender's clock may be ahead of ours, so a little below zero is at once. Far below zero the
    time of sending is wrong or was only planned, and proves nothing.
    """
    if -CLOCK_SKEW_SECONDS_MAX <= seconds_since_sent <= TOO_SOON_SECONDS_MAX:
        return TOO_SOON
    return SOON if TOO_SOON_SECONDS_MAX < seconds_since_sent <= SOON_SECONDS_MAX else 0


def classify_agent(user_agent: str) -> Agent:
    """Return what a user-agent string says. Never raises, whatever the string.

    Only the first USER_AGENT_CHARACTERS_MAX characters count, so that no string is slow: store no
    more than these, and classifying again sees what the first time saw.
    """
    return _cut(user_agent)[0]


def explain(user_agent: str) -> Decision:
    """Return what a user-agent string says, with the row of the rules that decides it."""
    agent, row = _cut(user_agent)
    match row:
        case Mark(pattern=None):
            return Decision(agent, " or ".join(sorted(row.words)), row.why)
        case Mark():
            assert row.pattern is not None
            return Decision(agent, row.pattern.pattern, row.why)
        case Name():
            return Decision(agent, " and ".join(row.words), row.why)
        case matched, why:
            return Decision(agent, matched, why)


Row = Mark | Name | tuple[str, str]
Found = tuple[Agent, Row]
_NO_AGENT = ("(nothing)", "what people read with names itself")
_BARE = ("(no word of a browser, a system or a device)", "a product by itself is a tool")
_STARTS = ("its first word", "a language or a library, by its own name")
_APPLE_MAIL = ("(WebKit that names no browser)", "Mail on an iPhone or an iPad sends it")
_STRIPPED = ("(WebKit that names no browser)", "Mail on a Mac, Outlook and others send it")
_GLUED = ("Bot", "`Bot` is glued to what follows")
_UNNAMED = ("(no row)", "nothing in it is known")


def _cut(user_agent: str) -> Found:
    # HTTP does not count the blanks around a header's value, so neither does an exact match.
    return _decide(user_agent[:USER_AGENT_CHARACTERS_MAX].strip(" \t"))


@lru_cache(maxsize=AGENTS_CACHED_MAX)
def _decide(user_agent: str) -> Found:
    if not user_agent:
        return Agent("no-agent"), _NO_AGENT
    text = _text_of(user_agent)
    return (
        _mail_provider(text)
        or _by_token(rules.ROBOT_TOKENS, text.tokens, "crawler")
        or _bare_webkit(text)
        or _ordinary_browser(text)
        or _robot(text)
        or _mail_client(text)
        or _tool(text)
        or _crawler(text)
        or _browser(text)
        or _unnamed(text)
    )


class AgentText(NamedTuple):
    """A user agent as it is looked at: as written, in lower case, and what it has of the rules'."""

    written: str
    lowered: str
    tokens: frozenset[str]
    words: set[str]

    def has_one_of(self, words: frozenset[str]) -> bool:
        """Tell whether one of the rules' words stands in it."""
        return not self.words.isdisjoint(words)


# What is neither a letter nor a digit separates tokens.
_TO_TOKENS: Final = bytes(
    place if chr(place).isascii() and chr(place).isalnum() else ord(" ") for place in range(256)
)


def _text_of(user_agent: str) -> AgentText:
    # Every word of the rules is ASCII, and looking through wider strings takes twice as long.
    text = user_agent.encode("ascii", "replace").lower()
    tokens = text.translate(_TO_TOKENS).decode().split()
    return AgentText(
        user_agent,
        text.decode(),
        rules.TOKENS.intersection(tokens),
        rules.VOCABULARY.words_in(text),
    )


def _mail_provider(text: AgentText) -> Found | None:
    if text.written == rules.APPLE_MPP:
        agent = Agent("apple-mpp", browser="apple-mail")
        return agent, (text.written, "Apple's relay says this and nothing else (uap-core#509)")
    if text.written.endswith(rules.GMAIL_PREFETCH_END):
        agent = Agent("gmail-prefetch", browser="gmail-proxy")
        return agent, (f"… {rules.GMAIL_PREFETCH_END}", "Gmail at delivery (mautic#10245)")
    for row in rules.MAIL_PROXIES:
        if text.words.issuperset(row.words):
            return Agent(_REASON_OF_PROXY.get(row.name, "mail-client"), browser=row.name), row
    return None


_REASON_OF_PROXY: Mapping[str, Reason] = {
    "gmail-proxy": "gmail-proxy",
    "yahoo-proxy": "yahoo-proxy",
}


def _by_token(table: Mapping[str, str], tokens: frozenset[str], reason: Reason) -> Found | None:
    if tokens.isdisjoint(table):
        return None
    token = min(tokens & table.keys())
    return Agent(reason), (token, table[token])


def _bare_webkit(text: AgentText) -> Found | None:
    if rules.STRIPPED_WEBKIT.fullmatch(text.written):
        return Agent("mail-client"), _STRIPPED
    if rules.APPLE_MAIL.fullmatch(text.written):
        return _mail_program("apple-mail", text), _APPLE_MAIL
    return None


def _ordinary_browser(text: AgentText) -> Found | None:
    return _browser(text) if rules.ORDINARY_BROWSER.fullmatch(text.written) else None


def _robot(text: AgentText) -> Found | None:
    mark = _marked(rules.ROBOT_MARKS, text)
    if mark is None and rules.GLUED_BOT.search(text.written):
        return Agent("crawler"), _GLUED
    return mark and (Agent("crawler"), mark)


def _mail_client(text: AgentText) -> Found | None:
    row = _named(rules.MAIL_CLIENTS_BY_TOKEN, text)
    if row is not None:
        return _mail_program(row.name, text), row
    named = _marked((rules.MAIL_NAME,), text)
    if named and named.pattern and (match := named.pattern.search(text.lowered)):
        return _mail_program(_name_of(match[1], text), text), named
    return None


def _name_of(product: str, text: AgentText) -> str | None:
    """Return the name of a mail program that we have no row for, by what it calls itself."""
    if product == "mail":
        return "apple-mail" if "cfnetwork" in text.lowered else None
    return re.sub(r"%20|[._]", "-", product)


def _mail_program(name: str | None, text: AgentText) -> Agent:
    device = _device(text) or ("desktop" if name in rules.DESKTOP_MAIL_CLIENTS else None)
    return Agent("mail-client", name, _system(text), device, own_machine=True)


def _tool(text: AgentText) -> Found | None:
    found = _by_token(rules.TOOL_TOKENS, text.tokens, "tool")
    if found:
        return found
    mark = _marked(rules.TOOL_MARKS, text)
    if mark is None and rules.TOOL_START.match(text.lowered):
        return Agent("tool"), _STARTS
    return mark and (Agent("tool"), mark)


def _crawler(text: AgentText) -> Found | None:
    mark = _marked(rules.CRAWLER_MARKS, text)
    if mark is not None:
        return Agent("crawler"), mark
    for token in sorted(text.tokens & rules.LISTED_CRAWLERS.keys()):
        for pattern in rules.LISTED_CRAWLERS[token]:
            if rules.compiled(pattern).search(text.written):
                return Agent("crawler"), (pattern, "crawler-user-agents lists it")
    return None


def _browser(text: AgentText) -> Found | None:
    row = _named(rules.BROWSERS_BY_TOKEN, text)
    if row is None:
        return None
    return Agent("browser", row.name, _system(text), _device(text), own_machine=True), row


def _unnamed(text: AgentText) -> Found:
    if not text.has_one_of(rules.PERSON_WORDS):
        if _is_product(text):
            return Agent("tool"), _BARE
        return Agent("unknown", own_machine=True), _UNNAMED
    return Agent("unknown", None, _system(text), _device(text), own_machine=True), _UNNAMED


def _is_product(text: AgentText) -> bool:
    return bool(
        not text.tokens.isdisjoint(rules.TRADE_TOKENS)
        or rules.BARE_PRODUCT.search(text.lowered)
        or rules.BARE_WORD.fullmatch(text.lowered)
        or rules.TOP_LEVEL_DOMAIN.search(text.lowered)
    )


def _system(text: AgentText) -> str | None:
    for row in rules.SYSTEMS:
        if text.words.issuperset(row.words):
            return row.name
    for name, word, pattern in rules.SYSTEM_MARKS:
        if word in text.lowered and pattern.search(text.lowered):
            return name
    return None


def _device(text: AgentText) -> str | None:
    """Return desktop, mobile or tablet; Umami's laptop needs a screen's width."""
    lowered = text.lowered
    if text.has_one_of(rules.NO_DEVICE):
        return None
    if "aft" in lowered and rules.FIRE_TV.search(lowered):
        return None
    if text.has_one_of(rules.TABLET) or ("tablet" in lowered and "tablet pc" not in lowered):
        return "tablet"
    if text.has_one_of(rules.MOBILE):
        return "mobile"
    # Android's browsers say Mobile on a telephone and nothing on a tablet. Its other programs
    # say nothing on either.
    if "android" in lowered:
        return "tablet" if lowered.startswith("mozilla/") else "mobile"
    return "desktop" if text.has_one_of(rules.DESKTOP) else None


def _marked(marks: Iterable[Mark], text: AgentText) -> Mark | None:
    """Return the first row that tells what an agent is."""
    # Most odd strings have no word of the rules.
    for mark in marks if text.words else ():
        if (
            text.has_one_of(mark.words)
            and not text.has_one_of(mark.unless)
            and (mark.pattern is None or mark.pattern.search(text.lowered))
        ):
            return mark
    return None


def _named(index: rules.Index, text: AgentText) -> Name | None:
    """Return the first row whose words all stand in the user agent."""
    if text.tokens.isdisjoint(index):
        return None
    found = [
        (place, row)
        for token in text.tokens & index.keys()
        for place, row in index[token]
        if all(word in text.lowered for word in row.words)
    ]
    return min(found)[1] if found else None
