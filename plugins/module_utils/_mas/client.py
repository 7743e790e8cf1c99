# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client of the admin API of a Matrix Authentication Service, over the same connections as that of Synapse."""

from __future__ import annotations

import re
import time
from functools import cached_property
from threading import Lock
from typing import Any, Callable, Iterator, Mapping

from .._http import retry_after
from .._synapse.answer import Answer, JsonDict, json_object
from .._synapse.base_url import check_base_url
from .._synapse.client import quote_identifier
from .._synapse.connection import Connections, Received
from .._synapse.errors import SynapseError
from .._synapse.retries import Retries
from .._synapse.secrets import Secrets
from .errors import CLIENT, MAS_URL, MasFatalError, MasRefusedError

API = "/api/admin/v1"
SCOPE = "urn:mas:admin"
PAGE_SIZE = 1000
"""Number of items of a page. The service has no maximum; its default is 10."""
MARGIN = 60
"""Seconds before the end of its 300 seconds from which on a token is replaced."""
MAX_ERROR = 1000
"""Maximum length of the error of an answer in characters."""
EXAMPLE = (
    "set it to scheme, host and port of the listener with the resource adminapi, for example http://localhost:8080"
)
ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")


class MasClient:
    """One service. May be shared between threads. Close it at the end."""

    def __init__(
        self,
        url: str,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        access_token: str | None = None,
        verify: bool | str = True,
        timeout: float = 60.0,
        connections: int = 8,
        check_write: Callable[[], None] = lambda: None,
        token_url: Callable[[], str | None] = lambda: None,
    ) -> None:
        """
        :param url: of the listener with the resource C(adminapi), with its prefix.
        :param client_id: of a client that may have the scope C(urn:mas:admin), instead of I(access_token).
        :param verify: as for the client of Synapse; so are I(timeout) and I(connections).
        :param check_write: called before each write except the end of a session. The write fails with its error.
        :param token_url: returns where tokens are issued if that is not at I(url), or C(None).
        :raises FatalError: if the URL can't be that of a service.
        """
        token = f"mas_access_token, or {CLIENT}"
        host = check_base_url(url, option=MAS_URL, example=EXAMPLE, token=token, api_paths=("api", "oauth2"))
        self.url = url.rstrip("/")
        self._credentials = (client_id or "", client_secret or "")
        self._given_token = access_token
        self._check_write = check_write
        self._find_token_url = token_url
        self._secrets = Secrets()
        for secret in (client_secret, access_token):
            self._secrets.add(secret)
        self._connections = Connections(host, verify=verify, timeout=timeout, most=connections, secrets=self._secrets)
        self._lock = Lock()
        self._token: str | None = None
        self._expires = 0.0
        self._reached = False

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()

    @cached_property
    def paths(self) -> frozenset[str]:
        """The paths of the admin API of this version, for example C(/personal-sessions).

        API: C(GET /api/spec.json), which needs no token.
        """
        try:
            known = self._with_retries(lambda: self._attempt("GET", f"{self.url}/api/spec.json", None, None, None))
        except SynapseError as error:
            if error.status == 404:
                raise MasFatalError(
                    error.error, method="GET", url=error.url, status=404, problem="no admin API"
                ) from error
            raise
        return frozenset(path[len(API) :] for path in known.object("paths") if path.startswith(API))

    @cached_property
    def server_name(self) -> str:
        """The name of the homeserver that the service is configured for.

        API: C(GET /site-config).

        :raises MasFatalError: if the version of the service is too old to say.
        """
        if "/site-config" not in self.paths:
            raise MasFatalError(
                f"the Matrix Authentication Service at {self.url} does not say which homeserver it is for. Probable"
                " cause: it is older than version 1.3. Update it, then run again"
            )
        return self.get("/site-config").take("server_name", str)

    def get(self, path: str, *segments: str, params: Mapping[str, Any] | None = None) -> Answer:
        return self._request("GET", path, segments, params=params)

    def post(self, path: str, *segments: str, json: JsonDict | None = None, always: bool = False) -> Answer:
        """Send a POST.

        :param always: also if no more writes are to be sent.
        """
        return self._request("POST", path, segments, json=json, always=always)

    def hide(self, secret: str) -> None:
        """Hide a secret in all errors from now on."""
        self._secrets.add(secret)

    def list_all(self, path: str, **filters: str) -> Iterator[Answer]:
        """List resources by cursor, each once, also while others are added or changed.

        :param filters: for example C(status="active").
        """
        params: JsonDict = {"page[first]": PAGE_SIZE, "count": "false"}
        params.update({f"filter[{name}]": value for name, value in filters.items()})
        last = ""
        while True:
            page = self.get(path, params=params)
            for item in page.objects("data"):
                item_id = resource_id(item)
                if item_id <= last:
                    raise self._unusable(page, f"has the item {item_id} after {last}")
                last = item_id
                yield item
            if "next" not in page.object("links"):
                return
            if params.get("page[after]") == last or not last:
                raise self._unusable(page, "has a next page without items")
            params["page[after]"] = last

    def _unusable(self, answer: Answer, error: str) -> MasFatalError:
        found = answer.error(error)
        return MasFatalError(found.error, method=found.method, url=found.url, status=200, problem="answer")

    def _request(
        self,
        method: str,
        path: str,
        segments: tuple[str, ...],
        *,
        params: Mapping[str, Any] | None = None,
        json: JsonDict | None = None,
        always: bool = False,
    ) -> Answer:
        url = f"{self.url}{API}{path.format(*map(quote_identifier, segments))}"

        def attempt() -> Answer:
            if method != "GET" and not always:
                self._check_write()
            token = self._valid_token()
            try:
                return self._attempt(method, url, params, json, token)
            except MasFatalError as error:
                # It may have expired, or the service has lost it. A second refusal is final.
                if error.status != 401 or self._given_token is not None:
                    raise
                self._forget(token)
                return self._attempt(method, url, params, json, self._valid_token())

        return self._with_retries(attempt)

    def _valid_token(self) -> str:
        if self._given_token is not None:
            return self._given_token
        with self._lock:
            if self._token is None or time.monotonic() >= self._expires:
                asked = time.monotonic()
                answer = self._ask_token()
                self._token = answer.take("access_token", str)
                self._expires = asked + max(answer.take("expires_in", int, 300) - MARGIN, 1)
            return self._token

    def _forget(self, token: str) -> None:
        with self._lock:
            if self._token == token:
                self._token = None

    def _ask_token(self) -> Answer:
        """API: C(POST /oauth2/token) with client credentials.

        The service compares them as they are. They must not be percent-encoded as in RFC 6749.
        """
        form = {"grant_type": "client_credentials", "scope": SCOPE}
        try:
            return self._attempt("POST", f"{self.url}/oauth2/token", None, None, None, form=form)
        except MasRefusedError as error:
            # The listener of the admin API may be another one.
            elsewhere = self._find_token_url() if error.status == 404 else None
            if elsewhere is None:
                raise
        return self._attempt("POST", elsewhere, None, None, None, form=form)

    def _with_retries(self, attempt: Callable[[], Answer]) -> Answer:
        retries = Retries()
        while True:
            try:
                return attempt()
            except SynapseError as error:
                is_busy = error.status in (429, 502, 503, 504)
                no_answer = error.method is not None and error.status is None
                if not (self._reached and (is_busy or no_answer)):
                    raise
                pause = retries.pause_after(error)
            time.sleep(pause)

    def _attempt(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None,
        json: JsonDict | None,
        token: str | None,
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        credentials = None if form is None else self._credentials
        try:
            received = self._connections.send(
                method, url, params=params, json=json, form=form, token=token, credentials=credentials
            )
        except SynapseError as error:
            raise MasFatalError(
                error.error, method=method, url=url, unanswered=error.unanswered, problem="unreachable"
            ) from error
        self._reached = True
        body = json_object(received.content)
        if received.status in (200, 201) and body is not None:
            return Answer(body, method, url, received.headers.get("date"), hide=self._secrets.hide)
        raise self._error(received, body, method, url, is_login=form is not None)

    def _error(
        self, received: Received, body: JsonDict | None, method: str, url: str, *, is_login: bool
    ) -> MasFatalError | MasRefusedError:
        status = received.status
        text = _error_text(body) or f"answered with {received.headers.get('content-type', 'nothing').split(';')[0]}"
        problem = None
        if status >= 500 or received.is_redirect:
            problem = "unreachable"
        elif status == 404 and body is None:
            problem = "no admin API"
        elif is_login:
            problem = "policy" if status == 403 else "client"
        elif status == 401 or (status == 400 and "authorization" in text.lower()):
            problem = "token"
        elif status in (200, 201):
            problem = "answer"
        # Of a server that is gone, or does not accept the token, all requests would fail.
        is_fatal = problem in ("client", "policy", "token") or received.is_redirect or status in (502, 503, 504)
        kind = MasFatalError if is_fatal else MasRefusedError
        return kind(
            self._secrets.hide(text)[:MAX_ERROR],
            method=method,
            url=url,
            status=status,
            unanswered=status in (502, 503, 504),
            retry_after=retry_after(received.headers.get("retry-after", ""), body),
            problem=problem,
        )


def resource_id(resource: Answer) -> str:
    """The ID of a resource, a ULID.

    :raises RefusedError: if it has none.
    """
    text = resource.take("id", str)
    if not ULID.fullmatch(text):
        raise resource.error(f"has '{text[:40]}' for an ID")
    return text


def _error_text(body: JsonDict | None) -> str:
    """The text of an error: of the admin API, or of OAuth 2.0."""
    if body is None:
        return ""
    errors = body.get("errors")
    if isinstance(errors, list):
        return "; ".join(str(error.get("title")) for error in errors if isinstance(error, dict))
    return ": ".join(str(body[key]) for key in ("error", "error_description") if key in body)
