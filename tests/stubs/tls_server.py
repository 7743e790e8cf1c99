# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server that answers over TLS with whatever bytes a test wants, valid or not."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import Any, BinaryIO, Callable, Iterable, Iterator, Union

import trustme

Answer = Union[bytes, Iterable[bytes], None]


@dataclass(frozen=True)
class Request:
    """A request as it was received. The names of I(headers) are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def http(body: bytes | dict[str, Any] = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    """A complete answer, after which the connection may be used again."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers, "", ""]).encode() + content


class TlsServer:
    """Listens on a loopback address until it is closed; each connection has a thread.

    Without a certificate, it uses no TLS. I(answer) is called with each request. If it returns bytes, they are sent and
    the connection is kept open; an iterable of bytes is sent piece by piece and the connection is closed then; for
    C(None) it is closed at once.
    """

    def __init__(
        self, certificate: trustme.LeafCert | None, answer: Callable[[Request], Answer], host: str, port: int = 0
    ) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.tls_names: list[str | None] = []
        """What the clients asked for in their handshakes (SNI)."""
        self._closing = threading.Event()
        self._answer = answer
        self._context = None if certificate is None else self._tls_context(certificate)
        self._open: list[socket.socket] = []
        self._socket = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        threading.Thread(target=self._accept, daemon=True).start()

    def _tls_context(self, certificate: trustme.LeafCert) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        context.sni_callback = lambda _connection, name, _context: self.tls_names.append(name)
        return context

    def hang(self) -> Iterator[bytes]:
        """Nothing, until the server is closed."""
        self._closing.wait()
        yield b""

    def drop_connections(self) -> None:
        """Close all connections, as a server does with those that are idle."""
        while self._open:
            with contextlib.suppress(OSError):
                connection = self._open.pop()
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.drop_connections()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _address = self._socket.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # A client that goes away is what many tests are about.
        with contextlib.suppress(OSError, ValueError), connection:
            wrapped = connection if self._context is None else self._context.wrap_socket(connection, server_side=True)
            self._open.append(wrapped)
            with wrapped, wrapped.makefile("rb") as stream:
                self._converse(wrapped, stream)

    def _converse(self, connection: socket.socket, stream: BinaryIO) -> None:
        while True:
            request = self._read(stream)
            if request is None:
                return
            self.requests.append(request)
            answer = self._answer(request)
            if isinstance(answer, bytes):
                connection.sendall(answer)
            else:
                for piece in answer or ():
                    connection.sendall(piece)
                return

    @staticmethod
    def _read(stream: BinaryIO) -> Request | None:
        first = stream.readline().decode("latin-1").split()
        if len(first) != 3:
            return None
        headers = {}
        while True:
            line = stream.readline().decode("latin-1").strip()
            if not line:
                break
            name, _colon, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Request(first[0], first[1], headers, stream.read(int(headers.get("content-length", 0))))
