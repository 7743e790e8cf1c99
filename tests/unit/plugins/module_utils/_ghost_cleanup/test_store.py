# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import Room
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import (
    KnownAccounts,
    Pair,
    PairResult,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup import store as module
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.status import Heard
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.store import (
    Limits,
    Next,
    Server,
    Store,
    StoreError,
    Visit,
)

OURS = "gone.example"
B, C = "b.example", "c.example"
R1, R2 = "!one:b.example", "!two:b.example"
ALICE, BOB = "@alice:gone.example", "@bob:gone.example"
LIMITS = Limits(servers=10, rooms=10)


def soonest(state: str, _tries: int) -> float:
    return 0.0 if state == "waiting" else 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(str(path), OURS, LIMITS, 0.0)
    yield store
    store.close()


def visit_of(store: Store, server: str = B, now: float = 100.0) -> Visit:
    visit = store.take(server, now, now + 600)
    assert isinstance(visit, Visit)
    return visit


def finish(store: Store, visit: Visit, state: str = "confirmed", now: float = 100.0, due: float | None = None) -> None:
    ghosts = {ALICE: "join"} if state == "ghosts" else {}
    result = PairResult(visit.pair, state, ghosts, "why")
    store.finish(visit, result, started=now, now=now, tries=1, due=due, news=now + 60)


def heard(store: Store, *rooms: Heard, server: str = B, now: float = 100.0) -> int:
    return store.heard(server, rooms, now, soonest)


# The file


def test_only_its_owner_can_read_it(store: Store, path: Path) -> None:
    heard(store, Heard(R1))
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_what_is_written_is_there_in_the_next_process(path: Path) -> None:
    store = Store(str(path), OURS, LIMITS, 0.0)
    heard(store, Heard(R1, ("$e",)), Heard(R2))
    visit = visit_of(store)
    finish(store, visit)
    store.close()
    again = Store(str(path), OURS, LIMITS, 5.0)
    assert again.next(B) == Next(100.0, False)
    assert visit_of(again).pair == Pair(B, R2)
    assert again.read().meta["created"] == "0.0"
    again.close()


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.status import Heard
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.store import Limits, Store
store = Store(sys.argv[1], "gone.example", Limits(10, 10), 0.0)
store.heard("b.example", [Heard("!one:b.example")], 100.0, lambda _state, _tries: 0.0)
store.take("b.example", 100.0, 700.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_nothing(path: Path) -> None:
    """What a worker had taken is taken again."""
    collections = Path(os.environ["ANSIBLE_COLLECTIONS_PATH"].split(":")[0])
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), str(collections)], check=False)
    assert killed.returncode == -signal.SIGKILL
    store = Store(str(path), OURS, LIMITS, 0.0)
    assert visit_of(store).pair == Pair(B, R1)
    store.close()


def test_one_process_at_a_time(store: Store, path: Path) -> None:
    with pytest.raises(StoreError, match=r"another process uses .*state\.db: stop that one first"):
        Store(str(path), OURS, LIMITS, 0.0)


def test_the_file_of_another_server(store: Store, path: Path) -> None:
    store.close()
    with pytest.raises(StoreError, match=r"belongs to gone\.example: set another path"):
        Store(str(path), "other.example", LIMITS, 0.0)
    # The lock does not outlive the error.
    Store(str(path), OURS, LIMITS, 0.0).close()


def test_a_file_that_is_no_state(path: Path) -> None:
    path.write_text("something else " * 100)
    with pytest.raises(StoreError, match="can't be used: file is not a database"):
        Store(str(path), OURS, LIMITS, 0.0)


def test_a_newer_format(store: Store, path: Path) -> None:
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="has the format 99"):
        Store(str(path), OURS, LIMITS, 0.0)


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="lock can't be written: No such file or directory"):
        Store(str(tmp_path / "none/state.db"), OURS, LIMITS, 0.0)


# Servers


def test_a_server_is_woken_once(store: Store) -> None:
    store.add_server(B, "servers", 10.0)
    assert store.next(B) == Next(10.0, False)
    server = store.take(B, 10.0, 610.0)
    assert isinstance(server, Server) and server.name == B
    assert store.take(B, 20.0, 620.0) is None
    assert store.answered(server, 20.0, 86_420.0)
    assert not store.answered(server, 21.0, 86_420.0)
    assert store.next(B) == Next(86_420.0, True)


def test_a_server_that_does_not_answer_holds_its_pairs(store: Store) -> None:
    heard(store, Heard(R1), Heard(R2))
    visit = visit_of(store)
    store.failed(visit.server, "unreachable", "down", 100.0, 160.0)
    store.postpone(visit, 220.0)
    assert store.next(B) == Next(160.0, False)
    assert store.take(B, 159.0, 700.0) is None
    again = visit_of(store, now=160.0)
    assert again.server.tries == 1
    # Another pair than the one that failed; and one at a time.
    assert again.pair.room_id == R2
    assert store.take(B, 400.0, 700.0) is None


def test_a_server_that_sends_something_is_up(store: Store) -> None:
    heard(store, Heard(R1))
    visit = visit_of(store)
    store.failed(visit.server, "unreachable", "down", 100.0, 10_000.0)
    heard(store, Heard(R1), now=130.0)
    assert store.next(B) == Next(160.0, False), "but not at each request of it"
    heard(store, Heard(R1), now=900.0)
    assert store.next(B) == Next(160.0, False)


def test_the_start_of_the_service(store: Store) -> None:
    """It may have been away for long, so that servers have given up on it."""
    for name, woken in ((B, 1000.0), (C, 300.0)):
        store.add_server(name, "servers", 0.0)
        server = store.take(name, woken, woken)
        assert isinstance(server, Server)
        store.answered(server, woken, 50_000.0)
    assert store.begin(1000.0, 600.0) == {B: Next(50_000.0, True), C: Next(1000.0, True)}


# Pairs


def test_a_pair_is_taken_by_one_worker(store: Store) -> None:
    heard(store, Heard(R1, ("$a", "$b")))
    visit = visit_of(store)
    assert (visit.pair, visit.state, visit.event_ids) == (Pair(B, R1), "waiting", ("$a", "$b"))
    taken = store.take(B, 100.0, 700.0)
    assert not isinstance(taken, Visit)
    finish(store, visit)
    assert store.take(B, 100.0, 700.0) is None


def test_pairs_in_the_order_in_which_they_are_due(store: Store) -> None:
    heard(store, Heard(R2), now=50.0)
    heard(store, Heard(R1), now=60.0)
    assert [visit_of(store).pair.room_id for _number in range(2)] == [R2, R1]


def test_news_about_a_confirmed_pair(store: Store) -> None:
    heard(store, Heard(R1))
    finish(store, visit_of(store))
    for now in (110.0, 120.0, 130.0):
        heard(store, Heard(R1), now=now)
    assert not isinstance(store.take(B, 159.0, 700.0), Visit)
    assert visit_of(store, now=160.0).tries == 1


def test_news_during_a_visit(store: Store) -> None:
    heard(store, Heard(R1))
    visit = visit_of(store)
    heard(store, Heard(R1), now=101.0)
    finish(store, visit)
    assert visit_of(store, now=160.0).pair == Pair(B, R1)


def test_an_open_pair_is_checked_earlier_on_news(store: Store) -> None:
    heard(store, Heard(R1))
    finish(store, visit_of(store), "ghosts", due=50_000.0)
    heard(store, Heard(R1, ("$new",)), now=5000.0)
    visit = visit_of(store, now=5000.0)
    assert (visit.state, visit.event_ids) == ("ghosts", ("$new",))


def test_the_newest_events_are_kept(store: Store) -> None:
    heard(store, Heard(R1, ("$1", "$2")))
    heard(store, Heard(R1, ("$3", "$2")))
    assert visit_of(store).event_ids == ("$3", "$2", "$1")


def test_pairs_that_wait_for_their_room(store: Store) -> None:
    for server in (B, C):
        heard(store, Heard(R1), server=server)
    first, second = visit_of(store, B), visit_of(store, C)
    store.wait_for_room(second)
    assert not isinstance(store.take(C, 10_000.0, 20_000.0), Visit)
    assert store.release(first.room, 200.0) == [C]
    finish(store, first)
    assert not isinstance(store.take(C, 199.0, 20_000.0), Visit)
    assert visit_of(store, C, 200.0).pair == Pair(C, R1)


# Accounts


def test_accounts_of_a_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ACCOUNTS", 3)
    monkeypatch.setattr(module, "MAX_ACCOUNTS_OF_OTHERS", 2)
    store.add_rooms([Room(R1, (B, C), KnownAccounts((ALICE,), (BOB,)))], 0.0)
    listed = {f"@{number}:gone.example": "join" for number in range(5)}
    assert store.add_members(visit_of(store, B), listed, [C, "d.example"], 0.0) == [C, "d.example"]
    kept = tuple(listed)[:3]
    visits = {server: visit_of(store, server) for server in (C, "d.example")}
    assert store.known(visits[C]) == KnownAccounts((ALICE, *kept[:2]), (BOB,))
    heard(store, Heard(R1, (), ("@knocking:gone.example",)), server=C)
    assert store.known(visits[C]).pending == (BOB, "@knocking:gone.example")


def test_accounts_of_all_rooms_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operator knows is kept anyway."""
    monkeypatch.setattr(module, "MAX_ACCOUNTS_IN_ALL", 1)
    heard(store, Heard(R1, (), (ALICE,)), Heard(R2, (), (BOB,)))
    first, second = visit_of(store), visit_of(store)
    assert (store.known(first).pending, store.known(second).pending) == ((ALICE,), ())
    store.add_rooms([Room(R2, (B,), KnownAccounts((BOB,)))], 0.0)
    assert store.known(second).joined == (BOB,)
    for visit in (first, second):
        store.add_leave(visit, ALICE, "$leave", "invite", 100.0)
    assert [store.leaves(visit) for visit in (first, second)] == [{"$leave": ALICE}, {}]


def test_leaves_of_invites_are_kept_until_there_is_a_new_one(store: Store) -> None:
    heard(store, Heard(R1, (), (ALICE,)))
    visit = visit_of(store)
    store.add_leave(visit, ALICE, "$leave", "invite", 100.0)
    store.add_leave(visit, BOB, "$other", "join", 101.0)
    assert store.leaves(visit) == {"$leave": ALICE}
    assert store.read().meta["last_ghost"] == "101.0"
    heard(store, Heard(R1, (), (ALICE,)), now=200.0)
    assert store.leaves(visit) == {}


# Bounds


@pytest.mark.parametrize(("limits", "dropped"), [(Limits(2, 10), 1), (Limits(10, 2), 2), (Limits(10, 10), 0)], ids=str)
def test_servers_and_rooms_are_bounded(path: Path, limits: Limits, dropped: int) -> None:
    store = Store(str(path), OURS, limits, 0.0)
    told = sum(heard(store, Heard(f"!{number}:b"), server=f"s{number % 3}.example") for number in range(4))
    assert told == dropped
    # What the operator names is followed anyway.
    store.add_rooms([Room("!mine:b", ("mine.example",), KnownAccounts())], 0.0)
    assert store.next("mine.example") is not None
    store.close()


def test_one_server_has_a_part_of_the_places(store: Store) -> None:
    rooms = [Heard(f"!{number}:b") for number in range(10)]
    assert heard(store, *rooms) == 5
    assert heard(store, *rooms, server=C) == 0
    store.close()


def test_one_server_can_name_a_part_of_the_servers(store: Store) -> None:
    heard(store, Heard(R1))
    names = [f"s{number}.example" for number in range(9)]
    assert store.add_members(visit_of(store), {}, names, 0.0) == names[:4]
    store.add_server(C, "servers", 0.0)
    heard(store, Heard(R1), server=C)
    assert store.add_members(visit_of(store, C), {}, names, 0.0) == names[:8]


def test_pairs_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAIRS", 3)
    assert heard(store, *(Heard(f"!{number}:b") for number in range(5))) == 2
    assert store.add_members(visit_of(store), {}, [B, C], 0.0) == [B]


def test_many_servers_of_a_room_are_added_in_batches(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    store = Store(str(path), OURS, Limits(100, 10), 0.0)
    heard(store, Heard(R1))
    names = [f"s{number}.example" for number in range(10)]
    assert store.add_members(visit_of(store), {}, names, 0.0) == names
    store.close()


# Sums


def test_sums_follow_the_pairs(store: Store) -> None:
    heard(store, Heard(R1), Heard(R2))
    visit = visit_of(store)
    finish(store, visit, "ghosts", due=1000.0)
    for event_id in ("$1", "$2"):
        store.add_leave(visit, ALICE, event_id, "join", 100.0)
    rows = store.read()
    assert sorted(rows.counts) == [(1, "ghosts", 1, 1, 2), (1, "waiting", 1, 0, 0)]
    assert store.reason(1, "ghosts") == "why"
    finish(store, visit_of(store))
    finish(store, visit_of(store, now=1000.0), now=1000.0)
    rows = store.read()
    assert [row for row in rows.counts if row[2]] == [(1, "confirmed", 2, 0, 2)]
    assert rows.rooms == 2


def test_an_error_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_arguments: object) -> bool:
        raise KeyError("a fault")

    monkeypatch.setattr(store, "_add_news", fails)
    with pytest.raises(KeyError):
        heard(store, Heard(R1))
    assert store.next(B) is None


def test_the_file_may_be_closed_by_another_thread(store: Store) -> None:
    calls: list[Callable[[], object]] = [lambda: heard(store, Heard(R1)), store.read, lambda: store.next(B)]
    store.close()
    for call in calls:
        with pytest.raises(sqlite3.ProgrammingError):
            call()
