"""A vocabulary finds the words that a search for each by itself finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hits.words import Vocabulary

WORDS = ("bot", "x11", "mail", "mobi", "mobile", "windows nt 10.0", "windows nt 6.1", "(bb10;", "@")
ASCII = st.characters(max_codepoint=127)
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(ASCII, max_size=5)).map("".join)


@given(TEXTS)
def test_the_words_that_stand_in_a_text_are_found(text: str) -> None:
    found = {word for word in WORDS if word in text}
    assert Vocabulary(WORDS).words_in(text.encode()) == found


@given(st.sets(st.text(ASCII, min_size=1, max_size=8), max_size=20), TEXTS)
def test_any_words_may_be_looked_for(words: set[str], text: str) -> None:
    found = {word for word in words if word in text}
    assert Vocabulary(words).words_in(text.encode()) == found
