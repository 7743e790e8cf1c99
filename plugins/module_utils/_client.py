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
import sys
import time
import traceback
from collections import Counter
from typing import Any, Callable, Dict, Iterator, TypeVar
from urllib.parse import quote, urlsplit

from ._pool import Pace

REQUESTS_IMPORT_ERROR: str | None = None
try:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import NewConnectionError
except ImportError:
    REQUESTS_IMPORT_ERROR = traceback.format_exc()

JsonDict = Dict[str, Any]
Kind = TypeVar("Kind")

ADMIN = "/_synapse/admin"
CLIENT = "/_matrix/client"
LOGOUT = f"{CLIENT}/v3/logout"

PATIENCE = 120.0
"""For how long, in seconds, a request without an answer is sent again and again before its failure counts."""
REFUSED_PATIENCE = 600.0
"""The same for a request that is turned away (429). The server is there, and only has no time."""
MAX_WAIT = 16.0
"""The longest time, in seconds, until a request is sent again, unless the server asks for more."""
PAGE_SIZE = 1000
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal may take for a command, or for another line, or what turns the direction of the text."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def printable(text: str) -> str:
    """A text of somebody else's as it can be shown on a terminal, with everything that is not to be seen spelt out."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class SynapseError(Exception):
    """The one error of this collection: a request that failed, or an answer that makes no sense.

    I(status) is C(None) when there was no answer. I(unanswered) says that the request may have been carried out all
    the same: it reached the server, or a proxy before it, and only the answer is missing. I(lost) says that the server
    has stopped answering altogether, and I(borrowed) that the request was not sent with the client's own access token.
    """

    lost = False
    borrowed = False

    def __init__(
        self,
        error: str,
        *,
        method: str | None = None,
        url: str | None = None,
        status: int | None = None,
        errcode: str | None = None,
        unanswered: bool = False,
    ) -> None:
        self.error = printable(error)
        self.method = method
        self.url = url
        self.status = status
        self.errcode = errcode
        self.unanswered = unanswered
        super().__init__(str(self))

    def __str__(self) -> str:
        if self.method is None and self.status is None:
            return self.error
        request = f"{self.method} {self.url}: " if self.method else ""
        answer = " ".join(str(part) for part in (self.status, self.errcode) if part is not None)
        return printable(f"{request}{answer}{': ' if answer else ''}{self.error}")

    @property
    def advice(self) -> str:
        """What a person can do about it; empty if the error says so, or nobody knows."""
        if self.method is None or self.borrowed:
            return ""
        if self.status == 401:
            return "The access token is none that is valid now: set another, and run this again"
        if self.status == 403:
            return "See that the operator is an admin of the server, and run this again"
        if self.status is None or self.status == 429 or self.status >= 500 or self.unanswered:
            return "Run this again when the server is well"
        if self.status == 200:
            return "See what is between here and Synapse, and run this again"
        return ""

    @property
    def fatal(self) -> bool:
        """Whether the same would happen to any other request: the server is gone, or the token is dead."""
        dead_token = self.status == 401 and not self.borrowed
        no_server = self.method is not None and self.status is None and not self.unanswered
        return self.lost or dead_token or no_server


class Answer(Dict[str, Any]):
    """A JSON object that a server answered with. What is not as it must be in it is an error of the server's."""

    def __init__(self, content: JsonDict, method: str, url: str, date: str | None = None) -> None:
        super().__init__(content)
        self.date = date
        self._method = method
        self._url = url

    def error(self, problem: str) -> SynapseError:
        return SynapseError(f"the answer {problem}", method=self._method, url=self._url, status=200)

    def take(self, key: str, kind: type[Kind], default: Kind | None = None) -> Kind:
        """The value of a key, which must be of that type. Without a default it must be there."""
        value = self.get(key, default)
        if not isinstance(value, kind):
            raise self.error(f"has no {kind.__name__} '{key}'")
        return value

    def objects(self, key: str) -> list[Answer]:
        """The value of a key, which must be a list of JSON objects."""
        items = self.take(key, list)
        if not all(isinstance(item, dict) for item in items):
            raise self.error(f"has something else than objects in '{key}'")
        return [Answer(item, self._method, self._url) for item in items]

    def texts(self, key: str) -> list[str]:
        """The value of a key, which must be a list of strings."""
        items = self.take(key, list)
        if not all(isinstance(item, str) for item in items):
            raise self.error(f"has something else than strings in '{key}'")
        return items

    def object(self, key: str) -> Answer:
        """The value of a key, which must be a JSON object, and if it is not there is an empty one."""
        return Answer(self.take(key, dict, {}), self._method, self._url)


class Client:
    """One homeserver, over a pool of connections that are kept alive. May be shared between threads.

    Use it as a context manager: on leaving, a session that C(login) opened is logged out.
    """

    def __init__(
        self,
        base_url: str,
        access_token: str | None = None,
        *,
        verify: bool | str = True,
        timeout: float = 60.0,
        connections: int = 16,
    ) -> None:
        """
        :param base_url: of the client and admin API, without C(/_matrix).
        :param verify: whether to check the TLS certificate, or the path of the CA certificates to check it with.
        :param timeout: seconds to wait for a connection, and for an answer.
        :param connections: how many requests may be under way at the same time. It is fewer while the server is slow.
        """
        self.base_url = base_url.rstrip("/")
        self.access_token = access_token
        self._verify = verify
        self._timeout = timeout
        self._logged_in = False
        self._reached = False
        self._user_id: str | None = None
        self._server_time: tuple[datetime.datetime, float] | None = None
        self._pace = Pace(connections)
        self.stopped: SynapseError | None = None
        """Why nothing more is sent, but to log out: see C(stop)."""
        self.sent: Counter[str] = Counter()
        """How many requests were sent, by the template of their path."""
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_maxsize=connections)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        try:
            host = urlsplit(self.base_url).hostname
        except ValueError as error:
            raise SynapseError(f"base_url is '{base_url}': {error}") from error
        # A proxy has no business with what does not leave this machine, the token least of all.
        self._proxies = {"no_proxy": host} if host in LOOPBACK else None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        try:
            if self._logged_in:
                self.logout()
        except SynapseError:
            # What went wrong first is what the caller should hear of.
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
        """End the session of I(token), by default the client's own; say whether there was one to end."""
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
        """Don't log out the session that C(login) opened: the caller will."""
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
        """See that this is still the same server: the URL may lead elsewhere by now.

        :raises SynapseError: if it is not.
        """
        answer = self.get(f"{CLIENT}/v3/account/whoami")
        if answer.take("user_id", str) != self.user_id:
            error = answer.error(f"is from another server or operator ({answer['user_id']}, before {self.user_id})")
            error.lost = True
            raise error

    def time(self) -> datetime.datetime:
        """The time by the homeserver's own clock (or its proxy's), to the second, in UTC. It is asked for once."""
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

    def stop(self, error: SynapseError) -> None:
        """Send nothing more, but to log out: whatever is asked for from now on fails with this error."""
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

        A request that was turned away (429) is sent again after the time that the server asks for. So is one without
        an answer (no connection, 502, 503, 504, a timeout; 500, if the server has no database), once this client has
        reached the server at all. Neither goes on for ever: see C(PATIENCE).

        :param segments: what takes the place of each C({}) in I(path).
        :param token: an access token other than the client's own.
        :param repeat: whether the request may be sent again when it may have been carried out already.
        :raises SynapseError: for any answer but 200, and for 200 with something else than a JSON object.
        """
        url = self.base_url + path.format(*map(_quote, segments))
        began = time.monotonic()
        wait = 1.0
        while True:
            if self.stopped and path != LOGOUT:
                raise self.stopped
            self.sent[path] += 1
            pause = wait
            patience = PATIENCE
            try:
                answer = self._send(method, url, params, json, token)
            except SynapseError as failure:
                error = failure
                again = self._reached
            else:
                body = _json_object(answer)
                # Any web page is no homeserver.
                self._reached = self._reached or body is not None or answer.status_code != 200
                if answer.status_code == 200 and body is not None:
                    return Answer(body, method, url, answer.headers.get("Date"))
                error = _error(answer, body)
                if answer.status_code == 500 and not self._has_a_database():
                    # It may have been carried out before the database went.
                    error.unanswered = True
                again = answer.status_code == 429 or (error.unanswered and self._reached)
                if answer.status_code == 429:
                    patience = REFUSED_PATIENCE
                asked = _asked_wait(answer, body)
                if asked is not None and asked > 0:
                    pause = asked
            error.borrowed = token is not None
            if not again or (error.unanswered and not repeat):
                raise error
            waited = time.monotonic() - began
            if pause > PATIENCE:
                error.error += f" (the server asks to wait {pause:.0f} s)"
                raise error
            if waited + pause > patience:
                error.error += f" (after {waited:.0f} s of trying)"
                raise error
            time.sleep(pause)
            wait = min(2 * wait, MAX_WAIT)

    def _has_a_database(self) -> bool:
        """Whether the server can read from its database. Without one, Synapse answers 500 to whatever needs it."""
        url = f"{self.base_url}{ADMIN}/v2/users"
        try:
            return self._send("GET", url, {"limit": 1, "guests": "false"}, None, None).status_code != 500
        except SynapseError:
            return False

    def pages(
        self, path: str, key: str, *, params: JsonDict | None = None, next_key: str = "next_token"
    ) -> Iterator[Answer]:
        """Yield the items of a paged listing: those under I(key), from one answer after the other.

        :raises SynapseError: also when a page token comes twice, which would go on for ever.
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
                raise answer.error(f"has {token!r} for a page token, which can't be or has been one before")
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
        try:
            with self._pace.turn() as turn:
                turn.refused = True
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
                    # The token is for this server, and for no other that it may point to.
                    allow_redirects=False,
                )
                turn.refused = answer.status_code == 429 or answer.status_code >= 500
                return answer
        except requests.exceptions.SSLError as error:
            raise SynapseError(f"TLS failed: {error}", method=method, url=url) from error
        except requests.exceptions.ConnectTimeout as error:
            raise SynapseError(f"no connection within {self._timeout:g} s", method=method, url=url) from error
        except requests.exceptions.ReadTimeout as error:
            message = f"no answer within {self._timeout:g} s"
            raise SynapseError(message, method=method, url=url, unanswered=True) from error
        except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            raise SynapseError(
                f"connection failed: {error}", method=method, url=url, unanswered=not _never_connected(error)
            ) from error
        except (requests.exceptions.RequestException, OSError, ValueError) as error:
            # Such as a URL, a token or a path of CA certificates that can't be one.
            raise SynapseError(str(error), method=method, url=url) from error


def _quote(identifier: str) -> str:
    # Dots would go, percent-encoded or not, and the segment before them with them.
    if identifier not in ("", ".", ".."):
        try:
            return quote(identifier, safe="")
        except UnicodeEncodeError:
            pass
    raise SynapseError(f"{identifier!r} is no identifier")


def _bearer(token: str | None) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """An C(auth) for requests. Without one, or with a plain header, a C(.netrc) would be used instead."""
    if token is not None and not re.fullmatch("[!-~]+", token):
        # Said here, because requests would say it with the token in it.
        raise SynapseError("the access token has characters in it, or blanks, that none has")

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


def _error(answer: requests.Response, body: JsonDict | None) -> SynapseError:
    kind = answer.headers.get("Content-Type", "nothing").split(";")[0]
    if answer.is_redirect:
        error = f"redirected to {answer.headers['Location']}: set base_url to where the client and admin API really is"
    elif body is None:
        error = f"answered with {kind}, not with a JSON object"
        if answer.status_code < 500:
            error += ": is base_url that of the client and admin API?"
    else:
        error = str(body.get("error", answer.reason))
    return SynapseError(
        error,
        method=answer.request.method,
        # A filter in it would bury what went wrong.
        url=str(answer.request.url).partition("?")[0],
        status=answer.status_code,
        errcode=None if body is None else str(body["errcode"]) if "errcode" in body else None,
        # A 200 without JSON is a proxy's page, or an answer that was cut off.
        unanswered=answer.status_code in (502, 503, 504) or (answer.status_code == 200 and body is None),
    )


def _asked_wait(answer: requests.Response, body: JsonDict | None) -> float | None:
    """How many seconds the server asks to wait: C(Retry-After), or C(retry_after_ms) of the Matrix specification."""
    header = answer.headers.get("Retry-After", "")
    try:
        return float(int(header))
    except (ValueError, OverflowError):
        pass
    try:
        then = email.utils.parsedate_to_datetime(header)
        return (then - datetime.datetime.now(then.tzinfo)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        pass
    milliseconds = (body or {}).get("retry_after_ms")
    return min(milliseconds, sys.maxsize) / 1000 if isinstance(milliseconds, (int, float)) else None
