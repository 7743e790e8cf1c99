# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resolve server names to addresses.

Specified in the server-server API, "Resolving server names". Names, well-known files and DNS answers are hostile input.
Addresses are resolved once, filtered, and connected to as they are, so that a second DNS answer can't differ.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Mapping, Protocol
from urllib.parse import urljoin, urlsplit

from .._http import http_date, seconds_until
from .errors import (
    AddressNotAllowedError,
    AnswerError,
    FederationError,
    InvalidNameError,
    MissingRequirementError,
    RedirectError,
    UnreachableError,
)
from .names import ServerName

try:
    import dns.exception
    import dns.resolver
except ImportError:
    HAS_DNSPYTHON = False
else:
    HAS_DNSPYTHON = True

if TYPE_CHECKING:
    from .addresses import AddressFilter
    from .transport import HttpAnswer

DEFAULT_PORT = 8448
SRV_SERVICES = ("_matrix-fed._tcp", "_matrix._tcp")
"""In the order of the queries. The second one is deprecated."""
SRV_LIFETIME = 3.0
"""Timeout of an SRV query in seconds."""
MAX_ADDRESSES = 8
"""Maximum number of addresses of a server to try."""

WELL_KNOWN = "/.well-known/matrix/server"
WELL_KNOWN_MAX_BYTES = 50 * 1024
WELL_KNOWN_TIMEOUT = 10.0
"""Total time in seconds to read a well-known file, redirects included."""
MAX_REDIRECTS = 3
DEFAULT_LIFETIME, MAX_LIFETIME = 24 * 3600.0, 48 * 3600.0
"""Time in seconds to cache a valid well-known file, by the specification. Never less than C(ENDPOINT_LIFETIME)."""
INVALID_LIFETIME = 3600.0
"""Time in seconds to cache that a well-known file is invalid or missing."""
ENDPOINT_LIFETIME = 600.0
"""Time in seconds to cache addresses."""
FAILURE_LIFETIME = 60.0
"""Time in seconds to cache a failure."""


@dataclass(frozen=True)
class Endpoint:
    """Where to send the requests to a server.

    I(addresses) are pairs of IP address (with a proxy: host name) and port, in the order to try. I(host_header) is the
    value of the Host header, and I(tls_name) the name or IP address that the certificate must be valid for.
    """

    addresses: tuple[tuple[str, int], ...]
    host_header: str
    tls_name: str


class Resolver(Protocol):
    """Resolves names."""

    def addresses(self, host: str, port: int) -> list[tuple[str, int]]:
        """Return pairs of IP address and port.

        :raises UnreachableError: if there are none.
        """

    def srv(self, name: str) -> list[tuple[str, int]]:
        """Return pairs of host name and port in the order to try, none if there is no SRV record of that name."""


class SystemResolver:
    """Resolves addresses as the system does, and SRV records at its name servers."""

    def __init__(self) -> None:
        """
        :raises MissingRequirementError: if dnspython is not installed.
        """
        if not HAS_DNSPYTHON:
            raise MissingRequirementError("dnspython")
        try:
            self._dns: dns.resolver.Resolver | None = dns.resolver.Resolver()
        except (dns.exception.DNSException, OSError):
            # There is no /etc/resolv.conf, so there can be no SRV records.
            self._dns = None

    def addresses(self, host: str, port: int) -> list[tuple[str, int]]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise UnreachableError(f"cannot resolve {host}: {getattr(error, 'strerror', None) or error}") from error
        return [(str(address[0]), port) for *_kind, address in found]

    def srv(self, name: str) -> list[tuple[str, int]]:
        if self._dns is None:
            return []
        try:
            records = list(self._dns.resolve(f"{name}.", "SRV", lifetime=SRV_LIFETIME))
        except (dns.exception.DNSException, OSError):
            return []
        # Among records of the same priority, the weight is for distributing the load of many clients.
        records.sort(key=lambda record: (record.priority, -record.weight))
        return [(record.target.to_text(omit_final_dot=True), record.port) for record in records]


class Fetcher(Protocol):
    """The part of C(Transport) that discovery requires."""

    @property
    def has_proxy(self) -> bool:
        """Whether an HTTP proxy resolves names."""

    def request(
        self,
        endpoint: Endpoint,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        timeout: float,
        max_bytes: int,
    ) -> HttpAnswer:
        """Send a request, as C(Transport.request) does."""


class _Entry:
    """The cache of one server name."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.expires = float("-inf")
        self.result: Endpoint | UnreachableError = UnreachableError("not resolved yet")
        self.well_known_expires = float("-inf")
        self.delegated: ServerName | None = None


class Discovery:
    """Finds and caches endpoints. May be shared between threads: only one at a time resolves a name."""

    def __init__(
        self,
        fetcher: Fetcher,
        resolver: Resolver,
        address_filter: AddressFilter,
        *,
        well_known_timeout: float = WELL_KNOWN_TIMEOUT,
    ) -> None:
        """
        :param fetcher: a C(Transport). If it has a proxy, that resolves addresses, and I(resolver) only SRV records.
        :param well_known_timeout: seconds for a well-known file, redirects included.
        """
        self._fetcher = fetcher
        self._resolver = resolver
        self._filter = address_filter
        self._timeout = well_known_timeout
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    def endpoint(self, server_name: str) -> Endpoint:
        """Return where to send requests for a server.

        :raises InvalidNameError: if it is not a server name.
        :raises AddressNotAllowedError: if the server has no address that may be connected to.
        :raises UnreachableError: if a name does not resolve.
        """
        name = ServerName.parse(server_name)
        with self._lock:
            entry = self._entries.setdefault(server_name, _Entry())
        with entry.lock:
            if time.monotonic() >= entry.expires:
                lifetime = ENDPOINT_LIFETIME
                try:
                    entry.result = self._find(name, entry)
                except UnreachableError as error:
                    # Without its traceback, which would keep local variables alive.
                    entry.result = type(error)(str(error))
                    lifetime = FAILURE_LIFETIME
                entry.expires = time.monotonic() + lifetime
            if isinstance(entry.result, UnreachableError):
                # A new one each time, since each thread adds its traceback.
                raise type(entry.result)(str(entry.result))
            return entry.result

    def _find(self, name: ServerName, entry: _Entry) -> Endpoint:
        if name.is_literal or name.port is not None:
            return self._direct(name)
        delegated = self._well_known(name, entry)
        if delegated is None:
            return self._by_srv(name)
        if delegated.is_literal or delegated.port is not None:
            return self._direct(delegated)
        return self._by_srv(delegated)

    def _direct(self, name: ServerName) -> Endpoint:
        return self._endpoint(name, [(name.host, name.port or DEFAULT_PORT)])

    def _by_srv(self, name: ServerName) -> Endpoint:
        for service in SRV_SERVICES:
            targets = self._resolver.srv(f"{service}.{_host(name)}")
            if targets:
                return self._endpoint(name, targets)
        return self._direct(name)

    def _endpoint(self, name: ServerName, targets: list[tuple[str, int]]) -> Endpoint:
        return Endpoint(self._addresses(targets), name.text, _host(name))

    def _addresses(self, targets: list[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
        """Resolve hosts. Return the allowed addresses.

        :raises UnreachableError: if there are none.
        """
        found: list[tuple[str, int]] = []
        failure = None
        for host, port in targets[:MAX_ADDRESSES]:
            try:
                found += self._look_up(host, port)
            except UnreachableError as error:
                failure = error
        # Duplicates would only cost time.
        allowed = [address for address in dict.fromkeys(found) if self._is_allowed(address[0])]
        if allowed:
            return tuple(allowed[:MAX_ADDRESSES])
        if found:
            refused = ", ".join(sorted({address for address, _port in found})[:MAX_ADDRESSES])
            raise AddressNotAllowedError(
                f"{targets[0][0]} has no public IP address ({refused}): to allow it, add it to ip_allowlist"
            )
        raise failure or UnreachableError(f"{targets[0][0]} has no IP address")

    def _look_up(self, host: str, port: int) -> list[tuple[str, int]]:
        if self._fetcher.has_proxy or _parse_host(host).is_literal:
            return [(host, port)]
        return self._resolver.addresses(host, port)

    def _is_allowed(self, address: str) -> bool:
        if self._fetcher.has_proxy and not _parse_host(address).is_literal:
            return True
        return self._filter.allows(address)

    def _well_known(self, name: ServerName, entry: _Entry) -> ServerName | None:
        """Return the name that the well-known file delegates to; C(None) without a valid file."""
        if time.monotonic() < entry.well_known_expires:
            return entry.delegated
        entry.delegated = None
        try:
            answer = self._fetch_well_known(name)
            entry.delegated = _read_well_known(answer)
            lifetime = _lifetime(answer.headers)
        except UnreachableError:
            # Perhaps a temporary failure: the file is requested again with the next resolution.
            lifetime = 0.0
        except FederationError:
            lifetime = INVALID_LIFETIME
        entry.well_known_expires = time.monotonic() + lifetime
        return entry.delegated

    def _fetch_well_known(self, name: ServerName) -> HttpAnswer:
        """Get the file, with at most C(MAX_REDIRECTS) redirects. HTTPS and the address filter apply to all of them."""
        deadline = time.monotonic() + self._timeout
        url = f"https://{name.text}{WELL_KNOWN}"
        seen: set[str] = set()
        while url not in seen and len(seen) <= MAX_REDIRECTS:
            seen.add(url)
            host, target = _split_https(url)
            endpoint = self._endpoint(host, [(host.host, host.port or 443)])
            try:
                return self._fetcher.request(
                    endpoint,
                    "GET",
                    target,
                    # Other requests usually go to another server.
                    headers={"Connection": "close"},
                    timeout=max(0.0, deadline - time.monotonic()),
                    max_bytes=WELL_KNOWN_MAX_BYTES,
                )
            except RedirectError as redirect:
                url = _join(url, redirect.location)
        raise AnswerError("too many redirects, or a redirect loop")


def _host(name: ServerName) -> str:
    # Names in certificates have no dot at the end.
    return name.host.rstrip(".")


def _parse_host(host: str) -> ServerName:
    """Parse a host. It may come from an SRV record, where a single dot means that the service does not exist.

    :raises UnreachableError: if it is not one.
    """
    try:
        return ServerName.parse(f"[{host}]" if ":" in host else host)
    except InvalidNameError as error:
        raise UnreachableError(f"an SRV record has an invalid target: {error}") from error


def _join(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise AnswerError("redirected to an invalid URL") from error


def _split_https(url: str) -> tuple[ServerName, str]:
    """Return server and request target of a URL.

    :raises FederationError: if it is not an HTTPS URL that can be requested.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise AnswerError("redirected to an invalid URL") from error
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme != "https" or re.fullmatch("/[!-~]*", target) is None:
        raise AnswerError("redirected to a URL other than HTTPS")
    return ServerName.parse(parts.netloc), target


def _read_well_known(answer: HttpAnswer) -> ServerName:
    if answer.status >= 500:
        raise UnreachableError(f"answered with HTTP {answer.status}")
    if answer.status != 200:
        raise AnswerError(f"answered with HTTP {answer.status}")
    try:
        content = json.loads(answer.content)
    except (ValueError, RecursionError) as error:
        raise AnswerError("the answer is not JSON") from error
    if not isinstance(content, dict):
        raise AnswerError("the answer is not a JSON object")
    return ServerName.parse(content.get("m.server", ""))


def _lifetime(headers: Mapping[str, str]) -> float:
    """Return the seconds for which the headers allow to cache an answer, within bounds."""
    seconds = DEFAULT_LIFETIME
    cache_control = headers.get("cache-control", "").lower()
    max_age = re.search(r"\bmax-age\s*=\s*\"?([0-9]{1,9})", cache_control)
    if re.search(r"\bno-(?:store|cache)\b", cache_control):
        seconds = 0.0
    elif max_age is not None:
        seconds = float(max_age[1])
    elif "expires" in headers:
        date = http_date(headers["expires"])
        # An invalid date is one in the past.
        seconds = 0.0 if date is None else seconds_until(date)
    return min(max(seconds, ENDPOINT_LIFETIME), MAX_LIFETIME)
