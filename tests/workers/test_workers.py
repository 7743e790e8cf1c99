# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Synapse of several processes is decommissioned while these die, freeze or lag, judged by the remote server."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from faults.cases import DEACTIVATE
from faults.injected import Fault, Step, Strikes, points, stages
from faults.runs import FaultLab, OnTask, Run
from lab.waiting import wait_until
from lab.workers import PROCESSES, SENDERS, WorkerHomeserver, sender_of

from .conftest import heal

nightly = pytest.mark.nightly(category="workers")

PATIENCE = 120.0
"""Seconds for which a request is sent again, as with real administrators."""
NO_SENDER = "no federation sender of Synapse has taken the last events"


def once(task: str, action: Callable[[], object]) -> OnTask:
    """Do something when a run comes to a task for the first time."""
    done: list[str] = []

    def on_task(_file: str, name: str) -> None:
        if name.startswith(task) and not done:
            done.append(name)
            action()

    return on_task


def finish(fault_lab: FaultLab, run: Run) -> str:
    """Wait for the end of a run that succeeds, and return what was printed: the server is off, and no ghost is left."""
    code = run.wait()
    fault_lab.check(run, code)
    assert code == 0, run.output
    assert fault_lab.is_off and not fault_lab.ghosts()
    return run.output


def stop_early(fault_lab: FaultLab, server: WorkerHomeserver, run: Run) -> str:
    """Wait for the end of a run that must not power off, let all processes run, and return what was printed."""
    code = run.wait()
    heal(server)
    fault_lab.check(run, code)
    assert code == 2, run.output
    assert not fault_lab.is_off
    return run.output


def lines(output: str) -> list[str]:
    """What was printed for the host, apart from results."""
    return [line for line in output.splitlines() if line.startswith("a: ")]


def shown(output: str, text: str) -> bool:
    """Whether a line for the host has a text, before any result."""
    return any(text in line for line in lines(output))


def stop_without_ghosts(fault_lab: FaultLab, server: WorkerHomeserver, run: Run, sign: str) -> None:
    """A run shows what does not work, and must not power off, although no ghost is left. The next run succeeds."""
    output = stop_early(fault_lab, server, run)
    assert shown(output, sign), output
    assert not fault_lab.ghosts()
    finish(fault_lab, fault_lab.start(patience=PATIENCE))


@pytest.mark.parametrize("past_nginx", [False, pytest.param(True, marks=nightly)], ids=["nginx", "main"])
def test_whole_playbook(fault_lab: FaultLab, server: WorkerHomeserver, past_nginx: bool) -> None:
    variables = {"decommission_base_url": server.main_url} if past_nginx else {}
    finish(fault_lab, fault_lab.start(patience=PATIENCE, **variables))


def test_no_federation_sender(fault_lab: FaultLab, server: WorkerHomeserver) -> None:
    """Nothing is sent. The ghosts are removed, but other events are missing: the host stays on until they are sent."""

    def kill() -> None:
        for name in SENDERS:
            server.processes[name].kill()

    run = fault_lab.start(once(DEACTIVATE, kill), patience=PATIENCE)
    stop_without_ghosts(fault_lab, server, run, NO_SENDER)


# Killed, and started again


@nightly
@pytest.mark.parametrize("name", PROCESSES)
def test_restarted_at_each_stage(fault_lab: FaultLab, server: WorkerHomeserver, name: str) -> None:
    """A process is killed at each stage, and started again three seconds later."""

    def strike(fault_lab: FaultLab, chance: random.Random) -> None:
        process = server.processes[name]
        process.kill()
        fault_lab.later(3, process.start)

    steps = [Step(stage, Fault(f"{name} killed", strike), (points(stage) or [""])[-1]) for stage in stages()]
    strikes = Strikes(fault_lab, random.Random(1), steps)
    while strikes:
        run = fault_lab.start(strikes, patience=PATIENCE)
        code = run.wait()
        strikes.over(code, run.messages)
        print(f"{name}: {[(step.stage, step.outcome) for step in steps]}: {code} {run.messages}")
        fault_lab.check(run, code)
    finish(fault_lab, fault_lab.start(patience=PATIENCE))


# Killed or frozen, and not started again


@nightly
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nginx", "the main process of Synapse, or the reverse proxy in front of it, does not answer"),
        ("main", "the main process of Synapse, or the reverse proxy in front of it, does not answer"),
        ("persister", "probably for the event persister"),
        ("writer", "but not the account data writer"),
    ],
)
@pytest.mark.parametrize("is_frozen", [False, True], ids=["killed", "frozen"])
def test_down_during_the_drain(
    fault_lab: FaultLab, server: WorkerHomeserver, name: str, part: str, is_frozen: bool
) -> None:
    process = server.processes[name]
    run = fault_lab.start(once(DEACTIVATE, process.freeze if is_frozen else process.kill), patience=PATIENCE)
    output = stop_early(fault_lab, server, run)
    assert part in output
    finish(fault_lab, fault_lab.start(patience=PATIENCE))


@nightly
@pytest.mark.parametrize("is_frozen", [False, True], ids=["killed", "frozen"])
def test_no_background_worker(fault_lab: FaultLab, server: WorkerHomeserver, is_frozen: bool) -> None:
    """The statistics of rooms stand still, so that rooms of accounts in no listing would not be seen."""
    process = server.processes["background"]
    run = fault_lab.start(once(DEACTIVATE, process.freeze if is_frozen else process.kill), patience=PATIENCE)
    sign = "check that the background worker of Synapse (run_background_tasks_on) runs"
    stop_without_ghosts(fault_lab, server, run, sign)


@nightly
@pytest.mark.parametrize("sends", [True, False], ids=["of-the-remote-server", "of-others"])
def test_one_of_two_senders(fault_lab: FaultLab, server: WorkerHomeserver, sends: bool) -> None:
    """Each sends to a part of the remote servers. The one that sends to none that is left is not missed."""
    name = next(name for name in SENDERS if (name == sender_of(fault_lab.staying.server_name)) is sends)
    run = fault_lab.start(once(DEACTIVATE, server.processes[name].kill), patience=PATIENCE)
    if not sends:
        assert not shown(finish(fault_lab, run), NO_SENDER)
        return
    stop_without_ghosts(fault_lab, server, run, NO_SENDER)


@nightly
def test_gateway_with_failover(fault_lab: FaultLab, server: WorkerHomeserver) -> None:
    """nginx passes requests to the main process."""
    finish(fault_lab, fault_lab.start(once(DEACTIVATE, server.processes["gateway"].kill), patience=PATIENCE))


@nightly
def test_gateway_without_failover(fault_lab: FaultLab, server: WorkerHomeserver) -> None:
    """The accounts leave with their deactivation, on the main process. The next module can't reach the server."""
    server.route(failover=False)
    killed: list[str] = []

    def kill() -> None:
        if not killed:
            killed.append("gateway")
            server.processes["gateway"].kill()

    fault_lab.proxy.before("/leave$", kill)
    output = stop_early(fault_lab, server, fault_lab.start(patience=PATIENCE))
    assert shown(output, "accounts that leave with their deactivation, since their leaves got no answer"), output
    assert "the main process of Synapse answers, but not the worker (gateway)" in output
    assert all(server.account(user_id)["deactivated"] for user_id in fault_lab.setup.users)
    fault_lab.proxy.clear()
    finish(fault_lab, fault_lab.start(patience=PATIENCE))


# Late


def settle(fault_lab: FaultLab, server: WorkerHomeserver, run: Run) -> None:
    """Wait for the end of a run, and let all processes know what others have written. Then check what must hold.

    Either the run has stopped, and the next one succeeds, or no ghost is left.
    """
    code = run.wait()
    print(code, run.messages, *lines(run.output), sep="\n")
    if code == 0:
        assert fault_lab.is_off and not fault_lab.ghosts()
    heal(server)
    # Only now does the main process know who has left.
    wait_until(lambda: code != 0 or not server.members_of(server.server_name), "all processes know of the leaves")
    fault_lab.check(run, code)
    if code != 0:
        finish(fault_lab, fault_lab.start(patience=PATIENCE))


@nightly
@pytest.mark.parametrize("seconds", [4.0, 60.0])
def test_replication_lag(fault_lab: FaultLab, server: WorkerHomeserver, seconds: float) -> None:
    """Each process learns late of what others have written."""
    server.replication.seconds = seconds
    settle(fault_lab, server, fault_lab.start(patience=PATIENCE))


@nightly
@pytest.mark.parametrize("is_frozen", [False, True], ids=["killed", "frozen"])
def test_no_redis(fault_lab: FaultLab, server: WorkerHomeserver, is_frozen: bool) -> None:
    """No process learns of what others have written."""
    redis = server.processes["redis"]
    strike = once(DEACTIVATE, redis.freeze if is_frozen else redis.kill)
    settle(fault_lab, server, fault_lab.start(strike, patience=PATIENCE))


@nightly
def test_account_data_is_routed_badly(fault_lab: FaultLab, server: WorkerHomeserver) -> None:
    """It is written at one process, and read at another, which is late."""
    server.route(read_account_data_at="gateway")
    finish(fault_lab, fault_lab.start(patience=PATIENCE))
