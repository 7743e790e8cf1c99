# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.addresses import AddressFilter
from hypothesis import given, settings
from hypothesis import strategies as st

PUBLIC = ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a01:4f8::1", "2001:200::1"]
NOT_PUBLIC = [
    "0.0.0.1",
    "10.1.2.3",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert AddressFilter().allows(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not AddressFilter().allows(address)
    assert AddressFilter(["0.0.0.0/0", "::/0"]).allows(address)


@pytest.mark.parametrize("inner", ["10.0.0.1", "127.0.0.1", "169.254.169.254"])
@pytest.mark.parametrize("form", ["::ffff:{}", "64:ff9b::{}", "::{}", "::ffff:0:{}", "6to4"])
def test_ipv6_forms_of_refused_ipv4_addresses(inner: str, form: str) -> None:
    number = int(ipaddress.IPv4Address(inner))
    text = f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1" if form == "6to4" else form.format(inner)
    assert not AddressFilter().allows(text)
    assert not AddressFilter(["192.168.0.0/16"]).allows(text)


@pytest.mark.parametrize("text", ["::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::1"])
def test_ipv6_forms_of_public_ipv4_addresses(text: str) -> None:
    assert AddressFilter().allows(text)


def test_an_allowed_range_allows_the_ipv6_form_too() -> None:
    allowed = AddressFilter(["10.0.0.0/24"])
    assert allowed.allows("10.0.0.7")
    assert allowed.allows("::ffff:10.0.0.7")
    assert not allowed.allows("10.0.1.7")


@pytest.mark.parametrize("text", ["10.0.0.7", "10.0.0.7/32", "10.0.0.9/24", "fd00::/8"])
def test_a_range_may_be_an_address_or_have_host_bits(text: str) -> None:
    assert AddressFilter([text]).allows("fd00::1" if ":" in text else "10.0.0.7")


@pytest.mark.parametrize("text", ["", "example.org", "10.0.0.0/33", "10.0.0", "10.0.0.0-10.0.0.9"])
def test_a_bad_range_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"ip_allowlist: '{text}' is not"):
        AddressFilter(["127.0.0.1", text])


@pytest.mark.parametrize("text", ["", "example.org", "localhost", "127.1", "0x7f.1", "1.1.1.1/32", "[::1]", "%eth0"])
def test_what_is_not_an_address_is_refused(text: str) -> None:
    assert not AddressFilter(["0.0.0.0/0", "::/0"]).allows(text)


@settings(derandomize=True, max_examples=500)
@given(st.ip_addresses())
def test_what_python_takes_for_private_is_refused(address: ipaddress.IPv4Address) -> None:
    if not address.is_global and not (address.version == 6 and address in ipaddress.ip_network("2002::/16")):
        assert not AddressFilter().allows(str(address)) or getattr(address, "ipv4_mapped", None)
