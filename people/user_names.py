"""Which names of users count as the same: those that look the same when they are typed."""

from __future__ import annotations

import unicodedata

# Some characters are 18 once they are decomposed; an index takes no more than 2,700 bytes.
CHARACTERS_COMPARED_MAX = 255


def folded_username(username: str) -> str:
    """Return what names have in common that differ by case or Unicode's normal forms only."""
    once = unicodedata.normalize("NFKC", username).casefold()
    return unicodedata.normalize("NFKC", once)[:CHARACTERS_COMPARED_MAX]
