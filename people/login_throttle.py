"""Slows down guessing of passwords and access codes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

from flask import current_app
from sqlalchemy import ColumnElement, delete, func, select

from core.addresses import network_of, site_of
from core.database import db
from core.errors import TooManyRequests
from core.locks import writing
from models import FailedLogin
from people import user_names

WINDOW = timedelta(minutes=15)
PAIR_FAILURES_MAX = 5
ADDRESS_FAILURES_MAX = 30
ACCOUNT_FAILURES_MAX = 100
# Each try costs a password's hash, so no window sees as many; the table is bounded all the same.
ROWS_MAX = 100_000
# After the failures of so many networks of IPv6, all of the site that they belong to count as one.
SITE_FAILURES_MAX = 4 * ADDRESS_FAILURES_MAX


class _Counters(NamedTuple):
    """The names under which one try is counted."""

    pair: str
    address: str
    account: str
    site: str | None

    def all(self) -> list[str]:
        """Return those that there are."""
        return [name for name in self if name]


@contextmanager
def guessing(username: str, address: str, at: datetime, *, is_proof: bool = True) -> Iterator[None]:
    """Count what is checked inside as a failure, and take that back if it ends without an error.

    Unless to get through is no proof of knowing anything: then it counts all the same.

    Counting comes first, so that of many tries at once no more pass than of as many in turn.

    Raises: TooManyRequests, before anything is checked or written, after too many failures.
    """
    counters = _counters(user_names.folded_username(username), address)
    _refuse_too_many(counters, at)
    with writing():
        _refuse_too_many(counters, at)
        _count(counters, at)
    yield
    if is_proof:
        _forgive(counters)


def _refuse_too_many(counters: _Counters, at: datetime) -> None:
    statement = select(FailedLogin.id, FailedLogin.failures, FailedLogin.expires_at)
    rows = db.session.execute(statement.where(FailedLogin.id.in_(counters.all()), _is_counted(at)))
    found = {key: (failures, expires_at) for key, failures, expires_at in rows}
    guessed_at, _ = found.get(counters.account, (0, at))
    pair_max = 1 if guessed_at >= ACCOUNT_FAILURES_MAX else PAIR_FAILURES_MAX
    limits = (
        (counters.pair, pair_max),
        (counters.address, ADDRESS_FAILURES_MAX),
        (counters.site, SITE_FAILURES_MAX),
    )
    for key, most in limits:
        failures, expires_at = found.get(key or "", (0, at))
        if failures >= most:
            raise TooManyRequests(
                math.ceil((expires_at - at).total_seconds()),
                "Too many failed attempts; try again later.",
            )


def _is_counted(at: datetime) -> ColumnElement[bool]:
    """Return the condition for failures of this window.

    Those that a clock made which was far ahead would lock people out until it is that late.
    """
    return FailedLogin.expires_at.between(at + timedelta(milliseconds=1), at + 2 * WINDOW)


def _count(counters: _Counters, at: datetime) -> None:
    db.session.execute(delete(FailedLogin).where(~_is_counted(at)))
    for key in counters.all():
        row = db.session.get(FailedLogin, key, populate_existing=True)
        if row is None:
            row = FailedLogin(id=key, failures=0, expires_at=at + WINDOW)
            db.session.add(row)
        row.failures += 1
    db.session.flush()
    surplus = (db.session.scalar(select(func.count()).select_from(FailedLogin)) or 0) - ROWS_MAX
    if surplus > 0:
        oldest = select(FailedLogin.id).order_by(FailedLogin.expires_at).limit(surplus)
        db.session.execute(delete(FailedLogin).where(FailedLogin.id.in_(oldest)))


def _forgive(counters: _Counters) -> None:
    """Take the count of one try back, and with it what the account failed at this address."""
    with writing():
        db.session.execute(delete(FailedLogin).where(FailedLogin.id == counters.pair))
        for key in (counters.address, counters.account, counters.site):
            row = key and db.session.get(FailedLogin, key, populate_existing=True)
            if row:
                row.failures -= 1


def _counters(username: str, address: str) -> _Counters:
    key = hashlib.sha256(current_app.config["SECRET_KEYS"][-1].encode()).digest()
    network, site = network_of(address), site_of(address)

    def name(*parts: str) -> str:
        text = "\0".join(parts).encode()
        return hashlib.blake2b(text, digest_size=16, key=key, person=b"failed-login").hexdigest()

    return _Counters(
        pair=name("pair", network, username),
        address=name("address", network),
        account=name("account", username),
        site=name("site", site) if site else None,
    )
