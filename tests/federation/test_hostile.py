# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remote servers that answer wrongly, as stubs: bounded in bytes and time, nothing foreign signed, others handled."""

from __future__ import annotations

import resource
import time
from email.utils import formatdate
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import GhostRun
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import Room as Shared
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import (
    KnownAccounts,
    Pair,
    PairResult,
    check,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.client import FederationClient
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import SigningKey
from stubs import faults
from stubs.answers import Answer
from stubs.remote_server import RemoteServer
from stubs.rooms import Room

from .conftest import MakeClient, StartServer

ALICE, BOB = "@alice:gone.example", "@bob:gone.example"
KNOWN = KnownAccounts((ALICE,))
TIMEOUT = 60.0
SHORT_TIMEOUT = 5.0
"""In seconds, for answers that never end: in so much time, a normal server answers on a busy machine, too."""
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


def removed_by(client: FederationClient, *servers: RemoteServer) -> dict[str, PairResult]:
    """What comes of a removal in the one room of each server, by the server's name."""
    results: dict[Pair, PairResult] = {}
    run = GhostRun(client, lambda _result: None, retry_delays=(), results=results)
    run.remove(
        (Shared(room_id, (server.server_name,), KNOWN) for server in servers for room_id in server.rooms),
        lambda *_account: True,
    )
    return {pair.server: result for pair, result in results.items()}


LIES: dict[str, tuple[str, faults.Fault]] = {
    "another type": ("make_leave", faults.template(type="m.room.message")),
    "another room": ("make_leave", faults.template(room_id="!other:rooms.example")),
    "another sender": ("make_leave", faults.template(sender=BOB)),
    "another state key": ("make_leave", faults.template(state_key=BOB)),
    "another membership": ("make_leave", faults.template(content={"membership": "join"})),
    "another version": ("make_leave", faults.template(room_version="99")),
    "a version that is no text": ("make_leave", faults.changed(lambda answer: {**answer, "room_version": ["10"]})),
    "no event": ("make_leave", faults.changed(lambda answer: {**answer, "event": None})),
    "100,000 prev_events": ("make_leave", faults.many_prev_events()),
    "prev_events of another form": ("make_leave", faults.template(prev_events=[{"a": 1}])),
    "no prev_events": ("make_leave", faults.template(prev_events=[])),
    "a huge depth": ("make_leave", faults.template(depth=2**63)),
    "a depth that is no number": ("make_leave", faults.template(depth="1")),
    "a page": ("make_leave", faults.page()),
    "a page to everything": ("*", faults.page()),
    "a list": ("state_ids", faults.changed(lambda _answer: [])),
    "nesting": ("state_ids", faults.instead(Answer(200, b"[" * 200_000))),
    "600 MB": ("state_ids", faults.big(600)),
    "endless": ("make_leave", faults.endless()),
    "a gzip bomb": ("state_ids", faults.gzip_bomb(2000)),
    "one byte a second": ("state_ids", faults.trickled(1.0)),
    "one byte a second, of the headers": ("state_ids", faults.trickled(1.0, headers=True)),
    "a redirect to loopback": ("state_ids", faults.redirect("https://127.0.0.1:1/")),
    "a redirect to another host": ("make_leave", faults.redirect("https://elsewhere.example/")),
    "hanging up": ("state_ids", faults.raw(b"")),
    "no HTTP": ("state_ids", faults.raw(b"SSH-2.0-OpenSSH_9.2\r\n" * 100)),
    "403 with unknown words": ("state_ids", faults.error(403, "M_FORBIDDEN", "Go away")),
    "403 with unknown words to make_leave": ("make_leave", faults.error(403, "M_FORBIDDEN", "Go away")),
    "404 of a website": ("*", faults.error(404, "M_UNRECOGNIZED", "Unrecognized request")),
    "events that are none": ("event", faults.changed(lambda _answer: {"pdus": [[], 7]})),
    "control characters": (
        "state_ids",
        faults.error(400, "\x1b[2J", "\x1b]0;owned\x07 \u202e{{ lookup('env', 'HOME') }}"),
    ),
}
#: What does not keep the truth from being found out in another way.
HARMLESS = {"403 with unknown words"}


@pytest.mark.parametrize("name", LIES)
def test_faults(make_client: MakeClient, remote: StartServer, signed: Signed, name: str) -> None:
    client = make_client(timeout=SHORT_TIMEOUT if name.startswith("one byte a second") else TIMEOUT)
    faulty, normal = remote(Room({ALICE: "join"}, name="a")), remote(Room({ALICE: "join"}, name="b"))
    faulty.inject(*LIES[name])
    results = removed_by(client, faulty, normal)
    assert (results[normal.server_name].state, results[normal.server_name].removed) == ("confirmed", (ALICE,))
    result = results[faulty.server_name]
    if name in HARMLESS:
        assert result.state == "confirmed"
    else:
        assert result.state in ("unconfirmed", "unreachable") and result.reason
        assert result.reason.isprintable() and len(result.reason) <= 300
        assert not faulty.leaves
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
    server.inject("make_leave", faults.template(content={**LEAVE, "reason": "evil", "is_direct": True}, **extra))
    assert removed_by(client, server)[server.server_name].state == "confirmed"
    (event,) = server.leaves
    assert event["content"] == LEAVE
    assert not {"origin", "unsigned"} & set(event) and set(event["signatures"]) == {"gone.example"}


def test_a_server_that_hides_events(client: FederationClient, remote: StartServer) -> None:
    """As Dendrite does, but it is not known to be one: nothing follows from that."""
    server = remote(room := Room({ALICE: "join"}))
    server.inject("state_ids", faults.error(403, "M_FORBIDDEN", "Go away"))
    server.inject("event", faults.error(403, "M_FORBIDDEN", "Go away"))
    result = check(client, Pair(server.server_name, room.room_id), KNOWN)
    assert (result.state, result.ghosts) == ("unconfirmed", {})
    assert not server.leaves


def test_an_endless_room(client: FederationClient, remote: StartServer) -> None:
    server = remote(room := Room({ALICE: "join"}))
    room.say()
    server.inject("state", faults.endless())
    result = check(client, Pair(server.server_name, room.room_id), KnownAccounts(), state_limit=10 * 1024 * 1024)
    assert (result.state, result.ghosts) == ("unconfirmed", {})


def test_429_for_ever(client: FederationClient, remote: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server = remote(Room({ALICE: "join"}))
    server.inject("*", faults.rate_limited(1))
    result = removed_by(client, server)[server.server_name]
    assert (result.state, result.is_transient) == ("unconfirmed", True)
    assert "429" in result.reason
    assert len(server.requests) == 3, "and not for ever"


def test_429_once(client: FederationClient, remote: StartServer) -> None:
    server = remote(Room({ALICE: "join"}))
    server.inject("*", faults.rate_limited(), times=1)
    assert removed_by(client, server)[server.server_name].removed == (ALICE,)


def test_clocks_of_remote_servers(client: FederationClient, remote: StartServer) -> None:
    """A date that is none, or in no calendar, says nothing about a clock."""
    dates = [formatdate(time.time() + 600, usegmt=True), "yesterday", "Fri, 31 Dec 9999 23:59:59 GMT"]
    for date in dates:
        server = remote()
        server.inject("version", faults.instead(Answer.of(200, {}, Date=date)))
        client.get(server.server_name, "/_matrix/federation/v1/version")
    assert client.clock_offsets == [pytest.approx(600, abs=TIMEOUT)]


def test_memory_stays_bounded(client: FederationClient, remote: StartServer) -> None:
    """Twenty endless answers at a time need less than one of them would whole."""
    servers = [remote(Room({ALICE: "join"}, name=f"room{number}")) for number in range(20)]
    for server in servers:
        server.inject("state_ids", faults.big(600))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = removed_by(client, *servers)
    assert {result.state for result in results.values()} == {"unconfirmed"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024, "kibibytes"
