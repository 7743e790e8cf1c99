# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""matrix_name_info: what answers under a server name, and what prevents remote servers from using its keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
import yaml
from ansible_collections.matrixops.synapse.plugins.module_utils._federation import name_check
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import UnreachableError
from ansible_collections.matrixops.synapse.plugins.modules import matrix_name_info
from stubs.tls_server import Request, TlsServer, http

from .conftest import OURS, RunModule
from .test_modules import assert_documented

NAME = OURS.server_name
STATIC = {"server": {"name": "matrixops.synapse", "version": "1"}}
Json = dict[str, Any]
Check = Callable[..., Json]


class Server:
    """Answers the two requests, and 404 to all others."""

    def __init__(self) -> None:
        self.answers = {"/_matrix/federation/v1/version": http(STATIC), "/_matrix/key/v2/server": self.keys()}
        self.requests: list[Request] = []
        self.listening: list[tuple[str, int]] = []

    @staticmethod
    def keys(**changes: Any) -> bytes:
        return http(OURS.sign({**OURS.key_answer(), "signatures": {}, **changes}))

    def answer(self, request: Request) -> bytes | None:
        self.requests.append(request)
        return self.answers.get(request.target, http({"errcode": "M_UNRECOGNIZED"}, "404 Not Found"))

    # As the resolver of the client:

    def addresses(self, host: str, port: int) -> list[tuple[str, int]]:
        if not self.listening:
            raise UnreachableError(f"cannot resolve {host}: Name or service not known")
        return self.listening

    def srv(self, name: str) -> list[tuple[str, int]]:
        return []


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def listener(server: Server, certificate: trustme.LeafCert, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsServer]:
    listener = TlsServer(certificate, server.answer, "127.0.0.1")
    server.listening = [("127.0.0.1", listener.address[1])]
    monkeypatch.setattr(name_check, "SystemResolver", lambda: server)
    yield listener
    listener.close()


@pytest.fixture
def check(listener: TlsServer, ca_file: str, run_module: RunModule) -> Check:
    """Run the module."""

    def check(**more: Any) -> Json:
        options = {"server_name": NAME, "key_id": OURS.key_id, "ca_path": ca_file, "ip_allowlist": ["127.0.0.1"]}
        check_mode = more.pop("check_mode", False)
        result = run_module("matrix_name_info", {**options, **more}, check=check_mode)
        assert result.get("failed") or (len(result["reason"]) <= 300 and result["reason"].isprintable())
        return result

    return check


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_name_as_it_must_be(server: Server, listener: TlsServer, check: Check, check_mode: bool) -> None:
    result = check(check_mode=check_mode)
    assert not result.pop("changed")
    assert_documented(yaml.safe_load(matrix_name_info.RETURN), result)
    assert result == {
        "homeserver": "",
        "problem": "",
        "reason": "",
        "addresses": [f"127.0.0.1 port {listener.address[1]}"],
        "key_ids": [OURS.key_id],
    }
    assert all("authorization" not in request.headers and request.method == "GET" for request in server.requests)


def version(name: object, version: object = "1.163.2") -> bytes:
    return http({"server": {"name": name, "version": version}})


@pytest.mark.parametrize(
    ("path", "answer", "problem", "reason", "homeserver"),
    [
        ("version", version("Synapse"), "homeserver", f"Synapse 1.163.2 answers as {NAME}", "Synapse 1.163.2"),
        ("version", version("\x1b[2J" + "x" * 1000), "homeserver", "\\x1b[2Jxxx", "\\x1b[2Jxxx"),
        ("version", version(None, 7), "homeserver", "None 7 answers as", "None 7"),
        ("version", http({"errcode": "M_UNRECOGNIZED"}, "404 Not Found"), "", "", ""),
        ("version", http(b"<html>"), "answer", "answered with HTTP 200 and no JSON object", ""),
        ("version", http(b"[" * 100_000), "answer", "answered with HTTP 200 and no JSON object", ""),
        ("version", http({}, "502 Bad Gateway"), "answer", "a reverse proxy answered with HTTP 502", ""),
        ("version", http(b"", "301 Moved", "Location: https://x.example/"), "answer", "redirected (HTTP 301)", ""),
        ("version", http(bytes(600_000)), "answer", "the answer has more than", ""),
        ("version", None, "connection", "the connection to gone.example failed", ""),
        ("key", http({}, "404 Not Found"), "keys", "server_name is missing or differs", ""),
        ("key", http(b"x"), "keys", "answered with HTTP 200 and no JSON object", ""),
        ("key", Server.keys(valid_until_ts=1), "keys", "the key answer has expired", ""),
        ("key", Server.keys(server_name="b.example"), "keys", "server_name is missing or differs", ""),
        ("key", Server.keys(verify_keys={}), "keys", "not signed by any of its verify_keys", ""),
    ],
)
def test_problems(
    server: Server, check: Check, path: str, answer: bytes | None, problem: str, reason: str, homeserver: str
) -> None:
    (target,) = (target for target in server.answers if path in target)
    server.answers[target] = answer  # type: ignore[assignment]
    result = check()
    assert result["problem"] == problem and reason in result["reason"], result
    assert result["homeserver"].startswith(homeserver) and bool(result["homeserver"]) is bool(homeserver)
    assert problem in ("", *name_check.PROBLEMS)


def test_another_key(check: Check) -> None:
    result = check(key_id="ed25519:other")
    assert (result["problem"], result["key_ids"]) == ("keys", [OURS.key_id])
    assert result["reason"] == "ed25519:a_stub is published instead of ed25519:other"
    assert check(key_id=None)["problem"] == ""


def test_nothing_answers(server: Server, listener: TlsServer, check: Check) -> None:
    """Each cause has a problem of its own."""
    assert check(ca_path=None)["problem"] == "tls"
    assert check(ip_allowlist=[])["problem"] == "address"
    listener.close()
    assert "Connection refused" in (refused := check())["reason"] and refused["problem"] == "connection"
    server.listening = []
    assert (check()["problem"], server.requests) == ("dns", [])


def test_waiting(server: Server, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until there is no problem, or the time is over."""
    right, pauses = dict(server.answers), []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            server.answers = right

    monkeypatch.setattr("time.sleep", sleep)
    server.answers = {}
    assert check()["problem"] == "keys" and pauses == []
    assert check(wait=600)["problem"] == "" and len(pauses) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"server_name": "a b"}, "'a b' is not a server name"),
        ({"key_id": "ed25519:a b"}, "'ed25519:a b' is not a key ID"),
        ({"timeout": 0}, "timeout is 0: set it to 1 or more"),
        ({"ip_allowlist": ["x"]}, "ip_allowlist: 'x' is not an IP address or a CIDR range"),
        ({"proxy": "no-url"}, "proxy: set it to a URL of the form"),
    ],
)
def test_invalid_options(server: Server, check: Check, options: Json, message: str) -> None:
    result = check(**options)
    assert result["failed"] and message in result["msg"] and server.requests == []
