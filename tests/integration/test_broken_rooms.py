# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Damaged rooms on a real server: all else is done, and they are named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from lab.broken import DAMAGE, break_room
from lab.waiting import wait_until

from .conftest import Federation, RunModule, RunPlaybook, talk
from .test_playbook import PLAYBOOK

#: Rooms that Synapse lets nobody leave, and what it says then: for a withdrawn version, now this and now that.
REFUSED = {"no_extremities", "unreadable_events", "withdrawn_version"}
REASON = "500 M_UNKNOWN|400 M_UNSUPPORTED_ROOM_VERSION"
#: Rooms that nobody is joined to after the first leave, or before it, by Synapse's own word. It tells no other server.
FORGOTTEN = {"lost_state", "stale_state"}
PUBLIC = {"preset": "public_chat"}


@pytest.fixture
def broken(federation: Federation) -> dict[str, str]:
    """A room of each kind of damage, with three ordinary accounts, the second admin, and a remote member."""
    retiring, staying, made = federation.retiring, federation.staying, federation.population
    rooms = {}
    for kind in DAMAGE:
        host, *others = (*made.users[:3], made.second_admin)
        room_id = rooms[kind] = retiring.create_room(made.tokens[host], **PUBLIC)
        staying.join(made.tokens[made.other_users[0]], room_id, via=retiring.server_name)
        for user_id in others:
            retiring.join(made.tokens[user_id], room_id)
    wait_until(lambda: all(len(federation.ghosts().get(room, ())) == 4 for room in rooms.values()), "all are seen")
    retiring.stop()
    for kind, room_id in rooms.items():
        break_room(retiring, room_id, kind)
    retiring.start()
    talk(federation)
    return rooms


@pytest.mark.nightly(category="scenarios")
def test_broken_rooms_are_named_and_all_else_is_done(
    federation: Federation, broken: dict[str, str], run_module: RunModule
) -> None:
    retiring, made = federation.retiring, federation.population
    to_close = federation.to_close
    refused = {broken[kind] for kind in REFUSED}
    options = {**federation.connection, "wait_timeout": 3, "allow_broken_rooms": True}

    drained = run_module("synapse_user_deactivate", {**options, "all_users": True, "wait_for": "federated"})
    assert (drained["deactivated"], drained["failures"]) == (len(to_close), [])
    found = {room["room_id"]: room for room in drained["broken_rooms"]}
    assert found.keys() == refused
    for room in found.values():
        assert re.search(REASON, room["reason"])
        assert (room["accounts"], room["federated"]) == (3, True)
    assert {account["user_id"] for account in drained["still_joined"]} == set(made.users[:3])
    assert drained["federated_left_after"] is None

    left = run_module(
        "synapse_admin_leave_rooms", {**federation.connection, "allow_broken_rooms": True, "unlisted": True}
    )
    assert refused <= {room["room_id"] for room in left["broken_rooms"]}
    admins = {account["user_id"]: account for account in left["accounts"]}
    assert "500 M_UNKNOWN" in admins[made.second_admin]["not_listed"]
    assert not admins[made.operator]["failed"]

    verified = run_module("synapse_user_deactivate", {**options, "all_users": True})
    assert {room["room_id"] for room in verified["broken_rooms"]} == refused
    assert verified["changed"] is (verified["left_all_rooms"] > 0)
    for account in retiring.accounts():
        assert set(retiring.joined_rooms(account["name"])) <= refused, account

    # The remote server lists nobody but in rooms that are damaged. Of those, Synapse tells it for a partial state only.
    damaged = {broken[kind] for kind in (*REFUSED, *FORGOTTEN)}
    wait_until(lambda: federation.ghosts().keys() <= damaged, "the remote server lists nobody in any other room")
    assert broken["partial_state"] not in federation.ghosts()
    ghosts = federation.ghosts()
    assert all(len(ghosts[room_id]) == 4 for room_id in refused)
    assert made.users[0] in ghosts[broken["lost_state"]] and made.users[0] in ghosts[broken["stale_state"]]

    failed = run_module("synapse_user_deactivate", {**options, "all_users": True, "allow_broken_rooms": False})
    assert failed["failed"]
    assert "3 accounts are deactivated but still in rooms" in failed["msg"]
    assert any(room_id in failed["msg"] for room_id in refused)


def test_broken_rooms_do_not_stop_a_run(
    federation: Federation, broken: dict[str, str], run_playbook: RunPlaybook, tmp_path: Path
) -> None:
    """They are named in the result, and their ghosts are removed remotely. For the plan, see test_power.py."""
    host = {**federation.role_variables, "decommission_wait_timeout": 3}
    done = run_playbook(PLAYBOOK, {"a": host})
    assert done.returncode == 0, done.stdout
    named = done.stdout.partition("Rooms that could not be left: ")[2].partition('"')[0]
    (certificate,) = tmp_path.glob("decommission-reports/*.json")
    recorded = json.loads(certificate.read_text())["remote_servers"]
    for kind in ("withdrawn_version", "unreadable_events"):
        assert broken[kind] in named, done.stdout
        assert broken[kind] in {room["room_id"] for room in recorded["broken_rooms"]}
    assert recorded["summary"]["confirmed"] == recorded["summary"]["servers"] == 1
    assert federation.ghosts() == {}
    assert Path(host["off_marker"]).exists()
