"""Pixels: made, found, changed and deleted. Who may do so is asked elsewhere (`auth`)."""

from __future__ import annotations

import re
import secrets
import unicodedata
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypedDict, Unpack

from sqlalchemy import ColumnElement, delete, func, select, true
from sqlalchemy.exc import IntegrityError

from core.clock import from_milliseconds, now
from core.database import db, holds, in_order, is_duplicate, is_orphan, paginate
from core.errors import IdTaken, NotFound, SlugTaken
from core.lists import ListQuery, Page
from core.locks import writing
from hits.pixel_names import SUFFIX
from models import DeletedPixel, Erasure, Hit, Owner, Pixel, Share, Team, User, Webhook
from pixels import opt_outs
from pixels.catalogue import raise_version
from pixels.owners import belonging_to
from stats.instants import INSTANT_MS

SLUG_STEM_CHARACTERS_MAX = 60
SLUG_NUMBER_MAX = 20
ORDERS = {"name": Pixel.name, "slug": Pixel.slug, "createdAt": Pixel.number}


class Changes(TypedDict, total=False):
    """What may change of a pixel; what is left out stays, and None is no value."""

    name: str
    slug: str
    privacy: str
    sent_at: datetime | None
    sent_count: int | None
    retention_days: int | None


def create(name: str, slug: str, owner: Owner, pixel_id: uuid.UUID | None = None) -> Pixel:
    """Store a new pixel, with an id at random unless one is asked for.

    Raises: SlugTaken, IdTaken; the database decides, so of many at once one wins. NotFound if its
    owner was deleted meanwhile.
    """
    pixel = Pixel(id=pixel_id or uuid.uuid4(), name=name, slug=slug, **owner._asdict())
    with _names_free(slug, pixel.id), writing():
        _require_family(pixel)
        if db.session.get(DeletedPixel, pixel.id) is not None:
            raise IdTaken
        db.session.add(pixel)
        db.session.flush()
        raise_version()
    return pixel


def free_slug(name: str) -> str:
    """Return a slug made from a name, that no pixel had a moment ago."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SLUG_STEM_CHARACTERS_MAX].strip("-")
    stem = stem or "pixel"
    tries = [stem, *(f"{stem}-{number}" for number in range(2, SLUG_NUMBER_MAX + 1))]
    families = [{slug, slug + SUFFIX} for slug in tries]
    wanted = Pixel.slug.in_(set[str]().union(*families))
    taken = set(db.session.scalars(select(Pixel.slug).where(wanted)))
    free = (slug for slug, family in zip(tries, families, strict=True) if not family & taken)
    return next(free, f"{stem}-{secrets.token_hex(4)}")


def change(pixel: Pixel, owner: Owner | None = None, **changes: Unpack[Changes]) -> Pixel:
    """Change a pixel; holds for the very next request everywhere.

    With an `owner` it moves to them, and those who opted out stay so.

    Raises: SlugTaken; NotFound if its next owner was deleted meanwhile.
    """
    with _names_free(changes.get("slug", pixel.slug)), writing():
        last_owner, claimed = pixel.owner, (pixel.slug, pixel.owner)
        for column, value in changes.items():
            setattr(pixel, column, value)
        if owner:
            pixel.user_id, pixel.team_id = owner
        if claimed != (pixel.slug, pixel.owner):
            _require_family(pixel)
        pixel.updated_at = now()
        db.session.flush()
        if pixel.owner != last_owner:
            opt_outs.take_along(pixel.number, pixel.owner)
        raise_version()
    return pixel


def remove(pixel: Pixel) -> None:
    """Delete a pixel: gone at once for every reader; its hits follow in chunks."""
    with writing():
        _remove(Pixel.number == pixel.number)


def remove_all_of(owner: Owner) -> None:
    """Delete an owner's pixels, inside the caller's `writing()`."""
    _remove(belonging_to([owner], Pixel))


def _remove(condition: ColumnElement[bool]) -> None:
    found = db.session.execute(select(Pixel.number, Pixel.id).where(condition)).all()
    numbers = [number for number, _ in found]
    db.session.add_all(Erasure(pixel_number=number) for number in numbers)
    # Mailed links are signed for an id: another pixel of that id would learn whom they name.
    db.session.add_all(DeletedPixel(id=id) for _, id in found)
    db.session.execute(delete(Share).where(Share.pixel_number.in_(numbers)))
    db.session.execute(delete(Webhook).where(Webhook.pixel_id.in_([id for _, id in found])))
    db.session.execute(delete(Pixel).where(Pixel.number.in_(numbers)))
    raise_version()


def move_all_of(owner: Owner, heir: Owner) -> None:
    """Give an owner's pixels to another one, inside the caller's `writing()`.

    Those who opted out stay so.
    """
    moved = list(db.session.scalars(select(Pixel).where(belonging_to([owner], Pixel))))
    for pixel in moved:
        (pixel.user_id, pixel.team_id), pixel.updated_at = heir, now()
    db.session.flush()
    for pixel in moved:
        opt_outs.take_along(pixel.number, pixel.owner)
    raise_version()


def listing(owners: Collection[Owner], query: ListQuery) -> Page[Pixel]:
    """Return a page of the pixels of some owners, the newest first unless ordered otherwise.

    What is searched for is part of a name or a slug.
    """
    statement = select(Pixel).where(belonging_to(owners, Pixel), matches(query.search))
    return paginate(in_order(statement, query, ORDERS, Pixel.number), query)


def newest_of(owners: Collection[uuid.UUID] | None, count_max: int) -> list[Pixel]:
    """Return the newest pixels of users and teams by their ids, None for everybody's."""
    newest = select(Pixel).where(_owned(owners)).order_by(Pixel.number.desc()).limit(count_max)
    return list(db.session.scalars(newest))


def names_of(
    ids: Collection[uuid.UUID], owners: Collection[uuid.UUID] | None
) -> dict[uuid.UUID, str]:
    """Return the names of those pixels of these that belong to some owners, None for everybody."""
    found = select(Pixel.id, Pixel.name).where(Pixel.id.in_(ids), _owned(owners))
    return {row.id: row.name for row in db.session.execute(found)}


def is_there(pixel_id: uuid.UUID) -> bool:
    """Tell whether there is a pixel of that id."""
    return _meets_any(Pixel.id == pixel_id)


def find_by_slug(slug: str) -> Pixel | None:
    """Return the pixel of that slug, None if there is none."""
    return db.session.scalar(select(Pixel).where(Pixel.slug == slug))


def counts(user_id: uuid.UUID, team_ids: Collection[uuid.UUID]) -> tuple[int, dict[Any, int]]:
    """Return how many pixels a user has, and each of some teams."""
    own = select(func.count()).where(Pixel.user_id == user_id)
    of_teams = (
        select(Pixel.team_id, func.count())
        .where(Pixel.team_id.in_(team_ids))
        .group_by(Pixel.team_id)
    )
    found = db.session.execute(of_teams).all()
    return db.session.scalar(own) or 0, {row[0]: row[1] for row in found}


def with_hits(search: str) -> Iterator[tuple[Pixel, str, int, datetime | None]]:
    """Yield every pixel, newest first: the name of its owner, its hits, the instant of the last."""
    count = select(func.count()).where(Hit.pixel_number == Pixel.number).scalar_subquery()
    of_pixel = select(INSTANT_MS).where(Hit.pixel_number == Pixel.number)
    last = of_pixel.order_by(Hit.id.desc()).limit(1).scalar_subquery()
    statement = (
        select(Pixel, func.coalesce(User.username, Team.name), count, last)
        .outerjoin(User, User.id == Pixel.user_id)
        .outerjoin(Team, Team.id == Pixel.team_id)
        .where(matches(search))
        .order_by(Pixel.number.desc())
    )
    for pixel, owner, hits, last_ms in db.session.execute(statement):
        yield pixel, owner, hits, None if last_ms is None else from_milliseconds(last_ms)


def last_sent_first() -> list[Pixel]:
    """Return all pixels, the last sent first; those without a time of sending come last."""
    order = (Pixel.sent_at.desc().nulls_last(), Pixel.number.desc())
    return list(db.session.scalars(select(Pixel).order_by(*order)))


def matches(search: str) -> ColumnElement[bool]:
    """Return the condition for a name or a slug that has `search` in it, whatever its case."""
    if not search:
        return true()
    return holds(Pixel.name, search) | holds(Pixel.slug, search)


def _require_family(pixel: Pixel) -> None:
    """Refuse a slug if `/p/X.gif` could then mean pixels of two owners.

    Asked inside `writing()`, whose transactions come one after the other: the answer holds until
    the commit. Pairs of two owners that were there before stay.
    """
    kin = [pixel.slug + SUFFIX]
    if pixel.slug.endswith(SUFFIX):
        kin.append(pixel.slug.removesuffix(SUFFIX))
    owner = Pixel.user_id == pixel.user_id if pixel.user_id else Pixel.team_id == pixel.team_id
    others = select(Pixel.number).where(Pixel.slug.in_(kin), owner.is_not(true()))
    if db.session.scalar(others.limit(1)) is not None:
        raise SlugTaken


@contextmanager
def _names_free(slug: str, id: uuid.UUID | None = None) -> Iterator[None]:
    """Turn the database's refusal of a name, or of an owner, into the domain's."""
    try:
        yield
    except IntegrityError as error:
        if is_orphan(error):
            raise NotFound("Its owner is no longer there.") from None
        if not is_duplicate(error):
            raise
        is_id = id is not None and is_there(id) and not _meets_any(Pixel.slug == slug)
        raise (IdTaken if is_id else SlugTaken) from None


def _owned(owners: Collection[uuid.UUID] | None) -> ColumnElement[bool]:
    return true() if owners is None else Pixel.owner.in_(owners)


def _meets_any(condition: ColumnElement[bool]) -> bool:
    return db.session.scalar(select(Pixel.number).where(condition)) is not None
