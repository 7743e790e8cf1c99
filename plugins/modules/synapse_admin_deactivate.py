#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_admin_deactivate
short_description: Deactivate the admins of a drained Synapse homeserver, the operator last
version_added: 1.0.0
description:
  - Deactivates and erases the admin accounts that are left when all other accounts are deactivated. The operator, whose
    access token the module uses, is the last one. B(No module can log in afterwards), so this is the last step before
    the homeserver is stopped.
  - O(user_ids) must name every admin that is active, except those in O(keep). Otherwise no changes are made. An account
    that has become an admin since the list was written is neither deactivated nor left behind that way.
  - The operator is deactivated only when no other admin is active, by a new listing of all accounts. If the module is
    interrupted while its access token still works, run it again. If the access token is invalid, all admins are
    deactivated.
  - The accounts should have left their rooms before, see M(matrixops.synapse.synapse_admin_leave_rooms).
  - B(This cannot be undone) without access to the database of the homeserver.
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
    support: partial
    details:
      - After the operator was deactivated, the module cannot log in and fails.
options:
  user_ids:
    description:
      - User IDs of all admins that are active, the operator included. Accounts that are deactivated already may be
        named as well.
      - With O(mas_url), admins of the Matrix Authentication Service are included.
    type: list
    elements: str
    required: true
  keep:
    description:
      - User IDs of accounts that stay active, and that O(user_ids) must not name.
    type: list
    elements: str
    default: []
  erase:
    description:
      - Also erase the accounts.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Deactivate the last admins of a drained homeserver
  matrixops.synapse.synapse_admin_deactivate:
    access_token: "{{ synapse_access_token }}"
    server_name: example.org
    user_ids:
      - "@alice:example.org"
      - "@operator:example.org"
"""

RETURN = r"""
deactivated:
  description: Number of accounts that were deactivated or erased.
  returned: when the accounts could be read
  type: int
unchanged:
  description: Number of accounts that were deactivated before.
  returned: when the accounts could be read
  type: int
operator_deactivated:
  description: Whether the operator was deactivated.
  returned: when the accounts could be read
  type: bool
failures:
  description: The accounts that could not be deactivated; at most 1,000 of them.
  returned: when the accounts could be read
  type: list
  elements: dict
  contains:
    user_id:
      description: User ID of the account.
      type: str
    reason:
      description: The error of the server.
      type: str
failures_total:
  description: Number of these accounts.
  returned: when the accounts could be read
  type: int
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.admins import deactivate_admins
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.closing import (
    ClosingResult,
    as_diff,
    as_result,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule


def problem(outcome: ClosingResult) -> str:
    """What failed, with an example and what to do; an empty text if nothing did."""
    if outcome.aborted is not None:
        return f"Stopped after {len(outcome.deactivated)} admins: {outcome.aborted}. Run again to resume"
    if outcome.failed:
        user_id, reason = next(iter(outcome.failed.items()))
        return (
            f"{len(outcome.failed)} admins could not be deactivated, for example {user_id}: {reason}. The operator is"
            " still active. Remove the cause, then run again"
        )
    return ""


def main() -> None:
    module = SynapseModule(
        {
            "user_ids": {"type": "list", "elements": "str", "required": True},
            "keep": {"type": "list", "elements": "str", "default": []},
            "erase": {"type": "bool", "default": True},
        }
    )
    params = module.params
    with module.client(changes=True) as client:
        operator = client.user_id
        outcome = deactivate_admins(
            client,
            list(dict.fromkeys(params["user_ids"])),
            keep=frozenset(params["keep"]),
            erase=params["erase"],
            dry_run=module.check_mode,
        )
    result = {**as_result(outcome), "operator_deactivated": operator in outcome.deactivated}
    result["diff"] = as_diff(outcome, params["erase"])
    module.end(result, problem(outcome), outcome.aborted)


if __name__ == "__main__":
    main()
