# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""synapse_propagation as a whole: remote servers over TLS, and a stub of the admin API of our server."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils import _propagation_module
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import ghosts, propagation
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import (
    Record,
    RecordedResult,
    Retry,
    read_record,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import PairResult
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.connect import Settings
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.pacing import Pacing
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from stubs import faults
from stubs.helpers import NOW, TOKEN
from stubs.homeserver import Homeserver
from stubs.remote_server import RemoteServer
from stubs.rooms import Room

from .conftest import RunModule, StartServer
from .test_modules import Json, Us

MODULE = "synapse_propagation"
WEEK = 604_800


class Killed(BaseException):
    """The run ends here."""


class Scene:
    """Two rooms, that a server which is up and one which is down still list accounts of ours in."""

    def __init__(self, us: Us, homeserver: Homeserver, url: str, run_module: RunModule, key_path: Path) -> None:
        self.us, self.homeserver, self.url, self._run_module = us, homeserver, url, run_module
        self.key_path = key_path
        key_path.write_text(us.own.key.key_file)
        self.rooms = [Room({us.alice: "join", us.bob: "join", us.carol: "leave"}, name=name) for name in ("a", "b")]
        # The servers never hear of each other.
        self.others = [Room({us.alice: "join", us.bob: "leave"}, name=name) for name in ("a", "b")]
        self.up, self.down = us.server(*self.rooms), us.server(*self.others)
        self.down.stop()
        for room in self.rooms:
            others = (f"@someone:{server.server_name}" for server in (self.up, self.down))
            homeserver.members[room.room_id] = {us.alice: "leave", us.bob: "leave", **dict.fromkeys(others, "join")}

    def poll(self, *, check: bool = False, **more: Any) -> Json:
        for server in (self.up, self.down, self.us.own):
            server.requests.clear()
        base = self.us.options(rooms=None)
        options = {
            "base_url": self.url,
            "access_token": TOKEN,
            "server_name": self.us.name,
            "signing_key_path": str(self.key_path),
            "federation_ca_path": base["ca_path"],
            "federation_ip_allowlist": base["ip_allowlist"],
            "period": WEEK,
            **more,
        }
        return self._run_module(MODULE, options, check=check)

    @property
    def record(self) -> Record:
        with Client(self.url, TOKEN) as client:
            return read_record(client)

    def row(self, result: Json, server: RemoteServer) -> Json:
        return next(row for row in result["servers"] if row["server"] == server.server_name)

    def said(self, server: RemoteServer) -> list[RecordedResult]:
        return [room.servers[server.server_name] for _room_id, room in sorted(self.record.rooms.items())]

    def ghosts(self) -> int:
        return sum(len(room.members(self.us.name)) for room in (*self.rooms, *self.others))


@pytest.fixture
def us(remote: StartServer, ca_file: str) -> Us:
    return Us(remote, ca_file)


@pytest.fixture
def homeserver(us: Us) -> Homeserver:
    """One that all accounts have left the federated rooms of."""
    homeserver = Homeserver(server_name=us.name)
    homeserver.left_at(NOW - 10)
    return homeserver


@pytest.fixture
def scene(
    us: Us, homeserver: Homeserver, run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    monkeypatch.setattr(propagation, "RETRY_DELAYS", (0.0,))
    monkeypatch.setattr(ghosts, "FORWARD_DELAY", 0.0)
    monkeypatch.setattr(_propagation_module, "Settings", partial(Settings, pacing=Pacing(3, 10_000.0)))
    with homeserver.serve() as url:
        yield Scene(us, homeserver, url, run_module, tmp_path / "signing.key")


def test_one_server_is_healed_and_one_is_down(scene: Scene) -> None:
    up, down, homeserver = scene.up, scene.down, scene.homeserver
    first = scene.poll()
    assert (first["changed"], first["removed"], first["finished"], first["next_poll"]) == (True, 4, False, 30)
    assert scene.row(first, up)["text"] == f"{up.server_name}: ghosts removed (4); confirmed, 2 of 2 rooms"
    lost = scene.row(first, down)
    assert (lost["state"], lost["unreachable_since"], lost["open_rooms_total"]) == ("unreachable", NOW, 2)
    assert "Connection refused" in lost["text"] and lost["text"].endswith("; confirmed, 0 of 2 rooms")
    assert scene.said(up) == [RecordedResult("confirmed", NOW, 2)] * 2
    assert [said.state for said in scene.said(down)] == ["unreachable"] * 2
    assert scene.record.retries == {down.server_name: Retry(NOW, NOW, 1)}
    assert not up.unneeded_leaves

    homeserver.now += 30
    second = scene.poll()
    assert up.requests == [], "what it has confirmed is not asked again"
    assert second["message"].startswith("1 of 2 remote servers confirmed; 1 unreachable; 4 ghosts removed; the ")
    assert (second["changed"], second["next_poll"]) == (False, 60)
    assert scene.record.retries == {down.server_name: Retry(NOW, NOW + 30, 2)}

    down.start()
    homeserver.now += 59
    assert scene.row(scene.poll(), down)["state"] == "unreachable" and down.requests == []
    homeserver.now += 1
    third = scene.poll(early_exit=True)
    assert up.requests == [] and not down.unneeded_leaves
    assert (third["removed"], third["ended_early"], third["summary"]["removed"]) == (2, True, 6)
    assert scene.row(third, down)["text"] == f"{down.server_name}: ghosts removed (2); confirmed, 2 of 2 rooms"
    assert scene.ghosts() == 0 and scene.record.retries == {}
    assert third["history"] == [[NOW, 1, 0, 0, 1, 0], [NOW + 90, 2, 0, 0, 0, 0]]


def test_a_recheck_asks_all_and_writes_nothing_in_check_mode(scene: Scene) -> None:
    scene.down.start()
    scene.poll()
    assert scene.ghosts() == 0
    before = scene.homeserver.written
    for server, room in ((scene.up, scene.rooms[0]), (scene.down, scene.others[1])):
        clean = scene.poll(check=True, recheck=True, early_exit=True)
        assert clean["ended_early"] and clean["summary"]["pairs_confirmed"] == 4
        assert [len(each.asked("state_ids")) for each in (scene.up, scene.down)] == [2, 2]
        room.set_membership(scene.us.alice, "join")
        again = scene.poll(check=True, recheck=True, early_exit=True)
        assert (again["finished"], scene.row(again, server)["state"]) == (False, "ghosts")
        assert not server.asked("send_leave")
        room.set_membership(scene.us.alice, "leave")
    assert scene.homeserver.written == before


def test_accounts_joined_on_the_homeserver_stay(scene: Scene) -> None:
    first, second = scene.rooms
    for room in (first, second):
        scene.homeserver.members[room.room_id][scene.us.alice] = "join"
    result = scene.poll(broken_rooms={second.room_id: "500 M_UNKNOWN"})
    assert first.members(scene.us.name) == [scene.us.alice] and second.members(scene.us.name) == []
    row = scene.row(result, scene.up)
    assert (row["state"], row["removed"], row["confirmed_rooms"]) == ("ghosts", 3, 1)
    assert "still joined on this server, so not removed" in row["text"]
    assert result["broken_rooms"] == [
        {
            "room_id": second.room_id,
            "reason": "500 M_UNKNOWN",
            "servers": sorted([scene.up.server_name, scene.down.server_name]),
            "not_confirmed_by": [scene.down.server_name],
        }
    ]


@pytest.mark.parametrize("results", range(1, 5))
def test_a_run_that_is_killed(scene: Scene, monkeypatch: pytest.MonkeyPatch, results: int) -> None:
    """Wherever that is, the next one ends in the same place."""
    scene.down.start()
    left = [results]
    on_result = propagation.Propagation._on_result

    def until_killed(run: propagation.Propagation, result: PairResult) -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise Killed
        on_result(run, result)

    with monkeypatch.context() as patch:
        patch.setattr(propagation.Propagation, "_on_result", until_killed)
        # All results until then are written.
        patch.setattr(propagation, "SAVE_INTERVAL", -1.0)
        with pytest.raises(Killed):
            scene.poll()
    result = scene.poll(early_exit=True)
    assert (result["ended_early"], result["summary"]["confirmed"], scene.ghosts()) == (True, 2, 0)
    assert scene.record.retries == {}
    for server in (scene.up, scene.down):
        assert not server.unneeded_leaves
        assert [said.state for said in scene.said(server)] == ["confirmed"] * 2


def test_a_server_that_refuses(scene: Scene) -> None:
    for room in scene.rooms:
        room.banned_servers.add(scene.us.name)
    row = scene.row(scene.poll(), scene.up)
    assert (row["state"], row["confirmed_rooms"]) == ("refused", 0)
    assert "refused in 2 rooms: denied by a server ACL of the room" in row["text"]


def test_a_server_that_goes_down_in_the_middle(scene: Scene) -> None:
    """What it has accepted by then counts, and it has confirmed nothing."""
    scene.poll()
    scene.rooms[0].set_membership(scene.us.alice, "join")
    scene.up.inject("state_ids", faults.raw(b""))
    result = scene.poll(recheck=True)
    # It is down from the first request on: then it has confirmed before.
    assert scene.row(result, scene.up)["state"] == "confirmed"
    for endpoint, check in (("make_leave", True), ("send_leave", False)):
        scene.up.remove_faults()
        scene.up.inject(endpoint, faults.raw(b""))
        result = scene.poll(recheck=True, check=check)
        assert scene.row(result, scene.up)["state"] == "unreachable"
    scene.up.remove_faults()
    scene.homeserver.now += 30
    result = scene.poll()
    assert scene.row(result, scene.up)["state"] == "confirmed"
    assert scene.rooms[0].members(scene.us.name) == []


def test_a_key_that_is_not_the_published_one(scene: Scene) -> None:
    scene.key_path.write_text("ed25519 a_test 5lXEvHBGwqM9JBEJ8bTzQ8AzIgvYI6ApSHcO8QhNbVE")
    result = scene.poll()
    assert result["failed"] and not result["changed"]
    assert "is not published by" in result["msg"]
    assert scene.up.requests == []
