# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remote servers that lie, played by stubs: bounded in bytes and time, nothing foreign signed, all others handled."""

from __future__ import annotations

import resource
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import GhostRun
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import Room as Shared
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import (
    Known,
    Pair,
    PairResult,
    check,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.client import FederationClient
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.keys import SigningKey
from stubs import lies
from stubs.answers import Answer
from stubs.lying_server import LyingServer
from stubs.rooms import Room

from .conftest import MakeClient, StartServer

ALICE, BOB = "@alice:gone.example", "@bob:gone.example"
KNOWN = Known((ALICE,))
TIMEOUT = 60.0
SHORT_TIMEOUT = 5.0
"""In seconds, for answers that never end: in so much time, an honest server answers on a busy machine, too."""
LEAVE = {"membership": "leave"}

Signed = list[dict[str, Any]]


@pytest.fixture
def client(make_client: MakeClient) -> FederationClient:
    return make_client(timeout=TIMEOUT)


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> Signed:
    """Every event that the key was made to sign."""
    found: Signed = []
    sign = SigningKey.sign

    def watched(key: SigningKey, value: dict[str, Any], server_name: str) -> dict[str, Any]:
        if "type" in value:
            found.append(value)
        return sign(key, value, server_name)

    monkeypatch.setattr(SigningKey, "sign", watched)
    return found


def removed_by(client: FederationClient, *servers: LyingServer) -> dict[str, PairResult]:
    """What comes of a removal in the one room of each server, by the server's name."""
    results: dict[Pair, PairResult] = {}
    run = GhostRun(client, lambda _result: None, retry_delays=(), results=results)
    run.remove(
        (Shared(room_id, (server.server_name,), KNOWN) for server in servers for room_id in server.rooms),
        lambda _user_id, _room_id: True,
    )
    return {pair.server: result for pair, result in results.items()}


LIES: dict[str, tuple[str, lies.Lie]] = {
    "another type": ("make_leave", lies.template(type="m.room.message")),
    "another room": ("make_leave", lies.template(room_id="!other:rooms.example")),
    "another sender": ("make_leave", lies.template(sender=BOB)),
    "another state key": ("make_leave", lies.template(state_key=BOB)),
    "another membership": ("make_leave", lies.template(content={"membership": "join"})),
    "another version": ("make_leave", lies.template(room_version="99")),
    "a version that is no text": ("make_leave", lies.changed(lambda answer: {**answer, "room_version": ["10"]})),
    "no event": ("make_leave", lies.changed(lambda answer: {**answer, "event": None})),
    "100,000 prev_events": ("make_leave", lies.many_prev_events()),
    "prev_events of another form": ("make_leave", lies.template(prev_events=[{"a": 1}])),
    "no prev_events": ("make_leave", lies.template(prev_events=[])),
    "a huge depth": ("make_leave", lies.template(depth=2**63)),
    "a depth that is no number": ("make_leave", lies.template(depth="1")),
    "a page": ("make_leave", lies.page()),
    "a page to everything": ("*", lies.page()),
    "a list": ("state_ids", lies.changed(lambda _answer: [])),
    "nesting": ("state_ids", lies.instead(Answer(200, b"[" * 200_000))),
    "600 MB": ("state_ids", lies.big(600)),
    "endless": ("make_leave", lies.endless()),
    "a gzip bomb": ("state_ids", lies.gzip_bomb(2000)),
    "one byte a second": ("state_ids", lies.trickled(1.0)),
    "one byte a second, of the headers": ("state_ids", lies.trickled(1.0, headers=True)),
    "a redirect to loopback": ("state_ids", lies.redirect("https://127.0.0.1:1/")),
    "a redirect to another host": ("make_leave", lies.redirect("https://elsewhere.example/")),
    "hanging up": ("state_ids", lies.raw(b"")),
    "no HTTP": ("state_ids", lies.raw(b"SSH-2.0-OpenSSH_9.2\r\n" * 100)),
    "403 with unknown words": ("state_ids", lies.error(403, "M_FORBIDDEN", "Go away")),
    "403 with unknown words to make_leave": ("make_leave", lies.error(403, "M_FORBIDDEN", "Go away")),
    "404 of a website": ("*", lies.error(404, "M_UNRECOGNIZED", "Unrecognized request")),
    "events that are none": ("event", lies.changed(lambda _answer: {"pdus": [[], 7]})),
    "control characters": (
        "state_ids",
        lies.error(400, "\x1b[2J", "\x1b]0;owned\x07 \u202e{{ lookup('env', 'HOME') }}"),
    ),
}
#: What does not keep the truth from being found out in another way.
HARMLESS = {"403 with unknown words"}


@pytest.mark.parametrize("name", LIES)
def test_lies(make_client: MakeClient, remote: StartServer, signed: Signed, name: str) -> None:
    client = make_client(timeout=SHORT_TIMEOUT if name.startswith("one byte a second") else TIMEOUT)
    liar, honest = remote(Room({ALICE: "join"}, name="a")), remote(Room({ALICE: "join"}, name="b"))
    liar.lie(*LIES[name])
    results = removed_by(client, liar, honest)
    assert (results[honest.server_name].state, results[honest.server_name].removed) == ("confirmed", (ALICE,))
    result = results[liar.server_name]
    if name in HARMLESS:
        assert result.state == "confirmed"
    else:
        assert result.state in ("unconfirmed", "unreachable") and result.reason
        assert result.reason.isprintable() and len(result.reason) <= 300
        assert not liar.leaves
    for event in signed:
        assert (event["type"], event["sender"], event["content"]) == ("m.room.member", ALICE, LEAVE)


def test_extra_content_of_a_template_is_not_taken(
    client: FederationClient, remote: StartServer, signed: Signed
) -> None:
    server = remote(Room({ALICE: "join"}))
    extra: dict[str, Any] = {
        "hashes": {"sha256": "x"},
        "signatures": {"a": {"b": "c"}},
        "origin": "evil.example",
        "unsigned": {"a": 1},
    }
    server.lie("make_leave", lies.template(content={**LEAVE, "reason": "evil", "is_direct": True}, **extra))
    assert removed_by(client, server)[server.server_name].state == "confirmed"
    (event,) = server.leaves
    assert event["content"] == LEAVE
    assert not {"origin", "unsigned"} & set(event) and set(event["signatures"]) == {"gone.example"}


def test_a_server_that_hides_what_it_is_asked_for(client: FederationClient, remote: StartServer) -> None:
    """As Dendrite does, but it is not known to be one: nothing follows from that."""
    server = remote(room := Room({ALICE: "join"}))
    server.lie("state_ids", lies.error(403, "M_FORBIDDEN", "Go away"))
    server.lie("event", lies.error(403, "M_FORBIDDEN", "Go away"))
    result = check(client, Pair(server.server_name, room.room_id), KNOWN)
    assert (result.state, result.ghosts) == ("unconfirmed", {})
    assert not server.leaves


def test_an_endless_room(client: FederationClient, remote: StartServer) -> None:
    server = remote(room := Room({ALICE: "join"}))
    room.say()
    server.lie("state", lies.endless())
    result = check(client, Pair(server.server_name, room.room_id), Known(), state_limit=10 * 1024 * 1024)
    assert (result.state, result.ghosts) == ("unconfirmed", {})


def test_429_for_ever(client: FederationClient, remote: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server = remote(Room({ALICE: "join"}))
    server.lie("*", lies.rate_limited(1))
    result = removed_by(client, server)[server.server_name]
    assert (result.state, result.can_change) == ("unconfirmed", True)
    assert "429" in result.reason
    assert len(server.requests) == 3, "and not for ever"


def test_429_once(client: FederationClient, remote: StartServer) -> None:
    server = remote(Room({ALICE: "join"}))
    server.lie("*", lies.rate_limited(), times=1)
    assert removed_by(client, server)[server.server_name].removed == (ALICE,)


def test_memory_stays_bounded(client: FederationClient, remote: StartServer) -> None:
    """Twenty endless answers at a time need less than one of them would whole."""
    servers = [remote(Room({ALICE: "join"}, name=f"room{number}")) for number in range(20)]
    for server in servers:
        server.lie("state_ids", lies.big(600))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = removed_by(client, *servers)
    assert {result.state for result in results.values()} == {"unconfirmed"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024, "kibibytes"
