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
  - Checks over the federation API whether remote servers list accounts of a homeserver in rooms. An account that has
    left, or whose homeserver is gone, is called a ghost there.
  - Supports Synapse, Dendrite, Conduit and the forks of Conduit as remote servers.
  - Only reads. M(matrixops.synapse.matrix_ghosts) removes the ghosts.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.federation
  - matrixops.synapse.federation.remote
  - matrixops.synapse.federation.ghosts
  - matrixops.synapse.progress
  - matrixops.synapse.attributes.federation
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.info_module
"""

EXAMPLES = r"""
- name: Gather the ghosts in one room on two servers
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

- name: Gather the ghosts in all rooms that Synapse knows
  matrixops.synapse.matrix_ghosts_info:
    server_name: old.example
    base_url: http://localhost:8008
    access_token: "{{ synapse_access_token }}"
    record_path: /var/lib/ghosts.jsonl
  become: true
  register: ghosts

- name: Assert that no remote server lists ghosts
  ansible.builtin.assert:
    that: ghosts.ghosts == 0
"""

RETURN = r"""
message:
  description: The result in one line.
  returned: success
  type: str
  sample: 14 of 15 pairs of server and room confirmed; 1 unreachable
sources:
  description: Number of rooms by source, C(rooms), C(rooms_paths), C(homeserver), C(witness) or C(log).
  returned: success
  type: dict
  sample: {"rooms_paths": 12, "witness": 3}
key_id:
  description: ID of the key that signed the requests.
  returned: success
  type: str
  sample: "ed25519:a_abcd"
pairs:
  description: Number of pairs of server and room.
  returned: success
  type: int
counts:
  description: Number of pairs by state.
  returned: success
  type: dict
  contains:
    confirmed:
      description: The server answered that no account is joined, invited or knocking.
      type: int
    ghosts:
      description: The server lists accounts.
      type: int
    refused:
      description: The server denies access, for example by a server ACL.
      type: int
    unreachable:
      description: The server did not answer.
      type: int
    unconfirmed:
      description: The answer does not say whether the server lists accounts.
      type: int
ghosts:
  description: Number of listed accounts, each counted once for each server and room.
  returned: success
  type: int
requests:
  description: Number of requests to remote servers.
  returned: success
  type: int
servers:
  description:
    - The remote servers, those with most pairs that are not confirmed first.
    - At most 1,000, and at most 200 kB.
  returned: success
  type: list
  elements: dict
  contains:
    server:
      description: Server name.
      type: str
    rooms:
      description: Number of rooms to check.
      type: int
    confirmed:
      description: Number of confirmed rooms.
      type: int
    ghosts:
      description: Number of rooms in which the server lists accounts.
      type: int
    refused:
      description: Number of rooms in which the server denies access.
      type: int
    unreachable:
      description: Number of rooms without an answer.
      type: int
    unconfirmed:
      description: Number of rooms in which the answer is not conclusive.
      type: int
    removed:
      description: Number of accounts that were removed on the server.
      type: int
not_confirmed:
  description:
    - The pairs that are not confirmed.
    - At most 1,000, and at most 200 kB. The file O(record_path) has all.
  returned: success
  type: list
  elements: dict
  contains:
    server:
      description: Server name.
      type: str
    room_id:
      description: Room ID.
      type: str
    state:
      description: State, one of the keys of RV(counts).
      type: str
    reason:
      description: Why the pair is not confirmed. Quotes the server.
      type: str
    ghosts:
      description: The listed accounts with their membership. At most 10.
      type: list
      elements: dict
      sample: [{"user_id": "@alice:example.org", "membership": "join"}]
    ghosts_total:
      description: Number of listed accounts.
      type: int
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._federation_module import GhostsModule, as_result


def main() -> None:
    module = GhostsModule()
    with module.open() as run:
        run.ghosts.check(run.rooms)
        result = as_result(run)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
