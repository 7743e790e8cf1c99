# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.schedule import ServerSchedule

A, B, C = "a.example", "b.example", "c.example"


class World:
    """A schedule with a clock of its own. C(take) never waits: it returns C(None) instead."""

    def __init__(self) -> None:
        self.now = 0.0
        self.limit = 2
        self.schedule = ServerSchedule(lambda _name: self.limit, 2, lambda: self.now)

    def set(self, name: str, due: float, *, is_up: bool = True) -> None:
        self.schedule.set(name, due, is_up=is_up)

    def take(self) -> str | None:
        with self.schedule._changed:
            name, _seconds = self.schedule._first()
            if name is not None:
                self.schedule._begin(name)
            return name


@pytest.fixture
def world() -> World:
    return World()


def test_servers_come_when_they_are_due(world: World) -> None:
    world.set(A, 20.0)
    world.set(B, 10.0)
    assert world.take() is None
    world.now = 30.0
    assert [world.take(), world.take(), world.take()] == [B, A, None]


def test_a_new_time_replaces_the_old_one(world: World) -> None:
    world.set(A, 10.0)
    world.set(A, 20.0)
    world.now = 15.0
    assert world.take() is None
    world.schedule.hasten(A, 12.0)
    world.schedule.hasten(A, 50.0)
    assert world.take() == A


def test_a_server_that_is_taken_comes_again_once_it_is_set(world: World) -> None:
    world.set(A, 0.0)
    assert [world.take(), world.take()] == [A, None]
    world.set(A, 0.0)
    assert [world.take(), world.take()] == [A, None]


def test_workers_of_one_server_are_limited(world: World) -> None:
    for _number in range(2):
        world.set(A, 0.0)
        assert world.take() == A
    world.set(A, 0.0)
    world.set(B, 1.0)
    world.now = 1.0
    assert [world.take(), world.take()] == [B, None]
    world.schedule.release(A)
    assert world.take() == A


def test_servers_that_have_not_answered_have_a_part_of_the_workers(world: World) -> None:
    for name in ("x1", "x2", "x3", "x4"):
        world.set(name, 0.0, is_up=False)
    assert [world.take() for _number in range(3)] == ["x1", "x2", None]
    world.set(A, 0.0)
    assert world.take() == A
    world.schedule.release("x1")
    assert [world.take(), world.take()] == ["x3", None]
    # It has answered meanwhile, for example to another worker.
    world.set("x4", 0.0, is_up=True)
    assert world.take() == "x4"
    world.schedule.release("x4")
    world.schedule.release(A)
    assert world.schedule._unproven == 2


def test_a_pause(world: World) -> None:
    world.set(A, 0.0)
    world.schedule.pause(True)
    assert world.take() is None
    world.schedule.pause(False)
    assert world.take() == A


def test_old_places_do_not_pile_up(world: World) -> None:
    for number in range(10_000):
        world.set(A, 1e9 + number)
    assert len(world.schedule._heap) < 200
    world.now = 2e9
    assert [world.take(), world.take()] == [A, None]


def test_a_stop_ends_those_who_wait(world: World) -> None:
    results: list[str | None] = []
    thread = threading.Thread(target=lambda: results.append(world.schedule.take()))
    thread.start()
    world.schedule.stop()
    thread.join(60)
    assert results == [None]


def test_who_waits_is_woken_by_a_new_server(world: World) -> None:
    results: list[str | None] = []
    thread = threading.Thread(target=lambda: results.append(world.schedule.take()))
    thread.start()
    world.set(C, 0.0)
    thread.join(60)
    assert results == [C]
