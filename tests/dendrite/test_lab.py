# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab itself: Synapse and Dendrite federate."""

from __future__ import annotations

import pytest
from lab import Lab
from lab.waiting import wait_until

pytestmark = pytest.mark.nightly(category="dendrite")


@pytest.mark.parametrize("version", ["10", "11"])
def test_federation(lab: Lab, version: str) -> None:
    synapse, dendrite = lab["a"], lab.dendrites["d"]
    alice, bob = synapse.register(f"alice{version}"), dendrite.register(f"bob{version}")
    everybody = sorted([alice.user_id, bob.user_id])

    # Each server has created a room that an account of the other one joins.
    here = synapse.create_room(alice.token, preset="public_chat", room_version=version)
    dendrite.join(bob.token, here, via=synapse.server_name)
    there = dendrite.create_room(bob.token, preset="private_chat", room_version=version)
    dendrite.invite(bob.token, there, alice.user_id)
    synapse.join(alice.token, there)
    for room in (here, there):
        for server in (synapse, dendrite):
            wait_until(lambda server=server, room=room: server.joined_members(room) == everybody, "all are joined")
    assert dendrite.members_of(synapse.server_name).items() >= {here: [alice.user_id], there: [alice.user_id]}.items()
    assert synapse.members_of(dendrite.server_name).items() >= {here: [bob.user_id], there: [bob.user_id]}.items()

    dendrite.send(bob.token, here, "hello")
    wait_until(
        lambda: "hello" in [event["content"].get("body") for event in synapse.messages(alice.token, here)],
        "the message has arrived",
    )
    synapse.leave(alice.token, here)
    wait_until(lambda: dendrite.joined_members(here) == [bob.user_id], "the leave has arrived")
    wait_until(lambda: dendrite.memberships(here)[alice.user_id] == "leave", "clients of Dendrite see it")


def test_restart(lab: Lab) -> None:
    dendrite = lab.dendrites["d"]
    account = dendrite.register("restarted")
    room = dendrite.create_room(account.token)
    dendrite.kill()
    assert not dendrite.running
    dendrite.start()
    assert dendrite.joined_members(room) == [account.user_id]
    dendrite.restart()
    assert dendrite.joined_rooms(account.user_id) == [room]
