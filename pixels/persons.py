"""One person over all pixels: who there are, and all that is kept of one."""

from __future__ import annotations

import math
import uuid
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Integer,
    and_,
    case,
    cast,
    func,
    select,
    true,
    union_all,
)

from core.clock import milliseconds
from core.database import db, holds
from core.errors import NotFound
from core.kept import Kept
from core.links import Links
from core.lists import ListQuery, Page
from hits.people import people_key
from models import EVERY_OWNER, OPENED, Catalogue, Hit, OptOut, Pixel, Profile, Recipient
from pixels.recipient_lists import COLUMNS, RecipientRow, rows_told
from stats import folding, questions
from stats.instants import INSTANT_MS, undated
from stats.shapes import Event

PEOPLE_SORTED_MAX = 20_000
# So many who are found are looked for once only, to be counted and listed.
PEOPLE_FOUND_MAX = 1_000
OWNERS_KEPT_MAX = 64
# Of a burst that goes on for longer, a fetch is told of those that came so close to it.
BURST_MS_MAX = 2_000
NUMBER_BEFORE_ALL = -(1 << 63)


class PersonRow(NamedTuple):
    """A person: how many pixels they were sent, and how many of these they opened."""

    recipient: str
    pixels: int
    opened: int
    last_opened_at: datetime | None
    opted_out: bool


class OfPixel(NamedTuple):
    """What is kept of a person on one pixel."""

    pixel: Pixel
    row: RecipientRow
    consent: bool
    issued_at: datetime | None
    hits: list[Event]


class Burst(NamedTuple):
    """How many others were fetched with somebody's link, and within how many seconds."""

    others: int
    seconds: int


class Person(NamedTuple):
    """Everything that is kept of a person."""

    recipient: str
    opted_out: bool
    opt_outs: list[OptOut]
    pixels: list[OfPixel]


def listing(owners: Collection[uuid.UUID] | None, query: ListQuery) -> Page[PersonRow]:
    """Return a page of the people of some owners' pixels, None for all, by name.

    More people than can be sorted at once come in the order of their numbers.
    """
    fold_all(owners)
    if query.search:
        return _listing_of_found(owners, query)
    places = _kept.of(_key(owners), _version(owners), lambda: _Places.of(owners))
    people = _everybody(owners)
    if places.people <= PEOPLE_SORTED_MAX:
        return _listing(owners, query, people, places.people)
    start, skipped = places.before(query.offset)
    some = people.where(Recipient.person > start).order_by(Recipient.person)
    persons = list(db.session.scalars(some.limit(query.page_size).offset(skipped)))
    return query.page_of(_rows(owners, persons), places.people)


def find(links: Links, owners: Collection[uuid.UUID] | None, name: str) -> Person:
    """Return everything that is kept of a person on some owners' pixels, None for all.

    Raises: NotFound where nobody is known by that name.
    """
    fold_all(owners)
    person = people_key(db.session.connection(), links).person(name)
    statement = (
        select(Pixel, Recipient.consent, Recipient.issued_at, Recipient.visitor, *COLUMNS)
        .join(Pixel, Pixel.number == Recipient.pixel_number)
        .where(Recipient.person == person, _theirs(owners))
        .order_by(Pixel.number.desc(), Recipient.verified.desc())
    )
    rows = db.session.execute(statement).all()
    said = OptOut.person == person
    if owners is not None:
        # What holds for every owner tells nobody of people that they don't know.
        said &= OptOut.owner.in_([*owners, *([EVERY_OWNER] if rows else [])])
    opt_outs = list(db.session.scalars(select(OptOut).where(said).order_by(OptOut.said_at)))
    names = [row.recipient for row in rows] + [opt_out.recipient for opt_out in opt_outs]
    known = [spelling for spelling in names if spelling]
    if not known:
        raise NotFound("Nobody is known by that name.")
    found = [_of_pixel(*row[:4], row[4:]) for row in rows]
    return Person(known[-1], bool(opt_outs), opt_outs, found)


def burst_around(pixel_number: int, at: datetime) -> Burst:
    """Return the burst that a fetch was one of, as far as it came close to it."""
    at_ms = milliseconds(at)
    close = undated(at_ms - BURST_MS_MAX, at_ms + BURST_MS_MAX)
    people, first_ms, last_ms = db.session.execute(
        select(func.count(Hit.visitor.distinct()), func.min(INSTANT_MS), func.max(INSTANT_MS))
        .join(Profile, (Profile.pixel_number == Hit.pixel_number) & (Profile.id == Hit.profile))
        .where(Hit.pixel_number == pixel_number, close, Profile.reason == "burst")
    ).one()
    seconds = math.ceil(((last_ms or 0) - (first_ms or 0)) / 1000)
    return Burst(max(people - 1, 0), max(seconds, 1))


def record_fields(record: OfPixel) -> dict[str, Any]:
    """Return what is kept of a person on one pixel by the names that answers give it."""
    return {
        "pixel_id": record.pixel.id,
        "name": record.pixel.name,
        "consent": record.consent,
        "issued_at": record.issued_at,
        "hits": record.hits,
        **record.row._asdict(),
    }


def fold_all(owners: Collection[uuid.UUID] | None) -> None:
    """Fold what is pending of the pixels of some owners, None for all."""
    # A seek for each pixel: of `exists` a plan may be made that reads every hit.
    newest = select(func.max(Hit.id)).where(Hit.pixel_number == Pixel.number).scalar_subquery()
    numbers = select(Pixel.number).where(_owned(owners), Pixel.folded_through < newest)
    folding.fold_several_for_question(db.session.scalars(numbers).all())


class _Places(NamedTuple):
    """How many people there are, and who is at every so many places in the order of numbers.

    Pages far into a million people begin there.
    """

    people: int
    persons: list[int]

    @classmethod
    def of(cls, owners: Collection[uuid.UUID] | None) -> _Places:
        people = _everybody(owners).order_by(Recipient.person)
        persons: list[int] = []
        following = people
        while True:
            last = db.session.scalar(following.offset(PEOPLE_SORTED_MAX - 1).limit(1))
            if last is None:
                break
            persons.append(last)
            following = people.where(Recipient.person > last)
        left = db.session.scalar(select(func.count()).select_from(following.subquery())) or 0
        return cls(len(persons) * PEOPLE_SORTED_MAX + left, persons)

    def before(self, offset: int) -> tuple[int, int]:
        """Return a person before a place, and how many of those that follow come before it."""
        whole = min(offset // PEOPLE_SORTED_MAX, len(self.persons))
        start = self.persons[whole - 1] if whole else NUMBER_BEFORE_ALL
        return start, offset - whole * PEOPLE_SORTED_MAX


_kept: Kept[_Places] = Kept(OWNERS_KEPT_MAX)


def _key(owners: Collection[uuid.UUID] | None) -> Any:
    return None if owners is None else frozenset(owners)


def _version(owners: Collection[uuid.UUID] | None) -> Any:
    """Return what is another as soon as other people are known on other pixels.

    Whom hits bring, by plain links, no version tells: they are counted.
    """
    versions = select(func.sum(Pixel.people_version), func.sum(Pixel.revision))
    plain = select(func.count()).where(_theirs(owners), Recipient.verified.is_(False))
    return (
        db.session.scalar(select(Catalogue.version)),
        *db.session.execute(versions.where(_owned(owners))).one(),
        db.session.scalar(plain),
    )


def _listing_of_found(owners: Collection[uuid.UUID] | None, query: ListQuery) -> Page[PersonRow]:
    """Return a page of those who are found by a search, of many after they are counted."""
    found = _found(owners, query.search)
    few = list(db.session.scalars(found.limit(PEOPLE_FOUND_MAX + 1)))
    if len(few) <= PEOPLE_FOUND_MAX:
        rows = sorted(_rows(owners, list(dict.fromkeys(few))), key=lambda row: row.recipient)
        return query.page_of(rows[query.offset : query.offset + query.page_size], len(rows))
    people = found.group_by(Recipient.person)
    count = db.session.scalar(select(func.count()).select_from(people.subquery())) or 0
    return _listing(owners, query, people, count)


def _listing(
    owners: Collection[uuid.UUID] | None, query: ListQuery, people: Any, count: int
) -> Page[PersonRow]:
    if count <= PEOPLE_SORTED_MAX:
        people = people.order_by(func.min(Recipient.recipient))
    some = people.order_by(Recipient.person).limit(query.page_size).offset(query.offset)
    return query.page_of(_rows(owners, list(db.session.scalars(some))), count)


def _everybody(owners: Collection[uuid.UUID] | None) -> Any:
    """Return the statement for the numbers of people, each once, by an index of nothing else."""
    known = select(Recipient.person).where(Recipient.person.is_not(None), _by_person(owners))
    return known.group_by(Recipient.person)


def _found(owners: Collection[uuid.UUID] | None, search: str) -> Any:
    """Return the statement for people by their names, of which an index has the signed ones.

    Who is on several pixels comes several times.
    """
    plain = select(Recipient.visitor).where(_theirs(owners), Recipient.verified.is_(False))
    has_plain = db.session.scalar(plain.limit(1)) is not None
    named = union_all(
        *(
            select(Recipient.pixel_number, Recipient.visitor).where(
                _theirs(owners),
                Recipient.verified.is_(verified),
                Recipient.recipient.is_not(None),
                holds(Recipient.recipient, search),
            )
            for verified in ((True, False) if has_plain else (True,))
        )
    ).subquery()
    same = and_(
        Recipient.pixel_number == named.c.pixel_number, Recipient.visitor == named.c.visitor
    )
    return select(Recipient.person).join(named, same)


def _rows(owners: Collection[uuid.UUID] | None, persons: list[int]) -> list[PersonRow]:
    """Return rows of some people, in the order of these."""
    statement = (
        select(
            Recipient.person,
            func.min(Recipient.recipient),
            func.count(Recipient.pixel_number.distinct()),
            func.count(case((Recipient.status == OPENED, Recipient.pixel_number)).distinct()),
            func.max(Recipient.last_opened_at),
            func.max(cast(Recipient.opted_out, Integer)) == 1,
        )
        .where(_by_person(owners), Recipient.person.in_(persons))
        .group_by(Recipient.person)
    )
    rows: Any = db.session.execute(statement)
    found = {
        person: PersonRow(name, pixels, opened, last_opened_at, bool(opted_out))
        for person, name, pixels, opened, last_opened_at, opted_out in rows
    }
    return [found[person] for person in persons if person in found]


def _of_pixel(
    pixel: Pixel, consent: bool, issued_at: datetime | None, visitor: int, row: Iterable[Any]
) -> OfPixel:
    (told,) = rows_told(pixel.number, [row])
    hits = questions.events_of_visitor(pixel.number, visitor)
    return OfPixel(pixel, told, consent, issued_at, hits)


def _owned(owners: Collection[uuid.UUID] | None) -> ColumnElement[bool]:
    return true() if owners is None else Pixel.owner.in_(owners)


def _theirs(owners: Collection[uuid.UUID] | None) -> ColumnElement[bool]:
    return Recipient.pixel_number.in_(select(Pixel.number).where(_owned(owners)))


def _by_person(owners: Collection[uuid.UUID] | None) -> ColumnElement[bool]:
    """Return what `_theirs` does, so that rows are read in the order of their persons.

    Else SQLite looks for them by pixel, and sorts.
    """
    if owners is None:
        return true()
    return (Recipient.pixel_number + 0).in_(select(Pixel.number).where(_owned(owners)))
