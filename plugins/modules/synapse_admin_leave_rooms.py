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
  - Makes accounts leave the rooms that they are joined to, reject invites and retract knocks.
  - The accounts stay active. The operator acts as each of them with a session that the admin API opens and that is
    ended again. It has no device, and expires within an hour if it cannot be ended. A locked account is unlocked for
    that time.
  - The message rate limit of the operator, which also applies to leaves, is lifted meanwhile and restored at the end.
    If the module is killed in between, the limit stays lifted.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.progress
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
attributes:
  check_mode:
    support: partial
    details:
      - Opens no session, so that invites from remote servers are only listed for the operator.
      - With O(unlisted=true), counts the rooms that no other account of this server is in at present. There may be more
        when the other accounts have left.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  user_ids:
    description:
      - User IDs of the accounts. By default, all admins of the server including the operator.
    type: list
    elements: str
  unlisted:
    description:
      - Also make accounts leave that are in no listing of accounts and that the operator cannot act as. These are the
        sender accounts of application services, and the account that sends server notices.
      - Applies only to rooms that no other account of this server is in by then, since it takes a shutdown of the room
        (without a purge), which makes all local accounts leave.
      - A bridge that is still running may join its sender account again. Stop it first.
    type: bool
    default: false
  allow_broken_rooms:
    description:
      - Succeed although there are rooms that cannot be left, for example because their state is damaged. They are
        returned in RV(broken_rooms).
    type: bool
    default: false
  record_pending:
    description:
      - Add the rooms that accounts are invited to or knocking at to the record of
        M(matrixops.synapse.synapse_federated_rooms) before they leave. Remote servers may keep listing the accounts
        there.
      - The operator acts as each account except guests. The list of ignored users of the account is empty for a moment,
        since Synapse hides the invites of ignored users. Under delegated authentication, this is possible for the
        operator only.
    type: bool
    default: false
  concurrency:
    description:
      - Maximum number of concurrent requests. The module starts with two, and adapts to how fast the server answers.
    type: int
    default: 4
"""

EXAMPLES = r"""
- name: Make all admins leave all rooms
  matrixops.synapse.synapse_admin_leave_rooms:
    access_token: "{{ synapse_access_token }}"

- name: Make the archive account and the senders of application services leave all rooms
  matrixops.synapse.synapse_admin_leave_rooms:
    access_token: "{{ synapse_access_token }}"
    user_ids:
      - "@archive:example.org"
    unlisted: true
"""

RETURN = r"""
accounts:
  description: The result for each account, with at most 1,000 rooms in each list.
  returned: always
  type: list
  elements: dict
  contains:
    user_id:
      description: User ID of the account.
      type: str
    left:
      description: IDs of the rooms that it was joined to, and left.
      type: list
      elements: str
    rejected:
      description: IDs of the rooms whose invites it rejected.
      type: list
      elements: str
    retracted:
      description: IDs of the rooms whose knocks it retracted.
      type: list
      elements: str
    not_listed:
      description:
        - Why its invites and knocks could not be listed, or V(none). A damaged room can cause this. The account has
          left the rooms that it was joined to.
      type: str
    error:
      description: Why nothing could be done with the account, or V(none).
      type: str
    failed:
      description: The rooms that it could not leave, or whose invite or knock is still there.
      type: list
      elements: dict
      contains:
        room_id:
          description: The room ID.
          type: str
        reason:
          description: The error of the server.
          type: str
left_total:
  description: Number of memberships that were left.
  returned: always
  type: int
rejected_total:
  description: Number of invites that were rejected.
  returned: always
  type: int
retracted_total:
  description: Number of knocks that were retracted.
  returned: always
  type: int
broken_rooms:
  description: The rooms that could not be left, or whose invites could not be rejected; at most 1,000 of them.
  returned: always
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    reason:
      description: The error of the server for the first of the accounts.
      type: str
    accounts:
      description: Number of these accounts.
      type: int
    federated:
      description: Whether remote servers are, or may be, in the room.
      type: bool
broken_rooms_total:
  description: Number of such rooms.
  returned: always
  type: int
pending_unlisted:
  description:
    - The accounts whose invites and knocks could not be listed, each with the C(reason); at most 1,000 of them.
  returned: with O(record_pending=true)
  type: list
  elements: dict
"""

from typing import Any, Iterable, Iterator, Sequence

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.broken_rooms import (
    broken_rooms,
    broken_rooms_result,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.eligibility import find_accounts
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.leaving import (
    Departure,
    leave_all_rooms,
    plan_departure,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.recorder import Recorder
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.unlisted import (
    make_unlisted_leave,
    plan_unlisted,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._results import MAX_NAMES, with_reasons
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.accounts import Account, list_accounts
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.rooms import is_federated


def find(client: Client, user_ids: Sequence[str] | None) -> list[Account]:
    """The accounts that are to leave."""
    if user_ids is not None:
        return list(find_accounts(client, user_ids).values())
    return [account for account in list_accounts(client) if account.account_class in ("operator", "admin")]


def leave(client: Client, user_ids: Sequence[str], *, unlisted: bool, dry_run: bool) -> Iterator[Departure]:
    """Make accounts leave, or with I(dry_run) say what would be done."""
    if dry_run:
        yield from (plan_departure(client, user_id) for user_id in user_ids)
    else:
        yield from leave_all_rooms(client, user_ids)
    if unlisted:
        yield from plan_unlisted(client) if dry_run else make_unlisted_leave(client)


def as_result(departure: Departure) -> dict[str, Any]:
    """What the module returns of one account."""
    return {
        "user_id": departure.user_id,
        "left": departure.left[:MAX_NAMES],
        "rejected": departure.rejected[:MAX_NAMES],
        "retracted": departure.retracted[:MAX_NAMES],
        "failed": with_reasons("room_id", departure.failed),
        "not_listed": departure.not_listed,
        "error": departure.error,
    }


def as_lines(departures: Iterable[Departure]) -> str:
    """The memberships before, for a diff."""
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


def problem(departures: Sequence[Departure], *, allow_broken_rooms: bool) -> str:
    """What each account could not leave, with the first reason; an empty text if all have left."""
    incomplete = [d for d in departures if d.error or not (allow_broken_rooms or d.complete)]
    if not incomplete:
        return ""
    reasons = "; ".join(f"{departure.user_id}: {_reason(departure)}" for departure in incomplete)
    repair = "Repair the rooms or set allow_broken_rooms" if any(d.failed for d in incomplete) else "Remove the cause"
    return f"Not all rooms were left. {reasons}. {repair}, then run again"


def _reason(departure: Departure) -> str:
    if departure.error:
        return departure.error
    if departure.failed:
        room_id, reason = next(iter(departure.failed.items()))
        return f"{len(departure.failed)} rooms, for example {room_id}: {reason}"
    return f"invites and knocks: {departure.not_listed}"


def main() -> None:
    module = SynapseModule(
        {
            "user_ids": {"type": "list", "elements": "str"},
            "unlisted": {"type": "bool", "default": False},
            "allow_broken_rooms": {"type": "bool", "default": False},
            "record_pending": {"type": "bool", "default": False},
            "concurrency": {"type": "int", "default": 4},
        },
        shows_progress=True,
    )
    params = module.params
    not_listed: dict[str, str] = {}
    departures: list[Departure] = []
    result: dict[str, Any] = {"broken_rooms": [], "broken_rooms_total": 0}
    error = None
    with module.client(changes=True) as client:
        accounts = find(client, params["user_ids"])
        try:
            if params["record_pending"] and not module.check_mode:
                recorder = Recorder(client)
                recorder.record_pending(accounts)
                not_listed = recorder.unlisted
            user_ids = [account.user_id for account in accounts]
            departures.extend(leave(client, user_ids, unlisted=params["unlisted"], dry_run=module.check_mode))
            failed = [departure.failed for departure in departures]
            result = broken_rooms_result(broken_rooms(failed, lambda room_id: is_federated(client, room_id)))
        except SynapseError as caught:
            error = caught
    result["changed"] = any(departure.changed for departure in departures)
    result["accounts"] = [as_result(departure) for departure in departures]
    for key in ("left", "rejected", "retracted"):
        result[f"{key}_total"] = sum(len(getattr(departure, key)) for departure in departures)
    result["diff"] = {"before": as_lines(departures), "after": ""}
    if params["record_pending"]:
        result["pending_unlisted"] = with_reasons("user_id", not_listed)
    message = str(error) if error else problem(departures, allow_broken_rooms=params["allow_broken_rooms"])
    module.end(result, message, error)


if __name__ == "__main__":
    main()
