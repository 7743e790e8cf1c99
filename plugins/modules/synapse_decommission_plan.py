#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_decommission_plan
short_description: Gather a plan of the decommissioning of a Synapse homeserver
version_added: 1.0.0
description:
  - Gathers the accounts and rooms of a homeserver, and the remote servers in these rooms.
  - Predicts which accounts would be deactivated, the impact on rooms, and the duration of the drain. Changes nothing.
  - Fails if Synapse does not list all rooms that accounts are joined to, since it could not be verified later that all
    accounts have left.
  - Sends one request for each active account, and several for each room.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
  - matrixops.synapse.attributes.info_module
options:
  keep:
    description:
      - User IDs of accounts to keep active.
    type: list
    elements: str
    default: []
  erase:
    description:
      - Whether accounts are also erased. Accounts that are deactivated, but not erased, are then counted in
        RV(plan.to_deactivate) as well.
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
    keep:
      - "@postmaster:example.org"
  register: decommission

- name: Show the plan
  ansible.builtin.debug:
    msg: "{{ decommission.text }}"

- name: Refuse to continue if a room would have no administrator
  ansible.builtin.assert:
    that: decommission.plan.impact.orphaned | length == 0
"""

RETURN = r"""
plan:
  description: The plan.
  returned: success
  type: dict
  contains:
    server:
      description: The return values of M(matrixops.synapse.synapse_server_info).
      type: dict
    erase:
      description: The value of O(erase).
      type: bool
    accounts:
      description: Number of accounts by class and state.
      type: dict
      sample: {"operator": {"active": 1}, "user": {"active": 297, "erased": 3}}
    to_deactivate:
      description: Number of accounts that would be deactivated or erased.
      type: int
    staying_active:
      description: User IDs of the accounts that would leave all rooms and stay active.
      type: list
      elements: str
    rooms:
      description: Number of rooms that local accounts are joined to, C(federated) if remote accounts are joined as
        well, C(local) if not.
      type: dict
      sample: {"federated": 12, "local": 30}
    memberships:
      description: Number of memberships of local accounts in these rooms.
      type: int
    servers:
      description:
        - Number of remote servers in these rooms (C(total)); those that Synapse cannot reach (C(unreachable)), each
          with the time of the first failure in seconds since 1970; and those that Synapse has never sent anything
          (C(never_contacted)).
        - C(sample) names up to five of them, those in most rooms first, to check with
          M(matrixops.synapse.matrix_federation_info).
      type: dict
      sample: {"total": 2, "sample": ["a.example", "b.example"], "unreachable": {"b.example": 1795416000},
        "never_contacted": []}
    impact:
      description: As RV(matrixops.synapse.synapse_rooms_info#module:impact).
      type: dict
    aliases:
      description: The aliases of this server, each with the ID of its room.
      type: dict
      sample: {"#lounge:example.org": "!abcdefg:example.org"}
    site:
      description: What remote servers need the name of this server for, after its power-off. A static site has it.
      type: dict
      contains:
        rooms_created:
          description: Number of federated rooms that were created on this server. To join one, its keys are needed.
          type: int
        aliases:
          description: Number of aliases of federated rooms.
          type: int
        media_files:
          description: Number of all local media, also of rooms that no remote server is in.
          type: int
        media_bytes:
          description: Size of these in bytes.
          type: int
    estimated_seconds:
      description:
        - Estimated duration of the drain in seconds, from the current response time of the server. The actual duration
          may be half or twice as long. V(none) if there are no accounts to deactivate.
      type: float
    warnings:
      description: The consequences to know before the run.
      type: list
      elements: dict
      contains:
        topic:
          description:
            - V(cordon), V(version), V(delegated_auth), V(unreachable), or a key of RV(plan.impact).
          type: str
          sample: orphaned
        message:
          description: The consequence, with the names of up to five rooms or servers.
          type: str
          sample: "Rooms that only accounts of this server can administer, and that will have no administrator: Lounge
            (#lounge:example.org)"
        advice:
          description: What to do, with the name of the role variable.
          type: str
          sample: "Set decommission_handover: true and decommission_handover_to"
text:
  description: The plan as at most 26 lines for a terminal.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.drain_run import Options
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.eligibility import Eligibility
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.plan import as_text, make_plan
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule


def main() -> None:
    module = SynapseModule(
        {
            "keep": {"type": "list", "elements": "str", "default": []},
            "erase": {"type": "bool", "default": True},
            "concurrency": {"type": "int", "default": 8},
        }
    )
    eligibility = Eligibility(keep=frozenset(module.params["keep"]))
    options = Options(eligibility=eligibility, erase=module.params["erase"])
    with module.client() as client:
        plan = make_plan(client, options)
    module.exit_json(changed=False, plan=plan.as_json(), text=as_text(plan))


if __name__ == "__main__":
    main()
