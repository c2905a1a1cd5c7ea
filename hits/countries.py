"""From an address to a country, offline: `iptocc`'s built-in table, or the operator's `.mmdb`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import iptocc

from core.settings import SettingsError

# What a socket of both families calls an IPv4 address by.
IPV4_MAPPED = "::ffff:"

Lookup = Callable[[str], str | None]


def lookup_with(geoip_db: Path | None) -> Lookup:
    """Return the function that turns an IPv4 or IPv6 address into an ISO 3166 code, or None.

    Raises: SettingsError for a file that is not in MaxMind's format.
    """
    if geoip_db is None:
        return _built_in
    # Loaded where there is such a file.
    import maxminddb

    try:
        # Read into memory: one copy, shared by the workers that are forked later.
        reader = maxminddb.open_database(geoip_db, maxminddb.MODE_MEMORY)
    except maxminddb.InvalidDatabaseError as error:
        raise SettingsError(f"PIXELKEEP_GEOIP_DB={geoip_db} can't be used: {error}") from None

    def look_up(address: str) -> str | None:
        try:
            record = reader.get(address.removeprefix(IPV4_MAPPED))
        except ValueError:
            return None
        country = record.get("country") if isinstance(record, dict) else None
        code = country.get("iso_code") if isinstance(country, dict) else None
        return code if isinstance(code, str) and len(code) == 2 else None

    return look_up


def _built_in(address: str) -> str | None:
    code = iptocc.country_code(address.removeprefix(IPV4_MAPPED))
    return code if isinstance(code, str) else None
