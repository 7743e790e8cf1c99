#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_decommission_state
short_description: Read or write the milestones of a decommissioning, kept on the Synapse homeserver itself
version_added: 1.0.0
description:
  - The record says when each milestone of a decommissioning was reached, so that a run can be resumed where
    another stopped, from any controller.
  - It is in the account data of the operator, under the type C(io.github.matrixops.decommission). All times are by the
    homeserver's clock, so that no controller's clock counts.
  - There is no record for another operator. A record for a server of another name is not looked at.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
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
      - Milestones that have been reached now. V(started) is the begin of the drain, V(left_federated_rooms) the time
        when all accounts had left the rooms that remote servers are in, from which the propagation period runs.
      - One that is recorded already keeps its time, unless it is in O(clear).
    type: list
    elements: str
    choices: [started, left_federated_rooms]
    default: []
  clear:
    description:
      - Milestones to strike out.
    type: list
    elements: str
    choices: [started, left_federated_rooms]
    default: []
  clock:
    description:
      - The time in seconds since 1970, by another clock than the homeserver's, such as V("{{ now(fmt='%s') }}") for the
        controller's. If the two differ by more than five minutes, nothing is done.
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
"""

RETURN = r"""
milestones:
  description: When each milestone was reached, in seconds since 1970. Those that have not been reached are left out.
  returned: success
  type: dict
  sample: {"started": 1795416000, "left_federated_rooms": 1795416420}
now:
  description: The time by the homeserver's clock, in seconds since 1970.
  returned: success
  type: int
"""

from ansible_collections.matrixops.synapse.plugins.module_utils import _state
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._server import check_clock


def main() -> None:
    milestones = {"type": "list", "elements": "str", "choices": list(_state.MILESTONES), "default": []}
    module = SynapseModule({"mark": milestones, "clear": milestones, "clock": {"type": "int"}})
    with module.client(changes=bool(module.params["mark"] or module.params["clear"])) as client:
        if module.params["clock"] is not None:
            check_clock(client, module.params["clock"])
        before = _state.read(client)
        now = int(client.time().timestamp())
        after = _state.changed(before, mark=module.params["mark"], clear=module.params["clear"], now=now)
        if after != before and not module.check_mode:
            _state.write(client, after)
    module.exit_json(changed=after != before, diff={"before": before, "after": after}, milestones=after, now=now)


if __name__ == "__main__":
    main()
