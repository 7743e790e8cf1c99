# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable, Set

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.announcement import MARKER, Announcement
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError, SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    OPERATOR,
    SERVER,
    Clock,
    Json,
    matrix_error,
    room_id,
    user,
)
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import NOTICES, After, Homeserver, create

ALICE, BOB, BOT = (f"@{name}:{SERVER}" for name in ("alice", "bob", "bot"))
NO_ANSWER = 504, matrix_error("M_UNKNOWN", "gateway timeout")


class Forgetful(Set[str]):
    """The transactions of a server that is restarted all the time."""

    def add(self, _transaction: str) -> None:
        pass


Simulate = Callable[..., Homeserver]


def announce(client: Client, name: str = "decommissioning", *, dry_run: bool = True) -> Announcement:
    return Announcement(client, name, "Goodbye", dry_run=dry_run)


def tell(client: Client, name: str = "decommissioning") -> dict[str, str | None]:
    return dict(announce(client, name, dry_run=False).send())


def test_once_to_each(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"), user("bob"), alice=["r1"])
    assert [told.user_id for told in announce(lone_client).predict()] == [OPERATOR, ALICE, BOB]
    assert not server.notices
    assert tell(lone_client) == dict.fromkeys((OPERATOR, ALICE, BOB))
    again = announce(lone_client)
    assert (list(again.predict()), list(again.send()), again.unchanged) == ([], [], 3)
    assert server.notices == dict.fromkeys((OPERATOR, ALICE, BOB), 1)
    assert len(tell(lone_client, "another")) == 3
    assert server.notices == dict.fromkeys((OPERATOR, ALICE, BOB), 2)


def test_what_is_sent(simulate: Simulate, lone_client: Client) -> None:
    server = simulate()
    tell(lone_client)
    [[event]] = server.events.values()
    marker = {"name": "decommissioning", "user_id": OPERATOR}
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
    assert (ALICE in {plan.user_id for plan in announce(lone_client).predict()}) is told
    assert (ALICE in tell(lone_client)) is told
    assert server.notices[ALICE] == told


def test_a_server_that_is_not_set_up_for_it(simulate: Simulate, lone_client: Client) -> None:
    server = simulate()
    server.notices_enabled = False
    with pytest.raises(SynapseError, match=r"No changes made: example\.org is not configured to send server notices"):
        announce(lone_client)


def test_another_refusal_is_passed_on(simulate: Simulate, lone_client: Client) -> None:
    server = simulate()
    server.faults["POST send_server_notice v1"] = [(403, matrix_error("M_FORBIDDEN", "You are not a server admin"))]
    with pytest.raises(SynapseError, match="not a server admin"):
        announce(lone_client)


def test_a_failure_is_of_one_account_only(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"), user("bob"))
    suspended = 403, matrix_error("M_USER_SUSPENDED", "suspended")
    server.faults = {f"PUT send_server_notice {user_id}": suspended for user_id in (OPERATOR, BOB)}
    told = tell(lone_client)
    assert told.pop(ALICE) is None
    assert sorted(told) == [BOB, OPERATOR] and all("M_USER_SUSPENDED" in str(reason) for reason in told.values())
    assert server.notices == {ALICE: 1}


# Requests without an answer


@pytest.mark.parametrize("user_id", [OPERATOR, ALICE])
@pytest.mark.parametrize("restarted", [True, False])
def test_without_an_answer_but_sent(simulate: Simulate, lone_client: Client, user_id: str, restarted: bool) -> None:
    server = simulate(user("alice"))
    server.faults[f"PUT send_server_notice {user_id}"] = [After(NO_ANSWER)]
    if restarted:
        server.transactions = Forgetful()
    assert tell(lone_client) == dict.fromkeys((OPERATOR, ALICE))
    assert server.notices == {OPERATOR: 1, ALICE: 1}


@pytest.mark.parametrize("user_id", [OPERATOR, ALICE])
def test_without_an_answer_and_not_sent(simulate: Simulate, lone_client: Client, clock: Clock, user_id: str) -> None:
    server = simulate(user("alice"))
    server.faults[f"PUT send_server_notice {user_id}"] = [NO_ANSWER]
    assert tell(lone_client) == dict.fromkeys((OPERATOR, ALICE))
    assert server.notices == {OPERATOR: 1, ALICE: 1}
    assert sum(clock.waits) >= 7.5


def test_without_an_answer_twice(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"), user("bob"))
    server.faults[f"PUT send_server_notice {ALICE}"] = [NO_ANSWER] * 2
    told = tell(lone_client)
    assert "gateway timeout" in str(told[ALICE])
    assert server.notices == {OPERATOR: 1, BOB: 1}


def test_a_server_that_stops_answering_ends_it(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"), user("bob"))
    server.faults[f"PUT send_server_notice {ALICE}"] = [After(NO_ANSWER)]
    server.faults[f"POST login {ALICE}"] = [NO_ANSWER] * 100
    with pytest.raises(SynapseError, match="gateway timeout") as caught:
        tell(lone_client)
    assert isinstance(caught.value, FatalError)


# Who has had it


def test_nobody_else_is_told_before_one_was_seen(simulate: Simulate, lone_client: Client, clock: Clock) -> None:
    server = simulate(user("alice"))
    server.faults["GET rooms v1"] = [(200, {"rooms": [], "total_rooms": 0})] * 4
    assert tell(lone_client) == dict.fromkeys((OPERATOR, ALICE))
    assert clock.waits[:4] == [0, 0.5, 1, 2]


def test_without_statistics_it_ends_with_one(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"))
    server.faults["GET rooms v1"] = (200, {"rooms": [], "total_rooms": 0})
    with pytest.raises(SynapseError, match="enable Synapse's statistics"):
        tell(lone_client)
    assert server.notices == {OPERATOR: 1}


def test_rooms_that_statistics_do_not_have_yet_count(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"))
    tell(lone_client)
    # Listed is only the first.
    server.unlisted_rooms.update(server.joined[NOTICES][1:])
    assert announce(lone_client).unchanged == 2


def test_a_marker_that_somebody_else_has_set_does_not_count(simulate: Simulate, lone_client: Client) -> None:
    server = simulate(user("alice"))
    marker = {"name": "decommissioning", "user_id": OPERATOR}
    server.notify(OPERATOR, {"body": "mine", MARKER: marker}, sender=ALICE)
    server.notify(OPERATOR, {"body": "theirs", MARKER: marker}, sender="@notices:other.example")
    server.notify(OPERATOR, {"body": "hello"})
    [room] = server.joined[NOTICES]
    server.events[room].append({"sender": ALICE, "type": "m.room.message", "content": {MARKER: marker}})
    assert tell(lone_client) == dict.fromkeys((OPERATOR, ALICE))


@pytest.mark.parametrize(
    "marker", [None, "decommissioning", [], {}, {"name": "decommissioning"}, {"name": 1, "user_id": OPERATOR}]
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
    server.state[room_id("big")] = [create("10", BOT)]
    tell(lone_client)
    assert not [request for request in server.requests if request.startswith(f"GET messages {room_id('big')}")]


def test_a_room_that_was_purged_meanwhile(simulate: Simulate, lone_client: Client) -> None:
    server = simulate()
    tell(lone_client)
    room = server.joined[NOTICES][0]
    server.faults[f"GET messages {room}"] = [(404, matrix_error("M_NOT_FOUND", "no room"))]
    assert announce(lone_client).unchanged == 0


def test_a_room_that_cannot_be_read_stops_it(simulate: Simulate, lone_client: Client) -> None:
    server = simulate()
    tell(lone_client)
    room = server.joined[NOTICES][0]
    server.faults[f"GET messages {room}"] = [(500, matrix_error("M_UNKNOWN", "broken"))]
    with pytest.raises(SynapseError, match="broken"):
        announce(lone_client)


def test_where_login_is_delegated(simulate: Simulate, lone_client: Client) -> None:
    """Synapse answers 500 to a transaction ID that comes with a token without a device."""
    server = simulate(user("alice"))
    server.delegated = True
    assert tell(lone_client) == dict.fromkeys((OPERATOR, ALICE))
    assert tell(lone_client) == {} and server.notices == dict.fromkeys((OPERATOR, ALICE), 1)
    assert not [path for path in server.paths if path.startswith("PUT")]
