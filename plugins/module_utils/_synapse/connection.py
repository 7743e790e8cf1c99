# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests to Synapse and their complete answers, over connections that obey a deadline."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
import traceback
from typing import Any, BinaryIO, Callable, Iterator, Mapping, NamedTuple

from .._http import (
    HTTP_ERRORS,
    MAX_HEADER_BYTES,
    NO_COMPRESSION,
    BodyError,
    BodySizeError,
    DeadlineSocket,
    DeadlineTlsSocket,
    announced_length,
    budget,
    causes,
    read_chunks,
    reason,
)
from .errors import FatalError, RefusedError, request_error
from .secrets import Secrets

REQUESTS_IMPORT_ERROR: str | None = None
try:
    import requests
    from requests.adapters import HTTPAdapter
    from requests.auth import HTTPBasicAuth
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.exceptions import HTTPError, NewConnectionError
except ImportError:
    REQUESTS_IMPORT_ERROR = traceback.format_exc()
    HTTPAdapter = HTTPConnection = HTTPSConnection = object  # type: ignore[assignment, misc]
    HTTPConnectionPool = HTTPSConnectionPool = object  # type: ignore[assignment, misc]
else:
    _BROKEN = (
        requests.exceptions.ConnectionError,
        requests.exceptions.ChunkedEncodingError,
        http.client.HTTPException,
        HTTPError,
    )

MAX_BYTES = 128 * 1024 * 1024
"""Maximum size of an answer in bytes: twice that of a page with the largest events that Synapse accepts."""
MIN_RATE = 128 * 1024
"""Minimum rate of a download in bytes per second, beyond the timeout of a request."""
_ERRORS: tuple[type[Exception], ...] = (BodyError, *HTTP_ERRORS)
OBEYING: dict[type, type] = {socket.socket: DeadlineSocket, ssl.SSLSocket: DeadlineTlsSocket}
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _obeying(sock: Any) -> Any:
    """The same socket, which obeys the budget of the thread from now on. TLS within TLS, of a proxy, stays as it is."""
    # requests and urllib3 open the socket, and in their own way for each version, proxy and certificate.
    obeying = OBEYING.get(sock.__class__)
    if obeying is not None:
        sock.__class__ = obeying
    return sock


class _Connection(HTTPConnection):
    def _new_conn(self) -> Any:
        return _obeying(super()._new_conn())


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> Any:
        return _obeying(super()._new_conn())

    def connect(self) -> None:
        super().connect()
        _obeying(self.sock)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


POOLS = {"http": _Pool, "https": _TlsPool}


class _Adapter(HTTPAdapter):
    """Sends requests over connections that obey the budget of the thread."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Return the manager of the connections through a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = POOLS
        return manager


class Received(NamedTuple):
    """A complete answer. The names of I(headers) are in lower case. I(content) is empty if it is in a C(Sink)."""

    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes
    is_redirect: bool


class Sink(NamedTuple):
    """A file for the body of an answer with status 200, and the maximum size of that in bytes."""

    file: BinaryIO
    max_bytes: int

    def clear(self) -> None:
        """Remove what an earlier attempt has left in the file."""
        self.file.seek(0)
        self.file.truncate()

    def write(self, chunks: Iterator[bytes]) -> None:
        """
        :raises RefusedError: the body is too large.
        :raises FatalError: the file can't be written.
        """
        try:
            for chunk in chunks:
                self._write(chunk)
        except BodySizeError as error:
            # Another attempt would end in the same way.
            raise RefusedError(str(error)) from error

    def _write(self, chunk: bytes) -> None:
        try:
            self.file.write(chunk)
        except OSError as error:
            raise FatalError(
                f"cannot write to the temporary file of a download: {reason(error)}. Free space on the host, then run"
                " again"
            ) from error


class Connections:
    """A pool of connections to one homeserver that are kept alive. May be shared between threads."""

    def __init__(self, host: str, *, verify: bool | str, timeout: float, most: int, secrets: Secrets) -> None:
        """
        :param host: of the homeserver. Requests to this machine, and the token in them, are not sent to a proxy.
        :param verify: as for C(Client).
        :param timeout: seconds for a connection, and for the whole answer.
        :param most: maximum number of connections.
        :param secrets: are hidden in errors, with the tokens of the requests.
        """
        self._verify = verify
        self._timeout = timeout
        self._secrets = secrets
        self._proxies = {"no_proxy": host} if host in LOOPBACK else None
        self._reached = False
        self._session = requests.Session()
        adapter = _Adapter(pool_maxsize=most)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def send(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: object = None,
        form: Mapping[str, str] | None = None,
        token: str | None,
        credentials: tuple[str, str] | None = None,
        borrowed: bool = False,
        sink: Sink | None = None,
    ) -> Received:
        """Send a request and read the whole answer.

        :param form: a body with the fields of a form, instead of I(json).
        :param credentials: name and password for basic authentication (UTF-8), instead of I(token).
        :param borrowed: whether the token is another than the operator's.
        :param sink: for a body that is too large for memory. It may take longer than other answers: see C(MIN_RATE).
        :raises SynapseError: if there is no complete answer in time. See C(request_error).
        """
        self._secrets.add(token)
        authenticate = _bearer(token) if credentials is None else _basic(*credentials)
        body = {"json": json} if form is None else {"data": form}
        try:
            received = self._receive(method, url, params, body, authenticate, sink)
        except _ERRORS as error:
            message, unanswered, problem = self._describe(error, url)
            raise request_error(
                self._secrets.hide(message),
                method=method,
                url=url,
                unanswered=unanswered,
                borrowed=borrowed,
                problem=problem,
            ) from error
        self._reached = True
        return received

    def _receive(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None,
        body: Mapping[str, Any],
        authenticate: Callable[[requests.PreparedRequest], requests.PreparedRequest],
        sink: Sink | None,
    ) -> Received:
        deadline = time.monotonic() + self._timeout
        with budget.limit(deadline, MAX_HEADER_BYTES):
            answer = self._session.request(
                method,
                url,
                params=params,
                **body,
                headers=NO_COMPRESSION,
                auth=authenticate,
                # With each request: the session's own gives way to REQUESTS_CA_BUNDLE, also if it names a CA.
                verify=self._verify,
                proxies=self._proxies,
                timeout=self._timeout,
                # The token must not be sent to another server.
                allow_redirects=False,
                stream=True,
            )
        try:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            content = b""
            if sink is None or answer.status_code != 200:
                content = b"".join(read_chunks(answer.raw, headers, deadline, MAX_BYTES))
            else:
                length = announced_length(headers)
                deadline += (sink.max_bytes if length is None else min(length, sink.max_bytes)) / MIN_RATE
                sink.write(read_chunks(answer.raw, headers, deadline, sink.max_bytes))
        finally:
            # Closes a connection with unread data. Any other one is back in the pool by now.
            answer.close()
        return Received(answer.status_code, str(answer.reason), headers, content, answer.is_redirect)

    def _describe(self, error: Exception, url: str) -> tuple[str, bool, str | None]:
        """What failed, whether the server may have carried out the request, and a key of C(ADVICE) if one applies."""
        found = list(causes(error))
        if isinstance(error, BodyError):
            return str(error), True, error.problem
        if isinstance(error, requests.exceptions.SSLError):
            problem = "certificate" if _has(found, ssl.SSLCertVerificationError) else "plain port"
            text = reason(error)
            return text if text.startswith("TLS failed") else f"TLS failed: {text}", False, problem
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return f"no connection within {self._timeout:g} s", False, None
        if isinstance(error, requests.exceptions.ReadTimeout):
            return f"no answer within {self._timeout:g} s", True, "slow"
        for refused in found:
            if isinstance(refused, NewConnectionError):
                cause = refused.__cause__ or refused.__context__ or refused
                is_closed = isinstance(cause, ConnectionRefusedError)
                return f"connection failed: {reason(cause)}", False, "closed port" if is_closed else None
        if isinstance(error, _BROKEN):
            return f"connection failed: {reason(error)}", True, self._no_http(found, url)
        # An invalid URL or path of CA certificates.
        return str(error), False, None

    def _no_http(self, found: list[BaseException], url: str) -> str | None:
        """Why no HTTP server answers at the other end of a connection, as a key of C(ADVICE)."""
        # A server that expects TLS answers with an alert, or hangs up.
        no_http = _has(found, http.client.BadStatusLine) or _has(found, ConnectionResetError)
        return "TLS port" if no_http and not self._reached and url.startswith("http:") else None


def _has(found: list[BaseException], kind: type[BaseException]) -> bool:
    return any(isinstance(error, kind) for error in found)


def _basic(name: str, password: str) -> HTTPBasicAuth:
    return HTTPBasicAuth(name.encode(), password.encode())


def _bearer(token: str | None) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """An C(auth) for requests. Without one, or with a plain header, a C(.netrc) would be used instead."""
    if token is not None and not re.fullmatch("[!-~]+", token):
        # The error of requests would show the token.
        raise FatalError("the access token has blanks or other invalid characters: check access_token for line breaks")

    def authenticate(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    return authenticate
