"""Recipients' links: tokens that name a recipient and can't be forged.

A token holds the instant of sending and the recipient, and is signed with a key derived from the
pixel's id, so that it is worth nothing on another pixel. It is 30 characters and the recipient's
own, in base64, long.
"""

from __future__ import annotations

import functools
import hashlib
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from itsdangerous import BadData
from itsdangerous.encoding import base64_decode, base64_encode

from core.clock import from_milliseconds, milliseconds
from core.signatures import Signer

RECIPIENT_CHARACTERS_MAX = 200
_SENT_BYTES = 6


class SignedRecipient(NamedTuple):
    """What a genuine token says."""

    recipient: str
    sent_at: datetime | None


class Links:
    """Signs and reads the recipients' tokens of one server, with all of its keys."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(keys)
        self._signer = functools.lru_cache(maxsize=1024)(self._make_signer)

    def sign(self, pixel_id: uuid.UUID, recipient: str, sent_at: datetime | None) -> str:
        """Return the token that names `recipient` on one pixel."""
        sent_ms = milliseconds(sent_at) if sent_at else 0
        payload = sent_ms.to_bytes(_SENT_BYTES, "big") + recipient.encode()
        return self._signer(pixel_id).sign(base64_encode(payload)).decode()

    def read(self, pixel_id: uuid.UUID, token: str) -> SignedRecipient | None:
        """Return what a token of this pixel says, None for one that we didn't sign."""
        try:
            payload = base64_decode(self._signer(pixel_id).unsign(token.encode()))
            sent_ms = int.from_bytes(payload[:_SENT_BYTES], "big")
            recipient = payload[_SENT_BYTES:].decode()
        except (BadData, UnicodeError):
            return None
        return SignedRecipient(recipient, from_milliseconds(sent_ms) if sent_ms else None)

    def _make_signer(self, pixel_id: uuid.UUID) -> Signer:
        return Signer(list(self._keys), salt=b"recipient" + pixel_id.bytes, digest_method=_digest)


def _digest(data: bytes = b"") -> Any:
    """128 bits of BLAKE2b: as hard to forge as a link needs, in 22 characters."""
    return hashlib.blake2b(data, digest_size=16)
