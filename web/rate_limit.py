"""How many requests one address may send in a minute, images apart."""

from __future__ import annotations

from datetime import datetime

from flask import Flask, current_app, request

from core.addresses import network_of, site_of
from core.clock import now
from core.errors import TooManyRequests
from core.shared_counts import SharedCounts
from web.request import address

# Of one address, whether they succeed or not: each costs a hash, and two writes.
SIGN_INS_A_MINUTE_MAX = 180
MINUTE_SECONDS = 60
# Of a site of IPv6, so many networks may each send as many as an address may.
NETWORKS_A_SITE = 4
# A page asks for these by itself, and they cost next to nothing; balancers and monitors for those.
NOT_LIMITED = ("/static/", "/healthz", "/metrics", "/api/heartbeat")


class RequestLimit:
    """Counts each address's requests of the running minute; each node counts for itself."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._counts = SharedCounts()

    def count(self, address: str, at: datetime) -> None:
        """Count one request.

        Raises: TooManyRequests beyond the limit, until the minute ends.
        """
        self._count(network_of(address), self._per_minute, at)
        site = site_of(address)
        if site:
            self._count(site, self._per_minute * NETWORKS_A_SITE, at)

    def _count(self, name: str, most: int, at: datetime) -> None:
        minute, second = divmod(int(at.timestamp()), MINUTE_SECONDS)
        if self._counts.add(name, minute) > most:
            raise TooManyRequests(MINUTE_SECONDS - second)


def count_sign_in() -> None:
    """Count a password that the caller's address wants to have checked.

    Raises: TooManyRequests beyond the limit, until the minute ends.
    """
    limit: RequestLimit = current_app.extensions["sign_in_limit"]
    limit.count(address(), now())


def limit_requests(app: Flask, limit: RequestLimit) -> None:
    """Count each request of the API, the pages and shares; images never get here (`hits.image`)."""

    @app.before_request
    def count() -> None:
        if not request.path.startswith(NOT_LIMITED):
            limit.count(address(), now())
