"""Whom a link names, by what the database says now: nobody once they were forgotten or opted out.

A link carries the number of its issue, which is the visitor's. A plain link carries a name, and
so do links that were made before they had numbers: these are looked for by the key of people.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, ColumnElement, Connection, bindparam, select, update

from core.links import NOBODY_ISSUE, UNNAMED_ISSUE, Links
from core.people_key import PeopleKey, new_key, unwrapped
from models import EVERY_OWNER, Catalogue, Forgotten, OptOut, Pixel, Recipient

log = logging.getLogger("pixelkeep.people")


class LostKey(Exception):
    """The key of people is wrapped by signing keys that this process doesn't have."""


class Addressee(NamedTuple):
    """What a link says of whom it is for: the number of an issue, or else a name.

    `verified`: we signed it. `needs_consent`: it names only those who consented.
    """

    name: str = ""
    issue: int | None = None
    verified: bool = False
    needs_consent: bool = False


class Attribution(NamedTuple):
    """Whose the hits of a link are: a visitor's, nobody's, or those of its address and agent.

    `row` is the recipient's where it may not be stored yet.
    """

    visitor: int | None = None
    is_anonymous: bool = False
    row: dict[str, Any] | None = None


NOT_ATTRIBUTED = Attribution()
ANONYMOUS = Attribution(is_anonymous=True)


def people_key(connection: Connection, links: Links) -> PeopleKey:
    """Return the key of people; make it where there is none, in the caller's write transaction.

    Raises: LostKey.
    """
    wrapped = connection.scalar(select(Catalogue.people_key))
    if wrapped is None:
        made = new_key().wrapped(links.keys)
        connection.execute(
            update(Catalogue).where(Catalogue.people_key.is_(None)).values(people_key=made)
        )
        wrapped = connection.scalar(select(Catalogue.people_key))
    key = unwrapped(bytes(wrapped or b""), links.keys)
    if key is None:
        raise LostKey("the key of people is wrapped by other signing keys")
    return key


def attributions(
    connection: Connection, links: Links, pixel_number: int, addressees: Collection[Addressee]
) -> dict[Addressee, Attribution]:
    """Return whose the hits of some links of a pixel are."""
    old = {
        addressee: bare_visitor(pixel_number, addressee)
        for addressee in addressees
        if addressee.issue is None
    }
    # Links of before have no issue: their visitor may be one of then, or found by the name below.
    numbers = {addressee.issue for addressee in addressees if addressee.issue is not None}
    visitors = [*numbers.union(old.values())]
    rows = connection.execute(_BY_VISITOR, {"pixel": pixel_number, "visitors": visitors})
    by_number = {row.visitor: row for row in rows}
    found = {
        addressee: _of_issue(addressee, by_number.get(addressee.issue))
        for addressee in addressees
        if addressee.issue is not None
    }
    if old:
        try:
            key = people_key(connection, links)
        except LostKey as error:
            # Better a hit without a name than none.
            log.error("Names in links are not read: %s", error)
            return found | dict.fromkeys(old, ANONYMOUS)
        found |= _of_names(connection, key, pixel_number, old, by_number)
    return found


def bare_visitor(pixel_number: int, addressee: Addressee) -> int:
    """Return the visitor that a name was before visitors were keyed; rows of then keep it."""
    value = f"{pixel_number} {addressee.verified:d} {addressee.name}".encode()
    digest = hashlib.blake2b(value, digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _of_issue(addressee: Addressee, row: Any) -> Attribution:
    if addressee.issue == UNNAMED_ISSUE:
        return ANONYMOUS
    if row is None or addressee.issue == NOBODY_ISSUE:
        return NOT_ATTRIBUTED
    return _of_row(addressee, row)


def _of_row(addressee: Addressee, row: Any) -> Attribution:
    if row.opted_out:
        return NOT_ATTRIBUTED
    return ANONYMOUS if addressee.needs_consent and not row.consent else Attribution(row.visitor)


def _of_names(
    connection: Connection,
    key: PeopleKey,
    pixel_number: int,
    old: dict[Addressee, int],
    by_number: dict[int, Any],
) -> dict[Addressee, Attribution]:
    persons = {addressee: key.person(addressee.name) for addressee in old}
    wanted = {"pixel": pixel_number, "persons": [*{*persons.values()}]}
    rows = connection.execute(_BY_PERSON, wanted)
    by_person = {(row.person, row.verified): row for row in rows}
    silenced = {*connection.scalars(_FORGOTTEN, wanted), *connection.scalars(_OPTED_OUT, wanted)}
    found = {}
    for addressee, person in persons.items():
        row = by_number.get(old[addressee])
        # Issued again after being forgotten, the name is a new person, whom old links don't name.
        if row is None and person not in silenced:
            row = by_person.get((person, addressee.verified))
        if row is not None:
            found[addressee] = _of_row(addressee, row)
        elif person in silenced:
            found[addressee] = NOT_ATTRIBUTED
        elif addressee.needs_consent:
            found[addressee] = ANONYMOUS
        else:
            found[addressee] = _new(key, pixel_number, addressee, person)
    return found


def _new(key: PeopleKey, pixel_number: int, addressee: Addressee, person: int) -> Attribution:
    visitor = key.visitor(pixel_number, addressee.name, verified=addressee.verified)
    row = {
        "visitor": visitor,
        "recipient": addressee.name,
        "verified": addressee.verified,
        "person": person,
        **dict.fromkeys(("opens", "prefetches", "bots", "status"), 0),
        **dict.fromkeys(("opted_out", "consent"), False),
    }
    return Attribution(visitor, row=row)


def is_one_of(pixel_number: Any, persons: Any) -> ColumnElement[bool]:
    """Return the condition for recipients of a pixel to be some persons.

    SQLite takes a pixel to have few recipients, and would read all of them where the number has to
    be equal. By a range of one it looks for the persons first, which their index begins with.
    """
    of_pixel = Recipient.pixel_number.between(pixel_number, pixel_number)
    return of_pixel & Recipient.person.in_(persons)


# Written once: with each commit they would take as long to be put together as to be run.
_PIXEL: BindParameter[int] = bindparam("pixel")
_PERSONS: BindParameter[int] = bindparam("persons", expanding=True)
_ROWS = select(
    *(Recipient.visitor, Recipient.person, Recipient.verified),
    *(Recipient.opted_out, Recipient.consent),
)
_BY_VISITOR = _ROWS.where(
    Recipient.pixel_number == _PIXEL,
    Recipient.visitor.in_(bindparam("visitors", expanding=True)),
)
# Of several, whom names of older times made two, the first is the last here, and stays.
_BY_PERSON = _ROWS.where(is_one_of(_PIXEL, _PERSONS)).order_by(Recipient.visitor.desc())
# Who was forgotten on a pixel, or opted out of its owner's.
_FORGOTTEN = select(Forgotten.person).where(
    Forgotten.pixel_number == _PIXEL, Forgotten.person.in_(_PERSONS)
)
_OPTED_OUT = select(OptOut.person).where(
    OptOut.owner.in_(
        (select(Pixel.owner).where(Pixel.number == _PIXEL).scalar_subquery(), EVERY_OWNER)
    ),
    OptOut.person.in_(_PERSONS),
)
