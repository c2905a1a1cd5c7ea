"""Addresses of clients: one form for each, whatever proxies write, and how many one may have."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

# Whoever has one address of IPv6 has all of its /64; many have a /56.
NETWORK_BITS, SITE_BITS = 64, 56
CHARACTERS_MAX = 64
REMEMBERED_MAX = 1024

# As RFC 7239 and balancers write them: with a port, in brackets, in quotes.
_V4_WITH_PORT = re.compile(r"([0-9.]+)(?::[0-9]*)?")
_V6_IN_BRACKETS = re.compile(r"\[([0-9A-Fa-f:.]+)(?:%[^\]]*)?\](?::[0-9]*)?")
_V6 = re.compile(r"([0-9A-Fa-f:.]+)(?:%.*)?")


@lru_cache(maxsize=REMEMBERED_MAX)
def normalized(text: str) -> str | None:
    """Return an address in its one form, without port, zone, brackets or quotes; None for others.

    An IPv4 address that is written as one of IPv6 is the IPv4 address.
    """
    if len(text) > CHARACTERS_MAX:
        return None
    text = text.strip(" \t\"'")
    for pattern in (_V4_WITH_PORT, _V6_IN_BRACKETS, _V6):
        found = pattern.fullmatch(text)
        if found and (parsed := _parsed(found[1])):
            return str(parsed)
    return None


def network_of(address: str) -> str:
    """Return what one client may be assumed to have: an IPv4 address, or a /64 of IPv6."""
    return _network(address, NETWORK_BITS)


def site_of(address: str) -> str | None:
    """Return the /56 that a client with many networks of IPv6 may have; None for IPv4."""
    is_v6 = isinstance(_parsed(address), ipaddress.IPv6Address)
    return _network(address, SITE_BITS) if is_v6 else None


@lru_cache(maxsize=REMEMBERED_MAX)
def _network(address: str, bits: int) -> str:
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(parsed), bits), strict=False))
    return str(parsed or address)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
