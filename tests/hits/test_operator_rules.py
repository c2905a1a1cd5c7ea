"""The operator's own rules: how they are read, what they decide, and what is wrong with a file."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.settings import SettingsError
from hits.classify import RULES_VERSION
from hits.operator_rules import OperatorRules, load
from tests.conftest import Server, verdicts

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/142.0.0.0 Safari/537.36"
)
RULES = """
own = ["198.51.100.0/24", "2001:db8:5::/48"]

[[rule]]
name = "printer"
contains = "PrintView"
class = "bot"

[[rule]]
name = "reader"
matches = '^FeedPal/[0-9]'
class = "open"

[[rule]]
name = "gateway"
network = "8.8.8.0/24"
seconds = 60
class = "prefetch"

[burst]
people = 20
seconds = 4
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], OperatorRules]:
    def read(text: str) -> OperatorRules:
        path = tmp_path / "rules.toml"
        path.write_text(text)
        return load(path)

    return read


@pytest.mark.parametrize(
    ("agent", "address", "seconds", "reason"),
    [
        (f"{CHROME} PRINTVIEW/2", "", None, "rule:printer"),
        ("FeedPal/3", "", None, "rule:reader"),
        ("My FeedPal/3", "", None, None),
        (CHROME, "198.51.100.7", None, "own"),
        (CHROME, "::ffff:198.51.100.7", None, "own"),
        (CHROME, "2001:db8:5:1::2", None, "own"),
        (f"{CHROME} PrintView", "198.51.100.7", None, "own"),
        (CHROME, "8.8.8.9", 30.0, "rule:gateway"),
        (CHROME, "8.8.8.9", 61.0, None),
        (CHROME, "8.8.8.9", None, None),
        (CHROME, "8.8.9.9", 30.0, None),
        (CHROME, "not an address", 30.0, None),
    ],
)
def test_first_rule_that_applies_decides(
    write: Callable[[str], OperatorRules],
    agent: str,
    address: str,
    seconds: float | None,
    reason: str | None,
) -> None:
    rule = write(RULES).find(agent, address, seconds)
    assert (rule and rule.reason) == reason


def test_thresholds_of_bursts_are_set(write: Callable[[str], OperatorRules]) -> None:
    assert write(RULES).burst[:2] == (20, 4.0)


def test_other_rules_are_another_version(write: Callable[[str], OperatorRules]) -> None:
    assert load(None).version == RULES_VERSION
    first = write(RULES).version
    assert first == write(RULES).version
    assert len({RULES_VERSION, first, write(RULES.replace("PrintView", "Other")).version}) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rule = =", "line 1"),
        ("[[rules]]", "no 'rules'"),
        ("[[rule]]\nclass = 'bot'", "rule 1 needs a name"),
        ("[[rule]]\nname = 'a name too long for it'\nclass = 'bot'", "needs a name"),
        ("[[rule]]\nname = 'x'\ncontains = 'y'", "class is open, prefetch or bot"),
        ("[[rule]]\nname = 'x'\nclass = 'human'\ncontains = 'y'", "class is open"),
        ("[[rule]]\nname = 'x'\nclass = 'bot'", "asks nothing"),
        ("[[rule]]\nname = 'x'\nclass = 'bot'\nagent = 'y'", "no 'agent'"),
        ("[[rule]]\nname = 'x'\nclass = 'bot'\nmatches = '('", "no regular expression"),
        ("[[rule]]\nname = 'x'\nclass = 'bot'\nmatches = '(a+)+$'", "repeat a group"),
        ("[[rule]]\nname = 'x'\nclass = 'bot'\nmatches = 'a.*b.*c'", "one of *"),
        ("[[rule]]\nname = 'x'\nclass = 'bot'\nmatches = '(a)\\1'", "look around"),
        ("[[rule]]\nname = 'x'\nclass = 'bot'\nnetwork = '8.8.8.1/24'", "has host bits"),
        ("[[rule]]\nname = 'x'\nclass = 'bot'\nseconds = -1", "a number above 0"),
        ("own = 'office'", "own: "),
        ("[burst]\npeople = 1", "from 2"),
        (
            "[[rule]]\nname='x'\nclass='bot'\ncontains='a'\n"
            "[[rule]]\nname='x'\nclass='bot'\ncontains='b'",
            "two rules",
        ),
    ],
)
def test_file_that_is_wrong_says_so_in_a_line(
    write: Callable[[str], OperatorRules], text: str, words: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        write(text)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def ruled(
    start_server_for_module: Callable[..., Server],
    database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Server:
    """A server with rules that believes one proxy."""
    path = tmp_path_factory.mktemp("rules") / "rules.toml"
    path.write_text(RULES)
    return start_server_for_module(database, trusted_proxies="1", rules=str(path))


@pytest.mark.parametrize(
    ("agent", "address", "expected"),
    [
        (f"{CHROME} PrintView/2", "9.9.9.9", ("bot", "rule:printer")),
        ("FeedPal/3.1", "9.9.9.9", ("open", "rule:reader")),
        (CHROME, "198.51.100.7", ("bot", "own")),
        (CHROME, "9.9.9.9", ("open", "browser")),
    ],
)
def test_hit_has_the_class_and_reason_of_a_rule(
    ruled: Server, agent: str, address: str, expected: tuple[str, str]
) -> None:
    pixel = ruled.admin.create_pixel()
    headers = {"User-Agent": agent, "X-Forwarded-For": address}
    ruled.admin.with_token(None).get(f"/p/{pixel['slug']}", headers=headers)
    assert [row[:2] for row in verdicts(ruled, pixel)] == [expected]


def test_rule_of_network_and_seconds_decides_and_stays(ruled: Server) -> None:
    pixel = ruled.admin.create_pixel()
    sent_at = datetime.fromtimestamp(time.time() - 20, UTC).isoformat().replace("+00:00", "Z")
    embed = ruled.admin.get(f"/api/pixels/{pixel['id']}/embed?recipient=ann&sentAt={sent_at}")
    path = embed.json["url"].removeprefix(ruled.base)
    headers = {"User-Agent": CHROME, "X-Forwarded-For": "8.8.8.9"}
    ruled.admin.with_token(None).get(path, headers=headers)
    assert verdicts(ruled, pixel) == [("prefetch", "rule:gateway", "ann")]
    ruled.execute("UPDATE profiles SET rules_version = 1")
    done = ruled.cli("reclassify")
    assert "rule:gateway: not asked again" in done.stdout
    assert verdicts(ruled, pixel) == [("prefetch", "rule:gateway", "ann")]


def test_classify_says_which_row_decides(ruled: Server) -> None:
    theirs = ruled.cli("classify", f"{CHROME} printview").stdout
    assert "rule:printer" in theirs
    assert "contains printview" in theirs
    ours = ruled.cli("classify", "Mozilla/5.0").stdout
    assert "apple-mpp" in ours
    assert "relay" in ours
