# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One real machine over SSH: its registration is closed, no secret is shown, and in the end it is powered off."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from lab import ApiError, MissingError
from lab.api import PASSWORD, Account, Json, quote
from lab.hosts import Host, HostLab, populate
from lab.parallel import process_number

from .test_fleet import AT_ONCE, DRAIN_LOG, STAYING, Fleet, found_on_disk

ROOT = Path(__file__).parents[2]
CORDON = "/etc/matrix-synapse/conf.d/zz-matrixops-cordon.yaml"
OPEN = "/etc/matrix-synapse/conf.d/open.yaml"
KEY_FILE = "etc/matrix-synapse/signing.key"
VAULT_PASSWORD = "correct horse battery"
STATE = "io.github.matrixops.decommission"


@pytest.fixture(scope="module")
def lab(skip_or_fail: Callable[[str], None]) -> Iterator[HostLab]:
    """Two machines, instead of the four of the other tests in this directory, which take longer to boot."""
    try:
        with HostLab(ROOT / f".cache/tests/pair-{process_number()}", ("a", STAYING)) as lab:
            yield lab
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.fixture(scope="module")
def users(lab: HostLab) -> dict[str, list[Account]]:
    return populate(lab, STAYING)


@pytest.fixture(autouse=True)
def in_controller(lab: HostLab) -> Iterator[None]:
    """On the network of these machines."""
    with lab.in_controller():
        yield


@pytest.fixture
def fleet(lab: HostLab, users: dict[str, list[Account]], tmp_path: Path) -> Iterator[Fleet]:
    """As the test before has left it."""
    fleet = Fleet(lab, users, tmp_path)
    yield fleet
    if fleet.output.exists():
        print(fleet.output.read_text())


def register(host: Host, name: str) -> None:
    """As anybody can who is let in."""
    body = {"username": name, "password": "a-password-of-mine", "auth": {"type": "m.login.dummy"}}
    host.homeserver.call("POST", "/_matrix/client/v3/register", json=body)


def starts(host: Host) -> int:
    """How often Synapse was started."""
    lines = host.ssh("journalctl -b -u matrix-synapse.service --output=cat --grep '^Started' --no-pager").stdout
    return len(lines.splitlines())


def run_tasks(fleet: Fleet, tasks: list[Json], *arguments: str, hosts: Json | None = None, **environment: str) -> str:
    """Run tasks on the host by an unprivileged user; return what Ansible printed, and the exit code.

    :param hosts: variables of further hosts at the same address, by name.
    """
    inventory = fleet.lab.inventory(user="deploy")
    group = inventory["matrix_decommission"]
    own = {**group["hosts"]["a"], **fleet.variables("a")}
    others = {name: {**group["hosts"]["a"], **variables} for name, variables in (hosts or {}).items()}
    group["hosts"] = {"a": own, **others}
    connection = {
        "base_url": "{{ decommission_base_url | default('http://localhost:8008') }}",
        "access_token": "{{ decommission_access_token }}",
        "server_name": "{{ decommission_confirm }}",
    }
    play = {
        "hosts": "a",
        "gather_facts": False,
        "module_defaults": {"group/matrixops.synapse.synapse": connection},
        "tasks": tasks,
    }
    files = {"inventory.json": inventory, "playbook.json": [play]}
    for name, content in files.items():
        (fleet.directory / name).write_text(json.dumps(content))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", *files, *arguments],
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", **environment},
        cwd=fleet.directory,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return f"{done.stdout}\n{done.returncode}"


def cordon(fleet: Fleet, *arguments: str) -> str:
    """Run its tasks as the role does, which is after the preflight."""
    role = {"name": "matrixops.synapse.decommission", "tasks_from": "cordon.yml"}
    return run_tasks(fleet, [{"ansible.builtin.include_role": role}], *arguments)


def test_cordon(fleet: Fleet) -> None:
    """A server that anybody can register at, and that is started as that of Debian's package is."""
    host = fleet["a"]
    homeserver = host.homeserver
    opened = {"enable_registration": True, "enable_registration_without_verification": True}
    (host.root / OPEN.lstrip("/")).write_text(json.dumps(opened))
    host.ssh("systemctl restart matrix-synapse.service")
    register(host, "early")
    guest = homeserver.register_guest()
    assert homeserver.account("@early:a.lab")["name"] == "@early:a.lab" and guest.user_id
    before = starts(host)

    would = cordon(fleet, "--check", "--diff")
    assert would.endswith("\n0") and "Would close registration and guest access, and restart Synapse" in would, would
    assert host.ssh(f"ls {CORDON}", check=False).returncode != 0 and starts(host) == before
    register(host, "still-early")

    done = cordon(fleet)
    assert done.endswith("\n0") and "Closed registration and guest access, and restarted Synapse" in done, done
    assert starts(host) == before + 1
    with pytest.raises(ApiError, match=r"403.*Registration has been disabled"):
        register(host, "late")
    with pytest.raises(ApiError, match=r"403.*Guest access is disabled"):
        homeserver.register_guest()
    assert "@late:a.lab" not in [account["name"] for account in homeserver.accounts()]

    again = cordon(fleet)
    assert again.endswith("\n0") and "changed=0 " in again and starts(host) == before + 1, again

    # Once the drain has begun, what waits for other servers would be lost with a restart.
    host.ssh(f"rm {CORDON} && systemctl restart matrix-synapse.service")
    started: Json = {"server_name": homeserver.server_name, "milestones": {"started": 1_795_000_000}}
    path = f"/_matrix/client/v3/user/{homeserver.operator.user_id}/account_data/{STATE}"
    homeserver.call("PUT", path, token=homeserver.admin_token, json=started)
    begun = cordon(fleet)
    assert begun.endswith("\n0") and "changed=0 " in begun, begun
    assert "is open and is not changed: the drain has started" in begun
    assert starts(host) == before + 2 and host.ssh(f"ls {CORDON}", check=False).returncode != 0
    homeserver.call("PUT", path, token=homeserver.admin_token, json={})

    # Not Debian's package.
    host.ssh("mv /etc/matrix-synapse/conf.d /tmp")
    other = cordon(fleet)
    # Without it, Synapse does not start at the next boot.
    host.ssh("mv /tmp/conf.d /etc/matrix-synapse")
    assert other.endswith("\n2") and "Set enable_registration: false and allow_guest_access: false" in other, other
    assert starts(host) == before + 2


LOGIN = {"access_token": "{{ omit }}", "login_user": "operator", "login_password": "{{ password }}"}
SESSION = {"access_token": "{{ session.access_token }}"}
FEDERATION = {
    "server_name": "{{ decommission_confirm }}",
    "ca_path": "{{ decommission_federation_ca_path }}",
    "ip_allowlist": "{{ decommission_federation_ip_allowlist }}",
}


def with_secrets(host: Host, user: str) -> list[Json]:
    """Tasks with each kind of secret: a password, a token, one of another account, and the signing key.

    The secrets are in variables: a literal in a task is in the names that the callback junit gives to tasks.
    """
    key = (host.root / KEY_FILE).read_text()
    tasks: list[tuple[str, Json]] = [
        ("synapse_session", LOGIN),
        ("synapse_users_info", SESSION),
        ("synapse_users_info", LOGIN),
        ("synapse_user_deactivate", {"user_ids": [user], "redact": True}),
        ("matrix_federation_info", {**FEDERATION, "signing_key_path": "{{ decommission_signing_key_path }}"}),
        ("matrix_ghosts_info", {**FEDERATION, "signing_key": "{{ key }}", "rooms": []}),
        (
            "archive",
            {
                "directory": "reports",
                "server_name": "{{ decommission_confirm }}",
                "signing_key_path": "{{ decommission_signing_key_path }}",
                "vault_password_file": "{{ playbook_dir }}/password",
            },
        ),
        ("synapse_session", {**SESSION, "state": "absent"}),
    ]
    login, *others = [
        {
            "name": f"{module} {number}",
            f"matrixops.synapse.{module}": options,
            "become": module in ("archive", "matrix_federation_info"),
            "vars": {"key": key, "password": PASSWORD},
        }
        for number, (module, options) in enumerate(tasks)
    ]
    return [{**login, "register": "session", "no_log": True}, *others]


def found_secrets(fleet: Fleet, output: str) -> list[str]:
    """Where a secret of the host is in what Ansible has printed, or in a file that it has written."""
    host = fleet["a"]
    key = (host.root / KEY_FILE).read_bytes()
    seed = key.split()[2]
    # All tokens begin like this.
    secrets = {PASSWORD.encode(), VAULT_PASSWORD.encode(), b"syt_", seed, base64.b64encode(key)[:40]}
    # Of the seed in base64 again, whatever is before it.
    secrets.update(base64.b64encode(b" " * offset + seed)[4:-4] for offset in range(3))
    own = {"inventory.json", "playbook.json", "password"}
    files = [path for path in fleet.directory.rglob("*") if path.is_file() and path.name not in own]
    assert {"ansible.log", "tree"} <= {name for path in files for name in (path.name, path.parent.name)}
    contents = {"output": output.encode(), **{str(path): path.read_bytes() for path in files}}
    return [where for where, content in contents.items() if any(secret in content for secret in secrets)]


@pytest.mark.parametrize("pipelining", ["true", "false"])
def test_no_secret_is_shown(fleet: Fleet, users: dict[str, list[Account]], pipelining: str) -> None:
    """Over SSH, with -vvv, Ansible prints what each command and module has printed."""
    host = fleet["a"]
    (fleet.directory / "password").write_text(VAULT_PASSWORD)
    environment = {
        "ANSIBLE_PIPELINING": pipelining,
        "ANSIBLE_LOG_PATH": "ansible.log",
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.junit,ansible.builtin.tree",
        "ANSIBLE_CALLBACK_TREE_DIR": "tree",
        "JUNIT_OUTPUT_DIR": "junit",
        "ANSIBLE_LOCAL_TEMP": "local_tmp",
    }
    user = users["a"][-1 if pipelining == "true" else -2]
    tasks = with_secrets(host, user.user_id)
    output = run_tasks(fleet, tasks, "-vvvv", **environment)
    assert output.endswith("\n0"), output
    assert '"sealed_keys": ' in output, "what a module prints is shown, but where no_log is set"
    assert found_secrets(fleet, output) == []
    assert found_on_disk(host, b"syt_") == []

    # With it, Ansible prints the arguments of modules, and so the actions refuse.
    debugged = run_tasks(
        fleet, [{**task, "ignore_errors": True} for task in tasks], "-vvvv", ANSIBLE_DEBUG="1", **environment
    )
    assert debugged.endswith("\n0"), debugged
    assert debugged.count("No changes made: ANSIBLE_DEBUG is set") >= 4
    assert found_secrets(fleet, debugged) == []


def test_media(fleet: Fleet) -> None:
    """Files in more than one part, by an ordinary user and with become, with and without pipelining."""
    homeserver = fleet["a"].homeserver
    alice = fleet.users["a"][0]
    (room, *_more) = fleet.lab[STAYING].homeserver.members_of(homeserver.server_name)
    contents = [bytes(range(256)) * size for size in (1, 40_000)]
    stored = {}
    for number, content in enumerate(contents):
        headers = {"Authorization": f"Bearer {alice.token}", "Content-Type": "image/png"}
        url = f"{homeserver.base_url}/_matrix/media/v3/upload"
        uri = requests.post(url, data=content, headers=headers, timeout=60).json()["content_uri"]
        path = f"/_matrix/client/v3/rooms/{quote(room)}/send/m.room.message/media{number}"
        homeserver.call("PUT", path, token=alice.token, json={"msgtype": "m.image", "body": "x", "url": uri})
        stored[f"{uri.rpartition('/')[2]}.png"] = content
    for become in (False, True):
        for pipelining in ("true", "false"):
            directory = fleet.directory / f"media-{become}-{pipelining}"
            media = {"select": "all", "directory": str(directory), "boundary": "0123456789abcdef"}
            task = {"matrixops.synapse.synapse_media": media, "become": become}
            output = run_tasks(fleet, [task], ANSIBLE_PIPELINING=pipelining)
            assert output.endswith("\n0"), output
            assert homeserver.admin_token not in output
            plain = {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix == ".png"}
            assert plain == stored
            left = fleet["a"].ssh("find /tmp /var/tmp /home /root -name 'matrixops.synapse-*'").stdout
            assert left == ""


def test_a_machine_with_two_homeservers_stays_on(fleet: Fleet) -> None:
    """The other one is not verified yet."""
    power_off: Json = {"matrixops.synapse.power_off": {"directory": "reports"}, "become": True}
    output = run_tasks(fleet, [power_off], hosts={"second": {"decommission_confirm": "second.lab"}})
    assert output.endswith("\n2"), output
    assert "a has the same address as second (second.lab), not verified yet" in output
    assert fleet["a"].running and fleet["a"].ssh("systemctl is-system-running").stdout == "running\n"


def test_a_unit_is_stopped_for_good(fleet: Fleet) -> None:
    """By the tasks of the role, as they run after the gate; and undone by hand."""
    host, unit = fleet["a"], "matrix-synapse.service"
    method = {"decommission_power_off_method": "systemd", "decommission_power_off_units": [unit]}
    role = {"name": "matrixops.synapse.decommission"}
    wrong = {**method, "decommission_power_off_units": [unit, "nosuch.service"]}
    refused = run_tasks(fleet, [{"ansible.builtin.include_role": {**role, "tasks_from": "stop"}, "vars": wrong}])
    assert refused.endswith("\n2") and "a: there is no unit nosuch.service" in refused, refused
    assert host.homeserver.answers
    checked = run_tasks(
        fleet, [{"ansible.builtin.include_role": {**role, "tasks_from": "check_power_off"}, "vars": method}], "--check"
    )
    assert checked.endswith("\n0") and "changed=0 " in checked and host.homeserver.answers, checked

    stop = [{"ansible.builtin.include_role": {**role, "tasks_from": "stop"}, "vars": method}]
    done = run_tasks(fleet, stop)
    assert done.endswith("\n0") and not host.homeserver.answers, done
    assert re.search(r"item=(0[.]0[.]0[.]0|[*]|127[.]0[.]0[.]1):8008", done), "a port on which the unit has listened"
    assert host.ssh(f"systemctl is-enabled {unit}", check=False).stdout == "disabled\n"
    again = run_tasks(fleet, stop)
    assert again.endswith("\n0") and "changed=0 " in again, again
    by_hand = host.ssh(f"systemctl start {unit}", check=False)
    assert by_hand.returncode != 0 and "Assertion failed" in by_hand.stderr
    host.ssh(f"rm /etc/systemd/system/{unit}.d/zz-matrixops-decommissioned.conf && systemctl daemon-reload")
    host.ssh(f"systemctl enable --now {unit}")
    assert host.homeserver.answers


def test_power_off(fleet: Fleet) -> None:
    """By an unprivileged user."""
    host = fleet["a"]
    variables = {**fleet.variables("a"), **AT_ONCE, "decommission_log_path": DRAIN_LOG}
    assert fleet.run({"a": variables}, user="deploy", ANSIBLE_PIPELINING="true") == 0
    assert host.exits == [0], "powered off: not unplugged, not rebooted"
    assert not host.running
    assert fleet[STAYING].running
    fleet.assert_no_ghosts("a")
    assert found_on_disk(host, host.homeserver.admin_token.encode()) == []
    assert found_on_disk(host, b"syt_") == []
    key = (host.root / KEY_FILE).read_text().split()[2]
    assert found_on_disk(host, key.encode()) == [Path(KEY_FILE)]
    certificate = json.loads((fleet.directory / "decommission-reports/a.lab.json").read_text())
    assert certificate["power_off"] == {**certificate["power_off"], "verified": True, "reason": None}


def test_a_machine_that_hangs_is_not_off(fleet: Fleet) -> None:
    """It is not powered off, and SSH accepts connections, but does not answer, which ends as a timeout."""
    host = fleet["a"]
    host.boot()
    host.wait_until_up()
    commands = ("systemctl mask --runtime poweroff.target", "pkill -STOP -o sshd")
    tasks: list[Json] = [{"ansible.builtin.command": command, "become": True} for command in commands]
    output = run_tasks(fleet, [*tasks, {"matrixops.synapse.power_off": {"timeout": 16}, "become": True}])
    assert output.endswith("\n2"), output
    assert f"to power off: {host.address} port 22: TCP connection established. Check the host" in output, output
    assert host.running
    host.unplug()
