#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_user_deactivate
short_description: Deactivate accounts of a Synapse homeserver, and see them out of every room
version_added: 1.0.0
description:
  - Deactivates many accounts over a few connections, and waits until each of them has left all of its rooms.
  - When Synapse answers a deactivation with 200, the account is still in all of its rooms. Synapse makes it leave them
    later, one account after the other, and forgets a leave that fails. So this module looks.
  - All accounts are looked at before the first is changed. If one does not exist, is of another server, or must not be
    deactivated, then nothing is changed.
  - B(This can't be undone.) An account that is deactivated can be opened again, but has lost its rooms, its password,
    its sessions and keys, and with O(erase=true) its profile.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
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
      - The accounts to deactivate.
      - Either this or O(all_users) is required.
    type: list
    elements: str
  all_users:
    description:
      - Deactivate every account of the server but admins, the operator, and those in O(keep).
      - When all have left their rooms, the accounts are listed again, and whoever came in the meantime is deactivated
        too, until nobody is found.
    type: bool
    default: false
  keep:
    description:
      - Accounts to leave alone. With O(all_users=true), each must exist; among O(user_ids), each is refused.
    type: list
    elements: str
    default: []
  erase:
    description:
      - Also mark the accounts as erased. Their profiles are deleted, and on this server their messages are hidden from
        those who join a room later. An account that was deactivated before, but not erased, is erased now.
    type: bool
    default: true
  allow_admins:
    description:
      - Whether admins may be among O(user_ids). The operator, whose access token this uses, may not in any case.
    type: bool
    default: false
  strategy:
    description:
      - With V(deactivate), Synapse makes the accounts leave their rooms after it has deactivated them, one account and
        one room after the other.
      - With V(leave), each account but guests is logged in to with the admin API, leaves its rooms, and is then
        deactivated, many at the same time. With 400 accounts of three rooms each, this took 78 seconds instead of 117
        on PostgreSQL, and as long as V(deactivate) on SQLite. Under delegated authentication, nobody can be logged in
        to, and it is as V(deactivate).
      - Other servers see the same either way. On this one, with V(leave), the join events in the old history of a room
        keep the display name that the account had, which V(deactivate) together with O(erase=true) removes.
    type: str
    choices: [deactivate, leave]
    default: deactivate
  wait:
    description:
      - Whether to wait until every account has left all rooms, also those that were deactivated before.
    type: bool
    default: true
  wait_timeout:
    description:
      - With O(wait=true), for how many seconds nobody on the whole server must have left a room, before those who are
        still in one count as forgotten by Synapse. They are deactivated once more, which makes Synapse try again. If
        that does not help either, each is logged in to with the admin API, and leaves by hand.
      - There is no limit to how long the whole may take.
    type: int
    default: 60
  max_passes:
    description:
      - With O(all_users=true), how often to list the accounts and deactivate those that are found, before giving up.
    type: int
    default: 5
  concurrency:
    description:
      - How many requests to have under way at the same time.
    type: int
    default: 8
  log_path:
    description:
      - A file to append one line of JSON to for everything that happens to an account, as it happens.
    type: path
"""

EXAMPLES = r"""
- name: Two people leave
  matrixops.synapse.synapse_user_deactivate:
    access_token: "{{ synapse_access_token }}"
    user_ids:
      - "@alice:example.org"
      - "@bob:example.org"

- name: Everybody leaves
  matrixops.synapse.synapse_user_deactivate:
    access_token: "{{ synapse_access_token }}"
    server_name: example.org
    all_users: true
    keep:
      - "@archive:example.org"
    log_path: /var/log/synapse-drain.jsonl
"""

RETURN = r"""
deactivated:
  description: How many accounts were deactivated or erased.
  returned: when the accounts could be looked at
  type: int
unchanged:
  description: How many had been before.
  returned: when the accounts could be looked at
  type: int
failures:
  description: The accounts that could not be deactivated.
  returned: when the accounts could be looked at
  type: list
  elements: dict
  contains:
    user_id:
      description: The account.
      type: str
    reason:
      description: What the server said.
      type: str
not_parted:
  description: The accounts that are deactivated, but still in rooms.
  returned: when the accounts could be looked at
  type: list
  elements: dict
  contains:
    user_id:
      description: The account.
      type: str
    rooms:
      description: The rooms that it is still joined to, with the reason of each.
      type: list
      elements: dict
      contains:
        room_id:
          description: The room ID.
          type: str
        reason:
          description: What the server said.
          type: str
passes:
  description: How often the accounts were listed and anything was done.
  returned: when the accounts could be looked at
  type: int
elapsed:
  description: How many seconds it all took.
  returned: when the accounts could be looked at
  type: float
rate:
  description: How many accounts per second were deactivated and, with O(wait=true), seen out of their rooms.
  returned: when the accounts could be looked at
  type: float
"""

import time
from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._drain import Drain, drain, json_lines
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule


def as_result(outcome: Drain, erase: bool, elapsed: float) -> dict[str, Any]:
    after = "erased" if erase else "deactivated"
    return {
        "changed": bool(outcome.closed),
        "deactivated": len(outcome.closed),
        "unchanged": outcome.unchanged,
        "failures": [{"user_id": user_id, "reason": reason} for user_id, reason in outcome.failed.items()],
        "not_parted": [
            {
                "user_id": user_id,
                "rooms": [{"room_id": room_id, "reason": reason} for room_id, reason in rooms.items()],
            }
            for user_id, rooms in outcome.not_parted.items()
        ],
        "passes": outcome.passes,
        "elapsed": round(elapsed, 3),
        "rate": round(len(outcome.closed) / elapsed, 2) if elapsed else 0.0,
        "diff": {
            "before": "".join(f"{user_id} {state}\n" for user_id, state in sorted(outcome.closed.items())),
            "after": "".join(f"{user_id} {after}\n" for user_id in sorted(outcome.closed)),
        },
    }


def problem(outcome: Drain) -> str:
    """What went wrong, and what to do about it; empty if nothing did."""
    if outcome.aborted is not None:
        return f"Stopped after {len(outcome.closed)} accounts: {outcome.aborted}. Run this again to go on."
    told = []
    if outcome.failed:
        user_id, reason = next(iter(outcome.failed.items()))
        told.append(f"{len(outcome.failed)} accounts could not be deactivated, such as {user_id}: {reason}.")
    if outcome.not_parted:
        user_id, rooms = next(iter(outcome.not_parted.items()))
        room_id, reason = next(iter(rooms.items()))
        told.append(
            f"{len(outcome.not_parted)} accounts are deactivated but still in rooms, such as {user_id} in {room_id}:"
            f" {reason}."
        )
    return " ".join(told)


def main() -> None:
    module = SynapseModule(
        {
            "user_ids": {"type": "list", "elements": "str"},
            "all_users": {"type": "bool", "default": False},
            "keep": {"type": "list", "elements": "str", "default": []},
            "erase": {"type": "bool", "default": True},
            "allow_admins": {"type": "bool", "default": False},
            "strategy": {"type": "str", "choices": ["deactivate", "leave"], "default": "deactivate"},
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int", "default": 60},
            "max_passes": {"type": "int", "default": 5, "no_log": False},
            "concurrency": {"type": "int", "default": 8},
            "log_path": {"type": "path"},
        }
    )
    params = module.params
    if params["all_users"] is (params["user_ids"] is not None):
        module.fail_json(msg="Nothing was changed: set either user_ids or all_users=true.")
    log_path = None if module.check_mode else params["log_path"]
    started = time.monotonic()
    with module.client(connections=params["concurrency"]) as client, json_lines(log_path) as log:
        outcome = drain(
            client,
            params["user_ids"],
            keep=params["keep"],
            erase=params["erase"],
            allow_admins=params["allow_admins"],
            leave_first=params["strategy"] == "leave",
            wait=params["wait"],
            wait_timeout=params["wait_timeout"],
            max_passes=params["max_passes"],
            concurrency=params["concurrency"],
            log=log,
            dry_run=module.check_mode,
        )
    result = as_result(outcome, params["erase"], time.monotonic() - started)
    message = problem(outcome)
    if message:
        error = outcome.aborted
        module.fail_json(msg=message, status=error and error.status, errcode=error and error.errcode, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
