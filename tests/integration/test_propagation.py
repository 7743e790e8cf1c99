# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole playbook on a server that federates with others that are up, down, back, or barred.

Whom another server lists is what its own admin API says.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Homeserver, Lab, MissingError, Settings
from lab.api import quote
from lab.waiting import wait_until

from .conftest import ROOT, RunPlaybook
from .test_playbook import PLAYBOOK

ACCOUNTS = 18
ROOMS = {"b": "b", "c": "c", "bc": "bc", "d": "d", "bcd": "bcd", "alone": ""}
RECORD = "io.github.matrixops.decommission.rooms"

nightly = pytest.mark.nightly(category="scenarios")


class Net:
    """The servers: a is to be decommissioned, b, c and d share rooms with it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.rooms: dict[str, str] = {}
        self.pending: dict[str, str] = {}
        """The user IDs of invited and knocking accounts, by server name and membership."""

    def __getitem__(self, name: str) -> Homeserver:
        return self.lab[name]

    def populate(self) -> None:
        a, c = self["a"], self["c"]
        others = {name: self[name].register("somebody") for name in "bcd"}
        accounts = [a.register(f"user{number:02}") for number in range(ACCOUNTS)]
        for number, (name, servers) in enumerate(ROOMS.items()):
            host, *members = accounts[number :: len(ROOMS)]
            room = self.rooms[name] = a.create_room(host.token, preset="public_chat")
            for member in members:
                a.join(member.token, room)
            for server in servers:
                self[server].join(others[server].token, room, via=a.server_name)
        invited, ignoring, knocking = (a.register(name) for name in ("invited", "ignoring", "knocking"))
        ignored = {"ignored_users": {others["c"].user_id: {}}}
        path = f"/_matrix/client/v3/user/{quote(ignoring.user_id)}/account_data/m.ignored_user_list"
        a.call("PUT", path, token=ignoring.token, json=ignored)
        for account in (invited, ignoring):
            c.invite(others["c"].token, c.create_room(others["c"].token), account.user_id)
        knock = {"join_rule": "knock"}
        initial_state = [{"type": "m.room.join_rules", "state_key": "", "content": knock}]
        a.knock(knocking.token, c.create_room(others["c"].token, initial_state=initial_state), via=c.server_name)
        wait_until(lambda: not any(self[name].undelivered() for name in "abcd"), "all is delivered")
        wait_until(lambda: len(self.pending_at("c")) == 3, "c lists the invites and the knock")

    def listed_by(self, name: str) -> dict[str, list[str]]:
        """The accounts of a that another server lists as joined, by room ID."""
        return self[name].members_of(self["a"].server_name)

    def pending_at(self, name: str) -> list[str]:
        """The accounts of a that another server lists as invited or knocking."""
        found = []
        for room in self[name].rooms():
            for event in self[name].admin("GET", f"/v1/rooms/{quote(room['room_id'])}/state")["state"]:
                if event["type"] == "m.room.member" and event["content"]["membership"] in ("invite", "knock"):
                    found.append(event["state_key"])
        return sorted(user_id for user_id in found if user_id.endswith(self["a"].server_name))

    @property
    def host(self) -> dict[str, Any]:
        """The variables of the host: as short as can be."""
        return {
            **self["a"].role_variables,
            "decommission_power_off_tasks": str(Path(__file__).with_name("power_off.yml")),
            # These tasks leave the homeserver running.
            "decommission_power_off_timeout": 0,
            "off_marker": str(self["a"].directory / "powered_off"),
            "decommission_propagation_period": "1h",
            "decommission_poll_interval": 1,
            "decommission_early_exit": True,
            "decommission_unreachable_after": "0s",
        }

    @property
    def is_off(self) -> bool:
        return (self["a"].directory / "powered_off").exists()


@pytest.fixture(scope="module")
def populated(skip_or_fail: Callable[[str], None]) -> Iterator[Net]:
    try:
        with Lab(ROOT / ".cache/tests/propagation", ["a", "b", "c", "d"], base_port=18660) as lab:
            net = Net(lab)
            net.populate()
            lab.snapshot("populated")
            yield net
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.fixture
def net(populated: Net) -> Iterator[Net]:
    yield populated
    for server in populated.lab.servers.values():
        server.configure(Settings())
    populated.lab.restore("populated")


@pytest.fixture
def run(net: Net, run_playbook: RunPlaybook) -> Callable[..., str]:
    """Run the playbook on a to its end, and return what it prints."""

    def run(*arguments: str, **variables: Any) -> str:
        done = run_playbook(PLAYBOOK, {"a": {**net.host, **variables}}, *arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


Run = Callable[..., str]


def test_servers_that_are_down(net: Net, run: Run) -> None:
    """c is down during the drain, in which ours is restarted after; d is down for the whole period."""
    assert len(net.pending_at("c")) == 3
    net["c"].stop()
    net["d"].stop()
    output = run(decommission_wait=False, decommission_early_exit=False)
    assert "Run again from " in output
    assert not net.is_off
    # What was to be sent is lost with it.
    net["a"].kill()
    net["a"].start()
    net["c"].start()
    assert net.listed_by("c")
    output = run()
    assert net.is_off
    # Ours may have been killed before it had sent all leaves to b.
    assert re.search(f"{net['b'].server_name}: (ghosts removed .*; )?confirmed, 3 of 3 rooms", output), output
    assert f"{net['c'].server_name}: ghosts removed (" in output, output
    assert f"{net['d'].server_name}: unreachable in 2 rooms since " in output, output
    for name in "abc":
        assert net.listed_by(name) == {}
    assert net.pending_at("c") == []
    # A later run heals what was unreachable, and another changes nothing.
    net["d"].start()
    assert net.listed_by("d")
    output = run(decommission_power_off=False)
    assert f"{net['d'].server_name}: ghosts removed (" in output, output
    assert net.listed_by("d") == {}
    assert "changed=0 " in run(decommission_power_off=False)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"decommission_stages": ["power_off"]}, id="power_off"),
        pytest.param({}, id="all stages", marks=nightly),
    ],
)
def test_an_account_that_joined_and_left_again_between_two_runs(net: Net, run: Run, more: dict[str, Any]) -> None:
    """The period starts again, although each account is deactivated and in no room whenever the role reads them."""
    run(decommission_wait=False, decommission_early_exit=False)
    a, room = net["a"], net.rooms["b"]
    user_id = a.user_id("user00")
    a.admin("PUT", f"/v2/users/{quote(user_id)}", json={"deactivated": False, "password": "restored"})
    a.join(a.login_as(user_id).token, room, via=net["b"].server_name)
    wait_until(lambda: net.listed_by("b") == {room: [user_id]}, "b lists the account")
    before = int(time.time())
    a.deactivate(user_id, erase=True)
    wait_until(lambda: not a.joined_rooms(user_id), "the account has left")
    # As if the first run had been a day ago.
    path = f"/_matrix/client/v3/user/{quote(a.operator.user_id)}/account_data/io.github.matrixops.decommission"
    record = a.call("GET", path, token=a.admin_token)
    record["milestones"]["left_federated_rooms"] -= 86400
    a.call("PUT", path, token=a.admin_token, json=record)

    run(decommission_wait=False, decommission_early_exit=False, **more)
    assert not net.is_off
    assert before <= a.call("GET", path, token=a.admin_token)["milestones"]["left_federated_rooms"] <= time.time()


@nightly
@pytest.mark.parametrize("lost", ["rooms", "record"])
def test_what_is_lost_on_ours(net: Net, run: Run, lost: str) -> None:
    """The rooms are purged, so that only the record knows them; or the record is lost, so that only Synapse does."""
    net["c"].stop()
    run(decommission_wait=False, decommission_early_exit=False)
    a = net["a"]
    if lost == "rooms":
        for room_id in net.rooms.values():
            a.admin("DELETE", f"/v1/rooms/{quote(room_id)}", json={"purge": True, "force_purge": True})
    else:
        path = f"/_matrix/client/v3/user/{quote(a.operator.user_id)}/account_data/{RECORD}"
        a.call("PUT", path, token=a.admin_token, json={})
    a.restart()
    net["c"].start()
    assert net.listed_by("c")
    run()
    assert net.is_off
    for name in "abcd":
        assert net.listed_by(name) == {}


@nightly
def test_a_server_that_was_never_contacted(net: Net, run: Run) -> None:
    """Synapse has nothing recorded for it once ours is restarted."""
    listed = net["a"].admin("GET", "/v1/federation/destinations", params={"limit": "100"})["destinations"]
    taken = {row["destination"]: row["last_successful_stream_ordering"] for row in listed}
    assert taken.get(net["d"].server_name) is None
    net["d"].stop()
    run(decommission_wait=False, decommission_early_exit=False)
    net["a"].kill()
    net["a"].start()
    net["d"].start()
    run()
    assert net.listed_by("d") == {}


@nightly
@pytest.mark.parametrize("setting", ["send_federation", "federation_domain_whitelist"])
def test_ours_does_not_send(net: Net, run: Run, setting: str) -> None:
    """Synapse sends its leaves to no server, or not to c and d, which are checked directly all the same."""
    value = {"send_federation": False, "federation_domain_whitelist": [net["b"].server_name]}[setting]
    net["a"].configure(Settings(extra_config={setting: value}))
    net["a"].restart()
    output = run()
    assert net.is_off
    assert f"{net['c'].server_name}: ghosts removed (" in output, output
    for name in "bcd":
        assert net.listed_by(name) == {}


@nightly
def test_different_ghosts_in_one_room(net: Net, run: Run) -> None:
    """Each server misses other leaves of the same room."""
    a, room = net["a"], net.rooms["bcd"]
    members = [member for member in a.joined_members(room) if member.endswith(a.server_name)]
    for name, member in zip("bcd", members, strict=False):
        net[name].stop()
        a.leave(a.login_as(member).token, room)
        a.restart()
        net[name].start()
    for name in "bcd":
        net[name].stop()
    run(decommission_wait=False, decommission_early_exit=False)
    a.restart()
    for name in "bcd":
        net[name].start()
    listed = [net.listed_by(name).get(room) for name in "bcd"]
    assert all(listed), listed
    run()
    for name in "bcd":
        assert net.listed_by(name) == {}


def test_servers_of_the_same_run(net: Net, run_playbook: RunPlaybook) -> None:
    """d is drained in the same run, and need not confirm. b is only read, and must."""

    def host(name: str, **variables: Any) -> dict[str, Any]:
        marker = str(net[name].directory / "powered_off")
        return {**net.host, **net[name].role_variables, "off_marker": marker, **variables}

    hosts = {
        "a": host("a"),
        "b": host("b", decommission_stages=["preflight"]),
        "d": host("d"),
    }
    before = net["b"].members_of(net["b"].server_name)
    done = run_playbook(PLAYBOOK, hosts)
    assert done.returncode == 0, done.stdout
    assert f"Ignored: {net['d'].server_name}" in done.stdout, done.stdout
    assert f"Ignored: {net['b'].server_name}" not in done.stdout
    assert net.is_off and (net["d"].directory / "powered_off").exists()
    assert not (net["b"].directory / "powered_off").exists()
    for name in "ad":
        for other in "bc":
            assert net[other].members_of(net[name].server_name) == {}
    assert net["b"].members_of(net["b"].server_name) == before


@nightly
def test_without_the_signing_key(net: Net, run_playbook: RunPlaybook) -> None:
    """The checks must be switched off explicitly. Then all servers are unconfirmed."""
    host = {**net.host, "decommission_signing_key_path": "/nowhere/signing.key"}
    refused = run_playbook(PLAYBOOK, {"a": host})
    assert refused.returncode == 2, refused.stdout
    assert "decommission_ghost_checks: false" in refused.stdout
    assert not net["a"].account(net["a"].user_id("user00"))["deactivated"]
    host |= {"decommission_ghost_checks": False, "decommission_propagation_period": "3s"}
    done = run_playbook(PLAYBOOK, {"a": host})
    assert done.returncode == 0, done.stdout
    assert f"{net['b'].server_name}: unconfirmed in 3 rooms: not checked" in done.stdout
    assert net.is_off


@nightly
def test_a_server_that_lists_accounts_keeps_the_gate_closed(net: Net, run: Run, run_playbook: RunPlaybook) -> None:
    """An account that joins by itself after the drain is listed, and is not removed by us."""
    run(decommission_wait=False, decommission_early_exit=False)
    a = net["a"]
    a.join(a.admin_token, net["b"].create_room(net["b"].login("somebody").token, preset="public_chat"),
           via=net["b"].server_name)  # fmt: skip
    host = {**net.host, "decommission_propagation_period": "0s", "decommission_stages": ["power_off"]}
    refused = run_playbook(PLAYBOOK, {"a": host})
    assert refused.returncode == 2, refused.stdout
    assert "is not drained" in refused.stdout
    assert not net.is_off
