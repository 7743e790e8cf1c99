#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mas_user_deactivate
short_description: Deactivate accounts in a Matrix Authentication Service and in Synapse
version_added: 1.0.0
description:
  - Deactivates and erases accounts in a Matrix Authentication Service, and waits until Synapse shows them as
    deactivated, erased, and joined to no room. The service does that by a job. If a job has no effect within 30
    seconds, the service is asked again, twice, and then the account is deactivated in Synapse directly.
  - Accounts that only Synapse has, for example of bridges, are deactivated there.
  - The accounts leave their rooms after the deactivation, by Synapse itself.
    M(matrixops.synapse.synapse_user_deactivate), with O(mas_url) as well, lets them leave first, can make an account
    leave that Synapse fails to remove, and checks accounts that were deactivated before. It does not deactivate users
    that only the service has.
  - All accounts are read before the first is changed. If one does not exist or must not be deactivated, no changes are
    made. Right before its deactivation, each account is read once more.
  - B(This cannot be undone.) After an erasure, the service still has the username, the hash of the password and the
    links to upstream providers.
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
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  user_ids:
    description:
      - User IDs of the accounts to deactivate.
      - Mutually exclusive with O(all_users). One of the two is required.
    type: list
    elements: str
  all_users:
    description:
      - Deactivate every account of the service and of Synapse except admins, the operator and the accounts in O(keep).
    type: bool
    default: false
  keep:
    description:
      - User IDs of accounts that stay active. With O(all_users=true), each must exist; in O(user_ids), each is refused.
    type: list
    elements: str
    default: []
  erase:
    description:
      - Also erase the accounts. An account that was deactivated but not erased before is erased now.
    type: bool
    default: true
  allow_admins:
    description:
      - Allow admins, of the service or of Synapse, in O(user_ids). The operator is never deactivated.
    type: bool
    default: false
  wait_timeout:
    description:
      - Number of seconds without a leave on the whole server, after which an account that is still joined to a room is
        one of RV(failures). The total time is not limited.
    type: int
    default: 60
  concurrency:
    description:
      - Maximum number of accounts at the same time.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Deactivate and erase an account
  matrixops.synapse.mas_user_deactivate:
    mas_url: http://localhost:8080
    mas_client_id: 01HFVBY12TMNTYTBV8W921M5FA
    mas_client_secret: "{{ mas_client_secret }}"
    login_user: admin
    server_name: example.org
    user_ids:
      - "@alice:example.org"
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
failures:
  description: The accounts that could not be deactivated, or are still joined to rooms; at most 1,000 of them.
  returned: when the accounts could be read
  type: list
  elements: dict
  contains:
    user_id:
      description: User ID of the account.
      type: str
    reason:
      description: The error of the service or of Synapse.
      type: str
failures_total:
  description: Number of these accounts.
  returned: when the accounts could be read
  type: int
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.closing import (
    ClosingResult,
    Options,
    as_diff,
    as_result,
    close_accounts,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.eligibility import Eligibility
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule


def problem(outcome: ClosingResult) -> str:
    """What failed, with an example and what to do; an empty text if nothing did."""
    if outcome.aborted is not None:
        return f"Stopped after {len(outcome.deactivated)} accounts: {outcome.aborted}. Run again to resume"
    if outcome.failed:
        user_id, reason = next(iter(outcome.failed.items()))
        return (
            f"{len(outcome.failed)} accounts could not be deactivated, or have not left their rooms, for example"
            f" {user_id}: {reason}. Remove the cause, then run again"
        )
    return ""


def main() -> None:
    module = SynapseModule(
        {
            "user_ids": {"type": "list", "elements": "str"},
            "all_users": {"type": "bool", "default": False},
            "keep": {"type": "list", "elements": "str", "default": []},
            "erase": {"type": "bool", "default": True},
            "allow_admins": {"type": "bool", "default": False},
            "wait_timeout": {"type": "int", "default": 60},
            "concurrency": {"type": "int", "default": 8},
        },
        shows_progress=True,
    )
    params = module.params
    if params["all_users"] is (params["user_ids"] is not None):
        module.fail_json(msg="No changes made: set either user_ids or all_users=true")
    options = Options(
        Eligibility(keep=frozenset(params["keep"]), allow_admins=params["allow_admins"]),
        erase=params["erase"],
        wait_timeout=params["wait_timeout"],
        dry_run=module.check_mode,
    )
    with module.client(changes=True) as client:
        module.mas(client)
        outcome = close_accounts(client, params["user_ids"], options)
    result = as_result(outcome)
    result["diff"] = as_diff(outcome, params["erase"])
    module.end(result, problem(outcome), outcome.aborted)


if __name__ == "__main__":
    main()
