"""Hits of a file, stored as hits of today that are dated, and classified by today's rules.

A row is known by its id in the file, whose hash is stored with the hit, in one small transaction:
whoever stops it leaves whole hits, and runs it again for the others. The hashes outlive their hits,
so that what retention, or somebody who was forgotten, has taken away doesn't come back.

A visitor without a name is somebody else on another day, as with all hits.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, insert, select

from core.clock import database_now_ms
from core.database import db
from core.errors import BadRequest, NotFound
from core.links import RECIPIENT_CHARACTERS_MAX, Links
from core.locks import writing
from hits import classify
from hits.agent_names import OTHER
from hits.classify import CLASS_OF_REASON, HitClass, Verdict, classify_agent, classify_hit
from hits.intake import Fetch, kept_query, kept_text, of_nobody, of_person
from hits.operator_rules import OperatorRules
from hits.people import Addressee, attributions
from hits.recorder import next_id
from hits.references import HitContext, Identity, References
from models import HIT_ID_SHIFT, Catalogue, Hit, ImportedHit, Pixel
from pixels.import_files import FileRow
from stats.ids import hit_id
from stats.instants import INSTANT_MS

ROWS_AT_ONCE = 500
# What a request told of itself beside its agent, as our own export has it.
SIGNALS = {
    "prefetch-header": classify.PREFETCH_HEADER,
    "too-soon": classify.TOO_SOON,
    "soon": classify.SOON,
    "burst": classify.BURST,
    "document": classify.DOCUMENT,
    "forged-token": classify.FORGED_TOKEN,
    "merge-tag": classify.MERGE_TAG,
}
_NUMBER_BITS = 54
_CLASSES: dict[str, HitClass] = {hit_class: hit_class for hit_class in CLASS_OF_REASON.values()}


class Chunk(NamedTuple):
    """How many rows were stored just now, and how many of these became hits."""

    rows: int
    hits: int


class _State(NamedTuple):
    """What is true of the pixel and the catalogue until the transaction ends."""

    privacy: str
    version: int
    first_id: int


def store(
    pixel_number: int, rows: Iterable[FileRow], links: Links, rules: OperatorRules
) -> Iterator[Chunk]:
    """Store the rows that are no hits yet; yield after each transaction what it did.

    Raises: NotFound if the pixel is deleted meanwhile.
    """
    importer = _Importer(pixel_number, links, rules)
    following = iter(rows)
    while some := list(islice(following, ROWS_AT_ONCE)):
        yield Chunk(len(some), importer.store(some))


class _Importer:
    def __init__(self, pixel_number: int, links: Links, rules: OperatorRules) -> None:
        self._pixel_number = pixel_number
        self._links = links
        self._rules = rules
        self._references = References(rules.version)
        self._version = -1

    def store(self, rows: Sequence[FileRow]) -> int:
        with writing():
            connection = db.session.connection()
            state = self._state(connection)
            if state.version != self._version:
                self._references.forget()
                self._version = state.version
            wanted = self._missing(connection, rows)
            hits = self._hits(connection, state, list(wanted.values()))
            self._references.store(connection)
            if hits:
                keys = [{"pixel_number": self._pixel_number, "row": key} for key in wanted]
                connection.execute(insert(ImportedHit), keys)
                connection.execute(insert(Hit), hits)
        self._references.learn()
        return len(hits)

    def _state(self, connection: Connection) -> _State:
        newest = select(func.max(Hit.id)).where(Hit.pixel_number == self._pixel_number)
        row = connection.execute(
            select(
                Pixel.privacy,
                select(Catalogue.version).scalar_subquery(),
                select(Catalogue.folded_through).scalar_subquery(),
                newest.scalar_subquery(),
                database_now_ms(connection.dialect.name),
            ).where(Pixel.number == self._pixel_number)
        ).one_or_none()
        if row is None:
            raise NotFound("Pixel not found.")
        privacy, version, folded_through, last, at_ms = row
        return _State(privacy, version, next_id(at_ms, above=max(folded_through, last or 0)))

    def _missing(self, connection: Connection, rows: Sequence[FileRow]) -> dict[int, FileRow]:
        """Return the rows that are no hits yet, by the hashes of their ids."""
        wanted = {_hash(row.id): row for row in rows}
        known = select(ImportedHit.row).where(
            ImportedHit.pixel_number == self._pixel_number, ImportedHit.row.in_(wanted)
        )
        for key in connection.scalars(known).all():
            del wanted[key]
        ours = {id: key for key, row in wanted.items() if (id := self._own_id(row.id)) is not None}
        there = select(Hit.id, INSTANT_MS).where(
            Hit.pixel_number == self._pixel_number, Hit.id.in_(ours)
        )
        for id, at_ms in connection.execute(there).all():
            if wanted[ours[id]].at_ms == at_ms:
                del wanted[ours[id]]
        return wanted

    def _own_id(self, text: str) -> int | None:
        """Return the id of the hit of this pixel that a row may have been exported from."""
        try:
            found = uuid.UUID(text)
            id = hit_id(found)
        except (ValueError, BadRequest):
            return None
        return id if found.int & ((1 << _NUMBER_BITS) - 1) == self._pixel_number else None

    def _hits(
        self, connection: Connection, state: _State, rows: Sequence[FileRow]
    ) -> list[dict[str, Any]]:
        contexts = [self._context(row, state.privacy) for row in rows]
        people = self._people(connection, rows, state.privacy)
        referring = [
            self._references.row(self._pixel_number, context, identity, row.at_ms)
            for row, context, identity in zip(rows, contexts, people, strict=True)
        ]
        return [
            {
                "pixel_number": self._pixel_number,
                "id": id,
                "visitor": row.visitor,
                "profile": row.profile,
                "dated_ms": None if row.at_ms == id >> HIT_ID_SHIFT else row.at_ms,
            }
            for id, row in enumerate(referring, state.first_id)
        ]

    def _context(self, row: FileRow, privacy: str) -> HitContext:
        agent = kept_text(row.user_agent, classify.USER_AGENT_CHARACTERS_MAX)
        signals = SIGNALS.get(row.reason, 0) | classify.IMPORTED
        verdict, rule = classify_hit(classify_agent(agent), signals), self._rules.find(agent)
        is_known = agent != OTHER and (agent or row.reason in ("", "no-agent"))
        if not is_known:
            # What it was is not known; what was made of it stays.
            verdict, signals = _said(row), signals | classify.UNKEPT
        elif rule is not None:
            verdict = rule.verdict(classify_agent(agent))
        country = (verdict.own_machine and row.country) or None
        if privacy == "anonymous":
            return of_nobody(country, verdict, signals)
        context = HitContext(agent, signals, country)
        if rule is not None or not is_known:
            context = context._replace(verdict=verdict)
        query = kept_query(row.query)
        return of_person(context, Fetch("", agent, row.language, row.hostname, row.referrer, query))

    def _people(
        self, connection: Connection, rows: Sequence[FileRow], privacy: str
    ) -> list[Identity | None]:
        """Return whose each hit is: of those whom links were issued to, if the name is theirs."""
        if privacy == "anonymous":
            return [None for _ in rows]
        names = [kept_text(row.recipient.strip(), RECIPIENT_CHARACTERS_MAX).strip() for row in rows]
        issued = {
            name: Addressee(name, verified=True, needs_consent=privacy == "consent")
            for name in {*names} - {""}
        }
        found = attributions(connection, self._links, self._pixel_number, issued.values())
        named = {
            name: addressee if found[addressee].row is None else addressee._replace(verified=False)
            for name, addressee in issued.items()
        }
        people = [
            Identity(row.visitor, named.get(name)) if name or row.visitor else None
            for row, name in zip(rows, names, strict=True)
        ]
        wanted = ((self._pixel_number, identity) for identity in people)
        self._references.find_people(connection, self._links, wanted)
        return people


def _said(row: FileRow) -> Verdict:
    """Return what a file says of a hit whose agent nobody knows."""
    hit_class = _CLASSES.get(row.hit_class, "open")
    return Verdict(hit_class, row.reason[:20] or "unknown", bool(row.country))


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
