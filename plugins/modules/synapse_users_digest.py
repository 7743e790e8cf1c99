#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_users_digest
short_description: Count the accounts of a Synapse homeserver that are closed, and make a digest of each
version_added: 1.0.0
description:
  - Lists all accounts, and returns of those that are deactivated how many there are, and a digest of each user ID. With
    that, somebody who knows an ID can see that it was among them, while nobody can read off names.
  - The digest is PBKDF2 with HMAC-SHA256 of the user ID. It is slow on purpose, but does not keep anybody from trying
    names that are easy to guess.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.info_module
options:
  salt:
    description:
      - What to make the digests with, in hexadecimal. It must be random, but is no secret.
    type: str
    required: true
  ids:
    description:
      - Whether to return the user IDs instead of digests.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Who was here
  matrixops.synapse.synapse_users_digest:
    access_token: "{{ synapse_access_token }}"
    salt: 5f1d7a84db00d2fc8d0f4c9e8c3b7a61
  register: closed
"""

RETURN = r"""
states:
  description: How many accounts are V(deactivated), and how many V(erased) too.
  returned: success
  type: dict
  sample: {"deactivated": 0, "erased": 488}
total:
  description: How many accounts these are.
  returned: success
  type: int
digests:
  description:
    - The first RV(width) characters of the digest of each, in URL-safe Base64, sorted and one after the other without
      anything in between. It takes up no more than about a megabyte for 200,000 accounts.
  returned: success, without O(ids)
  type: str
width:
  description: How many characters there are of each digest.
  returned: success, without O(ids)
  type: int
rounds:
  description: The number of iterations of PBKDF2.
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

from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._digest import ROUNDS, digest_all
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._users import DEACTIVATED, list_accounts


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
    return {**result, "rounds": ROUNDS, **digest_all(user_ids, salt)._asdict()}


def main() -> None:
    module = SynapseModule({"salt": {"type": "str", "required": True}, "ids": {"type": "bool", "default": False}})
    if not re.fullmatch("([0-9a-f]{2}){8,}", module.params["salt"]):
        module.fail_json(msg="Nothing was read: salt must be 16 or more lower-case hexadecimal digits.")
    with module.client() as client:
        result = users_digest(client, module.params["salt"], module.params["ids"])
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
