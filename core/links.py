"""Recipients' links: tokens that name a recipient and can't be forged.

A token holds the number of its issue and the instant of sending, and is signed with a key derived
from the pixel's id, so that it is worth nothing on another pixel. It is 42 letters and digits.
Older ones stay good: two parts of base64 with a dot between them, of which the first, before
issues had numbers, holds the recipient's name.
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

from core import mail_safe
from core.clock import from_milliseconds, milliseconds
from core.signatures import Signer

RECIPIENT_CHARACTERS_MAX = 200
# In place of an issue's number: a link that names nobody, and one whose hits are attributed by
# address and agent.
NOBODY_ISSUE, UNNAMED_ISSUE = 0, 1
_ISSUE_BYTES, _SENT_BYTES = 8, 6
# Before an issue; an instant would be of the year 10,000 or later.
_ISSUE_MARK = b"\xff"
_PAYLOAD_BYTES = len(_ISSUE_MARK) + _ISSUE_BYTES + _SENT_BYTES
_SIGNATURE_BYTES = 16


class SignedRecipient(NamedTuple):
    """What a genuine token says: the number of its issue, or else the recipient's name."""

    issue: int | None
    recipient: str
    sent_at: datetime | None


class Links:
    """Signs and reads the recipients' tokens of one server, with all of its keys."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        self._signer = functools.lru_cache(maxsize=1024)(self._make_signer)

    def sign(self, pixel_id: uuid.UUID, issue: int, sent_at: datetime | None) -> str:
        """Return the token of an issue on one pixel."""
        sent_ms = milliseconds(sent_at) if sent_at else 0
        payload = (
            _ISSUE_MARK
            + issue.to_bytes(_ISSUE_BYTES, "big", signed=True)
            + sent_ms.to_bytes(_SENT_BYTES, "big")
        )
        signature = base64_decode(self._signer(pixel_id).get_signature(payload))
        return mail_safe.encoded(payload + signature)

    def read(self, pixel_id: uuid.UUID, token: str) -> SignedRecipient | None:
        """Return what a token of this pixel says, None for one that we didn't sign."""
        signed = mail_safe.decoded(token, _PAYLOAD_BYTES + _SIGNATURE_BYTES)
        if signed is None:
            return self._read_dotted(pixel_id, token)
        payload, signature = signed[:_PAYLOAD_BYTES], signed[_PAYLOAD_BYTES:]
        if not self._signer(pixel_id).verify_signature(payload, base64_encode(signature)):
            return None
        return _of_issue(payload)

    def _read_dotted(self, pixel_id: uuid.UUID, token: str) -> SignedRecipient | None:
        """Return what a token of older times says; a mail program may have doubled its dot."""
        token = token.replace("..", ".", 1)
        try:
            payload = base64_decode(self._signer(pixel_id).unsign(token.encode()))
            if payload.startswith(_ISSUE_MARK):
                return _of_issue(payload)
            recipient = payload[_SENT_BYTES:].decode()
        except (BadData, UnicodeError):
            return None
        return SignedRecipient(None, recipient, _instant(payload[:_SENT_BYTES]))

    def _make_signer(self, pixel_id: uuid.UUID) -> Signer:
        return Signer(list(self.keys), salt=b"recipient" + pixel_id.bytes, digest_method=_digest)


def _of_issue(payload: bytes) -> SignedRecipient:
    number, sent = payload[1 : 1 + _ISSUE_BYTES], payload[1 + _ISSUE_BYTES :]
    return SignedRecipient(int.from_bytes(number, "big", signed=True), "", _instant(sent))


def _instant(sent: bytes) -> datetime | None:
    sent_ms = int.from_bytes(sent, "big")
    return from_milliseconds(sent_ms) if sent_ms else None


def _digest(data: bytes = b"") -> Any:
    """128 bits of BLAKE2b: as hard to forge as a link needs."""
    return hashlib.blake2b(data, digest_size=_SIGNATURE_BYTES)
