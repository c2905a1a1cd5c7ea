"""Bytes written in letters and digits, which mail programs hand on as they are.

They double a dot at the beginning of a line (RFC 5321, 4.5.2), may break a line after a hyphen,
and leave out of a link what looks like the end of a sentence.
"""

from __future__ import annotations

import math
import string

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_BASE = len(_ALPHABET)


def encoded(data: bytes) -> str:
    """Return the one spelling of some bytes; as long for all of one length."""
    number, characters = int.from_bytes(data, "big"), []
    for _ in range(_length(len(data))):
        number, value = divmod(number, _BASE)
        characters.append(_ALPHABET[value])
    return "".join(reversed(characters))


def decoded(text: str, size: int) -> bytes | None:
    """Return the `size` bytes that are spelled so, None for what `encoded` doesn't write."""
    if len(text) != _length(size):
        return None
    number = 0
    for character in text:
        value = _VALUES.get(character)
        if value is None:
            return None
        number = number * _BASE + value
    return None if number >> 8 * size else number.to_bytes(size, "big")


def _length(size: int) -> int:
    return math.ceil(8 * size / math.log2(_BASE))
