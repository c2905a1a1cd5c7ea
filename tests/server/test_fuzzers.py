"""A few fixed draws of each fuzzer; `script/fuzz` runs them for as long as one likes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Server
from tests.fuzz import framings, readers

SEED = 20261125
DRAWS = 400
FRAMINGS = 30


@pytest.fixture(scope="module")
def one_process(start_server_for_module: Callable[..., Server]) -> Iterator[Server]:
    server = start_server_for_module(workers="1", threads="4")
    yield server
    assert "Traceback" not in server.log


def test_both_readers_answer_and_store_alike(one_process: Server) -> None:
    dice, comparison = random.Random(SEED), readers.Comparison(one_process)
    for _ in range(DRAWS // readers.BATCH_DRAWS):
        draws = [readers.draw(dice, comparison.slug) for _ in range(readers.BATCH_DRAWS)]
        assert comparison.differences(draws) == []


@pytest.mark.parametrize(
    "field",
    [
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: br",
        b"Transfer-Encoding: gzip\r\nContent-Length: 1",
        b"Expect: nonsense",
        b"Expect: 100-continue, nonsense",
    ],
)
def test_both_readers_answer_alike_whatever_a_head_asks_for(
    one_process: Server, field: bytes
) -> None:
    comparison = readers.Comparison(one_process)
    line = b"GET /p/%b HTTP/1.1\r\n" % comparison.slug
    assert comparison.differences([line + field + b"\r\n\r\nx" + line + b"\r\n"]) == []


def test_odd_framings_are_answered_while_images_are(one_process: Server) -> None:
    slug = one_process.admin.create_pixel()["slug"]
    dice = random.Random(SEED)
    for _ in range(FRAMINGS):
        framings.send_all(one_process.port, framings.framing(dice))
        assert one_process.admin.get(f"/p/{slug}").status == 200
