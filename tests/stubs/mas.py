# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stub of the Matrix Authentication Service: its tokens and admin API, as version 1.22.0 answers, and its jobs.

It imports only the standard library and asks no network: who uses it passes the requests to it, and passes on those
that it sends to the homeserver.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Tuple
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

Json = Dict[str, Any]
Reply = Tuple[int, Any]

SECRET = "lab-authentication-secret"
"""The secret that Synapse and the service share."""
CLIENT_ID = "01ADM1N0000000000000000000"
CLIENT_SECRET = "lab client/secret: 100%+ä"
ADMIN_SCOPE = "urn:mas:admin"
MATRIX_SCOPE = "urn:matrix:client:api:*"
SYNAPSE_ADMIN_SCOPE = "urn:synapse:admin:*"
STAMP = "2026-11-23T06:40:00Z"
PAGE_SIZE = 10
"""Number of items of a page, if the request names none."""
LIFETIME = 300
"""Seconds for which a token of client credentials is valid."""
TRIES = 10
"""How many times a job that fails is tried before it is dropped."""
ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")

FIRST_RETRY = 5.0
"""Seconds after which a job that failed is tried again. They double with each attempt."""
SESSION_NAMES = {
    "compat-sessions": "Compatibility session",
    "oauth2-sessions": "OAuth 2.0 session",
    "user-sessions": "User session",
}
"""The kinds of sessions of the owner of an account (of older clients, of others, of browsers), as errors name them."""

PATHS = (
    "site-config",
    "version",
    *(f"{kind}{path}" for kind in SESSION_NAMES for path in ("", "/{id}", "/{id}/finish")),
    "personal-sessions",
    "personal-sessions/{id}",
    "personal-sessions/{id}/revoke",
    "policy-data",
    "policy-data/latest",
    "users",
    "users/{id}",
    "users/by-username/{username}",
    "users/{id}/deactivate",
    "users/{id}/lock",
    "users/{id}/unlock",
    "user-registration-tokens",
    "user-registration-tokens/{id}/revoke",
    "user-registration-tokens/{id}/unrevoke",
    "upstream-oauth-providers",
)


class RefusalError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, *titles: str) -> None:
        """
        :param titles: of the error, and of its causes.
        """
        super().__init__(*titles)
        self.reply = status, {"errors": [{"title": title} for title in titles]}


@dataclass
class Token:
    """An access token. I(expires) is by C(time.monotonic); I(session) is its session, if it is one of an account."""

    scope: str
    username: str | None = None
    expires: float = float("inf")
    device: str | None = None
    session: Json | None = None
    revoked: bool = False


@dataclass
class Job:
    """Deactivates an account of the homeserver."""

    username: str
    erase: bool
    due: float
    tries: int = 0


@dataclass
class Request:
    """A request to the stub."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    authorization: str = ""
    content_type: str = ""


@dataclass
class MasStub:
    """The data of the service. Tests read and change it directly.

    :ivar homeserver: sends a POST to a path below C(/_synapse/mas/) of the homeserver, and returns the status.
    :ivar version: if it is before 1.5, there are no personal sessions; before 1.4, no session can be finished.
    :ivar job_delay: seconds before a job runs.
    :ivar dropped_jobs: number of jobs that are dropped, without a trace, before the first that runs.
    :ivar failing_jobs: number of attempts that fail, before the first that succeeds.
    :ivar down: whether the service answers nothing, as a proxy in front of it says with 503.
    :ivar admin_clients: whether the policy lets the client have the admin scope.
    :ivar sessions: those of the owners of accounts, by kind; see C(SESSION_NAMES).
    :ivar log: method and path of the requests to the admin API, and the logins.
    :ivar begun: usernames whose registration was begun, and can be finished in any case.
    """

    server_name: str
    homeserver: Callable[[str, Json], int]
    version: str = "1.22.0"
    job_delay: float = 0.0
    dropped_jobs: int = 0
    failing_jobs: int = 0
    down: bool = False
    admin_clients: bool = True
    url: str = "http://mas.test/"
    users: dict[str, Json] = field(default_factory=dict)
    personal_sessions: dict[str, Json] = field(default_factory=dict)
    sessions: dict[str, dict[str, Json]] = field(default_factory=lambda: {kind: {} for kind in SESSION_NAMES})
    registration_tokens: dict[str, Json] = field(default_factory=dict)
    providers: dict[str, Json] = field(default_factory=dict)
    policy_data: list[Json] = field(default_factory=list)
    registration_enabled: bool = True
    tokens: dict[str, Token] = field(default_factory=dict)
    jobs: deque[Job] = field(default_factory=deque)
    log: list[str] = field(default_factory=list)
    begun: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()

    # For the set-up of tests

    def add_user(self, username: str, *, admin: bool = False, legacy_guest: bool = False, locked: bool = False) -> str:
        """Add a user to the service alone, and return its ID."""
        user_id = self._ulid()
        stamp = STAMP if locked else None
        attributes = {"created_at": STAMP, "locked_at": stamp, "deactivated_at": None}
        self.users[user_id] = {"username": username, **attributes, "admin": admin, "legacy_guest": legacy_guest}
        return user_id

    def register(self, username: str) -> bool:
        """Register an account, as its owner does by the pages of the service; return whether that was possible."""
        banned = self.latest_policy.get("registration", {}).get("banned_usernames", {}).get("regexes", [])
        refused = not self.registration_enabled or any(re.search(pattern, username) for pattern in banned)
        if refused and username not in self.begun:
            return False
        self.add_user(username)
        return self.homeserver("provision_user", {"localpart": username}) in (200, 201)

    def add_registration_token(self, token: str) -> str:
        """Add a valid registration token, and return its ID."""
        self.registration_tokens[self._ulid()] = {"token": token, "valid": True, "revoked_at": None}
        return list(self.registration_tokens)[-1]

    def add_provider(self, name: str) -> None:
        """Add an upstream provider."""
        provider = {"human_name": name, "issuer": f"https://{name}.example", "created_at": STAMP, "disabled_at": None}
        self.providers[self._ulid()] = {**provider, "brand_name": None, "registration_token_required": False}

    def issue_token(self, scope: str, username: str | None = None, *, device: str | None = None) -> str:
        """Return a new access token. With a username, it is one of a new session of this account."""
        token = f"mat_{next(self._numbers)}_stub"
        session = None if username is None else self._begin_session("oauth2-sessions", username, scope=scope)
        self.tokens[token] = Token(scope, username, device=device, session=session)
        return token

    def sign_in(self, username: str) -> None:
        """Let the owner of an account sign in, with a browser and with an older client."""
        for kind in ("user-sessions", "compat-sessions"):
            self._begin_session(kind, username)

    def _begin_session(self, kind: str, username: str, **more: str) -> Json:
        session = {"user_id": self.user_of(username)[0], "created_at": STAMP, "finished_at": None, **more}
        self.sessions[kind][self._ulid()] = session
        return session

    def open_sessions(self, username: str) -> list[str]:
        """The kinds of the sessions of an account that are not finished, without personal ones."""
        user_id = self.user_of(username)[0]
        return [
            kind
            for kind, sessions in self.sessions.items()
            for session in sessions.values()
            if session["user_id"] == user_id and not session["finished_at"]
        ]

    def user_of(self, username: str) -> tuple[str, Json]:
        """The ID and the attributes of a user.

        :raises KeyError: if there is none.
        """
        for user_id, user in self.users.items():
            if user["username"] == username:
                return user_id, user
        raise KeyError(username)

    @property
    def active(self) -> set[str]:
        """The usernames of the users that are not deactivated."""
        return {user["username"] for user in self.users.values() if user["deactivated_at"] is None}

    @property
    def active_sessions(self) -> list[str]:
        """The names of the personal sessions that are not revoked."""
        return [session["human_name"] for session in self.personal_sessions.values() if not session["revoked_at"]]

    @property
    def latest_policy(self) -> Json:
        """The newest policy data; empty if there is none."""
        data: Json = self.policy_data[-1]["data"] if self.policy_data else {}
        return data

    # Jobs

    def run_jobs(self) -> None:
        """Run the jobs that are due. To be called while time passes."""
        with self._lock:
            due = [job for job in self.jobs if job.due <= time.monotonic()]
            for job in due:
                self.jobs.remove(job)
        for job in due:
            self._run(job)

    def _run(self, job: Job) -> None:
        user_id, _user = self.user_of(job.username)
        for kind in self.sessions:
            for session in self.sessions[kind].values():
                if session["user_id"] == user_id:
                    session["finished_at"] = session["finished_at"] or STAMP
        for session in self.personal_sessions.values():
            if session["actor_user_id"] == user_id:
                session["revoked_at"] = session["revoked_at"] or STAMP
        if self.failing_jobs:
            self.failing_jobs -= 1
            done = False
        else:
            done = self.homeserver("delete_user", {"localpart": job.username, "erase": job.erase}) == 200
        job.tries += 1
        if not done and job.tries < TRIES:
            job.due = time.monotonic() + FIRST_RETRY * 2 ** (job.tries - 1)
            self.jobs.append(job)

    # Requests

    def answer(self, sent: Any) -> tuple[int, dict[str, str], bytes]:
        """Answer a request with I(method), I(url), I(headers) and I(body), as C(requests) has it."""
        self.run_jobs()
        with self._lock:
            status, content = self._reply(_request(sent))
        self.run_jobs()
        if isinstance(content, str):
            return status, {"Content-Type": "text/html; charset=utf-8"}, content.encode()
        return status, {"Content-Type": "application/json"}, json.dumps(content).encode()

    def _reply(self, request: Request) -> Reply:
        if self.down:
            return 503, "<html>Service Unavailable</html>"
        try:
            if not request.path.startswith("/api/admin/v1/"):
                return self._public(request)
            self.log.append(f"{request.method} {request.path[len('/api/admin/v1/') :]}")
            self._authorize(request.authorization)
            return self._admin(request, [unquote(part) for part in request.path.split("/")[4:]])
        except RefusalError as refusal:
            return refusal.reply

    def _public(self, request: Request) -> Reply:
        endpoint = request.method, request.path
        if endpoint == ("GET", "/.well-known/openid-configuration"):
            names = {"token_endpoint": "oauth2/token", "introspection_endpoint": "oauth2/introspect"}
            urls = {key: self.url + path for key, path in names.items()}
            return 200, {"issuer": self.url, "account_management_uri": f"{self.url}account/", **urls}
        if endpoint == ("GET", "/api/spec.json"):
            known = [path for path in PATHS if self._has(path)]
            return 200, {"openapi": "3.1.0", "paths": {f"/api/admin/v1/{path}": {} for path in known}}
        if endpoint == ("POST", "/oauth2/introspect"):
            if request.authorization != f"Bearer {SECRET}":
                return 401, {"error": "access_denied", "error_description": "bearer token presented is invalid"}
            return 200, self.introspect(request.body.get("token", ""))
        if endpoint == ("POST", "/oauth2/token"):
            self.log.append("POST token")
            return self._token(request)
        return 404, "<!DOCTYPE html><html><body>Not found</body></html>"

    def _has(self, path: str) -> bool:
        since = (1, 5) if path.startswith("personal-sessions") else (1, 4) if path.endswith("/finish") else (0,)
        return _number(self.version) >= since

    def introspect(self, text: str) -> Json:
        """What Synapse is told of an access token."""
        token = self.tokens.get(text)
        if token is None or token.username is None or token.revoked or token.expires <= time.monotonic():
            return {"active": False}
        user_id, user = self.user_of(token.username)
        session = token.session or {}
        if any((user["locked_at"], user["deactivated_at"], session.get("finished_at"), session.get("revoked_at"))):
            return {"active": False}
        more = {} if token.device is None else {"device_id": token.device}
        known = {"username": token.username, "sub": user_id, "token_type": "access_token", "client_id": CLIENT_ID}
        return {"active": True, "scope": token.scope, **known, **more}

    def _token(self, request: Request) -> Reply:
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if request.authorization != f"Basic {basic}":
            return 401, {"error": "invalid_client", "error_description": "Client authentication failed."}
        if request.body.get("grant_type") != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}
        if request.body.get("scope") == ADMIN_SCOPE and not self.admin_clients:
            return 403, {"error": "invalid_scope", "error_description": "scope 'urn:mas:admin' not allowed"}
        token = self.issue_token(request.body.get("scope", ""))
        self.tokens[token].expires = time.monotonic() + LIFETIME
        granted = {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME}
        return 200, {**granted, "scope": self.tokens[token].scope}

    def _authorize(self, authorization: str) -> None:
        kind, _space, text = authorization.partition(" ")
        if kind != "Bearer":
            raise RefusalError(400, "Invalid authorization header" if kind else "Missing authorization header")
        token = self.tokens.get(text)
        if not text.startswith(("mat_", "mpt_")):
            raise RefusalError(401, "Invalid type of access token")
        if token is None:
            raise RefusalError(401, "Unknown access token")
        if token.expires <= time.monotonic():
            raise RefusalError(401, "Access token expired")
        if token.revoked:
            raise RefusalError(401, "Access token revoked")
        if ADMIN_SCOPE not in token.scope.split():
            raise RefusalError(401, "Missing urn:mas:admin scope")

    def _admin(self, request: Request, parts: list[str]) -> Reply:
        kind, *rest = parts
        endpoint = f"{request.method} {'/'.join(parts[:1] + rest[1:])}"
        if not self._has(kind):
            return 404, "<!DOCTYPE html><html><body>Not found</body></html>"
        if rest and kind != "policy-data" and rest[0] != "by-username" and not ULID.fullmatch(rest[0]):
            raise RefusalError(400, "Invalid ULID in path", "invalid length")
        plain: dict[str, Callable[[], Reply]] = {
            "GET version": lambda: (200, {"version": f"v{self.version}"}),
            "GET site-config": lambda: (200, self._site_config()),
            "GET policy-data": lambda: self._latest_policy() if rest == ["latest"] else (405, ""),
            "POST policy-data": lambda: self._set_policy(request.body),
            "POST personal-sessions": lambda: self._add_session(request.body),
        }
        if endpoint in plain and (not rest or kind == "policy-data"):
            return plain[endpoint]()
        resources = self._resources().get(kind)
        if resources is None:
            return 404, "<!DOCTYPE html><html><body>Not found</body></html>"
        if request.method == "GET" and not rest:
            return 200, self._page(kind, resources, request.query)
        if request.method == "GET" and rest[0] == "by-username":
            try:
                return 200, {"data": _resource(kind, *self.user_of(rest[1]))}
            except KeyError:
                raise RefusalError(404, f'User with username "{rest[1]}" not found') from None
        if rest[0] not in resources:
            raise RefusalError(404, f"{kind} with ID {rest[0]} not found")
        if request.method == "POST":
            self._act(kind, rest[0], rest[1], request.body or {})
        return 200, {"data": _resource(kind, rest[0], resources[rest[0]])}

    def _resources(self) -> dict[str, dict[str, Json]]:
        return {
            "users": self.users,
            "personal-sessions": self.personal_sessions,
            **self.sessions,
            "user-registration-tokens": self.registration_tokens,
            "upstream-oauth-providers": self.providers,
        }

    def _page(self, kind: str, resources: dict[str, Json], query: dict[str, str]) -> Json:
        found = [item for item in resources.items() if _passes(item[1], query)]
        meta = {} if query.get("count") == "false" else {"meta": {"count": len(found)}}
        if query.get("count") == "only":
            return {**meta, "links": {"self": f"/api/admin/v1/{kind}?count=only"}}
        first = int(query.get("page[first]", PAGE_SIZE))
        following = [item for item in found if item[0] > query.get("page[after]", "")]
        page = [{**_resource(kind, *item), "meta": {"page": {"cursor": item[0]}}} for item in following[:first]]
        links = {"self": f"/api/admin/v1/{kind}"}
        if len(following) > first:
            more = urlencode({**query, "page[after]": page[-1]["id"], "page[first]": first})
            links["next"] = f"/api/admin/v1/{kind}?{more}"
        return {**meta, "data": page, "links": links}

    def _act(self, kind: str, item: str, action: str, body: Json) -> None:
        if kind == "users":
            self._change_user(self.users[item], action, body)
        elif kind in self.sessions and action == "finish":
            if self.sessions[kind][item]["finished_at"]:
                raise RefusalError(400, f"{SESSION_NAMES[kind]} with ID {item} is already finished")
            self.sessions[kind][item]["finished_at"] = STAMP
        elif kind == "personal-sessions" and action == "revoke":
            if self.personal_sessions[item]["revoked_at"]:
                raise RefusalError(409, f"Personal session with ID {item} is already revoked")
            self.personal_sessions[item]["revoked_at"] = STAMP
        elif kind == "user-registration-tokens" and action in ("revoke", "unrevoke"):
            revokes = action == "revoke"
            if bool(self.registration_tokens[item]["revoked_at"]) is revokes:
                raise RefusalError(
                    400, f"Registration token with ID {item} is {'already' if revokes else 'not'} revoked"
                )
            self.registration_tokens[item].update(valid=not revokes, revoked_at=STAMP if revokes else None)
        else:
            raise AssertionError(f"the stub has no {kind} {action}")

    def _change_user(self, user: Json, action: str, body: Json) -> None:
        if action == "deactivate":
            user["deactivated_at"] = user["deactivated_at"] or STAMP
            if self.dropped_jobs:
                self.dropped_jobs -= 1
                return
            due = time.monotonic() + self.job_delay
            self.jobs.append(Job(user["username"], not body.get("skip_erase", False), due))
        else:
            user["locked_at"] = {"lock": STAMP, "unlock": None}[action]

    def _add_session(self, body: Json) -> Reply:
        user = self.users.get(body["actor_user_id"])
        if user is None:
            raise RefusalError(404, "User not found")
        if user["deactivated_at"]:
            raise RefusalError(410, "User is not active")
        session_id = self._ulid()
        token = f"mpt_{next(self._numbers)}_stub"
        lifetime = body.get("expires_in")
        expires = float("inf") if lifetime is None else time.monotonic() + lifetime
        names = {key: body[key] for key in ("actor_user_id", "human_name", "scope")}
        session = self.personal_sessions[session_id] = {**names, "created_at": STAMP, "revoked_at": None}
        self.tokens[token] = Token(body["scope"], user["username"], expires, session=session)
        resource = _resource("personal-sessions", session_id, self.personal_sessions[session_id])
        resource["attributes"]["access_token"] = token
        return 201, {"data": resource}

    def _site_config(self) -> Json:
        return {
            "server_name": self.server_name,
            "password_login_enabled": True,
            "password_registration_enabled": self.registration_enabled,
            "password_registration_token_required": False,
            "account_deactivation_allowed": True,
        }

    def _latest_policy(self) -> Reply:
        if not self.policy_data:
            raise RefusalError(404, "No policy data found")
        return 200, {"data": _resource("policy-data", self.policy_data[-1]["id"], self.policy_data[-1])}

    def _set_policy(self, body: Json) -> Reply:
        self.policy_data.append({"id": self._ulid(), "created_at": STAMP, "data": body["data"]})
        return 201, self._latest_policy()[1]

    def _ulid(self) -> str:
        return f"01{next(self._numbers):024d}"


TYPES = {
    "users": "user",
    "compat-sessions": "compat-session",
    "oauth2-sessions": "oauth2-session",
    "user-sessions": "user-session",
    "personal-sessions": "personal-session",
    "user-registration-tokens": "user-registration_token",
    "upstream-oauth-providers": "upstream-oauth-provider",
    "policy-data": "policy-data",
}


def _request(sent: Any) -> Request:
    url = urlsplit(sent.url)
    body: Any = sent.body or b""
    text = body.decode() if isinstance(body, bytes) else body
    content_type = str(sent.headers.get("Content-Type") or "")
    if "x-www-form-urlencoded" in content_type:
        content: Any = {key: values[0] for key, values in parse_qs(text).items()}
    else:
        content = json.loads(text) if text else None
    query = {key: values[0] for key, values in parse_qs(url.query).items()}
    authorization = str(sent.headers.get("Authorization") or "")
    return Request(sent.method, url.path, query, content, authorization, content_type)


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _resource(kind: str, item: str, attributes: Json) -> Json:
    visible = {key: value for key, value in attributes.items() if key != "id"}
    return {"type": TYPES[kind], "id": item, "attributes": visible, "links": {"self": f"/api/admin/v1/{kind}/{item}"}}


def _passes(attributes: Json, query: dict[str, str]) -> bool:
    """Whether a resource passes the filters of a query."""
    status = {
        None: True,
        "active": not any(attributes.get(f"{end}_at") for end in ("deactivated", "locked", "revoked", "finished")),
        "finished": bool(attributes.get("finished_at")),
        "locked": bool(attributes.get("locked_at")),
        "deactivated": bool(attributes.get("deactivated_at")),
        "revoked": bool(attributes.get("revoked_at")),
    }[query.get("filter[status]")]
    actor, owner = query.get("filter[actor_user]"), query.get("filter[user]")
    valid = query.get("filter[valid]") != "true" or attributes.get("valid")
    enabled = query.get("filter[enabled]") != "true" or not attributes.get("disabled_at")
    of_user = actor in (None, attributes.get("actor_user_id")) and owner in (None, attributes.get("user_id"))
    return bool(status and valid and enabled and of_user)
