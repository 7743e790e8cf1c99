# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""matrix_site_info: which answers of a static site are not those that remote servers need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
import yaml
from ansible_collections.matrixops.synapse.plugins.module_utils._federation import site_checks
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import UnreachableError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.names import spellings
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.site_checks import MAX_READ
from ansible_collections.matrixops.synapse.plugins.modules import matrix_site_info
from stubs.tls_server import Request, TlsServer, http

from .conftest import OURS, RunModule
from .test_modules import assert_documented

MODULE = "matrix_site_info"
NAME = OURS.server_name
BOUNDARY = "0123456789abcdef"
ALIAS, ROOM = f"#od d~*é:{NAME}", f"!room:{NAME}"
FILE = b"--" + BOUNDARY.encode() + b"\r\n\r\nx"
LARGE = bytes(3 * MAX_READ)
MEDIA = {"small": FILE, "large": LARGE, "empty": b""}
PLAIN = (
    "Content-Security-Policy: sandbox; default-src 'none'",
    "X-Content-Type-Options: nosniff",
    "Content-Disposition: inline",
)
MULTIPART = f"Content-Type: multipart/mixed; boundary={BOUNDARY}"
JSON = "Content-Type: application/json"
Json = dict[str, Any]


def error(errcode: str, status: str = "404 Not Found", kind: str = JSON) -> bytes:
    return http({"errcode": errcode, "error": "gone"}, status, kind)


def parts(content: bytes, end: bytes = b"--\r\n") -> bytes:
    line = b"--" + BOUNDARY.encode()
    head = line + b"\r\nContent-Type: application/json\r\n\r\n{}\r\n" + line + b"\r\nContent-Type: image/png\r\n\r\n"
    return head + content + b"\r\n" + line + end


class StaticSite:
    """Answers as the shipped configurations do, until a test wants another answer for some targets."""

    def __init__(self) -> None:
        self.wrong: dict[str, bytes | None] = {}
        self.key_answer = OURS.key_answer()
        self.requests: list[Request] = []

    def answer(self, request: Request) -> bytes | None:
        self.requests.append(request)
        for part, answer in self.wrong.items():
            if part in f"{request.method} {request.target}":
                return answer
        return self._right(request)

    def _right(self, request: Request) -> bytes:
        path, _mark, query = request.target.partition("?")
        files = {
            "/": http(b"<h1>Gone</h1>", "200 OK", "Content-Type: text/html; charset=utf-8"),
            "/_matrix/key/v2/server": http(self.key_answer, "200 OK", JSON),
            "/_matrix/key/v2/server/ed25519%3Aa_stub": http(self.key_answer, "200 OK", JSON),
            "/_matrix/federation/v1/version": http({"server": {"name": "matrixops.synapse"}}, "200 OK", JSON),
            "/.well-known/matrix/server": http({"m.server": f"{NAME}:443"}, "200 OK", JSON),
            "/.well-known/matrix/support": http({"support_page": "https://x"}, "200 OK", JSON),
        }
        if request.method == "GET" and path in files:
            return files[path]
        if path.endswith("/query/directory"):
            known = {f"room_alias={spelling}" for spelling in spellings(ALIAS)}
            found = http({"room_id": ROOM, "servers": ["b.example"]}, "200 OK", JSON)
            return found if query in known else error("M_NOT_FOUND")
        return self._media(path) or error("M_NOT_FOUND" if "load/" in path or "/.well" in path else "M_UNRECOGNIZED")

    @staticmethod
    def _media(path: str) -> bytes | None:
        place, _slash, media_id = path.rpartition("/")
        if media_id not in MEDIA:
            return None
        if place in (f"/_matrix/media/v3/{kind}/{NAME}" for kind in ("download", "thumbnail")):
            return http(MEDIA[media_id], "200 OK", "Content-Type: image/png", *PLAIN)
        if place in (f"/_matrix/federation/v1/media/{kind}" for kind in ("download", "thumbnail")):
            return http(parts(MEDIA[media_id]), "200 OK", MULTIPART)
        return None


class Resolver:
    """Leads the name of the site to its port on loopback."""

    def __init__(self, port: int) -> None:
        self.port = port

    def addresses(self, host: str, port: int) -> list[tuple[str, int]]:
        if host != NAME:
            raise UnreachableError(f"cannot resolve {host}")
        return [("127.0.0.1", self.port)]

    def srv(self, name: str) -> list[tuple[str, int]]:
        return []


@pytest.fixture
def site() -> StaticSite:
    return StaticSite()


@pytest.fixture
def server(site: StaticSite, certificate: trustme.LeafCert, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsServer]:
    server = TlsServer(certificate, site.answer, "127.0.0.1")
    monkeypatch.setattr(site_checks, "SystemResolver", lambda: Resolver(server.address[1]))
    yield server
    server.close()


@pytest.fixture
def check(server: TlsServer, ca_file: str, run_module: RunModule) -> Callable[..., Json]:
    """Run the module."""

    def check(**more: Any) -> Json:
        options = {
            "server_name": NAME,
            "key_id": OURS.key_id,
            "aliases": [{"alias": ALIAS, "room_id": ROOM}],
            "media": [{"media_id": media_id, "length": len(content)} for media_id, content in MEDIA.items()],
            "ca_path": ca_file,
            "ip_allowlist": ["127.0.0.1"],
        }
        check_mode = more.pop("check_mode", False)
        return run_module(MODULE, {**options, **more}, check=check_mode)

    return check


def wrong(result: Json) -> dict[str, str]:
    """The reasons of the answers that are not as expected."""
    assert result["ok"] is not any(not answer["ok"] for answer in result["answers"])
    assert all(answer["reason"].isprintable() and len(answer["reason"]) <= 300 for answer in result["answers"])
    return {
        f"{answer['method']} {answer['path']}": answer["reason"] for answer in result["answers"] if not answer["ok"]
    }


def test_a_site_as_it_must_be(site: StaticSite, check: Callable[..., Json]) -> None:
    result = check()
    assert wrong(result) == {} and result["ok"] and not result.pop("changed")
    assert_documented(yaml.safe_load(matrix_site_info.RETURN), result)
    sent = {f"{request.method} {request.target}" for request in site.requests}
    assert {f"{answer['method']} {answer['path']}" for answer in result["answers"]} == sent
    # Both spellings, both forms of media, and what must not be there.
    for part in (
        "%23od+d~%2A%C3%A9%3A",
        "%23od+d%7E*%C3%A9%3A",
        "/v1/media/download/large",
        f"/thumbnail/{NAME}/small",
    ):
        assert any(part in each for each in sent), part
    statuses = {answer["status"] for answer in result["answers"] if "matrixops-" in answer["path"]}
    assert statuses == {404}
    assert all("authorization" not in request.headers for request in site.requests)
    assert {request.headers["host"] for request in site.requests} == {NAME, f"{NAME}:443"}


def test_a_sample(site: StaticSite, check: Callable[..., Json]) -> None:
    """Evenly distributed over the list."""
    aliases = [{"alias": f"#{number}:{NAME}", "room_id": ROOM} for number in range(1000)]
    media = [{"media_id": f"m{number}", "length": 1} for number in range(1000)]
    found = wrong(check(aliases=aliases, media=media, sample=4))
    asked = [target.partition("room_alias=%23")[2] for target in found if "room_alias" in target]
    assert asked == [f"{number}%3A{NAME}" for number in (0, 250, 500, 750)]
    assert len([target for target in found if f"/v3/download/{NAME}/m" in target]) == 4


FAULTS: list[tuple[str, bytes | None, str]] = [
    (
        "/v1/version",
        http({"server": {"name": "Synapse"}}, "200 OK", JSON),
        "the answer is from Synapse: stop that homes",
    ),
    ("/v1/version", http(b"<html>", "200 OK", "Content-Type: text/html"), "HTTP 200 text/html"),
    ("/v1/version", error("M_UNRECOGNIZED"), "HTTP 404 application/json M_UNRECOGNIZED"),
    ("PUT ", error("M_UNRECOGNIZED", "405 Method Not Allowed"), "HTTP 405 application/json M_UNRECOGNIZED"),
    ("PUT ", error("M_UNRECOGNIZED", "410 Gone"), "HTTP 410"),
    ("PUT ", http(b"not found", "404 Not Found", "Content-Type: text/html"), "HTTP 404 text/html"),
    ("PUT ", error("M_NOT_FOUND"), "HTTP 404 application/json M_NOT_FOUND"),
    ("PUT ", None, "failed"),
    ("POST ", http({}, "200 OK", JSON), "HTTP 200 application/json"),
    (
        "v1/matrixops-check",
        http(b"", "301 Moved", "Location: https://x.example/"),
        "redirected (HTTP 301) to https://x.example/",
    ),
    ("room_alias=%23matrixops-", http({"room_id": ROOM, "servers": ["x"]}, "200 OK", JSON), "HTTP 200"),
    ("room_alias=%23od+d~", error("M_NOT_FOUND"), "HTTP 404 application/json M_NOT_FOUND"),
    ("room_alias=%23od+d%7E", error("M_NOT_FOUND"), "HTTP 404 application/json M_NOT_FOUND"),
    ("room_alias=%23od", http({"room_id": "!b:x", "servers": ["x"]}, "200 OK", JSON), "room_id differs"),
    ("room_alias=%23od", http({"room_id": ROOM, "servers": []}, "200 OK", JSON), "no servers to join through"),
    ("room_alias=%23od", error("\x1b[2J" + "x" * 1000), "\\x1b[2Jxxx"),
    ("well-known/matrix/client", http({"m.homeserver": {}}, "200 OK", JSON), "clients find a homeserver"),
    ("well-known/matrix/server", http({"m.server": "a b"}, "200 OK", JSON), "m.server is missing or invalid"),
    ("GET /.well-known/matrix/support", error("M_NOT_FOUND"), "HTTP 404"),
    ("/download/gone.example/small", http(FILE[1:], "200 OK", *PLAIN), f"{len(FILE) - 1} bytes instead of {len(FILE)}"),
    ("/download/gone.example/small", http(FILE, "200 OK", *PLAIN[1:]), "no Content-Security-Policy with sandbox"),
    ("/download/gone.example/small", http(FILE, "200 OK", PLAIN[0], PLAIN[2]), "no X-Content-Type-Options: nosniff"),
    ("/download/gone.example/small", http(FILE, "200 OK", *PLAIN[:2]), "no Content-Disposition"),
    ("/download/gone.example/large", http(LARGE[1:], "200 OK", *PLAIN), f"{len(LARGE) - 1} bytes instead of"),
    ("v1/media/download/small", http(FILE, "200 OK", *PLAIN), "instead of multipart/mixed with a boundary"),
    ("v1/media/download/small", http(FILE, "200 OK", MULTIPART), "does not have two parts with the boundary"),
    ("v1/media/download/small", http(parts(FILE, b""), "200 OK", MULTIPART), "the last boundary is missing"),
    ("v1/media/download/small", http(parts(FILE[1:]), "200 OK", MULTIPART), f"{len(FILE) - 1} bytes instead of"),
    ("v1/media/download/large", http(parts(LARGE[4:]), "200 OK", MULTIPART), f"{len(LARGE) - 4} bytes instead of"),
    ("v1/media/thumbnail/small", error("M_NOT_FOUND"), "HTTP 404 application/json M_NOT_FOUND"),
    ("load/matrixops-", http(b"", "404 Not Found"), "HTTP 404 no content type"),
]


@pytest.mark.parametrize(("part", "answer", "reason"), FAULTS)
def test_an_answer_that_is_not_expected(
    site: StaticSite, check: Callable[..., Json], part: str, answer: bytes | None, reason: str
) -> None:
    """Each is named, and no other one."""
    site.wrong[part] = answer
    found = wrong(check())
    assert found and all(part in target for target in found), found
    assert all(reason in each for each in found.values()), found


def test_the_page(site: StaticSite, check: Callable[..., Json], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "_right", lambda request: error("M_NOT_FOUND"))
    assert wrong(check())["GET /"] == "HTTP 404 application/json M_NOT_FOUND"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"valid_until_ts": 1}, "the key answer has expired"),
        ({"verify_keys": {}}, "not signed by any of its verify_keys"),
        ({"server_name": "b.example"}, "server_name is missing or differs"),
    ],
)
def test_keys(site: StaticSite, check: Callable[..., Json], change: Json, reason: str) -> None:
    answer = {**site.key_answer, **change}
    answer.pop("signatures")
    site.key_answer = OURS.sign(answer)
    found = wrong(check())
    assert len(found) == 2 and all("/key/v2/server" in target and reason in each for target, each in found.items())


def test_another_key(site: StaticSite, check: Callable[..., Json]) -> None:
    found = wrong(check(key_id="ed25519:other"))
    assert "ed25519:other is not in verify_keys (ed25519:a_stub)" in found["GET /_matrix/key/v2/server"]
    assert "HTTP 404" in found["GET /_matrix/key/v2/server/ed25519%3Aother"]
    assert wrong(check(key_id=None)) == {}


def test_a_signature_that_is_wrong(site: StaticSite, check: Callable[..., Json]) -> None:
    site.key_answer["old_verify_keys"] = {"ed25519:x": {"key": OURS.verify_keys[OURS.key_id]["key"], "expired_ts": 1}}
    assert "invalid signature by ed25519:a_stub" in wrong(check())["GET /_matrix/key/v2/server"]


def test_a_site_that_is_down(site: StaticSite, server: TlsServer, check: Callable[..., Json]) -> None:
    """Each port is tried once or twice, and all answers are missing."""
    server.close()
    result = check()
    assert len(wrong(result)) == len(result["answers"]) > 10
    assert {answer["status"] for answer in result["answers"]} == {0}
    assert all("cannot" in answer["reason"] for answer in result["answers"])


def test_a_certificate_of_another_ca(check: Callable[..., Json]) -> None:
    found = wrong(check(ca_path=None))
    assert all("certificate" in reason for reason in found.values())


def test_a_private_address(check: Callable[..., Json]) -> None:
    assert "to allow it, add it to ip_allowlist" in wrong(check(ip_allowlist=[]))["GET /"]


def test_waiting(site: StaticSite, check: Callable[..., Json], monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the answers are as expected, or the time is over."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            site.wrong.clear()

    monkeypatch.setattr("time.sleep", sleep)
    site.wrong["/v1/version"] = error("M_UNRECOGNIZED")
    assert not check()["ok"] and pauses == []
    assert check(wait=600)["ok"] and len(pauses) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"server_name": "a b"}, "'a b' is not a server name"),
        ({"key_id": "ed25519:a b"}, "'ed25519:a b' is not a key ID"),
        ({"aliases": [{"alias": "#a:b.example", "room_id": ROOM}]}, "'#a:b.example' is not an alias of gone.example"),
        ({"aliases": [{"alias": f"#{'a' * 255}:{NAME}", "room_id": ROOM}]}, "is not an alias of"),
        ({"aliases": [{"alias": ALIAS, "room_id": "room"}]}, "'room' is not a room ID"),
        ({"media": [{"media_id": "../x", "length": 1}]}, "'../x' is not a media ID"),
        ({"media": [{"media_id": "x", "length": -1}]}, "x: -1 is not a length in bytes"),
        ({"sample": 0}, "sample is 0: set it to 1 or more"),
        ({"timeout": 0}, "timeout is 0: set it to 1 or more"),
        ({"ip_allowlist": ["x"]}, "ip_allowlist: 'x' is not an IP address or a CIDR range"),
    ],
)
def test_invalid_options(site: StaticSite, check: Callable[..., Json], options: Json, message: str) -> None:
    result = check(**options)
    assert result["failed"] and message in result["msg"]
    assert site.requests == []


def test_check_mode_is_the_same(check: Callable[..., Json]) -> None:
    assert check(check_mode=True)["ok"]
