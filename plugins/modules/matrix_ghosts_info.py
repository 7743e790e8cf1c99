#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: matrix_ghosts_info
short_description: Gather which remote servers still list accounts of a Matrix homeserver
version_added: 1.0.0
description:
  - Asks remote servers, over the federation API, whether they list accounts of a homeserver in rooms. Such an account
    that has left or whose homeserver is gone is called a ghost.
  - Works with Synapse, Dendrite and Conduit as the remote server, and with what descends from them.
  - Only reads. M(matrixops.synapse.matrix_ghosts) removes the ghosts.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.federation
  - matrixops.synapse.federation.ghosts
  - matrixops.synapse.attributes.federation
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.info_module
"""

EXAMPLES = r"""
- name: Ask the servers of one room
  matrixops.synapse.matrix_ghosts_info:
    server_name: old.example
    rooms:
      - room_id: "!lounge:old.example"
        servers:
          - matrix.example
          - chat.example
        accounts:
          - "@alice:old.example"
  become: true

- name: Ask all servers that Synapse knows of
  matrixops.synapse.matrix_ghosts_info:
    server_name: old.example
    base_url: http://localhost:8008
    access_token: "{{ synapse_access_token }}"
    record_path: /var/lib/ghosts.jsonl
  become: true
  register: ghosts
"""

RETURN = r"""
key_id:
  description: The ID of the key that the requests were signed with.
  returned: success
  type: str
  sample: "ed25519:a_abcd"
pairs:
  description: How many pairs of server and room there are.
  returned: success
  type: int
counts:
  description: How many pairs there are by state.
  returned: success
  type: dict
  contains:
    confirmed:
      description: The server answered that no account of ours is joined, invited or knocking.
      type: int
    ghosts:
      description: The server lists accounts of ours.
      type: int
    refused:
      description: The server answers, but does not say or accept anything, for example because of a server ACL.
      type: int
    unreachable:
      description: There was no answer.
      type: int
    unconfirmed:
      description: The answer says nothing about whom the server lists.
      type: int
ghosts:
  description: How many accounts are listed, each counted once for each server and room.
  returned: success
  type: int
requests:
  description: How many requests were sent to remote servers.
  returned: success
  type: int
servers:
  description:
    - The remote servers, those with most pairs that are not confirmed first.
    - No more than 1,000 of them, or 200 kB.
  returned: success
  type: list
  elements: dict
  contains:
    server:
      description: The server name.
      type: str
    rooms:
      description: In how many rooms it was asked about.
      type: int
    confirmed:
      description: In how many rooms it has confirmed.
      type: int
    ghosts:
      description: In how many rooms it lists accounts of ours.
      type: int
    refused:
      description: In how many rooms it refuses.
      type: int
    unreachable:
      description: In how many rooms there was no answer.
      type: int
    unconfirmed:
      description: In how many rooms its answer says nothing.
      type: int
    removed:
      description: How many accounts were removed on it.
      type: int
not_confirmed:
  description:
    - The pairs that are not confirmed.
    - No more than 1,000 of them, or 200 kB. O(record_path) has all.
  returned: success
  type: list
  elements: dict
  contains:
    server:
      description: The server name.
      type: str
    room_id:
      description: The room ID.
      type: str
    state:
      description: The state.
      type: str
    reason:
      description: Why the pair is not confirmed. Quotes the server.
      type: str
    ghosts:
      description: The accounts that are listed, with their membership; no more than 10 of them.
      type: list
      elements: dict
      sample: [{"user_id": "@alice:example.org", "membership": "join"}]
    ghosts_total:
      description: How many accounts are listed.
      type: int
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._ghosts_module import GhostsModule, as_result


def main() -> None:
    module = GhostsModule()
    with module.open() as run:
        run.ghosts.check(run.rooms)
        result = as_result(run)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
