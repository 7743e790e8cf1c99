# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Callable

from ansible_collections.matrixops.synapse.tests.stubs.helpers import SERVER, Json, room_id
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver

Run = Callable[..., Json]


def test_result(homeserver: Homeserver, run: Run) -> None:
    homeserver.register("alice")
    homeserver.join(f"@alice:{SERVER}", "r")
    homeserver.federate("r", server="a.example")
    homeserver.directory[f"#lounge:{SERVER}"] = room_id("r")
    run("synapse_federated_rooms")
    result = run("synapse_site", {"directory": "/reports"})
    assert not result["changed"]
    assert (result["rooms"], result["aliases"], result["not_kept"]) == (1, 1, [])
    assert [room["servers"] for room in result["content"]] == [["a.example"]]
    wanted = {"directory": "/reports", "keep_federated": False, "keep": [f"#none:{SERVER}"]}
    other = run("synapse_site", wanted)
    assert (other["rooms"], other["not_kept_total"]) == (0, 1)
