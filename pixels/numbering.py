"""The key of people and the numbers that it makes of them, put in order at each start."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from core.database import db
from core.links import Links
from core.locks import writing
from core.people_key import PeopleKey, is_wrapped_for, new_key
from hits.people import LostKey, people_key
from models import Catalogue, OptOut, Recipient
from pixels.catalogue import raise_version

ROWS_AT_ONCE = 2_000
_RECIPIENTS: Any = Recipient.__table__
_OPT_OUTS: Any = OptOut.__table__

log = logging.getLogger("pixelkeep.people")


def prepare(links: Links) -> None:
    """Make the key of people if there is none, and give each recipient without one their number.

    A key that none of the signing keys opens any more is replaced. Then those who opted out and
    were forgotten can't be told from others, and the log says so.
    """
    try:
        with writing():
            people_key(db.session.connection(), links)
    except LostKey:
        _replace_key(links)
    rewrap(links)
    with writing():
        key = people_key(db.session.connection(), links)
    while _number_some(key):
        pass


def rewrap(links: Links, *, keep_others: bool = False) -> None:
    """Let each of the signing keys open the key of people; and no others, unless they are kept."""
    with writing():
        key = people_key(db.session.connection(), links)
        wrapped = bytes(db.session.scalar(select(Catalogue.people_key)) or b"")
        if not is_wrapped_for(wrapped, links.keys):
            others = wrapped if keep_others else b""
            db.session.execute(
                update(Catalogue).values(people_key=key.wrapped(links.keys) + others)
            )


def _replace_key(links: Links) -> None:
    log.warning(
        "The key of people was wrapped by signing keys that are gone; people have new numbers, and"
        " those who opted out and were forgotten since can't be told from others any more."
    )
    key = new_key()
    with writing():
        db.session.execute(update(Catalogue).values(people_key=key.wrapped(links.keys)))
        db.session.execute(update(_RECIPIENTS).values(person=None))
        named = db.session.execute(select(_OPT_OUTS).where(OptOut.recipient.is_not(None))).all()
        db.session.execute(delete(_OPT_OUTS))
        rows = {
            (row.owner, key.person(row.recipient)): row._asdict()
            | {"person": key.person(row.recipient)}
            for row in named
        }
        if rows:
            db.session.connection().execute(insert(_OPT_OUTS), list(rows.values()))
        raise_version()


def _number_some(key: PeopleKey) -> int:
    """Give some recipients the number that the key makes of their names; return how many."""
    statement = select(Recipient.pixel_number, Recipient.visitor, Recipient.recipient)
    unnumbered = statement.where(
        Recipient.person.is_(None), Recipient.recipient.is_not(None)
    ).limit(ROWS_AT_ONCE)
    rows = [
        {"of": number, "who": visitor, "given": key.person(name)}
        for number, visitor, name in db.session.execute(unnumbered)
        if name is not None
    ]
    if rows:
        with writing():
            db.session.connection().execute(_number, rows)
    return len(rows)


_number = (
    update(_RECIPIENTS)
    .where(Recipient.pixel_number == bindparam("of"), Recipient.visitor == bindparam("who"))
    .values(person=bindparam("given"))
)
