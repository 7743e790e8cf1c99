# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Callable, Iterable, Sequence
from unittest.mock import ANY

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils import _rooms
from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client, SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._rooms import (
    MOST_NAMES,
    Departure,
    Memberships,
    with_reasons,
)
from ansible_collections.matrixops.synapse.tests.unit.helpers import (
    OPERATOR,
    OVERRIDE,
    ROOMS,
    TOKENS,
    UNLIMITED,
    Clock,
    Json,
    Server,
    matrix_error,
    quoted,
    room,
    room_id,
    user,
)

ALICE, BOB, CAROL = (f"@{name}:example.org" for name in ("alice", "bob", "carol"))
BOT = "@bot:example.org"
REMOTE = "@remote:example.com"
R1, R2, R3 = (room_id(name) for name in ("r1", "r2", "r3"))
FORBIDDEN = matrix_error("M_FORBIDDEN", "You are banned")
LIST = {"limit": "1000", "order_by": "joined_local_members"}


Watch = Callable[..., "Watched"]


# Listing


def test_all_rooms_are_listed(server: Server, client: Client) -> None:
    server.get(ROOMS, {"rooms": [room("r1", 2), room("r2", 0)], "next_batch": 2}, query=LIST)
    server.get(ROOMS, {"rooms": [room("r3", 0)]}, query={**LIST, "from": "2"})
    assert [found["room_id"] for found in _rooms.list_rooms(client)] == [R1, R2, R3]


def test_occupied_rooms_come_first_and_no_further_page_is_read(server: Server, client: Client) -> None:
    server.get(ROOMS, {"rooms": [room("r1", 2), room("r2", 0)], "next_batch": 2}, query=LIST)
    assert [found["room_id"] for found in _rooms.list_rooms(client, occupied=True)] == [R1]


def test_local_members_are_those_of_this_server(server: Server, client: Client) -> None:
    server.members("r1", BOB, REMOTE, ALICE, "@x:example.org:8448", "@y:notexample.org", "@z:example.org.test")
    assert _rooms.local_members(client, R1) == [ALICE, BOB]


def test_rooms_with_their_local_members(server: Server, client: Client) -> None:
    server.rooms(room("r1", 1), room("r2", 1), room("r3", 0))
    server.members("r1", ALICE, REMOTE)
    server.members("r2", REMOTE)  # statistics lag behind
    assert list(_rooms.with_local_members(client, 1)) == [{**room("r1", 1), "local_members": [ALICE]}]


def test_joined_rooms(server: Server, client: Client) -> None:
    server.joined(ALICE, "r2", "r1")
    assert _rooms.joined_rooms(client, ALICE) == [R1, R2]


@pytest.mark.parametrize(
    ("members", "federated"),
    [
        ([ALICE, BOB], False),
        ([ALICE, REMOTE], True),
        ([ALICE, "@x:example.org:8448"], True),
        # Somebody has left just now, and was the last.
        ([], False),
    ],
)
def test_federated_rooms(server: Server, client: Client, members: list[str], federated: bool) -> None:
    server.members("r1", *members)
    assert _rooms.is_federated(client, R1) is federated


@pytest.mark.parametrize("status", [404, 500])
def test_a_room_that_cannot_be_read_counts_as_federated(server: Server, client: Client, status: int) -> None:
    server.get(f"{ROOMS}/{quoted(R1)}/members", matrix_error("M_UNKNOWN", "broken"), status=status)
    assert _rooms.is_federated(client, R1)


def test_a_dead_token_says_nothing_of_a_room(server: Server, client: Client) -> None:
    server.get(f"{ROOMS}/{quoted(R1)}/members", matrix_error("M_UNKNOWN_TOKEN", "dead"), status=401)
    with pytest.raises(SynapseError, match="dead"):
        _rooms.is_federated(client, R1)


# Who is still joined


def test_still_joined(server: Server, client: Client) -> None:
    server.joined(ALICE, "r2", "r1")
    server.joined(BOB)
    assert _rooms.still_joined(client, [ALICE, BOB], 1) == {ALICE: [R1, R2]}


def test_nobody_is_no_request(client: Client) -> None:
    assert _rooms.still_joined(client, set(), 1) == {}


# Waiting


class Watched:
    """Accounts with the names of their rooms at each look, of which the last is for good. I(others) are not watched."""

    def __init__(self, client: Client, looks: dict[str, list[list[str]]], others: list[int]) -> None:
        self.client = client
        self.looks = looks
        self.others = others
        self.parted: list[str] = []

    def answer(self, before: str, last: str) -> Json:
        if last == "joined_rooms":
            return {"joined_rooms": self._next(self.looks[before])}
        counts = Counter(room for looks in self.looks.values() for room in looks[0])
        counts["!others"] = self._next(self.others)
        return {"rooms": [{"room_id": room, "joined_local_members": n} for room, n in counts.most_common()]}

    @staticmethod
    def _next(looks: Any) -> Any:
        return looks.pop(0) if len(looks) > 1 else looks[0]

    def wait(self, timeout: float = 60, concurrency: int = 1) -> dict[str, list[str]]:
        return _rooms.wait_until_parted(
            self.client,
            list(self.looks),
            lambda user_id: _rooms.joined_rooms(self.client, user_id),
            timeout=timeout,
            concurrency=concurrency,
            on_parted=self.parted.append,
        )


@pytest.fixture
def watch(lone_client: Client, answering: Callable[..., None]) -> Watch:
    def start(looks: dict[str, list[list[str]]], others: Sequence[int] = (0,)) -> Watched:
        watched = Watched(lone_client, looks, list(others))
        answering(watched.answer)
        return watched

    return start


def test_nobody_to_wait_for(client: Client, clock: Clock) -> None:
    waited = _rooms.wait_until_parted(client, [], pytest.fail, timeout=60, concurrency=1, on_parted=pytest.fail)
    assert waited == {}
    assert clock.waits == []


def test_each_account_is_reported_once(watch: Watch) -> None:
    watched = watch({ALICE: [["r"], ["r"], []], BOB: [[]], CAROL: [["r"], []]})
    assert watched.wait(concurrency=2) == {}
    assert sorted(watched.parted) == [ALICE, BOB, CAROL]


def test_as_long_as_accounts_part_there_is_no_pause(watch: Watch, clock: Clock) -> None:
    assert watch({f"@u{number}:example.org": [[]] for number in range(100)}).wait(concurrency=4) == {}
    assert clock.waits == []


def test_giving_up_without_progress(watch: Watch, clock: Clock) -> None:
    watched = watch({ALICE: [["r1", "r2"]], BOB: [[]]})
    assert watched.wait(timeout=60) == {ALICE: ["r1", "r2"]}
    assert watched.parted == [BOB]
    assert 60 < sum(clock.waits) <= 60 + _rooms.MAX_POLL_PAUSE


def test_the_pause_grows_but_not_for_ever(watch: Watch, clock: Clock) -> None:
    watch({ALICE: [["r1"]]}).wait(timeout=60)
    assert clock.waits == sorted(clock.waits)
    assert clock.waits[0] < 1
    assert max(clock.waits) == _rooms.MAX_POLL_PAUSE


def test_progress_extends_the_wait(watch: Watch, clock: Clock) -> None:
    looks = [[str(number) for number in range(rooms)] for rooms in range(30, 0, -1) for _look in range(20)]
    assert watch({ALICE: [*looks, []]}).wait(timeout=60) == {}
    assert sum(clock.waits) > 10 * 60


def test_progress_extends_the_wait_also_when_others_come(watch: Watch, clock: Clock) -> None:
    looks = [[str(number) for number in range(rooms)] for rooms in range(10, 0, -1) for _look in range(20)]
    assert watch({ALICE: [*looks, []]}, range(0, 1000, 100)).wait(timeout=60) == {}
    assert sum(clock.waits) > 5 * 60


def test_progress_of_another_extends_the_wait(watch: Watch, clock: Clock) -> None:
    others = {f"@u{number}:example.org": [["r"]] * 20 * number + [[]] for number in range(1, 10)}
    watched = watch({ALICE: [["r1"]], **others})
    assert watched.wait(timeout=60, concurrency=10) == {ALICE: ["r1"]}
    assert len(watched.parted) == 9
    assert sum(clock.waits) > 5 * 60


def test_progress_of_somebody_who_is_not_watched_extends_the_wait(watch: Watch, clock: Clock) -> None:
    others = [50, 40, 30, 20, 20]
    assert watch({ALICE: [["r1"]]}, others).wait(timeout=60) == {ALICE: ["r1"]}
    assert 4 * 60 < sum(clock.waits) < 5 * 60


def test_more_rooms_than_before_are_no_progress(watch: Watch, clock: Clock) -> None:
    looks = [[str(number) for number in range(rooms)] for rooms in range(1, 300)]
    assert watch({ALICE: looks}).wait(timeout=60) != {}
    assert sum(clock.waits) < 70


def test_who_is_seen_in_a_room_has_not_parted_whatever_statistics_say(
    lone_client: Client, answering: Callable[..., None]
) -> None:
    answering(lambda _before, last: {"joined_rooms": ["r1"]} if last == "joined_rooms" else {"rooms": []})
    watched = Watched(lone_client, {ALICE: [["r1"]]}, [0])
    assert watched.wait() == {ALICE: ["r1"]}
    assert watched.parted == []


# Memberships


def test_memberships(server: Server, client: Client) -> None:
    server.sync(token="fresh", join=["r1"], invite=["r4", "r3"], knock=["r5"], leave=["r6"])
    server.joined(ALICE, "r2", "r1")  # exact, where /sync may leave a room out
    found = _rooms.memberships(client, ALICE, "fresh")
    assert found == Memberships([R1, R2], [R3, room_id("r4")], [room_id("r5")])


@pytest.mark.parametrize("answer", [{}, {"rooms": {}}])
def test_no_memberships(server: Server, client: Client, answer: Json) -> None:
    query = {"filter": ANY, "set_presence": "offline", "timeout": "0"}
    server.get("/_matrix/client/v3/sync", answer, query=query)
    server.joined(OPERATOR)
    found = _rooms.memberships(client, OPERATOR)
    assert found == Memberships()
    assert not found


def test_each_sync_asks_anew_and_for_no_events(server: Server, client: Client) -> None:
    for _time in range(2):
        server.sync()
        server.joined(OPERATOR)
        _rooms.memberships(client, OPERATOR)
    first, second = (json.loads(query["filter"]) for query in server.queries if "filter" in query)
    assert first != second
    for kind in ("timeline", "state", "ephemeral", "account_data"):
        assert first["room"][kind]["types"] == []
    assert first["presence"] == first["account_data"] == {"types": []}


def test_visible_memberships_of_another(server: Server, client: Client) -> None:
    server.joined(ALICE, "r1")
    known = {R1: "join", R2: "invite", R3: "knock", room_id("r4"): "leave", room_id("r5"): "ban"}
    server.get(f"/_synapse/admin/v1/users/{quoted(ALICE)}/memberships", {"memberships": known})
    assert _rooms.visible_memberships(client, ALICE) == Memberships([R1], [R2], [R3])


def test_visible_memberships_on_an_old_version(server: Server, client: Client) -> None:
    server.joined(ALICE, "r1")
    path = f"/_synapse/admin/v1/users/{quoted(ALICE)}/memberships"
    server.get(path, matrix_error("M_UNRECOGNIZED", "Unrecognized request"), status=404)
    assert _rooms.visible_memberships(client, ALICE) == Memberships([R1])


def test_visible_memberships_that_cannot_be_read(server: Server, client: Client) -> None:
    server.joined(ALICE, "r1")
    server.get(f"/_synapse/admin/v1/users/{quoted(ALICE)}/memberships", FORBIDDEN, status=403)
    with pytest.raises(SynapseError, match="banned"):
        _rooms.visible_memberships(client, ALICE)


def test_the_operator_sees_all_own_memberships(server: Server, client: Client) -> None:
    server.sync(join=["r1"], invite=["r2"])
    server.joined(OPERATOR, "r1")
    assert _rooms.planned_departure(client, OPERATOR) == Departure(OPERATOR, left=[R1], rejected=[R2])


# Leaving


def test_leave(server: Server, client: Client) -> None:
    server.leave("r1", token="fresh")
    _rooms.leave(client, R1, "fresh")


def test_a_server_notice_is_joined_to_be_left(server: Server, client: Client) -> None:
    refusal = matrix_error("M_CANNOT_LEAVE_SERVER_NOTICE_ROOM", "You cannot reject this invite")
    server.leave("r1", refusal, status=403, token="fresh")
    server.post(f"/_matrix/client/v3/join/{quoted(R1)}", {}, token="fresh")
    server.leave("r1", token="fresh")
    _rooms.leave(client, R1, "fresh")


def test_a_refused_leave(server: Server, client: Client) -> None:
    server.leave("r1", FORBIDDEN, status=403)
    with pytest.raises(SynapseError, match="banned"):
        _rooms.leave(client, R1)


def depart(client: Client, *user_ids: str) -> list[Departure]:
    return list(_rooms.depart_all(client, user_ids, 1))


def test_one_departs_from_everything(server: Server, client: Client) -> None:
    server.can_act_as(ALICE, "fresh")
    server.sync(token="fresh", join=["r1"], invite=["r3"], knock=["r4"])
    server.joined(ALICE, "r1", "r2")
    server.rate_limit()
    for name in ("r1", "r2", "r3", "r4"):
        server.leave(name, token="fresh")
    server.joined(ALICE)
    server.delete(OVERRIDE)
    server.logout("fresh")
    (departure,) = depart(client, ALICE)
    assert departure == Departure(ALICE, left=[R1, R2], rejected=[R3], retracted=[room_id("r4")])
    assert departure.changed
    assert departure.complete


def test_nothing_to_depart_from_touches_no_rate_limit(server: Server, client: Client) -> None:
    server.can_act_as(ALICE, "fresh")
    server.sync(token="fresh")
    server.joined(ALICE)
    server.logout("fresh")
    (departure,) = depart(client, ALICE)
    assert departure == Departure(ALICE)
    assert not departure.changed
    assert departure.complete


def test_one_room_that_cannot_be_left_does_not_keep_from_the_others(server: Server, client: Client) -> None:
    server.sync(join=["r1", "r2"], invite=["r3"])
    server.joined(OPERATOR, "r1", "r2")
    server.rate_limit()
    server.leave("r1", FORBIDDEN, status=403)
    server.leave("r2")
    server.leave("r3", matrix_error("M_UNKNOWN", "Failed to reach the server"), status=500)
    server.joined(OPERATOR, "r1")
    server.delete(OVERRIDE)
    (departure,) = depart(client, OPERATOR)
    assert departure.left == [R2]
    assert list(departure.failed) == [R1, R3]
    assert "403 M_FORBIDDEN: You are banned" in departure.failed[R1]
    assert not departure.complete


def test_the_second_look_decides(server: Server, client: Client) -> None:
    server.sync(join=["r1", "r2"])
    server.joined(OPERATOR, "r1", "r2")
    server.rate_limit()
    server.leave("r1", FORBIDDEN, status=403)  # thrown out meanwhile
    server.leave("r2")  # accepted, and yet
    server.joined(OPERATOR, "r2")
    server.delete(OVERRIDE)
    (departure,) = depart(client, OPERATOR)
    assert departure.left == [R1]
    assert departure.failed == {R2: "the server accepted the leave, but the account is still joined"}


def test_one_account_that_fails_does_not_keep_from_the_next(server: Server, client: Client) -> None:
    server.date()
    path = f"/_synapse/admin/v1/users/{quoted(ALICE)}/login"
    server.expect("POST", path, FORBIDDEN, status=403, sent={"valid_until_ms": 1795419600000})
    server.can_act_as(BOB, "fresh", date=False)
    server.sync(token="fresh")
    server.joined(BOB)
    server.logout("fresh")
    failed, fine = depart(client, ALICE, BOB)
    assert failed.error is not None
    assert "banned" in failed.error
    assert not failed.complete
    assert fine == Departure(BOB)


BROKEN = matrix_error("M_UNKNOWN", "Internal server error")
SYNC = "/_matrix/client/v3/sync"


def test_who_cannot_sync_leaves_the_joined_rooms_all_the_same(server: Server, client: Client) -> None:
    query = {"filter": ANY, "set_presence": "offline", "timeout": "0"}
    server.get(SYNC, BROKEN, status=500, query=query)
    server.joined(OPERATOR, "r1", "r2")
    server.rate_limit()
    server.leave("r1")
    server.leave("r2", BROKEN, status=500)
    server.joined(OPERATOR, "r2")
    server.delete(OVERRIDE)
    (departure,) = depart(client, OPERATOR)
    assert (departure.left, list(departure.failed), departure.error) == ([R1], [R2], None)
    assert "500 M_UNKNOWN: Internal server error" in str(departure.not_listed)
    assert not departure.complete


def test_a_sync_that_is_forbidden_is_no_broken_room(server: Server, client: Client) -> None:
    query = {"filter": ANY, "set_presence": "offline", "timeout": "0"}
    server.get(SYNC, FORBIDDEN, status=403, query=query)
    (departure,) = depart(client, OPERATOR)
    assert "banned" in str(departure.error)
    assert departure.not_listed is None


def test_a_room_that_only_the_sync_has_is_left(server: Server, client: Client) -> None:
    server.sync(join=["r1"])
    server.joined(OPERATOR)
    server.rate_limit()
    server.leave("r1")
    server.joined(OPERATOR)
    server.delete(OVERRIDE)
    assert depart(client, OPERATOR) == [Departure(OPERATOR, left=[R1])]


def test_broken_rooms_by_how_many_are_in_them() -> None:
    found = _rooms.broken_rooms([{R1: "500", R2: "400"}, {R1: "501"}], lambda room_id: room_id == R1)
    assert _rooms.broken_rooms_result(found) == {
        "broken_rooms": [
            {"room_id": R1, "reason": "500", "federated": True, "accounts": 2},
            {"room_id": R2, "reason": "400", "federated": False, "accounts": 1},
        ],
        "broken_rooms_total": 2,
    }


def test_what_is_said_of_broken_rooms_is_bounded() -> None:
    found = _rooms.broken_rooms([{f"!{number}": "x" * 9999 for number in range(1001)}], lambda _room_id: False)
    result = _rooms.broken_rooms_result(found)
    assert (len(result["broken_rooms"]), result["broken_rooms_total"]) == (1000, 1001)
    assert result["broken_rooms"][0]["reason"] == "x" * 500


UNRECOGNIZED = matrix_error("M_UNRECOGNIZED", "Unrecognized request")


def without_login(server: Server) -> None:
    """Declare that a Matrix Authentication Service handles login."""
    server.date()
    path = f"/_synapse/admin/v1/users/{quoted(ALICE)}/login"
    server.post(path, ANY, UNRECOGNIZED, status=404)
    server.get(TOKENS, UNRECOGNIZED, status=404)


def test_where_nobody_can_be_acted_as_rooms_are_shut_down(server: Server, client: Client) -> None:
    without_login(server)
    server.joined(ALICE, "r1", "r2")
    # The bot is in no listing, and the other account is closed.
    server.members("r1", ALICE, BOT, CAROL, REMOTE)
    server.get(f"/_synapse/admin/v2/users/{quoted(BOT)}", matrix_error("M_NOT_FOUND", "none"), status=404)
    server.user(user("carol", deactivated=True))
    body = {"purge": False, "block": False}
    server.whoami()
    server.expect("DELETE", f"/_synapse/admin/v2/rooms/{quoted(R1)}", {"delete_id": "d"}, sent=body)
    server.get("/_synapse/admin/v2/rooms/delete_status/d", {"status": "complete"})
    server.members("r1", REMOTE)
    server.members("r2", ALICE, BOB)
    server.user(user("bob"))
    (departure,) = _rooms.depart_all(client, [ALICE], 1)
    assert (departure.left, departure.error, list(departure.failed)) == ([R1], None, [R2])
    assert f"such as {BOB}" in departure.failed[R2]


def test_what_would_be_left_where_nobody_can_be_acted_as(server: Server, client: Client) -> None:
    server.joined(ALICE, "r1")
    path = f"/_synapse/admin/v1/users/{quoted(ALICE)}/memberships"
    server.get(path, {"memberships": {R1: "join", R2: "invite", R3: "knock"}})
    server.get(TOKENS, UNRECOGNIZED, status=404)
    assert _rooms.planned_departure(client, ALICE) == Departure(ALICE, left=[R1])


def test_an_error_in_the_middle_ends_the_session_and_puts_the_limit_back(server: Server, client: Client) -> None:
    server.can_act_as(ALICE, "fresh")
    server.sync(token="fresh", join=["r1"])
    server.joined(ALICE, "r1")
    server.rate_limit()
    server.leave("r1", token="fresh")
    path = f"/_synapse/admin/v1/users/{quoted(ALICE)}/joined_rooms"
    server.get(path, matrix_error("M_UNKNOWN", "broken"), status=500)
    server.delete(OVERRIDE)
    server.logout("fresh")
    (departure,) = depart(client, ALICE)
    assert departure.error is not None
    assert "broken" in departure.error


# The rate limit


def test_without_a_limit_of_its_own_it_is_removed_again(server: Server, client: Client) -> None:
    server.rate_limit()
    server.get("/path")
    server.delete(OVERRIDE)
    with _rooms.unlimited_messages(client):
        client.get("/path")


def test_a_limit_of_its_own_is_put_back(server: Server, client: Client) -> None:
    before = {"messages_per_second": 5, "burst_count": 10}
    server.rate_limit(before)
    server.post(OVERRIDE, before, before)
    with _rooms.unlimited_messages(client):
        pass


@pytest.mark.parametrize("before", [None, UNLIMITED])
def test_the_limit_is_put_back_after_an_error(server: Server, client: Client, before: Json | None) -> None:
    server.rate_limit(before)
    if before is None:
        server.delete(OVERRIDE)
    else:
        server.post(OVERRIDE, before, before)
    with pytest.raises(SynapseError, match="in the middle"), _rooms.unlimited_messages(client):
        raise SynapseError("in the middle")


# Those in no listing


def test_unlisted_members(server: Server, client: Client) -> None:
    server.users(user("alice"), user("op", admin=True))
    server.rooms(room("r1", 2), room("r2", 1), room("r3", 1))
    server.members("r1", BOT, ALICE)
    server.members("r2", BOT, REMOTE)
    server.members("r3", "@notices:example.org", BOT)
    assert _rooms.unlisted_members(client, 1) == {R2: [BOT], R3: [BOT, "@notices:example.org"]}


def clear(server: Server, name: str, *statuses: Json) -> None:
    path = "/_synapse/admin/v2/rooms"
    sent = {"purge": False, "block": False}
    server.whoami()
    server.delete(f"{path}/{quoted(room_id(name))}", {"delete_id": "d/1"}, sent=sent)
    for status in statuses:
        server.get(f"{path}/delete_status/d%2F1", status)


def test_clear_room(server: Server, client: Client, clock: Clock) -> None:
    clear(server, "r1", {"status": "scheduled"}, {"status": "active"}, {"status": "complete"})
    server.members("r1", REMOTE)
    assert _rooms.clear_room(client, R1) == {}
    assert len(clock.waits) == 2


def test_a_room_of_another_server_is_not_cleared(server: Server, client: Client) -> None:
    """The URL leads elsewhere by now, where there is a room of that ID as well."""
    server.whoami("@op:example.com")
    with pytest.raises(SynapseError, match="is from another server") as caught:
        _rooms.clear_room(client, R1)
    assert caught.value.fatal


def test_a_room_that_cannot_be_cleared(server: Server, client: Client) -> None:
    clear(server, "r1", {"status": "failed", "error": "corrupt"})
    server.members("r1", BOT)
    assert _rooms.clear_room(client, R1) == {BOT: "corrupt"}


def test_a_room_that_is_said_to_be_clear_but_is_not(server: Server, client: Client) -> None:
    clear(server, "r1", {"status": "complete", "shutdown_room": {"failed_to_kick_users": [BOT]}})
    server.members("r1", BOT)
    assert list(_rooms.clear_room(client, R1)) == [BOT]


def test_a_room_whose_shutdown_never_ends(lone_client: Client, answering: Callable[..., None], clock: Clock) -> None:
    def answer(before: str, last: str) -> Json:
        clock.now += 30
        if last == "whoami":
            return {"user_id": OPERATOR}
        if last == "members":
            return {"members": [BOT]}
        return {"status": "active"} if before == "delete_status" else {"delete_id": "d"}

    answering(answer)
    remaining = _rooms.clear_room(lone_client, R1)
    assert list(remaining) == [BOT]
    assert "did not end" in remaining[BOT]


@pytest.fixture
def _in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms come in the order in which they are listed, also if two are looked into at the same time."""

    def in_order(function: Any, items: Iterable[Any], _concurrency: int) -> list[tuple[Any, Any]]:
        return [(item, function(item)) for item in items]

    monkeypatch.setattr(_rooms, "each", in_order)


@pytest.mark.usefixtures("_in_order")
def test_a_shutdown_that_is_refused_does_not_keep_from_the_next(server: Server, client: Client) -> None:
    server.users(user("alice"))
    server.rooms(room("r1", 1), room("r2", 1))
    server.members("r1", BOT)
    server.members("r2", BOT)
    sent = {"purge": False, "block": False}
    server.whoami()
    server.delete(f"/_synapse/admin/v2/rooms/{quoted(R1)}", FORBIDDEN, status=403, sent=sent)
    clear(server, "r2", {"status": "complete"})
    server.members("r2")
    (departure,) = _rooms.depart_unlisted(client, 1)
    assert departure.left == [R2]
    assert "banned" in departure.failed[R1]


@pytest.mark.usefixtures("_in_order")
def test_depart_unlisted(server: Server, client: Client) -> None:
    server.users(user("alice"))
    server.rooms(room("r1", 1), room("r2", 1))
    server.members("r1", BOT)
    server.members("r2", BOT)
    clear(server, "r1", {"status": "complete"})
    server.members("r1")
    clear(server, "r2", {"status": "failed", "error": "corrupt"})
    server.members("r2", BOT)
    assert list(_rooms.depart_unlisted(client, 1)) == [Departure(BOT, left=[R1], failed={R2: "corrupt"})]


def test_what_would_become_of_the_unlisted(server: Server, client: Client) -> None:
    server.users(user("alice"))
    server.rooms(room("r1", 2), room("r2", 1), room("r3", 2))
    server.members("r1", BOT, "@notices:example.org")
    server.members("r2", BOT, REMOTE)
    server.members("r3", BOT, ALICE)
    planned = sorted(_rooms.planned_unlisted(client, 1), key=lambda departure: departure.user_id)
    assert planned == [Departure(BOT, left=[R1, R2]), Departure("@notices:example.org", left=[R1])]
    assert set(server.methods) == {"GET"}


def test_nobody_unlisted(server: Server, client: Client) -> None:
    server.users(user("alice"))
    server.rooms(room("r1", 1))
    server.members("r1", ALICE)
    assert list(_rooms.depart_unlisted(client, 1)) == []


def test_reasons_in_a_result_are_bounded() -> None:
    names = {f"@{number}": "why" for number in range(MOST_NAMES + 1)}
    assert len(with_reasons("user_id", names)) == MOST_NAMES
    assert with_reasons("user_id", names, 10) == with_reasons("user_id", names)[:10]
    assert with_reasons("user_id", {"@alice:example.org": "why"}) == [
        {"user_id": "@alice:example.org", "reason": "why"}
    ]
