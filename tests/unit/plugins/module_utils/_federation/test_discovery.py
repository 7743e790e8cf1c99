# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Tuple
from unittest import mock

import dns.exception
import dns.name
import dns.resolver
import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation import discovery as module
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.addresses import AddressFilter
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.discovery import (
    WELL_KNOWN,
    Discovery,
    Endpoint,
    SystemResolver,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import (
    AddressNotAllowedError,
    FederationError,
    InvalidNameError,
    MissingRequirementError,
    UnreachableError,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.transport import HttpAnswer, Transport
from ansible_collections.matrixops.synapse.tests.stubs.helpers import PassingTime
from ansible_collections.matrixops.synapse.tests.stubs.tls_server import Answer, Request, TlsServer, http
from hypothesis import given, settings
from hypothesis import strategies as st

Serve = Callable[..., TlsServer]
Address = Tuple[str, int]

GENEROUS = 60.0
LONG_AGO = "Thu, 01 Jan 1970 00:00:00 GMT"


@pytest.fixture(autouse=True)
def clock(passing_time: PassingTime) -> PassingTime:
    return passing_time


class FakeResolver:
    """Leads names and ports to where a test wants them; a list of lists is used up, one answer after the other."""

    def __init__(self) -> None:
        self.hosts: dict[tuple[str, int], list[Address]] = {}
        self.records: dict[str, list[Address]] = {}
        self.asked: list[tuple[str, int]] = []
        self.asked_srv: list[str] = []

    def addresses(self, host: str, port: int) -> list[Address]:
        self.asked.append((host, port))
        if (host, port) not in self.hosts:
            raise UnreachableError(f"cannot resolve {host}")
        return self.hosts[host, port]

    def srv(self, name: str) -> list[Address]:
        self.asked_srv.append(name)
        return self.records.get(name, [])


@pytest.fixture
def resolver() -> FakeResolver:
    return FakeResolver()


@pytest.fixture
def discovery(transport: Transport, resolver: FakeResolver) -> Discovery:
    """Allows the address of the servers, and no other that is not public."""
    return Discovery(transport, resolver, AddressFilter(["127.0.0.2"]), well_known_timeout=GENEROUS)


def well_known(delegated: str, *headers: str) -> Callable[[Request], bytes]:
    return lambda request: http({"m.server": delegated}, "200 OK", *headers)


@pytest.fixture
def ask(transport: Transport, discovery: Discovery) -> Callable[[str], None]:
    """Sends a request to a server that must be found."""

    def ask(server_name: str) -> None:
        endpoint = discovery.endpoint(server_name)
        answer = transport.request(endpoint, "GET", "/asked", headers={}, timeout=GENEROUS)
        assert answer.status == 200

    return ask


def asked(server: TlsServer) -> list[tuple[str, str | None]]:
    """Host header and SNI of the requests, without those for well-known files."""
    assert len(server.tls_names) == len(server.requests)
    pairs = zip(server.requests, server.tls_names)
    return [(request.headers["host"], name) for request, name in pairs if request.target == "/asked"]


# The steps of the specification, each to a real server that has a certificate for the name that is specified


def test_a_literal_address_with_a_port(serve: Serve, resolver: FakeResolver, ask: Callable[[str], None]) -> None:
    server = serve(lambda request: http(), "127.0.0.2")
    name = f"127.0.0.2:{server.address[1]}"
    ask(name)
    assert asked(server) == [(name, None)]
    assert resolver.asked == resolver.asked_srv == []


def test_a_literal_address_without_a_port(discovery: Discovery) -> None:
    assert discovery.endpoint("127.0.0.2") == Endpoint((("127.0.0.2", 8448),), "127.0.0.2", "127.0.0.2")
    with_ipv6 = Discovery(mock.Mock(has_proxy=False), FakeResolver(), AddressFilter(["::1"]))
    assert with_ipv6.endpoint("[::1]") == Endpoint((("::1", 8448),), "[::1]", "::1")
    assert with_ipv6.endpoint("[::1]:443") == Endpoint((("::1", 443),), "[::1]:443", "::1")


def test_a_name_with_a_port(serve: Serve, resolver: FakeResolver, ask: Callable[[str], None]) -> None:
    server = serve(lambda request: http())
    resolver.hosts["example.org", 443] = [server.address]
    ask("example.org:443")
    assert asked(server) == [("example.org:443", "example.org")]
    assert resolver.asked == [("example.org", 443)]
    assert resolver.asked_srv == []


def test_delegation_to_a_literal_address(serve: Serve, resolver: FakeResolver, ask: Callable[[str], None]) -> None:
    server = serve(lambda request: http(), "127.0.0.2")
    name = f"127.0.0.2:{server.address[1]}"
    resolver.hosts["example.org", 443] = [serve(well_known(name)).address]
    ask("example.org")
    assert asked(server) == [(name, None)]


def test_delegation_to_a_name_with_a_port(serve: Serve, resolver: FakeResolver, ask: Callable[[str], None]) -> None:
    site = serve(well_known("matrix.example.net:443"))
    server = serve(lambda request: http(), "matrix.example.net")
    resolver.hosts = {("example.org", 443): [site.address], ("matrix.example.net", 443): [server.address]}
    ask("example.org")
    assert asked(server) == [("matrix.example.net:443", "matrix.example.net")]
    assert resolver.asked_srv == []
    (request,) = site.requests
    assert (request.method, request.target) == ("GET", "/.well-known/matrix/server")
    assert request.headers["host"] == "example.org"
    assert "authorization" not in request.headers


@pytest.mark.parametrize("service", ["_matrix-fed._tcp", "_matrix._tcp"])
def test_delegation_to_a_name_with_an_srv_record(
    serve: Serve, resolver: FakeResolver, ask: Callable[[str], None], service: str
) -> None:
    server = serve(lambda request: http(), "matrix.example.net")
    resolver.hosts = {
        ("example.org", 443): [serve(well_known("matrix.example.net")).address],
        ("host.example", 1234): [server.address],
    }
    resolver.records[f"{service}.matrix.example.net"] = [("host.example", 1234)]
    ask("example.org")
    assert asked(server) == [("matrix.example.net", "matrix.example.net")]


def test_delegation_to_a_name_alone(serve: Serve, resolver: FakeResolver, ask: Callable[[str], None]) -> None:
    server = serve(lambda request: http(), "matrix.example.net")
    resolver.hosts = {
        ("example.org", 443): [serve(well_known("matrix.example.net")).address],
        ("matrix.example.net", 8448): [server.address],
    }
    ask("example.org")
    assert asked(server) == [("matrix.example.net", "matrix.example.net")]
    assert resolver.asked_srv == ["_matrix-fed._tcp.matrix.example.net", "_matrix._tcp.matrix.example.net"]


def test_srv_without_a_well_known_file(serve: Serve, resolver: FakeResolver, ask: Callable[[str], None]) -> None:
    new, old = serve(lambda request: http()), serve(lambda request: http())
    resolver.hosts = {("new.example", 1): [new.address], ("old.example", 2): [old.address]}
    resolver.records = {
        "_matrix-fed._tcp.example.org": [("new.example", 1)],
        "_matrix._tcp.example.org": [("old.example", 2)],
    }
    ask("example.org")
    assert asked(new) == [("example.org", "example.org")]
    assert asked(old) == []


def test_several_srv_records_are_tried_in_their_order(
    serve: Serve, resolver: FakeResolver, ask: Callable[[str], None]
) -> None:
    wrong = serve(lambda request: http(), "other.example")
    right = serve(lambda request: http())
    resolver.hosts = {("a.example", 1): [wrong.address], ("b.example", 2): [right.address]}
    targets = [("gone.example", 3), ("10.0.0.1", 4), (".", 5), ("a.example", 1), ("b.example", 2)]
    resolver.records["_matrix-fed._tcp.example.org"] = targets
    ask("example.org")
    assert asked(right) == [("example.org", "example.org")]


def test_port_8448_if_there_is_nothing_else(serve: Serve, resolver: FakeResolver, ask: Callable[[str], None]) -> None:
    server = serve(lambda request: http())
    resolver.hosts["example.org", 8448] = [server.address]
    ask("example.org")
    assert asked(server) == [("example.org", "example.org")]
    assert resolver.asked_srv == ["_matrix-fed._tcp.example.org", "_matrix._tcp.example.org"]


def test_a_dot_at_the_end_is_part_of_the_name_but_not_of_the_certificate(
    serve: Serve, resolver: FakeResolver, ask: Callable[[str], None]
) -> None:
    server = serve(lambda request: http())
    resolver.hosts["example.org.", 8448] = [server.address]
    ask("example.org.")
    assert asked(server) == [("example.org.", "example.org")]
    assert resolver.asked_srv == ["_matrix-fed._tcp.example.org", "_matrix._tcp.example.org"]


def test_a_well_known_file_that_names_its_own_server(
    serve: Serve, resolver: FakeResolver, ask: Callable[[str], None]
) -> None:
    site = serve(well_known("example.org"))
    server = serve(lambda request: http())
    resolver.hosts = {("example.org", 443): [site.address], ("example.org", 8448): [server.address]}
    ask("example.org")
    assert asked(server) == [("example.org", "example.org")]
    assert len(site.requests) == 1


def test_no_well_known_file_is_asked_for_where_one_delegates_to(
    serve: Serve, resolver: FakeResolver, ask: Callable[[str], None]
) -> None:
    server = serve(lambda request: http(), "b.example")
    other = serve(well_known("c.example"), "b.example")
    resolver.hosts = {
        ("example.org", 443): [serve(well_known("b.example")).address],
        ("b.example", 443): [other.address],
        ("b.example", 8448): [server.address],
    }
    ask("example.org")
    assert asked(server) == [("b.example", "b.example")]
    assert other.requests == []


def test_a_certificate_for_the_original_name_does_not_do_for_a_delegated_one(
    serve: Serve, transport: Transport, resolver: FakeResolver, discovery: Discovery
) -> None:
    resolver.hosts = {
        ("example.org", 443): [serve(well_known("b.example")).address],
        ("b.example", 8448): [serve(lambda request: http(), "example.org").address],
    }
    endpoint = discovery.endpoint("example.org")
    with pytest.raises(UnreachableError, match="the certificate is not valid"):
        transport.request(endpoint, "GET", "/", headers={}, timeout=GENEROUS)


@pytest.mark.parametrize("name", ["", "127.1", "exa mple.org", "[::1", "example.org:0", "\u202e.example", "a" * 300])
def test_what_is_not_a_server_name(resolver: FakeResolver, discovery: Discovery, name: str) -> None:
    with pytest.raises(InvalidNameError):
        discovery.endpoint(name)
    assert resolver.asked == resolver.asked_srv == []


# Invalid well-known files: discovery continues as without a file


def endless(_request: Request) -> Any:
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    while True:
        yield b"x" * 65536


INVALID: dict[str, Callable[[Request], Answer]] = {
    "not found": lambda request: http(b"{}", "404 Not Found"),
    "another status": lambda request: http(b'{"m.server": "evil.example"}', "203 Partly"),
    "gateway error": lambda request: http(b'{"m.server": "evil.example"}', "502 Bad Gateway"),
    "HTML": lambda request: http(b"<!DOCTYPE html><title>Welcome</title>"),
    "not UTF-8": lambda request: http(b"\xff\xfe{"),
    "nested": lambda request: http(b"[" * 50_000),
    "a list": lambda request: http(b'["m.server"]'),
    "empty object": lambda request: http({}),
    "a number": lambda request: http({"m.server": 8448}),
    "null": lambda request: http({"m.server": None}),
    "an object": lambda request: http({"m.server": {"a": "b"}}),
    "empty name": lambda request: http({"m.server": ""}),
    "a URL": lambda request: http({"m.server": "https://evil.example/"}),
    "odd IPv4": lambda request: http({"m.server": "127.1:443"}),
    "number as IPv4": lambda request: http({"m.server": "2130706433:443"}),
    "control characters": lambda request: http({"m.server": "evil.example\r\nX: y"}),
    "bad port": lambda request: http({"m.server": "evil.example:99999"}),
    "10 MB": lambda request: http(b'{"m.server": "evil.example"}' + b" " * 10_000_000),
    "endless": endless,
    "51201 bytes": lambda request: http(b'{"m.server": "evil.example"}'.ljust(51_201)),
    "gzip": lambda request: http(b"\x1f\x8b", "200 OK", "Content-Encoding: gzip"),
    "hangs up": lambda request: None,
    "redirect to HTTP": lambda request: http(b"", "302 x", "Location: http://site.example/"),
    "redirect to a file": lambda request: http(b"", "302 x", "Location: file:///etc/passwd"),
    "redirect to nowhere": lambda request: http(b"", "302 x"),
    "redirect with a password": lambda request: http(b"", "302 x", "Location: https://a:b@site.example/"),
    "redirect to no host": lambda request: http(b"", "302 x", "Location: https:///path"),
    "redirect to half a host": lambda request: http(b"", "302 x", "Location: https://[::1/"),
    "redirect to an odd host": lambda request: http(b"", "302 x", "Location: https://127.1/"),
    "redirect to control characters": lambda request: http(b"", "302 x", "Location: /\x7f\x00\x1b"),
    "redirect to loopback": lambda request: http(b"", "302 x", "Location: https://127.0.0.1/"),
    "redirect to metadata": lambda request: http(b"", "302 x", "Location: https://169.254.169.254/"),
    "redirect to IPv6 loopback": lambda request: http(b"", "302 x", "Location: https://[::1]:8448/"),
    "redirect to a private name": lambda request: http(b"", "302 x", "Location: https://private.example/"),
    "redirect to an unknown name": lambda request: http(b"", "302 x", "Location: https://unknown.example/"),
    "redirect in a circle": lambda request: http(
        b"", "302 x", f"Location: {WELL_KNOWN if request.target == '/a' else '/a'}"
    ),
    "redirect to itself": lambda request: http(b"", "302 x", f"Location: https://example.org{WELL_KNOWN}"),
}


@pytest.mark.parametrize("kind", INVALID)
def test_an_invalid_well_known_file_counts_for_none(
    serve: Serve, resolver: FakeResolver, discovery: Discovery, kind: str
) -> None:
    site = serve(INVALID[kind])
    evil = serve(lambda request: http(), "evil.example", "site.example", "127.0.0.1", "::1", "private.example")
    resolver.hosts = {
        ("example.org", 443): [site.address],
        ("example.org", 8448): [("127.0.0.2", 8448)],
        ("private.example", 443): [("192.168.0.1", 443)],
        ("site.example", 443): [evil.address],
        ("evil.example", 443): [evil.address],
        ("evil.example", 8448): [evil.address],
    }
    assert discovery.endpoint("example.org") == Endpoint((("127.0.0.2", 8448),), "example.org", "example.org")
    assert evil.connections == 0
    assert len(site.requests) == (2 if kind in ("hangs up", "redirect to no host", "redirect in a circle") else 1)


def test_a_well_known_file_of_exactly_the_maximum_size(
    serve: Serve, resolver: FakeResolver, discovery: Discovery
) -> None:
    site = serve(lambda request: http(b'{"m.server": "127.0.0.2:1"}'.ljust(51_200)))
    resolver.hosts["example.org", 443] = [site.address]
    assert discovery.endpoint("example.org").host_header == "127.0.0.2:1"


def test_a_well_known_file_that_comes_with_one_byte_a_second(
    serve: Serve, resolver: FakeResolver, discovery: Discovery, clock: PassingTime
) -> None:
    site = serve(lambda request: clock.byte_by_byte(http(b'{"m.server": "evil.example"}' + b" " * 5000)))
    resolver.hosts = {("example.org", 443): [site.address], ("example.org", 8448): [("127.0.0.2", 8448)]}
    assert discovery.endpoint("example.org").host_header == "example.org"


def test_redirects_together_have_no_more_time_than_one_file(
    serve: Serve, resolver: FakeResolver, discovery: Discovery, clock: PassingTime
) -> None:
    def slow(request: Request) -> bytes:
        clock.added += GENEROUS * 0.6
        if request.target == "/2":
            return http({"m.server": "evil.example"})
        return http(b"", "302 x", f"Location: {'/2' if request.target == '/1' else '/1'}")

    resolver.hosts = {("example.org", 443): [serve(slow).address], ("example.org", 8448): [("127.0.0.2", 8448)]}
    assert discovery.endpoint("example.org").host_header == "example.org"


def test_a_well_known_server_with_a_certificate_for_another_name(
    serve: Serve, resolver: FakeResolver, discovery: Discovery
) -> None:
    site = serve(well_known("evil.example:1"), "evil.example")
    resolver.hosts = {("example.org", 443): [site.address], ("example.org", 8448): [("127.0.0.2", 8448)]}
    assert discovery.endpoint("example.org").host_header == "example.org"
    assert site.requests == []


def test_the_number_of_redirects_is_bounded(serve: Serve, resolver: FakeResolver, discovery: Discovery) -> None:
    site = serve(lambda request: http(b"", "302 x", f"Location: {request.target}x"))
    resolver.hosts = {("example.org", 443): [site.address], ("example.org", 8448): [("127.0.0.2", 8448)]}
    assert discovery.endpoint("example.org").host_header == "example.org"
    assert [request.target for request in site.requests] == [WELL_KNOWN + "x" * number for number in range(4)]


def test_redirects_to_other_hosts_are_followed_over_https(
    serve: Serve, resolver: FakeResolver, discovery: Discovery
) -> None:
    first = serve(lambda request: http(b"", "301 x", "Location: //site.example:8443/a/../b?c=%20d#e"))

    def redirect_once(request: Request) -> bytes:
        if request.target == "/last":
            return http({"m.server": "127.0.0.2:1"})
        return http(b"", "307 x", "Location: ../last")

    second = serve(redirect_once, "site.example")
    resolver.hosts = {("example.org", 443): [first.address], ("site.example", 8443): [second.address]}
    assert discovery.endpoint("example.org").host_header == "127.0.0.2:1"
    assert [request.target for request in second.requests] == ["/a/../b?c=%20d", "/last"]
    assert {request.headers["host"] for request in second.requests} == {"site.example:8443"}


# Addresses


NOT_PUBLIC = [
    "127.0.0.1",
    "127.0.0.1:8008",
    "169.254.169.254",
    "169.254.169.254:80",
    "10.0.0.1",
    "0.0.0.1",
    "[::1]:8448",
    "[::ffff:127.0.0.1]",
    "[fd00::1]",
    "[64:ff9b::7f00:1]",
    "private.example",
    "private.example:1",
]


@pytest.mark.parametrize("delegated", NOT_PUBLIC)
def test_delegation_to_an_address_that_is_not_public(
    serve: Serve, resolver: FakeResolver, discovery: Discovery, delegated: str
) -> None:
    resolver.hosts = {
        ("example.org", 443): [serve(well_known(delegated)).address],
        ("example.org", 8448): [("127.0.0.2", 8448)],
        ("private.example", 8448): [("192.168.0.1", 8448)],
        ("private.example", 1): [("192.168.0.1", 1)],
    }
    with pytest.raises(AddressNotAllowedError, match="ip_allowlist"):
        discovery.endpoint("example.org")
    assert (resolver.asked_srv == []) == (delegated != "private.example")


@pytest.mark.parametrize("name", NOT_PUBLIC)
def test_a_server_whose_address_is_not_public(resolver: FakeResolver, discovery: Discovery, name: str) -> None:
    for port in (1, 443, 8448):
        resolver.hosts["private.example", port] = [("192.168.0.1", port), ("fe80::1%eth0", port)]
    with pytest.raises(AddressNotAllowedError, match=r"has no public IP address \(.*\): .*ip_allowlist"):
        discovery.endpoint(name)


def test_the_message_names_the_addresses(resolver: FakeResolver, discovery: Discovery) -> None:
    resolver.hosts["private.example", 1] = [("192.168.0.1", 1), ("10.0.0.1", 1)]
    with pytest.raises(AddressNotAllowedError) as caught:
        discovery.endpoint("private.example:1")
    assert str(caught.value) == (
        "private.example has no public IP address (10.0.0.1, 192.168.0.1): to allow it, add it to ip_allowlist"
    )


def test_only_the_allowed_addresses_of_a_name_are_used(resolver: FakeResolver, discovery: Discovery) -> None:
    resolver.hosts["example.org", 1] = [("10.0.0.1", 1), ("1.1.1.1", 1), ("::1", 1), ("1.1.1.1", 1), ("2606::1", 1)]
    assert discovery.endpoint("example.org:1").addresses == (("1.1.1.1", 1), ("2606::1", 1))


def test_the_number_of_addresses_is_bounded(resolver: FakeResolver, discovery: Discovery) -> None:
    resolver.hosts["example.org", 1] = [(f"1.1.{number}.1", 1) for number in range(200)]
    assert len(discovery.endpoint("example.org:1").addresses) == 8
    resolver.records["_matrix._tcp.example.com"] = [(f"{number}.example", 1) for number in range(200)]
    with pytest.raises(UnreachableError):
        discovery.endpoint("example.com")
    assert sum(host.endswith(".example") for host, _port in resolver.asked) == 8


def test_a_name_that_resolves_differently_the_second_time_leads_nowhere_else(
    serve: Serve, transport: Transport, resolver: FakeResolver, discovery: Discovery
) -> None:
    """DNS rebinding: the address that was checked is the one that is connected to."""
    server = serve(lambda request: http())
    inside = serve(lambda request: http(), host="127.0.0.4")
    resolver.hosts["example.org", 1] = [server.address]
    endpoint = discovery.endpoint("example.org:1")
    resolver.hosts["example.org", 1] = [inside.address]
    for _time in range(3):
        transport.request(endpoint, "GET", "/asked", headers={"Connection": "close"}, timeout=GENEROUS)
    assert resolver.asked == [("example.org", 1)]
    assert (len(server.requests), inside.connections) == (3, 0)


def test_addresses_are_looked_up_again_and_checked_again(
    resolver: FakeResolver, discovery: Discovery, clock: PassingTime
) -> None:
    resolver.hosts["example.org", 1] = [("1.1.1.1", 1)]
    discovery.endpoint("example.org:1")
    resolver.hosts["example.org", 1] = [("10.0.0.1", 1)]
    clock.added += 500
    assert discovery.endpoint("example.org:1").addresses == (("1.1.1.1", 1),)
    clock.added += 101
    with pytest.raises(AddressNotAllowedError):
        discovery.endpoint("example.org:1")


@pytest.mark.parametrize("target", ["", ".", "@", "a b", "a..b", "\\000.example", "b\u00fccher.example", "x" * 300])
def test_an_srv_record_with_an_odd_target(resolver: FakeResolver, discovery: Discovery, target: str) -> None:
    resolver.records["_matrix-fed._tcp.example.org"] = [(target, 1)]
    resolver.hosts["example.org", 8448] = [("1.1.1.1", 8448)]
    with pytest.raises(UnreachableError):
        discovery.endpoint("example.org")


def test_with_a_proxy_only_literal_addresses_are_checked(resolver: FakeResolver) -> None:
    fetcher = mock.Mock(has_proxy=True)
    fetcher.request.return_value = HttpAnswer(404, {}, b"")
    discovery = Discovery(fetcher, resolver, AddressFilter())
    assert discovery.endpoint("example.org").addresses == (("example.org", 8448),)
    assert discovery.endpoint("1.1.1.1").addresses == (("1.1.1.1", 8448),)
    resolver.records["_matrix._tcp.example.net"] = [("a.example", 1), ("10.0.0.1", 1), ("fd00::1", 1)]
    assert discovery.endpoint("example.net").addresses == (("a.example", 1),)
    for name in ("127.0.0.1", "[::1]:1"):
        with pytest.raises(AddressNotAllowedError):
            discovery.endpoint(name)
    assert resolver.asked == []


# What is remembered


def test_a_failure_is_remembered_for_a_minute(resolver: FakeResolver, discovery: Discovery, clock: PassingTime) -> None:
    for _time in range(3):
        with pytest.raises(UnreachableError, match=r"cannot resolve example\.org"):
            discovery.endpoint("example.org:1")
    assert len(resolver.asked) == 1
    resolver.hosts["example.org", 1] = [("1.1.1.1", 1)]
    clock.added += 61
    assert discovery.endpoint("example.org:1").addresses == (("1.1.1.1", 1),)


HOUR = 3600.0


@pytest.mark.parametrize(
    ("headers", "lifetime"),
    [
        ([], 24 * HOUR),
        (["Cache-Control: max-age=7200"], 2 * HOUR),
        (["Cache-Control: public, Max-Age = 7200, must-revalidate"], 2 * HOUR),
        (["Cache-Control: max-age=1"], 600),
        (["Cache-Control: max-age=999999999"], 48 * HOUR),
        (["Cache-Control: max-age=99999999999999999999"], 48 * HOUR),
        (["Cache-Control: no-store"], 600),
        (["Cache-Control: no-cache, max-age=7200"], 600),
        (["Cache-Control: max-age=-1"], 24 * HOUR),
        (["Cache-Control: nonsense"], 24 * HOUR),
        ([f"Expires: {LONG_AGO}"], 600),
        (["Expires: Fri, 01 Jan 2999 00:00:00 GMT"], 48 * HOUR),
        (["Expires: 0"], 600),
        (["Expires: Mon, 99 Foo 99999999999999999999 00:00:00 GMT"], 600),
        (["Cache-Control: max-age=7200", f"Expires: {LONG_AGO}"], 2 * HOUR),
    ],
)
def test_a_well_known_file_is_remembered_as_long_as_it_says_within_bounds(
    serve: Serve, resolver: FakeResolver, discovery: Discovery, clock: PassingTime, headers: list[str], lifetime: float
) -> None:
    site = serve(well_known("127.0.0.2:1", *headers))
    resolver.hosts["example.org", 443] = [site.address]
    requests = []
    # Addresses are resolved again after 600 seconds, which is the minimum lifetime.
    for seconds in (0, max(lifetime - 700, 590), 701):
        clock.added += seconds
        assert discovery.endpoint("example.org").host_header == "127.0.0.2:1"
        requests.append(len(site.requests))
    assert requests == [1, 1, 2]


@pytest.mark.parametrize(("status", "seconds"), [("404 Not Found", HOUR), ("502 Bad Gateway", 600)])
def test_how_long_a_missing_well_known_file_is_not_asked_for_again(
    serve: Serve, resolver: FakeResolver, discovery: Discovery, clock: PassingTime, status: str, seconds: float
) -> None:
    site = serve(lambda request: http(b"", status))
    resolver.hosts = {("example.org", 443): [site.address], ("example.org", 8448): [("1.1.1.1", 8448)]}
    for _time in range(2):
        discovery.endpoint("example.org")
    clock.added += seconds - 50
    discovery.endpoint("example.org")
    assert len(site.requests) == 1
    clock.added += 651
    discovery.endpoint("example.org")
    assert len(site.requests) == 2


def test_threads_that_ask_for_the_same_server_wait_for_one_look_up(
    serve: Serve, resolver: FakeResolver, discovery: Discovery
) -> None:
    site = serve(well_known("127.0.0.2:1"))
    resolver.hosts["example.org", 443] = [site.address]
    found: list[Endpoint] = []
    threads = [threading.Thread(target=lambda: found.append(discovery.endpoint("example.org"))) for _time in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(site.requests) == 1


def test_a_slow_server_does_not_keep_others_waiting(serve: Serve, resolver: FakeResolver, discovery: Discovery) -> None:
    site = serve(lambda request: site.hang())
    resolver.hosts = {("example.org", 443): [site.address], ("example.com", 1): [("1.1.1.1", 1)]}

    def ask_slow_server() -> None:
        # As if there were no well-known file; and nothing else is known of the name.
        with pytest.raises(UnreachableError):
            discovery.endpoint("example.org")

    slow = threading.Thread(target=ask_slow_server)
    slow.start()
    while not site.requests:
        threading.Event().wait(0.001)
    assert discovery.endpoint("example.com:1").addresses == (("1.1.1.1", 1),)
    assert slow.is_alive()
    site.close()
    slow.join()


@settings(derandomize=True, max_examples=300)
@given(st.text("ab1.:[]-%/@\\x", max_size=30), st.binary(max_size=100), st.text(max_size=60))
def test_nothing_but_its_own_errors_comes_of_hostile_input(name: str, body: bytes, delegated: str) -> None:
    for content in (body, b'{"m.server": %s}' % (b'"' + body + b'"')):
        fetcher = mock.Mock(has_proxy=False)
        fetcher.request.return_value = HttpAnswer(200, {"cache-control": delegated, "expires": delegated}, content)
        resolver = FakeResolver()
        resolver.records["_matrix._tcp.example.org"] = [(delegated, 1)]
        resolver.hosts["example.org", 443] = [("1.1.1.1", 443)]
        discovery = Discovery(fetcher, resolver, AddressFilter())
        for server in (name, "example.org"):
            try:
                endpoint = discovery.endpoint(server)
            except FederationError:
                continue
            assert endpoint.addresses
            assert all(AddressFilter().allows(address) for address, _port in endpoint.addresses)


# The system's resolver, without a network


def test_the_system_looks_up_addresses() -> None:
    assert SystemResolver().addresses("127.0.0.1", 8448) == [("127.0.0.1", 8448)]


@pytest.mark.parametrize("error", [OSError(-2, "Name or service not known"), UnicodeError("label too long")])
def test_the_system_does_not_know_a_name(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr("socket.getaddrinfo", mock.Mock(side_effect=error))
    with pytest.raises(UnreachableError, match=r"cannot resolve example\.org: (Name or service|label too long)"):
        SystemResolver().addresses("example.org", 8448)


def test_srv_records_are_sorted_by_priority_and_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    def record(priority: int, weight: int, target: str) -> Any:
        return SimpleNamespace(priority=priority, weight=weight, port=1, target=dns.name.from_text(target))

    records = [record(20, 9, "d."), record(10, 1, "c.example."), record(10, 5, "b.example."), record(5, 0, ".")]
    resolve = mock.Mock(return_value=records)
    monkeypatch.setattr(dns.resolver.Resolver, "resolve", resolve)
    assert SystemResolver().srv("_matrix._tcp.a") == [(".", 1), ("b.example", 1), ("c.example", 1), ("d", 1)]
    resolve.assert_called_once_with("_matrix._tcp.a.", "SRV", lifetime=module.SRV_LIFETIME)


@pytest.mark.parametrize(
    "error",
    [
        dns.resolver.NXDOMAIN(),
        dns.exception.DNSException(),
        dns.resolver.NoNameservers(),
        dns.exception.Timeout(),
        OSError(),
    ],
)
def test_no_srv_record(monkeypatch: pytest.MonkeyPatch, error: Any) -> None:
    monkeypatch.setattr(dns.resolver.Resolver, "resolve", mock.Mock(side_effect=error))
    assert SystemResolver().srv("_matrix._tcp.example.org") == []


def test_no_resolv_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = mock.Mock(side_effect=dns.resolver.NoResolverConfiguration)
    monkeypatch.setattr(dns.resolver.Resolver, "__init__", missing)
    assert SystemResolver().srv("_matrix._tcp.example.org") == []


def test_dnspython_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAS_DNSPYTHON", False)
    with pytest.raises(MissingRequirementError, match="python3-dnspython"):
        SystemResolver()


def test_the_module_can_be_imported_without_dnspython() -> None:
    script = (
        "import sys; sys.modules['dns'] = None; sys.path.insert(0, sys.argv[1]);"
        "import module_utils._federation.discovery as d; assert not d.HAS_DNSPYTHON"
    )
    subprocess.run([sys.executable, "-c", script, str(Path(module.__file__).parents[2])], check=True)
