"""When webhooks pause for hits, and for how long: by clocks that a test sets."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pixels import webhook_pace
from pixels.webhook_pace import LOOK_SECONDS, PAUSE_SECONDS_MAX, PAUSE_TIMES, Pace

MESSAGE_SECONDS = 0.001


@dataclass
class Clocks:
    """What time it is, and how much of a processor was used until then, all in seconds."""

    at: float = 0.0
    process: float = 0.0
    thread: float = 0.0

    def monotonic(self) -> float:
        return self.at

    def process_time(self) -> float:
        return self.process

    def thread_time(self) -> float:
        return self.thread

    def go_on(self, *, messages_s: float, others_share: float) -> None:
        """Let the time of one look pass, in which messages and other threads use a processor."""
        self.at += LOOK_SECONDS
        self.thread += messages_s
        self.process += messages_s + others_share * LOOK_SECONDS


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(webhook_pace, "time", clocks)
    return clocks


def test_nothing_pauses_while_there_is_time_for_all(clocks: Clocks) -> None:
    pace = Pace()
    for _ in range(3):
        clocks.go_on(messages_s=MESSAGE_SECONDS, others_share=0.4)
        assert pace.pause_seconds() == 0


def test_messages_pause_for_other_threads_until_these_have_less_to_do(clocks: Clocks) -> None:
    pace = Pace()
    clocks.go_on(messages_s=MESSAGE_SECONDS, others_share=0.9)
    assert pace.pause_seconds() == pytest.approx(MESSAGE_SECONDS * PAUSE_TIMES)
    assert pace.pause_seconds() == 0, "nothing was sent meanwhile"
    clocks.go_on(messages_s=MESSAGE_SECONDS, others_share=0.1)
    assert pace.pause_seconds() == 0


def test_a_pause_has_an_end(clocks: Clocks) -> None:
    pace = Pace()
    clocks.go_on(messages_s=0.04, others_share=0.9)
    assert pace.pause_seconds() == PAUSE_SECONDS_MAX


def test_messages_do_not_pause_for_themselves(clocks: Clocks) -> None:
    pace = Pace()
    clocks.go_on(messages_s=0.9 * LOOK_SECONDS, others_share=0.1)
    assert pace.pause_seconds() == 0
