"""Passwords, hashed with a memory-hard function, and never more at once than the server can bear.

Werkzeug compares in constant time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from werkzeug.security import check_password_hash, generate_password_hash

from core.errors import TooManyRequests

# N, r, p as OWASP's password storage cheat sheet has them: 16 MiB and a fifth of a second.
METHOD = "scrypt:16384:8:5"
# Logins wait for one another, so that they take neither the memory nor the threads of images.
WAITING_MAX = 4
RETRY_AFTER_SECONDS = 5
# No password hashes to this; checking one against it takes the time that any other takes.
NOBODYS_HASH = f"{METHOD}${'0' * 16}${'0' * 128}"

_places = threading.BoundedSemaphore(WAITING_MAX)
_hashing = threading.Lock()


def hash_password(password: str) -> str:
    """Return what may be stored of a password.

    Raises: TooManyRequests if too many others wait for the same.
    """
    with _turn():
        return generate_password_hash(password, method=METHOD)


def is_password(password_hash: str, password: str) -> bool:
    """Tell whether it is the password of that hash.

    Raises: TooManyRequests if too many others wait for the same.
    """
    with _turn():
        return check_password_hash(password_hash, password)


@contextmanager
def _turn() -> Iterator[None]:
    if not _places.acquire(blocking=False):
        raise TooManyRequests(RETRY_AFTER_SECONDS)
    try:
        with _hashing:
            yield
    finally:
        _places.release()
