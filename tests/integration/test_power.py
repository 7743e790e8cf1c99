# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a decommissioning would break in rooms, and the power in them: what is found, handed over, and given up."""

from __future__ import annotations

from typing import Any

import pytest
from lab.api import APPSERVICE_TOKEN, ApiError, Json, quote
from lab.waiting import wait_until

from .conftest import Federation, RunModule, unchanged

OLD_DEFAULT = "10"
POWER_LEVELS = "m.room.power_levels"


class Rooms:
    """Makes rooms of a user of the retiring server. Alice, of the other server, is in them."""

    def __init__(self, federation: Federation) -> None:
        self.retiring, self.staying, made = federation.retiring, federation.staying, federation.population
        self.server_name = self.retiring.server_name
        self.host, self.peer, self.member, self.gone = made.users[:4]
        self.alice, self.bob, _carol = made.other_users
        self.tokens = made.tokens
        # Of the default version; what else there is that both are in has a creator over there.
        self.newest = [made.shared_by_retiring[0], made.big_room, made.small_rooms[0]]

    def make(self, *joining: str, host: str = "", **options: Any) -> str:
        options = {"preset": "public_chat", "room_version": OLD_DEFAULT, **options}
        room_id = self.retiring.create_room(self.tokens[host or self.host], **options)
        for user_id in joining:
            there = user_id in (self.alice, self.bob)
            server = self.staying if there else self.retiring
            server.join(self.tokens[user_id], room_id, via=self.server_name if there else None)
        return room_id

    def powers(self, room_id: str) -> Json:
        return power_levels(self.retiring, room_id)

    def set_powers(self, room_id: str, users: dict[str, int], **more: Any) -> None:
        content = {**self.powers(room_id), "users": users, **more}
        self.retiring.set_state(self.tokens[self.host], room_id, POWER_LEVELS, content)


def state(server: Any, room_id: str) -> dict[tuple[str, str], Json]:
    events = server.admin("GET", f"/v1/rooms/{quote(room_id)}/state")["state"]
    return {(event["type"], event["state_key"]): event["content"] for event in events}


def power_levels(server: Any, room_id: str) -> Json:
    return state(server, room_id).get((POWER_LEVELS, ""), {})


@pytest.fixture
def rooms(federation: Federation) -> Rooms:
    return Rooms(federation)


def test_the_impact_names_each_room(federation: Federation, rooms: Rooms, run_module: RunModule) -> None:
    retiring, made, host = federation.retiring, federation.population, rooms.host
    token = rooms.tokens[host]
    theirs = {host: 50, rooms.alice: 100}
    link = {"via": [rooms.server_name]}

    orphan = rooms.make(rooms.alice)
    others = rooms.make(rooms.alice, power_level_content_override={"users": {host: 100, rooms.alice: 100}})
    everybodys = rooms.make(rooms.alice, power_level_content_override={"users_default": 100})
    nobodys = rooms.make(rooms.alice)
    rooms.set_powers(nobodys, {})
    aliased = rooms.make(rooms.alice, room_alias_name="ours")
    rooms.set_powers(aliased, theirs)
    # Of a room that only this server is in, nothing is read.
    rooms.make(room_alias_name="lonely")
    left = rooms.make(room_alias_name="left")
    retiring.leave(token, left)
    published = rooms.make()
    # As it comes, Synapse lets nobody publish a room.
    retiring.database.execute(f"UPDATE rooms SET is_public = true WHERE room_id = '{published}'")  # noqa: S608
    child = rooms.make(rooms.alice)
    rooms.set_powers(child, theirs, state_default=0)
    space = rooms.make(rooms.alice, creation_content={"type": "m.space"})
    retiring.call(
        "PUT", f"/_matrix/client/v3/rooms/{quote(space)}/state/m.space.child/{quote(child)}", token=token, json=link
    )
    retiring.call(
        "PUT", f"/_matrix/client/v3/rooms/{quote(child)}/state/m.space.parent/{quote(space)}", token=token, json=link
    )
    rooms.set_powers(space, theirs)
    old = rooms.make(rooms.alice)
    upgrade = {"new_version": OLD_DEFAULT}
    new = retiring.call("POST", f"/_matrix/client/v3/rooms/{quote(old)}/upgrade", token=token, json=upgrade)[
        "replacement_room"
    ]
    named = {"ours": aliased, "left": left}
    local_room = next(room for room in made.small_rooms if room not in rooms.newest)
    broken = rooms.make(rooms.alice)
    rooms.set_powers(broken, {rooms.alice: 100})

    def listed() -> dict[str, Json]:
        return {room["room_id"]: room for room in retiring.rooms()}

    def counted() -> bool:
        counts = {room_id: room["joined_local_members"] for room_id, room in listed().items()}
        return counts.get(new) == counts.get(orphan) == 1 and counts.get(left) == 0

    wait_until(counted, "Synapse's statistics are up to date")
    retiring.database.execute(f"DELETE FROM event_forward_extremities WHERE room_id = '{broken}'")  # noqa: S608
    with unchanged(retiring):
        result = run_module("synapse_rooms_info", {**federation.connection, "impact": True})
        plan = run_module("synapse_decommission_plan", federation.connection)["plan"]
    assert result["impact"] == {
        kind: sorted(room_ids)
        for kind, room_ids in {
            "orphaned": [*rooms.newest, orphan, old],
            "unadministered": [nobodys],
            # Who is invited to a direct chat is a creator, too.
            "creators": [*rooms.newest, *made.direct_rooms[1:]],
            "empowered": [orphan, others, aliased, child, space, old],
            "aliased": [aliased, left],
            "canonical_alias": [aliased],
            "published": [published],
            "space_parents": [child],
            "space_children": [space],
            "upgraded": [old],
            "broken": [broken],
            "unreadable": [],
        }.items()
    }

    assert plan["impact"] == result["impact"]
    assert plan["aliases"] == {f"#{name}:{rooms.server_name}": r for name, r in named.items()}
    assert plan["to_deactivate"] == len(federation.to_close)
    assert (plan["site"]["aliases"], plan["site"]["media_files"]) == (1, 0)
    assert 0 < plan["site"]["rooms_created"] < plan["rooms"]["federated"]
    assert (plan["servers"]["total"], plan["servers"]["sample"]) == (1, [federation.staying.server_name])
    warned = {warning["topic"]: warning["message"] for warning in plan["warnings"]}
    assert warned.keys() - {"cordon"} == {kind for kind in result["impact"] if result["impact"][kind]} - {
        "unadministered"
    }
    assert f"#ours:{rooms.server_name}" in warned["canonical_alias"] and child in warned["space_parents"]

    found = {room["room_id"]: room for room in result["rooms"]}
    assert found.keys() == listed().keys()
    assert all(room.items() <= found[room_id].items() for room_id, room in listed().items())
    assert found[orphan]["administrators"] == {"local": [host], "remote": [], "all_accounts": False}
    assert found[others]["administrators"] == {"local": [host], "remote": [rooms.alice], "all_accounts": False}
    assert found[everybodys]["administrators"]["all_accounts"] is True
    assert found[made.direct_rooms[1]]["administrators"]["remote"] == [rooms.alice]
    assert found[aliased]["aliases"] == [f"#ours:{rooms.server_name}"]
    assert found[left]["aliases"] == [f"#left:{rooms.server_name}"] and "federated" not in found[left]
    assert (found[child]["space_parents"], found[space]["space_children"]) == ([space], [child])
    assert (found[old]["replacement_room"], found[orphan]["replacement_room"]) == (new, None)
    assert found[local_room]["federated"] is False and "remote_members" not in found[local_room]
    assert (found[orphan]["federated"], found[orphan]["remote_members"]) == (True, 1)
    assert found[made.shared_by_other[0]]["remote_members"] == 3


def can_administer(rooms: Rooms, room_id: str) -> bool:
    """Whether Alice really may do what an administrator does: by what her own server, and then the other, says."""
    staying, token = rooms.staying, rooms.tokens[rooms.alice]
    room = f"/_matrix/client/v3/rooms/{quote(room_id)}"
    content = {**power_levels(staying, room_id), "notifications": {"room": 1}}
    try:
        staying.set_state(token, room_id, "m.room.topic", {"topic": "Alice was here"})
        staying.call("POST", f"{room}/kick", token=token, json={"user_id": rooms.peer})
        staying.call("POST", f"{room}/ban", token=token, json={"user_id": rooms.member})
        staying.set_state(token, room_id, POWER_LEVELS, content)
    except ApiError as error:
        if error.status != 403:
            raise
        return False

    def seen() -> bool:
        here = state(rooms.retiring, room_id)
        memberships = [here["m.room.member", user_id]["membership"] for user_id in (rooms.peer, rooms.member)]
        topic = here.get(("m.room.topic", ""), {}).get("topic")
        return memberships == ["leave", "ban"] and topic == "Alice was here" and here[POWER_LEVELS, ""] == content

    wait_until(seen, "the retiring server has taken all of it")
    return True


def test_handover(federation: Federation, rooms: Rooms, run_module: RunModule) -> None:
    retiring, host, bot = federation.retiring, rooms.host, federation.population.appservice_bot
    locked = retiring.register("locked_host")
    rooms.tokens[locked.user_id] = locked.token
    everybody = (rooms.alice, rooms.peer, rooms.member)
    older = {version: rooms.make(*everybody, room_version=version) for version in ("1", "6", OLD_DEFAULT, "11")}
    of_a_locked = rooms.make(*everybody, host=locked.user_id)
    retiring.lock(locked.user_id)
    # Nobody can log in as the bot, which is asked first.
    with_bot = rooms.make(*everybody)
    rooms.set_powers(with_bot, {host: 100, bot: 100}, events={POWER_LEVELS: 100, "m.room.topic": 99})
    retiring.join(APPSERVICE_TOKEN, with_bot, as_user=bot)
    without_alice = rooms.make(rooms.bob)
    of_both = rooms.make(rooms.alice, power_level_content_override={"users": {host: 100, rooms.alice: 100}})
    orphaned = [*rooms.newest, *older.values(), of_a_locked, with_bot]
    assert not any(can_administer(rooms, room_id) for room_id in orphaned)

    options = {**federation.connection, "to": [{"user_id": rooms.alice}]}
    before = {room_id: rooms.powers(room_id) for room_id in orphaned}
    with unchanged(retiring):
        predicted = run_module("synapse_room_handover", options, "--check", "--diff")
    sessions = retiring.database_fingerprint()["access_tokens"]
    done = run_module("synapse_room_handover", options, "--diff")
    assert done["handed_over"] == predicted["handed_over"]
    assert done["diff"] == predicted["diff"]
    by = {room_id: locked.user_id if room_id == of_a_locked else host for room_id in orphaned}
    # In version 12, to replace a room takes 150.
    level = {room_id: 150 if room_id in rooms.newest else 100 for room_id in orphaned}
    assert done["handed_over"] == [
        {"room_id": room_id, "by": by[room_id], "to": [rooms.alice], "level": level[room_id]}
        for room_id in sorted(orphaned)
    ]
    reason = f"no recipient is joined to the room: {rooms.alice}"
    assert done["not_handed_over"] == [{"room_id": without_alice, "reason": reason}]
    assert (done["failures"], done["changed"]) == ([], True)
    for room_id in orphaned:
        users = {**before[room_id]["users"], rooms.alice: level[room_id]}
        assert rooms.powers(room_id) == {**before[room_id], "users": users}
        assert done["diff"]["before"][room_id] == before[room_id]["users"]
        assert done["diff"]["after"][room_id] == users
    assert retiring.account(locked.user_id)["locked"]
    assert retiring.database_fingerprint()["access_tokens"] == sessions
    assert of_both not in {room["room_id"] for room in done["handed_over"]}

    with unchanged(retiring):
        again = run_module("synapse_room_handover", options)
    assert (again["changed"], again["handed_over"], again["failures"]) == (False, [], [])
    expected = {room_id: rooms.powers(room_id) for room_id in orphaned}
    wait_until(
        lambda: all(power_levels(federation.staying, room_id) == expected[room_id] for room_id in orphaned),
        "the other server has been told",
    )
    for room_id in orphaned:
        assert can_administer(rooms, room_id), room_id


def test_demotion(federation: Federation, rooms: Rooms, run_module: RunModule) -> None:
    retiring, staying, made = federation.retiring, federation.staying, federation.population
    host, peer, member, gone, alice = rooms.host, rooms.peer, rooms.member, rooms.gone, rooms.alice
    everybody = (alice, peer, member, gone, made.second_admin)
    never = retiring.user_id("never_there")

    peers = rooms.make(*everybody)
    powers = {host: 100, peer: 100, made.second_admin: 100, member: 50, gone: 50, never: 75, alice: 60}
    rooms.set_powers(peers, {**powers, made.odd_users[0]: -1})
    above = rooms.make(*everybody)
    rooms.set_powers(above, {host: 100, gone: 100, member: 50, alice: 100})
    for room_id in (peers, above):
        retiring.leave(rooms.tokens[gone], room_id)
    newest = rooms.make(*everybody, room_version="12")
    rooms.set_powers(newest, {peer: 100, member: 50, never: 150, alice: 100})
    orphan = rooms.make(alice, peer, member, room_version="6")
    alone = rooms.make(peer)
    rooms.set_powers(alone, {host: 100, peer: 50})

    run_module("synapse_room_handover", {**federation.connection, "to": [{"user_id": alice}]})
    before = {room_id: rooms.powers(room_id) for room_id in (peers, above, newest, orphan, alone)}
    events = len(retiring.messages(rooms.tokens[host], peers))
    with unchanged(retiring):
        predicted = run_module("synapse_room_demotion", federation.connection, "--check", "--diff")
    done = run_module("synapse_room_demotion", federation.connection, "--diff")
    for key in ("demoted", "remaining", "failures", "diff", "changed"):
        assert done[key] == predicted[key]
    assert done["failures"] == []
    demoted = {
        peers: [host, peer, made.second_admin, member, gone, never],
        above: [host, member],
        newest: [peer, member, never],
        orphan: [host],
    }
    assert done["demoted"] == [{"room_id": r, "user_ids": sorted(demoted[r])} for r in sorted(demoted)]
    creator = "is a creator, and creators of this room version keep their power"
    creators = dict.fromkeys((*rooms.newest, newest), host)
    creators.update(zip(made.direct_rooms[1:], made.users[2:4], strict=True))
    outranked = (
        "is not joined to the room, and there is no account of this server with a higher level that can be acted as"
    )
    remaining = [{"room_id": room_id, "user_id": user_id, "reason": creator} for room_id, user_id in creators.items()]
    remaining.append({"room_id": above, "user_id": gone, "reason": outranked})
    assert done["remaining"] == sorted(remaining, key=lambda one: str(one["room_id"]))

    # The other server sees nobody of ours with power but those who are named, and nothing else is different.
    def seen() -> bool:
        return all(power_levels(staying, room_id) == rooms.powers(room_id) for room_id in demoted)

    wait_until(seen, "the other server has been told")
    for room_id, user_ids in demoted.items():
        users = {user_id: level for user_id, level in before[room_id]["users"].items() if user_id not in user_ids}
        assert power_levels(staying, room_id) == {**before[room_id], "users": users}
    powerful = {
        (room["room_id"], user_id)
        for room in staying.rooms()
        for user_id, level in power_levels(staying, room["room_id"]).get("users", {}).items()
        if user_id.endswith(f":{rooms.server_name}") and level > 0
    }
    assert powerful == {(above, gone)}
    assert rooms.powers(alone) == before[alone]
    # The three peers took one event each, and the first took the others along.
    assert len(retiring.messages(rooms.tokens[host], peers)) == events + 3
    for room_id in (above, newest, orphan):
        assert can_administer(rooms, room_id), room_id

    with unchanged(retiring):
        again = run_module("synapse_room_demotion", federation.connection)
    assert (again["changed"], again["demoted"], again["remaining"]) == (False, [], done["remaining"])
