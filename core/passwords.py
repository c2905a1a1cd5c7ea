"""Passwords, hashed with a memory-hard function, and never more at once than the server can bear.

Werkzeug compares in constant time.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from werkzeug.security import check_password_hash, generate_password_hash

from core.errors import TooManyRequests

# N, r, p as OWASP's password storage cheat sheet has them: 16 MiB and a fifth of a second.
METHOD = "scrypt:16384:8:5"
# One is hashed at a time, and those who sign in wait for it: few from each address, so that nobody
# takes the places of the others, and fewer in all than there are threads.
PLACES_MAX = 12
PLACES_OF_ONE_MAX = 2
RETRY_AFTER_SECONDS = 5
# No password hashes to this; checking one against it takes the time that any other takes.
NOBODYS_HASH = f"{METHOD}${'0' * 16}${'0' * 128}"

_hashing = threading.Lock()
_taken: Counter[str] = Counter()
_counting = threading.Lock()


def hash_password(password: str) -> str:
    """Return what may be stored of a password."""
    with _hashing:
        return generate_password_hash(password, method=METHOD)


def is_password(password_hash: str, password: str) -> bool:
    """Tell whether it is the password of that hash; hold a `place` when a stranger is asking."""
    with _hashing:
        return check_password_hash(password_hash, password)


@contextmanager
def place(address: str) -> Iterator[None]:
    """Hold one of the places of an address among those who wait for a hash in this process.

    Raises: TooManyRequests if the address has none left, or all are taken.
    """
    with _counting:
        if _taken[address] >= PLACES_OF_ONE_MAX or _taken.total() >= PLACES_MAX:
            raise TooManyRequests(RETRY_AFTER_SECONDS)
        _taken[address] += 1
    try:
        yield
    finally:
        with _counting:
            _taken[address] -= 1
            if not _taken[address]:
                del _taken[address]
