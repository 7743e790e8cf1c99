#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_users_info
short_description: List and count the accounts of a Synapse homeserver
version_added: 1.0.0
description:
  - Lists all accounts, to the last page, those too that Synapse leaves out unless asked for (deactivated, locked), and
    counts them by class and state.
  - The sender account of an application service and the account that sends server notices are in no listing of
    Synapse's. They show where they are in rooms, in M(matrixops.synapse.synapse_rooms_info).
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.info_module
options:
  classes:
    description:
      - Return only accounts of these classes. RV(counts) and RV(total) are of all classes all the same.
    type: list
    elements: str
    choices: [operator, admin, appservice, guest, user]
    default: [operator, admin, appservice, guest, user]
  active:
    description:
      - Return and count only accounts that are not deactivated (V(true)), or only those that are (V(false)).
      - Accounts that are locked or suspended are not deactivated.
    type: bool
  joined:
    description:
      - Return only accounts that are joined to a room (V(true)), or only those that are not (V(false)). RV(counts) and
        RV(total) are of both all the same. Implies O(gather=joined_rooms).
      - This reads the rooms of one account after the other, which is exact, where the room list of Synapse goes by
        statistics.
    type: bool
  name:
    description:
      - Return and count only accounts with this in their localpart or display name.
    type: str
  gather:
    description:
      - What to read of each account besides the listing, at the price of one request per account for each.
      - V(details) is what tells suspended accounts and those of application services. Without it, they are counted as
        active, and as of class V(user).
      - V(joined_rooms) adds the room IDs that an account of O(classes) is joined to.
    type: list
    elements: str
    choices: [details, joined_rooms]
    default: [details]
  concurrency:
    description:
      - How many of those requests to have under way at the same time.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Count everybody
  matrixops.synapse.synapse_users_info:
    access_token: "{{ synapse_access_token }}"
    classes: []
  register: accounts

- name: Which admins are in rooms?
  matrixops.synapse.synapse_users_info:
    access_token: "{{ synapse_access_token }}"
    classes: [operator, admin]
    gather: [joined_rooms]
  register: admins
"""

RETURN = r"""
users:
  description:
    - The accounts, with the names that Synapse has for their fields, and what is below.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The user ID.
      type: str
      sample: "@alice:example.org"
    class:
      description: The first that fits of V(operator), V(admin), V(appservice), V(guest) and V(user).
      type: str
    state:
      description: The last that fits of V(active), V(suspended), V(locked), V(deactivated) and V(erased).
      type: str
    joined_rooms:
      description: The IDs of the rooms that the account is joined to.
      returned: with O(gather=joined_rooms) or O(joined)
      type: list
      elements: str
counts:
  description: How many accounts there are of each class, and among them in each state.
  returned: success
  type: dict
  sample: {"user": {"active": 297, "erased": 3}, "operator": {"active": 1}}
total:
  description: How many accounts there are.
  returned: success
  type: int
"""

from collections import Counter
from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._pool import each
from ansible_collections.matrixops.synapse.plugins.module_utils._rooms import joined_rooms
from ansible_collections.matrixops.synapse.plugins.module_utils._users import (
    CLASSES,
    STATES,
    account_class,
    account_state,
    get_user,
    list_users,
)


def users_info(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """List the accounts as the options say. Only those that are returned are ever held in memory."""
    gather = params["gather"]
    look_at_rooms = params["joined"] is not None or "joined_rooms" in gather

    def look(listed: dict[str, Any]) -> dict[str, Any]:
        user = {**listed, **(get_user(client, listed["name"]) if "details" in gather else {})}
        user["class"] = account_class(user, client.user_id)
        user["state"] = account_state(user)
        if look_at_rooms and user["class"] in params["classes"]:
            user["joined_rooms"] = joined_rooms(client, user["name"])
        return user

    counter: Counter[tuple[str, str]] = Counter()
    users = []
    listed = list_users(client, name=params["name"], active=params["active"])
    for _listed, user in each(look, listed, params["concurrency"]):
        counter[user["class"], user["state"]] += 1
        if user["class"] in params["classes"] and params["joined"] in (None, bool(user.get("joined_rooms"))):
            users.append(user)
    users.sort(key=lambda user: str(user["name"]))
    counts = {
        kind: {state: counter[kind, state] for state in STATES if counter[kind, state]}
        for kind in CLASSES
        if any(counter[kind, state] for state in STATES)
    }
    return {"users": users, "counts": counts, "total": sum(counter.values())}


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
            "concurrency": {"type": "int", "default": 8},
        }
    )
    with module.client(connections=module.params["concurrency"]) as client:
        result = users_info(client, module.params)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
