"""How many requests one address may send in a minute, images apart."""

from __future__ import annotations

import hashlib
import mmap
import secrets
import struct
from datetime import datetime

from flask import Flask, current_app, request

from core.addresses import network_of, site_of
from core.clock import now
from core.errors import TooManyRequests
from web.request import address

# Of one address, whether they succeed or not: each costs a hash, and two writes.
SIGN_INS_A_MINUTE_MAX = 180
MINUTE_SECONDS = 60
SLOTS = 65_536
# Of a site of IPv6, so many networks may each send as many as an address may.
NETWORKS_A_SITE = 4
_SLOT = struct.Struct("=II")


class RequestLimit:
    """Counts each address's requests of the running minute, in memory that all processes share.

    Make it before the fork. Counts are kept without a lock, which a killed process could leave
    locked: requests that are counted at the same instant may count as one. Each node counts for
    itself, and addresses whose hashes share one of the `SLOTS` share its count.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._key = secrets.token_bytes(16)
        self._memory = mmap.mmap(-1, SLOTS * _SLOT.size)

    def count(self, address: str, at: datetime) -> None:
        """Count one request.

        Raises: TooManyRequests beyond the limit, until the minute ends.
        """
        self._count(network_of(address), self._per_minute, at)
        site = site_of(address)
        if site:
            self._count(site, self._per_minute * NETWORKS_A_SITE, at)

    def _count(self, name: str, most: int, at: datetime) -> None:
        digest = hashlib.blake2b(name.encode(), digest_size=4, key=self._key).digest()
        offset = int.from_bytes(digest, "big") % SLOTS * _SLOT.size
        minute, second = divmod(int(at.timestamp()), MINUTE_SECONDS)
        counted_minute, requests = _SLOT.unpack_from(self._memory, offset)
        requests = requests + 1 if counted_minute == minute else 1
        if requests > most:
            raise TooManyRequests(MINUTE_SECONDS - second)
        _SLOT.pack_into(self._memory, offset, minute, requests)


def count_sign_in() -> None:
    """Count a password that the caller's address wants to have checked.

    Raises: TooManyRequests beyond the limit, until the minute ends.
    """
    limit: RequestLimit = current_app.extensions["sign_in_limit"]
    limit.count(address(), now())


def limit_requests(app: Flask, limit: RequestLimit) -> None:
    """Count each request under `/api`; images never get here (see `collect`)."""

    @app.before_request
    def count() -> None:
        if request.path.startswith("/api/"):
            limit.count(address(), now())
