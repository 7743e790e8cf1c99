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
  - Lists the rooms that remote servers and accounts of the homeserver are in, with these servers and accounts, and
    keeps the list on the homeserver, for M(matrixops.synapse.synapse_propagation). Run it before the accounts leave.
  - Invites and knocks are recorded by M(matrixops.synapse.synapse_user_deactivate) and
    M(matrixops.synapse.synapse_admin_leave_rooms), with their option O(ignore:record_pending).
  - Rooms and accounts are only ever added to the list. Where there are new ones, what remote servers said of the room
    before does not count any more.
  - The list is in the account data of the operator, under types that begin with
    C(io.github.matrixops.decommission.rooms), compressed and in pieces of less than 500 kB.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  concurrency:
    description:
      - Maximum number of concurrent requests.
    type: int
    default: 8
seealso:
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
  description: How many federated rooms are recorded.
  returned: success
  type: int
servers:
  description: How many remote servers are in them.
  returned: success
  type: int
memberships:
  description: How many memberships of accounts of this server are recorded in them.
  returned: success
  type: int
pending:
  description: How many invites and knocks are recorded.
  returned: success
  type: int
message:
  description: The same in one line.
  returned: success
  type: str
unreadable_rooms:
  description:
    - The rooms that Synapse can't read, with the reason of each; no more than 1,000. They are not recorded, since
      nobody can tell which servers are in them.
  returned: success
  type: list
  elements: dict
  contains:
    room_id:
      description: Room ID.
      type: str
    reason:
      description: Why.
      type: str
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.federated_rooms import (
    list_federated_rooms,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import (
    Record,
    read_record,
    write_record,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._rooms import with_reasons


def counts(record: Record) -> dict[str, int]:
    rooms = record.rooms.values()
    return {
        "rooms": len(record.rooms),
        "servers": len({server for room in rooms for server in room.servers}),
        "memberships": sum(len(room.joined) for room in rooms),
        "pending": sum(len(room.pending) for room in rooms),
    }


def main() -> None:
    module = SynapseModule({"concurrency": {"type": "int", "default": 8}})
    concurrency = module.params["concurrency"]
    with module.client(connections=concurrency, changes=True) as client:
        record = read_record(client)
        rooms, unreadable = list_federated_rooms(client, concurrency)
        changed = record.add(rooms)
        if changed and not module.check_mode:
            write_record(client, record)
    found = counts(record)
    module.exit_json(
        changed=changed,
        message=f"{found['rooms']:,} federated rooms with {found['servers']:,} remote servers,"
        f" {found['memberships']:,} memberships, {found['pending']:,} invites and knocks",
        unreadable_rooms=with_reasons("room_id", unreadable),
        **found,
    )


if __name__ == "__main__":
    main()
