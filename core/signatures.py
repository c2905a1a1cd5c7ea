"""Signatures that are valid in one spelling only.

The last character of a signature in base64 has bits that mean nothing, and decoders skip padding
and stray characters: itsdangerous accepts a token whose end was changed.
"""

from __future__ import annotations

import itsdangerous
from itsdangerous.encoding import base64_decode, base64_encode


class Signer(itsdangerous.Signer):
    """itsdangerous' own, but that the signature has to be spelled as it was made."""

    def verify_signature(self, value: str | bytes, sig: str | bytes) -> bool:
        """Tell whether `sig` is, character by character, a signature of `value`."""
        return _is_as_made(sig) and super().verify_signature(value, sig)


class TimestampSigner(itsdangerous.TimestampSigner, Signer):
    """The same, with the instant of signing."""


def _is_as_made(signature: str | bytes) -> bool:
    try:
        return base64_encode(base64_decode(signature)) == itsdangerous.want_bytes(signature)
    except itsdangerous.BadData:
        return False
