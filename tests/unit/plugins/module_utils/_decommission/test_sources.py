# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import sources
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import Room
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.sources import (
    SourceError,
    Sources,
    merge,
    read_file,
    room_of,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import KnownAccounts
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import InvalidNameError

OURS = "old.example"
ALICE, BOB = f"@alice:{OURS}", f"@bob:{OURS}"
R, S = "!r:b.example", "!s"
ENTRY = {"room_id": R, "servers": ["b.example"], "accounts": [ALICE], "pending": [BOB]}
ROOM = Room(R, ("b.example",), KnownAccounts((ALICE,), (BOB,)))


def certificate(**remote_servers: Any) -> dict[str, Any]:
    return {"schema_version": 1, "server": {"name": OURS}, "remote_servers": remote_servers}


def written(tmp_path: Path, content: Any) -> str:
    path = tmp_path / "file.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return str(path)


def test_a_room(tmp_path: Path) -> None:
    assert room_of(ENTRY, OURS) == ROOM
    assert room_of({"room_id": S, "servers": ["b.example"] * 2}, OURS) == Room(S, ("b.example",), KnownAccounts())
    assert read_file(written(tmp_path, [ENTRY]), OURS) == [ROOM]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"room_id": None}, "rooms[].room_id: 'NoneType' is not a room ID"),
        ({"servers": "b.example"}, "rooms[].servers is not a list of texts"),
        ({"servers": [1]}, "rooms[].servers is not a list of texts"),
        ({"servers": ["b example"]}, "rooms[].servers: 'b example' is not a server name"),
        ({"servers": [OURS]}, f"rooms[].servers: {OURS} is server_name itself: list remote servers only"),
        ({"accounts": ["@a:b.example"]}, f"rooms[].accounts: '@a:b.example' is not a user ID of {OURS}"),
        ({"pending": [None]}, "rooms[].pending is not a list of texts"),
    ],
)
def test_a_room_that_is_invalid(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidNameError) as error:
        room_of({**ENTRY, **change}, OURS)
    assert str(error.value) == message
    path = written(tmp_path, [{**ENTRY, **change}])
    with pytest.raises(SourceError) as in_file:
        read_file(path, OURS)
    assert str(in_file.value) == f"{path}: {message}"


def test_a_certificate(tmp_path: Path) -> None:
    rooms = [{"room_id": R, "servers": ["b.example", "c.example"]}]
    path = written(tmp_path, certificate(not_confirmed=rooms, not_confirmed_total=1))
    assert read_file(path, OURS) == [Room(R, ("b.example", "c.example"), KnownAccounts())]
    assert read_file(written(tmp_path, certificate(not_confirmed=[], not_confirmed_total=0)), OURS) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "neither a certificate nor a list of rooms"),
        (7, "neither a certificate nor a list of rooms"),
        (["!r:b.example"], "neither a certificate nor a list of rooms"),
        (b"%PDF-1.7", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"", "is not valid JSON"),
        ({**certificate(), "server": {"name": "x.example"}}, "is the certificate of x.example, and server_name is old"),
        (certificate(), "since no run has reached the stage power_off"),
        ({**certificate(), "remote_servers": None}, "since no run has reached the stage power_off"),
        (certificate(not_confirmed=[], not_confirmed_total=5), "lists 0 of 5 rooms that were not confirmed: use"),
        (certificate(not_confirmed={}, not_confirmed_total=0), "neither a certificate nor a list of rooms"),
    ],
)
def test_another_file(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_file(written(tmp_path, content), OURS)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="missing can't be read: No such file or directory: correct the path"):
        read_file(str(tmp_path / "missing"), OURS)
    monkeypatch.setattr(sources, "MAX_FILE", 10)
    with pytest.raises(SourceError, match="larger than"):
        read_file(written(tmp_path, [ENTRY]), OURS)


def test_rooms_are_merged() -> None:
    other = Room(R, ("c.example", "b.example"), KnownAccounts((BOB,), (BOB,)))
    third = Room(S, ("b.example",), KnownAccounts())
    assert merge([ROOM, third, other]) == [
        Room(R, ("b.example", "c.example"), KnownAccounts((ALICE, BOB), (BOB,))),
        third,
    ]


def test_sources_are_read_by_name(tmp_path: Path) -> None:
    log = tmp_path / "homeserver.log"
    log.write_text("Ignoring PDU for unknown room_id: !a:c.example\n")
    path = written(tmp_path, [ENTRY])
    found = Sources(rooms=[ROOM], paths=[path, path], log_paths=[str(log)]).read(OURS)
    assert found == {
        "rooms": [ROOM],
        "rooms_paths": [ROOM],
        "log": [Room("!a:c.example", ("c.example",), KnownAccounts())],
    }
    assert Sources().read(OURS) == {}


def test_a_log_names_rooms_of_others(tmp_path: Path) -> None:
    log = tmp_path / "homeserver.log"
    log.write_text(
        "Ignoring receipt for room '!a' from server b.example as we're not in the room\n"
        "Ignoring receipt for room '!a' from server c.example as we're not in the room\n"
        "Ignoring receipt for room '!a' from server c_example/ as we're not in the room\n"
        "Ignoring receipt for room '#a' from server c.example as we're not in the room\n"
        f"Ignoring PDU for unknown room_id: !x:{OURS}\n"
        "Ignoring PDU for unknown room_id: !version12\n"
    )
    found = Sources(log_paths=[str(log)]).read(OURS)
    assert found == {"log": [Room("!a", ("b.example", "c.example"), KnownAccounts())]}


def test_a_log_without_such_lines(tmp_path: Path) -> None:
    log = tmp_path / "homeserver.log"
    log.write_text(f"all is well\nIgnoring PDU for unknown room_id: !x:{OURS}\n")
    with pytest.raises(SourceError, match=r"log_paths: no line in .*homeserver\.log names a room"):
        Sources(log_paths=[str(log)]).read(OURS)
    with pytest.raises(SourceError, match=r"log_paths: .*missing can't be read: No such file"):
        Sources(log_paths=[str(tmp_path / "missing")]).read(OURS)
