# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service ghost_cleanup with a real Dendrite as the remote server, judged by what its own accounts see."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab import Lab, MissingError, Settings
from lab.ghost_service import GhostService
from lab.homeserver import DEFAULT_BACKOFF
from lab.waiting import wait_until

from .conftest import ROOT

pytestmark = pytest.mark.nightly(category="dendrite")

BASE_PORT = 19020
STATUS_PORT = BASE_PORT + 9
VERSIONS = ("10", "11")


@pytest.mark.parametrize("first", ["dendrite", "synapse"])
def test_from_one_name(skip_or_fail: Callable[[str], None], first: str) -> None:
    """Dendrite is woken like Synapse, and tells its rooms; or it is found as a member of a room of Synapse."""
    directory = ROOT / ".cache/tests/dendrite_ghost_cleanup"
    try:
        with Lab(
            directory,
            ("a", "b"),
            dendrites=("d",),
            base_port=BASE_PORT,
            settings=Settings(extra_config=DEFAULT_BACKOFF),
        ) as lab:
            clean_up(lab, first)
    except MissingError as missing:
        skip_or_fail(str(missing))


def clean_up(lab: Lab, first: str) -> None:
    a, b, d = lab["a"], lab["b"], lab.dendrites["d"]
    host, guest = d.register("host"), b.register("guest")
    users = [a.register(f"user{number}") for number in range(3)]
    invited = a.register("invited")
    alone = [d.create_room(host.token, preset="public_chat", room_version=version) for version in VERSIONS]
    shared = d.create_room(host.token, preset="public_chat", room_version="10")
    b.join(guest.token, shared, via=d.server_name)
    for room_id in (*alone, shared):
        for user in users:
            a.join(user.token, room_id, via=d.server_name)
    d.invite(host.token, alone[0], invited.user_id)
    b.send(guest.token, shared, "hello")

    def ghosts() -> set[tuple[str, str]]:
        return {
            (room_id, user_id)
            for room_id in (*alone, shared)
            for user_id, membership in d.memberships(room_id).items()
            if user_id.endswith(f":{a.server_name}") and membership in ("join", "invite")
        }

    wait_until(lambda: len(ghosts()) == 3 * len(users) + 1, "Dendrite lists everybody")
    wait_until(lambda: not any(server.undelivered() for server in (a, b)), "all servers have settled")
    a.kill()
    del lab.servers["a"]
    server = d if first == "dendrite" else b
    service = GhostService.after(a, STATUS_PORT, servers=[server.server_name], max_rate=100)
    for room_id in (*alone, shared):
        d.send(host.token, room_id, "Is anybody there?")
    b.send(guest.token, shared, "Is anybody there?")
    with service:
        wait_until(lambda: ghosts() == set(), "Dendrite is clean")
        wait_until(lambda: b.members_of(a.server_name) == {}, "Synapse is clean")
        wait_until(lambda: set(service.status()["pairs"]) == {"confirmed"}, "both have confirmed")
        assert service.status()["servers_total"] == 2
