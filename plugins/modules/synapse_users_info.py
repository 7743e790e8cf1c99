#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_users_info
short_description: Gather the accounts of a Synapse homeserver
version_added: 1.0.0
description:
  - Gathers all accounts, including deactivated and locked ones, and counts them by class and state.
  - Synapse does not list the sender accounts of application services, and the account that sends server notices. If
    they are joined to rooms, M(matrixops.synapse.synapse_rooms_info) has them.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.progress
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
  - matrixops.synapse.attributes.info_module
options:
  classes:
    description:
      - Classes of the accounts to return. RV(counts) and RV(total) include all classes.
    type: list
    elements: str
    choices: [operator, admin, appservice, guest, user]
    default: [operator, admin, appservice, guest, user]
  active:
    description:
      - Whether to return and count only accounts that are not deactivated (V(true)), or only those that are (V(false)).
        By default, both.
      - Locked and suspended accounts are not deactivated.
    type: bool
  joined:
    description:
      - Whether to return only accounts that are joined to a room (V(true)), or only those that are not (V(false)). By
        default, both. RV(counts) and RV(total) include both. Implies O(gather=joined_rooms).
      - The rooms are read account by account, which is exact. The room list of Synapse is based on statistics.
    type: bool
  name:
    description:
      - Text in the localpart or display name of the accounts to return and count. By default, all accounts.
    type: str
  gather:
    description:
      - Information to read for each account. Each choice takes one request per account.
      - V(details) identifies suspended accounts, and accounts of application services. Without it, they have the state
        V(active), or the class V(user).
      - V(joined_rooms) adds RV(users[].joined_rooms) to accounts of O(classes).
    type: list
    elements: str
    choices: [details, joined_rooms]
    default: [details]
  total_only:
    description:
      - Whether to return only RV(total), which takes one or two requests. Only O(active) applies.
      - If a service handles login, the accounts are listed all the same, since they may be active there.
    type: bool
    default: false
  max_users:
    description:
      - Maximum number of accounts to return. RV(counts) and RV(total) include all of them. By default, no limit.
    type: int
  concurrency:
    description:
      - Maximum number of requests at the same time.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Count the accounts
  matrixops.synapse.synapse_users_info:
    access_token: "{{ synapse_access_token }}"
    classes: []
  register: accounts

- name: Gather the admins that are joined to rooms
  matrixops.synapse.synapse_users_info:
    access_token: "{{ synapse_access_token }}"
    classes: [operator, admin]
    joined: true
    gather: [joined_rooms]
  register: admins
"""

RETURN = r"""
users:
  description:
    - The accounts, with the fields of Synapse's user list, and the following ones.
  returned: without O(total_only)
  type: list
  elements: dict
  contains:
    name:
      description: The user ID.
      type: str
      sample: "@alice:example.org"
    class:
      description: The first class that applies, of V(operator), V(admin), V(appservice), V(guest) and V(user).
      type: str
    state:
      description: The last state that applies, of V(active), V(suspended), V(locked), V(deactivated) and V(erased).
      type: str
    joined_rooms:
      description: IDs of the rooms that the account is joined to.
      returned: with O(gather=joined_rooms) or O(joined)
      type: list
      elements: str
matched:
  description: Number of accounts that O(classes) and O(joined) select, of which O(max_users) are returned.
  returned: without O(total_only)
  type: int
counts:
  description: Number of accounts by class and state.
  returned: without O(total_only)
  type: dict
  sample: {"user": {"active": 297, "erased": 3}, "operator": {"active": 1}}
total:
  description: Number of accounts.
  returned: success
  type: int
"""

from collections import Counter
from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.accounts import (
    CLASSES,
    account_class,
    account_state,
    count_by_class,
    count_users,
    get_user,
    list_users,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.rooms import joined_rooms


def users_info(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """The return values of the module. Only the accounts to return are kept in memory."""
    gather = params["gather"]
    read_rooms = params["joined"] is not None or "joined_rooms" in gather

    def read(listed: dict[str, Any]) -> dict[str, Any]:
        user = {**listed, **(get_user(client, listed["name"]) if "details" in gather else {})}
        user["class"] = account_class(user, client.user_id)
        user["state"] = account_state(user)
        if read_rooms and user["class"] in params["classes"]:
            user["joined_rooms"] = joined_rooms(client, user["name"])
        return user

    counter: Counter[tuple[str, str]] = Counter()
    users = []
    matched = 0
    listed = list_users(client, name=params["name"], active=params["active"])
    for _listed, user in client.map(read, listed, step="accounts read" if gather or read_rooms else ""):
        counter[user["class"], user["state"]] += 1
        if user["class"] in params["classes"] and params["joined"] in (None, bool(user.get("joined_rooms"))):
            matched += 1
            if params["max_users"] is None or matched <= params["max_users"]:
                users.append(user)
    users.sort(key=lambda user: str(user["name"]))
    counts = count_by_class(counter)
    return {"users": users, "matched": matched, "counts": counts, "total": sum(counter.values())}


def main() -> None:
    module = SynapseModule(
        {
            "classes": {"type": "list", "elements": "str", "choices": list(CLASSES), "default": list(CLASSES)},
            "active": {"type": "bool"},
            "joined": {"type": "bool"},
            "name": {"type": "str"},
            "gather": {
                "type": "list",
                "elements": "str",
                "choices": ["details", "joined_rooms"],
                "default": ["details"],
            },
            "total_only": {"type": "bool", "default": False},
            "max_users": {"type": "int"},
            "concurrency": {"type": "int", "default": 8},
        },
        shows_progress=True,
    )
    params = module.params
    with module.client() as client:
        if params["total_only"]:
            result: dict[str, Any] = {"total": count_users(client, active=params["active"])}
        else:
            result = users_info(client, params)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
