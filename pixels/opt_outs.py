"""Who said that they don't want to be named: asked before each issue and each hit.

It holds for all pixels of an owner, or of every owner where the operator says so, and outlives the
name: what is kept of somebody who was forgotten is the number that the key of people makes of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, delete, exists, select, true, update

from core.clock import now
from core.database import db, insert_unless_there, paginate
from core.links import Links
from core.lists import ListQuery, Page
from core.locks import writing
from core.people_key import OptOutLink, PeopleKey
from hits.people import people_key
from models import EVERY_OWNER, OptOut, Pixel, Recipient
from pixels.catalogue import raise_people_version, raise_version

SaidBy = Literal["link", "owner", "operator"]
OPT_OUT_PATH = "/opt-out/"


class OptOutRequest(NamedTuple):
    """What an opt-out link asks for: whose pixels, and whether that holds already."""

    link: OptOutLink
    owners: set[uuid.UUID]
    holds: bool


def read_link(links: Links, token: str) -> OptOutRequest | None:
    """Return what an opt-out link asks for, None for one that we didn't make.

    A link holds for the owner when it was made and for the pixel's owner of today.
    """
    link = key_of(links).read_opt_out(token)
    if link is None:
        return None
    of_today = db.session.scalar(select(Pixel.owner).where(Pixel.number == link.pixel_number))
    owners = {link.owner, *([of_today] if of_today else [])}
    said = select(OptOut.owner).where(OptOut.person == link.person)
    found = set(db.session.scalars(said))
    return OptOutRequest(link, owners, owners <= found or EVERY_OWNER in found)


def follow_link(request: OptOutRequest) -> None:
    """Do what an opt-out link asks for."""
    for owner in sorted(request.owners):
        opt_out(owner, request.link.person, "link")


def opt_out_by_name(links: Links, owner: uuid.UUID, name: str, said_by: SaidBy) -> None:
    """Let nobody be named by this name on the pixels of an owner, or of every owner."""
    opt_out(owner, key_of(links).person(name), said_by, name)


def opt_out(owner: uuid.UUID, person: int, said_by: SaidBy, name: str | None = None) -> None:
    """Note that a person opted out; their hits are counted without a name from the next one on.

    What was said first stays. The name is kept where one is known, to tell who it was.
    """
    theirs = (Recipient.person == person) & _of_owner(owner)
    with writing():
        connection = db.session.connection()
        name = db.session.scalar(select(Recipient.recipient).where(theirs).limit(1)) or name
        row = {
            "owner": owner,
            "person": person,
            "recipient": name,
            "said_at": now(),
            "said_by": said_by,
        }
        added = connection.execute(insert_unless_there(connection, OptOut.__table__), row)
        if not added.rowcount:
            return
        _mark(theirs, opted_out=True)
        raise_version()


def opt_in_by_name(links: Links, owner: uuid.UUID, name: str) -> bool:
    """Take back that a person opted out; tell whether they had."""
    person = key_of(links).person(name)
    said = OptOut.person == person
    if owner != EVERY_OWNER:
        said &= OptOut.owner == owner
    with writing():
        taken_back = db.session.connection().execute(delete(OptOut).where(said)).rowcount
        if taken_back:
            still = select(OptOut.owner).where(
                OptOut.person == person, OptOut.owner.in_((Pixel.owner, EVERY_OWNER))
            )
            not_out = select(Pixel.number).where(~still.correlate(Pixel).exists())
            _mark((Recipient.person == person) & Recipient.pixel_number.in_(not_out), False)
            raise_version()
    return bool(taken_back)


def take_along(pixel_number: int, owner: uuid.UUID) -> None:
    """Let what people said hold for a pixel's next owner too, inside the caller's `writing()`."""
    connection = db.session.connection()
    out = select(Recipient.person, Recipient.recipient).where(
        Recipient.pixel_number == pixel_number,
        Recipient.opted_out.is_(True),
        Recipient.person.is_not(None),
    )
    rows = [
        {
            "owner": owner,
            "person": person,
            "recipient": recipient,
            "said_at": now(),
            "said_by": "owner",
        }
        for person, recipient in db.session.execute(out.distinct())
    ]
    if rows:
        connection.execute(insert_unless_there(connection, OptOut.__table__), rows)
    of_next = select(OptOut.person).where(OptOut.owner == owner)
    _mark((Recipient.pixel_number == pixel_number) & Recipient.person.in_(of_next), True)


def listing(owners: Collection[uuid.UUID] | None, query: ListQuery) -> Page[OptOut]:
    """Return a page of people who opted out of some owners' pixels, None for all; last first."""
    return paginate(_listed(owners), query)


def every(owners: Collection[uuid.UUID] | None = None) -> Iterator[OptOut]:
    """Yield everybody who opted out of some owners' pixels, None for all; the last first."""
    yield from db.session.scalars(_listed(owners))


def key_of(links: Links) -> PeopleKey:
    """Return the key of people."""
    return people_key(db.session.connection(), links)


def _listed(owners: Collection[uuid.UUID] | None) -> Any:
    theirs: ColumnElement[bool] = true()
    if owners is not None:
        # What holds for every owner tells nobody of people that they don't know.
        pixels = select(Pixel.number).where(Pixel.owner.in_(owners))
        known = exists().where(
            Recipient.person == OptOut.person, Recipient.pixel_number.in_(pixels)
        )
        theirs = OptOut.owner.in_(owners) | ((OptOut.owner == EVERY_OWNER) & known)
    return select(OptOut).where(theirs).order_by(OptOut.said_at.desc(), OptOut.person)


def _of_owner(owner: uuid.UUID) -> ColumnElement[bool]:
    """Return the condition for recipients of an owner's pixels."""
    if owner == EVERY_OWNER:
        return true()
    return Recipient.pixel_number.in_(select(Pixel.number).where(Pixel.owner == owner))


def _mark(condition: ColumnElement[bool], opted_out: bool) -> None:
    theirs = select(Recipient.pixel_number).where(condition)
    raise_people_version(Pixel.number.in_(theirs))
    db.session.execute(
        update(Recipient)
        .where(condition)
        .values(opted_out=opted_out)
        .execution_options(synchronize_session=False)
    )
