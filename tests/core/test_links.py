"""Tokens of recipients' links, as mail may bring them back."""

from __future__ import annotations

import uuid

from core.links import Links


def test_token_whose_dot_was_doubled_still_names_its_person() -> None:
    links, pixel_id = Links(["a key"]), uuid.uuid4()
    token = links.sign(pixel_id, 42, None)
    doubled = links.read(pixel_id, token.replace(".", ".."))
    assert doubled == links.read(pixel_id, token)
    assert doubled is not None
    assert doubled.issue == 42


def test_token_with_more_dots_or_elsewhere_is_not_ours() -> None:
    links, pixel_id = Links(["a key"]), uuid.uuid4()
    token = links.sign(pixel_id, 42, None)
    for wrong in (token.replace(".", "..."), f"..{token}", f"{token}..", token.replace(".", "")):
        assert links.read(pixel_id, wrong) is None
