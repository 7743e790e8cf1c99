# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import broken_rooms
from ansible_collections.matrixops.synapse.tests.stubs.helpers import room_id

ALICE, BOB, CAROL = (f"@{name}:example.org" for name in ("alice", "bob", "carol"))
R1, R2, R3 = (room_id(name) for name in ("r1", "r2", "r3"))


def test_broken_rooms_by_how_many_are_in_them() -> None:
    found = broken_rooms.broken_rooms([{R1: "500", R2: "400"}, {R1: "501"}], lambda room_id: room_id == R1)
    assert broken_rooms.broken_rooms_result(found) == {
        "broken_rooms": [
            {"room_id": R1, "reason": "500", "federated": True, "accounts": 2},
            {"room_id": R2, "reason": "400", "federated": False, "accounts": 1},
        ],
        "broken_rooms_total": 2,
    }


def test_what_is_said_of_broken_rooms_is_bounded() -> None:
    found = broken_rooms.broken_rooms([{f"!{number}": "x" * 9999 for number in range(1001)}], lambda _room_id: False)
    result = broken_rooms.broken_rooms_result(found)
    assert (len(result["broken_rooms"]), result["broken_rooms_total"]) == (1000, 1001)
    assert result["broken_rooms"][0]["reason"] == "x" * 500
