#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_room_handover
short_description: Give remote accounts the power in rooms that only accounts of a Synapse homeserver administer
version_added: 1.0.0
description:
  - A federated room that only accounts of this server can administer has no administrator once the server is gone. In
    each such room, this module gives administrator power to the accounts in O(to) that are joined to it.
  - The power is given by the joined account of this server with the highest level. No level is lowered, and the other
    power levels of the room are kept.
  - To act as another account, a session is opened through the admin API and ended afterwards. It has no device, and
    expires within an hour if it cannot be ended. A locked account is unlocked for the duration of the session.
  - The message rate limit of the operator is lifted during the run, and restored at the end. If the module is killed,
    the limit stays lifted, and an account may stay unlocked.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.progress
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
attributes:
  check_mode:
    support: full
    details:
      - The prediction does not include requests that the server would refuse.
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - A room that a joined remote account can administer is not changed.
options:
  to:
    description:
      - Remote accounts to give the power to.
    type: list
    elements: dict
    required: true
    suboptions:
      user_id:
        description:
          - User ID of the account.
        type: str
        required: true
      rooms:
        description:
          - IDs of the rooms to hand over to this account. By default, all orphaned rooms that it is joined to.
        type: list
        elements: str
  concurrency:
    description:
      - Maximum number of requests at the same time.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Hand over all rooms to Alice, and two of them to Bob as well
  matrixops.synapse.synapse_room_handover:
    access_token: "{{ synapse_access_token }}"
    to:
      - user_id: "@alice:example.com"
      - user_id: "@bob:example.net"
        rooms:
          - "!abcdefg:example.org"
          - "!hijklmn:example.org"
"""

RETURN = r"""
handed_over:
  description: The rooms that were handed over, or would be in check mode. At most 1,000 are returned.
  returned: when the server name was verified, also on failure
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    by:
      description: User ID of the account of this server that gave the power.
      type: str
    to:
      description: User IDs of the accounts that received it.
      type: list
      elements: str
    level:
      description:
        - Their new power level. It is the level of the account that gave it. In rooms of version 12 and above, a
          creator gives the level that permits every action, and at least 100.
      type: int
handed_over_total:
  description: Number of all of these.
  returned: when the server name was verified, also on failure
  type: int
not_handed_over:
  description:
    - The orphaned rooms without a joined recipient, and the rooms of O(to[].rooms) that are not federated. At most
      1,000 are returned.
  returned: when the server name was verified, also on failure
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    reason:
      description: Why the room was not handed over.
      type: str
      sample: "no recipient is joined to the room: @alice:example.com"
not_handed_over_total:
  description: Number of all of these.
  returned: when the server name was verified, also on failure
  type: int
failures:
  description:
    - The rooms that could not be read or changed. The module fails if there are any. At most 1,000 are returned.
  returned: when the server name was verified, also on failure
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    reason:
      description: The error.
      type: str
failures_total:
  description: Number of all of these.
  returned: when the server name was verified, also on failure
  type: int
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.handover import Recipient, hand_over
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.power_levels import failure_message
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._results import first_of


def main() -> None:
    to = {"user_id": {"type": "str", "required": True}, "rooms": {"type": "list", "elements": "str"}}
    module = SynapseModule(
        {
            "to": {"type": "list", "elements": "dict", "options": to, "required": True},
            "concurrency": {"type": "int", "default": 8},
        },
        shows_progress=True,
    )
    recipients = [Recipient(one["user_id"], one["rooms"]) for one in module.params["to"]]
    with module.client(changes=True) as client:
        handover = hand_over(client, recipients, dry_run=module.check_mode)

    granted = sorted(handover.granted.items())
    result = {
        "changed": bool(granted),
        **first_of(
            handed_over=[{"room_id": r, "by": one.by, "to": one.to, "level": one.level} for r, one in granted],
            not_handed_over=[{"room_id": r, "reason": reason} for r, reason in sorted(handover.not_granted.items())],
            failures=[{"room_id": r, "reason": reason} for r, reason in sorted(handover.failures.items())],
        ),
    }
    result["diff"] = {
        "before": {room_id: one.before for room_id, one in granted},
        "after": {room_id: one.after for room_id, one in granted},
    }
    problem = failure_message("Not all rooms could be handed over.", handover.failures, handover.aborted)
    module.end(result, problem, handover.aborted)


if __name__ == "__main__":
    main()
