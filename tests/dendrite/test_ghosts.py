# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks and removals with a real Dendrite as the remote server, judged by what its own accounts see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import pytest
import trustme
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import GhostRun, Room
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import (
    KnownAccounts,
    Pair,
    PairResult,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.connect import Settings, connect
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.pacing import Pacing
from lab import Lab
from lab.api import Account
from lab.waiting import wait_until
from stubs.rooms import ServerKey
from stubs.tls_server import Request, TlsServer, http

pytestmark = pytest.mark.nightly(category="dendrite")

VERSIONS = ("10", "11")
MEMBERS = 5


@dataclass
class Shared:
    """Rooms of both servers: one of each version, and one with an invite only."""

    lab: Lab
    users: list[Account]
    invited: Account
    witness: Account
    joined: list[str] = field(default_factory=list)
    invites: str = ""

    def ghosts(self) -> set[tuple[str, str]]:
        """Room and account of everybody of ours whom Dendrite lists, as its own account there sees it."""
        dendrite = self.lab.dendrites["d"]
        return {
            (room_id, user_id)
            for room_id in (*self.joined, self.invites)
            for user_id, membership in dendrite.memberships(room_id).items()
            if user_id.endswith(f":{self.lab['a'].server_name}") and membership in ("join", "invite")
        }

    def leave(self) -> None:
        """Everybody of ours leaves, and the invite is rejected."""
        synapse = self.lab["a"]
        for room_id in self.joined:
            for user in self.users:
                synapse.leave(user.token, room_id)
        synapse.leave(self.invited.token, self.invites)

    def rooms(self) -> list[Room]:
        """The rooms as they are known to whoever asks."""
        servers = (self.lab.dendrites["d"].server_name,)
        known = KnownAccounts(tuple(user.user_id for user in self.users))
        invites = Room(self.invites, servers, KnownAccounts(pending=(self.invited.user_id,)))
        return [*(Room(room_id, servers, known) for room_id in self.joined), invites]


def share_rooms(lab: Lab, name: str) -> Shared:
    """Make rooms of both servers, with accounts whose names begin so."""
    synapse, dendrite = lab["a"], lab.dendrites["d"]
    users = [synapse.register(f"{name}{number}") for number in range(MEMBERS)]
    made = Shared(lab, users, synapse.register(f"{name}invited"), dendrite.register(f"{name}witness"))
    for version in VERSIONS:
        room_id = dendrite.create_room(made.witness.token, preset="public_chat", room_version=version)
        made.joined.append(room_id)
        for user in users:
            synapse.join(user.token, room_id, via=dendrite.server_name)
    made.invites = dendrite.create_room(made.witness.token, preset="private_chat", room_version="10")
    dendrite.invite(made.witness.token, made.invites, made.invited.user_id)
    everybody = MEMBERS * len(VERSIONS) + 1
    wait_until(lambda: len(made.ghosts()) == everybody, "Dendrite lists everybody")
    return made


@pytest.fixture
def shared(lab: Lab, request: pytest.FixtureRequest) -> Shared:
    return share_rooms(lab, request.node.name.replace("_", "").lower()[-20:])


@contextmanager
def asking(lab: Lab, key_file: str) -> Iterator[GhostRun]:
    settings = Settings(ca_path=str(lab.ca_file), ip_allowlist=("127.0.0.0/8", "::1"), pacing=Pacing(3, 1000.0))
    servers = [lab.dendrites["d"].server_name]
    with connect(lab["a"].server_name, key_file, settings, servers) as connection:
        yield GhostRun(connection.client, lambda _result: None, retry_delays=())


def own_key(lab: Lab) -> str:
    return (lab["a"].directory / "signing.key").read_text()


def removed(results: dict[Pair, PairResult]) -> set[tuple[str, str]]:
    return {(pair.room_id, user_id) for pair, result in results.items() for user_id in result.removed}


def anybody(_user_id: str, _room_id: str) -> bool:
    return True


def test_up_all_the_time(lab: Lab, shared: Shared) -> None:
    """It hears of it by itself, is believed when it says so, and is not sent a single leave."""
    with asking(lab, own_key(lab)) as run:
        run.check(shared.rooms())
        assert {(pair.room_id, user_id) for pair, r in run.results.items() for user_id in r.ghosts} == shared.ghosts()
    shared.leave()
    wait_until(lambda: {room_id for room_id, _user in shared.ghosts()} <= {shared.invites}, "it has heard of it")
    listed = shared.ghosts()
    with asking(lab, own_key(lab)) as run:
        run.remove(shared.rooms(), anybody)
    assert {result.state for result in run.results.values()} == {"confirmed"}
    # Whether a rejected invite is one, it does not say: see docs/explanation/federation.md.
    assert listed <= removed(run.results) <= {(shared.invites, shared.invited.user_id)}
    assert shared.ghosts() == set()


def test_down_while_all_leave(lab: Lab, shared: Shared) -> None:
    synapse, dendrite = lab["a"], lab.dendrites["d"]
    dendrite.kill()
    shared.leave()
    synapse.kill()
    synapse.start()
    dendrite.start()
    with asking(lab, own_key(lab)) as run:
        run.remove(shared.rooms(), anybody)
    assert {result.state for result in run.results.values()} == {"confirmed"}
    assert shared.ghosts() == set()


def test_ours_is_dead_and_its_key_lost(lab: Lab, shared: Shared) -> None:
    """A new key under a new ID is enough, once it is served under our name."""
    synapse = lab["a"]
    synapse.kill()
    listed = shared.ghosts()
    key = ServerKey(synapse.server_name, key_id="ed25519:a_new")

    def answer(request: Request) -> bytes:
        found = request.target == "/_matrix/key/v2/server"
        return http(key.key_answer()) if found else http({"errcode": "M_UNRECOGNIZED", "error": ""}, "404 Not Found")

    private, certificate = ((synapse.directory / f"tls.{kind}").read_bytes() for kind in ("key", "crt"))
    server = TlsServer(trustme.LeafCert(private, certificate, []), answer, "127.0.0.1", synapse.ports[0])
    try:
        with closing(server), asking(lab, key.key_file) as run:
            run.remove(shared.rooms(), anybody)
    finally:
        synapse.start()
    assert {result.state for result in run.results.values()} == {"confirmed"}
    assert removed(run.results) == listed
    assert shared.ghosts() == set()
