# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The requests of remote servers to the static site of a decommissioned server, and what must be answered.

Requests are not signed: a static site does not verify signatures.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Callable, Iterator, Mapping, NamedTuple, TypeVar
from urllib.parse import quote, quote_plus

from .._concurrency import map_concurrent
from .._results import sample
from .addresses import AddressFilter
from .client import FEDERATION, GATEWAY_ERRORS, KEY, MAX_ERROR_TEXT
from .connect import Settings
from .discovery import WELL_KNOWN, Discovery, Endpoint, Resolver, SystemResolver
from .errors import AnswerError, FederationError, InvalidNameError, RedirectError, UnreachableError
from .names import MAX_IDENTIFIER, ServerName, check_room_id, is_server_name, spellings
from .published_keys import parse_key_answer
from .signing import KEY_ID
from .static_answers import STATIC_SITE
from .transport import Transport

MEDIA = "/_matrix/media/v3"
CONCURRENCY = 3
"""Maximum number of concurrent requests: as many as C(Transport) keeps connections."""
MAX_READ = 1024 * 1024
"""Maximum number of bytes to read of an answer. Of a larger file, only the length and the beginning are checked."""
MAX_LENGTH = 1 << 50
"""Maximum length of a media file in bytes."""
MEDIA_ID = re.compile("[A-Za-z0-9_-]{1,100}")
BOUNDARY = re.compile(r"multipart/mixed; *boundary=\"?([0-9A-Za-z'()+_,./:=?-]{1,70})\"?")
LENGTH = re.compile("[0-9]{1,18}")
PARTS_END = b"\r\n\r\n"

Item = TypeVar("Item")


@dataclass(frozen=True)
class Expected:
    """What the site must serve.

    :ivar key_id: ID of a key that must be in C(verify_keys).
    :ivar aliases: room IDs by alias.
    :ivar media: lengths in bytes by media ID.
    :ivar sample: maximum number of aliases, and of media files, to request.
    """

    server_name: str
    key_id: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    media: Mapping[str, int] = field(default_factory=dict)
    sample: int = 20


@dataclass(frozen=True)
class SiteAnswer:
    """An answer of a static site.

    :ivar content: at most C(MAX_READ) bytes.
    :ivar length: of the whole body in bytes.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    length: int

    @property
    def is_complete(self) -> bool:
        """Whether I(content) is the whole body."""
        return len(self.content) == self.length

    @property
    def content_type(self) -> str:
        """The content type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def object(self) -> dict[str, Any]:
        """Return the JSON object of the answer; an empty one if it is something else."""
        try:
            body = json.loads(self.content)
        except (ValueError, RecursionError):
            return {}
        return body if isinstance(body, dict) else {}

    def __str__(self) -> str:
        errcode = self.object().get("errcode")
        words = [f"HTTP {self.status}", self.content_type or "no content type"]
        return " ".join([*words, errcode[:MAX_ERROR_TEXT]] if isinstance(errcode, str) else words)


class Check(NamedTuple):
    """A request, and the answer that is expected.

    :ivar target: path and query.
    :ivar problem: returns why an answer is not the expected one, or an empty text.
    :ivar by_name: send the request to port 443 of the server name, as for well-known files.
    """

    method: str
    target: str
    expected: str
    problem: Callable[[SiteAnswer], str]
    by_name: bool = False


class CheckResult(NamedTuple):
    """The result of a check. I(reason) is printable and bounded, and empty if the answer is the expected one.

    :ivar status: of the answer; 0 without a usable answer.
    """

    check: Check
    status: int
    reason: str


def check_site(expected: Expected, settings: Settings, *, resolver: Resolver | None = None) -> list[CheckResult]:
    """Send the requests that remote servers send, and compare the answers.

    If the first request cannot connect, the others to the same port are not sent.

    :raises InvalidNameError: if a name in I(expected) is invalid.
    :raises FederationError: if requirements are missing.
    :raises ValueError: if a setting is invalid.
    """
    checks = list(_checks(expected))
    with closing(Transport(ca_path=settings.ca_path, proxy=settings.proxy)) as transport:
        address_filter = AddressFilter(settings.ip_allowlist)
        discovery = Discovery(transport, resolver or SystemResolver(), address_filter)
        run = _Run(ServerName.parse(expected.server_name), transport, discovery, settings.timeout)
        # One at a time, so that a site that is down costs one timeout for each port.
        first = [next(check for check in checks if check.by_name is by_name) for by_name in (False, True)]
        results = dict(map_concurrent(run.result, first, 1))
        others = [check for check in checks if check not in results]
        results.update(map_concurrent(run.result, others, CONCURRENCY))
    return [results[check] for check in checks]


class _Run:
    """Sends the requests."""

    def __init__(self, name: ServerName, transport: Transport, discovery: Discovery, timeout: float) -> None:
        self._name = name
        self._transport = transport
        self._discovery = discovery
        self._timeout = timeout
        self._reached: set[bool] = set()
        self._down: dict[bool, UnreachableError] = {}

    def result(self, check: Check) -> CheckResult:
        """Send the request of a check."""
        try:
            if check.by_name in self._down:
                raise self._down[check.by_name]
            answer = self._send(check)
            self._reached.add(check.by_name)
        except UnreachableError as error:
            if check.by_name not in self._reached:
                self._down[check.by_name] = error
            return CheckResult(check, 0, str(error))
        except RedirectError as error:
            return CheckResult(check, error.status, str(error))
        except FederationError as error:
            return CheckResult(check, 0, str(error))
        problem = check.problem(answer)
        if answer.status in GATEWAY_ERRORS:
            problem = f"a reverse proxy answers with {answer}"
        # Printable and bounded, like all errors.
        return CheckResult(check, answer.status, str(AnswerError(problem)))

    def _send(self, check: Check) -> SiteAnswer:
        body = b"{}" if check.method in ("PUT", "POST") else None
        headers = {} if body is None else {"Content-Type": "application/json"}
        with self._transport.stream(
            self._endpoint(check.by_name),
            check.method,
            check.target,
            headers=headers,
            body=body,
            timeout=self._timeout,
            max_bytes=2 * MAX_LENGTH,
        ) as answer:
            content = _first(answer.chunks, MAX_READ)
            announced = answer.headers.get("content-length", "")
            if len(content) <= MAX_READ:
                return SiteAnswer(answer.status, answer.headers, content, len(content))
            if LENGTH.fullmatch(announced) is None:
                raise AnswerError(f"the answer has more than {MAX_READ} bytes and no Content-Length")
            return SiteAnswer(answer.status, answer.headers, content[:MAX_READ], int(announced))

    def _endpoint(self, by_name: bool) -> Endpoint:
        if not by_name:
            return self._discovery.endpoint(self._name.text)
        host = _host(self._name)
        return replace(self._discovery.endpoint(f"{host}:443"), host_header=host)


def _first(chunks: Iterator[bytes], most: int) -> bytes:
    """Return at least one byte more than I(most), if there are as many."""
    content = b""
    for chunk in chunks:
        content += chunk
        if len(content) > most:
            break
    return content


def _host(name: ServerName) -> str:
    return f"[{name.host}]" if ":" in name.host else name.host


def _checks(expected: Expected) -> Iterator[Check]:
    name = ServerName.parse(expected.server_name)
    yield from _key_checks(expected)
    yield Check("GET", f"{FEDERATION}/v1/version", "version of the static site", _version_problem)
    yield from _name_checks(name)
    aliases = sample(list(expected.aliases.items()), expected.sample)
    yield from chain.from_iterable(_alias_checks(alias, room_id, name) for alias, room_id in aliases)
    missing_alias = f"#matrixops-{secrets.token_hex(8)}:{name}"
    yield _error_check("GET", _directory(quote_plus(missing_alias)), "M_NOT_FOUND")
    media = sample(list(expected.media.items()), expected.sample)
    for number, (media_id, length) in enumerate(media):
        yield from _media_checks(name, media_id, length, with_thumbnails=number == 0)
    missing_media = f"matrixops-{secrets.token_hex(8)}"
    for path in (f"{MEDIA}/download/{quote(name.text)}", f"{FEDERATION}/v1/media/download"):
        yield _error_check("GET", f"{path}/{missing_media}", "M_NOT_FOUND")
    yield _error_check("PUT", f"{FEDERATION}/v1/send/matrixops-{secrets.token_hex(8)}", "M_UNRECOGNIZED")
    yield _error_check("GET", f"{FEDERATION}/v1/matrixops-check", "M_UNRECOGNIZED")
    yield _error_check("POST", "/_matrix/client/v3/login", "M_UNRECOGNIZED")


def _key_checks(expected: Expected) -> Iterator[Check]:
    key_id = expected.key_id
    if key_id is not None and KEY_ID.fullmatch(key_id) is None:
        raise InvalidNameError(f"{key_id!r} is not a key ID")

    def problem(answer: SiteAnswer) -> str:
        return _json_problem(answer) or _key_problem(answer, expected.server_name, key_id)

    what = "valid signing keys" if key_id is None else f"valid signing keys with {key_id}"
    for target in [f"{KEY}/server"] + ([] if key_id is None else [f"{KEY}/server/{quote(key_id, safe='')}"]):
        yield Check("GET", target, what, problem)


def _key_problem(answer: SiteAnswer, server_name: str, key_id: str | None) -> str:
    try:
        keys = parse_key_answer(answer.object(), server_name)
    except AnswerError as error:
        return str(error)
    if keys.valid_until_ts // 1000 < time.time():
        return "the key answer has expired: write the site again, or correct the clock of this host"
    if key_id is not None and key_id not in keys.verify_keys:
        return (
            f"{key_id} is not in verify_keys ({', '.join(sorted(keys.verify_keys)[:3])}): is this another homeserver?"
        )
    return ""


def _version_problem(answer: SiteAnswer) -> str:
    server = answer.object().get("server")
    found = server.get("name") if isinstance(server, dict) else None
    if isinstance(found, str) and not found.startswith(STATIC_SITE):
        return f"the answer is from {found[:MAX_ERROR_TEXT]}: stop that homeserver, or correct the DNS records"
    return _json_problem(answer) or ("" if found else "server.name is missing")


def _name_checks(name: ServerName) -> Iterator[Check]:
    """The files that are requested at port 443 of the server name, unless that has a port of its own."""
    if name.port is None and not name.is_literal:
        yield Check("GET", WELL_KNOWN, "m.server", _delegation_problem, by_name=True)
    yield Check("GET", "/.well-known/matrix/support", "contacts or support page", _json_problem, by_name=True)
    yield Check("GET", "/.well-known/matrix/client", "HTTP 404", _missing_problem, by_name=True)
    yield Check("GET", "/", "page", _page_problem, by_name=True)


def _delegation_problem(answer: SiteAnswer) -> str:
    delegated = answer.object().get("m.server")
    is_valid = isinstance(delegated, str) and is_server_name(delegated)
    return _json_problem(answer) or ("" if is_valid else "m.server is missing or invalid")


def _missing_problem(answer: SiteAnswer) -> str:
    return "" if answer.status == 404 else f"{answer}: with it, clients find a homeserver"


def _page_problem(answer: SiteAnswer) -> str:
    return "" if (answer.status, answer.content_type) == (200, "text/html") else str(answer)


def _alias_checks(alias: str, room_id: str, name: ServerName) -> Iterator[Check]:
    if not alias.startswith("#") or not alias.endswith(f":{name}") or len(alias.encode()) > MAX_IDENTIFIER:
        raise InvalidNameError(f"{alias!r} is not an alias of {name}")
    check_room_id(room_id)

    def problem(answer: SiteAnswer) -> str:
        body = answer.object()
        servers = body.get("servers")
        if answer.status == 200 and body.get("room_id") != room_id:
            return "room_id differs"
        if answer.status == 200 and not (isinstance(servers, list) and servers):
            return "no servers to join through"
        return _json_problem(answer)

    for spelling in spellings(alias):
        yield Check("GET", _directory(spelling), f"room ID {room_id}", problem)


def _directory(encoded_alias: str) -> str:
    return f"{FEDERATION}/v1/query/directory?room_alias={encoded_alias}"


def _media_checks(name: ServerName, media_id: str, length: int, *, with_thumbnails: bool) -> Iterator[Check]:
    if MEDIA_ID.fullmatch(media_id) is None:
        raise InvalidNameError(f"{media_id!r} is not a media ID")
    if not 0 <= length <= MAX_LENGTH:
        raise InvalidNameError(f"{media_id}: {length} is not a length in bytes")

    def plain(answer: SiteAnswer) -> str:
        return _status_problem(answer) or _length_problem(answer.length, length) or _header_problem(answer)

    def multipart(answer: SiteAnswer) -> str:
        return _status_problem(answer) or _parts_problem(answer, length)

    what = f"file of {length} bytes"
    own = f"{quote(name.text)}/{media_id}"
    yield Check("GET", f"{MEDIA}/download/{own}", what, plain)
    yield Check("GET", f"{FEDERATION}/v1/media/download/{media_id}?timeout_ms=20000", what, multipart)
    if with_thumbnails:
        size = "?width=32&height=32&method=crop"
        yield Check("GET", f"{MEDIA}/thumbnail/{own}{size}", what, plain)
        yield Check("GET", f"{FEDERATION}/v1/media/thumbnail/{media_id}{size}", what, multipart)


def _status_problem(answer: SiteAnswer) -> str:
    return "" if answer.status == 200 else str(answer)


def _length_problem(found: int, length: int) -> str:
    return "" if found == length else f"{found} bytes instead of {length}"


def _header_problem(answer: SiteAnswer) -> str:
    """Browsers must not run what a user has uploaded, in the name of this site."""
    if "sandbox" not in answer.headers.get("content-security-policy", ""):
        return "no Content-Security-Policy with sandbox"
    if answer.headers.get("x-content-type-options", "").lower() != "nosniff":
        return "no X-Content-Type-Options: nosniff"
    if answer.headers.get("content-disposition", "").partition(";")[0] not in ("inline", "attachment"):
        return "no Content-Disposition"
    return ""


def _parts_problem(answer: SiteAnswer, length: int) -> str:
    """Read C(multipart/mixed) with an empty JSON object and the file, as a remote server does."""
    found = BOUNDARY.fullmatch(answer.headers.get("content-type", ""))
    if found is None:
        return f"{answer} instead of multipart/mixed with a boundary"
    boundary = found[1].encode()
    before, _separator, rest = answer.content.partition(b"\r\n--" + boundary + b"\r\n")
    if not before.startswith(b"--" + boundary + b"\r\n") or PARTS_END not in before or PARTS_END not in rest:
        return "the body does not have two parts with the boundary of Content-Type"
    start = len(answer.content) - len(rest.partition(PARTS_END)[2])
    end = b"\r\n--" + boundary + b"--"
    # A line end may follow the last boundary.
    ends = [end, end + b"\r\n"]
    if answer.is_complete:
        ends = [each for each in ends if answer.content.endswith(each)]
    if not ends:
        return "the last boundary is missing"
    lengths = [answer.length - start - len(each) for each in ends]
    return "" if length in lengths else _length_problem(lengths[-1], length)


def _error_check(method: str, target: str, errcode: str) -> Check:
    def problem(answer: SiteAnswer) -> str:
        is_error = answer.status == 404 and answer.object().get("errcode") == errcode
        return "" if is_error and answer.content_type == "application/json" else str(answer)

    return Check(method, target, f"HTTP 404 {errcode}", problem)


def _json_problem(answer: SiteAnswer) -> str:
    if (answer.status, answer.content_type) != (200, "application/json"):
        return str(answer)
    return "" if answer.object() else "not a JSON object"
