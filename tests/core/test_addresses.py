"""Addresses have one form, whatever a proxy writes."""

from __future__ import annotations

import pytest

from core.addresses import network_of, normalized, site_of


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7\t", "203.0.113.7"),
        ("203.0.113.7:20001", "203.0.113.7"),
        ("203.0.113.7:", "203.0.113.7"),
        ('"203.0.113.7"', "203.0.113.7"),
        ('"203.0.113.7:20001"', "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:443", "203.0.113.7"),
        ("::FFFF:cb00:7107", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0:0::0001", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:80", "fe80::1"),
        ("", None),
        ("unknown", None),
        ("_hidden", None),
        ("203.0.113", None),
        ("203.0.113.256", None),
        ("203.0.113.7.8", None),
        ("203.0.113.7:x", None),
        ("203.0.113.7, 203.0.113.8", None),
        ("[2001:db8::1", None),
        ("2001:db8::1]:443", None),
        ("2001:db8::g", None),
        ("localhost", None),
        ("٢٠٣.0.113.7", None),
        ("1" * 5000, None),
        ("\0", None),
        ("203.0.113.7\n", None),
    ],
)
def test_address_has_one_form(written: str, meant: str | None) -> None:
    assert normalized(written) == meant


@pytest.mark.parametrize(
    ("address", "network", "site"),
    [
        ("203.0.113.7", "203.0.113.7", None),
        ("::ffff:203.0.113.7", "203.0.113.7", None),
        ("2001:db8:1:2ff:3::4", "2001:db8:1:2ff::/64", "2001:db8:1:200::/56"),
        ("", "", None),
        ("a socket", "a socket", None),
    ],
)
def test_who_has_one_address_has_its_network(address: str, network: str, site: str | None) -> None:
    assert (network_of(address), site_of(address)) == (network, site)
