#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_decommission_plan
short_description: Gather what decommissioning a Synapse homeserver would do, and what it would break
version_added: 1.0.0
description:
  - Gathers which accounts and rooms there are on a homeserver, which accounts would be deactivated, which rooms would
    be orphaned, which remote servers are in these rooms, and about how long the drain would take. Changes nothing.
  - Fails if what the server says does not fit together, so that nobody could tell in the end whether everybody has
    left.
  - This takes one request for each active account, and some for each room.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.info_module
options:
  keep:
    description:
      - User IDs of accounts that are not deactivated.
    type: list
    elements: str
    default: []
  erase:
    description:
      - Whether accounts are erased, too. Accounts that are deactivated, but not erased, then count as well.
    type: bool
    default: true
  concurrency:
    description:
      - Maximum number of requests at the same time.
    type: int
    default: 8
seealso:
  - module: matrixops.synapse.synapse_server_info
  - module: matrixops.synapse.synapse_rooms_info
  - module: matrixops.synapse.matrix_federation_info
"""

EXAMPLES = r"""
- name: Gather the plan
  matrixops.synapse.synapse_decommission_plan:
    access_token: "{{ synapse_access_token }}"
  register: plan
"""

RETURN = r"""
plan:
  description: The plan.
  returned: success
  type: dict
  contains:
    server:
      description: What M(matrixops.synapse.synapse_server_info) returns.
      type: dict
    erase:
      description: As in O(erase).
      type: bool
    accounts:
      description: How many accounts there are of each class, and among them in each state.
      type: dict
      sample: {"operator": {"active": 1}, "user": {"active": 297, "erased": 3}}
    to_deactivate:
      description: How many accounts would be deactivated, or erased.
      type: int
    staying:
      description: User IDs of the accounts that would leave their rooms, and stay active.
      type: list
      elements: str
    rooms:
      description: How many rooms accounts of this server are joined to, by whether accounts of remote servers are
        joined, too (C(federated)), or not (C(local)).
      type: dict
      sample: {"federated": 12, "local": 30}
    memberships:
      description: How many memberships of this server's accounts there are to end, by Synapse's statistics.
      type: int
    servers:
      description:
        - How many remote servers are in these rooms (C(total)), which of them Synapse could not reach of late
          (C(unreachable)), with the time since when, in seconds since 1970, and which it has never sent anything
          (C(never_contacted)).
        - C(sample) names up to five of them, for M(matrixops.synapse.matrix_federation_info). Those in most rooms come
          first.
      type: dict
    findings:
      description: What RV(matrixops.synapse.synapse_rooms_info#module:findings) has.
      type: dict
    aliases:
      description: The aliases of this server, with the room ID that each points to.
      type: dict
    seconds:
      description:
        - How many seconds the drain may take, estimated from how fast the server has answered just now. It may be half
          or twice as long. None if there is nobody to deactivate.
      type: float
    warnings:
      description: What to know before, and what to do about it.
      type: list
      elements: dict
      contains:
        about:
          description: What kind of warning it is.
          type: str
          sample: orphaned
        message:
          description: What the matter is.
          type: str
        advice:
          description: What to do.
          type: str
text:
  description: The same for a person to read, line by line.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._drain import Options
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._plan import as_text, make_plan


def main() -> None:
    module = SynapseModule(
        {
            "keep": {"type": "list", "elements": "str", "default": []},
            "erase": {"type": "bool", "default": True},
            "concurrency": {"type": "int", "default": 8},
        }
    )
    options = Options(erase=module.params["erase"], concurrency=module.params["concurrency"])
    with module.client(connections=options.concurrency) as client:
        plan = make_plan(client, module.params["keep"], options)
    module.exit_json(changed=False, plan=plan.as_json(), text=as_text(plan))


if __name__ == "__main__":
    main()
