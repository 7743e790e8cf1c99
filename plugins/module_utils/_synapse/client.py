# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client of one Synapse homeserver: the only part of the collection that speaks HTTP.

Endpoints are named by their path with C({}) where an identifier goes: C(client.get("/_synapse/admin/v2/users/{}",
user_id)). Identifiers are always percent-encoded whole, since a C(/) in one would otherwise end the segment.
"""

from __future__ import annotations

import datetime
import email.utils
import re
import time
import traceback
from collections import Counter
from typing import Callable, Iterable, Iterator
from urllib.parse import quote, urlsplit

from .._concurrency import Item, Result, map_concurrent
from .._http import retry_after
from .._text import printable
from .answer import Answer, JsonDict
from .errors import FatalError, RefusedError, SynapseError, request_error
from .limiter import AdaptiveLimiter
from .retries import Retries

REQUESTS_IMPORT_ERROR: str | None = None
try:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import NewConnectionError
except ImportError:
    REQUESTS_IMPORT_ERROR = traceback.format_exc()

ADMIN = "/_synapse/admin"
CLIENT = "/_matrix/client"
LOGOUT = f"{CLIENT}/v3/logout"

PAGE_SIZE = 1000
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Client:
    """One homeserver, over a pool of connections that are kept alive. May be shared between threads.

    Use it as a context manager: at its end, a session that C(login) opened is logged out.
    """

    def __init__(
        self,
        base_url: str,
        access_token: str | None = None,
        *,
        verify: bool | str = True,
        timeout: float = 60.0,
        connections: int = 8,
    ) -> None:
        """
        :param base_url: of the client and admin API, without C(/_matrix).
        :param verify: whether to check the TLS certificate, or the path of the CA certificates to check it with.
        :param timeout: seconds to wait for a connection, and for an answer.
        :param connections: maximum number of requests at the same time. While the server is slow, there are fewer.
        """
        self.base_url = base_url.rstrip("/")
        self.access_token = access_token
        self._verify = verify
        self._timeout = timeout
        self._logged_in = False
        self._reached = False
        self._user_id: str | None = None
        self._server_time: tuple[datetime.datetime, float] | None = None
        self.connections = connections
        self._limiter = AdaptiveLimiter(connections)
        self.stopped: SynapseError | None = None
        """Why no more requests are sent except logouts: see C(stop)."""
        self.sent: Counter[str] = Counter()
        """Number of requests that were sent, by the template of their path."""
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_maxsize=connections)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        try:
            host = urlsplit(self.base_url).hostname
        except ValueError as error:
            raise FatalError(f"base_url is '{base_url}': {error}") from error
        # Requests to this machine, and the token in them, must not go to a proxy.
        self._proxies = {"no_proxy": host} if host in LOOPBACK else None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        try:
            if self._logged_in:
                self.logout()
        except SynapseError:
            # The first error is the one to raise.
            if kind is None:
                raise
        finally:
            self._session.close()

    def login(self, user: str, password: str) -> str:
        """Open a session with C(m.login.password), and return its access token.

        :param user: a user ID or its localpart.
        :raises SynapseError: 403 M_FORBIDDEN when the password is wrong.
        """
        answer = self.post(
            f"{CLIENT}/v3/login",
            json={
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": user},
                "password": password,
                "initial_device_display_name": "matrixops.synapse",
            },
            repeat=False,
        )
        token = answer.take("access_token", str)
        self.access_token = token
        self._logged_in = True
        return token

    def logout(self, token: str | None = None) -> bool:
        """End the session of I(token), by default the client's own. Return whether there was one."""
        if token is None:
            self._logged_in = False
        try:
            self.post(LOGOUT, token=token)
        except SynapseError as error:
            if error.status != 401:
                raise
            return False
        return True

    def keep_session(self) -> None:
        """Leave the session that C(login) opened to the caller."""
        self._logged_in = False

    @property
    def user_id(self) -> str:
        """The account that the access token belongs to: the operator."""
        if self._user_id is None:
            answer = self.get(f"{CLIENT}/v3/account/whoami")
            user_id = answer.take("user_id", str)
            if ":" not in user_id or printable(user_id) != user_id:
                raise answer.error(f"has '{user_id}' for a user ID")
            self._user_id = user_id
        return self._user_id

    @property
    def server_name(self) -> str:
        """The name of the homeserver: the domain of its accounts."""
        return self.user_id.split(":", 1)[1]

    def confirm(self) -> None:
        """Assert that this is still the same server and operator: the URL may lead to another one by now.

        :raises FatalError: if it is not.
        """
        answer = self.get(f"{CLIENT}/v3/account/whoami")
        if answer.take("user_id", str) != self.user_id:
            raise FatalError.of(
                answer.error(f"is from another server or operator ({answer['user_id']}, before {self.user_id})")
            )

    def time(self) -> datetime.datetime:
        """The time of the homeserver (or its proxy) in UTC, to the second. It is read once."""
        if self._server_time is None:
            self._server_time = self._ask_time(), time.monotonic()
        then, since = self._server_time
        return then + datetime.timedelta(seconds=int(time.monotonic() - since))

    def _ask_time(self) -> datetime.datetime:
        answer = self.get(f"{CLIENT}/versions")
        try:
            date = email.utils.parsedate_to_datetime(answer.date or "")
        except (TypeError, ValueError, OverflowError):
            raise answer.error("has no valid Date header") from None
        return date if date.tzinfo else date.replace(tzinfo=datetime.timezone.utc)

    def get(self, path: str, *segments: str, params: JsonDict | None = None, token: str | None = None) -> Answer:
        return self.request("GET", path, *segments, params=params, token=token)

    def post(
        self,
        path: str,
        *segments: str,
        json: JsonDict | None = None,
        token: str | None = None,
        repeat: bool = True,
    ) -> Answer:
        return self.request("POST", path, *segments, json=json or {}, token=token, repeat=repeat)

    def put(self, path: str, *segments: str, json: JsonDict, token: str | None = None) -> Answer:
        return self.request("PUT", path, *segments, json=json, token=token)

    def delete(self, path: str, *segments: str) -> Answer:
        return self.request("DELETE", path, *segments)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
        """Call a function that sends requests for each item, in as many threads as there are connections.

        See C(map_concurrent) for the order of the results and for errors.
        """
        return map_concurrent(function, items, self.connections)

    def for_each(self, function: Callable[[Item], object], items: Iterable[Item]) -> None:
        """As C(map), for a function without a result."""
        for _done in self.map(function, items):
            pass

    def stop(self, error: SynapseError) -> None:
        """Send no more requests except logouts: each fails with this error."""
        self.stopped = error

    def request(
        self,
        method: str,
        path: str,
        *segments: str,
        params: JsonDict | None = None,
        json: JsonDict | None = None,
        token: str | None = None,
        repeat: bool = True,
    ) -> Answer:
        """Send a request and return the JSON object that the server answers with.

        Retried are requests that the server refuses for their rate (429), and those without an answer (no connection,
        502, 503, 504, a timeout; 500 if the server has no database), once the server was reached. See C(Retries).

        :param segments: identifiers that replace each C({}) in I(path), percent-encoded.
        :param token: an access token other than the client's own.
        :param repeat: whether the request may be sent again when it may have been carried out already.
        :raises SynapseError: for any answer but 200, and for 200 with something else than a JSON object.
        """
        url = self.base_url + path.format(*map(_quote, segments))
        retries = Retries()
        while True:
            if self.stopped and path != LOGOUT:
                raise self.stopped
            self.sent[path] += 1
            try:
                return self._attempt(method, url, params, json, token)
            except SynapseError as error:
                if not self._may_repeat(error, repeat):
                    raise
                pause = retries.pause_after(error)
            time.sleep(pause)

    def _may_repeat(self, error: SynapseError, repeat: bool) -> bool:
        if error.status == 429:
            return True
        no_answer = error.unanswered or (error.method is not None and error.status is None)
        return self._reached and no_answer and (repeat or not error.unanswered)

    def _attempt(
        self, method: str, url: str, params: JsonDict | None, json: JsonDict | None, token: str | None
    ) -> Answer:
        answer = self._send(method, url, params, json, token)
        body = _json_object(answer)
        # A web page with 200 may come from any server: only other answers show that a homeserver was reached.
        self._reached = self._reached or body is not None or answer.status_code != 200
        if answer.status_code == 200 and body is not None:
            return Answer(body, method, url, answer.headers.get("Date"))
        # Without its database, Synapse answers 500, whether it has carried out the request or not.
        unanswered = answer.status_code == 500 and not self._has_a_database()
        raise _error(answer, body, borrowed=token is not None, unanswered=unanswered)

    def _has_a_database(self) -> bool:
        """Whether the server can read its database. Without it, Synapse answers 500 to every request that needs it."""
        url = f"{self.base_url}{ADMIN}/v2/users"
        try:
            return self._send("GET", url, {"limit": 1, "guests": "false"}, None, None).status_code != 500
        except SynapseError:
            return False

    def pages(
        self, path: str, key: str, *, params: JsonDict | None = None, next_key: str = "next_token"
    ) -> Iterator[Answer]:
        """Yield the items of a paged listing, which each answer has under I(key).

        :raises SynapseError: also if a page token comes twice, which would never end.
        """
        query: JsonDict = {"limit": PAGE_SIZE, **(params or {})}
        seen = set()
        while True:
            answer = self.get(path, params=query)
            yield from answer.objects(key)
            token = answer.get(next_key)
            if token is None:
                return
            if not isinstance(token, (str, int)) or token in seen:
                raise answer.error(f"has {token!r} for a page token, which is not one or was one before")
            seen.add(token)
            query["from"] = token

    def _send(
        self,
        method: str,
        url: str,
        params: JsonDict | None,
        json: JsonDict | None,
        token: str | None,
    ) -> requests.Response:
        borrowed = token is not None
        try:
            with self._limiter.slot() as slot:
                slot.refused = True
                answer = self._session.request(
                    method,
                    url,
                    params=params,
                    json=json,
                    auth=_bearer(self.access_token if token is None else token),
                    # With each request: the session's own gives way to REQUESTS_CA_BUNDLE, also if it names a CA.
                    verify=self._verify,
                    proxies=self._proxies,
                    timeout=self._timeout,
                    # The token must not be sent to another server.
                    allow_redirects=False,
                )
                slot.refused = answer.status_code == 429 or answer.status_code >= 500
                return answer
        except (requests.exceptions.RequestException, OSError, ValueError) as error:
            message, unanswered = self._describe(error)
            raise request_error(message, method=method, url=url, unanswered=unanswered, borrowed=borrowed) from error

    def _describe(self, error: Exception) -> tuple[str, bool]:
        """What failed, and whether the server may have carried out the request."""
        if isinstance(error, requests.exceptions.SSLError):
            return f"TLS failed: {error}", False
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return f"no connection within {self._timeout:g} s", False
        if isinstance(error, requests.exceptions.ReadTimeout):
            return f"no answer within {self._timeout:g} s", True
        if isinstance(error, (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            return f"connection failed: {error}", not _never_connected(error)
        # An invalid URL or path of CA certificates.
        return str(error), False


def _quote(identifier: str) -> str:
    # A server removes dots, and the segment before them, whether they are percent-encoded or not.
    if identifier not in ("", ".", ".."):
        try:
            return quote(identifier, safe="")
        except UnicodeEncodeError:
            pass
    raise RefusedError(f"{identifier!r} is not an identifier")


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


def _never_connected(error: requests.exceptions.RequestException) -> bool:
    cause = error.args[0] if error.args else None
    return isinstance(getattr(cause, "reason", cause), NewConnectionError)


def _json_object(answer: requests.Response) -> JsonDict | None:
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _error(
    answer: requests.Response, body: JsonDict | None, *, borrowed: bool, unanswered: bool
) -> FatalError | RefusedError:
    kind = answer.headers.get("Content-Type", "nothing").split(";")[0]
    if answer.is_redirect:
        error = f"redirected to {answer.headers['Location']}: set base_url to where the client and admin API really is"
    elif body is None:
        error = f"answered with {kind}, not with a JSON object"
        if answer.status_code < 500:
            error += ": is base_url that of the client and admin API?"
    else:
        error = str(body.get("error", answer.reason))
    return request_error(
        error,
        method=str(answer.request.method),
        # Without the query: a filter in it would hide the error.
        url=str(answer.request.url).partition("?")[0],
        status=answer.status_code,
        errcode=None if body is None else str(body["errcode"]) if "errcode" in body else None,
        # A 200 without JSON is a proxy's page, or an answer that was cut off.
        unanswered=unanswered or answer.status_code in (502, 503, 504) or (answer.status_code == 200 and body is None),
        borrowed=borrowed,
        retry_after=retry_after(answer.headers.get("Retry-After", ""), body),
    )
