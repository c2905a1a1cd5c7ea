"""Tokens of recipients' links, as mail may bring them back."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime

import pytest

from core.links import Links, SignedRecipient
from core.people_key import OptOutLink, PeopleKey

KEY = "a key of the first release"
PIXEL_ID = uuid.UUID("880e8400-e29b-41d4-a716-446655440003")
SENT_AT = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
# What was handed out before tokens were letters and digits, and what it says.
DOTTED = {
    "_wAAAAAAAAAqAaIHvanA.bHfFljGFQ_Z8RLIqBWMf0g": SignedRecipient(42, "", SENT_AT),
    "_7qcbn27DAAAAAAAAAAA.oZ_T5Z54z4t6mbN_7pcSJQ": SignedRecipient(
        -5_000_000_000_000_000_000, "", None
    ),
}


@pytest.mark.parametrize("issue", [42, -(2**63), 2**63 - 1])
def test_token_is_what_mail_leaves_alone(issue: int) -> None:
    links = Links([KEY])
    token = links.sign(PIXEL_ID, issue, SENT_AT)
    assert re.fullmatch("[0-9A-Za-z]{42}", token)
    # What mail programs break: dots at the beginning of a line, lines at hyphens, ends of links.
    for brings_back in (token, token.replace(".", ".."), token.replace("-", "-\r\n")):
        assert links.read(PIXEL_ID, brings_back) == SignedRecipient(issue, "", SENT_AT)
    for wrong in (f"{token}.", f"..{token}", token[:-1], f"0{token}", f"{token[:-1]}\u0661"):
        assert links.read(PIXEL_ID, wrong) is None


def test_token_that_spells_too_great_a_number_is_none() -> None:
    assert Links([KEY]).read(PIXEL_ID, "z" * 42) is None


@pytest.mark.parametrize("token", DOTTED)
def test_token_that_was_handed_out_before_stays_good_though_its_dot_was_doubled(token: str) -> None:
    links = Links([KEY])
    assert links.read(PIXEL_ID, token) == DOTTED[token]
    assert links.read(PIXEL_ID, token.replace(".", "..")) == DOTTED[token]
    for wrong in (
        *(token.replace(".", "..."), f"..{token}", f"{token}..", token.replace(".", "")),
        f"{token[:-1]}R",
    ):
        assert links.read(PIXEL_ID, wrong) is None


def test_opt_out_link_is_what_mail_leaves_alone_and_older_ones_stay_good() -> None:
    key, link = PeopleKey(b"k" * 32), OptOutLink(7, PIXEL_ID, -12_345)
    token = key.sign_opt_out(link)
    assert re.fullmatch("[0-9A-Za-z]+", token)
    older = "AAAAAAAAAAeIDoQA4ptB1KcWRGZVRAAD________z8eN8A9ZCoGh9cOa_TQPfyFM"
    assert key.read_opt_out(token) == key.read_opt_out(older) == link
    for wrong in (token[:-1], f"{token}0", token.swapcase(), older[:-1], older.swapcase()):
        assert key.read_opt_out(wrong) is None
