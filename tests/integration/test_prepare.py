# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All preparations in one run of the playbook."""

from __future__ import annotations

import pytest
from lab import Settings
from lab.api import ApiError, quote
from lab.waiting import wait_until

from .conftest import Federation, RunPlaybook, unchanged
from .test_announcement import by_account
from .test_playbook import PLAYBOOK, assert_drained, powered_off
from .test_power import power_levels


def test_prepare(federation: Federation, run_playbook: RunPlaybook) -> None:
    retiring, staying, made = federation.retiring, federation.staying, federation.population
    retiring.configure(Settings(server_notices=True))
    retiring.restart()
    host, alice = made.users[0], made.other_users[0]
    room_id = retiring.create_room(made.tokens[host], preset="public_chat", room_version="10", room_alias_name="ours")
    staying.join(made.tokens[alice], room_id, via=retiring.server_name)
    alias = f"#ours:{retiring.server_name}"
    wait_until(
        lambda: any(room["room_id"] == room_id and room["joined_members"] == 2 for room in retiring.rooms()),
        "Synapse's statistics have the room",
    )
    hosts = {
        "a": {
            **federation.role_variables,
            "decommission_announce": True,
            "decommission_handover": True,
            "decommission_handover_to": [{"user_id": alice}],
            "decommission_release_aliases": True,
            "decommission_demote": True,
        }
    }

    with unchanged(retiring):
        checked = run_playbook(PLAYBOOK, hosts, "--check")
    assert checked.returncode == 0, checked.stdout
    assert (
        "besides deactivation: announce, hand over rooms, delete aliases, demote accounts, erase accounts"
        in checked.stdout
    )
    for kind in ("orphaned", "empowered", "creators", "aliased", "canonical_alias", "cordon"):
        assert f"  {kind}: " in checked.stdout, checked.stdout

    done = run_playbook(PLAYBOOK, hosts)
    assert done.returncode == 0, done.stdout
    assert set(by_account(federation).values()) == {1}
    assert_drained(federation)
    assert powered_off(federation)
    assert power_levels(staying, room_id)["users"] == {alice: 100}
    with pytest.raises(ApiError, match="404"):
        staying.call("GET", f"/_matrix/client/v3/directory/room/{quote(alias)}", token=made.tokens[alice])
