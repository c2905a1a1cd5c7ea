"""A load of image requests, each known by a number in its query, and what became of each."""

from __future__ import annotations

import http.client
import itertools
import threading
from collections import Counter
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.conftest import Client, Server

ANSWER_SECONDS_MAX = 30

# Each request of a load has a query of its own, by which its hit is found again. After so many
# new values of one sender, further ones would be stored as "other".
UNBOUNDED = {"new_values_per_hour": "100000000", "new_values_per_day": "100000000"}


class Load:
    """Clients that fetch one pixel again and again on connections that they keep.

    `answers` has a request's status by its number, or None if it was sent and never answered.
    """

    def __init__(self, client: Client, slug: str, clients: int = 24) -> None:
        parts = urlsplit(client.base)
        self._address = (parts.hostname or "", parts.port)
        self._path = f"/p/{slug}?n="
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        self._numbers = itertools.count()
        self.answers: dict[int, int | None] = {}

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def statuses(self) -> Counter[int | None]:
        """How often each status was answered so far."""
        return Counter(self.answers.copy().values())

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stopping.is_set():
            number = None
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(
                        *self._address, timeout=ANSWER_SECONDS_MAX
                    )
                    connection.connect()
                number = next(self._numbers)
                self.answers[number] = None
                connection.request("GET", f"{self._path}{number}")
                response = connection.getresponse()
                response.read()
                self.answers[number] = response.status
                if response.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException):
                if connection is not None:
                    connection.close()
                connection = None
                # A server that is down refuses at once: don't spin.
                self._stopping.wait(0.01)
        if connection is not None:
            connection.close()


def stored_numbers(server: Server, pixel: dict[str, Any]) -> Counter[int]:
    """Return how often each of a load's requests is stored."""
    number = server.number_of(pixel)
    rows = server.query(
        "SELECT texts.value, count(*) FROM hits"
        " JOIN profiles ON profiles.pixel_number = hits.pixel_number"
        " AND profiles.id = hits.profile"
        " JOIN texts ON texts.pixel_number = hits.pixel_number AND texts.id = profiles.query"
        f" WHERE hits.pixel_number = {number} AND texts.value LIKE 'n=%' GROUP BY texts.value"
    )
    return Counter({int(value.removeprefix("n=")): count for value, count in rows})


def assert_kept(server: Server, pixel: dict[str, Any], answers: dict[int, int | None]) -> None:
    """Fail unless every 200 is stored, none twice, and nothing more than what was in flight."""
    stored = stored_numbers(server, pixel)
    answered = {number for number, status in answers.items() if status == 200}
    in_flight = {number for number, status in answers.items() if status is None}
    assert answered - set(stored) == set()
    assert [number for number, count in stored.items() if count > 1] == []
    assert set(stored) - answered - in_flight == set()
