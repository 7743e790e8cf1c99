#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_federated_rooms
short_description: Record which remote servers share rooms with the accounts of a Synapse homeserver
version_added: 1.0.0
description:
  - Records the rooms that both remote servers and accounts of the homeserver are joined to, with these servers and
    accounts, for M(matrixops.synapse.synapse_propagation). Run it before the accounts leave.
  - M(matrixops.synapse.synapse_user_deactivate) records the same with its option
    O(matrixops.synapse.synapse_user_deactivate#module:record), and invites and knocks as well.
  - Rooms and accounts are only added to the record, never removed. New accounts in a room invalidate earlier answers of
    remote servers about it.
  - The record is stored on the homeserver, in the account data of the operator, under types that begin with
    C(io.github.matrixops.decommission.rooms). It is compressed, in pieces of less than 500 kB.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.progress
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
attributes:
  check_mode:
    support: full
    details:
      - Rests on Synapse's statistics for the rooms that would be recorded, and counts them in RV(message) only.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  record_avatars:
    description:
      - Whether to record the avatars that accounts of the homeserver have, or ever had in these rooms, so that
        M(matrixops.synapse.synapse_media) never downloads them. Run it before accounts are erased.
      - V(true) sends one request for each 1,000 membership events of a room.
    type: bool
    default: false
  concurrency:
    description:
      - Maximum number of concurrent requests.
    type: int
    default: 8
seealso:
  - module: matrixops.synapse.synapse_media
  - module: matrixops.synapse.synapse_propagation
"""

EXAMPLES = r"""
- name: Record the federated rooms
  matrixops.synapse.synapse_federated_rooms:
    access_token: "{{ synapse_access_token }}"
    server_name: example.org
"""

RETURN = r"""
rooms:
  description: Number of recorded rooms.
  returned: success
  type: int
servers:
  description: Number of remote servers in the recorded rooms.
  returned: success
  type: int
memberships:
  description: Number of recorded memberships of accounts of the homeserver.
  returned: success
  type: int
pending:
  description: Number of recorded invites and knocks.
  returned: success
  type: int
avatars:
  description: Number of recorded avatars.
  returned: O(record_avatars=true)
  type: int
message:
  description: The numbers in one line.
  returned: success
  type: str
unreadable_rooms:
  description:
    - The rooms that Synapse can't read, with the reason of each. At most 1,000. They are not recorded, since the remote
      servers in them are unknown.
  returned: success
  type: list
  elements: dict
  contains:
    room_id:
      description: Room ID.
      type: str
    reason:
      description: Why Synapse can't read the room.
      type: str
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.recorder import Recorder
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.site_media import record_avatars
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._results import with_reasons


def main() -> None:
    module = SynapseModule(
        {"record_avatars": {"type": "bool", "default": False}, "concurrency": {"type": "int", "default": 8}},
        shows_progress=True,
    )
    avatars = {}
    with module.client(changes=True) as client:
        recorder = Recorder(client)
        if module.check_mode:
            recorder.predict()
        else:
            recorder.record_joined()
        changed = recorder.changed
        if module.params["record_avatars"]:
            joined = {room_id: room.joined for room_id, room in recorder.record.rooms.items()}
            is_new, avatars["avatars"] = record_avatars(client, joined, dry_run=module.check_mode)
            changed = changed or is_new
    module.exit_json(
        changed=changed,
        message=recorder.message,
        unreadable_rooms=with_reasons("room_id", recorder.unreadable),
        **recorder.counts,
        **avatars,
    )


if __name__ == "__main__":
    main()
