"""What docs/umami.md says of each of Umami's routes is what a server answers."""

from __future__ import annotations

import pytest

from tests.conftest import Client
from tests.web.api.umami_document import DOCUMENT, Route, document, filled, routes

AGAIN = "python -m tests.web.api.umami_document > docs/umami.md"


def test_document_says_what_is_made_for_it() -> None:
    assert DOCUMENT.read_text() == document(), f"make it again: {AGAIN}"


@pytest.mark.parametrize("route", routes(), ids=lambda route: route.operation)
def test_route_is_there_or_not_as_the_document_says(admin: Client, route: Route) -> None:
    # Whoever has no token is told so by what is there, before anything else.
    answer = admin.with_token(None)(route.method, filled(route.path))
    said = answer.json.get("error", {}).get("message", "")
    is_there = answer.status != 405 and not said.startswith("No such path: ")
    assert is_there == (route.state != "not there"), (answer.status, said)
    if not is_there:
        assert answer.code == {404: "not-found", 405: "method-not-allowed"}[answer.status]
