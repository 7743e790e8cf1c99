# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client of one Synapse homeserver: the only part of the collection that speaks HTTP.

Endpoints are named by their path with C({}) where an identifier goes: C(client.get("/_synapse/admin/v2/users/{}",
user_id)). Identifiers are always percent-encoded whole, since a C(/) in one would otherwise end the segment.
"""

from __future__ import annotations

import datetime
import itertools
import time
from collections import Counter
from typing import Callable, Iterable, Iterator, Mapping, Sized, TypeVar
from urllib.parse import quote

from .._concurrency import Item, Result, map_concurrent
from .._http import http_date, retry_after
from .._text import printable
from .answer import Answer, JsonDict, json_object
from .base_url import check_base_url
from .connection import Connections, Received, Sink
from .delegation import LoginService
from .errors import FatalError, RefusedError, SynapseError, request_error
from .limiter import AdaptiveLimiter
from .outage import PROBE_TIMEOUT, OutageWatch, WaitingRequests
from .retries import Retries
from .secrets import Secrets

ADMIN = "/_synapse/admin"
CLIENT = "/_matrix/client"
LOGOUT = f"{CLIENT}/v3/logout"

NO_ANSWER = (502, 503, 504)
"""Status with which a reverse proxy answers for a server that does not."""

NOT_YET_UPLOADED = "M_NOT_YET_UPLOADED"
"""The errcode with which Synapse answers 504 for media that does not exist yet. No retry makes it exist."""
MAX_INCOMPLETE = 2
"""How many times a download may break off, after which the file itself is the probable cause."""
MAX_ERROR = 1000
"""Maximum length of the error of an answer in characters."""


Answered = TypeVar("Answered")


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
        :param timeout: seconds for a connection, and for the whole answer from its request to its last byte.
        :param connections: maximum number of requests at the same time. While the server is slow, there are fewer.
        :raises FatalError: if the URL can't be that of a homeserver.
        """
        host = check_base_url(base_url)
        self.base_url = base_url.rstrip("/")
        self.access_token = access_token
        self._verify = verify
        self._timeout = timeout
        self._end_session: Callable[[], object] | None = None
        self._reached = False
        self._user_id: str | None = None
        self._server_time: tuple[datetime.datetime, float] | None = None
        self.connections = connections
        self._limiter = AdaptiveLimiter(connections)
        self.stopped: SynapseError | None = None
        """Why no more requests are sent except logouts: see C(stop)."""
        self.before_write: Callable[[], None] | None = None
        """Called before each request except GET and logouts is sent. The request fails with the error it raises."""
        self.on_step: Callable[[str, int, int | None], object] | None = None
        """Called with a step of C(map), and the numbers of its items that are done, and in all if it is known."""
        self.service: LoginService | None = None
        """What handles login in the place of Synapse, if the collection is to ask it."""
        self._retries = True
        self.waiting = WaitingRequests()
        self.sent: Counter[str] = Counter()
        """Number of requests that were sent, by the template of their path."""
        self._secrets = Secrets()
        self._connections = Connections(host, verify=verify, timeout=timeout, most=connections, secrets=self._secrets)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        try:
            if self._end_session is not None:
                self._end_session()
        except SynapseError:
            # The first error is the one to raise.
            if kind is None:
                raise
        finally:
            self._connections.close()

    def sibling(self, timeout: float) -> Client:
        """A client of the same server and operator, with a connection and a limiter of its own.

        It sends each request once, and neither C(stop) nor C(before_write) of this client applies to it.

        :param timeout: maximum seconds to wait for a connection, and for an answer.
        """
        sibling = Client(
            self.base_url,
            self.access_token,
            verify=self._verify,
            timeout=min(timeout, self._timeout),
            connections=1,
        )
        sibling._user_id = self.user_id
        sibling._retries = False
        return sibling

    def login(self, user: str, password: str) -> str:
        """Open a session with C(m.login.password), and return its access token.

        :param user: a user ID or its localpart.
        :raises SynapseError: 403 M_FORBIDDEN when the password is wrong.
        """
        self._secrets.add(password)
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
        self.use_session(token, self.logout)
        return token

    def use_session(self, token: str, end: Callable[[], object]) -> None:
        """Send requests with this access token.

        :param end: called when the context of the client ends, to end the session.
        """
        self.access_token = token
        self._end_session = end

    def logout(self, token: str | None = None) -> bool:
        """End the session of I(token), by default the client's own. Return whether there was one."""
        if token is None:
            self._end_session = None
        try:
            self.post(LOGOUT, token=token)
        except SynapseError as error:
            if error.status != 401:
                raise
            return False
        return True

    def keep_session(self) -> None:
        """Leave the session of C(login) or C(use_session) to the caller."""
        self._end_session = None

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
        date = http_date(answer.date or "")
        if date is None:
            raise answer.error("has no valid Date header")
        return date

    def get(
        self,
        path: str,
        *segments: str,
        params: JsonDict | None = None,
        token: str | None = None,
        patience: float | None = None,
    ) -> Answer:
        return self.request("GET", path, *segments, params=params, token=token, patience=patience)

    def post(
        self,
        path: str,
        *segments: str,
        json: JsonDict | None = None,
        token: str | None = None,
        repeat: bool = True,
        patience: float | None = None,
    ) -> Answer:
        return self.request("POST", path, *segments, json=json or {}, token=token, repeat=repeat, patience=patience)

    def put(self, path: str, *segments: str, json: JsonDict, token: str | None = None) -> Answer:
        return self.request("PUT", path, *segments, json=json, token=token)

    def delete(self, path: str, *segments: str) -> Answer:
        return self.request("DELETE", path, *segments)

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], *, step: str = ""
    ) -> Iterator[tuple[Item, Result]]:
        """Call a function that sends requests for each item, in as many threads as there are connections.

        See C(map_concurrent) for the order of the results and for errors.

        :param step: what the items are when they are done, for example C(rooms read); C(""): it is not shown.
        """
        results = map_concurrent(function, items, self.connections)
        if not step or self.on_step is None:
            yield from results
            return
        total = len(items) if isinstance(items, Sized) else None
        for done, result in enumerate(results, 1):
            self.on_step(step, done, total)
            yield result

    def for_each(self, function: Callable[[Item], object], items: Iterable[Item], *, step: str = "") -> None:
        """As C(map), for a function without a result."""
        for _done in self.map(function, items, step=step):
            pass

    def watch(self, on_change: Callable[[str], object]) -> OutageWatch:
        """Watch for requests without an answer, for as long as the context of the result lasts.

        :param on_change: is called with what is known of the outage, and with an empty text when it is over.
        """
        host = check_base_url(self.base_url)
        # Of its own: all others may be waiting.
        connections = Connections(host, verify=self._verify, timeout=PROBE_TIMEOUT, most=1, secrets=self._secrets)

        def probe(url: str) -> str:
            try:
                # Without a token, Synapse refuses it at once. A reverse proxy does not answer with JSON.
                received = connections.send("GET", url, token=None)
            except SynapseError as error:
                return error.error
            return "" if json_object(received.content) is not None else f"{received.status} {received.reason}"

        return OutageWatch(self.waiting, probe, f"{self.base_url}{ADMIN}/v1/server_version", on_change)

    def stop(self, error: SynapseError) -> None:
        """Send no more requests except logouts: each fails with this error."""
        self.stopped = error

    def check_write(self) -> None:
        """Assert that a write may be sent now. Also for a write that another client sends, to a remote server.

        :raises SynapseError: if the client is stopped, or what C(before_write) raises.
        """
        if self.stopped:
            raise self.stopped
        if self.before_write is not None:
            self.before_write()

    def request(
        self,
        method: str,
        path: str,
        *segments: str,
        params: JsonDict | None = None,
        json: JsonDict | None = None,
        token: str | None = None,
        repeat: bool = True,
        patience: float | None = None,
    ) -> Answer:
        """Send a request and return the JSON object that the server answers with.

        Retried are requests that the server refuses for their rate (429), and those without an answer (no connection,
        502, 503, 504, a timeout; 500 if the server has no database), once the server was reached. See C(Retries).

        :param segments: identifiers that replace each C({}) in I(path), percent-encoded.
        :param token: an access token other than the client's own.
        :param repeat: whether the request may be sent again when it may have been carried out already.
        :param patience: seconds for which it is sent again without an answer; by default, C(RETRY_TIMEOUT).
        :raises SynapseError: for any answer but 200, and for 200 with something else than a JSON object.
        """
        url = self._url(path, segments)
        with self.waiting.add(method, path, url, is_required=self._retries and patience is None):
            return self._with_retries(path, lambda: self._attempt(method, url, params, json, token), repeat, patience)

    def download(self, sink: Sink, path: str, *segments: str, params: JsonDict | None = None) -> Mapping[str, str]:
        """Send a GET request, and write the body of the answer to a file. Retries are as for C(request).

        :returns: the headers of the answer, with names in lower case.
        :raises SynapseError: for any answer but 200, and for one that is larger than the sink allows.
        """
        url = self._url(path, segments)
        incomplete = itertools.count(1)

        def attempt() -> Mapping[str, str]:
            try:
                return self._attempt_download(sink, url, params)
            except SynapseError as error:
                if error.status is None and error.unanswered and next(incomplete) >= MAX_INCOMPLETE:
                    raise RefusedError(str(error)) from error
                raise

        return self._with_retries(path, attempt)

    def _url(self, path: str, segments: Iterable[str]) -> str:
        return self.base_url + path.format(*map(quote_identifier, segments))

    def _with_retries(
        self, path: str, attempt: Callable[[], Answered], repeat: bool = True, patience: float | None = None
    ) -> Answered:
        retries = Retries(patience)
        while True:
            if self.stopped and path != LOGOUT:
                raise self.stopped
            self.sent[path] += 1
            try:
                return attempt()
            except SynapseError as error:
                if not self._may_repeat(error, repeat):
                    raise
                pause = retries.pause_after(error)
            time.sleep(pause)

    def _may_repeat(self, error: SynapseError, repeat: bool) -> bool:
        if not self._retries:
            return False
        if error.status == 429:
            return True
        no_answer = error.unanswered or (error.method is not None and error.status is None)
        return self._reached and no_answer and (repeat or not error.unanswered)

    def _attempt(
        self, method: str, url: str, params: JsonDict | None, json: JsonDict | None, token: str | None
    ) -> Answer:
        received = self._send(method, url, params, json, token)
        body = json_object(received.content)
        # A web page with 200 may come from any server: only other answers show that a homeserver was reached.
        self._reached = self._reached or body is not None or received.status != 200
        if received.status == 200 and body is not None:
            return Answer(body, method, url, received.headers.get("date"), hide=self._secrets.hide)
        raise self._failure(received, body, method, url, borrowed=token is not None)

    def _attempt_download(self, sink: Sink, url: str, params: JsonDict | None) -> Mapping[str, str]:
        sink.clear()
        received = self._send("GET", url, params, None, None, sink)
        if received.status == 200:
            return received.headers
        self._reached = True
        raise self._failure(received, json_object(received.content), "GET", url, borrowed=False)

    def _failure(
        self, received: Received, body: JsonDict | None, method: str, url: str, *, borrowed: bool
    ) -> FatalError | RefusedError:
        # Without its database, Synapse answers 500, whether it has carried out the request or not.
        unanswered = received.status == 500 and not self._has_a_database()
        return self._error(received, body, method, url, borrowed=borrowed, unanswered=unanswered)

    def _has_a_database(self) -> bool:
        """Whether the server can read its database. Without it, Synapse answers 500 to every request that needs it."""
        url = f"{self.base_url}{ADMIN}/v2/users"
        try:
            return self._send("GET", url, {"limit": 1, "guests": "false"}, None, None).status != 500
        except SynapseError:
            return False

    def _send(
        self,
        method: str,
        url: str,
        params: JsonDict | None,
        json: JsonDict | None,
        token: str | None,
        sink: Sink | None = None,
    ) -> Received:
        borrowed = token is not None
        token = self.access_token if token is None else token
        with self._limiter.slot() as slot:
            slot.refused = True
            # Not earlier: the wait for a slot may be long.
            if method != "GET" and not url.endswith(LOGOUT):
                self.check_write()
            self.waiting.note_sent()
            received = self._connections.send(
                method, url, params=params, json=json, token=token, borrowed=borrowed, sink=sink
            )
            slot.refused = received.status == 429 or received.status >= 500
            return received

    def _error(
        self, received: Received, body: JsonDict | None, method: str, url: str, *, borrowed: bool, unanswered: bool
    ) -> FatalError | RefusedError:
        status, headers = received.status, received.headers
        problem = None
        errcode = self._secrets.hide(str(body["errcode"]))[:MAX_ERROR] if body and "errcode" in body else None
        if received.is_redirect:
            error = f"redirected to {headers['location']}: set base_url to where the client and admin API really is"
        elif body is None:
            kind = headers.get("content-type", "nothing").split(";")[0]
            error = f"answered with {kind}, not with a JSON object"
            if status < 500:
                error += ": is base_url that of the client and admin API?"
            if status == 400 and url.startswith("http:"):
                problem = "TLS port"
        else:
            error = str(body.get("error", received.reason))
        return request_error(
            self._secrets.hide(error)[:MAX_ERROR],
            method=method,
            # Without the query: a filter in it would hide the error.
            url=url,
            status=status,
            errcode=errcode,
            # A 200 without JSON is a proxy's page, or an answer that was cut off.
            unanswered=unanswered
            or (status in NO_ANSWER and errcode != NOT_YET_UPLOADED)
            or (status == 200 and body is None),
            borrowed=borrowed,
            retry_after=retry_after(headers.get("retry-after", ""), body),
            problem=problem,
        )


def quote_identifier(identifier: str) -> str:
    """Percent-encode an identifier as one segment of a path.

    :raises RefusedError: if it is none.
    """
    # A server removes dots, and the segment before them, whether they are percent-encoded or not.
    if identifier not in ("", ".", ".."):
        try:
            return quote(identifier, safe="")
        except UnicodeEncodeError:
            pass
    raise RefusedError(f"{identifier!r} is not an identifier")
