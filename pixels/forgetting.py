"""Forgetting a person: the name goes from everywhere, and what was counted stays counted.

Their hits belong from then on to a visitor of a random number, and whatever link they had is a hit
of nobody for good, which a number in `forgotten` sees to, that says nothing without its key. Who
was issued to stays in the mailing's figures: their row goes on without a name.
"""

from __future__ import annotations

import re
import secrets
import time
import uuid
from collections.abc import Collection
from urllib.parse import quote, quote_plus

from sqlalchemy import ColumnElement, and_, delete, or_, select, true, update
from sqlalchemy.orm import InstrumentedAttribute

from core.database import db, insert_unless_there
from core.links import Links
from core.locks import empty_log, writing
from hits.people import is_one_of, people_key
from models import (
    EVERY_OWNER,
    Forgotten,
    Hit,
    OptOut,
    Pixel,
    Profile,
    Recipient,
    Text,
    UserAgent,
    Visitor,
)
from pixels.catalogue import raise_people_version, raise_version
from stats import folding

HITS_AT_ONCE = 20_000
# How long a reader may be in the way of emptying SQLite's log.
LOG_SECONDS_MAX = 2.0
REDACTED = "forgotten"
# What of a person's row says who it was, or could be told from when the link was made.
NAMELESS = {
    "recipient": None,
    "person": None,
    "consent": False,
    "issued_at": None,
    "last_profile": None,
}


def forget(
    links: Links, name: str, owners: Collection[uuid.UUID] | None, pixel_number: int | None = None
) -> bool:
    """Forget a person on one pixel, or on all of some owners, None for all; tell if any knew them.

    On return the name is in none of the database's files, unless a reader kept SQLite's log open:
    the housekeeper empties it then.
    """
    person = people_key(db.session.connection(), links).person(name)
    theirs = _pixels_of(owners) if pixel_number is None else Pixel.number == pixel_number
    numbers = list(db.session.scalars(select(Pixel.number).where(theirs)))
    known = select(Recipient.pixel_number).where(
        Recipient.person == person, Recipient.pixel_number.in_(select(Pixel.number).where(theirs))
    )
    knowing = sorted(set(db.session.scalars(known)))
    said = and_(
        OptOut.person == person,
        OptOut.recipient.is_not(None),
        true() if owners is None else OptOut.owner.in_(owners),
    )
    if not knowing and db.session.scalar(select(OptOut.person).where(said).limit(1)) is None:
        return False
    for number in knowing:
        folding.fold_for_question(number)
        _forget_on(number, person)
    with writing():
        _note(numbers, person)
        _forget_in_opt_outs(said)
        raise_version()
    for number in numbers:
        _redact(number, name)
    _empty_log()
    return True


def _pixels_of(owners: Collection[uuid.UUID] | None) -> ColumnElement[bool]:
    return true() if owners is None else Pixel.owner.in_(owners)


def _forget_on(pixel_number: int, person: int) -> None:
    """Give a person's hits and row on a pixel to a visitor of a random number, without the name.

    Both visitors are of one number meanwhile, so that whatever counts them counts one.
    """
    rows = db.session.execute(
        select(Recipient.visitor, Recipient.number).where(is_one_of(pixel_number, [person]))
    ).all()
    replaced = {row.visitor: secrets.randbits(63) for row in rows}
    with writing():
        for row in rows:
            _add_visitor(pixel_number, row.visitor, replaced[row.visitor])
    last = 0
    while end := _end_of_chunk(pixel_number, last):
        with writing():
            _replace(pixel_number, replaced, Hit.id.between(last + 1, end))
        last = end
    with writing():
        _replace(pixel_number, replaced, Hit.id > last)
        for old, new in replaced.items():
            # Hits that were folded meanwhile gave the visitor a number.
            _add_visitor(pixel_number, old, new)
        theirs = and_(Visitor.pixel_number == pixel_number, Visitor.visitor.in_(replaced))
        db.session.execute(delete(Visitor).where(theirs))
        for old, new in replaced.items():
            db.session.execute(
                update(Recipient)
                .where(Recipient.pixel_number == pixel_number, Recipient.visitor == old)
                .values(visitor=new, **NAMELESS)
                .execution_options(synchronize_session=False)
            )
        _note([pixel_number], person)
        # Names are kept in memory by revision.
        db.session.execute(
            update(Pixel).where(Pixel.number == pixel_number).values(revision=Pixel.revision + 1)
        )
        raise_people_version(Pixel.number == pixel_number)
        raise_version()


def _add_visitor(pixel_number: int, old: int, new: int) -> None:
    number = db.session.scalar(
        select(Visitor.number).where(Visitor.pixel_number == pixel_number, Visitor.visitor == old)
    )
    if number is None:
        return
    connection = db.session.connection()
    row = {"pixel_number": pixel_number, "visitor": new, "number": number}
    connection.execute(insert_unless_there(connection, Visitor.__table__), row)


def _end_of_chunk(pixel_number: int, last: int) -> int:
    """Return the id of the last of the next hits, 0 where there are fewer than a chunk."""
    following = select(Hit.id).where(Hit.pixel_number == pixel_number, Hit.id > last)
    found = following.order_by(Hit.id).offset(HITS_AT_ONCE - 1).limit(1)
    return db.session.scalar(found) or 0


def _replace(pixel_number: int, replaced: dict[int, int], ids: ColumnElement[bool]) -> None:
    for old, new in replaced.items():
        db.session.execute(
            update(Hit)
            .where(Hit.pixel_number == pixel_number, ids, Hit.visitor == old)
            .values(visitor=new)
            .execution_options(synchronize_session=False)
        )


def _note(pixel_numbers: list[int], person: int) -> None:
    connection = db.session.connection()
    rows = [{"pixel_number": number, "person": person} for number in pixel_numbers]
    if rows:
        connection.execute(insert_unless_there(connection, Forgotten.__table__), rows)


def _forget_in_opt_outs(said: ColumnElement[bool]) -> None:
    """Take the name out of opt-outs, which stay, where no pixel of their owner knows it now."""
    known = (
        select(Recipient.visitor)
        .join(Pixel, Pixel.number == Recipient.pixel_number)
        .where(
            Recipient.person == OptOut.person,
            (Pixel.owner == OptOut.owner) | (OptOut.owner == EVERY_OWNER),
        )
    )
    db.session.execute(
        update(OptOut)
        .where(said, ~known.correlate(OptOut).exists())
        .values(recipient=None)
        .execution_options(synchronize_session=False)
    )


def _redact(pixel_number: int, name: str) -> None:
    """Take the name out of what queries, referrers and user agents of a pixel say."""
    spellings = {name, quote(name, safe=""), quote(name, safe="@"), quote_plus(name)}

    def holding(value: InstrumentedAttribute[str]) -> ColumnElement[bool]:
        return or_(*(value.icontains(spelling, autoescape=True) for spelling in spellings))

    ours = Text.pixel_number == pixel_number
    texts = db.session.execute(select(Text.id, Text.value).where(ours, holding(Text.value))).all()
    agents = db.session.execute(
        select(UserAgent.id, UserAgent.user_agent)
        .join(Profile, Profile.agent == UserAgent.id)
        .where(Profile.pixel_number == pixel_number, holding(UserAgent.user_agent))
        .distinct()
    ).all()
    if not texts and not agents:
        return
    # A word by itself, though an escape may stand before it.
    words = "|".join(re.escape(spelling) for spelling in sorted(spellings, key=len, reverse=True))
    pattern = re.compile(rf"(?:(?<!\w)|(?<=%[0-9a-f]{{2}}))(?:{words})(?!\w)", re.IGNORECASE)
    with writing():
        for id, value in texts:
            without_name = {"value": pattern.sub(REDACTED, value)}
            db.session.execute(update(Text).where(ours, Text.id == id).values(without_name))
        for id, agent in agents:
            without_name = {"user_agent": pattern.sub(REDACTED, agent)}
            db.session.execute(update(UserAgent).where(UserAgent.id == id).values(without_name))
        db.session.execute(
            update(Pixel).where(Pixel.number == pixel_number).values(revision=Pixel.revision + 1)
        )
        raise_version()


def _empty_log() -> None:
    """Move SQLite's log into its file, so that nothing of what was deleted is left in it."""
    give_up_at = time.monotonic() + LOG_SECONDS_MAX
    db.session.commit()
    while not empty_log(db.engine) and time.monotonic() < give_up_at:
        pass
