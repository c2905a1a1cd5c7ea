"""Which pixel a request names: by a slug, as written or without `.gif`, or by an id."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from sqlalchemy import Connection, select

from models import Pixel

PIXELS_CACHED_MAX = 10_000
SUFFIX = ".gif"


class PixelName(NamedTuple):
    """How a request names its pixel: by a slug, as written or without `.gif`, or by its id."""

    slug: str = ""
    id: uuid.UUID | None = None
    may_have_suffix: bool = False


class PixelEntry(NamedTuple):
    """What a hit needs to know of its pixel."""

    number: int
    id: uuid.UUID
    anonymous: bool
    needs_consent: bool = False


class KnownPixels:
    """The pixels that requests named, remembered while the catalogue's version stays the same.

    The leader writes; any thread may read.
    """

    def __init__(self) -> None:
        self._by_name: dict[PixelName, PixelEntry] = {}

    def get(self, name: PixelName) -> PixelEntry | None:
        """Return what is remembered under a name."""
        return self._by_name.get(name)

    def resolve(self, connection: Connection, name: PixelName) -> PixelEntry | None:
        """Return the pixel of a name, from memory or else from the database."""
        entry = self._by_name.get(name)
        if entry is None:
            entry = read_pixel(connection, name)
            if entry is not None:
                if len(self._by_name) >= PIXELS_CACHED_MAX:
                    self._by_name = {}
                self._by_name[name] = entry
        return entry

    def forget(self) -> None:
        """Remember nothing: names may mean other pixels now."""
        self._by_name = {}


_COLUMNS = select(Pixel.number, Pixel.id, Pixel.privacy)


def read_pixel(connection: Connection, name: PixelName) -> PixelEntry | None:
    """Return the pixel of a name by what is committed now, None if there is none."""
    if "\0" in name.slug:
        # No slug has one, and PostgreSQL would refuse the question.
        return None
    wanted = Pixel.id == name.id if name.id else Pixel.slug == name.slug
    row = connection.execute(_COLUMNS.where(wanted)).one_or_none()
    if row is None and name.may_have_suffix and name.slug.endswith(SUFFIX):
        slug = name.slug.removesuffix(SUFFIX)
        row = connection.execute(_COLUMNS.where(Pixel.slug == slug)).one_or_none()
    if row is None:
        return None
    return PixelEntry(row.number, row.id, row.privacy == "anonymous", row.privacy == "consent")
