# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What takes long with ghosts: five hundred in one room, and a remote server that does not know a room yet."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from lab import Homeserver, Lab, MissingError, Settings
from lab.waiting import wait_until

from .conftest import ROOT, RunModule

GHOSTS = 500


@contextmanager
def frozen(server: Homeserver) -> Iterator[None]:
    """Stop the process of a server, and continue it afterwards."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.fixture
def started(skip_or_fail: Callable[[str], None]) -> Iterator[Lab]:
    """Two servers at Synapse's own limits for federation, and one more."""
    settings = Settings(default_limits=("rc_federation",))
    try:
        with Lab(ROOT / ".cache/tests/ghosts-slow", ["a", "b", "d"], base_port=18840, settings=settings) as lab:
            yield lab
    except MissingError as missing:
        skip_or_fail(str(missing))


def options(lab: Lab, room_id: str, server: str, accounts: list[str], **more: Any) -> dict[str, Any]:
    return {
        "server_name": lab["a"].server_name,
        "signing_key_path": str(lab["a"].directory / "signing.key"),
        "rooms": [{"room_id": room_id, "servers": [server], "accounts": accounts}],
        "ip_allowlist": ["127.0.0.0/8", "::1"],
        "ca_path": str(lab.ca_file),
        **more,
    }


@pytest.mark.nightly(category="scale")
def test_many_ghosts_in_one_room(started: Lab, run_module: RunModule) -> None:
    """With the default pacing."""
    a, b = started["a"], started["b"]
    host = b.register("host")
    room_id = b.create_room(host.token, preset="public_chat")
    with ThreadPoolExecutor(8) as pool:
        users = list(pool.map(a.register, [f"user{number}" for number in range(GHOSTS)]))
        a.join(users[0].token, room_id, via=b.server_name)
        list(pool.map(lambda user: a.join(user.token, room_id, via=b.server_name), users[1:]))
    wait_until(lambda: len(b.joined_members(room_id)) == GHOSTS + 1, "b lists everybody")
    a.kill()
    accounts = [user.user_id for user in users]
    done = run_module("matrix_ghosts", options(started, room_id, b.server_name, accounts))
    assert done["removed"] == GHOSTS and done["counts"]["confirmed"] == 1
    assert b.joined_members(room_id) == [host.user_id]
    print(f"{done['requests']} requests")


@pytest.mark.nightly(category="variations")
def test_a_server_that_does_not_know_the_whole_room_yet(started: Lab, run_module: RunModule) -> None:
    """It has just joined, and the servers that it could ask for the members are frozen."""
    a, b, d = (started[name] for name in "abd")
    user, host, newcomer = a.register("user"), b.register("host"), d.register("newcomer")
    room_id = b.create_room(host.token, preset="public_chat")
    a.join(user.token, room_id, via=b.server_name)
    wait_until(lambda: user.user_id in b.joined_members(room_id), "b sees who has joined")
    asked = options(started, room_id, d.server_name, [user.user_id])
    # The server has no account in the room, answers that, and has stored the key by then.
    assert run_module("matrix_ghosts_info", asked)["counts"]["confirmed"] == 1
    d.join(newcomer.token, room_id, via=b.server_name)
    with frozen(a), frozen(b):
        answer = run_module("matrix_ghosts_info", {**asked, "timeout": 3})
        (pair,) = answer["not_confirmed"]
        assert pair["state"] == "unconfirmed" and "PARTIAL_STATE" in pair["reason"]
        assert answer["requests"] == 4, "for the key, and again each time"
    wait_until(lambda: user.user_id in d.joined_members(room_id), "d knows the whole room")
    assert run_module("matrix_ghosts_info", asked)["counts"]["ghosts"] == 1
    a.leave(user.token, room_id)
    wait_until(lambda: user.user_id not in d.joined_members(room_id), "d has heard of it")
    assert run_module("matrix_ghosts_info", asked)["counts"]["confirmed"] == 1
