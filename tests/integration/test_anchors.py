# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Anchors, held against what the other servers see once they have come back."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, MissingError
from lab.api import Account, ApiError
from lab.homeserver import Settings
from lab.waiting import wait_until

from .conftest import Result, RunModule, StartPlaybook, unchanged
from .test_federation import Net, Room
from .test_kill import kill, read_until

pytestmark = pytest.mark.nightly(category="anchors")

ROOT = Path(__file__).parents[2]


class Trio(Net):
    """Like that, but without a server that is lost."""

    def settled(self) -> bool:
        return not any(self.lab[name].undelivered() for name in "abc")

    def seen_by(self, server: str) -> dict[str, list[str]]:
        """Who of ``a`` is in which room, as another server sees it."""
        return self[server].members_of(self["a"].server_name)

    def is_alive(self, token: str) -> str:
        """What the server says of an access token: nothing against it, or the error code."""
        try:
            self["a"].call("GET", "/_matrix/client/v3/account/whoami", token=token)
        except ApiError as error:
            return error.errcode or str(error.status)
        return ""


@pytest.fixture(scope="module")
def net(skip_or_fail: Callable[[str], None]) -> Iterator[Trio]:
    try:
        with Lab(ROOT / ".cache/tests/anchors", ["a", "b", "c"], base_port=18670) as lab:
            yield Trio(lab)
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.fixture
def connection(net: Trio) -> dict[str, Any]:
    return {"base_url": net["a"].base_url, "access_token": net["a"].admin_token}


Anchors = Callable[..., Result]


@pytest.fixture
def anchors(connection: dict[str, Any], run_module: RunModule) -> Anchors:
    def run(*arguments: str, **options: Any) -> Result:
        return run_module("synapse_anchors", {**connection, **options}, *arguments)

    return run


@pytest.fixture(autouse=True)
def _nobody_left(net: Trio) -> Iterator[None]:
    """The next test finds nobody of ``a`` in any room, and no record."""
    yield
    for account in net["a"].accounts():
        for room_id in net["a"].joined_rooms(account["name"]):
            operator = net["a"].operator
            if account["locked"]:
                net["a"].admin("PUT", f"/v2/users/{account['name']}", json={"locked": False})
            token = operator.token if account["name"] == operator.user_id else net["a"].login_as(account["name"]).token
            net["a"].leave(token, room_id)
    path = f"/_matrix/client/v3/user/{net['a'].operator.user_id}/account_data/"
    for kind in ("", ".anchors", ".propagation"):
        net["a"].call("PUT", f"{path}io.github.matrixops.decommission{kind}", token=net["a"].admin_token, json={})


def rooms_of(result: Result) -> dict[str, str]:
    """The anchor of each room."""
    return {room_id: anchor["user_id"] for anchor in result["anchors"] for room_id in anchor["rooms"]}


def populate(net: Trio) -> dict[str, Room]:
    """Rooms with b, with c and with both; one of c's; one with the operator. Somebody is in three of them."""
    rooms = {
        "b": net.room("a", "b", anchored=False),
        "c": net.room("a", "c", anchored=False),
        "bc": net.room("a", "b", "c", anchored=False),
        "of_c": net.room("c", anchored=False),
        "operator": net.room("a", "c", anchored=True),
    }
    busy = rooms["b"].accounts[0]
    for name in ("c", "bc"):
        net["a"].join(busy.token, rooms[name].room_id)
    net["a"].join(busy.token, net["a"].create_room(net.account("a").token, preset="public_chat"))
    net.settle()
    return rooms


def test_a_server_that_was_down_heals(
    net: Trio, anchors: Anchors, connection: dict[str, Any], run_module: RunModule
) -> None:
    rooms = populate(net)
    a, operator = net["a"], net["a"].operator
    busy = rooms["b"].accounts[0]
    predicted = anchors("--check", "--diff", state="chosen")
    assert anchors()["anchors"] == []
    chosen = anchors("--diff", state="chosen")
    assert {**chosen, "invocation": None} == {**predicted, "invocation": None}
    anchor_of = rooms_of(chosen)
    assert set(anchor_of) == {room.room_id for room in rooms.values()}
    assert {anchor_of[rooms[name].room_id] for name in ("b", "c", "bc")} == {busy.user_id}
    assert anchor_of[rooms["operator"].room_id] == operator.user_id
    assert len(chosen["user_ids"]) == chosen["held"] + 1 == 3
    assert chosen["unanchored"] == chosen["lost"] == []
    assert a.joined_rooms(busy.user_id) == sorted(rooms[name].room_id for name in ("b", "c", "bc"))
    assert a.account(busy.user_id)["locked"] and not a.account(operator.user_id)["locked"]
    assert net.is_alive(busy.token) == "M_UNKNOWN_TOKEN"
    with unchanged(a):
        again = anchors("--diff", state="chosen")
    assert again["changed"] is False and again["diff"]["before"] == again["diff"]["after"] == chosen["diff"]["after"]

    net["c"].stop()
    keep = chosen["user_ids"]
    drained = run_module("synapse_user_deactivate", {**connection, "all_users": True, "keep": keep})
    assert drained["not_parted"] == drained["failures"] == []
    a.kill()
    a.start()
    net["c"].start()
    run_module("synapse_federation_retry", connection)

    def only_anchors(server: str) -> bool:
        return net.seen_by(server) == {
            room_id: [user_id] for room_id, user_id in anchor_of.items() if room_id in {*net.seen_by(server)}
        }

    wait_until(lambda: only_anchors("b"), "b sees only the anchors")
    wait_until(lambda: only_anchors("c"), "c sees only the anchors")
    assert set(net.seen_by("c")) == {rooms[name].room_id for name in ("c", "bc", "of_c", "operator")}
    after = anchors(state="chosen", keep=[])
    assert after["anchors"] == chosen["anchors"] and after["changed"] is False

    first = rooms["b"].room_id
    released = anchors("--diff", state="released", rooms=[first])
    assert (released["released"], released["closed"]) == (1, 0)
    assert first not in rooms_of(released) and a.account(busy.user_id)["locked"]
    wait_until(lambda: not net.seen_by("b").get(first), "b sees nobody in the room that was released")
    predicted = anchors("--check", "--diff", state="released")
    released = anchors("--diff", state="released")
    assert {**released, "invocation": None} == {**predicted, "invocation": None}
    assert (released["released"], released["closed"], released["anchors"]) == (4, 2, [])
    for server in ("b", "c"):
        wait_until(lambda name=server: not net.seen_by(name), f"{server} sees nobody")  # type: ignore[misc]
    assert a.account(busy.user_id)["erased"] and not a.account(operator.user_id)["deactivated"]
    assert anchors(state="released")["changed"] is False


def test_no_session_outlives_it(net: Trio, anchors: Anchors) -> None:
    a = net["a"]
    room = net.room("b", anchored=False, members=1)
    net.settle()
    (anchor,) = room.accounts
    localpart = anchor.user_id[1:].partition(":")[0]
    sessions = {"registered": anchor, "second": a.login(localpart), "by an admin": a.login_as(anchor.user_id)}
    assert anchors(state="chosen")["user_ids"] == [anchor.user_id]
    # One that an admin has opened is the admin's, and not to be ended; but it is of no use.
    dead = {name: net.is_alive(session.token) for name, session in sessions.items()}
    assert dead == {"registered": "M_UNKNOWN_TOKEN", "second": "M_UNKNOWN_TOKEN", "by an admin": "M_USER_LOCKED"}
    with pytest.raises(ApiError, match="M_USER_LOCKED"):
        a.login(localpart)
    assert net.is_alive(a.admin_token) == ""
    # Its password is what it was.
    a.admin("PUT", f"/v2/users/{anchor.user_id}", json={"locked": False})
    assert net.is_alive(sessions["second"].token) == "M_UNKNOWN_TOKEN"
    fresh = a.login(localpart)
    assert net.is_alive(fresh.token) == ""
    again = anchors(state="chosen")
    assert again["held"] == 1
    assert net.is_alive(fresh.token) == "M_UNKNOWN_TOKEN"


def test_an_anchor_that_is_gone(net: Trio, anchors: Anchors) -> None:
    a = net["a"]
    shared = {name: net.room("b", anchored=False) for name in ("kick", "ban", "deactivate")}
    lone = {name: net.room("b", anchored=False, members=1) for name in ("kick", "ban", "leave", "deactivate")}
    net.settle()
    before = anchors(state="chosen")
    anchor_of = rooms_of(before)

    def remove(room: Room, how: str) -> None:
        user_id = anchor_of[room.room_id]
        if how == "deactivate":
            a.deactivate(user_id, erase=False)
        elif how == "leave":
            a.admin("PUT", f"/v2/users/{user_id}", json={"locked": False})
            a.leave(a.login_as(user_id).token, room.room_id)
        else:
            path = f"/_matrix/client/v3/rooms/{room.room_id}/{how}"
            net["b"].call("POST", path, token=room.owner.token, json={"user_id": user_id})
        wait_until(lambda: room.room_id not in a.joined_rooms(user_id), f"{how}: the anchor is gone")

    for rooms in (shared, lone):
        for how, room in rooms.items():
            remove(room, how)

    reasons = {
        "kick": "was kicked by {}",
        "ban": "was banned by {}",
        "leave": "left by itself",
        "deactivate": "the account was deactivated",
    }

    def losses(rooms: dict[str, Room]) -> dict[str, tuple[str, str]]:
        return {r.room_id: (anchor_of[r.room_id], reasons[how].format(r.owner.user_id)) for how, r in rooms.items()}

    def told(entries: list[dict[str, str]]) -> dict[str, tuple[str, str]]:
        return {entry["room_id"]: (entry["user_id"], entry["reason"]) for entry in entries}

    assert told(anchors()["lost"]) == losses(shared) | losses(lone)
    after = anchors(state="chosen")
    assert told(after["replaced"]) == losses(shared)
    assert told(after["lost"]) == losses(lone)
    for room in shared.values():
        replacement = rooms_of(after)[room.room_id]
        assert replacement != anchor_of[room.room_id]
        assert replacement in {account.user_id for account in room.accounts}
        assert a.account(replacement)["locked"]
    again = anchors(state="chosen")
    assert again["changed"] is False and told(again["lost"]) == losses(lone)
    assert anchors(state="released")["closed"] == 3 + 7


def test_killed_and_run_again(
    net: Trio,
    anchors: Anchors,
    connection: dict[str, Any],
    start_playbook: StartPlaybook,
    tmp_path: Path,
    chance: random.Random,
) -> None:
    a = net["a"]
    rooms = [net.room("a", "b", anchored=False, members=1) for _room in range(8)]
    for room in rooms:
        for account in room.accounts:
            a.create_room(account.token)
    net.settle()
    predicted = rooms_of(anchors("--check", state="chosen"))
    assert set(predicted) == {room.room_id for room in rooms}
    task = {"name": "Choose", "matrixops.synapse.synapse_anchors": {**connection, "state": "chosen", "concurrency": 1}}
    playbook = tmp_path / "choose.json"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))

    def locked() -> int:
        return sum(account["locked"] and not account["deactivated"] for account in a.accounts())

    before = locked()
    states = []
    for goal in (0, 2, 5, 7):
        with start_playbook(playbook, {"host": {}}) as process:
            read_until(process, "Choose")
            wait_until(lambda goal=goal: locked() >= before + goal, "it has come that far")  # type: ignore[misc]
            # Not to wait for anything: to be killed anywhere.
            time.sleep(chance.uniform(0, 0.1))
            kill(process)
        states.append(locked() - before)
        assert rooms_of(anchors()) in ({}, predicted)
    print(f"accounts locked after each kill: {states}")
    last = anchors(state="chosen")
    assert rooms_of(last) == predicted and last["lost"] == []
    assert all(a.account(user_id)["locked"] for user_id in last["user_ids"])
    assert {user_id: a.joined_rooms(user_id) for user_id in last["user_ids"]} == {
        anchor["user_id"]: anchor["rooms"] for anchor in last["anchors"]
    }
    assert anchors(state="chosen")["changed"] is False


def test_who_can_anchor(net: Trio, anchors: Anchors) -> None:
    a = net["a"]

    def room_with(*accounts: Account) -> str:
        owner, opener = net.account("b"), net.account("a")
        room_id = net["b"].create_room(owner.token, preset="public_chat", initial_state=[GUESTS])
        # A guest can't be the first of its server.
        for account in (opener, *accounts):
            a.join(account.token, room_id, via=net["b"].server_name)
        a.leave(opener.token, room_id)
        return room_id

    guest, bridged = a.register_guest(), a.register_appservice_user(f"_bridge_{next(net.names)}")
    suspended, locked, ordinary = net.account("a"), net.account("a"), net.account("a")
    rooms = {
        "guest": room_with(guest),
        "appservice": room_with(bridged),
        "suspended": room_with(suspended, guest),
        "locked": room_with(locked, bridged),
        "ordinary": room_with(locked, suspended, ordinary),
    }
    net.settle()
    a.suspend(suspended.user_id)
    a.lock(locked.user_id)
    chosen = anchors(state="chosen")
    expected = {"suspended": suspended, "locked": locked, "ordinary": ordinary}
    assert rooms_of(chosen) == {rooms[name]: account.user_id for name, account in expected.items()}
    assert {entry["room_id"]: entry["reason"].split(": ")[1] for entry in chosen["unanchored"]} == {
        rooms["guest"]: "guest",
        rooms["appservice"]: "appservice",
    }
    # The locked one and the suspended one have left what they don't anchor, too.
    assert a.joined_rooms(locked.user_id) == [rooms["locked"]]
    assert a.joined_rooms(suspended.user_id) == [rooms["suspended"]]
    assert net.is_alive(locked.token) == "M_UNKNOWN_TOKEN"
    released = anchors(state="released")
    assert (released["released"], released["closed"]) == (3, 3)
    assert not any(a.joined_rooms(account.user_id) for account in expected.values())
    left = {rooms[name] for name in expected}
    anchored = {account.user_id for account in expected.values()}
    wait_until(
        lambda: not any(anchored.intersection(net.seen_by("b").get(room_id, ())) for room_id in left),
        "b sees none of them",
    )


GUESTS = {"type": "m.room.guest_access", "state_key": "", "content": {"guest_access": "can_join"}}


def leave_and_restart(net: Trio, token: str, room_id: str) -> None:
    """Leave a room, and restart Synapse before it gets round to sending that: in the meantime, there is no sender."""
    no_sender = {"federation_sender_instances": ["nobody"], "instance_map": {"main": {"host": "127.0.0.1", "port": 1}}}

    def restart(settings: Settings) -> None:
        net["a"].stop()
        net["a"].configure(settings)
        net["a"].start()

    restart(Settings(extra_config=no_sender))
    net["a"].leave(token, room_id)
    restart(net.lab.settings)


def test_no_last_leave_overtakes_another(net: Trio, anchors: Anchors) -> None:
    """Synapse was restarted before it got round to the first one. It sends the newer, and forgets the older one, if it
    comes to both at the same time: most times, but for what this is about."""
    a, b = net["a"], net["b"]
    for number in range(3):
        anchor = a.register(f"overtaken{number}")
        first, second = (b.create_room(net.account("b").token, preset="public_chat") for _room in range(2))
        for room_id in (first, second):
            a.join(anchor.token, room_id, via=b.server_name)
        net.settle()
        leave_and_restart(net, anchor.token, first)
        assert rooms_of(anchors(state="chosen")) == {second: anchor.user_id}
        assert anchors(state="released")["changed"]
        wait_until(lambda: not net.seen_by("b"), "the other server sees nobody")
        assert not a.joined_rooms(a.operator.user_id), "what it took to wake Synapse"


def test_a_leave_of_the_first_wave_that_was_overtaken(
    net: Trio, anchors: Anchors, connection: dict[str, Any], run_module: RunModule
) -> None:
    """Another server has missed it, and nothing shows. Without more, it drops the last leave, too."""
    a, b = net["a"], net["b"]
    run_module("synapse_propagation", {**connection, "state": "begun"})

    def told(*room_ids: str) -> bool:
        return not set(a.undelivered().get(b.server_name, ())).intersection(room_ids)

    def overtaken(number: int) -> bool:
        anchor, other = a.register(f"anchor{number}"), a.register(f"other{number}")
        owner = net.account("b")
        first, *more = rooms = [b.create_room(owner.token, preset="public_chat") for _room in range(10)]
        for room_id in rooms:
            a.join(anchor.token, room_id, via=b.server_name)
            a.join(other.token, room_id, via=b.server_name)
        # It is in more rooms than the other.
        a.join(anchor.token, b.create_room(owner.token, preset="public_chat"), via=b.server_name)
        wait_until(lambda: told(*rooms), "b has been told of all")
        anchor_of = rooms_of(anchors(state="chosen"))
        assert {anchor_of[room_id] for room_id in rooms} == {anchor.user_id}
        leave_and_restart(net, other.token, first)
        for room_id in more:
            a.leave(other.token, room_id)
        wait_until(lambda: told(*rooms), "nothing shows")

        def still_there() -> set[str]:
            return {room_id for room_id, members in net.seen_by("b").items() if other.user_id in members}

        wait_until(lambda: still_there() <= {first}, "b has acted on what it has been told")
        return first in still_there()

    assert any(overtaken(number) for number in range(8)), "no leave has overtaken another"
    run_module("synapse_decommission_state", {**connection, "mark": ["started", "first_wave_ended"]})
    options = {**connection, "period": 0, "settling": 3, "last_leaves_timeout": 30, "wait": False}
    wait_until(lambda: run_module("synapse_propagation", options)["finished"], "all has been told")
    assert not net.seen_by("a")
    wait_until(lambda: not net.seen_by("b"), "the other server sees nobody")
