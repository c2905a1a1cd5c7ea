"""Addresses have one form, whatever a proxy writes, and are public or not."""

from __future__ import annotations

import pytest

from core.addresses import is_public, network_of, normalized, site_of


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


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1", "64:ff9b::7f00:1", "2002:7f00:1::"),
        *("64:ff9b:1::a00:1", "2001:0:7f00:1::", "172.20.0.1", "fe80::1%eth0", "", "unknown"),
    ],
)
def test_address_that_is_not_public_is_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "1.1.1.1", "2606:4700::1111", "2001:4860:4860::8888", "::ffff:8.8.8.8"),
        *("64:ff9b::808:808", "2002:808:808::1"),
    ],
)
def test_address_that_is_public_is_known(address: str) -> None:
    assert is_public(address)
