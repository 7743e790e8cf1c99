# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""synapse_propagation as a whole: remote servers over TLS, and a stub of the admin API of our server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import ghosts, propagation
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import (
    Record,
    Retry,
    Said,
    read_record,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import PairResult
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.connect import Settings
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.pacing import Pacing
from ansible_collections.matrixops.synapse.plugins.modules import synapse_propagation
from stubs import lies
from stubs.lying_server import LyingServer
from stubs.rooms import Room

from .conftest import RunModule, StartServer
from .test_modules import Json, Us

MODULE = "synapse_propagation"
TOKEN = "syt_operator"
NOW = 1_795_416_000
WEEK = 604_800
RECORD = "io.github.matrixops.decommission"


class Killed(BaseException):
    """The run ends here."""


class Homeserver:
    """The admin API of our homeserver, which nobody of ours is in a federated room of any more.

    :ivar members: the user IDs of all who ever were in a room, by room ID: of ours, and of others, who are joined.
    :ivar joined: the accounts of ours that are still joined, by room ID.
    :ivar account_data: of the operator, by type.
    """

    def __init__(self, us: Us) -> None:
        self.name = us.name
        self.now = NOW
        self.members: dict[str, list[str]] = {}
        self.joined: dict[str, list[str]] = {}
        self.account_data: dict[str, Json] = {}
        self.written = 0
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(*stub.get([unquote(part) for part in urlsplit(self.path).path.split("/")]))

            def do_PUT(self) -> None:
                kind = unquote(self.path).rpartition("/")[2]
                stub.account_data[kind] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.written += 1
                self._answer(200, {})

            def _answer(self, status: int, answer: Json) -> None:
                body = json.dumps(answer).encode()
                self.send_response_only(status)
                self.send_header("Date", formatdate(stub.now, usegmt=True))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        milestones = {"started": NOW - 60, "left_federated_rooms": NOW - 10}
        self.account_data[RECORD] = {"milestones": milestones, "server_name": self.name}

    def get(self, path: list[str]) -> tuple[int, Json]:
        *_start, before, last = path
        if last == "whoami":
            return 200, {"user_id": f"@op:{self.name}"}
        if before == "account_data":
            found = self.account_data.get(last)
            return (404, {"errcode": "M_NOT_FOUND"}) if found is None else (200, found)
        if last == "joined_rooms":
            return 200, {"joined_rooms": [room_id for room_id, user_ids in self.joined.items() if before in user_ids]}
        if before == "context":
            return 200, {"state": [self._member(user_id) for user_id in self.members[path[-3]]]}
        listings: dict[str, list[Json]] = {
            "destinations": [],
            "rooms": [{"room_id": room_id, "joined_local_members": 0} for room_id in self.members],
            "state": [],
        }
        if last in listings:
            return 200, {last: listings[last]}
        return 200, {"results": [{"event_id": "$newest"}]} if last == "forward_extremities" else {}

    def _member(self, user_id: str) -> Json:
        membership = "leave" if user_id.endswith(f":{self.name}") else "join"
        return {"type": "m.room.member", "state_key": user_id, "content": {"membership": membership}}

    def knows(self, room: Room, *servers: LyingServer, ours: list[str]) -> None:
        self.members[room.room_id] = [*ours, *(f"@someone:{server.server_name}" for server in servers)]

    @property
    def record(self) -> Record:
        with Client(self.url, TOKEN) as client:
            return read_record(client)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Scene:
    """Two rooms, that a server which is up and one which is down still list accounts of ours in."""

    def __init__(self, us: Us, homeserver: Homeserver, run_module: RunModule, key_path: Path) -> None:
        self.us, self.homeserver, self._run_module = us, homeserver, run_module
        self.key_path = key_path
        key_path.write_text(us.own.key.key_file)
        self.rooms = [Room({us.alice: "join", us.bob: "join", us.carol: "leave"}, name=name) for name in ("a", "b")]
        # The servers never hear of each other.
        self.others = [Room({us.alice: "join", us.bob: "leave"}, name=name) for name in ("a", "b")]
        self.up, self.down = us.server(*self.rooms), us.server(*self.others)
        self.down.stop()
        for room in self.rooms:
            homeserver.knows(room, self.up, self.down, ours=[us.alice, us.bob])

    def poll(self, *, check: bool = False, **more: Any) -> Json:
        for server in (self.up, self.down, self.us.own):
            server.requests.clear()
        base = self.us.options(rooms=None)
        options = {
            "base_url": self.homeserver.url,
            "access_token": TOKEN,
            "server_name": self.us.name,
            "signing_key_path": str(self.key_path),
            "federation_ca_path": base["ca_path"],
            "federation_ip_allowlist": base["ip_allowlist"],
            "period": WEEK,
            **more,
        }
        return self._run_module(MODULE, options, check=check)

    def row(self, result: Json, server: LyingServer) -> Json:
        return next(row for row in result["servers"] if row["server"] == server.server_name)

    def said(self, server: LyingServer) -> list[Said]:
        return [room.servers[server.server_name] for _room_id, room in sorted(self.homeserver.record.rooms.items())]

    def ghosts(self) -> int:
        return sum(len(room.members(self.us.name)) for room in (*self.rooms, *self.others))


@pytest.fixture
def us(remote: StartServer, ca_file: str) -> Us:
    return Us(remote, ca_file)


@pytest.fixture
def homeserver(us: Us) -> Iterator[Homeserver]:
    with closing(Homeserver(us)) as homeserver:
        yield homeserver


@pytest.fixture
def scene(
    us: Us, homeserver: Homeserver, run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    monkeypatch.setattr(propagation, "RETRY_DELAYS", (0.0,))
    monkeypatch.setattr(ghosts, "SPREAD_DELAY", 0.0)
    monkeypatch.setattr(synapse_propagation, "Settings", partial(Settings, pacing=Pacing(3, 10_000.0)))
    return Scene(us, homeserver, run_module, tmp_path / "signing.key")


def test_one_server_is_healed_and_one_is_down(scene: Scene) -> None:
    up, down, homeserver = scene.up, scene.down, scene.homeserver
    first = scene.poll()
    assert (first["changed"], first["removed"], first["finished"], first["next_poll"]) == (True, 4, False, 30)
    assert scene.row(first, up)["text"] == f"{up.server_name}: ghosts removed (4); confirmed, 2 of 2 rooms"
    lost = scene.row(first, down)
    assert (lost["state"], lost["unreachable_since"], lost["open_rooms_total"]) == ("unreachable", NOW, 2)
    assert "Connection refused" in lost["text"] and lost["text"].endswith("; confirmed, 0 of 2 rooms")
    assert scene.said(up) == [Said("confirmed", NOW, 2)] * 2
    assert [said.state for said in scene.said(down)] == ["unreachable"] * 2
    assert homeserver.record.retries == {down.server_name: Retry(NOW, NOW, 1)}
    assert not up.unneeded_leaves

    homeserver.now += 30
    second = scene.poll()
    assert up.requests == [], "what it has confirmed is not asked again"
    assert second["message"].startswith("1 of 2 remote servers confirmed; 1 unreachable; 4 ghosts removed; the ")
    assert (second["changed"], second["next_poll"]) == (False, 60)
    assert homeserver.record.retries == {down.server_name: Retry(NOW, NOW + 30, 2)}

    down.start()
    homeserver.now += 59
    assert scene.row(scene.poll(), down)["state"] == "unreachable" and down.requests == []
    homeserver.now += 1
    third = scene.poll(early_exit=True)
    assert up.requests == [] and not down.unneeded_leaves
    assert (third["removed"], third["early"], third["summary"]["removed"]) == (2, True, 6)
    assert scene.row(third, down)["text"] == f"{down.server_name}: ghosts removed (2); confirmed, 2 of 2 rooms"
    assert scene.ghosts() == 0 and homeserver.record.retries == {}
    assert third["history"] == [[NOW, 1, 0, 0, 1, 0], [NOW + 90, 2, 0, 0, 0, 0]]


def test_a_recheck_asks_all_and_writes_nothing_in_check_mode(scene: Scene) -> None:
    scene.down.start()
    scene.poll()
    assert scene.ghosts() == 0
    before = scene.homeserver.written
    for server, room in ((scene.up, scene.rooms[0]), (scene.down, scene.others[1])):
        clean = scene.poll(check=True, recheck=True, early_exit=True)
        assert clean["early"] and clean["summary"]["pairs_confirmed"] == 4
        assert [len(each.asked("state_ids")) for each in (scene.up, scene.down)] == [2, 2]
        room.set_membership(scene.us.alice, "join")
        again = scene.poll(check=True, recheck=True, early_exit=True)
        assert (again["finished"], scene.row(again, server)["state"]) == (False, "ghosts")
        assert not server.asked("send_leave")
        room.set_membership(scene.us.alice, "leave")
    assert scene.homeserver.written == before


def test_who_is_joined_on_our_server_stays(scene: Scene) -> None:
    first, second = scene.rooms
    scene.homeserver.joined = {first.room_id: [scene.us.alice], second.room_id: [scene.us.alice]}
    result = scene.poll(broken_rooms={second.room_id: "500 M_UNKNOWN"})
    assert first.members(scene.us.name) == [scene.us.alice] and second.members(scene.us.name) == []
    row = scene.row(result, scene.up)
    assert (row["state"], row["removed"], row["confirmed_rooms"]) == ("ghosts", 3, 1)
    assert "joined on this server as well, which are not removed" in row["text"]
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
        # All that was said until then is written.
        patch.setattr(propagation, "SAVE_INTERVAL", -1.0)
        with pytest.raises(Killed):
            scene.poll()
    result = scene.poll(early_exit=True)
    assert (result["early"], result["summary"]["confirmed"], scene.ghosts()) == (True, 2, 0)
    assert scene.homeserver.record.retries == {}
    for server in (scene.up, scene.down):
        assert not server.unneeded_leaves
        assert [said.state for said in scene.said(server)] == ["confirmed"] * 2


def test_a_server_that_refuses(scene: Scene) -> None:
    for room in scene.rooms:
        room.banned_servers.add(scene.us.name)
    row = scene.row(scene.poll(), scene.up)
    assert (row["state"], row["confirmed_rooms"]) == ("refused", 0)
    assert "refused in 2 rooms: a server ACL of the room bars us" in row["text"]


def test_a_server_that_goes_down_in_the_middle(scene: Scene) -> None:
    """What it has accepted by then counts, and it has confirmed nothing."""
    scene.poll()
    scene.rooms[0].set_membership(scene.us.alice, "join")
    scene.up.lie("state_ids", lies.raw(b""))
    result = scene.poll(recheck=True)
    # It is down from the first request on: then it has confirmed before.
    assert scene.row(result, scene.up)["state"] == "confirmed"
    for endpoint, check in (("make_leave", True), ("send_leave", False)):
        scene.up.be_honest()
        scene.up.lie(endpoint, lies.raw(b""))
        result = scene.poll(recheck=True, check=check)
        assert scene.row(result, scene.up)["state"] == "unreachable"
    scene.up.be_honest()
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
