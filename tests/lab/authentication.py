# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stub of the Matrix Authentication Service on a port of loopback, in front of a real Synapse.

There are no passwords and no pages: ``sign_in`` is what the owner of an account does, which also works for an account
that Synapse has closed, as with the real one.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread, Timer
from types import SimpleNamespace, TracebackType
from typing import Any

import requests
from stubs.mas import CLIENT_ID, CLIENT_SECRET, MATRIX_SCOPE, SECRET, SYNAPSE_ADMIN_SCOPE, MasStub

from .api import Account, Json
from .homeserver import Homeserver
from .waiting import PATIENCE

JOB_INTERVAL = 0.05
"""Seconds between two looks for jobs that are due."""


class AuthenticationService:
    """Handles login for one homeserver, from a port on loopback. As a context manager: listening."""

    def __init__(self, port: int, homeserver: Homeserver) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.homeserver = homeserver
        self.mas = MasStub(homeserver.server_name, self._call, url=self.url)
        self.hung_up = False
        """Whether the service is stopped: connections are closed without an answer."""
        self.outage: tuple[str, float] | None = None
        """A method and path of the admin API before whose next request the service stops, and for how many seconds."""
        self._stopped = Event()
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True

    def __enter__(self) -> AuthenticationService:
        Thread(target=self._server.serve_forever, daemon=True).start()
        Thread(target=self._run_jobs, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def _run_jobs(self) -> None:
        while not self._stopped.wait(JOB_INTERVAL):
            if not self.hung_up:
                self.mas.run_jobs()

    def _call(self, path: str, body: Json) -> int:
        """Send a request to the homeserver, and return the status; 0 if there is no answer."""
        url = f"{self.homeserver.base_url}/_synapse/mas/{path}"
        try:
            headers = {"Authorization": f"Bearer {SECRET}"}
            return requests.post(url, json=body, headers=headers, timeout=PATIENCE).status_code
        except requests.exceptions.RequestException:
            return 0

    @property
    def config(self) -> Json:
        """The keys of homeserver.yaml that hand login over to it."""
        return {
            "matrix_authentication_service": {"enabled": True, "endpoint": self.url, "secret": SECRET},
            "password_config": {"enabled": False},
        }

    @property
    def role_variables(self) -> Json:
        """The variables of a host by which the role asks the service."""
        return {
            "decommission_mas_url": self.url,
            "decommission_mas_client_id": CLIENT_ID,
            "decommission_mas_client_secret": CLIENT_SECRET,
        }

    @property
    def options(self) -> Json:
        """The options of a module by which it asks the service."""
        return {key.removeprefix("decommission_"): value for key, value in self.role_variables.items()}

    def is_down(self, request: str) -> bool:
        """Whether this request gets no answer."""
        if self.outage is not None and self.outage[0] in request:
            self.hung_up = True
            Timer(self.outage[1], self._come_back).start()
            self.outage = None
        return self.hung_up

    def _come_back(self) -> None:
        self.hung_up = False

    def adopt(self, accounts: list[Json]) -> None:
        """Take over the accounts of the homeserver, without those of application services, as ``syn2mas`` does.

        :param accounts: as the admin API of Synapse lists them.
        """
        for account in accounts:
            localpart = account["name"][1:].partition(":")[0]
            if account.get("appservice_id"):
                continue
            user_id = self.mas.add_user(
                localpart,
                admin=bool(account["admin"]),
                legacy_guest=bool(account["is_guest"]),
                locked=bool(account.get("locked")),
            )
            if account["deactivated"]:
                self.mas.users[user_id]["deactivated_at"] = self.mas.users[user_id]["created_at"]

    def sign_in(self, localpart: str, *, admin: bool = False) -> Account:
        """A new session of an account, which is made unless it is there. Only as an admin may it use the admin API."""
        if localpart not in {user["username"] for user in self.mas.users.values()}:
            self.mas.add_user(localpart, admin=admin)
            self._call("provision_user", {"localpart": localpart})
        device = secrets.token_hex(5).upper()
        self._call("upsert_device", {"localpart": localpart, "device_id": device})
        scope = f"{MATRIX_SCOPE} {SYNAPSE_ADMIN_SCOPE}" if admin else MATRIX_SCOPE
        return Account(self.homeserver.user_id(localpart), self.mas.issue_token(scope, localpart, device=device))


class _Handler(BaseHTTPRequestHandler):
    service: AuthenticationService
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.service.is_down(f"{self.command} {self.path}"):
            self.close_connection = True
            return
        sent = SimpleNamespace(method=self.command, url=self.path, headers=self.headers, body=body)
        status, headers, content = self.service.mas.answer(sent)
        with suppress(ConnectionError):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    do_GET = do_POST = _handle  # noqa: N815 - as the library has it

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""
