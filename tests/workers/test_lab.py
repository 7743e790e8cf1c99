# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab itself: the processes of a Synapse with workers can be killed, frozen and delayed each by name."""

from __future__ import annotations

import time
from functools import partial

import pytest
from faults.runs import FaultLab
from lab.api import ApiError, quote
from lab.waiting import wait_until
from lab.workers import PROCESSES, SENDERS, WORKERS, WorkerHomeserver

pytestmark = pytest.mark.nightly(category="workers")


def test_processes(server: WorkerHomeserver) -> None:
    assert tuple(server.processes) == PROCESSES
    for name, process in server.processes.items():
        before = process.pid
        process.kill()
        assert not process.running and not server.running, name
        server.start()
        assert process.pid not in (None, before), name
    assert server.running


def test_federation(server: WorkerHomeserver, worker_ground: FaultLab) -> None:
    """Events are persisted by the one worker, and sent by the others."""
    remote = worker_ground.staying
    ours, theirs = server.register(f"here{time.time_ns()}"), remote.register(f"there{time.time_ns()}")
    room = server.create_room(ours.token, preset="public_chat")
    remote.join(theirs.token, room, via=server.server_name)
    wait_until(lambda: len(server.joined_members(room)) == 2, "the join has arrived")
    # To a server that it has sent nothing to, Synapse sends nothing of what was before its start.
    server.send(ours.token, room, "hello")
    wait_until(lambda: bool(remote.messages(theirs.token, room)[0]["content"].get("body")), "the message has arrived")
    for name in SENDERS:
        server.processes[name].kill()
    server.leave(ours.token, room)
    assert len(remote.joined_members(room)) == 2
    server.start()
    # A sender that is started again sends nothing before the next event.
    server.create_room(ours.token)
    wait_until(lambda: remote.joined_members(room) == [theirs.user_id], "the leave has arrived")


def test_gateway(server: WorkerHomeserver) -> None:
    """Without it, the main process answers in its place, unless nginx has no other."""
    account = server.register(f"client{time.time_ns()}")
    server.processes["gateway"].kill()
    room = server.create_room(account.token)
    server.route(failover=False)
    with pytest.raises(ApiError) as failed:
        server.leave(account.token, room)
    assert failed.value.status == 502
    server.start()
    server.leave(account.token, room)
    wait_until(lambda: not server.joined_rooms(account.user_id), "the leave is seen")


def test_lag(server: WorkerHomeserver) -> None:
    """What another process has written is not known yet."""
    account = server.register(f"late{time.time_ns()}")
    room = server.create_room(account.token)
    wait_until(lambda: server.joined_rooms(account.user_id) == [room], "the main process knows the room")
    server.replication.seconds = 600.0
    server.leave(account.token, room)
    assert server.joined_rooms(account.user_id) == [room]
    server.replication.seconds = 0.0
    wait_until(lambda: not server.joined_rooms(account.user_id), "the leave is seen")


def test_routes_of_account_data(server: WorkerHomeserver) -> None:
    """A process that does not write account data answers with what it had."""
    account = server.register(f"data{time.time_ns()}")
    path = f"/_matrix/client/v3/user/{quote(account.user_id)}/account_data/m.test"
    call = partial(server.call, token=account.token)
    call("PUT", path, json={"value": 1})
    assert call("GET", path) == {"value": 1}
    server.route(read_account_data_at="gateway")
    wait_until(lambda: call("GET", path) == {"value": 1}, "the gateway knows it")
    server.replication.seconds = 600.0
    call("PUT", path, json={"value": 2})
    assert call("GET", path) == {"value": 1}


@pytest.mark.parametrize("name", [*WORKERS, "main"])
def test_freeze(server: WorkerHomeserver, name: str) -> None:
    process = server.processes[name]
    process.freeze()
    process.thaw()
    process.freeze()
    process.kill()
    server.start()
    assert process.running
