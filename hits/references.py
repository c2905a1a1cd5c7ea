"""What a hit refers to: its visitor, and its context, which is stored once for all hits alike.

Ids are 64-bit hashes, so that nothing has to be read back to refer to a row, and every process and
node finds the same id. Rows that are stored already are remembered; the others are inserted in the
hit's own transaction.

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
from hits.agent_names import agent_names_of
from hits.classify import RULES_VERSION, Verdict, classify_agent, classify_hit
from hits.people import Addressee, Attribution, attributions
from models import MS_PER_DAY, Profile, Recipient, Salt, Text, UserAgent

# Each is forgotten as a whole when it is full: a row is then offered once more, and is there.
STORED_MAX = 20_000
PEOPLE_KEPT_MAX = 20_000
PROFILES_MAX = 8_000
SALT_BYTES = 32

# A row's table, its pixel's number (0 where rows serve all pixels), and its id.
Key = tuple[Table, int, int]


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
    """Whom a hit is attributed to: the addressee of its link, or else an address and agent."""

    address: str
    addressee: Addressee | None = None
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


class HitRow(NamedTuple):
    """A row of `hits` before it has an id; `at_ms` only where a caller has said it.

    `source` tells who fetched, only where the hit may be one of a burst (`hits.bursts`).
    """

    pixel_number: int
    visitor: int | None
    profile: int
    at_ms: int | None
    source: int | None = None


class References:
    """Knows which rows are stored, which have to be, and the salt of `day`, for one process."""

    def __init__(self, rules_version: int = RULES_VERSION) -> None:
        self._rules_version = rules_version
        self._stored: set[Key] = set()
        # What hits refer to and no transaction has committed yet.
        self._unstored: dict[Key, dict[str, Any]] = {}
        self._profiles: dict[tuple[int, HitContext], int] = {}
        self._people: dict[tuple[int, Addressee], Attribution] = {}
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

    def knows(self, pixel_number: int, identity: Identity | None) -> bool:
        """Tell whether it is known whose hits these are."""
        addressee = identity and identity.addressee
        return addressee is None or (pixel_number, addressee) in self._people

    def find_people(
        self, connection: Connection, links: Links, wanted: Iterable[tuple[int, Identity | None]]
    ) -> None:
        """Learn whose the hits of some links are; holds for the catalogue's version."""
        if len(self._people) > PEOPLE_KEPT_MAX:
            self._people = {}
        unknown: dict[int, set[Addressee]] = {}
        for pixel_number, identity in wanted:
            if identity and identity.addressee and not self.knows(pixel_number, identity):
                unknown.setdefault(pixel_number, set()).add(identity.addressee)
        for pixel_number, addressees in unknown.items():
            found = attributions(connection, links, pixel_number, addressees)
            for addressee, attribution in found.items():
                self._people[pixel_number, addressee] = attribution

    def row(
        self, pixel_number: int, context: HitContext, identity: Identity | None, at_ms: int | None
    ) -> HitRow:
        """Return a hit's row, and remember what it refers to for `store`.

        `at_ms` only where a caller has said when the hit was: it may be of another day than today.
        """
        # The salt is today's: on another day the same address is somebody else.
        day = None if at_ms is None else at_ms // MS_PER_DAY
        visitor = self.visitor(pixel_number, context, identity, day)
        profile = self.profile(pixel_number, context)
        # When others fetched is known only of hits that are dated now.
        source = None if at_ms is not None else self._source(context, identity)
        return HitRow(pixel_number, visitor, profile, at_ms, source)

    def visitor(
        self,
        pixel_number: int,
        context: HitContext,
        identity: Identity | None,
        day: int | None = None,
    ) -> int | None:
        """Return who came, None where that may not be known; `day` if it is not the salt's."""
        if identity is None:
            return None
        found = identity.addressee and self._people[pixel_number, identity.addressee]
        if found is None or found.is_anonymous:
            fingerprint = f"{pixel_number} {identity.address} {context.user_agent}"
            if day is not None and day != self.day:
                fingerprint = f"{fingerprint} {day}"
            return _hash(fingerprint, key=self._salt)
        if found.visitor is not None and found.row is not None:
            self._refer(Recipient.__table__, pixel_number, found.visitor, found.row)
        return found.visitor

    def profile(self, pixel_number: int, context: HitContext) -> int:
        """Return the profile of a context, classified by today's rules."""
        known = self._profiles.get((pixel_number, context))
        if known is not None:
            return known
        user_agent, signals, country, language, hostname, referrer, query, verdict = context
        agent = _hash(user_agent)
        self._refer(UserAgent.__table__, 0, agent, _agent_row(agent, user_agent))
        verdict = verdict or classify_hit(classify_agent(user_agent), signals)
        profile = _hash(repr(tuple(context)))
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
            "referrer": self._text(pixel_number, referrer),
            "query": self._text(pixel_number, query),
        }
        self._refer(Profile.__table__, pixel_number, profile, row)
        # To forget the oldest only would cost each hit an order, and they are soon known again.
        if len(self._profiles) >= PROFILES_MAX:
            self._profiles = {}
        self._profiles[pixel_number, context] = profile
        return profile

    @property
    def has_unstored(self) -> bool:
        """Tell whether hits refer to rows that may not be stored yet."""
        return bool(self._unstored)

    def store(self, connection: Connection) -> None:
        """Insert the rows that may not be stored yet.

        In one order everywhere: on PostgreSQL a row waits for another transaction's with the
        same key, and two that came in different orders would wait for each other.
        """
        by_table: dict[Table, list[dict[str, Any]]] = {}
        for (table, _, _), row in sorted(self._unstored.items(), key=_place):
            by_table.setdefault(table, []).append(row)
        for table, rows in by_table.items():
            connection.execute(insert_unless_there(connection, table), rows)

    def learn(self) -> None:
        """Remember that the transaction which inserted the rows has been committed."""
        if len(self._stored) + len(self._unstored) > STORED_MAX:
            self._stored = set()
        self._stored.update(self._unstored)
        self._unstored = {}

    def forget(self) -> None:
        """Remember nothing: a transaction failed, or rows, the salt's too, may be others now."""
        self._stored = set()
        self._unstored = {}
        self._profiles = {}
        self._people = {}
        self.day, self._salt = -1, b""

    def _source(self, context: HitContext, identity: Identity | None) -> int | None:
        """Return a hash of address and agent, which nobody can compute without the day's salt."""
        if identity is None or not identity.is_watched or not self._salt:
            return None
        return _hash(f"{identity.address} {context.user_agent}", key=self._salt)

    def _text(self, pixel_number: int, value: str | None) -> int | None:
        if value is None:
            return None
        text = _hash(value)
        return self._refer(Text.__table__, pixel_number, text, {"id": text, "value": value})

    def _refer(self, table: Any, pixel_number: int, id: int, row: dict[str, Any]) -> int:
        key = (table, pixel_number, id)
        if key not in self._stored:
            self._unstored[key] = {"pixel_number": pixel_number, **row} if pixel_number else row
        return id


def _agent_row(id: int, user_agent: str) -> dict[str, Any]:
    names = agent_names_of(user_agent)._asdict()
    return {"id": id, "user_agent": user_agent, "rules_version": RULES_VERSION, **names}


def _place(item: tuple[Key, dict[str, Any]]) -> tuple[str, int, int]:
    table, pixel_number, id = item[0]
    return table.name, pixel_number, id


def _hash(value: str, key: bytes = b"") -> int:
    # Signed, since that is what a column of 64 bits holds on both databases.
    digest = hashlib.blake2b(value.encode(), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big", signed=True)
