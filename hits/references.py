"""What a hit refers to: its visitor, and its circumstances, which are stored once.

Ids are 64-bit hashes, so that nothing need be read back to refer to a row, and any process or
node comes to the same id. Rows that are stored already are remembered; the recorder inserts the
others in the hit's own transaction.

An address goes into a keyed hash here and nowhere else.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, Table, cast, delete, select

from core.clock import SteadyClock, boot, since_boot_ms
from core.database import insert_unless_there
from core.links import Links
from hits.agent_names import names_of
from hits.classify import RULES_VERSION, Verdict, classify_agent, classify_hit
from hits.people import Named, Whose, whose
from models import MS_PER_DAY, Profile, Recipient, Salt, Text, UserAgent

# Each is forgotten as a whole when it is full: a row is then offered once more, and is there.
KNOWN_MAX = 20_000
PEOPLE_MAX = 20_000
PROFILES_MAX = 8_000
SALT_BYTES = 32

# The rows of one transaction that may have to be stored: table and key → values.
Key = tuple[Table, int, int]
Rows = dict[Key, dict[str, Any]]


class HitContext(NamedTuple):
    """What a hit has in common with others of its pixel; all of it may be stored.

    `verdict` is there where `user_agent` is not what the hit came with.
    """

    user_agent: str
    signals: int = 0
    country: str | None = None
    language: str | None = None
    hostname: str | None = None
    referrer: str | None = None
    query: str | None = None
    # The verdict where the agent doesn't give it: it isn't kept, or a rule of the operator's does.
    verdict: Verdict | None = None


class Identity(NamedTuple):
    """Whom a hit is attributed to: whom its link names, else whoever has this address and agent."""

    address: str
    named: Named | None = None
    # Whether the fetch may be one of a burst, so that its source is worth knowing for a minute.
    is_watched: bool = False


def is_over(today: int) -> ColumnElement[bool]:
    """Return the condition for a salt whose UTC day is over.

    What has passed since it was made on this machine says so, and not what the clock was set to
    since: a day that the clock jumped over is not over, and its visitors come back. Of a salt that
    another machine made, or this one before it was started, `today` does.
    """
    end_ms = (cast(Salt.day, BigInteger) + 1) * MS_PER_DAY
    is_ours = Salt.boot == boot()
    by_clock = (Salt.boot.is_(None) | (Salt.boot != boot())) & (Salt.day < today)
    return (is_ours & (Salt.clock_offset_ms + since_boot_ms() >= end_ms)) | by_clock


class References:
    """Knows which rows are stored, and the salt of `day`, for one process."""

    def __init__(self, rules_version: int = RULES_VERSION) -> None:
        self._rules_version = rules_version
        self._known: set[Key] = set()
        self._profiles: dict[tuple[int, HitContext], int] = {}
        self._people: dict[tuple[int, Named], Whose] = {}
        self.day = -1
        self._salt = b""
        self._clock = SteadyClock()

    def use_salt_of(self, connection: Connection, at_ms: int) -> None:
        """Take the salt of an instant's UTC day, which all processes share; the first makes it.

        Making a day's salt deletes those whose day is over: from then on nobody can compute what
        they made (`docs/privacy.md`).
        """
        day = at_ms // MS_PER_DAY
        if self.day == day:
            return
        today = self._clock.read(at_ms) // MS_PER_DAY
        salt = connection.scalar(select(Salt.salt).where(Salt.day == day))
        if salt is None:
            connection.execute(delete(Salt).where(is_over(today)))
            row = {
                "day": day,
                "salt": secrets.token_bytes(SALT_BYTES),
                "boot": boot(),
                "clock_offset_ms": at_ms - since_boot_ms(),
            }
            connection.execute(insert_unless_there(connection, Salt.__table__), row)
            salt = connection.scalar(select(Salt.salt).where(Salt.day == day))
        self.day, self._salt = day, bytes(salt or b"")

    def knows(self, pixel_number: int, who: Identity | None) -> bool:
        """Tell whether it is known whose hits these are."""
        return who is None or who.named is None or (pixel_number, who.named) in self._people

    def find_people(
        self, connection: Connection, links: Links, wanted: Iterable[tuple[int, Identity | None]]
    ) -> None:
        """Learn whose the hits of some links are; holds for the catalogue's version."""
        if len(self._people) > PEOPLE_MAX:
            self._people = {}
        unknown: dict[int, set[Named]] = {}
        for pixel_number, who in wanted:
            if who and who.named and (pixel_number, who.named) not in self._people:
                unknown.setdefault(pixel_number, set()).add(who.named)
        for pixel_number, named in unknown.items():
            for each, found in whose(connection, links, pixel_number, named).items():
                self._people[pixel_number, each] = found

    def visitor(
        self,
        pixel_number: int,
        circumstances: HitContext,
        who: Identity | None,
        new: Rows,
        day: int | None = None,
    ) -> int | None:
        """Return who came, None where that may not be known; `day` if it is not the salt's."""
        if who is None:
            return None
        found = who.named and self._people[pixel_number, who.named]
        if found is None or found.is_anonymous:
            seen = f"{pixel_number} {who.address} {circumstances.user_agent}"
            if day is not None and day != self.day:
                seen = f"{seen} {day}"
            return _hash(seen, key=self._salt)
        if found.visitor is not None and found.row is not None:
            self._refer(Recipient.__table__, pixel_number, found.visitor, found.row, new)
        return found.visitor

    def source(self, circumstances: HitContext, who: Identity | None) -> int | None:
        """Return a hash of who fetched, which nobody can compute once the day's salt is gone."""
        if who is None or not who.is_watched or not self._salt:
            return None
        return _hash(f"{who.address} {circumstances.user_agent}", key=self._salt)

    def profile(self, pixel_number: int, circumstances: HitContext, new: Rows) -> int:
        """Return the profile of these circumstances, classified by today's rules."""
        known = self._profiles.get((pixel_number, circumstances))
        if known is not None:
            return known
        user_agent, signals, country, language, hostname, referrer, query, verdict = circumstances
        agent = _hash(user_agent)
        self._refer(UserAgent.__table__, 0, agent, _agent_row(agent, user_agent), new)
        verdict = verdict or classify_hit(classify_agent(user_agent), signals)
        profile = _hash(repr(tuple(circumstances)))
        row = {
            "id": profile,
            "hit_class": verdict.hit_class,
            "reason": verdict.reason,
            "rules_version": self._rules_version,
            "signals": signals,
            "agent": agent,
            "country": country,
            "language": language,
            "hostname": hostname,
            "referrer": self._text(pixel_number, referrer, new),
            "query": self._text(pixel_number, query, new),
        }
        self._refer(Profile.__table__, pixel_number, profile, row, new)
        if len(self._profiles) >= PROFILES_MAX:
            self._profiles = {}
        self._profiles[pixel_number, circumstances] = profile
        return profile

    def store(self, connection: Connection, new: Rows) -> None:
        """Insert the rows that may not be there yet.

        In one order everywhere: on PostgreSQL a row waits for another transaction's with the
        same key, and two that came in different orders would wait for each other.
        """
        by_table: dict[Table, list[dict[str, Any]]] = {}
        for (table, _, _), row in sorted(new.items(), key=_place):
            by_table.setdefault(table, []).append(row)
        for table, rows in by_table.items():
            connection.execute(insert_unless_there(connection, table), rows)

    def learn(self, new: Rows) -> None:
        """Remember rows that a transaction has committed."""
        if len(self._known) + len(new) > KNOWN_MAX:
            self._known = set()
        self._known.update(new)

    def forget(self) -> None:
        """Remember nothing: a transaction failed, or rows, the salt's too, may be others now."""
        self._known = set()
        self._profiles = {}
        self._people = {}
        self.day, self._salt = -1, b""

    def _text(self, pixel_number: int, value: str | None, new: Rows) -> int | None:
        if value is None:
            return None
        text = _hash(value)
        return self._refer(Text.__table__, pixel_number, text, {"id": text, "value": value}, new)

    def _refer(self, table: Any, pixel_number: int, id: int, row: dict[str, Any], new: Rows) -> int:
        key = (table, pixel_number, id)
        if key not in self._known:
            new[key] = {"pixel_number": pixel_number, **row} if pixel_number else row
        return id


def _agent_row(id: int, user_agent: str) -> dict[str, Any]:
    names = names_of(user_agent)._asdict()
    return {"id": id, "user_agent": user_agent, "rules_version": RULES_VERSION, **names}


def _place(item: tuple[Key, dict[str, Any]]) -> tuple[str, int, int]:
    table, pixel_number, id = item[0]
    return table.name, pixel_number, id


def _hash(value: str, key: bytes = b"") -> int:
    digest = hashlib.blake2b(value.encode(), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big", signed=True)
