#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_rooms_info
short_description: Gather the rooms of a Synapse homeserver
version_added: 1.0.0
description:
  - Gathers the rooms that the server knows, with the fields of Synapse's room list.
  - Optionally gathers the local members of each room, and the impact of a decommissioning on it.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.progress
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
  - matrixops.synapse.attributes.info_module
options:
  local_members:
    description:
      - Whether to return only rooms that accounts of this server are joined to, with RV(rooms[].local_members).
      - V(true) sends one request for each such room. The members include the sender accounts of application services
        and the account that sends server notices, which no listing of accounts contains.
    type: bool
    default: false
  impact:
    description:
      - Whether to read the state of all rooms, and return RV(impact).
      - V(true) sends one request for each room, another for each room with a joined local account, and another for each
        federated room. A room with more than 200 state events takes six requests for its state instead of one, a space
        seven.
      - No request is sent for rooms that, by Synapse's statistics, only accounts of this server are joined to. Their
        aliases and members are not returned.
      - The operator does not have to be joined to the rooms.
      - Mutually exclusive with O(local_members).
    type: bool
    default: false
  total_only:
    description:
      - Whether to return only the number of rooms that accounts of this server are joined to, by Synapse's statistics.
      - V(true) takes about 20 requests, however many rooms there are. O(local_members) and O(impact) are ignored.
    type: bool
    default: false
  concurrency:
    description:
      - Maximum number of requests at the same time.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Assert that no local account is joined to a room
  matrixops.synapse.synapse_rooms_info:
    access_token: "{{ synapse_access_token }}"
    local_members: true
  register: rooms
  failed_when: rooms is failed or rooms.total > 0

- name: Gather the impact on rooms
  matrixops.synapse.synapse_rooms_info:
    access_token: "{{ synapse_access_token }}"
    impact: true
  register: rooms

- name: Show the rooms that would have no administrator
  ansible.builtin.debug:
    var: rooms.impact.orphaned
"""

RETURN = r"""
rooms:
  description:
    - The rooms, with the fields of Synapse's room list, and the following ones.
  returned: success
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
      sample: "!abcdefg:example.org"
    local_members:
      description: User IDs of the accounts of this server that are joined, from the current state of the room.
      returned: O(local_members=true), or as RV(rooms[].remote_members)
      type: list
      elements: str
    aliases:
      description: The aliases of this server that point to the room.
      returned: O(impact=true), for rooms that remote accounts may be joined to
      type: list
      elements: str
      sample: ["#lobby:example.org"]
    federated:
      description: Whether remote accounts are joined to the room.
      returned: O(impact=true), for rooms that an account of this server is joined to
      type: bool
    remote_members:
      description: Number of remote accounts that are joined.
      returned: O(impact=true), for rooms that accounts of this server and others may be joined to
      type: int
    remote_servers:
      description: Names of the servers of these accounts.
      returned: as RV(rooms[].remote_members)
      type: list
      elements: str
    administrators:
      description: The accounts that can change the power levels of the room.
      returned: as RV(rooms[].remote_members)
      type: dict
      contains:
        local:
          description: Joined accounts of this server that have this power by a level of their own, or as a creator.
          type: list
          elements: str
        remote:
          description: The same for remote accounts.
          type: list
          elements: str
        all_accounts:
          description: Whether all accounts have this power, by the default level (C(users_default)).
          type: bool
    space_parents:
      description: IDs of the spaces that the room names as its parents.
      returned: as RV(rooms[].remote_members)
      type: list
      elements: str
    space_children:
      description: IDs of the rooms in the space, if the room is one.
      returned: as RV(rooms[].remote_members)
      type: list
      elements: str
    replacement_room:
      description: ID of the room that it was upgraded to, or V(none).
      returned: as RV(rooms[].remote_members)
      type: str
    error:
      description: The error, if the room could not be read.
      returned: O(impact=true), for rooms that could not be read
      type: str
total:
  description: Number of rooms in RV(rooms). With O(total_only), RV(rooms) is empty.
  returned: success
  type: int
impact:
  description:
    - The impact of a decommissioning, as the IDs of the rooms of each kind.
    - All kinds but RV(impact.aliased), RV(impact.published) and RV(impact.unreadable) contain federated rooms only.
      Other rooms cease to exist with the server.
  returned: O(impact=true)
  type: dict
  contains:
    orphaned:
      description:
        - Only accounts of this server can administer the room, so it will have no administrator.
        - M(matrixops.synapse.synapse_room_handover) gives the power to remote accounts.
      type: list
      elements: str
    unadministered:
      description:
        - No joined account can administer the room, even before the decommissioning.
      type: list
      elements: str
    creators:
      description:
        - The room is of version 12 or above, and an account of this server is a creator of it, joined or not. This
          power cannot be given up, and the next owner of the domain can use it.
      type: list
      elements: str
    empowered:
      description:
        - The room gives an account of this server, joined or not, a level above the default. The next owner of the
          domain can use it.
        - M(matrixops.synapse.synapse_room_demotion) removes it.
      type: list
      elements: str
    aliased:
      description:
        - Aliases of this server point to the room, and stop resolving. Rooms that, by Synapse's statistics, only
          accounts of this server are joined to are not read.
      type: list
      elements: str
    canonical_alias:
      description:
        - The canonical alias of the room, or an alternative alias, is an alias of this server.
      type: list
      elements: str
    published:
      description:
        - The room is in the public room directory of this server.
      type: list
      elements: str
    space_parents:
      description:
        - The room belongs to a space, and names this server as the only one through which to join the space.
      type: list
      elements: str
    space_children:
      description:
        - The room is a space, and names this server as the only one through which to join one of its rooms.
      type: list
      elements: str
    upgraded:
      description:
        - The room was upgraded to a new one, and remote accounts are still joined to the old one.
      type: list
      elements: str
    broken:
      description:
        - The room has no forward extremities, so Synapse cannot create an event in it, and no account of this server
          can leave it. M(matrixops.synapse.matrix_ghosts) removes the ghosts on remote servers.
        - A room is not in this list if Synapse does not report the number of its forward extremities.
      type: list
      elements: str
    unreadable:
      description:
        - The room could not be read completely. RV(rooms[].error) has the reason.
      type: list
      elements: str
"""

from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.room_impact import (
    ids_by_kind,
    read_impact,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.rooms import (
    count_occupied_rooms,
    list_rooms,
    with_local_members,
)


def main() -> None:
    module = SynapseModule(
        {
            "local_members": {"type": "bool", "default": False},
            "impact": {"type": "bool", "default": False},
            "total_only": {"type": "bool", "default": False},
            "concurrency": {"type": "int", "default": 8},
        },
        shows_progress=True,
    )
    if module.params["local_members"] and module.params["impact"]:
        module.fail_json(msg="No changes made: set either local_members or impact")
    rooms: list[dict[str, Any]]
    more: dict[str, Any] = {}
    with module.client() as client:
        if module.params["total_only"]:
            rooms, more["total"] = [], count_occupied_rooms(client)
        elif module.params["impact"]:
            found = list(read_impact(client))
            rooms = [room for room, _kinds in found]
            more["impact"] = ids_by_kind(found)
        elif module.params["local_members"]:
            rooms = list(with_local_members(client))
        else:
            rooms = list(list_rooms(client))
    rooms.sort(key=lambda room: str(room["room_id"]))
    module.exit_json(changed=False, rooms=rooms, **{"total": len(rooms), **more})


if __name__ == "__main__":
    main()
