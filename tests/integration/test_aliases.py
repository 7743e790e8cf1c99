# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The aliases of a server to decommission, as a remote server sees them."""

from __future__ import annotations

from typing import Any

from lab import Homeserver
from lab.api import ApiError, quote
from lab.waiting import wait_until

from .conftest import Federation, RunModule, unchanged

CANONICAL = "m.room.canonical_alias"


def point(server: Homeserver, token: str, alias: str, room_id: str) -> str:
    """Make an alias of the server."""
    alias = f"#{alias}:{server.server_name}"
    server.call("PUT", f"/_matrix/client/v3/directory/room/{quote(alias)}", token=token, json={"room_id": room_id})
    return alias


def resolve(server: Homeserver, alias: str) -> str | None:
    """The room that an alias points to, as resolved by this server."""
    try:
        found = server.call("GET", f"/_matrix/client/v3/directory/room/{quote(alias)}", token=server.admin_token)
    except ApiError as error:
        if error.status != 404:
            raise
        return None
    return str(found["room_id"])


def canonical(server: Homeserver, room_id: str) -> dict[str, Any]:
    """The content of the canonical alias event of a room."""
    state = server.admin("GET", f"/v1/rooms/{quote(room_id)}/state")["state"]
    return next((dict(event["content"]) for event in state if event["type"] == CANONICAL), {})


def test_release(federation: Federation, run_module: RunModule) -> None:
    retiring, staying, made = federation.retiring, federation.staying, federation.population
    host, keeper = made.users[0], made.users[1]
    token, their_token = made.tokens[host], made.tokens[made.other_users[0]]
    theirs = made.shared_by_other[0]
    # In version 12, creators have more power than any level.
    ours = retiring.create_room(token, preset="public_chat", room_version="10")
    kept_by_locked = retiring.create_room(made.tokens[keeper], preset="public_chat", room_version="12")
    left = retiring.create_room(token)
    for room in (ours, kept_by_locked):
        staying.join(their_token, room, via=retiring.server_name)

    expected = {
        point(retiring, token, alias, room): room
        for alias, room in (("one", ours), ("t/wo", ours), ("theirs", theirs), ("left", left))
    }
    one, two, in_theirs, _left = expected
    locked = point(retiring, made.tokens[keeper], "locked", kept_by_locked)
    expected[locked] = kept_by_locked
    keep = point(staying, their_token, "keep", ours)
    retiring.set_state(token, ours, CANONICAL, {"alias": one, "alt_aliases": [keep, two], "org.example": 1})
    retiring.set_state(made.tokens[keeper], kept_by_locked, CANONICAL, {"alias": locked})
    staying.set_state(their_token, theirs, CANONICAL, {"alias": in_theirs})
    retiring.leave(token, left)
    retiring.lock(keeper)
    assert {alias: resolve(staying, alias) for alias in expected} == expected
    wait_until(
        lambda: canonical(staying, kept_by_locked) and canonical(staying, ours), "the remote server has the aliases"
    )
    before = retiring.database_fingerprint()

    with unchanged(retiring):
        predicted = run_module("synapse_room_aliases", federation.connection, "--check", "--diff")
    done = run_module("synapse_room_aliases", federation.connection, "--diff")
    assert dict(done) == dict(predicted)
    recorded = [{"alias": alias, "room_id": expected[alias]} for alias in sorted(expected)]
    assert (done["changed"], done["aliases"], done["failures"]) == (True, recorded, [])
    assert done["released"] == sorted(expected)
    assert done["renamed"] == sorted([ours, kept_by_locked])
    assert [room["room_id"] for room in done["not_renamed"]] == [theirs]
    assert done["diff"]["before"]["canonical"][kept_by_locked] == {"alias": locked}

    assert [alias for alias in expected if resolve(staying, alias)] == []
    assert resolve(staying, keep) == ours
    wait_until(lambda: canonical(staying, kept_by_locked) == {}, "the first change has arrived")
    wait_until(
        lambda: canonical(staying, ours) == {"alt_aliases": [keep], "org.example": 1},
        "the remote server has the second change",
    )
    assert canonical(staying, theirs) == {"alias": in_theirs}
    # The sessions are ended, the rate limit is restored, and the account is locked again.
    after = retiring.database_fingerprint()
    assert [after[table] == before[table] for table in ("access_tokens", "ratelimit_override")] == [True, True]
    assert retiring.account(keeper)["locked"] is True

    again = run_module("synapse_room_aliases", federation.connection)
    assert (again["changed"], again["released"], again["renamed"]) == (False, [], [])
    assert (again["aliases"], again["not_renamed"]) == (recorded, done["not_renamed"])
