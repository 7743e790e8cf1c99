# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""matrix_ghosts_info and matrix_ghosts: options, messages and results. A stub answers under our own name."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.matrixops.synapse.plugins.module_utils import _federation_module
from ansible_collections.matrixops.synapse.plugins.modules import matrix_ghosts, matrix_ghosts_info
from stubs import faults
from stubs.answers import Answer
from stubs.homeserver import INVALID_TOKEN, Homeserver
from stubs.remote_server import RemoteServer
from stubs.rooms import Room

from .conftest import RunModule, StartServer

MODULES = {"matrix_ghosts_info": matrix_ghosts_info, "matrix_ghosts": matrix_ghosts}
SYNAPSE = "http://localhost:1"
TOKEN = "syt_operator"
both = pytest.mark.parametrize("name", MODULES)

Json = dict[str, Any]


class Us:
    """Our server, at which only its keys are left, and one remote server with a room."""

    def __init__(self, start: StartServer, ca_file: str) -> None:
        self.own = start()
        self.name = self.own.server_name
        self.own.inject("version", faults.error(404, "M_UNRECOGNIZED", "Unrecognized request"))
        self.alice, self.bob, self.carol = (f"@{name}:{self.name}" for name in ("alice", "bob", "carol"))
        self._start = start
        self._ca_file = ca_file

    def server(self, *rooms: Room, **more: Any) -> RemoteServer:
        """A remote server that knows our key."""
        server = self._start(*rooms, **more)
        server.known_keys[self.name] = self.own.key.key_answer()
        return server

    def options(self, *servers: RemoteServer, **more: Any) -> Json:
        """Options that ask these servers about all of their rooms."""
        rooms = [
            {
                "room_id": room_id,
                "servers": [server.server_name for server in servers if room_id in server.rooms],
                "accounts": [self.alice, self.bob],
                "pending": [self.carol],
            }
            for room_id in dict.fromkeys(room_id for server in servers for room_id in server.rooms)
        ]
        options = {
            "server_name": self.name,
            "signing_key": self.own.key.key_file,
            "rooms": rooms,
            "ip_allowlist": ["127.0.0.1", "::1"],
            "ca_path": self._ca_file,
            "max_rate": 10_000,
            **more,
        }
        return {key: value for key, value in options.items() if value is not None}

    @property
    def secret(self) -> str:
        return self.own.key.key_file.split()[2]


@pytest.fixture
def us(remote: StartServer, ca_file: str) -> Us:
    return Us(remote, ca_file)


@pytest.fixture
def homeserver(us: Us) -> Homeserver:
    """Our homeserver."""
    return Homeserver(server_name=us.name)


@pytest.fixture
def connection(homeserver: Homeserver) -> Iterator[Json]:
    """The options to ask our homeserver."""
    with homeserver.serve() as url:
        yield {"base_url": url, "access_token": TOKEN}


# Results


def assert_documented(documented: Json, found: Json) -> None:
    """What is returned is what is documented, and of these types."""
    kinds = {"int": int, "str": str, "list": list, "dict": dict, "bool": bool}
    assert set(found) == set(documented)
    for key, entry in documented.items():
        kind = kinds[entry["type"]]
        assert isinstance(found[key], kind) and isinstance(found[key], bool) is (kind is bool), key
        if "contains" in entry:
            inner = found[key] if entry["type"] == "list" else [found[key]]
            assert inner, f"{key} has nothing that could be looked at"
            for each in inner:
                assert_documented(entry["contains"], each)


@both
@pytest.mark.parametrize("check", [False, True])
def test_results_are_as_documented(us: Us, run_module: RunModule, name: str, check: bool) -> None:
    room, barred = Room({us.alice: "join"}, name="a"), Room({us.alice: "join"}, name="b")
    barred.banned_servers.add(us.name)
    result = run_module(name, us.options(us.server(room, barred)), check=check)
    changed = result.pop("changed")
    assert changed is (name == "matrix_ghosts")
    assert_documented(yaml.safe_load(MODULES[name].RETURN), result)


def test_listed_accounts(us: Us, run_module: RunModule) -> None:
    room = Room({us.alice: "join", us.bob: "leave", us.carol: "invite"})
    server, down = us.server(room), us.server(room)
    down.stop()
    result = run_module("matrix_ghosts_info", us.options(server, down))
    requests = len(server.requests) + 3  # and one in each round to the server that is down
    assert result == {
        "changed": False,
        "message": "0 of 2 pairs of server and room confirmed; 1 with ghosts; 1 unreachable",
        "sources": {"rooms": 1},
        "key_id": us.own.key.key_id,
        "pairs": 2,
        "counts": {"confirmed": 0, "ghosts": 1, "refused": 0, "unreachable": 1, "unconfirmed": 0},
        "ghosts": 2,
        "requests": requests,
        "servers": result["servers"],
        "not_confirmed": result["not_confirmed"],
    }
    assert {row["server"]: row for row in result["servers"]}[server.server_name] == {
        "server": server.server_name,
        "rooms": 1,
        "confirmed": 0,
        "ghosts": 1,
        "refused": 0,
        "unreachable": 0,
        "unconfirmed": 0,
        "removed": 0,
    }
    result["not_confirmed"][0]["ghosts"].sort(key=lambda ghost: ghost["user_id"])
    result["not_confirmed"][1]["ghosts"].sort(key=lambda ghost: ghost["user_id"])
    listed, unreachable = sorted(result["not_confirmed"], key=lambda pair: pair["state"])
    assert listed == {
        "server": server.server_name,
        "room_id": room.room_id,
        "state": "ghosts",
        "reason": "",
        "ghosts": [{"user_id": us.alice, "membership": "join"}, {"user_id": us.carol, "membership": "invite"}],
        "ghosts_total": 2,
    }
    assert (unreachable["state"], unreachable["ghosts"]) == ("unreachable", []) and unreachable["reason"]
    assert not server.leaves


def test_removal_check_mode_and_diff(us: Us, run_module: RunModule, tmp_path: Path) -> None:
    room = Room({us.alice: "join", us.bob: "leave", us.carol: "invite"})
    server = us.server(room)
    record, progress = tmp_path / "record", tmp_path / "progress"
    options = us.options(server, record_path=str(record), progress_path=str(progress))
    before = "".join(f"{server.server_name} {room.room_id} {user_id}\n" for user_id in (us.alice, us.carol))

    planned = run_module("matrix_ghosts", options, check=True, diff=True)
    assert (planned["changed"], planned["ghosts"], planned["removed"]) == (True, 2, 0)
    assert planned["diff"] == {"before": before, "after": ""}
    assert not server.asked("send_leave") and list(tmp_path.iterdir()) == []

    done = run_module("matrix_ghosts", options, diff=True)
    assert (done["changed"], done["ghosts"], done["removed"], done["counts"]["confirmed"]) == (True, 0, 2, 1)
    assert done["diff"] == planned["diff"]
    assert done["not_confirmed"] == [] and done["servers"][0]["removed"] == 2
    assert list(tmp_path.iterdir()) == [record]

    written = record.read_bytes()
    server.requests.clear()
    for check in (True, False):
        again = run_module("matrix_ghosts", options, check=check, diff=True)
        assert (again["changed"], again["removed"], again["counts"]["confirmed"]) == (False, 0, 1)
        assert again["diff"] == {"before": "", "after": ""}
        assert record.read_bytes() == written
    assert not server.requests, "what is confirmed is not asked about again"


def test_a_server_that_keeps_a_ghost(us: Us, run_module: RunModule) -> None:
    room, other = Room({us.alice: "join"}, name="a"), Room({us.bob: "join"}, name="b")
    faulty, normal = us.server(room), us.server(other)
    faulty.inject("send_leave", faults.instead(Answer.of(200, {})))
    result = run_module("matrix_ghosts", us.options(faulty, normal), diff=True)
    assert result["failed"] and result["changed"]
    assert result["msg"] == (
        f"Ghosts remain in 1 rooms of remote servers, for example on {faulty.server_name} in {room.room_id}: 1 account"
        " still listed after an accepted leave. Run the task again, and see not_confirmed for the others"
    )
    assert (result["counts"]["ghosts"], result["counts"]["confirmed"], result["ghosts"]) == (1, 1, 1)
    assert result["diff"]["after"] == f"{faulty.server_name} {room.room_id} {us.alice}\n"


@both
def test_no_rooms(us: Us, run_module: RunModule, name: str) -> None:
    result = run_module(name, us.options(rooms=[]), diff=True)
    assert (result["changed"], result["pairs"], result["ghosts"]) == (False, 0, 0)
    assert result["servers"] == result["not_confirmed"] == []


def test_control_characters_of_a_server_are_on_no_terminal(us: Us, run_module: RunModule) -> None:
    server = us.server(Room({us.alice: "join"}))
    server.inject("state_ids", faults.error(400, "\x1b[2J", "\x1b]0;owned\x07\u202e"))
    result = run_module("matrix_ghosts", us.options(server), diff=True)
    (pair,) = result["not_confirmed"]
    assert pair["reason"].isprintable() and "owned" in pair["reason"]


# A homeserver of ours


def test_a_homeserver_answers_under_our_name(us: Us, run_module: RunModule) -> None:
    us.own.remove_faults()
    server = us.server(Room({us.alice: "join"}))
    result = run_module("matrix_ghosts", us.options(server))
    assert result["msg"] == "Synapse 1.163.2 answers under server_name: set base_url and access_token"
    assert not server.asked("send_leave")
    assert run_module("matrix_ghosts_info", us.options(server))["ghosts"] == 1
    assert run_module("matrix_ghosts", us.options(server), check=True)["ghosts"] == 1


def test_accounts_joined_on_the_homeserver_are_kept(
    us: Us, run_module: RunModule, homeserver: Homeserver, connection: Json
) -> None:
    room = Room({us.alice: "join", us.bob: "join", us.carol: "invite"})
    server = us.server(room)
    homeserver.members = {"!another:room.example": {us.alice: "join"}, room.room_id: {us.bob: "join"}}
    result = run_module("matrix_ghosts", us.options(server, **connection))
    assert [room.membership(user_id) for user_id in (us.alice, us.bob, us.carol)] == ["leave", "join", "leave"]
    assert result["failed"] and result["removed"] == 2
    assert "still joined on this server, so not removed" in result["msg"]


def test_a_homeserver_that_fails_in_the_middle(
    us: Us, run_module: RunModule, homeserver: Homeserver, connection: Json
) -> None:
    """What was removed until then is not denied."""
    room = Room({us.alice: "join", us.bob: "join"})
    server = us.server(room)
    homeserver.faults[f"GET joined_rooms {us.bob}"] = (200, {"joined_rooms": None})
    result = run_module("matrix_ghosts", us.options(server, **connection))
    assert [room.membership(user_id) for user_id in (us.alice, us.bob)] == ["leave", "join"]
    assert result["failed"] and result["changed"]


def test_rooms_of_the_homeserver(us: Us, run_module: RunModule, homeserver: Homeserver, connection: Json) -> None:
    room = Room({us.alice: "join"})
    server = us.server(room)
    homeserver.members[room.room_id] = {us.alice: "leave", f"@creator:{server.server_name}": "join"}
    result = run_module("matrix_ghosts_info", us.options(rooms=None, **connection))
    assert (result["pairs"], result["ghosts"], result["servers"][0]["server"]) == (1, 1, server.server_name)


def test_another_homeserver(us: Us, run_module: RunModule, homeserver: Homeserver, connection: Json) -> None:
    homeserver.faults["GET whoami account"] = (200, {"user_id": "@op:other.example"})
    result = run_module("matrix_ghosts", us.options(**connection))
    assert result["msg"] == f"base_url is the URL of other.example, but server_name is {us.name}: correct one of them"


def test_a_token_that_is_not_valid(us: Us, run_module: RunModule, homeserver: Homeserver, connection: Json) -> None:
    homeserver.faults["GET whoami account"] = INVALID_TOKEN
    result = run_module("matrix_ghosts_info", us.options(**connection))
    assert (result["status"], result["errcode"]) == (401, "M_UNKNOWN_TOKEN")
    assert "Invalid access token" in result["msg"] and TOKEN not in str(result)


# Options and messages

CHANGES: dict[str, tuple[Json, str]] = {
    "timeout": ({"timeout": 0}, "timeout is 0: set it to 1 or more"),
    "max_concurrent": ({"max_concurrent": -1}, "max_concurrent is -1: set it to 1 or more"),
    "max_rate": ({"max_rate": 0}, "max_rate is 0: set it to 1 or more"),
    "max_state_size": ({"max_state_size": 0}, "max_state_size is 0: set it to 1 or more"),
    "no rooms and no homeserver": (
        {"rooms": None},
        "No source of rooms: set at least one of rooms, rooms_paths, witness_url, log_paths and base_url",
    ),
    "no token": ({"base_url": SYNAPSE}, "missing parameter(s) required by 'base_url': access_token"),
    "no server_name": ({"server_name": None}, "missing required arguments: server_name"),
    "no server names": (
        {"rooms": [{"room_id": "!a:b.example"}]},
        "missing required arguments: servers found in rooms",
    ),
    "ip_allowlist": (
        {"ip_allowlist": ["127.0.0.1", "10.0.0.0/33"]},
        "ip_allowlist: '10.0.0.0/33' is not an IP address or a CIDR range",
    ),
    "proxy": (
        {"proxy": "socks5://user:hunter2@a:1"},
        "proxy: set it to a URL of the form http://[user:password@]host:port",
    ),
    "ca_path": ({"ca_path": "/nonexistent/ca.pem"}, "/nonexistent/ca.pem"),
    "server_name": ({"server_name": "old example", "rooms": []}, "server_name: 'old example' is not a server name"),
    "another server's account": (
        {"rooms": [{"room_id": "!a:b.example", "servers": ["b.example"], "accounts": ["@a:b.example"]}]},
        "rooms[].accounts: '@a:b.example' is not a user ID of localhost:",
    ),
    "another server's invite": (
        {"rooms": [{"room_id": "!a:b.example", "servers": ["b.example"], "pending": ["alice"]}]},
        "rooms[].pending: 'alice' is not a user ID",
    ),
    "a room alias": (
        {"rooms": [{"room_id": "#a:b.example", "servers": ["b.example"]}]},
        "rooms[].room_id: '#a:b.example' is not a room ID",
    ),
    "a URL": (
        {"rooms": [{"room_id": "!a:b.example", "servers": ["https://b.example"]}]},
        "rooms[].servers: 'https://b.example' is not a server name",
    ),
    "a room twice": (
        {"rooms": [{"room_id": "!a:b.example", "servers": [name]} for name in ("b.example", "c.example")]},
        "rooms: !a:b.example has 2 entries: list all of its servers in one entry",
    ),
    "no key file": (
        {"signing_key": None, "signing_key_path": "/nonexistent/homeserver.signing.key"},
        "signing_key_path: /nonexistent/homeserver.signing.key: No such file or directory: set it to the"
        " signing_key_path of homeserver.yaml",
    ),
    "a directory": ({"signing_key": None, "signing_key_path": "/"}, "signing_key_path: /: Is a directory: set it to"),
    "a record that cannot be written": ({"record_path": "/nonexistent/record"}, "record_path can't be written"),
}


@both
@pytest.mark.parametrize("change", CHANGES)
def test_options_are_validated(us: Us, run_module: RunModule, name: str, change: str) -> None:
    changes, message = CHANGES[change]
    server = us.server(Room({us.alice: "join"}))
    result = run_module(name, us.options(server, **changes))
    assert message in result["msg"] and result["msg"].isprintable()
    assert not result.get("changed") and "hunter2" not in str(result)
    assert not server.requests


@both
def test_the_server_itself_is_no_remote_server(us: Us, run_module: RunModule, name: str) -> None:
    result = run_module(
        name,
        us.options(
            us.server(Room({})),
            us.own,
            rooms=[
                {"room_id": "!a:b.example", "servers": ["b.example", us.name]},
            ],
        ),
    )
    assert result["msg"] == f"rooms[].servers: {us.name} is server_name itself: list remote servers only"


def test_a_key_file(us: Us, run_module: RunModule, tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    path.write_text(us.own.key.key_file)
    options = us.options(us.server(Room({})), signing_key=None, signing_key_path=str(path))
    assert run_module("matrix_ghosts_info", options)["counts"]["confirmed"] == 1


def test_a_key_file_that_may_not_be_read(us: Us, run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = builtins.open

    def denied(path: Any, *arguments: Any, **more: Any) -> Any:
        if str(path).endswith("homeserver.signing.key"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *arguments, **more)

    monkeypatch.setattr(builtins, "open", denied)
    result = run_module("matrix_ghosts_info", us.options(signing_key=None))
    assert result["msg"] == (
        "signing_key_path: /etc/matrix-synapse/homeserver.signing.key can't be read by this user: set become: true"
    )


def test_a_record_of_another_server(us: Us, run_module: RunModule, tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.write_text('{"server_name": "other.example", "format": 1}\n')
    result = run_module("matrix_ghosts", us.options(us.server(Room({})), record_path=str(record)))
    assert result["msg"] == f"{record} is not a record of {us.name}: set another record_path"


@pytest.mark.parametrize("library", ["requests", "signedjson", "dnspython"])
def test_a_missing_requirement(us: Us, run_module: RunModule, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    from ansible_collections.matrixops.synapse.plugins.module_utils._federation import discovery, signing, transport

    options = us.options(base_url=SYNAPSE, access_token=TOKEN) if library == "requests" else us.options()
    monkeypatch.setattr(
        *{
            "requests": (_federation_module, "REQUESTS_IMPORT_ERROR", "no"),
            "signedjson": (signing, "SIGNEDJSON_IMPORT_ERROR", "no"),
            "dnspython": (discovery, "HAS_DNSPYTHON", False),
        }[library]
    )
    expected = f"the Python library {library} is missing: install python3-{library} (Debian package) or {library} (pip)"
    assert run_module("matrix_ghosts_info", options)["msg"] == expected
    if library == "requests":
        monkeypatch.setattr(transport, "HAS_REQUESTS", False)
        assert run_module("matrix_ghosts_info", us.options())["msg"] == expected


# The key is in no output


@both
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.replace("a_stub", "a_other"),
        lambda text: text.replace("ed25519", "rsa"),
        lambda text: text.replace("a_stub", 'a_"stub'),
        lambda text: text.strip()[:-1],
        lambda text: text.replace(" ", "\n"),
        lambda text: text.split()[2],
        lambda text: text + "garbage\n",
        lambda text: "\x00" + text,
        lambda text: json.dumps({"key": text}),
    ],
)
@pytest.mark.parametrize("from_file", [False, True])
def test_the_key_is_in_no_output(
    us: Us, run_module: RunModule, tmp_path: Path, name: str, change: Callable[[str], str], from_file: bool
) -> None:
    text = change(us.own.key.key_file)
    path = tmp_path / "signing.key"
    path.write_text(text)
    key = {"signing_key": None, "signing_key_path": str(path)} if from_file else {"signing_key": text}
    record = tmp_path / "record"
    server = us.server(Room({us.alice: "join"}))
    result = run_module(name, us.options(server, record_path=str(record), **key), diff=True)
    shown = json.dumps(result) + (record.read_text() if record.exists() else "")
    assert us.secret[:20] not in shown
    if change(us.own.key.key_file) == us.own.key.key_file:
        assert not result.get("failed")
    else:
        assert "signing key" in result["msg"] and not server.leaves
    for request in (*server.requests, *us.own.requests):
        assert us.secret[:20] not in f"{request.target}{request.headers}{request.body!r}"


def test_binary_garbage_for_a_key(us: Us, run_module: RunModule, tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    path.write_bytes(b"\xff\xfe" + us.own.key.key_file.encode())
    result = run_module("matrix_ghosts", us.options(signing_key=None, signing_key_path=str(path)))
    assert result["msg"] == f"signing_key_path: {path} is not a signing key file"
    assert us.secret not in str(result)
