#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mas_users_info
short_description: Gather the accounts of a Matrix Authentication Service
version_added: 1.0.0
description:
  - Gathers the users of a Matrix Authentication Service, how accounts can register there, and the accounts that only
    the service or only Synapse has.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
  - matrixops.synapse.attributes.info_module
options:
  status:
    description:
      - Status of the users to return. RV(counts) and RV(total) include all users. By default, all are returned.
      - V(locked) users are not deactivated.
    type: str
    choices: [active, locked, deactivated, none]
"""

EXAMPLES = r"""
- name: Count the users of the Matrix Authentication Service
  matrixops.synapse.mas_users_info:
    mas_url: http://localhost:8080
    mas_client_id: 01HFVBY12TMNTYTBV8W921M5FA
    mas_client_secret: "{{ mas_client_secret }}"
    login_user: admin
    status: none
  register: mas
"""

RETURN = r"""
users:
  description: The users.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The user ID.
      type: str
      sample: "@alice:example.org"
    status:
      description: V(active), V(locked) or V(deactivated).
      type: str
    admin:
      description: Whether the user may ask for the permissions of an admin.
      type: bool
    legacy_guest:
      description: Whether the user was a guest of Synapse.
      type: bool
counts:
  description: Number of users by status.
  returned: success
  type: dict
  sample: {"active": 297, "deactivated": 3}
total:
  description: Number of users.
  returned: success
  type: int
only_in_service:
  description: User IDs of the users, deactivated or not, that Synapse does not have; at most 1,000 of them.
  returned: success
  type: list
  elements: str
only_in_service_total:
  description: Number of these users.
  returned: success
  type: int
only_in_synapse:
  description:
    - User IDs of the active accounts of Synapse that the service does not have, for example of bridges; at most 1,000
      of them.
  returned: success
  type: list
  elements: str
only_in_synapse_total:
  description: Number of these accounts.
  returned: success
  type: int
registration:
  description: How accounts can register.
  returned: success
  type: dict
  contains:
    open:
      description: Whether the policy lets users register. M(matrixops.synapse.mas_cordon) changes it.
      type: bool
    passwords:
      description: Whether the service offers the registration with a password.
      type: bool
    tokens:
      description: Number of valid registration tokens.
      type: int
    providers:
      description: Names of the enabled upstream providers.
      type: list
      elements: str
personal_sessions:
  description: Whether the service has personal sessions, which the operator needs to act as other accounts.
  returned: success
  type: bool
"""

from collections import Counter
from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._mas.cordon import read_registration
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.service import MasService
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._results import MAX_NAMES
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.accounts import list_users, localpart_of
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.delegation import ServiceAccount


def status_of(account: ServiceAccount) -> str:
    return "deactivated" if account.deactivated else "locked" if account.locked else "active"


def users_info(client: Client, service: MasService, status: str | None) -> dict[str, Any]:
    """The return values of the module."""
    accounts = {account.username: account for account in service.accounts()}
    listed = {localpart_of(user["name"]): user for user in list_users(client)}
    names = {username: f"@{username}:{client.server_name}" for username in (*accounts, *listed)}
    only_in_service = [names[username] for username in accounts if username not in listed]
    only_in_synapse = [
        names[username] for username, user in listed.items() if username not in accounts and not user["deactivated"]
    ]
    registration = read_registration(service.mas)
    return {
        "users": [
            {
                "name": names[account.username],
                "status": status_of(account),
                "admin": account.admin,
                "legacy_guest": account.guest,
            }
            for account in sorted(accounts.values())
            if status in (None, status_of(account))
        ],
        "counts": dict(Counter(map(status_of, accounts.values()))),
        "total": len(accounts),
        "only_in_service": only_in_service[:MAX_NAMES],
        "only_in_service_total": len(only_in_service),
        "only_in_synapse": only_in_synapse[:MAX_NAMES],
        "only_in_synapse_total": len(only_in_synapse),
        "registration": {
            "open": registration.open,
            "passwords": registration.passwords,
            "tokens": len(registration.tokens),
            "providers": registration.providers,
        },
        "personal_sessions": service.can_act,
    }


def main() -> None:
    module = SynapseModule({"status": {"type": "str", "choices": ["active", "locked", "deactivated", "none"]}})
    with module.client() as client:
        result = users_info(client, module.mas(client), module.params["status"])
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
