"""Stored hits classified again by today's rules, while the service goes on.

A hit's class is its profile's, so a million hits are a few thousand profiles to look at. A
profile that changes is marked until its pixel's days have been counted anew: whoever stops in
between leaves the marks, and the next run goes on from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import bindparam, func, select, tuple_, update

from core.database import db
from core.errors import Unavailable
from core.locks import sole, writing
from hits.agent_names import OTHER, agent_names_of
from hits.classify import RULES_VERSION, UNKEPT, Verdict, classify_agent, classify_hit
from hits.operator_rules import OperatorRules
from models import MS_PER_DAY, Hit, Profile, UserAgent
from stats import rebuilding
from stats.instants import INSTANT_MS

PROFILES_AT_ONCE_MAX = 2_000
# The version of a profile whose class has changed and whose days are not counted anew yet.
UNCOUNTED = 0


def count_outdated(rules: OperatorRules) -> int:
    """Return how many profiles have yet to go through today's rules."""
    outdated = Profile.rules_version != rules.version
    return db.session.scalar(select(func.count()).select_from(Profile).where(outdated)) or 0


def count_kept(rules: OperatorRules) -> dict[str, int]:
    """Return how many profiles have the reason of each rule that can't be asked again.

    Such a rule asks an address or the time of sending, which no hit keeps: what it decided stays
    while the rule is there, and hits that came before it are not found by it.
    """
    reasons = [rule.reason for rule in rules.rules if not rule.asks_the_agent_only]
    statement = (
        select(Profile.reason, func.count())
        .where(Profile.reason.in_(reasons))
        .group_by(Profile.reason)
    )
    rows: Any = db.session.execute(statement)
    return dict.fromkeys(reasons, 0) | dict(rows.all())


def reclassify(rules: OperatorRules) -> Iterator[int]:
    """Apply today's rules to every profile; yield after each step how many more are done.

    Raises: Unavailable while another process does the same.
    """
    with sole(db.engine, "reclassify") as mine:
        if not mine:
            raise Unavailable("Another process is classifying the hits again already.")
        last = {"of_pixel": 0, "of_profile": 0, "version": rules.version}
        while profiles := db.session.execute(_outdated, last).all():
            yield _classify(profiles, rules)
            last |= {"of_pixel": profiles[-1].pixel_number, "of_profile": profiles[-1].id}
        while (pixel_number := db.session.scalar(_uncounted)) is not None:
            yield _count_anew(pixel_number, rules.version)


def _classify(profiles: Sequence[Any], rules: OperatorRules) -> int:
    """Store today's verdict on some profiles; return how many of them stay as they are."""
    changes = [_change(profile, rules) for profile in profiles]
    agents = {profile.agent: profile.user_agent for profile in profiles}
    names = [
        {"of_agent": id, **agent_names_of(agent)._asdict()} for id, agent in sorted(agents.items())
    ]
    with writing():
        db.session.connection().execute(_update, changes)
        db.session.connection().execute(_update_agents, names)
    return sum(change["to_version"] == rules.version for change in changes)


def _change(profile: Any, rules: OperatorRules) -> dict[str, Any]:
    if profile.user_agent == OTHER or profile.signals & UNKEPT:
        # What it was is not kept; what was made of it stays.
        verdict = Verdict(profile.hit_class, profile.reason, profile.country is not None)
    elif rule := rules.find_again(profile.user_agent, profile.reason):
        verdict = rule.verdict(classify_agent(profile.user_agent))
    else:
        verdict = classify_hit(classify_agent(profile.user_agent), profile.signals)
    hit_class, reason, own_machine = verdict
    # What the rules now call a proxy or a machine says nothing of a person's country.
    country = profile.country if own_machine else None
    same = (hit_class, reason, country) == (profile.hit_class, profile.reason, profile.country)
    return {
        "of_pixel": profile.pixel_number,
        "of_profile": profile.id,
        "to_class": hit_class,
        "to_reason": reason,
        "to_country": country,
        "to_version": rules.version if same else UNCOUNTED,
    }


def _count_anew(pixel_number: int, version: int) -> int:
    """Count the days of marked profiles anew and take the marks away; return how many."""
    days = db.session.scalars(_days_of_uncounted, {"of_pixel": pixel_number}).all()
    rebuilding.rebuild(pixel_number, days)
    with writing():
        return (
            db.session.connection()
            .execute(_unmark, {"of_pixel": pixel_number, "version": version})
            .rowcount
        )


_outdated = (
    select(
        Profile.pixel_number,
        Profile.id,
        Profile.hit_class,
        Profile.reason,
        Profile.signals,
        Profile.country,
        Profile.agent,
        UserAgent.user_agent,
    )
    .join(UserAgent, UserAgent.id == Profile.agent)
    .where(
        Profile.rules_version != UNCOUNTED,
        Profile.rules_version != bindparam("version"),
        tuple_(Profile.pixel_number, Profile.id)
        > tuple_(bindparam("of_pixel"), bindparam("of_profile")),
    )
    .order_by(Profile.pixel_number, Profile.id)
    .limit(PROFILES_AT_ONCE_MAX)
)
_uncounted = select(Profile.pixel_number).where(Profile.rules_version == UNCOUNTED).limit(1)
_days_of_uncounted = (
    select(INSTANT_MS // MS_PER_DAY)
    .distinct()
    .join(Profile, (Profile.pixel_number == Hit.pixel_number) & (Profile.id == Hit.profile))
    .where(Hit.pixel_number == bindparam("of_pixel"), Profile.rules_version == UNCOUNTED)
)
_profiles: Any = Profile.__table__
_update = (
    update(_profiles)
    .where(Profile.pixel_number == bindparam("of_pixel"), Profile.id == bindparam("of_profile"))
    .values(
        hit_class=bindparam("to_class"),
        reason=bindparam("to_reason"),
        country=bindparam("to_country"),
        rules_version=bindparam("to_version"),
    )
)
_agents: Any = UserAgent.__table__
_update_agents = (
    update(_agents)
    .where(UserAgent.id == bindparam("of_agent"))
    .values(
        browser=bindparam("browser"),
        os=bindparam("os"),
        device=bindparam("device"),
        rules_version=RULES_VERSION,
    )
)
_unmark = (
    update(_profiles)
    .where(Profile.pixel_number == bindparam("of_pixel"), Profile.rules_version == UNCOUNTED)
    .values(rules_version=bindparam("version"))
)
