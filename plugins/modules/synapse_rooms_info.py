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
      returned: O(local_members=true)
      type: list
      elements: str
total:
  description: How many rooms there are in RV(rooms).
  returned: success
  type: int
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._rooms import list_rooms, with_local_members


def main() -> None:
    module = SynapseModule(
        {"local_members": {"type": "bool", "default": False}, "concurrency": {"type": "int", "default": 8}}
    )
    with module.client(connections=module.params["concurrency"]) as client:
        if module.params["local_members"]:
            rooms = list(with_local_members(client, module.params["concurrency"]))
        else:
            rooms = list(list_rooms(client))
    rooms.sort(key=lambda room: str(room["room_id"]))
    module.exit_json(changed=False, rooms=rooms, total=len(rooms))


if __name__ == "__main__":
    main()
