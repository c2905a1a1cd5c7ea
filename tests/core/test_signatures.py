"""A token that is changed in any character is none: recipients' links, sign-ins and shares."""

from __future__ import annotations

import string
import uuid
from collections.abc import Callable

import pytest

from core.links import Links
from tests.conftest import Client, Server, new_user
from tests.web.api.test_shares import guest_of, new_share

CHARACTERS = string.ascii_letters + string.digits + "-_"
TAILS = ["=", "==", "!", "\n", " ", ".", "A"]


def altered(token: str) -> list[str]:
    """Return a token with another last character, each of them, or with something after it."""
    changed = [token[:-1] + character for character in CHARACTERS if character != token[-1]]
    return [*changed, *(token + tail for tail in TAILS), token[:-1]]


def test_link_that_is_changed_names_nobody() -> None:
    links, pixel = Links(["k" * 32]), uuid.uuid4()
    for number in range(10):
        token = links.sign(pixel, 1000 + number, None)
        assert links.read(pixel, token)
        assert [changed for changed in altered(token) if links.read(pixel, changed)] == []


@pytest.fixture
def tokens(server: Server, admin: Client) -> dict[str, tuple[str, Callable[[str], int]]]:
    """Return a token of each kind, and what a request with one like it is answered."""
    pixel, share = new_share(admin)
    guest = guest_of(admin, share)

    def with_share(token: str) -> int:
        headers = {"x-umami-share-token": token}
        return guest.get(f"/api/websites/{pixel['id']}/active", headers=headers).status

    return {
        "sign-in": (
            new_user(server)[1],
            lambda token: admin.with_token(token).get("/api/me").status,
        ),
        "share": (guest.headers["x-umami-share-token"], with_share),
    }


@pytest.mark.parametrize("kind", ["sign-in", "share"])
def test_token_that_is_changed_lets_nobody_in(
    tokens: dict[str, tuple[str, Callable[[str], int]]], kind: str
) -> None:
    token, status_with = tokens[kind]
    assert status_with(token) == 200
    # A header's own blanks are not the token's.
    tried = [changed for changed in altered(token) if changed.strip() == changed]
    assert {status_with(changed) for changed in tried} == {401}
