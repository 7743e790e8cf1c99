# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.aliases import NOTHING, Kept
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import (
    Record,
    RecordedResult,
    RecordedRoom,
    write_record,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.site_rooms import (
    MAX_SERVERS,
    NO_ALIAS,
    NO_SERVER,
    list_site_rooms,
    servers_to_join,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.tests.stubs.helpers import BASE_URL, SERVER, TOKEN, room_id
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import BROKEN, Homeserver

A, B, C = "a.example", "b.example", "c.example"
LOUNGE, HALL, ALONE = (f"#{name}:{SERVER}" for name in ("lounge", "hall", "alone"))
R, Q, LOCAL = room_id("r"), room_id("q"), room_id("local")
ALL = Kept(all_federated=True)


@pytest.fixture
def client(homeserver: Homeserver) -> Iterator[Client]:
    """All accounts have left, and one room with aliases had no remote server in it."""
    homeserver.register("alice")
    for name in ("r", "q", "local"):
        homeserver.join(f"@alice:{SERVER}", name)
    homeserver.federate("r", "q", server=A)
    homeserver.leave_all()
    homeserver.directory.update({LOUNGE: R, HALL: Q, ALONE: LOCAL})
    with Client(BASE_URL, TOKEN) as client:
        write_record(client, Record({name: RecordedRoom({A: RecordedResult("confirmed")}) for name in (R, Q)}))
        yield client


def kept(client: Client, which: Kept, *ignore: str) -> dict[str, list[str]]:
    rooms = list_site_rooms(client, which, ignore).rooms
    assert all(room["servers"] == [A] for room in rooms)
    return {room["room_id"]: room["aliases"] for room in rooms}


def test_aliases_of_federated_rooms(client: Client) -> None:
    assert kept(client, ALL) == {Q: [HALL], R: [LOUNGE]}
    assert list_site_rooms(client, ALL, ()).aliases == 2
    assert kept(client, NOTHING) == {}


def test_aliases_of_a_list(client: Client) -> None:
    """Those that cannot be answered are reported."""
    found = list_site_rooms(client, Kept(names={LOUNGE, ALONE, f"#none:{SERVER}"}), ())
    assert [room["aliases"] for room in found.rooms] == [[LOUNGE]]
    assert found.not_kept == {ALONE: NO_ALIAS, f"#none:{SERVER}": NO_ALIAS}


def test_servers_that_are_decommissioned_as_well(client: Client) -> None:
    found = list_site_rooms(client, ALL, [A])
    assert not found.rooms
    assert found.not_kept == {LOUNGE: NO_SERVER, HALL: NO_SERVER}


def test_a_room_that_cannot_be_read(homeserver: Homeserver, client: Client) -> None:
    homeserver.faults[f"GET aliases {R}"] = BROKEN
    found = list_site_rooms(client, ALL, ())
    assert [room["room_id"] for room in found.rooms] == [Q]
    assert list(found.not_kept) == [R]


def test_the_servers_that_help_most_come_first() -> None:
    states = {C: "unreachable", B: "", A: "refused", "d.example": "confirmed", "b2.example": "confirmed"}
    room = RecordedRoom({server: RecordedResult(state) for server, state in states.items()})
    assert servers_to_join(room, ()) == ["b2.example", "d.example", A, B, C]
    many = RecordedRoom({f"{number:03}.example": RecordedResult("confirmed") for number in range(99)})
    assert servers_to_join(many, ["000.example"]) == [f"{number:03}.example" for number in range(1, MAX_SERVERS + 1)]
