"""Schemathesis against our own document: what the API says of itself is what it does.

Always the same requests, as many as there is time for, so that a test that passed passes again.
Longer runs, of others each time: `FUZZ_SECONDS=600 script/test tests/web/api/test_fuzz.py`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.conftest import Client, Server, unique

SECONDS = os.environ.get("FUZZ_SECONDS")
EXTENT = (
    ("--phases", "examples,coverage,fuzzing", "--max-time", SECONDS)
    if SECONDS
    else ("--phases", "examples,coverage", "--max-time", "20", "--seed", "1")
)
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
UNHURRIED = hypothesis_settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def fuzzed(start_server_for_module: Callable[..., Server]) -> Server:
    """A server of its own: the fuzzer may end users, keys and tokens."""
    return start_server_for_module()


@pytest.mark.parametrize("with_key", [True, False], ids=["with a key", "without"])
def test_api_does_what_its_document_says(fuzzed: Server, tmp_path: Path, with_key: bool) -> None:
    # The command stands beside this Python, or on the path.
    command = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    # A key, since a token would be signed out by the first logout.
    key = fuzzed.admin.post("/api/me/api-keys", {"name": "fuzz"}).json["key"]
    known = ["--header", f"Authorization: Bearer {key}"] if with_key else []
    run = subprocess.run(
        [
            *(command or "schemathesis", "--config-file", str(CONFIGURATION), "--no-color"),
            *("run", f"{fuzzed.base}/openapi.json", "--checks", "all", *known),
            *EXTENT,
            *("--warnings", "off", "--generation-database", "none"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Traceback" not in fuzzed.log


@pytest.fixture
def slug_pattern(admin: Client) -> re.Pattern[str]:
    """What the document says of a slug, in Python's words."""
    shapes = admin.get("/openapi.json").json["components"]["schemas"]
    return re.compile(shapes["PixelCreate"]["properties"]["slug"]["pattern"].replace("$", r"\Z"))


BLANK = st.text(st.characters(categories=["Zs", "Zl", "Zp", "Cc"]), max_size=2)
SLUG = st.text(st.characters(codec="utf-8"), min_size=1, max_size=102)


@UNHURRIED
@given(BLANK, SLUG, BLANK)
@example("", "a" * 100, " ")
@example("", "a" * 101, "")
@example("", "a" * 99 + " b", "")
@example("", "line", "\r")
@example("\ufeff", "a", "\x85")
@example("\x00", "a", "")
def test_any_slug_makes_a_pixel_whose_image_is_found(
    admin: Client, slug_pattern: re.Pattern[str], before: str, slug: str, after: str
) -> None:
    text = before + slug + after
    answer = admin.post("/api/pixels", {"name": "n", "slug": text})
    if not slug_pattern.search(text):
        assert answer.status == 400
        return
    assert answer.status in (200, 409)
    found = admin.get(f"/api/pixels?pageSize=1&search={unique('none')}")
    assert found.json["count"] == 0
    pixel_id = answer.json.get("id")
    if pixel_id:
        assert answer.json["slug"] == text.strip()
        url = admin.get(f"/api/pixels/{pixel_id}/embed").json["url"]
        assert admin.get(url.removeprefix(admin.base)).status == 200
        admin.delete(f"/api/pixels/{pixel_id}")


@UNHURRIED
@given(st.binary(min_size=1, max_size=60))
@example(b"/")
@example(b"//x")
def test_any_bytes_in_a_path_or_a_query_are_answered(admin: Client, data: bytes) -> None:
    escaped = "".join(f"%{byte:02x}" for byte in data)
    for path in ("/p/none-", "/api/send?slug=none-", "/api/share/", "/share/"):
        assert admin.get(f"{path}{escaped}").status == 404
    assert admin.get(f"/api/pixels?search={escaped}&page={escaped}").status in (200, 400)
