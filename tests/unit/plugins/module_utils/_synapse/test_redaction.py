# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest
import requests
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import (
    FatalError,
    RefusedError,
    SynapseError,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.redaction import is_permanent, redact_events
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.sessions import Session
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    OPERATOR,
    TOKEN,
    Json,
    Server,
    matrix_error,
    message,
    quoted,
    room_id,
)

ALICE, BOB = (f"@{name}:example.org" for name in ("alice", "bob"))
R1, R2 = room_id("r1"), room_id("r2")
FORBIDDEN = matrix_error("M_FORBIDDEN", "no power to redact")
FRESH = "fresh"


@pytest.fixture(autouse=True)
def _transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a new ID: 1, 2, and so on."""
    numbers = itertools.count(1)
    monkeypatch.setattr("uuid.uuid4", lambda: SimpleNamespace(hex=str(next(numbers))))


def page(server: Server, name: str, *events: Any, token: str = FRESH, query: Json | None = None, **more: Any) -> None:
    """Declare a page of what was sent to a room."""
    path = f"/_matrix/client/v3/rooms/{quoted(room_id(name))}/messages"
    query = {"dir": "f", "filter": ANY, "limit": "1000", **(query or {})}
    server.get(path, {"chunk": list(events), "start": "s0", **more}, query=query, token=token)


def redaction(
    server: Server, name: str, event_id: str, transaction: int, answer: Any = None, *, token: str = FRESH, **more: Any
) -> None:
    path = f"/_matrix/client/v3/rooms/{quoted(room_id(name))}/redact/{quoted(event_id)}/{transaction}"
    server.put(path, {}, answer, token=token, **more)


def state(event_id: str, kind: str, state_key: str, **content: Any) -> Json:
    return {"event_id": event_id, "type": kind, "sender": ALICE, "state_key": state_key, "content": content}


class FreshSession(Session):
    """A session that is open already."""

    token = FRESH

    def __init__(self) -> None:
        self.user_id = ALICE


def redact(client: Client, *names: str) -> dict[str, RefusedError]:
    return redact_events(client, FreshSession(), map(room_id, names))


def test_every_message_of_every_room_is_redacted(server: Server, client: Client) -> None:
    page(server, "r1", message("$1", ALICE), message("$a/b", ALICE))
    redaction(server, "r1", "$1", 1)
    redaction(server, "r1", "$a/b", 2)
    page(server, "r2", message("$3", ALICE))
    redaction(server, "r2", "$3", 3)
    assert redact(client, "r1", "r2") == {}


def test_no_room_is_no_request(client: Client) -> None:
    assert redact(client) == {}


def test_only_what_the_account_has_sent_is_asked_for(server: Server, client: Client) -> None:
    page(server, "r1")
    redact(client, "r1")
    assert json.loads(server.queries[-1]["filter"]) == {
        "senders": [ALICE],
        "not_types": ["m.room.redaction"],
        "lazy_load_members": True,
    }


def test_the_operator_redacts_with_its_own_token(server: Server, client: Client) -> None:
    page(server, "r1", message("$1", OPERATOR), token=TOKEN)
    redaction(server, "r1", "$1", 1, token=TOKEN)
    assert redact_events(client, Session(client, OPERATOR), [R1]) == {}


@pytest.mark.parametrize(
    "event",
    [
        message("$1", ALICE, content={}),  # redacted before
        message("$1", BOB),
        {"event_id": "$1", "type": "m.room.message", "sender": ALICE},
        state("$1", "m.room.name", "", name="Alice's room"),
        state("$1", "m.room.power_levels", "", users={ALICE: 100}, ban=50),
        state("$1", "m.room.member", ALICE, membership="join"),
        state("$1", "m.room.member", BOB, membership="invite"),
    ],
)
def test_what_has_nothing_of_the_account_is_passed_over(server: Server, client: Client, event: Json) -> None:
    page(server, "r1", event)
    assert redact(client, "r1") == {}


@pytest.mark.parametrize(
    "event",
    [
        state("$1", "m.room.member", ALICE, membership="join", displayname="Alice"),
        message("$1", ALICE, type="m.reaction", content={"m.relates_to": {}}),
        message("$1", ALICE, type="m.room.encrypted", content={"ciphertext": "abc"}),
    ],
)
def test_what_has_something_of_the_account_is_redacted(server: Server, client: Client, event: Json) -> None:
    page(server, "r1", event)
    redaction(server, "r1", "$1", 1)
    redact(client, "r1")


def test_all_pages_are_read_before_the_first_redaction(server: Server, client: Client) -> None:
    page(server, "r1", message("$1", ALICE), end="s1")
    page(server, "r1", end="s2", query={"from": "s1"})  # nothing but what the filter takes away
    page(server, "r1", message("$2", ALICE), query={"from": "s2"})
    redaction(server, "r1", "$1", 1)
    redaction(server, "r1", "$2", 2)
    assert redact(client, "r1") == {}


def test_a_page_that_is_its_own_next_is_the_last(server: Server, client: Client) -> None:
    page(server, "r1", message("$1", ALICE), end="s1")
    page(server, "r1", end="s1", query={"from": "s1"})
    redaction(server, "r1", "$1", 1)
    assert redact(client, "r1") == {}


def test_one_event_that_fails_does_not_keep_from_the_others(server: Server, client: Client) -> None:
    page(server, "r1", message("$1", ALICE), message("$2", ALICE))
    redaction(server, "r1", "$1", 1, FORBIDDEN, status=403)
    redaction(server, "r1", "$2", 2)
    page(server, "r2", message("$3", ALICE))
    redaction(server, "r2", "$3", 3)
    failed = redact(client, "r1", "r2")
    assert list(failed) == ["$1"]
    assert "403 M_FORBIDDEN: no power to redact" in str(failed["$1"])


def test_a_redaction_without_an_answer_is_sent_again_as_the_same(server: Server, client: Client) -> None:
    page(server, "r1", message("$1", ALICE))
    redaction(server, "r1", "$1", 1, requests.exceptions.ReadTimeout())
    redaction(server, "r1", "$1", 1)
    assert redact(client, "r1") == {}


def test_a_room_that_cannot_be_read_is_an_error(server: Server, client: Client) -> None:
    page(server, "r1", message("$1", ALICE))
    redaction(server, "r1", "$1", 1)
    path = f"/_matrix/client/v3/rooms/{quoted(R2)}/messages"
    query = {"dir": "f", "filter": ANY, "limit": "1000"}
    server.get(path, FORBIDDEN, status=403, query=query, token=FRESH)
    with pytest.raises(SynapseError, match="M_FORBIDDEN"):
        redact(client, "r1", "r2")


def test_a_server_that_is_gone_is_an_error(server: Server, client: Client) -> None:
    page(server, "r1", message("$1", ALICE), message("$2", ALICE))
    for _try in range(11):
        redaction(server, "r1", "$1", 1, requests.exceptions.ConnectTimeout())
    with pytest.raises(SynapseError) as caught:
        redact(client, "r1")
    assert isinstance(caught.value, FatalError)


@pytest.mark.parametrize(
    "events",
    [
        ["nothing"],
        [{"event_id": "$1", "content": {"body": "x"}}],
        [{"event_id": "$1", "sender": ALICE, "content": "x"}],
        [{"sender": ALICE, "content": {"body": "x"}}],
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error(server: Server, client: Client, events: list[Any]) -> None:
    page(server, "r1", *events)
    with pytest.raises(SynapseError, match="the answer has"):
        redact(client, "r1")


@pytest.mark.parametrize(
    ("status", "errcode", "permanent"),
    [
        (403, "M_FORBIDDEN", True),
        (403, "M_GUEST_ACCESS_FORBIDDEN", True),
        (404, "M_NOT_FOUND", True),
        (403, "M_USER_SUSPENDED", False),
        (403, "M_RESOURCE_LIMIT_EXCEEDED", False),
        (403, "ORG_MATRIX_EXPIRED_ACCOUNT", False),
        (403, None, False),
        (404, "M_UNRECOGNIZED", False),
        (429, "M_LIMIT_EXCEEDED", False),
        (500, "M_UNKNOWN", False),
        (None, None, False),
    ],
)
def test_which_events_can_never_be_redacted(status: int | None, errcode: str | None, permanent: bool) -> None:
    assert is_permanent(RefusedError("no", status=status, errcode=errcode)) is permanent


def test_a_session_that_is_no_longer_valid_ends_the_redaction(server: Server, client: Client) -> None:
    page(server, "r1", message("$1", ALICE), message("$2", ALICE))
    redaction(server, "r1", "$1", 1, matrix_error("M_UNKNOWN_TOKEN", "Invalid access token"), status=401)
    with pytest.raises(RefusedError, match="401 M_UNKNOWN_TOKEN"):
        redact(client, "r1")


def test_where_a_service_handles_login(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synapse answers 500 to a transaction ID that comes with a token without a device."""
    monkeypatch.setattr(client, "service", object())
    page(server, "r1", message("$1", ALICE))
    path = f"/_matrix/client/v3/rooms/{quoted(R1)}/redact/{quoted('$1')}"
    server.post(path, {}, {"event_id": "$2"}, token=FRESH)
    assert redact(client, "r1") == {}
