# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The front end of the fake homeserver: sessions, faults and the log of requests."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any, ContextManager, Iterator, Union

import responses

from ..helpers import BASE_URL, SERVER, Json
from ..mas import MasStub
from . import admin_api, client_api
from .answers import INVALID_TOKEN, After, Faults, File, RefusalError, Reply, fault_of
from .request import Request, request_of
from .state import Session, State
from .transport import DirectSession, serving

WITHOUT_TOKEN = ("server_version", "versions", "auth_metadata", "available")
"""The last segments of what anybody may ask for, beside C(GET client/v3/login)."""
INTROSPECTION_LIFETIME = 120.0
"""Seconds for which Synapse remembers what the service said of a token, be it valid or not."""
WHILE_LOCKED = ("logout", "all")
Body = Union[str, bytes, Exception]


class Homeserver(State):
    """A fake homeserver.

    :ivar faults: what happens to requests, by their text (see C(Request)) or method and path: the same to each, or one
        thing after the other.
    :ivar last_write: when I(written) is more than that, no access token is valid any more: as for a run that is killed.
    :ivar written: how many requests there were that are no GET.
    :ivar log: the requests that came.
    :ivar mas: the service that handles login, if there is one: see C(delegate).
    """

    def __init__(self, mock: responses.RequestsMock | None = None, server_name: str = SERVER) -> None:
        super().__init__(server_name)
        self.faults: dict[str, Faults] = {}
        self.last_write = sys.maxsize
        self.log: list[Request] = []
        self.written = 0
        self._lock = threading.RLock()
        self.mas: MasStub | None = None
        self._introspected: dict[str, tuple[float, Json]] = {}
        self._mock = mock
        if mock is not None:
            for method in ("GET", "POST", "PUT", "DELETE"):
                mock.add_callback(method, re.compile(f"{BASE_URL}/.*"), self.answer)

    @classmethod
    @contextmanager
    def mocked(cls) -> Iterator[Homeserver]:
        """A homeserver that answers all requests that are sent with I(requests)."""
        with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
            yield cls(mock)

    def delegate(self) -> MasStub:
        """Hand login over to a service, and return it. It takes over the accounts but those of application services."""
        mas = self.mas or self._start_service()
        known = {user["username"] for user in mas.users.values()}
        for account in self.accounts.values():
            username = account["name"][1:].partition(":")[0]
            if username not in known and not account.get("appservice_id"):
                flags = {"admin": account["admin"], "legacy_guest": account["is_guest"]}
                mas.add_user(username, locked=bool(account.get("locked")), **flags)
        return mas

    def _start_service(self) -> MasStub:
        self.delegated = True
        self.mas = mas = MasStub(self.server_name, self._called_by_service)
        if self._mock is not None:
            for method in ("GET", "POST"):
                self._mock.add_callback(method, re.compile(f"{mas.url}.*"), mas.answer)
        return mas

    def _called_by_service(self, path: str, body: Json) -> int:
        user_id = f"@{body['localpart']}:{self.server_name}"
        if path == "provision_user":
            self.register(body["localpart"])
            return 201
        if user_id not in self.accounts:
            return 404
        self.deactivate(user_id, erase=body["erase"])
        return 200

    def _introspect(self, token: str) -> None:
        """Let the service decide on a token of its own, and remember its answer for a while."""
        if self.mas is None or not token.startswith(("mpt_", "mat_", "mct_")):
            return
        self.sessions.pop(token, None)
        asked, known = self._introspected.get(token, (-INTROSPECTION_LIFETIME, {}))
        if time.monotonic() - asked >= INTROSPECTION_LIFETIME:
            known = self.mas.introspect(token)
            self._introspected[token] = time.monotonic(), known
        if known["active"]:
            self.sessions[token] = Session(f"@{known['username']}:{self.server_name}")

    def serve(self) -> ContextManager[str]:
        """Answer requests to a port of loopback, from any process; the context is the base URL."""
        return serving(self.answer)

    def populate(self, *accounts: Json, **joined: list[str]) -> Homeserver:
        """Add accounts, and by localpart the names of the rooms that they are joined to; return the server."""
        self.add_accounts(*accounts)
        for name, rooms in joined.items():
            self.join(f"@{name}:{self.server_name}", *rooms)
        return self

    def attach(self, client: Any) -> None:
        """Let a client send its requests straight here, without I(requests) and I(responses), which take longer."""
        client._connections._session = DirectSession(self.answer)

    @property
    def requests(self) -> list[str]:
        """The requests as text: see C(Request)."""
        return list(map(str, self.log))

    @property
    def paths(self) -> list[str]:
        """The requests with their whole path."""
        return [f"{request.method} {request.path}" for request in self.log]

    @property
    def writes(self) -> list[str]:
        return [request for request in self.requests if not request.startswith("GET")]

    @property
    def steps(self) -> list[str]:
        """The writes that are about accounts: without sessions that end, and the operator's rate limit."""
        return [write for write in self.writes if "logout" not in write and "override_ratelimit" not in write]

    @property
    def state_changes(self) -> list[tuple[str, str]]:
        """The account and the room of each state event that was sent."""
        return [(r.user_id, r.parts[-3]) for r in self.log if r.method == "PUT" and r.parts[-2] == "state"]

    def count(self, what: str) -> int:
        """How many requests there were with this in their method and path."""
        return sum(what in path for path in self.paths)

    def answer(self, sent: Any) -> tuple[int, dict[str, str], Body]:
        """Answer a request that was sent with I(requests), as a callback of I(responses)."""
        with self._lock:
            self.leave_step()
            status, body = self._reply(sent)
            headers = {"Date": formatdate(self.now, usegmt=True), "Content-Type": "application/json"}
            if isinstance(body, File):
                return status, {**headers, **body.headers}, body.content
            return status, headers, body if isinstance(body, Exception) else json.dumps(body)

    def _reply(self, sent: Any) -> Reply:
        token = (sent.headers.get("Authorization") or "").partition(" ")[2]
        self._introspect(token)
        session = self.sessions.get(token)
        request = request_of(sent, "" if session is None else session.user_id, token)
        self.log.append(request)
        self.written += request.method != "GET"
        if self.written > self.last_write:
            return INVALID_TOKEN
        fault = fault_of(self.faults.get(str(request), self.faults.get(f"{request.method} {request.path}")))
        if callable(fault):
            fault()
        elif fault is not None and not isinstance(fault, After):
            return fault
        try:
            reply = self._carry_out(request)
        except RefusalError as refusal:
            reply = refusal.reply
        return fault.reply if isinstance(fault, After) else reply

    def _carry_out(self, request: Request) -> Reply:
        if not (request.parts[-1] in WITHOUT_TOKEN or str(request) == "GET login v3"):
            self._authenticate(request)
        api = admin_api if request.parts[0] == "admin" else client_api
        handler, segments = api.endpoints.find(request)
        reply: Reply = handler(self, request, *segments)
        return reply

    def _authenticate(self, request: Request) -> None:
        account = self.accounts[self.account_of(request.token)]
        # Where login is delegated, a lock has no effect.
        if account.get("locked") and not self.delegated and request.parts[-1] not in WHILE_LOCKED:
            raise RefusalError(401, "M_USER_LOCKED", "User account has been locked")
        if request.parts[0] == "admin" and not account["admin"]:
            raise RefusalError(403, "M_FORBIDDEN", "You are not a server admin")
