# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two more ways to the fake homeserver: a port of loopback, and none at all for tests that send many thousands."""

from __future__ import annotations

import io
import json as json_module
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, Callable, Iterator
from urllib.parse import urlencode

import requests

Answering = Callable[[Any], "tuple[int, dict[str, str], str | bytes | Exception]"]


class _Body(io.BytesIO):
    """A body that is not read yet, as urllib3 has it."""

    def read(self, size: int | None = -1, *, decode_content: bool = False) -> bytes:
        return super().read(size)


class DirectSession:
    """Does what a client needs of a C(requests.Session), ten times as fast: nothing is prepared, mocked or parsed."""

    def __init__(self, answer: Answering) -> None:
        self._answer = answer

    def request(
        self, method: str, url: str, *, params: Any, json: Any, auth: Callable[[Any], object], **_more: object
    ) -> requests.Response:
        sent = requests.PreparedRequest()
        sent.method = method
        sent.url = f"{url}?{urlencode(params)}" if params else url
        sent.headers = requests.structures.CaseInsensitiveDict()
        sent.body = None if json is None else json_module.dumps(json).encode()
        auth(sent)
        status, headers, body = self._answer(sent)
        if isinstance(body, Exception):
            raise body
        answer = requests.Response()
        answer.request, answer.status_code, answer.url = sent, status, sent.url
        answer.headers.update(headers)
        answer.raw = _Body(body if isinstance(body, bytes) else body.encode())
        return answer

    def close(self) -> None:
        """There is nothing to close."""


@contextmanager
def serving(answer: Answering) -> Iterator[str]:
    """Answer requests to a port of loopback; yield the base URL. Where there is no answer, the connection is closed."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            sent = SimpleNamespace(method=self.command, url=self.path, headers=self.headers, body=body)
            status, headers, content = answer(sent)
            if isinstance(content, Exception):
                self.close_connection = True
                return
            self.send_response_only(status)
            body = content if isinstance(content, bytes) else content.encode()
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            # A client waits for the rest of what was announced.
            self.close_connection = self.close_connection or int(headers.get("Content-Length", len(body))) > len(body)

        do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815 - as the library has it

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
