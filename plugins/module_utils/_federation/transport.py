# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP over TLS to hostile remote servers: bounded in bytes and in total time.

An adapter of requests is used without a session, so that nothing is read from the environment (proxies, CA bundles,
C(.netrc)), no cookies are stored and no redirects followed. Connections go to addresses that discovery has filtered. No
name is resolved here, unless by a proxy.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import socket
import ssl
import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping
from urllib.parse import unquote

from .._http import MAX_HEADER_BYTES, NO_COMPRESSION, BodyError, DeadlineTlsSocket, budget, causes, read_chunks, reason
from .errors import AnswerError, FederationError, MissingRequirementError, RedirectError, UnreachableError

try:
    import requests.structures
    import requests.utils
    import urllib3.exceptions
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPSConnection
    from urllib3.connectionpool import HTTPSConnectionPool
except ImportError:
    HAS_REQUESTS = False
    HTTPAdapter = HTTPSConnection = HTTPSConnectionPool = object  # type: ignore[assignment, misc]
else:
    HAS_REQUESTS = True

if TYPE_CHECKING:
    from .discovery import Endpoint

MAX_BYTES = 512 * 1024
"""Default maximum size of a body in bytes."""
MAX_POOLS = 256
"""Maximum number of endpoints with idle connections. Beyond that, the least recently used are closed.

All connections together stay below 1,024, the usual limit of open files.
"""
CONNECTIONS = 3
"""Maximum number of idle connections to one endpoint: the default of C(Pacing.max_concurrent)."""
USER_AGENT = "matrixops.synapse"
TARGET = re.compile("/[!-~]*")
PROXY = re.compile(
    r"http://(?:(?P<credentials>[^@/]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/@]+):(?P<port>[0-9]{1,5})/?"
)


@dataclass(frozen=True)
class HttpAnswer:
    """An answer that was read completely. The names of I(headers) are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True)
class HttpStream:
    """An answer whose body is read as I(chunks) are taken. The names of I(headers) are in lower case."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]


class _Proxy:
    """An HTTP proxy that supports CONNECT."""

    def __init__(self, url: str) -> None:
        found = PROXY.fullmatch(url)
        if found is None or not 0 < int(found["port"]) < 65536:
            # Not quoted, since it may contain a password.
            raise ValueError("proxy: set it to a URL of the form http://[user:password@]host:port")
        self._host = found["host"].strip("[]")
        self._port = int(found["port"])
        self._authorization = ""
        if found["credentials"] is not None:
            credentials = base64.b64encode(unquote(found["credentials"]).encode()).decode()
            self._authorization = f"Proxy-Authorization: Basic {credentials}\r\n"

    def connect(self, host: str, port: int) -> socket.socket:
        """Return a connection to a host that the proxy resolves.

        :raises UnreachableError: if there is none.
        """
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{self._authorization}\r\n"
        try:
            sock = socket.create_connection((self._host, self._port), timeout=budget.remaining())
            try:
                sock.sendall(request.encode())
                head = self._read_head(sock)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            raise UnreachableError(f"the proxy failed: {reason(error)}") from error
        status = re.match(rb"HTTP/1\.[01] ([0-9]{3}[^\r\n]{0,80})", head)
        if status is None or not status[1].startswith(b"2"):
            sock.close()
            refusal = status[1].decode("latin-1") if status else "the answer is not HTTP"
            raise UnreachableError(f"the proxy does not connect to {target}: {refusal}")
        return sock

    @staticmethod
    def _read_head(sock: socket.socket) -> bytes:
        # Servers send nothing before the TLS handshake, so only the headers can arrive here.
        head = b""
        while b"\r\n\r\n" not in head:
            sock.settimeout(budget.remaining())
            received = sock.recv(4096)
            head += received
            if not received or len(head) > MAX_HEADER_BYTES:
                break
        return head


class _Connection(HTTPSConnection):
    """A connection to one of the addresses of an endpoint."""

    def __init__(
        self, *args: Any, endpoint: Endpoint, context: ssl.SSLContext, proxy: _Proxy | None, **kw: Any
    ) -> None:
        super().__init__(*args, **kw)
        self._endpoint = endpoint
        self._context = context
        self._proxy = proxy

    def connect(self) -> None:
        """Connect to the first address that answers with a valid certificate.

        :raises UnreachableError: if none does, with the error of the last one.
        """
        remaining = len(self._endpoint.addresses)
        for host, port in self._endpoint.addresses:
            try:
                # An unreachable address leaves time for the others.
                with budget.limit(time.monotonic() + budget.remaining() / remaining):
                    self.sock = self._open(host, port)
            except (OSError, ValueError, UnreachableError) as failure:
                error = failure
                remaining -= 1
            else:
                self.is_verified = True
                return
        if isinstance(error, UnreachableError):
            raise error
        raise UnreachableError(f"cannot connect to {host} port {port}: {reason(error)}") from error

    def _open(self, host: str, port: int) -> ssl.SSLSocket:
        if self._proxy is None:
            sock = socket.create_connection((host, port), timeout=budget.remaining())
        else:
            sock = self._proxy.connect(host, port)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # This timeout applies to the whole handshake.
            sock.settimeout(budget.remaining())
            return self._context.wrap_socket(sock, server_hostname=self._endpoint.tls_name)
        except BaseException:
            sock.close()
            raise


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection


class _Target(str):
    """A request target, which requests takes for a URL, and the endpoint that it is sent to."""

    endpoint: Endpoint


class _Adapter(HTTPAdapter):
    """Sends a request to its endpoint with its exact target, which is signed. requests would rewrite it."""

    def __init__(self, pool_of: Callable[[Endpoint], _Pool]) -> None:
        self._pool_of = pool_of
        super().__init__()

    def get_connection(self, url: Any, *_args: Any) -> Any:
        return self._pool_of(url.endpoint)

    def get_connection_with_tls_context(self, request: Any, *_args: Any, **_kw: Any) -> Any:
        """Replaces C(get_connection) since 2.32."""
        return self._pool_of(request.url.endpoint)

    def cert_verify(self, *_args: Any, **_kw: Any) -> None:
        """Do nothing: the context of the pool verifies."""

    def request_url(self, request: Any, *_args: Any) -> str:
        return str(request.url)

    def build_response(self, _request: Any, answer: Any) -> Any:
        """Return the answer of urllib3, with its body unread, and its cookies ignored."""
        return answer


class Transport:
    """Sends requests to many endpoints over persistent connections. May be shared between threads.

    With a I(proxy), the proxy resolves names, so their addresses can't be filtered here. Discovery filters literal
    addresses only, and the proxy itself must refuse the others.
    """

    def __init__(self, *, ca_path: str | None = None, proxy: str | None = None) -> None:
        """
        :param ca_path: file or directory of the CA certificates to trust, instead of those of requests.
        :param proxy: C(http://[user:password@]host:port) of a proxy that allows CONNECT.
        :raises MissingRequirementError: if requests is not installed.
        :raises ValueError: if an option is invalid.
        """
        if not HAS_REQUESTS:
            raise MissingRequirementError("requests")
        self.has_proxy = proxy is not None
        self._proxy = None if proxy is None else _Proxy(proxy)
        self._context = _tls_context(ca_path or requests.utils.DEFAULT_CA_BUNDLE_PATH)
        self._adapter = _Adapter(self._pool)
        self._lock = threading.Lock()
        self._pools: OrderedDict[Endpoint, _Pool] = OrderedDict()

    def request(
        self,
        endpoint: Endpoint,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        timeout: float,
        max_bytes: int = MAX_BYTES,
    ) -> HttpAnswer:
        """Send a request and read the whole answer. Parameters and errors are those of M(stream)."""
        with self.stream(
            endpoint, method, target, headers=headers, body=body, timeout=timeout, max_bytes=max_bytes
        ) as answer:
            return HttpAnswer(answer.status, answer.headers, b"".join(answer.chunks))

    @contextmanager
    def stream(
        self,
        endpoint: Endpoint,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        timeout: float,
        max_bytes: int = MAX_BYTES,
    ) -> Iterator[HttpStream]:
        """Send a request and read the answer piece by piece.

        A GET request is sent a second time if the server has closed the connection without an answer, as servers may
        do with a persistent connection.

        :param target: percent-encoded path and query. It is sent unchanged, since it is signed.
        :param timeout: seconds for everything, from the connection to the last byte of the body.
        :param max_bytes: maximum size of the body.
        :raises UnreachableError: if there is no connection, no valid certificate or no complete headers in time.
        :raises AnswerError: if the answer is a redirect (C(RedirectError)), not HTTP, compressed, too large, or not
            complete in time. The last three are raised while chunks are read.
        """
        if TARGET.fullmatch(target) is None:
            raise ValueError("a request target is an encoded path and query")
        deadline = time.monotonic() + timeout
        all_headers = {"User-Agent": USER_AGENT, **headers, **NO_COMPRESSION, "Host": endpoint.host_header}
        raw = self._open(endpoint, method, target, all_headers, body, deadline)
        try:
            answered = {name.lower(): raw.headers[name] for name in raw.headers}
            _check_head(raw.status, answered)
            yield HttpStream(raw.status, answered, _chunks(raw, answered, deadline, max_bytes))
        finally:
            # Closes a connection with unread data. Any other one is back in the pool by now.
            raw.close()
            raw.release_conn()

    def close(self) -> None:
        """Close all idle connections. The transport can still be used."""
        with self._lock:
            while self._pools:
                self._pools.popitem()[1].close()

    def _open(
        self, endpoint: Endpoint, method: str, target: str, headers: dict[str, str], body: bytes | None, deadline: float
    ) -> Any:
        """Send a request; return the answer with its body unread."""
        request = requests.PreparedRequest()
        request.method, request.body = method, body
        request.url = url = _Target(target)
        url.endpoint = endpoint
        request.headers = requests.structures.CaseInsensitiveDict(headers)
        if body is not None:
            request.headers["Content-Length"] = str(len(body))
        again = method == "GET"
        while True:
            try:
                with budget.limit(deadline, MAX_HEADER_BYTES):
                    return self._adapter.send(request, stream=True, timeout=budget.remaining())
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if not (again and _is_disconnect(error)):
                    raise _head_error(error, endpoint) from error
                again = False

    def _pool(self, endpoint: Endpoint) -> _Pool:
        with self._lock:
            pool = self._pools.get(endpoint)
            if pool is None:
                pool = self._pools[endpoint] = _Pool(
                    endpoint.tls_name,
                    maxsize=CONNECTIONS,
                    endpoint=endpoint,
                    context=self._context,
                    proxy=self._proxy,
                )
                if len(self._pools) > MAX_POOLS:
                    # A request that is under way continues, and closes its connection afterwards.
                    self._pools.popitem(last=False)[1].close()
            self._pools.move_to_end(endpoint)
            return pool


def _tls_context(ca_path: str) -> ssl.SSLContext:
    try:
        if os.path.isdir(ca_path):
            context = ssl.create_default_context(capath=ca_path)
        else:
            context = ssl.create_default_context(cafile=ca_path)
    except OSError as error:
        raise ValueError(f"ca_path: {ca_path}: {reason(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.sslsocket_class = DeadlineTlsSocket
    return context


def _check_head(status: int, headers: Mapping[str, str]) -> None:
    if status < 200:
        raise AnswerError(f"answered with the unexpected status HTTP {status}")
    if 300 <= status < 400:
        raise RedirectError(status, headers.get("location", ""))


def _chunks(raw: Any, headers: Mapping[str, str], deadline: float, max_bytes: int) -> Iterator[bytes]:
    try:
        yield from read_chunks(raw, headers, deadline, max_bytes)
    except BodyError as error:
        raise AnswerError(str(error)) from error


DISCONNECTED = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


def _is_disconnect(error: BaseException) -> bool:
    return any(isinstance(cause, DISCONNECTED) for cause in causes(error))


def _head_error(error: BaseException, endpoint: Endpoint) -> FederationError:
    for cause in causes(error):
        if isinstance(cause, (socket.timeout, urllib3.exceptions.TimeoutError)):
            return UnreachableError(f"{endpoint.host_header} did not answer in time")
        if isinstance(cause, http.client.HTTPException) and not isinstance(cause, ConnectionError):
            return AnswerError(f"{endpoint.host_header} did not answer with valid HTTP: {reason(cause)}")
    return UnreachableError(f"the connection to {endpoint.host_header} failed: {reason(error)}")
