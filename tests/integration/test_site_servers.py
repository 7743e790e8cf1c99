# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The static site, served by a real nginx, a real Caddy and ghost_cleanup: each answer as remote servers ask for it."""

from __future__ import annotations

import email
import email.policy
import io
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from email.message import Message
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.static_answers import (
    NOT_FOUND,
    UNRECOGNIZED,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.transaction_log import read_log
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import layout, media, web_servers
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.aliases import nginx_hash
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.site import Room, Site
from lab import MissingError, certificates
from lab.parallel import process_number
from lab.waiting import wait_until
from lab.web_servers import Caddy, GhostCleanup, Nginx, WebServer

PORT = 18930 + process_number()
NAME = "old.example"
BOUNDARY = "b0undary" * 4
PNG = b"\x89PNG\r\n\x1a\n\0\r\n--" + BOUNDARY[:-1].encode() + b"\r\n" + bytes(range(256)) * 500
MEDIA = {
    "png_1-A": ("image/png", PNG, "image/png"),
    "-jpeg": ("image/jpeg; charset=x", b"jpeg", "image/jpeg"),
    "_ogg": ("audio/ogg", b"", "audio/ogg"),
    "m" * 100: ("video/mp4", b"mp4", "video/mp4"),
    "svg": ("image/svg+xml", b"<svg onload='alert(1)'/>", "application/octet-stream"),
    "html": ("text/html", b"<script>", "application/octet-stream"),
    "odd": ('image/png"\r\nX-Evil: 1', b"odd", "application/octet-stream"),
}
ODD_LOCALPARTS = (
    "",
    "lounge",
    "Lounge",
    "LOUNGE",
    "upper-ONLY",
    '"; } return 200 "',
    "'; }",
    "back\\slash",
    "new\nline",
    "crlf\r\nX-Evil 1",
    "".join(map(chr, (*range(1, 32), 127))),
    "{$HOME}",
    "{env.HOME}",
    "{http.request.header.Authorization}",
    "{",
    "}",
    "`",
    "$uri",
    "${1}",
    "$1",
    ";",
    "#",
    "# comment",
    "..",
    "../../../etc/passwd",
    "/",
    "//",
    "%",
    "%2e%2e%2f",
    "%23lounge",
    "+",
    "a+b",
    " ",
    "with space",
    "\N{GRINNING FACE}",
    "\u202eleft",
    "\u200f",
    "tilde~",
    "star*",
    "~*^both*~",
    "~^.*$",
    "default",
    "include /etc/passwd",
    "import /etc/passwd",
    "a.b",
    "a[b](c)|d?",
    "&room_alias=x",
    "a=b",
    "<script>alert(1)</script>",
    # nginx has the same hash for these.
    "a~" * 20,
    "b_" * 20,
    "x" * (255 - len(f"#:{NAME}")),
    "\N{GRINNING FACE}" * ((255 - len(f"#:{NAME}")) // 4),
)
ALIASES = {
    f"#{localpart}:{NAME}": f"!{number}{{env.HOME}}$uri:far.example" for number, localpart in enumerate(ODD_LOCALPARTS)
}


@dataclass
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers.get_content_type() == "application/json", self.headers.items()
        assert self.headers["Access-Control-Allow-Origin"] == "*"
        return json.loads(self.body)


Ask = Callable[..., Answer]


def conduit(alias: str) -> str:
    """An alias in a query as Conduit sends it: application/x-www-form-urlencoded of the URL standard."""
    safe = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789*-._"
    return "".join("+" if byte == 32 else chr(byte) if byte in safe else f"%{byte:02X}" for byte in alias.encode())


def synapse(alias: str) -> str:
    """An alias in a query as Synapse and Dendrite send it."""
    return urlencode({"room_alias": alias}).removeprefix("room_alias=")


def a_site(**changes: Any) -> Site:
    rooms = tuple(
        Room(room_id, ("far.example", "further.example:8448"), (alias,), alias) for alias, room_id in ALIASES.items()
    )
    key = {"server_name": NAME, "valid_until_ts": 2_000_000_000_000, "verify_keys": {"ed25519:a_1": {"key": "x"}}}
    return replace(Site(NAME, key, rooms, 1_700_000_000, BOUNDARY, list_rooms=True), **changes)


def write_site(path: Path, site: Site) -> None:
    for media_id, (content_type, content, _served) in MEDIA.items():
        media.store(layout.media_path(path), media_id, content_type, io.BytesIO(content), len(content), BOUNDARY)
    layout.write(path, site)


class Connection(HTTPSConnection):
    """A connection to loopback, with a name for SNI and the certificate. It connects again if the server closed it."""

    def __init__(self, server: WebServer, name: str) -> None:
        self.name = name
        self.trust = ssl.create_default_context(cafile=str(server.directory / "ca.pem"))
        super().__init__("127.0.0.1", server.port, context=self.trust, timeout=60)

    def connect(self) -> None:
        connected = socket.create_connection((self.host, self.port), timeout=60)
        self.sock = self.trust.wrap_socket(connected, server_hostname=self.name)


def asking(server: WebServer, name: str = NAME) -> Ask:
    """What sends requests, whose target is not changed in any way."""
    connection = Connection(server, name)

    def send(
        target: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        connection.putrequest(method, target, skip_host=True)
        sent = {"Host": f"{name}:{server.port}", **(headers or {})}
        if body is not None:
            sent["Content-Length"] = str(len(body))
        for header, value in sent.items():
            connection.putheader(header, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return Answer(answer.status, answer.msg, answer.read())

    return send


CONFIGURED = pytest.mark.parametrize("server", [Nginx, Caddy], indirect=True, ids=["nginx", "caddy"], scope="module")
"""For what only web servers have whose configuration is a part of the site."""


@pytest.fixture(scope="module", params=[Nginx, Caddy, GhostCleanup], ids=["nginx", "caddy", "ghost_cleanup"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, skip_or_fail: Callable[[str], None]
) -> Iterator[WebServer]:
    directory = tmp_path_factory.mktemp(request.param.program)
    certificates.issue_for(directory / "ca.pem", {directory: [NAME]})
    write_site(directory / "site", a_site())
    try:
        with request.param(directory, directory / "site", PORT) as server:
            yield server
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.fixture
def ask(server: WebServer) -> Ask:
    return asking(server)


@CONFIGURED
def test_the_configuration_is_valid(server: WebServer) -> None:
    checked = server.check()
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr


@CONFIGURED
def test_the_files_as_they_are_written_are_valid(server: WebServer, tmp_path: Path) -> None:
    """Only the paths are other ones: those of the system cannot be written to."""
    of_nginx = server.program == "nginx"
    shipped = (web_servers.nginx_paths if of_nginx else web_servers.caddy_paths)(NAME)
    text = (server.site / (layout.NGINX if of_nginx else layout.CADDY)).read_text()
    for name in ("www", "aliases_file", "log_file", "certificate", "certificate_key"):
        if getattr(shipped, name):
            assert getattr(shipped, name) in text
            text = text.replace(getattr(shipped, name), getattr(server.paths, name))
    text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{PORT + 20} ssl;").replace("listen [::]:443 ssl;", "")
    checked = a_server(type(server), tmp_path, NAME, server.site, text).check()
    assert checked.returncode == 0, checked.stderr


def a_server(kind: type[WebServer], directory: Path, name: str, site: Path, text: str | None = None) -> WebServer:
    """A server that is not running, with the configuration I(text)."""
    certificates.issue_for(directory / "ca.pem", {directory: [re.sub(r":[0-9]+$|[][]", "", name)]})
    server = kind(directory, site, PORT + 20)
    if text is not None:
        server.configuration = lambda _summary: text  # type: ignore[method-assign]
    return server


@CONFIGURED
@pytest.mark.parametrize(
    "name",
    ["Old.Example", "old.example.", "old.example:443", "localhost:8448", "192.0.2.1", "[2001:db8::1]", "[::1]:8449"],
)
def test_names_of_servers(server: WebServer, tmp_path: Path, name: str) -> None:
    layout.write(tmp_path / "site", a_site(server_name=name, rooms=()))
    checked = a_server(type(server), tmp_path, name, tmp_path / "site").check()
    assert checked.returncode == 0, checked.stderr


def test_a_name_that_is_an_address(server: WebServer, tmp_path: Path) -> None:
    """With a port, without a well-known file; clients send no name of the server before TLS."""
    name = f"127.0.0.1:{PORT + 20}"
    write_site(tmp_path / "site", a_site(server_name=name, rooms=(Room("!a:b", ("b",), (f"#a:{name}",)),)))
    certificates.issue_for(tmp_path / "ca.pem", {tmp_path: ["127.0.0.1"]})
    with type(server)(tmp_path, tmp_path / "site", PORT + 20) as other:
        ask = asking(other, "127.0.0.1")
        assert ask("/.well-known/matrix/server").json == NOT_FOUND
        assert (
            ask(f"/_matrix/federation/v1/query/directory?room_alias={synapse(f'#a:{name}')}").json["room_id"] == "!a:b"
        )
        for encoded in (name, name.replace(":", "%3A")):
            assert ask(f"/_matrix/media/v3/download/{encoded}/png_1-A").body == PNG
        assert ask("/_matrix/media/v3/download/127.0.0.1/png_1-A").json == NOT_FOUND


def test_aliases_with_the_same_hash_in_nginx(server: WebServer, tmp_path: Path) -> None:
    """An account of the server could have made them, and nginx would not start with so much in one bucket."""
    aliases = [f"#{''.join('a~' if number >> bit & 1 else 'b_' for bit in range(100))}:{NAME}" for number in range(500)]
    assert len({nginx_hash(synapse(alias)) for alias in aliases}) == 1
    layout.write(tmp_path / "site", a_site(rooms=tuple(Room(f"!{alias}", ("b",), (alias,)) for alias in aliases)))
    with a_server(type(server), tmp_path, NAME, tmp_path / "site") as other:
        ask = asking(other)
        for alias in aliases[::100]:
            answer = ask(f"/_matrix/federation/v1/query/directory?room_alias={synapse(alias)}")
            assert answer.json["room_id"] == f"!{alias}"


@pytest.mark.nightly(category="scale")
def test_100_000_aliases(server: WebServer, tmp_path: Path) -> None:
    aliases = [f"#room {number}~:{NAME}" for number in range(100_000)]
    layout.write(tmp_path / "site", a_site(rooms=tuple(Room(f"!{each}", ("b",), (each,)) for each in aliases)))
    other = a_server(type(server), tmp_path, NAME, tmp_path / "site")
    began = time.monotonic()
    with other:
        print(f"{other.program}: {time.monotonic() - began:.1f} s to the start")
        ask = asking(other)
        for alias in (aliases[0], aliases[-1]):
            for encoded in (synapse, conduit):
                answer = ask(f"/_matrix/federation/v1/query/directory?room_alias={encoded(alias)}")
                assert answer.json["room_id"] == f"!{alias}"
        assert ask(f"/_matrix/federation/v1/query/directory?room_alias={synapse(f'#a:{NAME}')}").json == NOT_FOUND
        command = ["ps", "-o", "rss,args", "-p", str(other.pid)]
        print(subprocess.run(command, capture_output=True, text=True, check=False).stdout)


@pytest.mark.parametrize(
    "target", ["/_matrix/key/v2/server", "/_matrix/key/v2/server/", "/_matrix/key/v2/server/ed25519:a_1"]
)
def test_keys(ask: Ask, target: str) -> None:
    answer = ask(target)
    assert (answer.status, answer.json) == (200, a_site().key_answer)


def test_version(ask: Ask) -> None:
    answer = ask("/_matrix/federation/v1/version")
    assert (answer.status, answer.json["server"]["name"]) == (200, "matrixops.synapse")


@pytest.mark.parametrize("encoded", [synapse, conduit])
@pytest.mark.parametrize("query", ["room_alias={}", "x=1&room_alias={}&room_aliases=1"])
def test_aliases(ask: Ask, encoded: Callable[[str], str], query: str) -> None:
    for alias, room_id in ALIASES.items():
        answer = ask(f"/_matrix/federation/v1/query/directory?{query.replace('{}', encoded(alias))}")
        assert answer.status == 200, alias
        assert answer.json == {"room_id": room_id, "servers": ["far.example", "further.example:8448"]}


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        "?room_alias",
        "?room_alias=",
        f"?room_alias={synapse(f'#missing:{NAME}')}",
        f"?room_alias={synapse('#lounge:other.example')}",
        f"?room_alias={synapse(f'#lOUNGE:{NAME}')}",
        f"?room_alias={synapse(f'#a.b:{NAME}')}x",
        f"?room_alias=x{synapse(f'#lounge:{NAME}')}",
        f"?room_alias={synapse(f'#lounge:{NAME}')}%00",
        f"?xroom_alias={synapse(f'#lounge:{NAME}')}",
        f"?room_alias={synapse('#' + 'x' * 6000)}",
        "?room_alias=1",
        "?room_alias=../rooms/1",
        "?room_alias={site_room}",
        "?room_alias=${1}",
        "?room_alias=default",
        "?room_alias=~%5E.*$",
    ],
)
def test_unknown_aliases(ask: Ask, query: str) -> None:
    answer = ask(f"/_matrix/federation/v1/query/directory{query}")
    assert (answer.status, answer.json) == (404, NOT_FOUND)


SECURITY = {
    "Content-Security-Policy": "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf;"
    " style-src 'unsafe-inline'; media-src 'self'; object-src 'self';",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Access-Control-Allow-Origin": "*",
}


MEDIA_APIS = [f"{version}/{kind}" for version in ("v3", "r0", "v1") for kind in ("download", "thumbnail")]


@pytest.mark.parametrize("media_id", MEDIA)
@pytest.mark.parametrize("api", MEDIA_APIS)
def test_media(ask: Ask, media_id: str, api: str) -> None:
    _type, content, served = MEDIA[media_id]
    for rest in ("?timeout_ms=20000&allow_remote=false", "/name.html", "/%2e%2e%2f%0a", "/"):
        answer = ask(f"/_matrix/media/{api}/{NAME}/{media_id}{rest}")
        if rest == "/%2e%2e%2f%0a" and answer.status == 404:
            continue  # which may leave the file's directory
        assert (answer.status, answer.body) == (200, content)
        assert answer.headers["Content-Type"] == served
        assert answer.headers["Content-Disposition"] == ("attachment" if "octet" in served else "inline")
        assert {name: answer.headers.get_all(name) for name in SECURITY} == {k: [v] for k, v in SECURITY.items()}


@pytest.mark.parametrize("media_id", MEDIA)
@pytest.mark.parametrize("kind", ["download", "thumbnail"])
def test_federation_media(ask: Ask, media_id: str, kind: str) -> None:
    _type, content, served = MEDIA[media_id]
    answer = ask(f"/_matrix/federation/v1/media/{kind}/{media_id}?timeout_ms=20000&width=96&height=96&method=crop")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == f"multipart/mixed; boundary={BOUNDARY}"
    assert {name: answer.headers.get_all(name) for name in SECURITY} == {k: [v] for k, v in SECURITY.items()}
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    first, second = email.message_from_bytes(head + answer.body, policy=email.policy.HTTP).iter_parts()  # type: ignore[attr-defined]
    assert (first.get_content_type(), first.get_payload().strip()) == ("application/json", "{}")
    assert second.get_content_type() == served
    # The package is for text: it changes ends of lines in binary parts.
    body = answer.body.split(f"--{BOUNDARY}\r\n".encode(), 2)[2].split(b"\r\n\r\n", 1)[1]
    assert body.removesuffix(f"\r\n--{BOUNDARY}--\r\n".encode()) == content
    if b"\n" not in content:
        assert second.get_payload(decode=True) == content


@pytest.mark.parametrize(
    "target",
    [
        f"/_matrix/media/v3/download/{NAME}/missing",
        f"/_matrix/media/v3/download/{NAME}/png_1-A.png",
        f"/_matrix/media/v3/download/{NAME}/png_1-a",
        f"/_matrix/media/v3/download/{NAME}/{'m' * 101}",
        f"/_matrix/media/v3/download/{NAME}/{'m' * 4000}",
        f"/_matrix/media/v3/download/{NAME}/png*",
        f"/_matrix/media/v3/download/{NAME}/",
        "/_matrix/media/v3/download/other.example/png_1-A",
        "/_matrix/media/v3/download/oldXexample/png_1-A",
        f"/_matrix/media/v3/download/{NAME}/{{env.HOME}}",
        f"/_matrix/media/v3/download/{NAME}/$uri",
        "/_matrix/federation/v1/media/download/missing",
        "/_matrix/federation/v1/media/download/png_1-A/x",
        "/_matrix/federation/v1/media/thumbnail/png_1-A.png",
        "/.well-known/matrix/client",
        "/.well-known/matrix/server/",
        "/.well-known/matrix/",
    ],
)
def test_missing_files(ask: Ask, target: str) -> None:
    answer = ask(target)
    assert (answer.status, answer.json) == (404, NOT_FOUND)


OTHERS = (
    "/_matrix",
    "/_matrix/",
    "/_matrix/client/versions",
    "/_matrix/client/v3/login",
    "/_matrix/federation/v1/send/1",
    "/_matrix/federation/v1/version/",
    "/_matrix/federation/v1/query/profile?user_id=%40a%3Aold.example",
    "/_matrix/federation/v1/query/directory/",
    "/_matrix/federation/v1/state_ids/!a:b?event_id=%24x",
    "/_matrix/federation/v1/make_join/%21a%3Ab/%40a%3Ab?ver=10",
    "/_matrix/federation/unstable/org.matrix.msc3916.v2/media/download/png_1-A",
    "/_matrix/key/v2/query",
    "/_matrix/key/v2/server/a/b",
    "/_matrix/key",
    "/_matrix/media/v3/config",
    f"/_matrix/media/v2/download/{NAME}/png_1-A",
    "/_synapse/admin/v1/server_version",
)


@pytest.mark.parametrize("target", OTHERS)
def test_everything_else_is_unrecognized(ask: Ask, target: str) -> None:
    answer = ask(target)
    assert (answer.status, answer.json) == (404, UNRECOGNIZED)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "TRACE"])
def test_every_other_method_is_unrecognized(ask: Ask, method: str) -> None:
    for target in (
        "/_matrix/key/v2/server",
        "/_matrix/federation/v1/version",
        f"/_matrix/federation/v1/query/directory?room_alias={synapse(f'#lounge:{NAME}')}",
        f"/_matrix/media/v3/download/{NAME}/png_1-A",
        "/_matrix/federation/v1/media/download/png_1-A",
        "/_matrix/federation/v1/media/download/missing",
        "/_matrix/client/v3/login",
        "/.well-known/matrix/server",
        "/",
    ):
        answer = ask(target, method, body=b"{}" if method in ("POST", "PUT") else None)
        assert (answer.status, answer.json) == (404, UNRECOGNIZED), target


@CONFIGURED
def test_large_transactions(ask: Ask) -> None:
    """A web server may refuse 1 MB with 413, and not by the path. The service ghost_cleanup accepts transactions."""
    answer = ask("/_matrix/federation/v1/send/large", "PUT", body=b" " * 3_000_000)
    assert (answer.status, answer.json) == (404, UNRECOGNIZED)


@pytest.mark.parametrize(
    "target",
    [
        "/_matrix/key/v2/server",
        "/_matrix/federation/v1/version",
        f"/_matrix/federation/v1/query/directory?room_alias={synapse(f'#lounge:{NAME}')}",
        f"/_matrix/federation/v1/query/directory?room_alias={synapse(f'#missing:{NAME}')}",
        f"/_matrix/media/v3/download/{NAME}/png_1-A",
        f"/_matrix/media/v3/download/{NAME}/missing",
        "/_matrix/federation/v1/media/thumbnail/png_1-A",
        "/_matrix/client/versions",
        "/.well-known/matrix/server",
        "/.well-known/matrix/support",
        "/.well-known/matrix/client",
        "/",
        "/nothing",
    ],
)
def test_head(ask: Ask, target: str) -> None:
    changing = {"Date", "date"}
    got, headed = ask(target), ask(target, "HEAD")
    assert headed.body == b""
    assert headed.status == got.status
    assert [each for each in headed.headers.items() if each[0] not in changing] == [
        each for each in got.headers.items() if each[0] not in changing
    ]


def test_well_known(ask: Ask) -> None:
    assert ask("/.well-known/matrix/server").json == {"m.server": f"{NAME}:443"}
    assert ask("/.well-known/matrix/support").json == {"support_page": f"https://{NAME}/"}


def test_page(ask: Ask) -> None:
    answer = ask("/")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert b"<script" not in answer.body


SECRET = ("site.json", "nginx.conf", "Caddyfile", "/etc/passwd")


@pytest.mark.parametrize(
    "target",
    [
        "/index.html",
        "/rooms/1.json",
        "/rooms/",
        "/media/png_1-A.png",
        "/media/png_1-A.multipart",
        "/media/",
        "/site.json",
        "/../site.json",
        "/%2e%2e/site.json",
        "/..%2fsite.json",
        "/.well-known/../../site.json",
        "/.well-known/matrix/..%2f..%2f..%2fsite.json",
        "/_matrix/../../site.json",
        "/_matrix/key/v2/server/..%2f..%2f..%2f..%2f..%2fsite.json",
        f"/_matrix/media/v3/download/{NAME}/../../../../../../site.json",
        f"/_matrix/media/v3/download/{NAME}/..%2f..%2f..%2f..%2fsite.json",
        f"/_matrix/media/v3/download/{NAME}/%2e%2e%2fsite",
        f"/_matrix/media/v3/download/{NAME}/..%5csite.json",
        f"/_matrix/media/v3/download/{NAME}/%2fetc%2fpasswd",
        "/_matrix/federation/v1/media/download/..%2f..%2fsite",
        "/_matrix/federation/v1/media/download/..%252f..%252fsite",
        "/_matrix/federation/v1/query/directory?room_alias=../../site",
        "//site.json",
        "///etc/passwd",
        "/nothing",
        "/%00",
        "/_matrix/%00",
        "/_matrix/federation/v1/media/download/png_1-A%00",
        "/%ff",
    ],
)
def test_no_other_files(ask: Ask, target: str) -> None:
    answer = ask(target)
    assert answer.status in (400, 404)
    assert b"boundary" not in answer.body and b"root:" not in answer.body and b"room_id" not in answer.body
    if answer.status == 404:
        assert answer.json["errcode"].startswith("M_")


@pytest.mark.parametrize(
    "target",
    ["//_matrix/key/v2/server", "/_matrix//key/v2/server", "/_matrix/key/v2/./server", "/%5Fmatrix/key/v2/server"],
)
def test_other_spellings_of_a_path_are_no_redirects(ask: Ask, target: str) -> None:
    answer = ask(target)
    assert (answer.status, answer.json) in [(200, a_site().key_answer), (404, UNRECOGNIZED)]


@pytest.mark.parametrize("target", [f"/{'x' * 20_000}", f"/_matrix/{'x' * 20_000}"])
def test_long_targets(ask: Ask, target: str) -> None:
    assert (ask(target).status, ask(target).json) == (404, UNRECOGNIZED)


HOSTILE = (
    ('X-Matrix origin="far.example",destination="old.example",key="ed25519:a_1",sig="SECRET"', "far.example"),
    ("X-Matrix origin=far.example,key=SECRET,sig=SECRET", "far.example"),
    ('X-Matrix key="SECRET",origin="far.example:8448"', "far.example:8448"),
    ('x-matrix Origin="[2001:db8::1]:8448", sig="SECRET"', "[2001:db8::1]:8448"),
    ("", ""),
    ("Bearer SECRET", ""),
    ('Basic SECRET,origin="far.example"', ""),
    ("X-Matrix", ""),
    ('X-Matrix origin=""', ""),
    ('X-Matrix origin="a b",sig="SECRET"', ""),
    ('X-Matrix origin="far.example\\",SECRET', ""),
    ('X-Matrix origin="{env.HOME}"', ""),
    ('X-Matrix origin="$http_authorization"', ""),
    ('X-Matrix origin="}{\\"origin\\":\\"x\\"}"', ""),
    ('X-Matrix origin="f\xe4r.example"', ""),
    ('X-Matrix origin="../../etc/passwd"', ""),
    (f'X-Matrix origin="{"a" * 231}"', ""),
    (f'X-Matrix sig="{"SECRET" * 1000}",origin="far.example"', "far.example"),
    (f"X-Matrix {'origin=' * 900}", ""),
    (f"X-Matrix {', ' * 3000}", ""),
    ('X-Matrix xorigin="SECRET",sig="SECRET"', ""),
)


@CONFIGURED
def test_the_log_has_only_time_and_origin(server: WebServer, ask: Ask) -> None:
    def lines() -> list[str]:
        return server.transactions.read_text().splitlines() if server.transactions.exists() else []

    before = len(lines())
    began = time.time()
    for authorization, _origin in HOSTILE:
        answer = ask(
            "/_matrix/federation/v1/send/SECRET?SECRET=1",
            "PUT",
            {"Authorization": authorization, "User-Agent": "SECRET", "Cookie": "SECRET", "Referer": "SECRET"},
            b'{"SECRET": 1}',
        )
        assert (answer.status, answer.json) == (404, UNRECOGNIZED)
        assert not [value for value in answer.headers.values() if "SECRET" in value or "far.example" in value]
    headers = {"Authorization": 'X-Matrix origin="get.example"', "X-Secret": "SECRET"}
    for target in ("/_matrix/federation/v1/send/1", "/_matrix/key/v2/server", "/_matrix/client/versions", "/"):
        ask(target, "GET", headers)
    ask("/_matrix/client/v3/rooms/x/send/y", "PUT", headers)
    ask("/_matrix/federation/v2/send_join/x/y", "PUT", headers)
    wait_until(lambda: len(lines()) >= before + len(HOSTILE), "all transactions are logged")
    found = [json.loads(line) for line in lines()[before:]]
    assert [set(entry) for entry in found] == [{"ts", "user_id"}] * len(HOSTILE)
    assert [entry["user_id"] for entry in found] == [origin for _authorization, origin in HOSTILE]
    assert all(began - 1 <= entry["ts"] <= time.time() + 1 for entry in found)
    assert {origin.server for origin in read_log(str(server.transactions), 10**6).origins} == {
        "far.example",
        "far.example:8448",
        "[2001:db8::1]:8448",
    }
    for path in server.directory.rglob("*"):
        if path.is_file() and (server.site not in path.parents):
            assert b"SECRET" not in path.read_bytes(), path


@CONFIGURED
def test_nothing_else_is_logged(server: WebServer, ask: Ask) -> None:
    """nginx has a log of all requests unless a server turns it off."""
    ask("/_matrix/key/v2/server")
    log = server.directory / "access.log"
    assert not log.exists() or log.read_text() == ""


def test_plain_http_for_another_proxy(server: WebServer, tmp_path: Path) -> None:
    plain = type(server)(tmp_path, server.site, PORT + 20, tls=False)
    with plain:
        connection = HTTPConnection("127.0.0.1", plain.port, timeout=60)
        connection.request("GET", "/_matrix/key/v2/server", headers={"Host": NAME})
        assert json.loads(connection.getresponse().read()) == a_site().key_answer
