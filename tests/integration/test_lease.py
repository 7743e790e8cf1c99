# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time, on a server and with a controller that are slow, in real time."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from lab.api import quote
from lab.proxy import Fault, Proxy
from lab.waiting import wait_until

from .conftest import Federation, RunPlaybook, StartPlaybook
from .test_playbook import PLAYBOOK

LEASE = "io.github.matrixops.decommission.lease"
SLOW_READS = 30
"""The number of polls, one in a second, of a run that waits for the lease: as long as a slow controller takes."""

nightly = pytest.mark.nightly(category="faults")

Start = Callable[..., "subprocess.Popen[str]"]


def lease_of(federation: Federation) -> dict[str, Any]:
    retiring = federation.retiring
    path = f"/_matrix/client/v3/user/{quote(retiring.operator.user_id)}/account_data/{LEASE}"
    content: dict[str, Any] = retiring.call("GET", path, token=retiring.admin_token)
    return content


def requests_of_the_lease(proxy: Proxy, method: str) -> int:
    return sum(e.method == method and e.path.endswith(LEASE) for e in list(proxy.exchanges))


@pytest.fixture
def start(federation: Federation, proxy: Proxy, start_playbook: StartPlaybook, tmp_path: Path) -> Start:
    """Start some tasks of modules of this collection, through the proxy and with a lease."""

    def start(lease: str, *tasks: dict[str, Any], **environment: str) -> subprocess.Popen[str]:
        connection = {**federation.connection, "base_url": proxy.base_url, "lease": lease}
        play = {
            "hosts": "all",
            "gather_facts": False,
            "module_defaults": {"group/matrixops.synapse.synapse": connection},
            "tasks": list(tasks),
        }
        playbook = tmp_path / f"{lease}.json"
        playbook.write_text(json.dumps([play]))
        return start_playbook(playbook, {"host": {}}, **environment)

    return start


def mark(**more: Any) -> dict[str, Any]:
    return {"matrixops.synapse.synapse_decommission_state": {"mark": ["started"], "clear": ["started"], **more}}


@contextmanager
def confirmations(proxy: Proxy) -> Iterator[list[float]]:
    """When the lease was written meanwhile, for the output."""
    times: list[float] = []
    proxy.before(f"{LEASE}$", lambda: times.append(time.monotonic()))
    yield times
    gaps = [after - before for before, after in pairwise(times)]
    print(f"{len(times)} requests of the lease, at most {max(gaps, default=0):.1f} s apart")


def test_the_playbook_releases_it(federation: Federation, run_playbook: RunPlaybook) -> None:
    """At the end of a run, also of one that fails. The next one does not wait."""
    host = {**federation.role_variables, "decommission_propagation_period": "7d"}
    holders = set()
    for stages, code in ((["preflight", "drain"], 0), (["leave_rooms", "power_off"], 2)):
        result = run_playbook(PLAYBOOK, {"a": {**host, "decommission_stages": stages}})
        assert result.returncode == code, result.stdout
        lease = lease_of(federation)
        assert lease["until"] == 0
        holders.add(lease["holder"])
    assert len(holders) == 2


@pytest.mark.own_process
def test_the_next_run_does_not_wait_for_one_that_has_ended(proxy: Proxy, start: Start) -> None:
    for lease in ("first", "second"):
        before = requests_of_the_lease(proxy, "GET")
        with start(lease, mark(release_lease=True)) as run:
            output, _nothing = run.communicate()
        assert run.returncode == 0, output
        # Read, read again, and read before the release.
        assert requests_of_the_lease(proxy, "GET") - before <= 3


@nightly
@pytest.mark.own_process
def test_a_slow_server(federation: Federation, proxy: Proxy, start: Start) -> None:
    """The answers take up to three seconds, and there are many workers. Nothing of a second run gets in."""
    proxy.rule(Fault.DELAY_AFTER, share=0.5, seed=1, seconds=3.0)
    proxy.rule(Fault.DELAY_AFTER, share=0.5, seed=2, seconds=1.5)
    users = sorted(federation.population.users)[:6]
    drain = {"matrixops.synapse.synapse_user_deactivate": {"user_ids": users, "concurrency": 16}}
    with confirmations(proxy), start("first", drain) as first:
        wait_until(lambda: requests_of_the_lease(proxy, "PUT") > 1, "the first run works")
        for _time in range(2):
            with start("second", mark()) as second:
                refused, _nothing = second.communicate()
            assert "LEASE_TAKEN" in refused and "Another run has the lease" in refused, refused
            assert lease_of(federation)["holder"] == "first"
        output, _nothing = first.communicate()
    assert first.returncode == 0, output
    assert lease_of(federation)["holder"] == "first"
    assert all(federation.retiring.account(user)["deactivated"] for user in users)


@nightly
@pytest.mark.own_process
def test_a_slow_controller(federation: Federation, proxy: Proxy, start: Start, tmp_path: Path) -> None:
    """A second run that begins between two tasks of the first does not get the lease."""
    resume = tmp_path / "resume"
    pause = {"ansible.builtin.wait_for": {"path": str(resume), "timeout": 600, "sleep": 1}}
    with start("first", mark(), pause, mark()) as first:
        wait_until(lambda: requests_of_the_lease(proxy, "PUT") > 0, "the first task has the lease")
        with start("second", mark()) as second:
            before, held = requests_of_the_lease(proxy, "GET"), lease_of(federation)
            wait_until(
                lambda: requests_of_the_lease(proxy, "GET") > before + SLOW_READS or second.poll() is not None,
                "the second run has waited for long",
            )
            assert lease_of(federation) == held
            resume.touch()
            refused, _nothing = second.communicate()
        output, _nothing = first.communicate()
    assert first.returncode == 0, output
    assert second.returncode == 2 and "LEASE_TAKEN" in refused, refused
    assert lease_of(federation)["holder"] == "first"
