# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A filter of IP addresses to connect to. Remote servers choose their addresses, so these are hostile input."""

from __future__ import annotations

import ipaddress
from typing import Iterable, Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

REFUSED: list[Network] = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, metadata services of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "::/96",  # unspecified, loopback, IPv4-compatible
        "::ffff:0:0:0/96",  # IPv4-translated
        "64:ff9b:1::/48",  # NAT64 with a local prefix
        "100::/64",  # discard
        "2001::/23",  # protocol assignments, Teredo
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fc00::/7",  # unique local
        "fe80::/10",  # link-local
        "fec0::/10",  # site-local
        "ff00::/8",  # multicast
    )
]
"""Addresses that are not public: IANA's special-purpose registries, which Synapse's default blocklist follows."""

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressFilter:
    """Refuses all addresses that are not public, except for those in I(allowed)."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """
        :param allowed: addresses or CIDR ranges (the option C(ip_allowlist)).
        :raises ValueError: if one is neither. The message quotes it.
        """
        self._allowed: list[Network] = []
        for text in allowed:
            try:
                self._allowed.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                raise ValueError(f"ip_allowlist: '{text}' is not an IP address or a CIDR range") from None

    def allows(self, address: str) -> bool:
        """Return whether to connect to an IP address. Any other text is refused.

        An IPv6 address that contains an IPv4 address (mapped, 6to4, NAT64) is allowed if the IPv4 address is.
        """
        try:
            # Only link-local addresses have a zone, which Python supports since 3.9.
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        forms = [parsed, *_embedded(parsed)]
        if any(form in network for form in forms for network in self._allowed):
            return True
        return not any(forms[-1] in network for network in REFUSED)


def _embedded(address: Address) -> list[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    if address in NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    inner = address.ipv4_mapped or address.sixtofour
    return [] if inner is None else [inner]
