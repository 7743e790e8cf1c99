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
  - Sends up to three requests for each room that remote accounts may be joined to, and one for each of up to 5,000
    accounts that were never seen, which may be accounts of application services.
  - Rests on Synapse's statistics for which rooms only accounts of this server are joined to. The drain reads the
    members of each room.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.progress
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
  announce:
    description:
      - Whether notices are to be sent with M(matrixops.synapse.synapse_announcement). Their number and duration are
        then part of the estimate.
    type: bool
    default: false
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
      description:
        - Number of accounts by class and state. Synapse does not list which accounts are suspended. Accounts of
          application services are found if Synapse does not record when these use them, which is its default
          (C(track_appservice_user_ips)).
      type: dict
      sample: {"operator": {"active": 1}, "user": {"active": 297, "erased": 3}}
    to_deactivate:
      description: Number of accounts that would be deactivated or erased.
      type: int
    staying_active:
      description: User IDs of the accounts that would leave all rooms and stay active; at most 1,000 of them.
      type: list
      elements: str
    rooms:
      description: Number of rooms that local accounts are joined to, C(federated) if remote accounts are joined as
        well, C(local) if not.
      type: dict
      sample: {"federated": 12, "local": 30}
    memberships:
      description: Number of memberships of local accounts in the C(federated) and the C(local) rooms.
      type: dict
      sample: {"federated": 120, "local": 60}
    servers:
      description:
        - Number of remote servers in these rooms (C(total)); those that Synapse cannot reach (C(unreachable)), each
          with the time of the first failure in seconds since 1970; and those that Synapse has never sent anything
          (C(never_contacted)). At most 1,000 of each, with their numbers in C(unreachable_total) and
          C(never_contacted_total).
        - C(sample) names up to five of them, those in most rooms first, to check with
          M(matrixops.synapse.matrix_federation_info).
      type: dict
      sample: {"total": 2, "sample": ["a.example", "b.example"], "unreachable": {"b.example": 1795416000},
        "never_contacted": []}
    impact:
      description: As RV(matrixops.synapse.synapse_rooms_info#module:impact), at most 1,000 rooms of each kind.
      type: dict
    impact_total:
      description: Number of the rooms of each kind.
      type: dict
      sample: {"orphaned": 3}
    aliases:
      description:
        - The aliases of this server, each with the ID of its room; at most 1,000 of them. Without those of rooms that
          only accounts of this server are joined to.
      type: dict
      sample: {"#lounge:example.org": "!abcdefg:example.org"}
    aliases_total:
      description: Number of these aliases.
      type: int
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
    estimate:
      description:
        - Estimated durations in seconds, from the current response time of the server. Each may be half or twice as
          long. V(none) if there are no accounts to deactivate.
      type: dict
      contains:
        announcement:
          description: Of the notices.
          type: float
        drain:
          description: Until all accounts have left the federated rooms, and are deactivated.
          type: float
        background:
          description: Until Synapse has made the accounts leave the local rooms, those with the notices included.
          type: float
    notices:
      description: Number of accounts that get a notice with O(announce). Each notice makes a room.
      type: int
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
            "announce": {"type": "bool", "default": False},
            "concurrency": {"type": "int", "default": 8},
        },
        shows_progress=True,
    )
    eligibility = Eligibility(keep=frozenset(module.params["keep"]))
    options = Options(eligibility=eligibility, erase=module.params["erase"])
    with module.client() as client:
        plan = make_plan(client, options, announce=module.params["announce"])
    module.exit_json(changed=False, plan=plan.as_json(), text=as_text(plan))


if __name__ == "__main__":
    main()
