# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options, and what becomes of errors. What a poll does is in the two files test_propagation.py."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Iterator

import pytest
import yaml
from ansible_collections.matrixops.synapse.plugins.module_utils import _propagation_module
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import propagation
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import GhostRun
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import Pair, PairResult
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.connect import Settings
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import SigningKeyError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError, request_error
from ansible_collections.matrixops.synapse.plugins.modules import synapse_propagation as module
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW, OPERATOR, SERVER, Json, room_id
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver

Run = Callable[..., Json]

NAME = "synapse_propagation"
ALICE = f"@alice:{SERVER}"
A, B = "a.example", "b.example"
R = room_id("r")
WEEK = 604_800
KEY = "ed25519 a_test 5lXEvHBGwqM9JBEJ8bTzQ8AzIgvYI6ApSHcO8QhNbVE"


class Federation:
    """What stands for the remote servers: which results they give, and how they were connected to."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.removed: dict[str, tuple[str, ...]] = {}
        self.error: Exception | None = None
        self.connected: list[tuple[str, str, Settings, list[str]]] = []
        self.dry_runs: list[bool] = []
        self.clock_offsets: list[float] = []

    @contextmanager
    def connect(self, server_name: str, key: str, settings: Settings, servers: list[str]) -> Iterator[Any]:
        self.connected.append((server_name, key, settings, list(servers)))
        yield SimpleNamespace(client=self)


class FakeRun(GhostRun):
    client: Any

    def check(self, rooms: Any) -> None:
        self._each(rooms, dry_run=True)

    def remove(self, rooms: Any, may_leave: Any) -> None:
        self._each(rooms, dry_run=False)

    def _each(self, rooms: Any, dry_run: bool) -> None:
        federation: Federation = self.client
        federation.dry_runs.append(dry_run)
        for room in rooms:
            for server in room.servers:
                removed = () if dry_run else federation.removed.get(server, ())
                state = federation.states.get(server, "confirmed")
                self._keep(PairResult(Pair(server, room.room_id), state, {}, "why", removed=removed))
        if federation.error is not None:
            raise federation.error


@pytest.fixture
def federation(monkeypatch: pytest.MonkeyPatch) -> Federation:
    federation = Federation()
    monkeypatch.setattr(_propagation_module, "connect", federation.connect)
    monkeypatch.setattr(propagation, "GhostRun", FakeRun)
    return federation


@pytest.fixture
def homeserver() -> Iterator[Homeserver]:
    with Homeserver.mocked() as homeserver:
        homeserver.register("alice")
        homeserver.members = {R: {ALICE: "leave", f"@a:{A}": "join", f"@b:{B}": "join"}}
        homeserver.left_at(NOW)
        yield homeserver


@pytest.fixture
def options(tmp_path: Path) -> Json:
    path = tmp_path / "signing.key"
    path.write_text(KEY)
    return {"period": WEEK, "signing_key_path": str(path)}


def test_results_are_as_documented(homeserver: Homeserver, federation: Federation, run: Run, options: Json) -> None:
    federation.states[B] = "refused"
    result = run(NAME, options)
    documented = yaml.safe_load(module.RETURN)
    kinds = {"int": int, "str": str, "list": list, "dict": dict, "bool": bool}
    assert set(result) == {*documented, "changed"}
    for key, entry in documented.items():
        kind = kinds[entry["type"]]
        assert isinstance(result[key], kind) and isinstance(result[key], bool) is (kind is bool), key
    for row in result["servers"]:
        assert set(row) == set(documented["servers"]["contains"])
    assert set(result["servers"][0]["open_rooms"][0]) == {"room_id", "state", "reason", "ghosts", "can_kick"}


def test_options_are_passed_on(homeserver: Homeserver, federation: Federation, run: Run, options: Json) -> None:
    more = {
        "federation_ca_path": "/etc/ca.pem",
        "federation_proxy": "http://proxy:3128",
        "federation_ip_allowlist": ["10.0.0.0/8"],
        "federation_timeout": 7,
        "ignore": [B],
    }
    result = run(NAME, {**options, **more})
    expected = Settings(ca_path="/etc/ca.pem", proxy="http://proxy:3128", ip_allowlist=("10.0.0.0/8",), timeout=7.0)
    assert federation.connected == [(SERVER, KEY, expected, [A])]
    assert result["ignored"] == [B]
    assert "proxy:3128" not in str(result)


@pytest.mark.parametrize(("given", "broken"), [(None, None), ({}, {}), ({R: "500"}, {R: "500"})])
def test_options_of_the_propagation(
    homeserver: Homeserver, run: Run, monkeypatch: pytest.MonkeyPatch, given: Json | None, broken: Json | None
) -> None:
    passed = []

    def start(_client: object, options: propagation.Options, **_more: object) -> None:
        passed.append(options)
        raise OSError("not needed")

    monkeypatch.setattr(_propagation_module, "Propagation", start)
    options = {"early_exit": True, "unreachable_after": 2, "poll_interval": 3, "recheck": True, "ignore": [A]}
    run(NAME, {"period": 1, **options, "broken_rooms": given})
    assert passed == [propagation.Options(1, True, 2, 3, True, frozenset([A]), broken)]


def test_ghosts_are_removed(homeserver: Homeserver, federation: Federation, run: Run, options: Json) -> None:
    federation.removed[A] = (ALICE,)
    result = run(NAME, options)
    assert (result["changed"], result["removed"], federation.dry_runs) == (True, 1, [False])
    federation.removed.clear()
    assert run(NAME, options)["changed"] is False


def test_check_mode_removes_nothing(homeserver: Homeserver, federation: Federation, run: Run, options: Json) -> None:
    federation.states[A] = "ghosts"
    federation.removed[A] = (ALICE,)
    result = run(NAME, {**options, "lease": "me"}, check=True)
    assert (result["changed"], result["summary"]["ghosts"], federation.dry_runs) == (False, 1, [True])
    assert homeserver.writes == []


@pytest.mark.parametrize("path", ["/nowhere/signing.key", None])
def test_without_checks_no_key_is_needed(
    homeserver: Homeserver, federation: Federation, run: Run, options: Json, path: str | None
) -> None:
    result = run(NAME, {**options, "ghost_checks": False, "signing_key_path": path})
    assert (result["checked"], result["finished"], result["summary"]["unconfirmed"]) == (False, False, 2)
    assert federation.connected == []


def test_without_remote_servers_no_key_is_needed(
    homeserver: Homeserver, federation: Federation, run: Run, options: Json
) -> None:
    homeserver.members = {R: {ALICE: "leave"}}
    result = run(NAME, {**options, "signing_key_path": "/nowhere/signing.key", "early_exit": True})
    assert (result["checked"], result["finished"], result["summary"]["servers"]) == (True, True, 0)
    assert federation.connected == []


# Errors


def test_nobody_has_left(homeserver: Homeserver, federation: Federation, run: Run, options: Json) -> None:
    homeserver.left_at(None)
    result = run(NAME, options)
    assert result["failed"] and "run the stages drain and leave_rooms" in result["msg"]


def test_no_key(homeserver: Homeserver, federation: Federation, run: Run, options: Json) -> None:
    result = run(NAME, {**options, "signing_key_path": "/nowhere/signing.key"})
    assert result["failed"] and "/nowhere/signing.key" in result["msg"]
    assert result["errcode"] == "INVALID_OPTION"
    assert (result["changed"], result["removed"]) == (False, 0)


@pytest.mark.parametrize(
    "error",
    [
        SigningKeyError("not published \x1b[2J"),
        FatalError("not published \x1b[2J"),
        OSError("not published \x1b[2J"),
        ValueError("not published \x1b[2J"),
    ],
)
def test_what_was_removed_before_an_error_counts(
    homeserver: Homeserver, federation: Federation, run: Run, options: Json, error: Exception
) -> None:
    federation.removed[A] = (ALICE,)
    federation.error = error
    result = run(NAME, options)
    assert result["failed"] and result["msg"] == "not published \\x1b[2J"
    assert (result["changed"], result["removed"]) == (True, 1)


def test_an_error_of_synapse_is_told_in_full(
    homeserver: Homeserver, federation: Federation, run: Run, options: Json
) -> None:
    federation.error = request_error("gone", method="GET", url="x", status=401, errcode="M_UNKNOWN_TOKEN")
    result = run(NAME, options)
    assert (result["status"], result["errcode"]) == (401, "M_UNKNOWN_TOKEN")


def test_an_address_that_is_none(homeserver: Homeserver, run: Run, options: Json) -> None:
    result = run(NAME, {**options, "federation_ip_allowlist": ["everywhere"]})
    assert result["failed"] and "'everywhere' is not an IP address or a CIDR range" in result["msg"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"period": -1}, "period is -1: set it to 0 or more"),
        ({"unreachable_after": -1}, "unreachable_after is -1: set it to 0 or more"),
        ({"federation_timeout": 0}, "federation_timeout is 0: set it to 1 or more"),
        ({"poll_interval": 0}, "poll_interval is 0, but must be 1 or more"),
        ({"concurrency": 0}, "concurrency is 0, but must be 1 or more"),
        ({"period": None}, "missing required arguments: period"),
    ],
)
def test_nonsense_is_refused_in_words(run: Run, options: Json, more: Json, words: str) -> None:
    result = run(NAME, {**options, **more})
    assert result["failed"] and words in result["msg"]
    assert result["errcode"] == "INVALID_OPTION"


@pytest.mark.parametrize(("clock", "ok"), [(NOW + 300, True), (NOW + 301, False), (NOW - 301, False)])
def test_a_clock_that_differs(
    homeserver: Homeserver, federation: Federation, run: Run, options: Json, clock: int, ok: bool
) -> None:
    result = run(NAME, {**options, "clock": clock})
    assert bool(result.get("failed")) is not ok
    assert bool(federation.connected) is ok


def test_another_run(homeserver: Homeserver, federation: Federation, run: Run, options: Json) -> None:
    homeserver.account_data[OPERATOR, "io.github.matrixops.decommission.lease"] = {
        "holder": "other",
        "until": 0,
        "former": ["me"],
        "server_name": SERVER,
    }
    result = run(NAME, {**options, "lease": "me"})
    assert result["failed"] and result["errcode"] == "LEASE_TAKEN"
    assert federation.connected == []
