#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_decommission_gate
short_description: Decide whether a drained Synapse homeserver may be powered off
version_added: 1.0.0
description:
  - Reads all values at this moment, and decides by them alone. No record of an earlier run replaces a read, except that
    the propagation period starts when all accounts had left the federated rooms.
  - Demands that no account is active except the operator, admins and those in O(keep); that all others are erased, with
    O(erase=true); that no account is joined to a room, except rooms in O(broken_rooms); that propagation has finished;
    and that no remote server lists an account when it is checked again, as
    M(matrixops.synapse.synapse_propagation) does with O(matrixops.synapse.synapse_propagation#module:recheck=true).
  - Also demands that no federation sender of Synapse, and not its background worker, seems to be down
    (RV(matrixops.synapse.synapse_propagation#module:not_sent_to),
    RV(matrixops.synapse.synapse_propagation#module:stale_rooms)).
  - In a task, the result is also kept for P(matrixops.synapse.gate#lookup), which fails without it. The role powers a
    host off only with that. M(matrixops.synapse.power_off) alone does not demand it.
  - Variables that begin with C(_decommission_) are refused on the command line, since the role takes values from them.
author:
  - matrixops (@matrixops)
requirements:
  - signedjson
  - dnspython
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.propagation
  - matrixops.synapse.progress
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
attributes:
  check_mode:
    support: full
    details:
      - Removes no ghosts, and the power-off refuses.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  keep:
    description:
      - User IDs of accounts that stay active.
    type: list
    elements: str
    default: []
  erase:
    description:
      - Whether deactivated accounts must be erased.
    type: bool
    default: true
  require_confirmation:
    description:
      - Whether every remote server that answers must have confirmed.
    type: bool
    default: false
  wait:
    description:
      - Whether the task fails if the propagation period is not over yet, and all else is as it must be. With V(false),
        RV(open) is false then, and the run can be repeated later.
    type: bool
    default: true
seealso:
  - module: matrixops.synapse.synapse_propagation
  - module: matrixops.synapse.power_off
"""

EXAMPLES = r"""
- name: Decide whether the server may be powered off
  matrixops.synapse.synapse_decommission_gate:
    access_token: "{{ synapse_access_token }}"
    server_name: example.org
    period: 604800
    keep:
      - "@archive:example.org"
  become: true
  register: gate
"""

RETURN = r"""
open:
  description: Whether the host may be powered off.
  returned: when all values could be read
  type: bool
problems:
  description: Why it may not, each with what to do.
  returned: when all values could be read
  type: list
  elements: str
accounts:
  description: The accounts, and those that keep the gate closed.
  returned: when all values could be read
  type: dict
  contains:
    total:
      description: Number of accounts of the server.
      type: int
    rooms:
      description: Number of rooms with local members.
      type: int
    active:
      description: User IDs of accounts that are active, but should be deactivated; at most 1,000 of them.
      type: list
      elements: str
    active_total:
      description: Number of these accounts.
      type: int
    not_erased:
      description: User IDs of accounts that are deactivated, but should be erased; at most 1,000 of them.
      type: list
      elements: str
    not_erased_total:
      description: Number of these accounts.
      type: int
    joined:
      description: User IDs of accounts that are joined to rooms; at most 1,000 of them.
      type: list
      elements: str
    joined_total:
      description: Number of these accounts.
      type: int
    unlisted:
      description: Those of RV(accounts.joined) that are in no listing of accounts; at most 1,000 of them.
      type: list
      elements: str
    unlisted_total:
      description: Number of these accounts.
      type: int
not_confirmed:
  description:
    - The rooms with remote servers that have not confirmed, in the form of
      O(matrixops.synapse.matrix_ghosts#module:rooms), to remove ghosts later. Up to 8 MB.
  returned: when all values could be read
  type: list
  elements: dict
not_confirmed_total:
  description: Number of these rooms.
  returned: when all values could be read
  type: int
message:
  description: The result of the check of the remote servers in one line. All other results of
    M(matrixops.synapse.synapse_propagation) are returned as well.
  returned: when all values could be read
  type: str
removed:
  description: Number of ghosts that were removed.
  returned: always
  type: int
"""

from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.gate import (
    Demands,
    as_result,
    only_waits,
    problems,
    read_accounts,
    rooms_as_options,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._propagation_module import PropagationModule


def demands_of(params: dict[str, Any]) -> Demands:
    return Demands(
        keep=frozenset(params["keep"]),
        erase=params["erase"],
        require_confirmation=params["require_confirmation"],
        broken_rooms=frozenset(params["broken_rooms"] or {}),
    )


def main() -> None:
    module = PropagationModule(
        {
            "keep": {"type": "list", "elements": "str", "default": []},
            "erase": {"type": "bool", "default": True},
            "require_confirmation": {"type": "bool", "default": False},
            "wait": {"type": "bool", "default": True},
        }
    )
    demands = demands_of(module.params)
    with module.client(changes=True) as client:
        propagation = module.propagation(client, recheck=True)
        with module.reporting_removals(propagation):
            polled = module.poll(propagation)
            # Last, so that nothing takes time between these reads and the decision.
            accounts = read_accounts(client, demands)
            not_confirmed = propagation.record.not_confirmed(module.params["ignore"])
    found = problems(accounts, polled, demands)
    result = {
        **as_result(accounts, polled, found),
        "not_confirmed": rooms_as_options(not_confirmed),
        "not_confirmed_total": len(not_confirmed),
        "changed": propagation.changed,
        "removed": propagation.removed,
    }
    may_wait = not module.params["wait"] and only_waits(accounts, polled)
    if found and not (may_wait or module.check_mode):
        module.end(result, f"{module.params['server_name'] or 'The server'} is not powered off: {'. '.join(found)}")
    module.end(result)


if __name__ == "__main__":
    main()
