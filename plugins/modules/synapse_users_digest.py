#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_users_digest
short_description: Gather digests of the deactivated accounts of a Synapse homeserver
version_added: 1.0.0
description:
  - Gathers the number of deactivated accounts, and a digest of each user ID. With the digests, a person who knows a
    user ID can verify that the account was deactivated, and no user ID is published.
  - The digest is PBKDF2 with HMAC-SHA256 of the user ID. It is slow to compute, but does not protect user IDs that are
    easy to guess.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.progress
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
  - matrixops.synapse.attributes.info_module
options:
  salt:
    description:
      - Salt of the digests, as 16 or more lower-case hexadecimal digits. It must be random, but is not secret.
    type: str
    required: true
  ids:
    description:
      - Whether to return the user IDs instead of digests.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Gather digests of the deactivated accounts
  matrixops.synapse.synapse_users_digest:
    access_token: "{{ synapse_access_token }}"
    salt: 5f1d7a84db00d2fc8d0f4c9e8c3b7a61
  register: deactivated
"""

RETURN = r"""
states:
  description: Number of accounts that are V(deactivated), and of those that are also V(erased).
  returned: success
  type: dict
  sample: {"deactivated": 0, "erased": 488}
total:
  description: Number of these accounts.
  returned: success
  type: int
digests:
  description:
    - The first RV(width) characters of each digest, in URL-safe Base64, sorted, and joined without a separator. It has
      at most about a million characters for 200,000 accounts.
  returned: success, without O(ids)
  type: str
width:
  description: Number of characters of each digest.
  returned: success, without O(ids)
  type: int
rounds:
  description: Number of iterations of PBKDF2.
  returned: success, without O(ids)
  type: int
user_ids:
  description: The user IDs.
  returned: success, with O(ids)
  type: list
  elements: str
"""

import re
from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.digest import ROUNDS, digest_all
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.accounts import DEACTIVATED, list_accounts
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client


def users_digest(client: Client, salt: str, ids: bool) -> dict[str, Any]:
    states = dict.fromkeys(DEACTIVATED, 0)
    user_ids = []
    for account in list_accounts(client):
        if account.state in states:
            states[account.state] += 1
            user_ids.append(account.user_id)
    result: dict[str, Any] = {"states": states, "total": len(user_ids)}
    if ids:
        return {**result, "user_ids": sorted(user_ids)}
    return {**result, "rounds": ROUNDS, **digest_all(user_ids, salt, client.on_step)._asdict()}


def main() -> None:
    module = SynapseModule(
        {"salt": {"type": "str", "required": True}, "ids": {"type": "bool", "default": False}},
        shows_progress=True,
    )
    if not re.fullmatch("([0-9a-f]{2}){8,}", module.params["salt"]):
        module.fail_json(
            msg="No changes made: salt must be an even number of lower-case hexadecimal digits, at least 16, for"
            " example the output of: openssl rand -hex 16"
        )
    with module.client() as client:
        result = users_digest(client, module.params["salt"], module.params["ids"])
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
