# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Synapse sends to other servers: one event after the other, where the order of rooms must not matter.

Right after a start, Synapse sends a destination the newest event of each room that it has not taken. If it gets round
to two events of different rooms at the same moment, the newer may be taken before the older is recorded, and the older
is never sent: it is older than what has been taken. For the last leave of a room there is nothing that would make up
for it. So there must not be a next one before Synapse has got round to this one.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Iterator

from ._client import CLIENT, Client, SynapseError
from ._destinations import Destination, read_destination
from ._rooms import leave, other_servers

PATIENCE = 5.0
"""For how long, in seconds, a server that answers may need to take an event."""
PAUSE = 0.05
LONGEST_PAUSE = 0.5
"""The pauses between two looks at whether it has, in seconds."""
WAKING = 1.0
"""How long Synapse may need, in seconds, to record what it has yet to send."""
TRIES = 5
"""Of how many servers in a room to ask whether they can be reached."""


class Sender:
    """Sees that Synapse has got round to what was done in one room before anything is done in the next.

    It has when one of the servers in the room has taken something: Synapse records an event for all destinations at
    once. Where all that were tried are known to be out of reach, nothing is waited for.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._silent: set[str] = set()
        self._answering: set[str] = set()

    @contextmanager
    def sees_off(self, room_id: str) -> Iterator[None]:
        """What is done in the room, in the context, is on its way to the servers in it when the context ends."""
        witness = self._witness(room_id)
        yield
        if witness is None or self._has_taken(witness):
            return
        # Synapse may have been restarted before it got round to it.
        wake(self._client)
        if not self._has_taken(witness):
            self._silent.add(witness.name)

    def _witness(self, room_id: str) -> Destination | None:
        """A server in the room that can be reached, as far as anybody knows, and what it has taken."""
        try:
            servers = other_servers(self._client, room_id) - self._silent
        except SynapseError as error:
            if error.fatal:
                raise
            return None
        for name in sorted(servers, key=lambda name: (name not in self._answering, name))[:TRIES]:
            destination = read_destination(self._client, name)
            if destination is not None and not destination.failing:
                return destination
            self._silent.add(name)
        return None

    def _has_taken(self, before: Destination) -> bool:
        deadline = time.monotonic() + PATIENCE
        pause = PAUSE
        while True:
            now = read_destination(self._client, before.name)
            if now is not None and now.taken != before.taken:
                self._answering.add(before.name)
                return True
            if time.monotonic() > deadline or (now is not None and now.failing):
                return False
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def wake(client: Client) -> None:
    """Have Synapse get round to what it has yet to send, which after a start it does not before there is a new event.

    This makes events that are for no other server: a room of the operator's own, which is left again.

    API: C(POST /_matrix/client/v3/createRoom) with C(m.federate).

    :raises SynapseError: if the URL leads to another server by now.
    """
    client.confirm()
    try:
        room = client.post(
            f"{CLIENT}/v3/createRoom", json={"preset": "private_chat", "creation_content": {"m.federate": False}}
        )
        leave(client, room.take("room_id", str))
    except SynapseError as error:
        # It is not allowed to everybody.
        if error.fatal:
            raise
    time.sleep(WAKING)
