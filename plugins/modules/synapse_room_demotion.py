#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_room_demotion
short_description: Remove the power of the accounts of a Synapse homeserver in federated rooms
version_added: 1.0.0
description:
  - The next owner of the domain of this server can use the power that its accounts have in federated rooms. In each of
    these rooms, this module removes all power levels of accounts of this server that are above the default level. The
    accounts may be joined or not. Levels of remote accounts are kept.
  - An account can demote itself and accounts with a lower level. So each account with the highest level demotes itself,
    and the first of them demotes all accounts below.
  - In rooms of version 12 and above, the power of creators cannot be given up.
  - A room that only accounts of this server can administer has no administrator afterwards. Hand it over before, with
    M(matrixops.synapse.synapse_room_handover), and make all other changes that require power in the rooms.
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
options:
  concurrency:
    description:
      - Maximum number of requests at the same time.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Remove the power of the accounts of this server
  matrixops.synapse.synapse_room_demotion:
    access_token: "{{ synapse_access_token }}"
  register: demotion

- name: Show the power that remains
  ansible.builtin.debug:
    var: demotion.remaining
"""

RETURN = r"""
demoted:
  description: The rooms in which accounts were demoted, or would be in check mode. At most 1,000 are returned.
  returned: when the server name was verified, also on failure
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    user_ids:
      description: User IDs of the demoted accounts.
      type: list
      elements: str
demoted_total:
  description: Number of all of these.
  returned: when the server name was verified, also on failure
  type: int
remaining:
  description: The power that accounts of this server keep. At most 1,000 are returned.
  returned: when the server name was verified, also on failure
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    user_id:
      description: User ID of the account, or V(none) if all accounts have this power.
      type: str
    reason:
      description:
        - Why the account keeps it. For example, it is a creator of the room, or it is not joined and no account of this
          server has a higher level. A remote administrator can remove the latter.
      type: str
remaining_total:
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

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.demotion import demote
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.power_levels import failure_message
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._results import first_of


def main() -> None:
    module = SynapseModule(
        {"concurrency": {"type": "int", "default": 8}},
        shows_progress=True,
    )
    with module.client(changes=True) as client:
        demotion = demote(client, dry_run=module.check_mode)

    demoted = sorted(demotion.demoted.items())
    result = {
        "changed": bool(demoted),
        **first_of(
            demoted=[{"room_id": room_id, "user_ids": one.user_ids} for room_id, one in demoted],
            remaining=[one._asdict() for one in demotion.remaining],
            failures=[{"room_id": r, "reason": reason} for r, reason in sorted(demotion.failures.items())],
        ),
    }
    result["diff"] = {
        "before": {room_id: one.before for room_id, one in demoted},
        "after": {room_id: one.after for room_id, one in demoted},
    }
    problem = failure_message("Not all accounts could be demoted.", demotion.failures, demotion.aborted)
    module.end(result, problem, demotion.aborted)


if __name__ == "__main__":
    main()
