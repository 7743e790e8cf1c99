# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stub of a remote server, against a client of a few lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator
from urllib.parse import quote

import pytest
import requests
import trustme

from stubs import faults
from stubs.answers import Answer
from stubs.remote_server import RemoteServer
from stubs.rooms import ROOM_VERSIONS, Json, Room, ServerKey, content_hash, event_id, redact

OURS = ServerKey("gone.example")
ALICE, BOB, CAROL = (f"@{name}:gone.example" for name in ("alice", "bob", "carol"))


class Client:
    """Signed requests to one server."""

    def __init__(self, server: RemoteServer, ca_file: Path, key: ServerKey = OURS) -> None:
        self.server = server
        self.key = key
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(ca_file)

    def request(self, method: str, target: str, content: Json | None = None) -> requests.Response:
        signed: Json = {
            "method": method,
            "uri": target,
            "origin": OURS.server_name,
            "destination": self.server.server_name,
        }
        if content is not None:
            signed["content"] = content
        signature = self.key.sign(signed)["signatures"][OURS.server_name][self.key.key_id]
        header = f'X-Matrix origin="{OURS.server_name}",destination="{self.server.server_name}"'
        header += f',key="{self.key.key_id}",sig="{signature}"'
        return self.session.request(
            method,
            f"https://{self.server.server_name}{target}",
            headers={"Authorization": header, "Content-Type": "application/json"},
            data=None if content is None else json.dumps(content),
            allow_redirects=False,
            timeout=60,
        )

    def get(self, endpoint: str, *arguments: str, **query: str) -> requests.Response:
        path = "/".join(quote(each, safe="") for each in (endpoint, *arguments))
        suffix = "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items()) if query else ""
        return self.request("GET", f"/_matrix/federation/v1/{path}{suffix}")

    def send_leave(self, room: Room, user_id: str, **fields: Any) -> requests.Response:
        template = room.leave_template(user_id)
        if int(room.version) < 3:
            template["event_id"] = "$leave:gone.example"
        event = {**template, "hashes": {"sha256": content_hash(template)}, **fields}
        event["signatures"] = OURS.sign(redact(event, room.version))["signatures"]
        target = f"{quote(room.room_id, safe='')}/{quote(event_id(event, room.version), safe='')}"
        return self.request("PUT", f"/_matrix/federation/v2/send_leave/{target}", event)

    def check(self, room: Room) -> tuple[int, str]:
        answer = self.get("state_ids", room.room_id, event_id="$none")
        return answer.status_code, answer.json()["error"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("localhost")


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stubs") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def server(certificate: trustme.LeafCert) -> Iterator[RemoteServer]:
    with RemoteServer(certificate, peers=[OURS.key_answer()]) as server:
        yield server


@pytest.fixture
def client(server: RemoteServer, ca_file: Path) -> Client:
    return Client(server, ca_file)


@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_removal(server: RemoteServer, client: Client, version: str) -> None:
    room = Room({ALICE: "join", BOB: "invite", CAROL: "leave"}, version=version)
    server.rooms[room.room_id] = room
    assert client.check(room) == (404, "Could not find event $none")

    answer = client.get("make_leave", room.room_id, ALICE, ver=version).json()
    assert answer == {"room_version": version, "event": room.leave_template(ALICE)}
    assert client.get("make_leave", room.room_id, CAROL).status_code == 403
    (own,) = (
        event["content"]["membership"]
        for reference in room.referred(answer["event"]["auth_events"])
        for event in client.get("event", reference).json()["pdus"]
        if event.get("state_key") == ALICE
    )
    assert own == "join"
    newest = client.get("timestamp_to_event", room.room_id, ts="1", dir="b").json()["event_id"]
    state = client.get("state", room.room_id, event_id=newest).json()
    assert {event["state_key"] for event in state["pdus"] if event["type"] == "m.room.member"} > {ALICE, BOB}

    assert client.send_leave(room, ALICE, origin_server_ts=1).status_code == 403  # the hash is wrong
    assert client.send_leave(room, ALICE).status_code == 200
    assert [event["state_key"] for event in server.leaves] == [ALICE] and not server.unneeded_leaves
    assert client.check(room) == (403, "Host not in room.")
    assert room.event(room.newest()) == server.leaves[0]
    assert client.send_leave(room, BOB).status_code == 200
    assert client.send_leave(room, BOB).status_code == 403
    assert server.unneeded_leaves == [(room.room_id, BOB)]


@pytest.mark.parametrize(
    ("implementation", "ghosts", "nobody", "make_leave"),
    [
        ("dendrite", (404, "Event not found"), (404, "Event not found"), 200),
        ("conduit", (404, "M_NOT_FOUND: Pdu state not found."), (403, "M_FORBIDDEN: Server is not in room."), 403),
        ("tuwunel", (404, "M_NOT_FOUND: Event not found."), (403, "M_FORBIDDEN: Server is not in room."), 403),
    ],
)
def test_implementations(
    certificate: trustme.LeafCert,
    ca_file: Path,
    implementation: str,
    ghosts: tuple[int, str],
    nobody: tuple[int, str],
    make_leave: int,
) -> None:
    room = Room({ALICE: "join"})
    with RemoteServer(certificate, rooms=[room], peers=[OURS.key_answer()], implementation=implementation) as server:
        client = Client(server, ca_file)
        assert client.check(room) == ghosts
        assert client.get("make_leave", room.room_id, ALICE).status_code == 200
        assert client.send_leave(room, ALICE).status_code == 200
        assert client.check(room) == nobody
        assert client.get("make_leave", room.room_id, ALICE).status_code == make_leave
        if implementation == "dendrite":
            # Its newest event is the leave, before which we were in the room; then comes one that we never saw.
            assert client.get("state", room.room_id, event_id=room.newest()).status_code == 200
            assert client.get("state", room.room_id, event_id=room.say()).status_code == 403


def test_world_readable_room_of_tuwunel(certificate: trustme.LeafCert, ca_file: Path) -> None:
    room = Room({ALICE: "leave"}, history_visibility="world_readable")
    with RemoteServer(certificate, rooms=[room], peers=[OURS.key_answer()], implementation="tuwunel") as server:
        assert Client(server, ca_file).check(room)[0] == 404


def test_faults(server: RemoteServer, client: Client) -> None:
    room = Room({ALICE: "join"})
    server.rooms[room.room_id] = room
    server.inject("state_ids", faults.rate_limited(7), times=2)
    answers = [client.get("state_ids", room.room_id, event_id="$none") for _number in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 404]
    assert answers[0].headers["Retry-After"] == "7"
    server.inject("make_leave", faults.many_prev_events(1000))
    assert len(client.get("make_leave", room.room_id, ALICE).json()["event"]["prev_events"]) == 1000
    server.inject("send_leave", faults.instead(Answer.of(200, {})))
    assert client.send_leave(room, ALICE).status_code == 200
    assert room.membership(ALICE) == "join" and len(server.leaves) == 1
    server.inject("version", faults.gzip_bomb(3))
    assert len(client.get("version").content) == 3 << 20
    server.remove_faults()
    server.inject("version", faults.trickled(0.001, headers=True))
    assert client.get("version").json()["server"]["name"] == "Synapse"
    server.inject("*", faults.raw(b""))
    with pytest.raises(requests.ConnectionError):
        client.get("state_ids", room.room_id, event_id="$none")
    assert [each.status for each in server.asked("state_ids", room.room_id)] == [429, 429, 404, None]


def test_who_asks(server: RemoteServer, client: Client, ca_file: Path) -> None:
    room = Room({ALICE: "join"})
    server.rooms[room.room_id] = room
    target = f"https://{server.server_name}/_matrix/federation/v1/state_ids/{quote(room.room_id)}?event_id=$none"
    assert client.session.get(target, timeout=60).status_code == 401
    stranger = Client(server, ca_file, ServerKey(OURS.server_name, "ed25519:a_new"))
    assert stranger.check(room)[0] == 401
    assert client.check(room)[0] == 404
    assert [each.origin for each in server.requests] == [None, None, OURS.server_name]
    answer = client.session.get(f"https://{server.server_name}/_matrix/key/v2/query/{OURS.server_name}", timeout=60)
    (known,) = answer.json()["server_keys"]
    assert known["verify_keys"] == OURS.verify_keys and server.server_name in known["signatures"]


def test_stop_and_start(server: RemoteServer, client: Client) -> None:
    assert client.get("version").ok
    server.stop()
    with pytest.raises(requests.ConnectionError):
        client.get("version")
    server.start()
    assert client.get("version").ok
