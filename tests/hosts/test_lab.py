# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts are what the tests of the collection take them for: machines that go off, and federate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from lab import LabError
from lab.api import PASSWORD
from lab.hosts import Host, HostLab
from lab.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.nightly(category="hosts")

SOON = "systemd-run --on-active=0.5 --timer-property=AccuracySec=10ms systemctl"
ASK = "python3 -c 'import requests; print(requests.get(\"http://localhost:8008/_matrix/client/versions\").status_code)'"


def seen(viewer: Host, of: Host) -> set[str]:
    """The members that one server sees in rooms of another."""
    return {user for members in viewer.homeserver.members_of(of.server_name).values() for user in members}


def meet(one: Host, other: Host, name: str) -> None:
    """A new user of each server is in a room of the first."""
    account, guest = one.homeserver.register(name), other.homeserver.register(name)
    room = one.homeserver.create_room(account.token, preset="public_chat")
    other.homeserver.join(guest.token, room, via=one.server_name)


def test_hosts_run_with_a_server_each(hosts: HostLab) -> None:
    for host in hosts.hosts.values():
        assert host.running
        assert host.ssh(f"hostname; systemctl is-active matrix-synapse; {ASK}").stdout.split() == [
            host.name, "active", "200",
        ]  # fmt: skip
        assert host.ssh("sudo -n id -un", user="deploy").stdout == "root\n"
        # From the controller, and it is the right one.
        login = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "operator"}}
        url = f"{host.homeserver.base_url}/_matrix/client/v3/login"
        answer = requests.post(url, json={**login, "password": PASSWORD}, timeout=PATIENCE).json()
        assert answer["user_id"] == f"@operator:{host.server_name}"


def test_servers_federate(hosts: HostLab) -> None:
    meet(hosts["a"], hosts["b"], "federating")
    assert "@federating:b.lab" in seen(hosts["a"], of=hosts["b"])
    assert "@federating:a.lab" in seen(hosts["b"], of=hosts["a"])
    assert "@federating:a.lab" not in seen(hosts["c"], of=hosts["a"]), "it is not in their room"


def test_a_host_powers_off_and_its_disk_stays(hosts: HostLab) -> None:
    host = hosts["c"]
    host.ssh(f"echo kept >/root/kept; {SOON} poweroff")
    host.wait_off()
    assert host.exits == [0]
    assert (host.disk / "root/kept").read_text() == "kept\n"
    assert host.homeserver.database.count("SELECT count(*) FROM users WHERE admin = 1") == 1
    with pytest.raises(LabError, match=r"Connection (timed out|refused)|No route to host"):
        host.ssh("true")
    assert hosts["d"].running


def test_an_unplugged_host_boots_again_with_its_disk(hosts: HostLab) -> None:
    host = hosts["c"]
    account = host.homeserver.register("unplugged")
    host.ssh("echo kept >/root/kept; sync")
    host.unplug()
    assert (host.running, host.exits) == (False, [137])
    host.boot()
    host.wait_until_up()
    assert host.ssh("cat /root/kept").stdout == "kept\n"
    assert host.homeserver.account(account.user_id)["name"] == "@unplugged:c.lab"
    assert host.exits == [137]


def test_a_host_reboots(hosts: HostLab) -> None:
    host = hosts["c"]
    ask = "cat /proc/sys/kernel/random/boot_id; systemctl show --property=UserspaceTimestampMonotonic --value"
    before = host.ssh(ask).stdout
    host.ssh(f"{SOON} reboot")
    wait_until(lambda: bool(host.exits), "it went off")
    host.wait_until_up()
    assert (host.running, host.exits) == (True, [133])
    assert host.ssh(ask).stdout != before


def test_a_controller_is_unplugged_and_the_servers_still_federate(hosts: HostLab) -> None:
    hosts.unplug_controller()
    with pytest.raises(LabError, match=r"Connection timed out|No route to host"):
        hosts["a"].ssh("true")
    meet(hosts["a"], hosts["b"], "cut-off")
    assert "@cut-off:b.lab" in seen(hosts["a"], of=hosts["b"])
    hosts.plug_in_controller()
    assert hosts["a"].ssh("hostname").stdout == "a\n"


def test_ansible_reaches_all_hosts_as_root_and_as_another(hosts: HostLab, tmp_path: Path) -> None:
    for user in ("root", "deploy"):
        inventory = tmp_path / f"{user}.json"
        inventory.write_text(json.dumps(hosts.inventory("matrix", user=user)))
        command = ["ansible", "-i", inventory, "matrix", "--become", "-m", "command", "-a", "id -un"]
        program = Path(sys.executable).with_name("ansible")
        done = subprocess.run(
            command,
            executable=program,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert sorted(done.stdout.splitlines()) == [*(f"{name} | CHANGED | rc=0 >>" for name in "abcd"), *["root"] * 4]
    assert len(list(Path("/run", hosts.name).iterdir())) == 8, "ssh keeps a connection for each"


def test_a_snapshot_is_put_back(hosts: HostLab) -> None:
    homeserver = hosts["a"].homeserver
    before = homeserver.register("before")
    hosts.snapshot("test")
    homeserver.register("after")
    hosts["b"].ssh("touch /root/after; rm /etc/motd")
    hosts["c"].unplug()
    hosts.restore("test")
    names = [account["name"] for account in homeserver.accounts()]
    assert before.user_id in names
    assert "@after:a.lab" not in names
    assert hosts["b"].ssh("ls /root/after /etc/motd", check=False).stdout == "/etc/motd\n"
    assert [host.exits for host in hosts.hosts.values()] == [[], [], [], []]


def test_what_a_crash_has_left_is_removed(hosts: HostLab, tmp_path: Path) -> None:
    code = "import os, sys, lab.hosts; lab.hosts.HostLab(sys.argv[1], ['x']).create(); os.kill(os.getpid(), 9)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    crash = subprocess.run([sys.executable, "-c", code, tmp_path / "lab"], env=environment, check=False)
    assert crash.returncode == -9
    left = HostLab.load(tmp_path / "lab")
    assert left.running and left["x"].root.is_mount() and left.network.there
    HostLab(tmp_path / "lab", ["y"]).down()
    assert (left.running, left["x"].root.is_mount(), left.network.there, left["x"].exits) == (
        False,
        False,
        False,
        [137],
    )
    assert not Path("/run/netns", left.name).exists() and not Path("/run", left.name).exists()
    assert hosts.running and hosts["a"].ssh("hostname").stdout == "a\n"
