"""The operator's own rules about hits, read from a TOML file at the start. They come first.

    own = ["198.51.100.0/24"]             # our own networks: bots, with the reason `own`

    [[rule]]
    name = "printer"                      # told as the reason `rule:printer`
    contains = "PrintView"                # in the user agent, whatever its case
    class = "bot"

    [[rule]]
    name = "gateway"
    network = ["192.0.2.0/24", "2001:db8::/32"]
    seconds = 60                          # at most so many since the mail was sent
    class = "prefetch"

    [burst]
    people = 8                            # 0 looks for no bursts
    seconds = 1.5

A rule applies where all that it asks is so; the first that applies decides. `matches` is a regular
expression in place of `contains`.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

from core.settings import SettingsError
from hits.bursts import Thresholds
from hits.classify import CLOCK_SKEW_SECONDS_MAX, RULES_VERSION, Agent, HitClass, Verdict

RULES_MAX: Final = 200
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,14}")
PATTERN_CHARACTERS_MAX: Final = 200
SECONDS_MAX: Final = 86_400
PEOPLE_MAX: Final = 10_000
BURST_SECONDS_MAX: Final = 30
OWN: Final = "own"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; what it doesn't ask is None or empty."""

    reason: str
    hit_class: HitClass
    contains: str | None = None
    matches: re.Pattern[str] | None = None
    networks: tuple[Network, ...] = ()
    seconds: float | None = None

    @property
    def asks_the_agent_only(self) -> bool:
        """Whether stored hits can be asked too: neither address nor time of sending is kept."""
        return not self.networks and self.seconds is None

    def verdict(self, agent: Agent) -> Verdict:
        """Return what the rule makes of a hit."""
        return Verdict(self.hit_class, self.reason, agent.own_machine and self.hit_class != "bot")

    @property
    def asks(self) -> str:
        """What the rule asks, for people to read."""
        asked = {
            "contains": self.contains,
            "matches": self.matches and self.matches.pattern,
            "network": ", ".join(map(str, self.networks)),
            "seconds": self.seconds,
        }
        return ", ".join(f"{name} {value}" for name, value in asked.items() if value)

    def applies(self, agent: str, address: Address | None, seconds: float | None) -> bool:
        """Tell whether all that the rule asks is so."""
        return (
            (self.contains is None or self.contains in agent.lower())
            and (self.matches is None or self.matches.search(agent) is not None)
            and (not self.networks or _is_in(address, self.networks))
            and (self.seconds is None or _is_within(seconds, self.seconds))
        )


@dataclass(frozen=True, slots=True)
class OperatorRules:
    """All rules, in their order, and what makes a burst."""

    rules: tuple[Rule, ...] = ()
    burst: Thresholds = field(default_factory=Thresholds)

    @property
    def version(self) -> int:
        """The version that hits are classified under: ours, and another for other rules."""
        if not self.rules:
            return RULES_VERSION
        return RULES_VERSION + 1_000 * (1 + zlib.crc32(repr(self.rules).encode()) % 1_000_000)

    def find(self, agent: str, address: str = "", seconds: float | None = None) -> Rule | None:
        """Return the first rule that applies to a hit; `seconds` since its mail was sent."""
        if not self.rules:
            return None
        known = _address(address)
        return next((rule for rule in self.rules if rule.applies(agent, known, seconds)), None)

    def find_again(self, agent: str, reason: str) -> Rule | None:
        """Return the first rule that applies to a stored hit, as far as that can be told.

        What a rule asked that isn't kept is taken to be still so where the hit has its reason.
        """
        for rule in self.rules:
            asks_more = not rule.asks_the_agent_only
            if asks_more and rule.reason == reason:
                return rule
            if not asks_more and rule.applies(agent, None, None):
                return rule
        return None


def load(path: Path | None) -> OperatorRules:
    """Read a file of rules; without one there are none.

    Raises: SettingsError, in one line, for what can't be read or isn't a rule.
    """
    if path is None:
        return OperatorRules()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return _parsed(content)
    except (OSError, ValueError) as error:
        raise SettingsError(f"PIXELKEEP_RULES={path} can't be used: {error}") from None


def _parsed(content: dict[str, Any]) -> OperatorRules:
    _only(content, "the file", {"own", "rule", "burst"})
    rules = content.get("rule", [])
    if not isinstance(rules, list) or not all(isinstance(table, dict) for table in rules):
        raise ValueError("rules are written as [[rule]]")
    if len(rules) > RULES_MAX:
        raise ValueError(f"{len(rules)} rules are more than {RULES_MAX}")
    parsed = [_rule(table, place) for place, table in enumerate(rules, 1)]
    reasons = [rule.reason for rule in parsed]
    twice = next((reason for reason in reasons if reasons.count(reason) > 1), None)
    if twice:
        raise ValueError(f"{twice.removeprefix('rule:')!r} is the name of two rules")
    if "own" in content:
        networks = _networks(content["own"], "own")
        parsed.insert(0, Rule(OWN, "bot", networks=networks))
    return OperatorRules(tuple(parsed), _burst(content.get("burst", {})))


def _rule(table: dict[str, Any], place: int) -> Rule:
    name = table.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"rule {place} needs a name of up to 15 of a-z, 0-9, - and _")
    where = f"rule {name!r}"
    _only(table, where, {"name", "class", "contains", "matches", "network", "seconds"})
    hit_class: Any = table.get("class")
    if hit_class not in get_args(HitClass):
        raise ValueError(f"{where}: class is open, prefetch or bot")
    if not {"contains", "matches", "network", "seconds"} & table.keys():
        raise ValueError(f"{where} asks nothing: contains, matches, network or seconds")
    contains = table.get("contains")
    if contains is not None and (not isinstance(contains, str) or not contains):
        raise ValueError(f"{where}: contains is a text")
    return Rule(
        f"rule:{name}",
        hit_class,
        contains and contains.lower(),
        _pattern(table["matches"], where) if "matches" in table else None,
        _networks(table["network"], where) if "network" in table else (),
        _number(table["seconds"], f"{where}: seconds", SECONDS_MAX) if "seconds" in table else None,
    )


_QUANTIFIED_GROUP = re.compile(r"(?<!\\)\)[*+{]")
_UNBOUNDED = re.compile(r"(?<!\\)(?:[*+]|\{\d*,\})")
_REFERENCE = re.compile(r"\\[1-9]|\(\?P=|\(\?[=!<]")


def _pattern(expression: Any, where: str) -> re.Pattern[str]:
    """Compile an expression that no agent, of 512 characters at most, can make slow."""
    if not isinstance(expression, str) or not 0 < len(expression) <= PATTERN_CHARACTERS_MAX:
        raise ValueError(f"{where}: matches is a text of up to {PATTERN_CHARACTERS_MAX} characters")
    # What is in a class of characters repeats nothing.
    bare = re.sub(r"\[\^?\]?(?:\\.|[^\]\\])*\]", "x", expression)
    if _REFERENCE.search(bare) or _QUANTIFIED_GROUP.search(bare):
        raise ValueError(f"{where}: matches may neither look around nor repeat a group")
    if len(_UNBOUNDED.findall(bare)) > 1:
        raise ValueError(f"{where}: matches may have one of *, + and {{n,}} only")
    try:
        return re.compile(expression)
    except re.error as error:
        raise ValueError(f"{where}: matches is no regular expression: {error}") from None


def _networks(networks: Any, where: str) -> tuple[Network, ...]:
    texts = networks if isinstance(networks, list) else [networks]
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _burst(table: Any) -> Thresholds:
    if not isinstance(table, dict):
        raise ValueError("burst is written as [burst]")
    _only(table, "burst", {"people", "seconds", "above_usual"})
    default = Thresholds()
    people = table.get("people", default.people)
    if not isinstance(people, int) or isinstance(people, bool) or people == 1 or people < 0:
        raise ValueError("burst: people is 0, for none, or a whole number from 2")
    return Thresholds(
        min(people, PEOPLE_MAX),
        _number(table.get("seconds", default.seconds), "burst: seconds", BURST_SECONDS_MAX),
        _number(table.get("above_usual", default.above_usual), "burst: above_usual", 100),
    )


def _number(value: Any, what: str, highest: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= highest:
        raise ValueError(f"{what} is a number above 0, up to {highest:g}")
    return float(value)


def _only(table: dict[str, Any], where: str, known: Iterable[str]) -> None:
    unknown = next((name for name in table if name not in known), None)
    if unknown is not None:
        raise ValueError(f"{where} has no {unknown!r}; it may have {', '.join(sorted(known))}")


def _address(text: str) -> Address | None:
    try:
        known = ipaddress.ip_address(text.partition("%")[0].partition("/")[0])
    except ValueError:
        return None
    mapped = known.ipv4_mapped if isinstance(known, ipaddress.IPv6Address) else None
    return mapped or known


def _is_in(address: Address | None, networks: tuple[Network, ...]) -> bool:
    return address is not None and any(address in network for network in networks)


def _is_within(seconds: float | None, highest: float) -> bool:
    return seconds is not None and -CLOCK_SKEW_SECONDS_MAX <= seconds <= highest
