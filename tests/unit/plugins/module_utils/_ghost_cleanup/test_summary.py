# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import PairResult
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup import summary
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.status import Heard
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.store import Limits, Store, Visit
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.summary import Summary, summarize

DAY = 86_400.0
QUIET = 30 * DAY


class World:
    """A store, and results of pairs."""

    def __init__(self, path: Path) -> None:
        self.store = Store(str(path), "gone.example", Limits(5000, 5000), 0.0)

    def result(self, server: str, room_id: str, state: str, *, ghosts: int = 0, now: float = 0.0) -> None:
        self.store.heard(server, [Heard(room_id)], now, lambda _state, _tries: 0.0)
        visit = self.store.take(server, now, now)
        assert isinstance(visit, Visit)
        if state == "unreachable":
            self.store.failed(visit.server, state, "down", now, now + 60)
            self.store.postpone(visit, now + 120)
            return
        self.store.answered(visit.server, now, now + DAY)
        listed = {f"@{number}:gone.example": "join" for number in range(ghosts)}
        result = PairResult(visit.pair, state, listed, "" if state == "confirmed" else f"why {state}")
        self.store.finish(visit, result, started=now, now=now, tries=1, due=None, news=now)

    def summary(self, now: float = 0.0) -> Summary:
        return summarize(self.store, now, QUIET)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "state.db")
    yield world
    world.store.close()


def test_nothing_yet(world: World) -> None:
    world.store.add_server("b.example", "servers", 0.0)
    found = world.summary()
    assert [(server.server, server.state, server.rooms) for server in found["servers"]] == [("b.example", "waiting", 0)]
    assert (found["pairs"], found["last_heard"], found["last_ghost"]) == ({}, None, None)


def test_the_worst_servers_come_first(world: World) -> None:
    for server, state in (("a", "confirmed"), ("b", "refused"), ("d", "unconfirmed")):
        world.result(f"{server}.example", "!1:x", state)
    world.result("c.example", "!1:x", "confirmed")
    world.result("c.example", "!2:x", "ghosts", ghosts=3)
    world.result("e.example", "!1:x", "unreachable")
    world.result("f.example", "!1:x", "ghosts", ghosts=5)
    found = world.summary()
    assert [(server.server[0], server.state, server.ghosts) for server in found["servers"]] == [
        ("f", "ghosts", 5),
        ("c", "ghosts", 3),
        ("d", "unconfirmed", 0),
        ("e", "unreachable", 0),
        ("b", "refused", 0),
        ("a", "confirmed", 0),
    ]
    reasons = {server.server[0]: server.reason for server in found["servers"]}
    assert (reasons["c"], reasons["e"], reasons["a"]) == ("why ghosts", "down", "")
    assert found["pairs"] == {"confirmed": 2, "ghosts": 2, "unconfirmed": 1, "unreachable": 1, "refused": 1}
    assert (found["ghosts"], found["servers_total"], found["rooms_total"]) == (8, 6, 2)


def test_a_server_that_no_longer_answers(world: World) -> None:
    """What it has confirmed stays confirmed; all else is unreachable."""
    world.result("b.example", "!1:x", "confirmed")
    world.result("b.example", "!2:x", "ghosts", ghosts=1)
    world.result("b.example", "!3:x", "unreachable")
    (server,) = world.summary()["servers"]
    assert (server.state, server.rooms, server.confirmed, server.reason) == ("unreachable", 3, 1, "down")
    assert world.summary()["pairs"] == {"confirmed": 1, "unreachable": 2}


def test_the_list_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "MAX_SERVERS", 2)
    for number in range(4):
        world.result(f"s{number}.example", "!1:x", "confirmed")
    found = world.summary()
    assert (len(found["servers"]), found["servers_total"]) == (2, 4)


@pytest.mark.parametrize(
    ("state", "can_be_replaced"),
    [("confirmed", True), ("refused", True), ("unreachable", True), ("unconfirmed", False), ("ghosts", False)],
)
def test_whether_a_static_answer_is_enough(world: World, state: str, can_be_replaced: bool) -> None:
    world.result("a.example", "!1:x", "confirmed")
    world.result("b.example", "!1:x", state, ghosts=int(state == "ghosts"))
    assert not world.summary(now=QUIET - 1)["can_be_replaced"]
    assert world.summary(now=QUIET)["can_be_replaced"] is can_be_replaced


def test_a_ghost_begins_the_time_anew(world: World) -> None:
    world.result("a.example", "!1:x", "ghosts", ghosts=1, now=10 * DAY)
    world.result("a.example", "!1:x", "confirmed", now=10 * DAY + 1)
    assert not world.summary(now=39 * DAY)["can_be_replaced"]
    assert world.summary(now=40 * DAY)["can_be_replaced"]
    assert world.summary(now=40 * DAY)["last_ghost"] == int(10 * DAY)


def test_a_server_that_is_down_for_a_short_time(world: World) -> None:
    world.result("a.example", "!1:x", "unreachable", now=20 * DAY)
    assert not world.summary(now=49 * DAY)["can_be_replaced"]
    assert world.summary(now=50 * DAY)["can_be_replaced"]
