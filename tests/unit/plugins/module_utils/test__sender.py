# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
from typing import Any, Callable, Iterator
from urllib.parse import unquote

import pytest
import responses
from ansible_collections.matrixops.synapse.plugins.module_utils import _sender
from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client, SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._sender import Sender, wake
from ansible_collections.matrixops.synapse.tests.unit.helpers import (
    BASE_URL,
    OPERATOR,
    SERVER,
    TOKEN,
    Clock,
    Json,
    matrix_error,
    room_id,
)

ROOM = room_id("shared")
OWN = room_id("own")


class Federation:
    """Some servers in a room, and what each has taken; C(None) is one that can't be reached."""

    def __init__(self, mock: responses.RequestsMock) -> None:
        self.servers: dict[str, int | None] = {}
        self.answering: set[str] = set()
        self.pending = 0
        self.asleep = False
        self.operator = OPERATOR
        self.asked: list[str] = []
        self.errors: dict[str, tuple[int, Json]] = {}
        for method in ("GET", "POST"):
            mock.add_callback(method, re.compile(".*"), self._answer)

    def act(self) -> None:
        """Something of ours happens in the room."""
        self.pending += 1
        if not self.asleep:
            self._send()

    def _send(self) -> None:
        for name in self.answering:
            self.servers[name] = (self.servers[name] or 0) + self.pending
        self.pending = 0

    def _answer(self, request: Any) -> tuple[int, Json, str]:
        path = unquote(request.url.partition("?")[0])
        *_start, before, last = path.split("/")
        self.asked.append(f"{request.method} {last if last != 'leave' else before + ' leave'}")
        status, answer = self.errors.get(last) or (200, self._found(before, last, request))
        return status, {}, json.dumps(answer)

    def _found(self, before: str, last: str, request: Any) -> Json:
        if last == "whoami":
            return {"user_id": self.operator}
        if last == "members":
            return {"members": [OPERATOR, *(f"@somebody:{name}" for name in self.servers)]}
        if last == "createRoom":
            assert b'"m.federate": false' in request.body
            self.asleep = False
            self._send()
            return {"room_id": OWN}
        if before == "destinations":
            failing = self.servers[last] is None
            return {"last_successful_stream_ordering": self.servers[last], "failure_ts": 1000 if failing else None}
        return {}


Start = Callable[..., Federation]


@pytest.fixture
def start(clock: Clock) -> Iterator[Start]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:

        def start(*answering: str, pending: tuple[str, ...] = (), failing: tuple[str, ...] = ()) -> Federation:
            federation = Federation(mock)
            federation.servers = {**dict.fromkeys((*answering, *pending), 5), **dict.fromkeys(failing)}
            federation.answering = set(answering)
            return federation

        yield start


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(BASE_URL, TOKEN) as client:
        yield client


def act(sender: Sender, federation: Federation) -> list[str]:
    """What is asked for, besides who is in the room."""
    del federation.asked[:]
    with sender.sees_off(ROOM):
        federation.act()
    return [asked for asked in federation.asked if asked not in ("GET members", "GET whoami")]


def test_one_takes_it(start: Start, client: Client, clock: Clock) -> None:
    federation = start("a.example")
    assert act(Sender(client), federation) == ["GET a.example"] * 2
    assert clock.waits == []


def test_it_waits_for_one_to_take_it(
    start: Start, client: Client, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = start("a.example")
    federation.asleep = True
    sleep = clock.sleep

    def send_later(seconds: float) -> None:
        sleep(seconds)
        if len(clock.waits) == 3:
            federation._send()

    monkeypatch.setattr("time.sleep", send_later)
    assert act(Sender(client), federation) == ["GET a.example"] * 5
    assert clock.waits == [0.05, 0.1, 0.2]


def test_synapse_does_not_come_to_it(start: Start, client: Client) -> None:
    """As when it was restarted in that moment: an event that nobody else gets helps."""
    federation = start("a.example")
    federation.asleep = True
    asked = act(Sender(client), federation)
    assert "POST createRoom" in asked and f"POST {OWN} leave" in asked
    assert asked[-1] == "GET a.example" and federation.servers == {"a.example": 6}


def test_who_does_not_take_it_is_not_asked_again(start: Start, client: Client, clock: Clock) -> None:
    federation = start(pending=("a.example", "b.example"))
    sender = Sender(client)
    assert "POST createRoom" in act(sender, federation)
    assert sum(clock.waits) > 2 * _sender.PATIENCE
    federation.answering = {"b.example"}
    assert act(sender, federation) == ["GET b.example"] * 2


def test_who_has_taken_something_is_asked_first(start: Start, client: Client) -> None:
    federation = start("z.example", failing=("a.example",))
    sender = Sender(client)
    assert act(sender, federation) == ["GET a.example", "GET z.example", "GET z.example"]
    federation.servers["b.example"] = 5
    assert act(sender, federation) == ["GET z.example"] * 2


@pytest.mark.parametrize("gone", ["nobody is in it", "all fail", "never sent to", "purged"])
def test_there_is_nobody_to_wait_for(start: Start, client: Client, clock: Clock, gone: str) -> None:
    federation = start(failing=("a.example",) if gone == "all fail" else ())
    if gone == "never sent to":
        federation.servers["a.example"] = 5
        federation.errors["a.example"] = (404, matrix_error("M_NOT_FOUND", "Unknown destination"))
    if gone == "purged":
        federation.errors["members"] = (404, matrix_error("M_NOT_FOUND", "Room not found"))
    act(Sender(client), federation)
    assert clock.waits == []


def test_what_goes_wrong_is_not_waited_for(start: Start, client: Client) -> None:
    federation = start("a.example")
    with pytest.raises(SynapseError, match="no"), Sender(client).sees_off(ROOM):
        raise SynapseError("no")
    assert federation.asked.count("GET a.example") == 1


def test_rooms_that_may_not_be_made(start: Start, client: Client, clock: Clock) -> None:
    federation = start()
    federation.errors["createRoom"] = (403, matrix_error("M_FORBIDDEN", "You may not"))
    wake(client)
    assert clock.waits == [_sender.WAKING]


def test_no_room_is_made_on_another_server(start: Start, client: Client) -> None:
    federation = start()
    assert client.user_id == OPERATOR
    federation.operator = "@operator:elsewhere.example"
    with pytest.raises(SynapseError, match="is from another server"):
        wake(client)
    assert "POST createRoom" not in federation.asked


def test_a_token_that_is_dead(start: Start, client: Client) -> None:
    federation = start("a.example")
    federation.errors["createRoom"] = (401, matrix_error("M_UNKNOWN_TOKEN", "Invalid access token"))
    with pytest.raises(SynapseError, match="M_UNKNOWN_TOKEN"):
        wake(client)


def test_of_itself_it_is_no_witness(start: Start, client: Client) -> None:
    federation = start()
    federation.servers[SERVER] = 5
    assert act(Sender(client), federation) == []
