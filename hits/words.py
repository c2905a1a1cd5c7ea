"""Which of many words stand in a text, in one look at it.

To look for each by itself takes a third of a microsecond, which for the few hundred words of
`hits.user_agents` is more than all else that a hit costs. Here the text is cut into all its grams
of four bytes, as numbers, and a word is looked for only where a gram of its own is among them. A
long text costs little more than a short one: arrays are gone through outside of Python.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

GRAM_BYTES = 4
# A gram's place in a table is the upper half of its product with this odd number, 2^32 by the
# golden ratio, which spreads neighbours widely (Knuth, The Art of Computer Programming, 6.4).
_SPREAD = np.uint32(2_654_435_769)
_PLACE_BITS = np.uint32(16)


class Vocabulary:
    """The words that are looked for: ASCII, in the case that the text is in."""

    def __init__(self, words: Iterable[str]) -> None:
        encoded = sorted(word.encode("ascii") for word in set(words))
        # These have no gram. They are few.
        self._short = [word for word in encoded if len(word) < GRAM_BYTES]
        # Each of the others stands with that gram of its own which the fewest have.
        grams = {word: _grams(word).tolist() for word in encoded if len(word) >= GRAM_BYTES}
        counts = Counter(gram for found in grams.values() for gram in set(found))
        self._by_gram: dict[int, list[bytes]] = {}
        for word, found in grams.items():
            self._by_gram.setdefault(min(found, key=counts.__getitem__), []).append(word)
        # Says yes to few others, which then are no key.
        self._may_have = np.zeros(1 << int(_PLACE_BITS), bool)
        self._may_have[_places(np.array([*self._by_gram], np.uint32))] = True

    def words_in(self, text: bytes) -> set[str]:
        """Return the words that stand in a text."""
        grams = _grams(text)
        candidates = [*self._short]
        for gram in set(grams[self._may_have[_places(grams)]].tolist()):
            candidates += self._by_gram.get(gram, ())
        return {word.decode() for word in candidates if word in text}


def _places(grams: Any) -> Any:
    return (grams * _SPREAD) >> _PLACE_BITS


def _grams(text: bytes) -> Any:
    """Return all grams of a text as an array, in no order."""
    count = len(text) - GRAM_BYTES + 1
    starts = range(min(GRAM_BYTES, max(count, 1)))
    return np.concatenate(
        [
            np.frombuffer(text, np.uint32, (len(text) - start) // GRAM_BYTES, start)
            for start in starts
        ]
    )
