"""The benchmark's bare servers start and answer, so that there is something to compare with."""

from __future__ import annotations

import argparse
import itertools
import urllib.request

import pytest

from bench.hits import SLUG, _variants
from hits.image import GIF

pytestmark = pytest.mark.processes


def test_each_bare_server_answers_the_image() -> None:
    chosen = argparse.Namespace(workers=1, threads=2, webhook=False)
    for bare in itertools.islice(_variants(chosen), 3):
        with (
            bare as variant,
            urllib.request.urlopen(f"http://127.0.0.1:{variant.port}/p/{SLUG}") as answer,
        ):
            assert answer.read() == GIF, variant.name
