"""Addresses: one form for each, whatever proxies write; whose they are, and which are public."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

# Whoever has one address of IPv6 has all of its /64; many have a /56.
NETWORK_BITS, SITE_BITS = 64, 56
CHARACTERS_MAX = 64
REMEMBERED_MAX = 1024
# A gateway makes an IPv4 address out of these, which may be one of ours (RFC 6052, RFC 8215).
NAT64_NETWORKS = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

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
def is_public(address: str) -> bool:
    """Tell whether an address is one that anybody on the internet may ask.

    An IPv6 address that carries an IPv4 one is what both of them are.
    """
    parsed = _parsed(address)
    return parsed is not None and _is_public(parsed)


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inner_addresses(address)
        if inner:
            return all(map(_is_public, inner))
        if address.is_site_local or address.scope_id:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _inner_addresses(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    if any(address in network for network in NAT64_NETWORKS):
        return [ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)]
    if address.teredo:
        return list(address.teredo)
    inner = address.sixtofour
    if inner is None and int(address) >> 32 == 0 and int(address) > 1:
        inner = ipaddress.IPv4Address(int(address))  # The deprecated IPv4-compatible form.
    return [inner] if inner is not None else []


@lru_cache(maxsize=REMEMBERED_MAX)
def _network(address: str, bits: int) -> str:
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(parsed), bits), strict=False))
    return str(parsed or address)


def _parsed(text: str) -> Address | None:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
