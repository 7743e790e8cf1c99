#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_admin_leave_rooms
short_description: Make the admin accounts of a Synapse homeserver leave all rooms
version_added: 1.0.0
description:
  - Makes accounts leave the rooms that they are joined to, turn down invites, and take back knocks.
  - The accounts stay open. Those of other people than the operator are logged in to with the admin API, and the session
    is ended again. It has no device and expires within an hour, should it not be possible to end it.
  - Meanwhile the message rate limit of the operator is lifted, which counts leaves too. At the end, what was there
    before is put back. If the module is killed in between, the limit stays lifted.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
attributes:
  check_mode:
    support: partial
    details:
      - Logs in as nobody, so that invites from other servers to others than the operator are not seen.
      - With O(unlisted=true), counts the rooms that nobody else of this server is in now, and not those that will be so
        when the others have left.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  user_ids:
    description:
      - The accounts. By default every admin of the server, the operator included.
    type: list
    elements: str
  unlisted:
    description:
      - Whether those leave too who are in no listing of accounts, and whom nobody can log in as. They are the sender
        accounts of application services, and the account that sends server notices.
      - Only from rooms that nobody else of this server is in by then, since it takes a shutdown of the room (without a
        purge), which makes all local accounts leave.
      - A bridge that is still running may bring its sender account back. Stop it first.
    type: bool
    default: false
  allow_broken_rooms:
    description:
      - Whether rooms that can't be left, such as those with a damaged state, fail the task. With V(true), they do not,
        and are returned in RV(broken_rooms).
    type: bool
    default: false
  record_pending:
    description:
      - Whether to add the rooms that accounts are invited to, or knocking at, to the record of
        M(matrixops.synapse.synapse_federated_rooms), before
        they leave. Remote servers may go on listing them there.
      - For that, each account but guests is logged in to with the admin API. Its list of ignored users is empty for a
        moment, since Synapse hides the invites of those who are on it. Under delegated authentication, that is possible
        for the operator only.
    type: bool
    default: false
  concurrency:
    description:
      - How many rooms an account leaves at the same time.
    type: int
    default: 4
"""

EXAMPLES = r"""
- name: All admins leave all rooms
  matrixops.synapse.synapse_admin_leave_rooms:
    access_token: "{{ synapse_access_token }}"
"""

RETURN = r"""
accounts:
  description: What came of it, by account.
  returned: always
  type: list
  elements: dict
  contains:
    user_id:
      description: The account.
      type: str
    left:
      description: The IDs of the rooms that it was joined to, and left.
      type: list
      elements: str
    rejected:
      description: The IDs of the rooms that it was invited to, and turned down.
      type: list
      elements: str
    retracted:
      description: The IDs of the rooms that it knocked at, and took its knock back from.
      type: list
      elements: str
    not_listed:
      description:
        - Why the invites and knocks of the account could not be listed, or V(none). A damaged room can cause that. The
          account has left the rooms that it was joined to.
      type: str
    error:
      description: Why the account could not be dealt with at all, or V(none).
      type: str
    failed:
      description: The rooms that it could not leave or turn down, with the reason of each.
      type: list
      elements: dict
      contains:
        room_id:
          description: The room ID.
          type: str
        reason:
          description: What the server said.
          type: str
broken_rooms:
  description: The rooms that could not be left or turned down; no more than 1,000 of them.
  returned: always
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    reason:
      description: What the server said of the first of the accounts.
      type: str
    accounts:
      description: How many of the accounts could not leave the room.
      type: int
    federated:
      description: Whether other servers are in the room, or may be.
      type: bool
broken_rooms_total:
  description: How many such rooms there are.
  returned: always
  type: int
pending_unlisted:
  description:
    - The accounts whose invites and knocks could not be listed, with the C(reason) of each; no more than 1,000 of them.
  returned: with O(record_pending=true)
  type: list
  elements: dict
"""

from typing import Any, Iterable, Sequence

from ansible_collections.matrixops.synapse.plugins.module_utils._client import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.federated_rooms import record_pending
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._rooms import (
    BrokenRoom,
    Departure,
    broken_rooms,
    broken_rooms_result,
    depart_all,
    depart_unlisted,
    is_federated,
    planned_departure,
    planned_unlisted,
    with_reasons,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._users import find_accounts, list_accounts


def as_result(departure: Departure) -> dict[str, Any]:
    return {
        "user_id": departure.user_id,
        "left": departure.left,
        "rejected": departure.rejected,
        "retracted": departure.retracted,
        "failed": [{"room_id": room_id, "reason": reason} for room_id, reason in departure.failed.items()],
        "not_listed": departure.not_listed,
        "error": departure.error,
    }


def as_lines(departures: Iterable[Departure]) -> str:
    lines = [
        f"{departure.user_id} {membership} {room_id}\n"
        for departure in departures
        for membership, room_ids in (
            ("joined", departure.left),
            ("invited", departure.rejected),
            ("knocked", departure.retracted),
        )
        for room_id in room_ids
    ]
    return "".join(lines)


def main() -> None:
    module = SynapseModule(
        {
            "user_ids": {"type": "list", "elements": "str"},
            "unlisted": {"type": "bool", "default": False},
            "allow_broken_rooms": {"type": "bool", "default": False},
            "record_pending": {"type": "bool", "default": False},
            "concurrency": {"type": "int", "default": 4},
        }
    )
    concurrency = module.params["concurrency"]
    with module.client(connections=concurrency, changes=True) as client:
        if module.params["user_ids"] is None:
            accounts = [a for a in list_accounts(client) if a.account_class in ("operator", "admin")]
        else:
            accounts = list(find_accounts(client, module.params["user_ids"]).values())
        user_ids = [account.user_id for account in accounts]
        unlisted: dict[str, str] = {}
        departures: list[Departure] = []
        broken: dict[str, BrokenRoom] = {}
        problem = None
        try:
            if module.check_mode:
                departures.extend(planned_departure(client, user_id) for user_id in user_ids)
                if module.params["unlisted"]:
                    departures.extend(planned_unlisted(client, concurrency))
            else:
                if module.params["record_pending"]:
                    unlisted = record_pending(client, accounts, concurrency)
                departures.extend(depart_all(client, user_ids, concurrency))
                if module.params["unlisted"]:
                    departures.extend(depart_unlisted(client, concurrency))
            failed = [departure.failed for departure in departures]
            broken = broken_rooms(failed, lambda room_id: is_federated(client, room_id))
        except SynapseError as error:
            problem = error

    result = {
        "changed": any(departure.changed for departure in departures),
        "accounts": [as_result(departure) for departure in departures],
        **broken_rooms_result(broken),
        "diff": {"before": as_lines(departures), "after": ""},
    }
    if module.params["record_pending"]:
        result["pending_unlisted"] = with_reasons("user_id", unlisted)
    if problem is not None:
        module.end(result, str(problem), problem)
    excused = module.params["allow_broken_rooms"]
    incomplete = [departure for departure in departures if departure.error or not (excused or departure.complete)]
    if incomplete:
        module.fail_json(msg=message(incomplete), **result)
    module.exit_json(**result)


def message(incomplete: Sequence[Departure]) -> str:
    """Say of each account what it could not leave, with the first reason."""
    told = []
    for departure in incomplete:
        problem = departure.error
        if departure.failed:
            room_id, reason = next(iter(departure.failed.items()))
            problem = problem or f"{len(departure.failed)} rooms, such as {room_id}: {reason}"
        told.append(f"{departure.user_id}: {problem or f'invites and knocks: {departure.not_listed}'}")
    return "Not everything could be left. " + "; ".join(told) + ". Run this again"


if __name__ == "__main__":
    main()
