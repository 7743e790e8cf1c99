#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_rooms_info
short_description: List the rooms of a Synapse homeserver, and who of the server is in them
version_added: 1.0.0
description:
  - Lists the rooms that the server knows of, with the names that Synapse has for their fields.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.info_module
options:
  local_members:
    description:
      - With V(true), return only rooms that accounts of this server are joined to, and which accounts these are. That
        takes one request per such room.
      - This shows also the sender accounts of application services and the account that sends server notices.
    type: bool
    default: false
  findings:
    description:
      - With V(true), look at every room for what decommissioning this server would break, and return RV(findings).
      - That takes one request for each room, and one more for each that an account of this server is joined to. If such
        a room has more than 200 state events, it takes six more instead, and for a space seven. Each federated room
        takes one more.
      - Needs no account of its own in the rooms.
    type: bool
    default: false
  concurrency:
    description:
      - How many of those requests to have under way at the same time.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Is anybody of us still in a room?
  matrixops.synapse.synapse_rooms_info:
    access_token: "{{ synapse_access_token }}"
    local_members: true
  register: rooms
  failed_when: rooms.total > 0

- name: Which rooms will be without an administrator?
  matrixops.synapse.synapse_rooms_info:
    access_token: "{{ synapse_access_token }}"
    findings: true
  register: rooms
  failed_when: rooms.findings.orphaned | length > 0
"""

RETURN = r"""
rooms:
  description:
    - The rooms, with the names that Synapse has for their fields, and what is below.
  returned: success
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
      sample: "!abcdefg:example.org"
    local_members:
      description: The user IDs of those who are joined and of this server, from the current state of the room.
      returned: O(local_members=true), or as RV(rooms[].federated)
      type: list
      elements: str
    aliases:
      description: The aliases of this server that point to the room.
      returned: O(findings=true)
      type: list
      elements: str
      sample: ["#lobby:example.org"]
    federated:
      description: Whether accounts of other servers are joined to the room.
      returned: O(findings=true), for rooms that an account of this server is joined to
      type: bool
    remote_members:
      description: How many these are.
      returned: as RV(rooms[].federated)
      type: int
    remote_servers:
      description: The names of the servers that they are of.
      returned: as RV(rooms[].federated)
      type: list
      elements: str
    administrators:
      description: Who can change the room's power levels.
      returned: as RV(rooms[].federated)
      type: dict
      contains:
        local:
          description: Those of this server who are joined, and have this power by a level of their own or as a creator.
          type: list
          elements: str
        remote:
          description: The same, of other servers.
          type: list
          elements: str
        everybody:
          description: Whether all others have it, too, by the level that is everybody's.
          type: bool
    space_parents:
      description: The IDs of the spaces that the room says it belongs to.
      returned: as RV(rooms[].federated)
      type: list
      elements: str
    space_children:
      description: The IDs of the rooms in it, if it is a space.
      returned: as RV(rooms[].federated)
      type: list
      elements: str
    replacement_room:
      description: The ID of the room that it was upgraded to, or V(none).
      returned: as RV(rooms[].federated)
      type: str
    error:
      description: Why the room could not be read.
      returned: O(findings=true), for such rooms
      type: str
total:
  description: How many rooms there are in RV(rooms).
  returned: success
  type: int
findings:
  description:
    - What decommissioning would break, each with the IDs of the rooms that it is true of.
    - All but RV(findings.aliased), RV(findings.published) and RV(findings.unreadable) are of federated rooms, which
      accounts of this server and of others are joined to. Of the rest, nothing will be left to use.
  returned: O(findings=true)
  type: dict
  contains:
    orphaned:
      description:
        - Only accounts of this server can administer the room. It will be without an administrator for good.
        - M(matrixops.synapse.synapse_room_handover) hands it over.
      type: list
      elements: str
    unadministered:
      description:
        - Nobody who is joined can administer the room, even now.
      type: list
      elements: str
    creators:
      description:
        - The room is of version 12 or above, and an account of this server is a creator of it, in the room or not.
          That power can't be given up, and whoever has the domain name next can have it.
      type: list
      elements: str
    empowered:
      description:
        - The power levels give accounts of this server, in the room or not, more than everybody has. Whoever has the
          domain name next can have it.
        - M(matrixops.synapse.synapse_room_demotion) takes it away.
      type: list
      elements: str
    aliased:
      description:
        - Aliases of this server point to the room, and will lead nowhere.
      type: list
      elements: str
    canonical_alias:
      description:
        - The room names an alias of this server as its canonical alias, or as one of its alternative aliases.
      type: list
      elements: str
    published:
      description:
        - The room is in this server's public room directory.
      type: list
      elements: str
    space_parents:
      description:
        - The room belongs to a space, and names this server as the only one to join that space through.
      type: list
      elements: str
    space_children:
      description:
        - The room is a space, and of one of the rooms in it names this server as the only one to join it through.
      type: list
      elements: str
    upgraded:
      description:
        - The room has been upgraded to a new one, and others are still in the old one.
      type: list
      elements: str
    broken:
      description:
        - The room has no forward extremities, so Synapse cannot create an event in it, and no account of this server
          can leave it. M(matrixops.synapse.matrix_ghosts) removes the accounts on remote servers.
        - A room in which Synapse does not give the number of forward extremities is not in this list.
      type: list
      elements: str
    unreadable:
      description:
        - The room could not be read, or not in full; RV(rooms[].error) says why.
      type: list
      elements: str
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._findings import find
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._rooms import list_rooms, with_local_members


def main() -> None:
    module = SynapseModule(
        {
            "local_members": {"type": "bool", "default": False},
            "findings": {"type": "bool", "default": False},
            "concurrency": {"type": "int", "default": 8},
        }
    )
    only_joined, concurrency = module.params["local_members"], module.params["concurrency"]
    more = {}
    with module.client(connections=concurrency) as client:
        if module.params["findings"]:
            findings = find(client, concurrency)
            rooms = [room for room in findings.rooms if not only_joined or room.get("local_members")]
            more["findings"] = findings.kinds
        elif only_joined:
            rooms = list(with_local_members(client, concurrency))
        else:
            rooms = list(list_rooms(client))
    rooms.sort(key=lambda room: str(room["room_id"]))
    module.exit_json(changed=False, rooms=rooms, total=len(rooms), **more)


if __name__ == "__main__":
    main()
