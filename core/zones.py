"""The time zones that somebody may name: IANA's, whatever the case."""

from __future__ import annotations

import functools
from zoneinfo import ZoneInfo, available_timezones

# They stand among the zones of a system and mean none in particular.
_NO_ZONES = frozenset({"Factory", "localtime", "posixrules"})


def zone_named(name: str) -> ZoneInfo | None:
    """Return the zone of that name, None if there is none: clients spell `utc` in many ways."""
    found = _by_folded_name().get(name.casefold())
    return ZoneInfo(found) if found else None


def zone_names() -> list[str]:
    """Return the names of all zones in their order."""
    return sorted(_by_folded_name().values())


@functools.cache
def _by_folded_name() -> dict[str, str]:
    return {name.casefold(): name for name in available_timezones() - _NO_ZONES}
