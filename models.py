"""The tables and their constraints. No question is asked here and nothing is written.

Ids that callers see are UUIDs. Inside, a pixel has a small `number`, so that a hit stays small:
its key is the pixel's number and an id, the order of commits, that as a rule begins with the
instant of its commit, which makes a range of time a range of the key; and its other half names, by
hashes, what is stored once.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.clock import now
from core.database import Instant, Model

# A SQLite key of this type is the rowid itself; PostgreSQL's is a bigint.
RowNumber = BigInteger().with_variant(Integer, "sqlite")

# Rows that live in the key's own tree: no second tree for the index.
CLUSTERED = {"sqlite_with_rowid": False}

# A hit's id is an instant in milliseconds, shifted by these bits, and a number among its equals.
HIT_ID_SHIFT = 20
MS_PER_DAY = 86_400_000


# What is known of somebody who was sent a mail: each status by its number.
STATUSES = ("unopened", "machine", "opened")
UNOPENED, MACHINE, OPENED = range(len(STATUSES))
# In place of an owner's id: what the operator said for all.
EVERY_OWNER = uuid.UUID(int=0)


class User(Model):
    """A person who signs in. A raised `generation` ends every token issued before."""

    __tablename__ = "users"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    username: Mapped[str] = mapped_column(String(255), unique=True)
    # The name without regard to case; three characters stand for some one.
    folded_username: Mapped[str | None] = mapped_column(String(765), index=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(20))
    generation: Mapped[int] = mapped_column(default=0)
    signed_in_at: Mapped[datetime | None] = mapped_column(Instant)
    created_at: Mapped[datetime] = mapped_column(Instant, default=now)


class Team(Model):
    """Users who share pixels; anyone who knows the access code may join."""

    __tablename__ = "teams"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(String(100))
    access_code: Mapped[str] = mapped_column(String(50), unique=True)
    created_at: Mapped[datetime] = mapped_column(Instant, default=now)
    updated_at: Mapped[datetime] = mapped_column(Instant, default=now, onupdate=now)


class TeamUser(Model):
    """A user's membership of a team, with a role."""

    __tablename__ = "team_users"
    __table_args__ = (UniqueConstraint("team_id", "user_id"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    team_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    role: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[datetime] = mapped_column(Instant, default=now)
    updated_at: Mapped[datetime] = mapped_column(Instant, default=now, onupdate=now)

    team: Mapped[Team] = relationship()
    user: Mapped[User] = relationship()


class ApiKey(Model):
    """A user's key for programs: its hash, and the first characters to know it by.

    It reaches as far as its scope, and only to one pixel or team if it names one. These are no
    foreign keys: a key whose pixel is gone must reach nothing, not everything.
    """

    __tablename__ = "api_keys"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(String(100))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    key_prefix: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(Instant, default=now)
    last_used_on: Mapped[str | None] = mapped_column(String(10))
    scope: Mapped[str] = mapped_column(String(10), default="all", server_default="all")
    pixel_id: Mapped[uuid.UUID | None]
    team_id: Mapped[uuid.UUID | None]
    expires_at: Mapped[datetime | None] = mapped_column(Instant)

    user: Mapped[User] = relationship()


class RevokedToken(Model):
    """A token that was signed out, kept until it would have expired by itself."""

    __tablename__ = "revoked_tokens"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(Instant, index=True)


class FailedLogin(Model):
    """How often a password was wrong for an account, an address or both (see `login_throttle`).

    `id` is a keyed hash of what is counted.
    """

    __tablename__ = "failed_logins"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    failures: Mapped[int]
    expires_at: Mapped[datetime] = mapped_column(Instant, index=True)


class Owner(NamedTuple):
    """Whom a pixel or a webhook belongs to: a user, or else a team."""

    user_id: uuid.UUID | None = None
    team_id: uuid.UUID | None = None


class Pixel(Model):
    """A named image with a unique slug, owned by one user or one team."""

    __tablename__ = "pixels"
    __table_args__ = (
        CheckConstraint("(user_id IS NULL) <> (team_id IS NULL)", name="one_owner"),
        {"sqlite_autoincrement": True},  # The number of a deleted pixel is never used again.
    )

    number: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(unique=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(String(100))
    slug: Mapped[str] = mapped_column(String(100), unique=True)
    user_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("users.id"), index=True)
    team_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("teams.id"), index=True)
    privacy: Mapped[str] = mapped_column(String(10), default="full")
    created_at: Mapped[datetime] = mapped_column(Instant, default=now)
    updated_at: Mapped[datetime | None] = mapped_column(Instant)
    sent_at: Mapped[datetime | None] = mapped_column(Instant)
    sent_count: Mapped[int | None]
    retention_days: Mapped[int | None]
    # How far `folding` has come: the last hit taken in, the numbers given to visitors and to
    # profiles, the first UTC day whose hits are still there; `revision` is raised when what was
    # taken in changes.
    folded_through: Mapped[int] = mapped_column(BigInteger, default=0)
    visitor_count: Mapped[int] = mapped_column(default=0)
    profile_count: Mapped[int] = mapped_column(default=0)
    pruned_before: Mapped[int] = mapped_column(default=0)
    revision: Mapped[int] = mapped_column(default=0)
    # Raised when people are added or taken off, named or counted anew, but for what hits change.
    people_version: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    # The latest instant of a hit taken in, in milliseconds: until then the newest day is whole.
    newest_ms: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))

    @hybrid_property
    def owner(self) -> uuid.UUID:
        """The id of the user or the team."""
        owner = self.team_id or self.user_id
        assert owner
        return owner

    @owner.inplace.expression
    @classmethod
    def _owner_expression(cls) -> Any:
        return func.coalesce(cls.team_id, cls.user_id)


class Share(Model):
    """A read-only link to one pixel's statistics."""

    __tablename__ = "shares"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    pixel_number: Mapped[int] = mapped_column(
        ForeignKey("pixels.number", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(String(200))
    slug: Mapped[str] = mapped_column(String(100), unique=True)
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(Instant, default=now)
    updated_at: Mapped[datetime] = mapped_column(Instant, default=now, onupdate=now)

    pixel: Mapped[Pixel] = relationship()


class Webhook(Model):
    """Where a program wants to be told of hits, and how far that has come.

    There is no outbox beside it: the hits are there already, in the order of their commits, and
    `cursor` is the last one that was seen to. What is tried again later is in `held`, for which
    those behind it wait, or in `aside`. The secret is derived from the server's key; a hash tells
    which of the server's keys it was.
    """

    __tablename__ = "webhooks"
    __table_args__ = (CheckConstraint("(user_id IS NULL) <> (team_id IS NULL)", name="one_owner"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    user_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    team_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("teams.id", ondelete="CASCADE"), index=True
    )
    pixel_id: Mapped[uuid.UUID | None]
    url: Mapped[str] = mapped_column(String(2000))
    events: Mapped[list[str]] = mapped_column(JSON)
    secret_hash: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(10), default="active")
    problem: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[datetime] = mapped_column(Instant, default=now)
    # Raised by each change that an owner makes: what was sent by the old words is not kept then.
    version: Mapped[int] = mapped_column(default=0)
    cursor: Mapped[int] = mapped_column(BigInteger)
    held: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    aside: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    log: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)


class Catalogue(Model):
    """The one row that every batch of hits reads in its own transaction.

    `version` is raised by each rename, deletion and change of privacy, so that no hit is stored
    under what a pixel used to be. `folded_through` is the highest hit id that any statistics
    have taken in; later hits get higher ids whatever the clock says. `future_ms` is the latest
    instant of a hit that lay in the future when it was taken in, 0 if none did. `believed_ms` is
    what the housekeeper believed of the clock some minutes ago, `doubted_ms` for how long it had
    shown more than that. `people_key` is wrapped by keys that are not in the database (see
    `core.people_key`).
    """

    __tablename__ = "catalogue"

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, default=0)
    folded_through: Mapped[int] = mapped_column(BigInteger, default=0)
    future_ms: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    believed_ms: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    doubted_ms: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    people_key: Mapped[bytes | None]


class Hit(Model):
    """One answered image. `profile` says what it was, `visitor` who, where that may be known.

    `id` is the order of commits. Its upper bits are the instant in milliseconds as well, unless
    `dated_ms` is: after a clock ran ahead, ids go on above those it made until the right time has
    caught up, and a caller may say when a hit was. As a rule it is null, which takes one byte in
    SQLite and none in PostgreSQL, and the index has no row.
    """

    __tablename__ = "hits"
    __table_args__ = (
        Index(
            "ix_hits_dated_ms",
            "pixel_number",
            "dated_ms",
            sqlite_where=text("dated_ms IS NOT NULL"),
            postgresql_where=text("dated_ms IS NOT NULL"),
        ),
        CLUSTERED,
    )

    pixel_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    visitor: Mapped[int | None] = mapped_column(BigInteger)
    profile: Mapped[int] = mapped_column(BigInteger)
    dated_ms: Mapped[int | None] = mapped_column(BigInteger)


class Profile(Model):
    """All that hits of one kind have in common, stored once for each pixel.

    `id` hashes what was received; `hit_class` and `reason` are what the rules made of it, in the
    version that is kept with them.
    """

    __tablename__ = "profiles"
    __table_args__ = CLUSTERED

    pixel_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hit_class: Mapped[str] = mapped_column(String(10))
    reason: Mapped[str] = mapped_column(String(20))
    rules_version: Mapped[int]
    signals: Mapped[int] = mapped_column(default=0)
    agent: Mapped[int] = mapped_column(BigInteger, index=True)
    country: Mapped[str | None] = mapped_column(String(2))
    language: Mapped[str | None] = mapped_column(String(35))
    hostname: Mapped[str | None] = mapped_column(String(100))
    referrer: Mapped[int | None] = mapped_column(BigInteger)
    query: Mapped[int | None] = mapped_column(BigInteger)
    number: Mapped[int | None]


class UserAgent(Model):
    """A distinct user-agent string, kept so that hits can be classified again.

    `browser`, `os` and `device` are what the rules of `rules_version` read in it. The rows are not
    clustered: in a key's tree of SQLite a row over a quarter of a page takes a page of its own.
    """

    __tablename__ = "agents"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    user_agent: Mapped[str] = mapped_column(String(1000))
    browser: Mapped[str | None] = mapped_column(String(100))
    os: Mapped[str | None] = mapped_column(String(100))
    device: Mapped[str | None] = mapped_column(String(100))
    rules_version: Mapped[int] = mapped_column(default=0, server_default="0")


class Text(Model):
    """A distinct referrer or query of a pixel's hits; not clustered, as `UserAgent` is not."""

    __tablename__ = "texts"

    pixel_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    value: Mapped[str] = mapped_column(String(500))


def _where(switch: str, *conditions: str) -> dict[str, Any]:
    """Return the options of an index over some rows only, as each database writes a condition."""
    others = "".join(f" AND {condition}" for condition in conditions)
    return {
        "sqlite_where": text(f"{switch} IS 1{others}"),
        "postgresql_where": text(f"{switch} IS true{others}"),
    }


class Recipient(Model):
    """Somebody a pixel was sent to: named by a signed link, or (unverified) by a plain one.

    The visitor of a signed link is the number of its issue, at random. `person` is what the key
    of people makes of the name, the same on all pixels. `last_profile` is the profile's number of
    the last open, or else of the last fetch. Of somebody who was forgotten a row stays that says
    nothing of who it was, with a visitor at random, so that a mailing's figures stay.
    """

    __tablename__ = "recipients"
    __table_args__ = (
        Index("ix_recipients_person", "person", "pixel_number"),
        # All that a mailing's figures are made of, so that they never read the rows themselves.
        Index(
            "ix_recipients_status",
            *("pixel_number", "verified", "opted_out", "status", "first_opened_at", "sent_at"),
        ),
        # What lists are in the order of and searched by. Not for those whom plain links name: a
        # sender could make hits dear by long names.
        Index(
            "ix_recipients_name",
            *("pixel_number", "recipient", "visitor", "status", "opted_out"),
            **_where("verified"),
        ),
        Index(
            "ix_recipients_opened",
            *("pixel_number", "last_opened_at", "recipient", "visitor", "opted_out"),
            *("first_opened_at", "opens"),
            **_where("verified", f"status = {OPENED}"),
        ),
        # Written once for a person, at its end as a rule.
        Index(
            "ix_recipients_first_opened",
            *("pixel_number", "first_opened_at", "recipient", "visitor", "opted_out"),
            **_where("verified", f"status = {OPENED}"),
        ),
        CLUSTERED,
    )

    pixel_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    visitor: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    recipient: Mapped[str | None] = mapped_column(String(200))
    verified: Mapped[bool]
    first_opened_at: Mapped[datetime | None] = mapped_column(Instant)
    last_opened_at: Mapped[datetime | None] = mapped_column(Instant)
    opens: Mapped[int] = mapped_column(default=0)
    prefetches: Mapped[int] = mapped_column(default=0)
    bots: Mapped[int] = mapped_column(default=0)
    number: Mapped[int | None]
    # None of those who were forgotten, and of rows of older times until the next start gives it.
    person: Mapped[int | None] = mapped_column(BigInteger)
    status: Mapped[int] = mapped_column(default=UNOPENED)
    opted_out: Mapped[bool] = mapped_column(default=False)
    consent: Mapped[bool] = mapped_column(default=False)
    # Those whom one issue added have the same instant.
    issued_at: Mapped[datetime | None] = mapped_column(Instant)
    sent_at: Mapped[datetime | None] = mapped_column(Instant)
    last_profile: Mapped[int | None]


class OptOut(Model):
    """Somebody who doesn't want to be named on an owner's pixels; without a name once forgotten."""

    __tablename__ = "opt_outs"

    owner: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    person: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    recipient: Mapped[str | None] = mapped_column(String(200))
    said_at: Mapped[datetime] = mapped_column(Instant)
    said_by: Mapped[str] = mapped_column(String(10))


class Forgotten(Model):
    """Somebody whose old links, those of a pixel that carry a name, are hits of nobody for good."""

    __tablename__ = "forgotten"
    __table_args__ = CLUSTERED

    pixel_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    person: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class RetentionRun(Model):
    """The one row that says since when old hits go by themselves, and what went last."""

    __tablename__ = "retention_runs"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    begins_at: Mapped[datetime] = mapped_column(Instant)
    ran_at: Mapped[datetime | None] = mapped_column(Instant)
    hits_removed: Mapped[int] = mapped_column(BigInteger, default=0)
    names_removed: Mapped[int] = mapped_column(BigInteger, default=0)


class Visitor(Model):
    """The small number that a visitor of a pixel has in its segments, from 1."""

    __tablename__ = "visitors"
    __table_args__ = CLUSTERED

    pixel_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    visitor: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    number: Mapped[int]


class Segment(Model):
    """What was derived from a pixel's hits of one UTC day: arrays, in several parts.

    The part that grows with the hits has several pieces, so that none is large.
    """

    __tablename__ = "segments"

    pixel_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    part: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    piece: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes]


class DeletedPixel(Model):
    """The id of a pixel that is gone, which no other is given: links were signed for it."""

    __tablename__ = "deleted_pixels"
    __table_args__ = CLUSTERED

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)


class Salt(Model):
    """The random salt of one UTC day, deleted within the next.

    `boot` names the start of the machine on which it was made, and `clock_offset_ms` is what the
    clock showed then less the time since: by both a clock that jumps is told from a day that ends.
    """

    __tablename__ = "salts"

    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    salt: Mapped[bytes]
    boot: Mapped[str | None] = mapped_column(String(36))
    clock_offset_ms: Mapped[int | None] = mapped_column(BigInteger)


class BurstSighting(Model):
    """A hit that may be one of a gateway's burst, kept for a minute to be compared with others.

    `source` hashes who fetched, under the day's salt.
    """

    __tablename__ = "burst_sightings"
    __table_args__ = CLUSTERED

    pixel_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    source: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hit: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    visitor: Mapped[int] = mapped_column(BigInteger)
    at_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    in_burst: Mapped[bool]


class Erasure(Model):
    """A deleted pixel whose hits are still to be removed from the disk, a chunk at a time."""

    __tablename__ = "erasures"

    pixel_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class Restart(Model):
    """A pixel that starts anew: its hits up to `through` are yet to be removed, in small steps."""

    __tablename__ = "restarts"
    __table_args__ = CLUSTERED

    pixel_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    through: Mapped[int] = mapped_column(BigInteger)


class ImportedHit(Model):
    """A row of a file that was imported, by a hash of its id there: it is not imported again."""

    __tablename__ = "imported_hits"
    __table_args__ = CLUSTERED

    pixel_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    row: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
