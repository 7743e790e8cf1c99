# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole playbook on a server that federates with one that is up, one that is down, and one that is lost.

What the other servers were told is what their own admin APIs say.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab import Homeserver, Lab, MissingError, Settings
from lab.homeserver import FEDERATION
from lab.waiting import wait_until

from .conftest import ROOT, Result, RunModule, RunPlaybook, StartPlaybook
from .test_kill import kill
from .test_playbook import PLAYBOOK

pytestmark = pytest.mark.nightly(category="anchors")

ACCOUNTS = 100
ROOMS = {"b": "b", "c": "c", "bc": "bc", "d": "d", "bcd": "bcd", "alone": ""}


class Net:
    """The servers: a is to be retired, b is up, c comes and goes, and d is lost. All rooms are shared in turn."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.rooms: dict[str, str] = {}

    def __getitem__(self, name: str) -> Homeserver:
        return self.lab[name]

    def populate(self) -> None:
        others = {name: self[name].register("somebody") for name in "bcd"}
        accounts = [self["a"].register(f"user{number:03}") for number in range(ACCOUNTS)]
        for number, (name, servers) in enumerate(ROOMS.items()):
            host, *members = accounts[number :: len(ROOMS)]
            room = self.rooms[name] = self["a"].create_room(host.token, preset="public_chat")
            for member in members:
                self["a"].join(member.token, room)
            for server in servers:
                self[server].join(others[server].token, room, via=self["a"].server_name)
        # In every room with others: with the one of each room who may come next, the fewest that cover them.
        for name in ("b", "c", "bc"):
            self["a"].join(accounts[0].token, self.rooms[name])
        wait_until(lambda: not any(self[name].undelivered() for name in "abcd"), "all is told")

    def seen_by(self, name: str) -> dict[str, list[str]]:
        """Who of a is in which room, as another server sees it."""
        return self[name].members_of(self["a"].server_name)

    def anchored(self) -> set[str]:
        """The rooms, by their names, that somebody of a is in."""
        occupied = self["a"].members_of(self["a"].server_name)
        return {name for name, room_id in self.rooms.items() if room_id in occupied}

    @property
    def host(self) -> dict[str, Any]:
        """The variables of the host: as short as can be."""
        return {
            "decommission_base_url": self["a"].base_url,
            "decommission_access_token": self["a"].admin_token,
            "decommission_confirm": self["a"].server_name,
            "decommission_power_off_tasks": str(Path(__file__).with_name("power_off.yml")),
            "off_marker": str(self["a"].directory / "powered_off"),
            "decommission_propagation_period": "1h",
            "decommission_poll_interval": 1,
            "decommission_settling_time": 3,
            "decommission_last_leaves_timeout": 15,
            "decommission_nudge_interval": 5,
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
    populated.lab.restore("populated")


@pytest.fixture
def state(net: Net, run_module: RunModule) -> Callable[[], Result]:
    options = {"base_url": net["a"].base_url, "access_token": net["a"].admin_token}
    return lambda: run_module("synapse_decommission_state", options)


def read_until_waiting(process: subprocess.Popen[str]) -> None:
    """Follow a run until it has looked for the first time, and says how things stand."""
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if line.startswith("a: ") and "servers told" in line:
            return
    raise AssertionError(output)


@contextmanager
def killed_at_last(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A run that waits for an hour must not make a test that fails wait with it."""
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                kill(process)


def ended(process: subprocess.Popen[str]) -> str:
    output, _nothing = process.communicate()
    assert process.returncode == 0, output
    return output


def test_retire(net: Net, start_playbook: StartPlaybook, state: Callable[[], Result], tmp_path: Path) -> None:
    """Three minutes, in which both the homeserver and the controller are killed."""
    host = {**net.host, "decommission_propagation_period": "3m", "decommission_poll_interval": 10}
    net["c"].stop()
    net["d"].stop()
    with killed_at_last(start_playbook(PLAYBOOK, {"a": host})) as process:
        read_until_waiting(process)
        # What was to be sent is lost with it, and c has to catch up.
        net["a"].kill()
        net["a"].start()
        wait_until(lambda: net.anchored() == {"c", "bc", "d", "bcd"}, "b's room has no anchor any more")
    before = state()["milestones"]
    anchors = net["a"].members_of(net["a"].server_name)
    net["c"].start()
    with killed_at_last(start_playbook(PLAYBOOK, {"a": host})) as process:
        read_until_waiting(process)
        wait_until(lambda: net.anchored() == {"d", "bcd"}, "c has been told")
        assert net["a"].members_of(net["a"].server_name).items() <= anchors.items()
        wait_until(lambda: not net.seen_by("c").keys() - {net.rooms["bcd"]}, "c sees the anchor of d only")
        output = ended(process)
    after = state()["milestones"]
    assert after["first_wave_ended"] == before["first_wave_ended"]
    assert after["second_wave_ended"] - after["first_wave_ended"] >= 180
    assert f"{net['d'].server_name} is unreachable" in output, output
    assert net.rooms["d"] in output and net.rooms["bcd"] in output
    assert net.is_off
    assert net.seen_by("a") == net.seen_by("b") == net.seen_by("c") == {}
    net["d"].start()
    assert net.seen_by("d")


def test_two_that_retire_together(net: Net, run_module: RunModule) -> None:
    """Their last leaves follow upon each other. A third server that gets one without the other would drop it."""
    a, b, c = (net[name] for name in "abc")
    first, second, watcher = (server.register("together") for server in (a, b, c))
    rooms = [a.create_room(first.token, preset="public_chat") for _room in range(8)]
    for room in rooms:
        b.join(second.token, room, via=a.server_name)
        c.join(watcher.token, room, via=a.server_name)
    wait_until(lambda: not any(net[name].undelivered() for name in "abcd"), "all is told")

    def run(server: Homeserver, module: str, **options: Any) -> Result:
        connection = {"base_url": server.base_url, "access_token": server.admin_token}
        return run_module(module, {**connection, **options})

    def left(server: Homeserver) -> set[str]:
        """Let its anchors leave, if they may. b has to be more patient than c is away, and a waits for c."""
        mate, settling = {a: (b, 3), b: (a, 100)}[server]
        run(server, "synapse_propagation", period=0, settling=settling, wait=False, ignore=[mate.server_name])
        return set(rooms).difference(server.members_of(server.server_name))

    for server in (a, b):
        run(server, "synapse_propagation", state="begun")
        run(server, "synapse_anchors", state="chosen")
        run(server, "synapse_decommission_state", mark=["started", "first_wave_ended"])
    assert c.pid is not None and a.server_name < b.server_name
    try:
        # It gets nothing now, and then everything at once.
        os.kill(c.pid, signal.SIGSTOP)
        assert left(b) == set()
        wait_until(lambda: left(a) == set(rooms), "a has left")
        assert left(b) == set()
    finally:
        os.kill(c.pid, signal.SIGCONT)
    wait_until(lambda: left(b) == set(rooms), "b has left")
    for server in (a, b):
        wait_until(lambda s=server: not set(rooms) & set(c.members_of(s.server_name)), "c sees nobody in these rooms")


def test_without_anchors_there_are_ghosts(net: Net, start_playbook: StartPlaybook) -> None:
    """What the custom comes to; and that the test above can fail."""
    host = {**net.host, "decommission_anchors": False, "decommission_propagation_period": "20s"}
    net["c"].stop()
    with killed_at_last(start_playbook(PLAYBOOK, {"a": host})) as process:
        read_until_waiting(process)
        net["a"].kill()
        net["a"].start()
        net["c"].start()
        output = ended(process)
    assert net.is_off
    c = net["c"].server_name
    assert re.search(f"{c} is (unknown|unreachable)", output), output
    assert net.seen_by("b") == net.seen_by("d") == {}
    # It is told all that there is to tell, and asks for the rest in vain.
    if net["a"].undelivered().get(c):
        net["a"].admin("POST", f"/v1/federation/destinations/{c}/reset_connection", json={})
    wait_until(lambda: not net["a"].undelivered().get(c), "c has taken it")
    assert net.seen_by("c").keys() == {net.rooms["c"], net.rooms["bc"], net.rooms["bcd"]}


def test_as_soon_as_all_are_told(net: Net, run_playbook: RunPlaybook) -> None:
    """Without waiting, run again and again, as by cron; and on with it as soon as c is back."""
    host = {**net.host, "decommission_wait": False, "decommission_early_exit": True}
    net["c"].stop()
    first = run_playbook(PLAYBOOK, {"a": {**host, "decommission_early_exit": False}})
    assert first.returncode == 0, first.stdout
    assert "Run this again, from " in first.stdout
    assert net.anchored() == {"b", "c", "bc", "d", "bcd"}
    wait_until(lambda: net["a"].undelivered().keys() == {net["c"].server_name}, "b and d have taken it")
    waiting = {**host, "decommission_wait": True, "decommission_early_exit": False}
    refused = run_playbook(PLAYBOOK, {"a": waiting}, "--tags", "power_off")
    assert refused.returncode == 2, refused.stdout
    assert "the propagation is not over" in refused.stdout

    status = run_playbook("matrixops.synapse.status", {"a": host})
    assert status.returncode == 0, status.stdout
    assert "5 rooms still anchored" in status.stdout
    assert "changed=0 " in status.stdout

    net["c"].start()
    done = run_playbook(PLAYBOOK, {"a": {**host, "decommission_wait": True, "decommission_require_delivery": True}})
    assert done.returncode == 0, done.stdout
    assert net.is_off
    for name in "abcd":
        assert net.seen_by(name) == {}
    again = run_playbook(PLAYBOOK, {"a": {**host, "decommission_power_off": False}})
    assert again.returncode == 0 and "changed=0 " in again.stdout, again.stdout


def test_a_server_that_was_never_contacted(net: Net, start_playbook: StartPlaybook, run_module: RunModule) -> None:
    """Synapse sends it nothing when it is back: not before there is something new."""
    d = net["d"].server_name
    listed = net["a"].admin("GET", "/v1/federation/destinations", params={"limit": "100"})["destinations"]
    assert all(row["last_successful_stream_ordering"] is None for row in listed if row["destination"] == d)
    net["d"].stop()
    with killed_at_last(start_playbook(PLAYBOOK, {"a": net.host})) as process:
        read_until_waiting(process)
        wait_until(lambda: net.anchored() == {"d", "bcd"}, "only d has not been told")
        net["a"].kill()
        net["a"].start()
        net["d"].start()
        wait_until(lambda: net.anchored() == set(), "all have been told")
    wait_until(lambda: not any(map(net.seen_by, "abcd")), "nobody sees anybody")


def test_a_back_off_of_more_than_an_hour(net: Net, start_playbook: StartPlaybook) -> None:
    """In which Synapse drops what it was to send, and later sends the newest event of each room only."""
    a, c = net["a"], net["c"].server_name
    long = {**FEDERATION, "destination_min_retry_interval": "2h", "destination_max_retry_interval": "2h"}
    a.configure(Settings(extra_config={"federation": long}))
    a.restart()
    net["c"].stop()
    a.send(a.login_as(a.members_of(a.server_name)[net.rooms["c"]][0]).token, net.rooms["c"], "is anybody there?")
    path = f"/v1/federation/destinations/{c}"
    wait_until(lambda: a.admin("GET", path)["retry_interval"] == 7_200_000, "c is in back-off")
    with killed_at_last(start_playbook(PLAYBOOK, {"a": net.host})) as process:
        read_until_waiting(process)
        net["c"].start()
        wait_until(lambda: net.anchored() == set(), "all have been told")
    wait_until(lambda: not net.seen_by("c"), "c sees nobody")
