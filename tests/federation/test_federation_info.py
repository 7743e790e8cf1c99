# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""matrix_federation_info: the signing key, and which remote servers answer."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.matrixops.synapse.plugins.modules import matrix_federation_info
from stubs import faults
from stubs.answers import Answer
from stubs.remote_server import RemoteServer

from .conftest import RunModule, StartServer
from .test_modules import Json, Us, assert_documented

MODULE = "matrix_federation_info"
GENEROUS = 60.0


@pytest.fixture
def us(remote: StartServer, ca_file: str) -> Us:
    return Us(remote, ca_file)


def options(us: Us, *servers: RemoteServer | str, **more: Any) -> Json:
    """Options with which the module asks these servers, given as stubs or by name."""
    names = [server if isinstance(server, str) else server.server_name for server in servers]
    return us.options(**{"rooms": None, "servers": names, **more})


@pytest.mark.parametrize("check", [False, True])
def test_servers_that_answer_and_one_that_is_down(us: Us, run_module: RunModule, check: bool) -> None:
    up, down, other = us.server(), us.server(), us.server(implementation="dendrite")
    down.stop()
    result = run_module(MODULE, options(us, up, down, other, up), check=check)
    assert not result.pop("changed")
    assert_documented(yaml.safe_load(matrix_federation_info.RETURN), result)
    assert result == {
        "key_id": us.own.key.key_id,
        "published_keys": us.own.key.verify_keys,
        "homeserver": "",
        "servers": [
            {"server": up.server_name, "answers": True, "reason": ""},
            {"server": down.server_name, "answers": False, "reason": result["servers"][1]["reason"]},
            {"server": other.server_name, "answers": True, "reason": ""},
        ],
    }
    assert "Connection refused" in result["servers"][1]["reason"]
    for server in (up, other):
        (request,) = server.requests
        assert (request.method, request.endpoint, request.body) == ("GET", "version", b"")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (faults.page(), "answered with HTTP 200 and text/html instead of a JSON object"),
        (
            faults.error(404, "M_UNRECOGNIZED", "Unrecognized request"),
            "unexpected answer 404 M_UNRECOGNIZED Unrecognized",
        ),
        (faults.instead(Answer.of(502, {})), "its reverse proxy answered with HTTP 502"),
        (faults.redirect("https://198.51.100.7/"), "redirected (HTTP 302) to https://198.51.100.7/"),
        (faults.big(1), "the answer has more than"),
        (faults.raw(b""), ""),
        (faults.error(400, "\x1b[2J", "\x1b]0;owned\x07\u202e" + "x" * 1000), "owned"),
    ],
)
def test_an_answer_that_does_not_count(us: Us, run_module: RunModule, fault: faults.Fault, words: str) -> None:
    server = us.server()
    server.inject("version", fault)
    (found,) = run_module(MODULE, options(us, server))["servers"]
    assert (found["server"], found["answers"]) == (server.server_name, False)
    assert words in found["reason"]
    assert found["reason"].isprintable() and 0 < len(found["reason"]) <= 300


@pytest.mark.parametrize("name", ["https://b.example", "b.example\x1b[2J", "\u202e.example", 'b.example",key="x', ""])
@pytest.mark.parametrize("own_answers", [True, False])
def test_an_invalid_name_of_a_server(us: Us, run_module: RunModule, name: str, own_answers: bool) -> None:
    """Names come from rooms, so one that is not valid fails nothing."""
    server = us.server()
    if not own_answers:
        us.own.stop()
    result = run_module(MODULE, options(us, name, server))
    bad, good = result["servers"]
    assert bad["answers"] is False and "is not a server name" in bad["reason"] and bad["server"].isprintable()
    assert good == {"server": server.server_name, "answers": True, "reason": ""}


def test_a_private_address(us: Us, run_module: RunModule) -> None:
    server = us.server()
    (found,) = run_module(MODULE, options(us, server, ip_allowlist=[]))["servers"]
    assert not found["answers"] and "127.0.0.1" in found["reason"] and not server.requests


def test_servers_are_asked_side_by_side(us: Us, run_module: RunModule) -> None:
    """No server answers before all were asked."""
    servers = [us.server() for _number in range(matrix_federation_info.SERVERS_AT_ONCE)]
    barrier = threading.Barrier(len(servers))

    def wait(_answer: Any) -> Any:
        barrier.wait(GENEROUS)
        return _answer

    for server in servers:
        server.inject("version", faults.changed(wait))
    assert all(row["answers"] for row in run_module(MODULE, options(us, *servers))["servers"])


@pytest.mark.parametrize("more", [{}, {"servers": None}])
def test_without_servers_only_the_key_is_checked(us: Us, run_module: RunModule, more: Json) -> None:
    us.own.remove_faults()
    result = run_module(MODULE, options(us, **more))
    assert result == {
        "changed": False,
        "key_id": us.own.key.key_id,
        "published_keys": us.own.key.verify_keys,
        "homeserver": "Synapse 1.163.2",
        "servers": [],
    }


def test_a_homeserver_with_a_hostile_version(us: Us, run_module: RunModule) -> None:
    us.own.remove_faults()
    us.own.inject("version", faults.instead(Answer.of(200, {"server": {"name": "\x1b[2J", "version": "x" * 10_000}})))
    found = run_module(MODULE, options(us))["homeserver"]
    assert found.isprintable() and found.startswith("\\x1b[2J x") and len(found) < 400


def test_a_homeserver_that_cannot_be_reached(us: Us, run_module: RunModule) -> None:
    """It counts as gone, also where it runs; a remote server has its key."""
    us.own.remove_faults()
    us.own.stop()
    result = run_module(MODULE, options(us, us.server()))
    assert (result["homeserver"], result["servers"][0]["answers"]) == ("", True)


def test_a_key_file(us: Us, run_module: RunModule, tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    path.write_text(us.own.key.key_file)
    result = run_module(MODULE, options(us, signing_key=None, signing_key_path=str(path)))
    assert result["key_id"] == us.own.key.key_id


MISSING = "/nonexistent/homeserver.signing.key"
FAILURES: dict[str, tuple[Json, str]] = {
    "no key": (
        {"signing_key": None, "signing_key_path": MISSING},
        f"signing_key_path: {MISSING}: No such file or directory: set it to the signing_key_path of homeserver.yaml",
    ),
    "a directory": ({"signing_key": None, "signing_key_path": "/"}, "signing_key_path: /: Is a directory: set it to"),
    "no key in it": ({"signing_key": "hunter2"}, "cannot read the signing key: each line must have the form"),
    "server_name": ({"server_name": "old example"}, "server_name: 'old example' is not a server name"),
    "max_rate": ({"max_rate": 0}, "max_rate is 0: set it to 1 or more"),
    "ip_allowlist": ({"ip_allowlist": ["10.0.0.0/33"]}, "ip_allowlist: '10.0.0.0/33' is not an IP address or a CIDR"),
    "an option of the others": ({"record_path": "/tmp/record"}, "Unsupported parameters"),
}


@pytest.mark.parametrize("change", FAILURES)
def test_failures(us: Us, run_module: RunModule, change: str) -> None:
    changes, message = FAILURES[change]
    server = us.server()
    result = run_module(MODULE, options(us, server, **changes))
    assert result["failed"] and not result.get("changed")
    assert message in result["msg"] and "hunter2" not in str(result)
    assert not server.requests


def test_a_key_that_is_not_the_published_one(us: Us, run_module: RunModule) -> None:
    server = us.server()
    other_id = us.own.key.key_file.replace("a_stub", "a_other")
    result = run_module(MODULE, options(us, server, signing_key=other_id))
    assert result["msg"] == (
        f"signing key ed25519:a_other is not published by {us.name}, which publishes {us.own.key.key_id}: use that key,"
        " or publish this key"
    )
    result = run_module(MODULE, options(us, server, signing_key=server.key.key_file))
    assert "differs from the" in result["msg"] and "publish this key under a new key ID" in result["msg"]
    assert us.secret not in json.dumps(result) and not server.requests


def test_an_unknown_key(us: Us, run_module: RunModule) -> None:
    us.own.stop()
    server = us.server()
    del server.known_keys[us.name]
    result = run_module(MODULE, options(us, server))
    assert f"can't be verified: serve /_matrix/key/v2/server under {us.name}" in result["msg"]
