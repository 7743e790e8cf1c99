# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Set

import pytest
import responses
from ansible_collections.matrixops.synapse.plugins.module_utils._announcement import MARKER, Announcement
from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client, SynapseError
from ansible_collections.matrixops.synapse.tests.unit.helpers import (
    OPERATOR,
    SERVER,
    Clock,
    Json,
    Simulation,
    matrix_error,
    room_id,
    user,
)

ALICE, BOB, BOT, NOTICES = (f"@{name}:{SERVER}" for name in ("alice", "bob", "bot", "notices"))
NO_ANSWER = 504, matrix_error("M_UNKNOWN", "gateway timeout")


class Forgetful(Set[str]):
    """The transactions of a server that is restarted all the time."""

    def add(self, _transaction: str) -> None:
        pass


class Noticing(Simulation):
    """A homeserver that sends notices.

    I(answers) are what it answers notices to an account with instead of 200, and I(lost) says for how many of these
    nothing was done. I(hidden) says for how many listings of rooms its statistics lag behind.
    """

    def __init__(self, mock: responses.RequestsMock, *users: Json, **joined: list[str]) -> None:
        super().__init__(mock, *users, **joined)
        self.answers: dict[str, list[tuple[int, Json]]] = {}
        self.lost: dict[str, int] = {}
        self.hidden = 0
        self.enabled = True
        self.creators: dict[str, str] = {}
        self.invited: dict[str, list[str]] = {}
        self.transactions: set[str] = set()

    @property
    def notices(self) -> Counter[str]:
        """How many notices each account has."""
        has = {room: user_id for user_id, rooms in self.invited.items() for room in rooms}
        return Counter(has[room] for room, events in self.events.items() for _event in events)

    def notify(self, user_id: str, content: Json, sender: str = NOTICES) -> None:
        room = room_id(f"{sender[1:]}.{user_id[1:]}")
        if room not in self.events:
            self.creators[room] = sender
            self.joined.setdefault(sender, []).append(room)
            self.invited.setdefault(user_id, []).append(room)
        self.events.setdefault(room, []).append({"sender": sender, "type": "m.room.message", "content": content})

    def _act(self, before: str, last: str, user_id: str) -> tuple[int, Any]:
        if "send_server_notice" in (before, last):
            return self._notice(last)
        if last == "sync":
            return 200, {"rooms": {"invite": {room: {} for room in self.invited.get(user_id, ())}}}
        if last == "rooms" and self.hidden:
            self.hidden -= 1
            return 200, {"rooms": []}
        return super()._act(before, last, user_id)

    def _notice(self, transaction: str) -> tuple[int, Any]:
        if not self.enabled:
            return 400, matrix_error("M_UNKNOWN", "Server notices are not enabled on this server")
        user_id, content = self._body["user_id"], self._body["content"]
        if not user_id.endswith(f":{SERVER}"):
            return 400, matrix_error("M_UNKNOWN", "Server notices can only be sent to local users")
        answer = self.answers[user_id].pop(0) if self.answers.get(user_id) else (200, {"event_id": "$e"})
        if self.lost.get(user_id, 0) > 0:
            self.lost[user_id] -= 1
        elif transaction not in self.transactions and answer[0] in (200, 504):
            self.transactions.add(transaction)
            self.notify(user_id, content)
        return answer

    def _room(self, room: str) -> Json:
        members = len(self._members(room))
        return {**super()._room(room), "creator": self.creators.get(room, ALICE), "joined_members": members}


Simulate = Callable[..., Noticing]


@pytest.fixture
def simulate() -> Any:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked:
        yield lambda *users, **joined: Noticing(mocked, user("op", admin=True), *users, **joined)


def announce(client: Client, name: str = "retirement") -> Announcement:
    return Announcement(client, name, "Goodbye", 2)


def tell(client: Client, name: str = "retirement") -> dict[str, str | None]:
    return dict(announce(client, name).tell())


def test_once_to_each(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"), user("bob"), alice=["r1"])
    assert [told.user_id for told in announce(lone_client).planned()] == [OPERATOR, ALICE, BOB]
    assert not server.notices
    assert tell(lone_client) == dict.fromkeys((OPERATOR, ALICE, BOB))
    again = announce(lone_client)
    assert (list(again.planned()), list(again.tell()), again.unchanged) == ([], [], 3)
    assert server.notices == dict.fromkeys((OPERATOR, ALICE, BOB), 1)
    assert len(tell(lone_client, "another")) == 3
    assert server.notices == dict.fromkeys((OPERATOR, ALICE, BOB), 2)


def test_what_is_sent(simulate: Simulate, lone_client: Client) -> None:
    server = simulate()
    tell(lone_client)
    [[event]] = server.events.values()
    marker = {"name": "retirement", "user_id": OPERATOR}
    assert event["content"] == {"msgtype": "m.text", "body": "Goodbye", MARKER: marker}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, True),
        ({"admin": True}, True),
        ({"suspended": True}, True),
        ({"locked": True}, False),
        ({"deactivated": True}, False),
        ({"deactivated": True, "erased": True}, False),
        ({"is_guest": True}, False),
        ({"appservice_id": "bridge"}, False),
    ],
)
def test_who_is_told(simulate: Simulate, lone_client: Client, more: Json, told: bool) -> None:
    server = simulate(user("alice", **more))
    assert (ALICE in {plan.user_id for plan in announce(lone_client).planned()}) is told
    assert (ALICE in tell(lone_client)) is told
    assert server.notices[ALICE] == told


def test_a_server_that_is_not_set_up_for_it(simulate: Simulate, lone_client: Client) -> None:
    server = simulate()
    server.enabled = False
    with pytest.raises(SynapseError, match=r"Nothing was sent: example\.org is not set up to send server notices"):
        announce(lone_client)


def test_another_refusal_is_passed_on(simulate: Simulate, lone_client: Client) -> None:
    server = simulate()
    server.errors["POST send_server_notice v1"] = [(403, matrix_error("M_FORBIDDEN", "You are not a server admin"))]
    with pytest.raises(SynapseError, match="not a server admin"):
        announce(lone_client)


def test_a_failure_is_of_one_account_only(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"), user("bob"))
    suspended = 403, matrix_error("M_USER_SUSPENDED", "suspended")
    server.answers = {OPERATOR: [suspended], BOB: [suspended]}
    told = tell(lone_client)
    assert told.pop(ALICE) is None
    assert sorted(told) == [BOB, OPERATOR] and all("M_USER_SUSPENDED" in str(reason) for reason in told.values())
    assert server.notices == {ALICE: 1}


# Requests without an answer


@pytest.mark.parametrize("user_id", [OPERATOR, ALICE])
@pytest.mark.parametrize("restarted", [True, False])
def test_without_an_answer_but_sent(simulate: Simulate, lone_client: Client, user_id: str, restarted: bool) -> None:
    server = simulate(user("alice"))
    server.answers[user_id] = [NO_ANSWER]
    if restarted:
        server.transactions = Forgetful()
    assert tell(lone_client) == dict.fromkeys((OPERATOR, ALICE))
    assert server.notices == {OPERATOR: 1, ALICE: 1}


@pytest.mark.parametrize("user_id", [OPERATOR, ALICE])
def test_without_an_answer_and_not_sent(simulate: Simulate, lone_client: Client, clock: Clock, user_id: str) -> None:
    server = simulate(user("alice"))
    server.answers[user_id], server.lost[user_id] = [NO_ANSWER], 1
    assert tell(lone_client) == dict.fromkeys((OPERATOR, ALICE))
    assert server.notices == {OPERATOR: 1, ALICE: 1}
    assert sum(clock.waits) >= 7.5


def test_without_an_answer_twice(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"), user("bob"))
    server.answers[ALICE], server.lost[ALICE] = [NO_ANSWER] * 2, 2
    told = tell(lone_client)
    assert "gateway timeout" in str(told[ALICE])
    assert server.notices == {OPERATOR: 1, BOB: 1}


def test_a_server_that_stops_answering_ends_it(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"), user("bob"))
    server.answers[ALICE] = [NO_ANSWER]
    server.errors[f"POST login {ALICE}"] = [NO_ANSWER] * 100
    with pytest.raises(SynapseError, match="gateway timeout") as caught:
        tell(lone_client)
    assert caught.value.fatal


# Who has had it


def test_nobody_else_is_told_before_one_was_seen(simulate: Simulate, lone_client: Client, clock: Clock) -> None:
    server = simulate(user("alice"))
    server.hidden = 4
    assert tell(lone_client) == dict.fromkeys((OPERATOR, ALICE))
    assert clock.waits[:4] == [0, 0.5, 1, 2]


def test_without_statistics_it_ends_with_one(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"))
    server.hidden = 1000
    with pytest.raises(SynapseError, match="statistics are switched off"):
        tell(lone_client)
    assert server.notices == {OPERATOR: 1}


def test_rooms_that_statistics_do_not_have_yet_count(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"))
    tell(lone_client)
    rooms = server.joined[NOTICES]
    listed = server._room
    # Listed is only the first.
    server._room = lambda room: {**listed(room), "creator": NOTICES if room == rooms[0] else ALICE}  # type: ignore
    assert announce(lone_client).unchanged == 2


def test_a_marker_that_somebody_else_has_set_does_not_count(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"))
    marker = {"name": "retirement", "user_id": OPERATOR}
    server.notify(OPERATOR, {"body": "mine", MARKER: marker}, sender=ALICE)
    server.notify(OPERATOR, {"body": "theirs", MARKER: marker}, sender="@notices:other.example")
    server.notify(OPERATOR, {"body": "hello"})
    [room] = server.joined[NOTICES]
    server.events[room].append({"sender": ALICE, "type": "m.room.message", "content": {MARKER: marker}})
    assert tell(lone_client) == dict.fromkeys((OPERATOR, ALICE))


@pytest.mark.parametrize(
    "marker", [None, "retirement", [], {}, {"name": "retirement"}, {"name": 1, "user_id": OPERATOR}]
)
def test_markers_of_another_make(simulate: Simulate, lone_client: Client, marker: Any) -> None:
    server = simulate()
    server.notify(OPERATOR, {"body": "hello", MARKER: marker})
    assert announce(lone_client).unchanged == 0
    assert tell(lone_client) == {OPERATOR: None}


def test_the_bot_of_an_application_service(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"))
    server.notify(ALICE, {"body": "hello"}, sender=BOT)
    assert tell(lone_client) == dict.fromkeys((OPERATOR, ALICE))
    assert announce(lone_client).unchanged == 2


def test_rooms_of_many_are_not_looked_into(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"), user("bob"), alice=["big"], bob=["big"], bot=["big"])
    server.creators[room_id("big")] = BOT
    tell(lone_client)
    assert not [request for request in server.requests if request.startswith(f"GET messages {room_id('big')}")]


def test_a_room_that_was_purged_meanwhile(simulate: Simulate, lone_client: Client) -> None:
    server = simulate()
    tell(lone_client)
    room = server.joined[NOTICES][0]
    server.errors[f"GET messages {room}"] = [(404, matrix_error("M_NOT_FOUND", "no room"))]
    assert announce(lone_client).unchanged == 0


def test_a_room_that_cannot_be_read_stops_it(simulate: Simulate, lone_client: Client) -> None:
    server = simulate()
    tell(lone_client)
    room = server.joined[NOTICES][0]
    server.errors[f"GET messages {room}"] = [(500, matrix_error("M_UNKNOWN", "broken"))]
    with pytest.raises(SynapseError, match="broken"):
        announce(lone_client)
