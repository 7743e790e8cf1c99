#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_room_demotion
short_description: Make the accounts of a Synapse homeserver give up their power in rooms that others are in
version_added: 1.0.0
description:
  - Whoever has the domain name of this server next can have the power that its accounts have in rooms of other
    servers. In each room that accounts of this server and of others are joined to, this takes all accounts of this
    server out of those who have a power level of their own, if it is higher than everybody's. They may be in the room
    or not. Levels of accounts of other servers stay as they are.
  - An account can lower itself, and others that have less than itself. So each of those that have the most lowers
    itself, and the first of them takes all that have less along.
  - In rooms of version 12 and above, the power of creators can't be given up.
  - A room that only accounts of this server can administer has no administrator after that. Hand it over before, with
    M(matrixops.synapse.synapse_room_handover). The same goes for everything else that takes power in a room.
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
options:
  concurrency:
    description:
      - How many rooms to deal with at the same time.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Nobody inherits the power of our accounts
  matrixops.synapse.synapse_room_demotion:
    access_token: "{{ synapse_access_token }}"
"""

RETURN = r"""
demoted:
  description: The rooms in which power was given up, or in check mode would be.
  returned: when the server could be reached, also on failure
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    user_ids:
      description: The accounts that have no more power there than everybody.
      type: list
      elements: str
remaining:
  description: What power is left to accounts of this server.
  returned: when the server could be reached, also on failure
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    user_id:
      description: The account. With V(none), it is everybody's power, that of accounts of this server included.
      type: str
    reason:
      description:
        - Such as that the account is a creator of the room, or is not joined to it and has a level that nobody is
          above. An administrator of another server can take the latter away.
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
from ansible_collections.matrixops.synapse.plugins.module_utils._power import demote, in_words


def main() -> None:
    module = SynapseModule({"concurrency": {"type": "int", "default": 8}})
    concurrency = module.params["concurrency"]
    with module.client(connections=concurrency, changes=True) as client:
        demotion = demote(client, concurrency, pretend=module.check_mode)

    demoted = sorted(demotion.demoted.items())
    result = {
        "changed": bool(demoted),
        "demoted": [{"room_id": room_id, "user_ids": one.user_ids} for room_id, one in demoted],
        "remaining": [one._asdict() for one in demotion.remaining],
        "failures": [{"room_id": r, "reason": reason} for r, reason in sorted(demotion.failures.items())],
        "diff": {
            "before": {room_id: one.before for room_id, one in demoted},
            "after": {room_id: one.after for room_id, one in demoted},
        },
    }
    module.end(
        result, in_words("Not all power could be given up.", demotion.failures, demotion.aborted), demotion.aborted
    )


if __name__ == "__main__":
    main()
