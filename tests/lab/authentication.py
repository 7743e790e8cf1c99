# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stub of the Matrix Authentication Service.

The real one is a program in Rust that needs PostgreSQL, and is not to be had from the registries that the tests may
use. What it is to Synapse is two requests that Synapse sends to it (its metadata, and whose a token is), and those by
which it makes accounts and devices there. The stub does these, and nothing else: it has no users of its own, no
passwords and no pages, and everybody may sign in, those too whose account Synapse has closed, as with the real one.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs

from .api import Account, Json
from .homeserver import Homeserver

SECRET = "lab-authentication-secret"
_MATRIX = "urn:matrix:client:api:*"
_ADMIN = "urn:synapse:admin:*"


class AuthenticationService:
    """Handles login for one homeserver, from a port on loopback. As a context manager: listening."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self._tokens: dict[str, Json] = {}
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True

    def __enter__(self) -> AuthenticationService:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def config(self) -> Json:
        """The keys of homeserver.yaml that hand login over to it."""
        return {
            "matrix_authentication_service": {"enabled": True, "endpoint": self.url, "secret": SECRET},
            "password_config": {"enabled": False},
        }

    def sign_in(self, homeserver: Homeserver, localpart: str, *, admin: bool = False) -> Account:
        """A new session of an account, which is made unless it is there. Only as an admin may it use the admin API."""
        device = secrets.token_hex(5).upper()
        for path, body in (
            ("provision_user", {"localpart": localpart}),
            ("upsert_device", {"localpart": localpart, "device_id": device}),
        ):
            homeserver.call("POST", f"/_synapse/mas/{path}", token=SECRET, json=body)
        token = f"mat_{secrets.token_urlsafe(16)}"
        scope = f"{_MATRIX} {_ADMIN}" if admin else _MATRIX
        self._tokens[token] = {"active": True, "username": localpart, "device_id": device, "scope": scope}
        return Account(homeserver.user_id(localpart), token)

    def introspect(self, token: str) -> Json:
        """What it knows of a token."""
        return self._tokens.get(token, {"active": False})


class _Handler(BaseHTTPRequestHandler):
    service: AuthenticationService
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path != "/.well-known/openid-configuration":
            self._answer(404, {})
            return
        url = self.service.url
        self._answer(200, {"issuer": url, "account_management_uri": f"{url}account/"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if self.path != "/oauth2/introspect" or self.headers.get("Authorization") != f"Bearer {SECRET}":
            self._answer(404, {})
            return
        self._answer(200, self.service.introspect(parse_qs(body)["token"][0]))

    def _answer(self, status: int, content: Json) -> None:
        body = json.dumps(content).encode()
        with suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""
