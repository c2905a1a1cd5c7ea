"""Which of many words stand in a text, in one look at it.

To look for each by itself takes a third of a microsecond, which for the few hundred words of
`hits.user_agents` is more than all else that a hit costs. Here the text is cut into all its grams
of four bytes, as numbers, and a word is looked for only where a gram of its own is among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

# As many as an unsigned integer of C has, for `cast`.
GRAM_BYTES = 4


class Vocabulary:
    """The words that are looked for: ASCII, in the case that the text is in."""

    def __init__(self, words: Iterable[str]) -> None:
        encoded = sorted(word.encode("ascii") for word in set(words))
        # These have no gram. They are few.
        self._short = [word for word in encoded if len(word) < GRAM_BYTES]
        # Each of the others stands with that gram of its own which the fewest have.
        grams = {word: _grams(word) for word in encoded if len(word) >= GRAM_BYTES}
        counts = Counter(gram for found in grams.values() for gram in set(found))
        self._by_gram: dict[int, list[bytes]] = {}
        for word, found in grams.items():
            self._by_gram.setdefault(min(found, key=counts.__getitem__), []).append(word)
        self._grams = frozenset(self._by_gram)

    def words_in(self, text: bytes) -> set[str]:
        """Return the words that stand in a text."""
        candidates = [*self._short]
        for gram in self._grams.intersection(_grams(text)):
            candidates += self._by_gram[gram]
        return {word.decode() for word in candidates if word in text}


def _grams(text: bytes) -> list[int]:
    """Return all grams of a text, in no order."""
    view = memoryview(text)
    grams: list[int] = []
    for start in range(min(GRAM_BYTES, len(text) - GRAM_BYTES + 1)):
        end = start + (len(text) - start) // GRAM_BYTES * GRAM_BYTES
        grams += view[start:end].cast("I").tolist()
    return grams
