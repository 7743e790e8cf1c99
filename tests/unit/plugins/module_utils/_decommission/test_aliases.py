# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.aliases import (
    ALIASES_TYPE,
    Kept,
    Release,
    release,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError, SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    OPERATOR,
    SERVER,
    Json,
    matrix_error,
    room_id,
    user,
)
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import CANONICAL_ALIAS as CANONICAL
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver, create

ALICE, BOB, CAROL = (f"@{name}:{SERVER}" for name in ("alice", "bob", "carol"))
ONE, TWO = f"#one:{SERVER}", f"#two:{SERVER}"
THEIRS = "#theirs:other.example"
R1, R2 = room_id("r1"), room_id("r2")
Simulate = Callable[..., Homeserver]
FORBIDDEN = 403, matrix_error("M_FORBIDDEN", "not you")
BROKEN = 500, matrix_error("M_UNKNOWN", "broken")


def run(client: Client, *, dry_run: bool = False) -> Release:
    return release(client, dry_run=dry_run)


def powers(server: Homeserver, *able: str) -> None:
    """Say who may change what R1 is called, those with more power first."""
    levels = {user_id: 100 - rank for rank, user_id in enumerate(able)}
    server.set_content(R1, "m.room.power_levels", {"users": levels})


def named(simulate: Simulate, able: str = ALICE) -> Homeserver:
    server = simulate(user("alice"), user("bob"), user("carol"), alice=["r1"], bob=["r1"], op=["r2"])
    server.directory = {ONE: R1, TWO: R1}
    server.state[R1] = [create("10", ALICE)]
    server.set_content(R1, CANONICAL, {"alias": ONE, "alt_aliases": [THEIRS, TWO], "org.example": True})
    powers(server, able)
    return server


def test_all_is_released(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    done = run(lone_client)
    assert done.changed and done.aborted is None and not done.failed and not done.not_renamed
    assert done.recorded == done.found == {ONE: R1, TWO: R1}
    assert done.released == [ONE, TWO]
    assert server.directory == {}
    assert server.content(R1, CANONICAL) == {"alt_aliases": [THEIRS], "org.example": True}
    content = {"server_name": SERVER, "aliases": {ONE: R1, TWO: R1}}
    assert server.account_data[OPERATOR, ALIASES_TYPE] == content
    # On record before anything else is done.
    assert server.steps[0] == f"PUT {ALIASES_TYPE} account_data"
    limits = [write.split()[0] for write in server.writes if "override_ratelimit" in write]
    assert limits == ["POST", "DELETE"], "lifted, and put back"

    server.log.clear()
    again = run(lone_client)
    assert not again.changed and again.recorded == done.recorded and again.released == []
    assert server.writes == []


def test_a_dry_run_predicts_and_writes_nothing(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    predicted = run(lone_client, dry_run=True)
    assert server.writes == []
    assert predicted == run(lone_client)


def test_nothing_to_do(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(op=["r1"])
    assert run(lone_client) == Release()
    assert server.writes == []


def test_the_record_grows(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    old = f"#old:{SERVER}"
    server.account_data[OPERATOR, ALIASES_TYPE] = {"server_name": SERVER, "aliases": {old: "!purged", TWO: R2, "#x": 1}}
    assert run(lone_client).recorded == {old: "!purged", ONE: R1, TWO: R1}


def test_after_a_kill_the_record_is_there(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    server.last_write = 1
    killed = run(lone_client)
    assert isinstance(killed.aborted, FatalError)
    assert server.directory and server.account_data[OPERATOR, ALIASES_TYPE]["aliases"] == {ONE: R1, TWO: R1}
    # As if the directory had been emptied meanwhile, but not the room's state.
    server.last_write, server.directory = 100, {}
    done = run(lone_client)
    assert (done.recorded, done.released, list(done.renamed)) == ({ONE: R1, TWO: R1}, [], [R1])
    assert server.content(R1, CANONICAL)["alt_aliases"] == [THEIRS]


def test_without_a_record_nothing_is_deleted(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    server.faults[f"PUT {ALIASES_TYPE} account_data"] = [(413, matrix_error("M_TOO_LARGE", "too large"))]
    with pytest.raises(SynapseError, match="too large"):
        run(lone_client)
    assert server.directory == {ONE: R1, TWO: R1}


# Who changes what a room is called


def test_the_operator_goes_first(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    server.join(OPERATOR, "r1")
    powers(server, ALICE, BOB, OPERATOR)
    run(lone_client)
    assert server.content(R1, CANONICAL)["alt_aliases"] == [THEIRS]
    assert not [write for write in server.writes if "login" in write]


def test_then_the_one_with_the_most_power(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    powers(server, CAROL, BOB, ALICE)
    run(lone_client)
    assert [write for write in server.writes if "login" in write] == [f"POST login {BOB}"]


def test_another_one_when_that_fails(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    powers(server, BOB, ALICE)
    server.faults[f"PUT state {R1}"] = [FORBIDDEN]
    done = run(lone_client)
    assert list(done.renamed) == [R1] and not done.not_renamed


def test_one_who_is_locked(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    server.accounts[ALICE]["locked"] = True
    assert list(run(lone_client).renamed) == [R1]
    assert server.locks == [(ALICE, False), (ALICE, True)]


@pytest.mark.parametrize("able", [CAROL, "@someone:other.example"])
def test_nobody_has_the_power(simulate: Simulate, lone_client: Client, able: str) -> None:
    server = named(simulate, able)
    done = run(lone_client)
    assert done.not_renamed == {R1: "no joined account of this server has the power to change the canonical alias"}
    assert done.released == [ONE, TWO] and server.content(R1, CANONICAL)["alias"] == ONE
    again = run(lone_client)
    assert not again.changed and again.not_renamed == done.not_renamed


def test_all_who_may_are_refused(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    server.faults[f"PUT state {R1}"] = [FORBIDDEN]
    done = run(lone_client)
    assert "not you" in done.not_renamed[R1] and done.released == [ONE, TWO]


@pytest.mark.parametrize("content", [None, {"alias": ONE}])
def test_a_room_that_nobody_is_in_any_more(simulate: Simulate, lone_client: Client, content: Json | None) -> None:
    server = simulate(user("alice"), alice=["r1"])
    server.directory = {ONE: R1}
    server.members[R1]["@alice:example.org"] = "leave"
    if content is not None:
        server.set_content(R1, CANONICAL, content)
    done = run(lone_client)
    assert done.released == [ONE] and done.not_renamed == {}


def test_a_canonical_alias_that_is_in_no_directory(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    server.directory = {}
    done = run(lone_client)
    assert (done.recorded, list(done.renamed)) == ({}, [R1])


@pytest.mark.parametrize(
    "content",
    [{}, {"alias": None}, {"alias": 1, "alt_aliases": 2}, {"alt_aliases": [1, None, {}]}, {"alias": THEIRS}],
)
def test_a_canonical_alias_that_is_not_ours(simulate: Simulate, lone_client: Client, content: Json) -> None:
    server = named(simulate)
    server.set_content(R1, CANONICAL, content)
    done = run(lone_client)
    assert not done.renamed and not done.not_renamed and server.content(R1, CANONICAL) == content


def test_a_state_that_cannot_be_read(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    server.faults[f"GET state {R1}"] = [BROKEN]
    done = run(lone_client)
    assert "broken" in done.not_renamed[R1] and done.released == [ONE, TWO]


# Deleting


def test_one_that_cannot_be_deleted(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    server.faults[f"DELETE {ONE} room"] = [BROKEN]
    done = run(lone_client)
    assert list(done.failed) == [ONE] and "broken" in done.failed[ONE] and done.released == [TWO]


def test_one_that_is_gone_already(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    server.faults[f"DELETE {ONE} room"] = [(404, matrix_error("M_NOT_FOUND", "Unknown room alias"))]
    assert run(lone_client).released == [ONE, TWO]


def test_what_another_server_would_have_to_delete_is_left(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"), alice=["r1"])
    server.directory = {THEIRS: R1, f"#x:sub.{SERVER}": R1, f"#y:{SERVER}:8448": R1}
    assert run(lone_client) == Release()


def test_a_session_that_cannot_be_ended_is_an_error_after_the_release(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    server.faults["POST logout v3"] = BROKEN
    done = run(lone_client)
    assert (list(done.renamed), done.released) == ([R1], [ONE, TWO])
    assert "could not be ended" in str(done.aborted)


# With a static site


@pytest.mark.parametrize("kept", [Kept(all_federated=True), Kept(names={ONE, "#none:example.org"})])
def test_aliases_for_a_static_site_are_kept(simulate: Simulate, lone_client: Client, kept: Kept) -> None:
    server = named(simulate)
    server.federate("r1")
    server.directory[f"#alone:{SERVER}"] = R2
    for _time in range(2):
        done = release(lone_client, kept, dry_run=False)
        both = [ONE, TWO] if kept.all_federated else [ONE]
        assert done.kept == both
        assert sorted(server.directory) == both
        content = server.content(R1, CANONICAL)
        assert (content["alias"], content["alt_aliases"]) == (ONE, [THEIRS, *both[1:]])
        # Also once all have left.
        server.leave_all()


def test_an_alias_of_a_room_that_is_only_ours_is_released(simulate: Simulate, lone_client: Client) -> None:
    server = named(simulate)
    assert release(lone_client, Kept(names={ONE}), dry_run=False).kept == []
    assert server.directory == {}
