#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_room_handover
short_description: Hand the rooms that a Synapse homeserver would orphan over to accounts of other servers
version_added: 1.0.0
description:
  - A room that other servers are in, too, and that only accounts of this server can administer, will be without an
    administrator for good once this server is gone. In each such room, this gives the power to do everything to those
    accounts of other servers that are named for it, and are joined to it.
  - The local account that is joined and has the most power gives it. Nobody's power is lowered, and the rest of the
    room's power levels stays as it is.
  - Such an account is logged in to with the admin API, and the session is ended again. It has no device and expires
    within an hour, should it not be possible to end it. If the account is locked, it is unlocked for that long.
  - Meanwhile the message rate limit of the operator is lifted. At the end, what was there before is put back. If the
    module is killed in between, the limit stays lifted, and an account may stay unlocked.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
attributes:
  check_mode:
    support: full
    details:
      - What the server would refuse all the same can't be foreseen.
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - A room that an account of another server can administer is left alone.
options:
  to:
    description:
      - The accounts to hand rooms over to.
    type: list
    elements: dict
    required: true
    suboptions:
      user_id:
        description:
          - The user ID of an account of another server.
        type: str
        required: true
      rooms:
        description:
          - The IDs of the rooms to hand over to this account. By default all that it is joined to.
        type: list
        elements: str
  concurrency:
    description:
      - How many rooms to deal with at the same time.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Hand all rooms over to Alice, and two of them to Bob as well
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
  description: The rooms that were handed over, or in check mode would be.
  returned: when the server could be reached, also on failure
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    by:
      description: The account of this server that gave the power.
      type: str
    to:
      description: The accounts that it was given to.
      type: list
      elements: str
    level:
      description:
        - The power level that they have now. It is that of the account that gave it; but what it takes to do everything
          in the room, and at least 100, if that is a creator of a room of version 12 or above.
      type: int
not_handed_over:
  description: The rooms that there is nobody to hand over to, and those of O(to[].rooms) that can't be meant.
  returned: when the server could be reached, also on failure
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    reason:
      description: Such as that none of those named for the room is joined to it.
      type: str
failures:
  description: The rooms in which something went wrong. The module fails if there are any.
  returned: when the server could be reached, also on failure
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    reason:
      description: What the server said.
      type: str
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._power import Named, hand_over, in_words


def main() -> None:
    to = {"user_id": {"type": "str", "required": True}, "rooms": {"type": "list", "elements": "str"}}
    module = SynapseModule(
        {
            "to": {"type": "list", "elements": "dict", "options": to, "required": True},
            "concurrency": {"type": "int", "default": 8},
        }
    )
    concurrency = module.params["concurrency"]
    named = [Named(one["user_id"], one["rooms"]) for one in module.params["to"]]
    with module.client(connections=concurrency, changes=True) as client:
        handover = hand_over(client, named, concurrency, pretend=module.check_mode)

    given = sorted(handover.given.items())
    result = {
        "changed": bool(given),
        "handed_over": [{"room_id": room_id, "by": one.by, "to": one.to, "level": one.level} for room_id, one in given],
        "not_handed_over": [{"room_id": r, "reason": reason} for r, reason in sorted(handover.not_given.items())],
        "failures": [{"room_id": r, "reason": reason} for r, reason in sorted(handover.failures.items())],
        "diff": {
            "before": {room_id: one.before for room_id, one in given},
            "after": {room_id: one.after for room_id, one in given},
        },
    }
    problem = in_words("Not all rooms could be handed over.", handover.failures, handover.aborted)
    module.end(result, problem, handover.aborted)


if __name__ == "__main__":
    main()
