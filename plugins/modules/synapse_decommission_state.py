#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_decommission_state
short_description: Read or record the milestones of a decommissioning on a Synapse homeserver
version_added: 1.0.0
description:
  - The record has the time of each milestone of a decommissioning, so that a run can be resumed from any controller.
  - It is stored in the account data of the operator, with the type C(io.github.matrixops.decommission). All times are
    by the clock of the homeserver.
  - Each operator has a record of its own. A record for another server name is ignored.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  mark:
    description:
      - Milestones to record with the current time. V(started) is the start of the drain. V(left_federated_rooms) is the
        time when all accounts had left the federated rooms, and the start of the propagation period.
      - A milestone that is recorded already keeps its time, unless it is in O(clear). V(left_federated_rooms) is
        compared with the rooms of the server then, with one request for each. If an account has joined a federated room
        again since, and has left it, the milestone gets the time of the newest event in it.
    type: list
    elements: str
    choices: [started, left_federated_rooms]
    default: []
  clear:
    description:
      - Milestones to remove from the record.
    type: list
    elements: str
    choices: [started, left_federated_rooms]
    default: []
  release_lease:
    description:
      - Whether to release the lease O(lease) at the end, so that the next run does not wait until it has expired. A
        lease of another run stays as it is. This does not count as a change. O(lease) is required then.
    type: bool
    default: false
  clock:
    description:
      - Time of another clock in seconds since 1970, for example V("{{ now(fmt='%s') }}") for the clock of the
        controller. If it differs from the clock of the homeserver by more than 300 seconds, the module fails without
        changes. By default, the clocks are not compared.
    type: int
"""

EXAMPLES = r"""
- name: Read when all accounts had left the federated rooms
  matrixops.synapse.synapse_decommission_state:
    access_token: "{{ synapse_access_token }}"
  register: state

- name: Record that all accounts have left the federated rooms
  matrixops.synapse.synapse_decommission_state:
    access_token: "{{ synapse_access_token }}"
    mark: [left_federated_rooms]

- name: Release the lease at the end of a run
  matrixops.synapse.synapse_decommission_state:
    access_token: "{{ synapse_access_token }}"
    lease: "{{ lease_id }}"
    release_lease: true
"""

RETURN = r"""
milestones:
  description: Time of each recorded milestone, in seconds since 1970.
  returned: success
  type: dict
  sample: {"started": 1795416000, "left_federated_rooms": 1795416420}
now:
  description: Current time by the clock of the homeserver, in seconds since 1970.
  returned: success
  type: int
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import milestones as store
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.period_start import period_start
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import read_record
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.server import check_clock


def main() -> None:
    milestones = {"type": "list", "elements": "str", "choices": list(store.MILESTONES), "default": []}
    module = SynapseModule(
        {
            "mark": milestones,
            "clear": milestones,
            "release_lease": {"type": "bool", "default": False},
            "clock": {"type": "int"},
        },
        required_if=[("release_lease", True, ["lease"])],
    )
    changes = bool(module.params["mark"] or module.params["clear"])
    with module.client(changes=changes, release_lease=module.params["release_lease"]) as client:
        if module.params["clock"] is not None:
            check_clock(client, module.params["clock"])
        before = store.read(client)
        now = int(client.time().timestamp())
        after = store.changed(before, mark=module.params["mark"], clear=module.params["clear"], now=now)
        if store.LEFT in before and store.LEFT in module.params["mark"] and store.LEFT not in module.params["clear"]:
            after[store.LEFT] = period_start(client, before[store.LEFT], read_record(client))
        if after != before and not module.check_mode:
            store.write(client, after)
    module.exit_json(changed=after != before, diff={"before": before, "after": after}, milestones=after, now=now)


if __name__ == "__main__":
    main()
