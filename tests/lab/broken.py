# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rooms that are damaged in the database, as they are found on servers in production."""

from __future__ import annotations

from .errors import LabError
from .homeserver import Homeserver

#: By kind of damage, the SQL that does it to the room ``{room}``.
DAMAGE = {
    # Synapse has nothing to attach a new event to.
    "no_extremities": "DELETE FROM event_forward_extremities WHERE room_id = {room};",
    # A room of an experiment that Synapse has ended.
    "withdrawn_version": "UPDATE rooms SET room_version = 'org.example.withdrawn' WHERE room_id = {room};",
    # The newest state has lost its members, the current state still has them (Synapse #18107).
    "lost_state": """
        DELETE FROM state_groups_state WHERE room_id = {room} AND type = 'm.room.member';
    """,
    # The current state has lost our members, the newest state still has them.
    "stale_state": """
        DELETE FROM current_state_events WHERE room_id = {room} AND type = 'm.room.member'
            AND state_key LIKE '%:{server}';
    """,
    # The events themselves can't be read, as after a crash of the disk.
    "unreadable_events": """
        UPDATE event_json SET json = '{{' WHERE room_id = {room};
    """,
    # A join that never got the whole state: the server that it came from is gone.
    "partial_state": """
        INSERT INTO partial_state_rooms (room_id, device_lists_stream_id, joined_via) VALUES ({room}, 0, 'localhost:9');
        INSERT INTO partial_state_rooms_servers (room_id, server_name) VALUES ({room}, 'localhost:9');
        INSERT INTO partial_state_events (room_id, event_id)
            SELECT room_id, event_id FROM event_forward_extremities WHERE room_id = {room};
    """,
}


def break_room(homeserver: Homeserver, room_id: str, kind: str) -> None:
    """Damage a room of a homeserver that is stopped; ``kind`` is a key of ``DAMAGE``."""
    if homeserver.running:
        raise LabError(f"{homeserver.server_name} is running: stop it first")
    room = "'" + room_id.replace("'", "''") + "'"
    homeserver.database.execute(DAMAGE[kind].format(room=room, server=homeserver.server_name))
