"""Derived days against an independent recount, after whatever can happen to hits."""

from __future__ import annotations

import random
import secrets
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from flask import Flask, current_app
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update

from core.clock import milliseconds
from core.database import db
from core.locks import writing
from hits.bursts import Sighting
from hits.classify import RULES_VERSION
from hits.people import Addressee
from hits.references import HitContext, Identity, References
from models import (
    HIT_ID_SHIFT,
    MS_PER_DAY,
    STATUSES,
    Hit,
    Owner,
    Pixel,
    Profile,
    Recipient,
    Segment,
    User,
    UserAgent,
)
from pixels import pixels
from stats import arithmetic, compacting, folding, opens, questions, rebuilding, shapes, store
from stats.reading import Reading
from stats.shapes import Event, Filter, Question
from tests.commands import FORKS
from tests.in_process import application, new_environment
from tests.recount import Recount, stored_hits
from tests.stats.other_processes import fold, hold_the_folders_turn, label_and_die
from upkeep import bursts

ASKERS = 6
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/120.0.0.0 Safari/537.36"
)
AGENTS = (CHROME, "curl/8.0", "Mozilla/5.0", "Outlook-Android/2.0")
# Across the night that Europe's clocks go forward, and the one that Lord Howe's go back.
START = datetime(2026, 3, 26, 5, tzinfo=UTC)
ZONES = (
    *("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Havana", "Australia/Lord_Howe"),
    *("Asia/Kolkata", "America/St_Johns", "Africa/Cairo"),
)
FILTERS: tuple[tuple[Filter, ...], ...] = (
    (),
    (),
    (Filter("country", "eq", ("DE",)),),
    (Filter("recipient", "neq", ("r1",)),),
    (Filter("recipient", "c", ("R",)), Filter("browser", "eq", ("chrome", "outlook"))),
    (Filter("utmSource", "c", ("A",)), Filter("language", "neq", ("de",))),
    (Filter("path", "eq", ("/",)),),
)
DIMENSIONS = ("browser", "channel", "query", "country", "class", "reason", "recipient", "path")


@dataclass
class World:
    """A pixel and what a recount knows of it."""

    random: random.Random
    number: int
    at_ms: int = milliseconds(START)
    last_id: int = 0
    names: int = 4
    pruned_before: int = 0
    pruned: list[Event] = field(default_factory=list)
    reclassified: bool = False
    # Hits came to days whose hits were pruned; which visits they belong to can't be known.
    came_late: bool = False
    references: References = field(default_factory=References)

    @property
    def hits(self) -> list[Event]:
        return self.pruned + stored_hits(self.number)

    def hits_come(self, count: int = 0, gap_ms: int = 0, dated_before_ms: int = 0) -> None:
        """Let hits be committed; the clock dates them, or a caller, up to so long before."""
        if not count:
            count, gap_ms = self.random.choice([(3, 4_000_000), (80, 100_000), (60, 2_000_000)])
        rows = []
        for _ in range(count):
            self.at_ms += int(self.random.expovariate(1 / gap_ms))
            self.last_id = max(self.at_ms << HIT_ID_SHIFT, self.last_id + 1)
            at_ms = self.at_ms - self.random.randrange(dated_before_ms + 1)
            self.came_late |= at_ms < self.pruned_before * MS_PER_DAY
            context, identity = self.visit()
            rows.append(
                {
                    "pixel_number": self.number,
                    "id": self.last_id,
                    "dated_ms": None if at_ms == self.last_id >> HIT_ID_SHIFT else at_ms,
                    "visitor": self.visitor(context, identity),
                    "profile": self.references.profile(self.number, context),
                }
            )
        with writing():
            connection = db.session.connection()
            self.references.store(connection)
            connection.execute(insert(Hit), rows)
        # What else the test does may delete rows, which recorders then forget too.
        self.references.forget()

    def hits_come_while_the_clock_is_wrong(self) -> None:
        by_ms = self.random.choice([-3, -1, 1, 2]) * (MS_PER_DAY + 3_456_789)
        self.at_ms += by_ms
        self.hits_come()
        self.at_ms -= by_ms

    def hits_come_dated(self) -> None:
        self.hits_come(40, 100_000, dated_before_ms=self.random.choice([1_000, 3 * MS_PER_DAY]))

    def visit(self) -> tuple[HitContext, Identity | None]:
        choose = self.random.choice
        context = HitContext(
            choose(AGENTS),
            country=choose(["DE", "US", None]),
            language=choose(["de-AT", "en"]),
            referrer=choose([None, "https://t.co/x"]),
            query=choose([None, "utm_source=a", "utm_source=b"]),
        )
        anonymous = Identity(f"192.0.2.{self.random.randrange(6)}")
        name = f"r{self.random.randrange(self.names)}"
        known = Identity("", Addressee(name, verified=choose([True, False])))
        return context, choose([None, anonymous, known, known])

    def visitor(self, context: HitContext, identity: Identity | None) -> int | None:
        links = current_app.extensions["links"]
        self.references.find_people(db.session.connection(), links, [(self.number, identity)])
        return self.references.visitor(self.number, context, identity)

    def some_are_folded(self) -> None:
        folding.fold(self.number, self.random.randrange(1, 120))

    def several_are_folded(self) -> None:
        """Fold this pixel together with others."""
        others = select(Pixel.number).where(Pixel.number != self.number).limit(3)
        folding.fold_several_for_question([self.number, *db.session.scalars(others)])

    def days_are_compacted(self) -> None:
        """Take all recent hits of a few days into their arrays, however few they are."""
        days = store.days_of(self.number)
        for day in self.random.sample(days, min(len(days), 2)):
            assert compacting.compact(self.number, day)

    def days_are_of_an_older_release(self) -> None:
        """Have arrays only, as before there were recent hits."""
        for day in store.days_of(self.number):
            assert compacting.compact(self.number, day)
        with writing():
            db.session.execute(
                delete(Segment).where(
                    Segment.pixel_number == self.number, Segment.part == store.Part.RECENT
                )
            )

    def days_are_pruned(self) -> None:
        day = self.at_ms // MS_PER_DAY - self.random.randrange(4)
        if day <= self.pruned_before:
            return
        old = [hit for hit in stored_hits(self.number) if milliseconds(hit.at) < day * MS_PER_DAY]
        rebuilding.forget_hits(self.number, day)
        with writing():
            ids = [hit.id for hit in old]
            db.session.execute(delete(Hit).where(Hit.pixel_number == self.number, Hit.id.in_(ids)))
        self.pruned, self.pruned_before = self.pruned + old, day

    def rules_change(self) -> None:
        agent, hit_class = self.random.choice(AGENTS), self.random.choice(["open", "bot"])
        with writing():
            db.session.execute(
                update(Profile)
                .where(
                    Profile.pixel_number == self.number,
                    Profile.agent.in_(select(UserAgent.id).where(UserAgent.user_agent == agent)),
                )
                .values(hit_class=hit_class, reason="changed")
                .execution_options(synchronize_session=False)
            )
        rebuilding.rebuild(self.number)
        self.reclassified = True
        self.pruned = [_reclassified(hit, agent, hit_class) for hit in self.pruned]

    def burst_is_labelled(self) -> None:
        """Label some hits as one gateway's, of those that are counted and those that aren't."""
        bursts.label(self.sightings(), RULES_VERSION)
        self.reclassified = True

    def sightings(self) -> list[Sighting]:
        hits = stored_hits(self.number)
        some = self.random.sample(hits, min(len(hits), 30))
        return [Sighting(self.number, hit.id, 0, 1, milliseconds(hit.at)) for hit in some]

    def segments_are_lost(self) -> None:
        """Lose what is derived of the days that still have their hits; make it again."""
        with writing():
            db.session.execute(
                delete(Segment).where(
                    Segment.pixel_number == self.number, Segment.day >= self.pruned_before
                )
            )
        days = {milliseconds(hit.at) // MS_PER_DAY for hit in stored_hits(self.number)}
        rebuilding.rebuild(self.number, sorted(days))

    def check(self) -> None:
        """Ask all questions of both."""
        recount = Recount(self.hits, self.pruned_before)
        # Visits are not compared where they can't be known.
        columns = slice(2) if self.came_late else slice(None)
        for question in [self.question() for _ in range(2)]:
            assert questions.totals(question)[columns] == recount.totals(question)[columns]
            for unit in ("hour", "half-day", "day", "month"):
                for filled in (True, False):
                    ours = questions.series(question, unit, filled=filled)
                    assert ours == recount.series(question, unit, filled=filled)
            # As a page asks, whose questions share what they read.
            shared = replace(question, reading=Reading(self.number))
            of_all = replace(shared, hit_class="all", filters=())
            assert questions.by_class(of_all) == recount.by_class(of_all)
            limit = self.random.randrange(1, 9)
            leaders = {
                dimension: recount.leaders(question, dimension)[:limit] for dimension in DIMENSIONS
            }
            assert questions.leaders(shared, DIMENSIONS, limit=limit) == leaders
            assert opens.count(shared) == recount.totals(question)[:2]
            for unit in ("hour", "day"):
                series = recount.series(question, unit, filled=True)
                assert questions.page_views(shared, unit) == [point.pageviews for point in series]
                assert questions.series(shared, unit, filled=True) == series
            for dimension in DIMENSIONS:
                limit = self.random.randrange(1, 9)
                ours = questions.breakdown(question, dimension, limit=limit, offset=1)
                theirs = recount.breakdown(question, dimension)[1 : limit + 1]
                of_row = slice(3) if self.came_late else slice(None)
                assert [row[of_row] for row in ours] == [row[of_row] for row in theirs]
            listed = recount.listed(question)
            assert questions.event_count(question) == len(listed)
            assert questions.events(question, page=2, page_size=7) == listed[::-1][7:14]
            assert list(questions.export(question)) == listed
            if listed:
                after = self.random.choice(listed)
                in_order = sorted(listed, key=lambda hit: hit.id)
                expected = [hit for hit in in_order if hit.id > after.id][:5]
                assert questions.events_after(question, after.id, limit=5) == expected
        self.check_recipients()

    def profile_of(self, hit: Event) -> int | None:
        """Return the number of a stored hit's profile."""
        statement = (
            select(Profile.number)
            .join(Hit, (Hit.pixel_number == self.number) & (Hit.profile == Profile.id))
            .where(Profile.pixel_number == self.number, Hit.id == hit.id)
        )
        return db.session.scalar(statement)

    def question(self) -> Question:
        length_ms = max(self.at_ms - milliseconds(START), 1)
        start = START + timedelta(milliseconds=self.random.randrange(length_ms))
        lengths = [self.random.randrange(10**7), self.random.randrange(10**9), 10 * MS_PER_DAY - 1]
        if self.random.random() < 0.4:
            start = start.replace(hour=0, minute=0, second=0, microsecond=0)
        return Question(
            self.number,
            start,
            start + timedelta(milliseconds=self.random.choice(lengths)),
            self.random.choice(["open", "prefetch", "bot", "all"]),
            self.random.choice(FILTERS),
            ZoneInfo(self.random.choice(ZONES)),
        )

    def check_recipients(self) -> None:
        hits = self.hits
        rows = db.session.scalars(select(Recipient).where(Recipient.pixel_number == self.number))
        for row in rows.all():
            db.session.refresh(row)
            classes = [hit.source.hit_class for hit in hits if hit.visitor == row.visitor]
            counts = tuple(classes.count(hit_class) for hit_class in ("open", "prefetch", "bot"))
            assert (row.opens, row.prefetches, row.bots) == counts
            opens = [
                hit.at
                for hit in hits
                if hit.visitor == row.visitor and hit.source.hit_class == "open"
            ]
            if not (self.reclassified and self.pruned):
                assert row.first_opened_at == min(opens, default=None)
                assert row.last_opened_at == max(opens, default=None)
            assert STATUSES[row.status] == _status_of(counts)
            if opens and not self.pruned:
                last = [hit for hit in hits if hit.at == max(opens)]
                assert row.last_profile in [self.profile_of(hit) for hit in last]


def _status_of(counts: tuple[int, ...]) -> str:
    return "opened" if counts[0] else "machine" if any(counts) else "unopened"


def _reclassified(hit: Event, agent: str, hit_class: str) -> Event:
    if hit.source.user_agent != agent:
        return hit
    source = hit.source._replace(hit_class=hit_class, reason="changed")
    return hit._replace(
        source=source, values={**hit.values, "class": hit_class, "reason": "changed"}
    )


@pytest.fixture(scope="module")
def environment(
    tmp_path_factory: pytest.TempPathFactory, database: str, request: pytest.FixtureRequest
) -> dict[str, str]:
    return new_environment(tmp_path_factory, database, request)


@pytest.fixture(scope="module")
def app(environment: dict[str, str]) -> Iterator[Flask]:
    """An application in this process, so that hits can have any instant."""
    with application(environment) as app:
        yield app


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the few hits and recipients of these tests be several pieces."""
    monkeypatch.setattr(arithmetic, "PIECE_HITS_MAX", 16)
    monkeypatch.setattr(rebuilding, "PIECE_HITS_MAX", 16)
    monkeypatch.setattr(compacting, "RECENT_HITS_MIN", 12)
    monkeypatch.setattr(compacting, "RECENT_PIECE_HITS", 5)
    monkeypatch.setattr(rebuilding, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(folding, "ROWS_AT_ONCE", 3)


def new_world(seed: int) -> World:
    user = db.session.scalars(select(User)).first()
    assert user
    slug = secrets.token_hex(8)
    pixel = pixels.create(slug, slug, Owner(user_id=user.id))
    return World(random.Random(seed), pixel.number)


EVENTS: dict[str, Callable[[World], None]] = {
    "hits": World.hits_come,
    "more hits": World.hits_come,
    "hits of a wrong clock": World.hits_come_while_the_clock_is_wrong,
    "dated hits": World.hits_come_dated,
    "fold": World.some_are_folded,
    "fold several": World.several_are_folded,
    "compact": World.days_are_compacted,
    "older release": World.days_are_of_an_older_release,
    "prune": World.days_are_pruned,
    "rules": World.rules_change,
    "lose": World.segments_are_lost,
    "burst": World.burst_is_labelled,
    "check": World.check,
}


@given(
    st.lists(st.sampled_from(sorted(EVENTS)), min_size=2, max_size=8),
    st.integers(0, 2**32),
)
@hypothesis_settings(
    max_examples=8,
    phases=(Phase.explicit, Phase.generate),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_answers_equal_a_recount_whatever_happens(app: Flask, events: list[str], seed: int) -> None:
    world = new_world(seed)
    world.hits_come()
    for event in events:
        EVENTS[event](world)
    world.check()


def test_filtered_half_day_after_an_hour_of_another_counts_each_visitor_once(app: Flask) -> None:
    end = START + timedelta(hours=7)
    for seed in range(100):
        world = new_world(seed)
        world.hits_come()
        if START + timedelta(hours=2) < world.hits[-1].at < end:
            break
    filters = (Filter("country", "eq", ("DE",)),)
    for hours in range(-1, 3):
        zone = ZoneInfo(f"Etc/GMT{hours:+d}")
        question = Question(world.number, START.replace(hour=0), end, "all", filters, zone)
        ours = questions.series(question, "half-day", filled=True)
        assert ours == Recount(world.hits).series(question, "half-day", filled=True)
        assert sum(point.pageviews for point in ours) > sum(point.visitors for point in ours)


def test_day_with_hits_of_its_first_seconds_alone_is_counted(app: Flask) -> None:
    midnight = START.replace(hour=0) + timedelta(days=1)
    world = new_world(1)
    world.at_ms = milliseconds(midnight)
    for _ in range(3):
        world.hits_come(count=40, gap_ms=100)
        folding.fold(world.number)
    filters = (Filter("country", "eq", ("DE",)), Filter("recipient", "eq", ("r1", "r2")))
    question = Question(world.number, midnight, midnight + timedelta(hours=1), "all", filters)
    assert questions.totals(question) == Recount(world.hits).totals(question)
    world.check()


@pytest.mark.parametrize("changes", [World.rules_change, World.burst_is_labelled])
def test_recount_while_hits_are_folded_counts_each_once(
    app: Flask, changes: Callable[[World], None]
) -> None:
    world = new_world(1)
    world.hits_come()

    def hits_go_on() -> None:
        with app.app_context():
            for _ in range(10):
                world.names += 5
                world.hits_come()
                folding.fold(world.number)

    with ThreadPoolExecutor() as pool:
        going_on = pool.submit(hits_go_on)
        while not going_on.done():
            changes(world)
        going_on.result()
    world.check()


def test_hits_that_several_ask_for_at_once_are_folded_once(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world(1)
    world.hits_come(count=200, gap_ms=10_000)
    tried: list[Collection[int]] = []
    try_to_fold = folding._try_to_fold

    def counted(numbers: Collection[int], count: int) -> int | None:
        tried.append(numbers)
        return try_to_fold(numbers, count)

    monkeypatch.setattr(folding, "_try_to_fold", counted)
    together = threading.Barrier(ASKERS)
    question = Question(world.number, START, START + timedelta(days=30), "all")

    def ask(_: int) -> int:
        with app.app_context():
            together.wait()
            return questions.totals(question).pageviews

    with ThreadPoolExecutor(ASKERS) as pool:
        assert list(pool.map(ask, range(ASKERS))) == [200] * ASKERS
    assert len(tried) == 1


def test_answers_stay_exact_while_hits_come_and_the_house_is_kept(app: Flask) -> None:
    world = new_world(1)
    world.hits_come()
    question = Question(world.number, START, START + timedelta(days=300), "all")
    begun = done = len(world.hits)

    def hits_go_on() -> None:
        nonlocal begun, done
        with app.app_context():
            for _ in range(15):
                world.names += 2
                begun += 40
                world.hits_come(count=40, gap_ms=300_000)
                done += 40

    def keep_house() -> None:
        with app.app_context():
            for _ in folding.fold_pending(START + timedelta(days=900)):
                pass
            for _ in folding.compact_days(Pixel.number == world.number):
                pass

    def ask() -> None:
        with app.app_context():
            at_least = done
            counted = questions.totals(question).pageviews
            listed = sum(row.pageviews for row in questions.breakdown(question, "class", limit=9))
            assert at_least <= counted <= listed <= begun

    with ThreadPoolExecutor(ASKERS) as pool:
        going_on = pool.submit(hits_go_on)
        while not going_on.done():
            others = [pool.submit(task) for task in (keep_house, ask, ask, ask)]
            for other in others:
                other.result()
        going_on.result()
    # The recount's snapshot is of the time before.
    db.session.commit()
    for _ in range(3):
        world.check()


@pytest.mark.processes
def test_question_waits_for_another_process_that_folds_and_not_for_too_long(
    app: Flask, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world(1)
    world.hits_come(count=20, gap_ms=1_000)
    folding.fold(world.number)
    world.hits_come(count=20, gap_ms=1_000)
    question = Question(world.number, START, START + timedelta(days=30), "all")
    monkeypatch.setattr(folding, "FOLD_SECONDS_MAX", 0.2)
    ours, theirs = FORKS.Pipe()
    process = FORKS.Process(target=hold_the_folders_turn, args=(environment, world.number, theirs))
    process.start()
    theirs.close()
    assert ours.recv() is True
    assert questions.totals(question).pageviews == 20
    ours.send("enough")
    process.join()
    assert questions.totals(question).pageviews == 40


@pytest.mark.processes
def test_killed_while_folding_loses_and_doubles_nothing(
    app: Flask, environment: dict[str, str]
) -> None:
    world = new_world(1)
    for _ in range(4):
        for _ in range(3):
            world.hits_come()
        ours, theirs = FORKS.Pipe()
        process = FORKS.Process(target=fold, args=(environment, world.number, theirs))
        process.start()
        theirs.close()
        for _ in range(world.random.randrange(1, 8)):
            assert ours.recv() == "folded"
        process.kill()
        process.join()
        ours.close()
    world.check()


@pytest.mark.processes
def test_killed_after_a_burst_was_labelled_the_next_start_counts_it(
    app: Flask, environment: dict[str, str]
) -> None:
    world = new_world(1)
    world.hits_come(80, 100_000)
    world.some_are_folded()
    process = FORKS.Process(target=label_and_die, args=(environment, world.sightings()))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    db.session.commit()
    assert bursts.finish(RULES_VERSION) == 1
    assert bursts.finish(RULES_VERSION) == 0
    for _ in range(5):
        world.check()


def test_pixel_that_is_gone_answers_nothing(app: Flask) -> None:
    question = Question(10**9, START, START + timedelta(days=1))
    assert questions.totals(question) == shapes.Totals()
    assert questions.breakdown(question, "browser", limit=5) == []
    assert questions.events(question) == questions.events_after(question, 0, limit=5) == []
    assert len(questions.series(question, "hour", filled=True)) == 25
    assert questions.date_range(10**9) is None
