"""The key by which people are known without their names, and what is signed with it.

It is made once, at random, and never changes, so that what somebody said of themselves holds when
the signing keys are rotated and their name is forgotten. The database holds it only wrapped by the
signing keys, which it does not hold: someone with only the database can't test a name.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from itsdangerous import BadData
from itsdangerous.encoding import base64_decode

from core import mail_safe

KEY_BYTES = 32
_SALT_BYTES = 16
_MAC_BYTES = 16
_WRAP_BYTES = _SALT_BYTES + KEY_BYTES + _MAC_BYTES
_NUMBER_BYTES = 8
_OPT_OUT_BYTES = _NUMBER_BYTES + 16 + _NUMBER_BYTES


class OptOutLink(NamedTuple):
    """What an opt-out link says: its pixel, that pixel's owner when it was made, and a person."""

    pixel_number: int
    owner: uuid.UUID
    person: int


class PeopleKey:
    """Turns names into numbers that say nothing of them, and signs opt-out links."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def person(self, name: str) -> int:
        """Return the number of the person who has this name, the same on every pixel."""
        return self._hash(b"person", folded(name).encode())

    def visitor(self, pixel_number: int, name: str, *, verified: bool) -> int:
        """Return the visitor that a name is on a pixel where no issue gave it a number."""
        return self._hash(b"visitor", f"{pixel_number} {verified:d} {folded(name)}".encode())

    def sign_opt_out(self, link: OptOutLink) -> str:
        """Return the token of an opt-out link."""
        payload = _packed(link.pixel_number) + link.owner.bytes + _packed(link.person)
        return mail_safe.encoded(payload + self._mac(payload))

    def read_opt_out(self, token: str) -> OptOutLink | None:
        """Return what an opt-out link says, None for one that we didn't sign.

        Older ones are written in base64.
        """
        data = mail_safe.decoded(token, _OPT_OUT_BYTES + _MAC_BYTES)
        if data is None:
            try:
                data = base64_decode(token)
            except (BadData, ValueError):
                return None
        payload, mac = data[:_OPT_OUT_BYTES], data[_OPT_OUT_BYTES:]
        if len(payload) < _OPT_OUT_BYTES or not hmac.compare_digest(mac, self._mac(payload)):
            return None
        owner = uuid.UUID(bytes=payload[_NUMBER_BYTES:-_NUMBER_BYTES])
        return OptOutLink(
            _unpacked(payload[:_NUMBER_BYTES]), owner, _unpacked(payload[-_NUMBER_BYTES:])
        )

    def wrapped(self, signing_keys: Sequence[str]) -> bytes:
        """Return the key such that each of the signing keys opens it."""
        return b"".join(self._wrapped_with(signing_key) for signing_key in signing_keys)

    def _wrapped_with(self, signing_key: str) -> bytes:
        salt = secrets.token_bytes(_SALT_BYTES)
        pad, mac_key = _pads(signing_key, salt)
        hidden = bytes(a ^ b for a, b in zip(self._key, pad, strict=True))
        return salt + hidden + _keyed(mac_key, b"wrap", hidden, _MAC_BYTES)

    def _hash(self, kind: bytes, value: bytes) -> int:
        return _unpacked(_keyed(self._key, kind, value, _NUMBER_BYTES))

    def _mac(self, payload: bytes) -> bytes:
        return _keyed(self._key, b"opt-out", payload, _MAC_BYTES)


def new_key() -> PeopleKey:
    """Return a new key."""
    return PeopleKey(secrets.token_bytes(KEY_BYTES))


@functools.lru_cache(maxsize=64)
def unwrapped(wrapped: bytes, signing_keys: tuple[str, ...]) -> PeopleKey | None:
    """Return the key that any of the signing keys opens, None if none does."""
    for start in range(0, len(wrapped), _WRAP_BYTES):
        for signing_key in signing_keys:
            key = _opened(wrapped[start : start + _WRAP_BYTES], signing_key)
            if key is not None:
                return PeopleKey(key)
    return None


def is_wrapped_for(wrapped: bytes, signing_keys: Sequence[str]) -> bool:
    """Tell whether each of the signing keys opens it, and no others do."""
    opened = [unwrapped(wrapped, (signing_key,)) for signing_key in signing_keys]
    return None not in opened and len(wrapped) == len(opened) * _WRAP_BYTES


def folded(name: str) -> str:
    """Return what names of one person have in common: the case of a mail address is none."""
    return name.casefold() if name.count("@") == 1 else name


def _opened(part: bytes, signing_key: str) -> bytes | None:
    salt, hidden = part[:_SALT_BYTES], part[_SALT_BYTES:-_MAC_BYTES]
    pad, mac_key = _pads(signing_key, salt)
    if not hmac.compare_digest(part[-_MAC_BYTES:], _keyed(mac_key, b"wrap", hidden, _MAC_BYTES)):
        return None
    return bytes(a ^ b for a, b in zip(hidden, pad, strict=True))


def _pads(signing_key: str, salt: bytes) -> tuple[bytes, bytes]:
    secret = hashlib.blake2b(signing_key.encode(), person=b"people key").digest()
    pads = _keyed(secret, b"pads", salt, 2 * KEY_BYTES)
    return pads[:KEY_BYTES], pads[KEY_BYTES:]


def _keyed(key: bytes, kind: bytes, value: bytes, size: int) -> bytes:
    return hashlib.blake2b(value, digest_size=size, key=key, person=kind).digest()


def _packed(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big", signed=True)


def _unpacked(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)
