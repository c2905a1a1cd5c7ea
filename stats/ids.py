"""The ids by which hits and sessions are named to callers."""

from __future__ import annotations

import uuid

from core.errors import BadRequest
from models import HIT_ID_SHIFT, Pixel
from stats.shapes import Event

# A database's number goes one further.
HIT_ID_MAX = 2**63 - 2


def event_id(pixel: Pixel, hit: Event) -> uuid.UUID:
    """Return a hit's id as a UUID of version 7, since JSON's numbers don't hold 63 bits."""
    # Sorted as text, ids of version 7 are in the order of commits.
    at_ms, place = divmod(hit.id, 1 << HIT_ID_SHIFT)
    low = ((place & 0xFF) << 54) | pixel.number
    return uuid.UUID(int=(at_ms << 80) | (7 << 76) | ((place >> 8) << 64) | (2 << 62) | low)


def hit_id(event_id: uuid.UUID) -> int:
    """Return the hit's id that an event's id holds.

    Raises: BadRequest for any other UUID.
    """
    number = event_id.int
    place = ((number >> 64 & 0xFFF) << 8) | (number >> 54 & 0xFF)
    id = (number >> 80 << HIT_ID_SHIFT) | place
    if event_id.version != 7 or id > HIT_ID_MAX:
        raise BadRequest("after: Not the id of a hit.", {"after": ["Not the id of a hit."]})
    return id


def session_id(pixel: Pixel, hit: Event) -> uuid.UUID:
    """Return a visitor as a UUID of version 8; a hit of nobody is a session of its own."""
    return event_id(pixel, hit) if hit.visitor is None else session_id_of(pixel, hit.visitor)


def session_id_of(pixel: Pixel, visitor: int) -> uuid.UUID:
    """Return the session's id of a visitor."""
    visitor %= 1 << 64
    high = (pixel.number << 80) | (8 << 76) | ((visitor >> 56) << 64)
    return uuid.UUID(int=high | (2 << 62) | (visitor & ((1 << 56) - 1)))
