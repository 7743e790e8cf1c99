# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole playbook against real servers; what came of it is read from both servers' admin APIs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import Homeserver, Lab, Settings
from lab.api import PASSWORD
from lab.waiting import wait_until

from .conftest import LEASE, ROOT, Federation, RunPlaybook, filled_federation, unchanged

PLAYBOOK = "matrixops.synapse.decommission"


def powered_off(federation: Federation) -> bool:
    return Path(federation.role_variables["off_marker"]).exists()


def confirmed_by(server: Homeserver) -> str:
    """A pattern of what a remote server has said, if it has confirmed all rooms."""
    return rf"{re.escape(server.server_name)}: (ghosts removed \(\d+\); )?confirmed, (\d+) of \2 rooms"


def assert_drained(federation: Federation, kept: frozenset[str] = frozenset()) -> None:
    """No account of the decommissioned server is active or joined, according to both servers."""
    retiring = federation.retiring
    for account in retiring.accounts():
        assert account["deactivated"] is not (account["admin"] or account["name"] in kept), account
        assert retiring.joined_rooms(account["name"]) == []
    assert retiring.members_of(retiring.server_name) == {}
    wait_until(lambda: not federation.ghosts(), "the other server lists nobody")


LARGE = pytest.param("sqlite", marks=[pytest.mark.nightly(category="scale"), pytest.mark.own_process])


@pytest.fixture(scope="module", params=[LARGE, "postgresql"])
def big(request: pytest.FixtureRequest, skip_or_fail: Any) -> Iterator[Federation]:
    users = {"sqlite": 300, "postgresql": 20}[request.param]
    with filled_federation("big", 18620, skip_or_fail, users=users, database=request.param) as federation:
        yield federation


def test_decommission(big: Federation, run_playbook: RunPlaybook) -> None:
    """Check mode, the run, and a second run, on 300 users in shared rooms."""
    host = big.role_variables
    to_close = big.to_close
    assert len(big.ghosts()[big.population.big_room]) > 200 or len(to_close) < 100
    with unchanged(big.retiring):
        checked = run_playbook(PLAYBOOK, {"a": host}, "--check", "--diff")
    assert checked.returncode == 0, checked.stdout
    assert f"would deactivate {len(to_close)} accounts," in checked.stdout, checked.stdout
    assert "would wait 3s from when all accounts have left the federated rooms" in checked.stdout
    assert not powered_off(big)

    done = run_playbook(PLAYBOOK, {"a": host}, terminal=True)
    assert done.returncode == 0, done.stdout
    assert f"deactivated {len(to_close)} accounts" in done.stdout
    if len(to_close) > 300:
        progress = rf"^a: \d+ of {len(to_close)} accounts have left all federated rooms, \d+ are deactivated.* left$"
        assert re.search(progress, done.stdout, re.MULTILINE), done.stdout
    assert re.search(confirmed_by(big.staying), done.stdout), done.stdout
    assert_drained(big)
    assert powered_off(big)

    with unchanged(big.retiring, but=LEASE):
        # Said on the command line like this, it is a string.
        again = run_playbook(PLAYBOOK, {"a": host}, "-e", "decommission_power_off=false")
    assert again.returncode == 0, again.stdout
    assert "changed=0 " in again.stdout
    for output in (checked.stdout, done.stdout, again.stdout):
        assert big.retiring.admin_token not in output


def test_not_due_yet(federation: Federation, run_playbook: RunPlaybook) -> None:
    """Without waiting, the run ends without an error. A later run resumes, and the period counts from the first."""
    patient = {**federation.role_variables, "decommission_wait": False, "decommission_propagation_period": "1h"}
    first = run_playbook(PLAYBOOK, {"a": patient})
    assert first.returncode == 0, first.stdout
    assert "Run again from " in first.stdout
    assert not powered_off(federation)
    # Nobody stays: neither here nor there.
    assert_drained(federation)

    # The gate stays closed if nothing but the power-off is requested.
    alone = run_playbook(PLAYBOOK, {"a": {**patient, "decommission_wait": True}}, "--tags", "power_off")
    assert alone.returncode == 2, alone.stdout
    assert "propagation has not finished" in alone.stdout
    assert not powered_off(federation)

    waiting = {**patient, "decommission_propagation_period": "1s", "decommission_wait": True}
    later = run_playbook(PLAYBOOK, {"a": waiting})
    assert later.returncode == 0, later.stdout
    assert_drained(federation)
    assert powered_off(federation)


def test_somebody_comes_back_while_waiting(federation: Federation, run_playbook: RunPlaybook) -> None:
    """An account that is active again, or joined, keeps the host on. The next run deactivates it, and waits anew."""
    host = {**federation.role_variables, "decommission_power_off": False}
    assert run_playbook(PLAYBOOK, {"a": host}).returncode == 0
    newcomer = federation.retiring.register("newcomer")
    federation.retiring.join(
        newcomer.token, federation.population.shared_by_other[0], via=federation.staying.server_name
    )
    gate = run_playbook(PLAYBOOK, {"a": federation.role_variables}, "--tags", "power_off")
    assert gate.returncode == 2, gate.stdout
    assert "is not powered off: 1 accounts are active" in gate.stdout and newcomer.user_id in gate.stdout
    assert not powered_off(federation)
    assert not federation.retiring.account(newcomer.user_id)["deactivated"]
    again = run_playbook(PLAYBOOK, {"a": federation.role_variables})
    assert again.returncode == 0, again.stdout
    assert_drained(federation)
    assert powered_off(federation)


def test_in_a_play_of_ones_own(federation: Federation, run_playbook: RunPlaybook, tmp_path: Path) -> None:
    """The role, with a password instead of a token, some stages only, and an account that is kept."""
    kept = federation.population.users[0]
    host = {
        **federation.role_variables,
        "decommission_login_user": "operator",
        "decommission_login_password": PASSWORD,
        "decommission_keep_users": [kept],
    }
    del host["decommission_access_token"]
    tokens = federation.retiring.database_fingerprint()["access_tokens"]
    role = {
        "ansible.builtin.include_role": {"name": "matrixops.synapse.decommission"},
        "vars": {"decommission_stages": ["preflight", "drain", "leave_rooms", "verify"]},
    }
    play = tmp_path / "play.yml"
    play.write_text(yaml.safe_dump([{"hosts": "matrix_decommission", "gather_facts": False, "tasks": [role]}]))
    result = run_playbook(play, {"a": host}, "-vvvv")
    assert result.returncode == 0, result.stdout
    assert_drained(federation, kept=frozenset({kept}))
    assert not powered_off(federation)
    assert PASSWORD not in result.stdout
    assert "syt_" not in result.stdout
    assert tokens != federation.retiring.database_fingerprint()["access_tokens"], "those of the drained are gone"
    devices = federation.retiring.call("GET", "/_matrix/client/v3/devices", token=federation.retiring.admin_token)
    assert len(devices["devices"]) == 1, "that of the operator's first session"


def test_preflight_alone_is_an_audit(filled: Federation, run_playbook: RunPlaybook) -> None:
    with unchanged(filled.retiring):
        result = run_playbook(PLAYBOOK, {"a": filled.role_variables}, "--tags", "preflight")
    assert result.returncode == 0, result.stdout
    assert f"to deactivate and erase: {len(filled.to_close)}" in result.stdout


def test_hosts_with_different_steps(filled: Federation, run_playbook: RunPlaybook, tmp_path: Path) -> None:
    """The first host has no hook and no handover. The order of the other one does not depend on that."""
    hook = tmp_path / "hook.yml"
    hook.write_text(yaml.safe_dump([{"name": "Break", "ansible.builtin.fail": {"msg": "broken hook"}}]))
    power = {"decommission_handover": True, "decommission_handover_to": [{"user_id": filled.staying.operator.user_id}]}
    hosts = {
        "a": {**filled.role_variables, "decommission_demote": True},
        "b": {**filled.role_variables, "decommission_demote": True, **power},
        "c": {**filled.role_variables, "decommission_pre_tasks": str(hook)},
    }
    with unchanged(filled.retiring):
        result = run_playbook(PLAYBOOK, hosts, "--check")
    assert result.returncode == 2, result.stdout
    texts = ("broken hook", "Hand over rooms", "Demote accounts", "Compute which accounts would be")
    places = [result.stdout.find(text) for text in texts]
    assert -1 not in places and places == sorted(places), result.stdout
    assert re.search(r"^c .* failed=1 .* rescued=0 ", result.stdout, re.MULTILINE), result.stdout
    stages, _finish, _rest = result.stdout[places[3] :].partition("Finish the run")
    assert not re.search(r"^(ok|changed): \[c\]", stages, re.MULTILINE), result.stdout


@pytest.mark.nightly(category="variations")
def test_one_host_fails_and_stays_on(federation: Federation, run_playbook: RunPlaybook) -> None:
    """A wrong name in the inventory stops that host, and no other, and the exit code says so."""
    hosts = {
        "a": federation.role_variables,
        "b": {
            **federation.role_variables,
            "decommission_base_url": federation.staying.base_url,
            "decommission_access_token": federation.staying.admin_token,
        },
    }
    before = federation.staying.members_of(federation.staying.server_name)
    result = run_playbook(PLAYBOOK, hosts)
    assert result.returncode == 2, result.stdout
    assert f"is {federation.staying.server_name}" in result.stdout
    assert_drained(federation)
    assert powered_off(federation)
    assert federation.staying.members_of(federation.staying.server_name) == before


def test_a_server_that_keeps_no_statistics(run_playbook: RunPlaybook) -> None:
    """It lists no rooms, so that nobody could tell whether a bridge's bot is still in one: refused."""
    settings = Settings(extra_config={"stats": {"enabled": False}})
    with Lab(ROOT / ".cache/tests/nostats", ["a"], base_port=18630, settings=settings) as lab:
        retiring = lab["a"]
        retiring.create_room(retiring.register("alice").token)
        hosts = {
            "a": {**retiring.role_variables, "decommission_power_off": False},
        }
        result = run_playbook(PLAYBOOK, hosts)
        assert result.returncode == 2, result.stdout
        assert "Synapse does not list all rooms" in result.stdout and "stats: enabled: true" in result.stdout
        assert not retiring.account(retiring.user_id("alice"))["deactivated"]
