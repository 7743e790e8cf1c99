#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_user_deactivate
short_description: Deactivate accounts of a Synapse homeserver, and see that they leave their rooms
version_added: 1.0.0
description:
  - Makes many accounts leave the rooms that other servers are in, deactivates them, and waits until they have left the
    rooms that only this server is in.
  - When Synapse answers a deactivation with 200, the account is still in its rooms. Synapse makes it leave them later,
    one account after the other, and forgets a leave that fails. Therefore this module makes the accounts leave the
    federated rooms itself, many at the same time, before it deactivates the first, and checks each of them afterwards.
  - To do that, it logs in as each account with the admin API. These sessions have no device, and expire within an hour,
    should it not be possible to end them. Guests, locked accounts, and all accounts where login is delegated, leave
    only after they have been deactivated, by Synapse.
  - All accounts are looked at before the first is changed. If one does not exist, is of another server, or must not be
    deactivated, then nothing is changed.
  - B(This can't be undone.) An account that is deactivated can be opened again, but has lost its rooms, its password,
    its sessions and keys, and with O(erase=true) its profile.
  - A remote server that is down meanwhile may miss the leaves, and go on listing the accounts. See
    M(matrixops.synapse.synapse_propagation).
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
      - Before version 1.150 of Synapse, an account that is erased while Synapse makes it leave may join public rooms
        again. It is therefore erased once it has left all rooms, unless with O(wait_for=none).
    type: bool
    default: true
  allow_admins:
    description:
      - Whether admins may be among O(user_ids). The operator, whose access token this uses, may not in any case.
    type: bool
    default: false
  redact:
    description:
      - Before an account leaves its rooms, redact all that it has sent to them, on all servers of these rooms. That is
        its messages, and the joins, which have its display name; and not the state of the room, such as its name.
      - An account whose redaction fails as a whole stays open, since it can't be made up for later. So do locked ones,
        since nobody can be logged in to them.
      - B(Slow, and can't be undone.) It sends one more event for each message, see
        U(https://github.com/matrixops/synapse/blob/main/docs/synapse.md) for what that costs.
    type: bool
    default: false
  wait_for:
    description:
      - Which rooms to wait for the accounts to leave, also those accounts that were deactivated before.
      - V(all) waits for all rooms, V(federated) for those that other servers are in, and V(none) for no room.
    type: str
    choices: [all, federated, none]
    default: all
  wait_timeout:
    description:
      - For how many seconds nobody on the whole server must have left a room, before those who are still in one count
        as forgotten by Synapse. They are deactivated once more, which makes Synapse try again. If that does not help
        either, each is logged in to with the admin API, and leaves by hand.
      - There is no limit to how long the whole may take.
    type: int
    default: 60
  allow_broken_rooms:
    description:
      - Whether rooms that can't be left, such as those with a damaged state, fail the task. With V(true), they do not,
        and are returned in RV(broken_rooms).
      - All other accounts and rooms are dealt with in either case.
    type: bool
    default: false
  record_pending:
    description:
      - Whether to add the rooms that accounts are invited to, or knocking at, to the record of
        M(matrixops.synapse.synapse_federated_rooms), when they
        have left their federated rooms and before they are deactivated. Remote servers may go on listing them there.
      - For that, each account but guests is logged in to with the admin API. Its list of ignored users is empty for a
        moment, since Synapse hides the invites of those who are on it. Under delegated authentication, that is possible
        for the operator only.
    type: bool
    default: false
  max_passes:
    description:
      - With O(all_users=true), how often to list the accounts and deactivate those that are found, before giving up.
    type: int
    default: 5
  concurrency:
    description:
      - How many requests to have under way at the same time, at most. It starts with two, and goes on with as many as
        the server takes without being slow.
    type: int
    default: 8
  log_path:
    description:
      - A file, where the module runs, to append one line of JSON to for everything that happens to an account, as it
        happens. A line has C(time) (seconds since 1970), C(user_id), and C(result). This is C(left) or C(not left)
        (all federated rooms), C(deactivated), C(parted) (from all rooms), C(failed), C(not redacted), C(queued again),
        C(not queued again) or C(not parted). What was C(left) by the server's answer may be C(not left) when the module
        looks. Where it applies, a line also has C(rooms_left) (how many), C(not_left) and C(not_redacted) (IDs with
        reasons), C(rooms) (those that it is still in, with reasons) and C(error).
    type: path
  progress_path:
    description:
      - A file, where the module runs, that says how far it has come, written anew about once a second. Ansible itself
        sets this, to show the progress on the terminal.
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
left_federated:
  description: How many accounts were seen to leave the last of their federated rooms.
  returned: when the accounts could be looked at
  type: int
parted:
  description:
    - How many accounts were seen to leave the last of all their rooms, or to have none when they were deactivated.
      Those that had been deactivated before, but were in rooms until now, count too.
  returned: when the accounts could be looked at
  type: int
federated_left_after:
  description:
    - How many seconds from the start until the last account had left its last federated room; V(none) if not all have.
  returned: when the accounts could be looked at
  type: float
all_left_after:
  description: The same for all rooms; V(none) if not all have, or without O(wait_for=all).
  returned: when the accounts could be looked at
  type: float
failures:
  description: The accounts that could not be deactivated; no more than 1,000 of them.
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
failures_total:
  description: How many accounts could not be deactivated.
  returned: when the accounts could be looked at
  type: int
not_parted:
  description:
    - The accounts that are deactivated, but still in rooms that were waited for; no more than 1,000 of them.
  returned: when the accounts could be looked at
  type: list
  elements: dict
  contains:
    user_id:
      description: The account.
      type: str
    rooms:
      description: The rooms that it is still joined to, with the reason of each; no more than 10 of them.
      type: list
      elements: dict
      contains:
        room_id:
          description: The room ID.
          type: str
        reason:
          description: What the server said.
          type: str
not_parted_total:
  description: How many accounts are deactivated, but still in rooms that were waited for.
  returned: when the accounts could be looked at
  type: int
broken_rooms:
  description:
    - The rooms that the accounts in RV(not_parted) could not be made to leave, whatever was tried; no more than 1,000
      of them. Not those that an account came back to.
  returned: when the accounts could be looked at
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
      description: How many of the accounts are in the room.
      type: int
    federated:
      description: Whether other servers are in the room, or may be.
      type: bool
broken_rooms_total:
  description: How many such rooms there are.
  returned: when the accounts could be looked at
  type: int
not_redacted:
  description:
    - The accounts with events that could not be redacted; no more than 1,000 of them. O(log_path) has the reasons.
  returned: with O(redact=true), when the accounts could be looked at
  type: list
  elements: dict
  contains:
    user_id:
      description: The account.
      type: str
    events:
      description: How many of its events could not be redacted.
      type: int
    reason:
      description: What the server said of the first.
      type: str
proof:
  description: What is known of who is in rooms, and how.
  returned: unless O(wait_for=none), when not in check mode
  type: dict
  contains:
    parted:
      description:
        - How many accounts were seen to be in none of the rooms that were waited for, each by itself, after they had
          been deactivated.
      type: int
    read:
      description: The endpoint of the admin API that said so. It is exact, other than the lists of rooms.
      type: str
    requests:
      description: How many requests to it that took, the polls included.
      type: int
pending_unlisted:
  description:
    - The accounts whose invites and knocks could not be listed, with the C(reason) of each; no more than 1,000 of them.
  returned: with O(record_pending=true)
  type: list
  elements: dict
passes:
  description: How often the accounts were listed and anything was done.
  returned: when the accounts could be looked at
  type: int
elapsed:
  description: How many seconds it all took.
  returned: when the accounts could be looked at
  type: float
timeline:
  description:
    - How it went, in no more than 100 points. Each is a list of how many seconds had passed, and how many accounts had
      been deactivated and had left all rooms by then, in this run.
  returned: when not in check mode
  type: list
  elements: list
  sample: [[0.0, 0, 0], [12.3, 120, 114], [50.1, 488, 488]]
rate:
  description: How many accounts per second were deactivated and had left the rooms that were waited for.
  returned: when the accounts could be looked at
  type: float
"""

import time
from itertools import islice
from typing import Any, Sequence

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.federated_rooms import record_pending
from ansible_collections.matrixops.synapse.plugins.module_utils._drain import Drain, Options, drain
from ansible_collections.matrixops.synapse.plugins.module_utils._journal import Journal
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._rooms import (
    JOINED_ROOMS,
    MOST_NAMES,
    broken_rooms_result,
    with_reasons,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._users import Account

MOST_ROOMS = 10


def as_result(outcome: Drain, elapsed: float) -> dict[str, Any]:
    return {
        "changed": bool(outcome.closed or outcome.left or outcome.parted),
        "deactivated": len(outcome.closed),
        "unchanged": outcome.unchanged,
        "left_federated": outcome.left,
        "parted": outcome.parted,
        "federated_left_after": _rounded(outcome.federated_left_after),
        "all_left_after": _rounded(outcome.all_left_after),
        "failures": with_reasons("user_id", outcome.failed),
        "failures_total": len(outcome.failed),
        "not_parted": [
            {"user_id": user_id, "rooms": with_reasons("room_id", rooms, MOST_ROOMS)}
            for user_id, rooms in islice(outcome.not_parted.items(), MOST_NAMES)
        ],
        "not_parted_total": len(outcome.not_parted),
        **broken_rooms_result(outcome.broken),
        "passes": outcome.passes,
        "elapsed": _rounded(elapsed),
        "rate": round(len(outcome.closed) / elapsed, 2) if elapsed else 0.0,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def as_diff(outcome: Drain, erase: bool) -> dict[str, str]:
    after = "erased" if erase else "deactivated"
    return {
        "before": "".join(f"{user_id} {state}\n" for user_id, state in sorted(outcome.closed.items())),
        "after": "".join(f"{user_id} {after}\n" for user_id in sorted(outcome.closed)),
    }


def problem(outcome: Drain, *, allow_broken_rooms: bool) -> str:
    """What went wrong, and what to do about it; empty if nothing did."""
    if outcome.aborted is not None:
        return f"Stopped after {len(outcome.closed)} accounts: {outcome.aborted}. Run this again to go on."
    told = []
    if outcome.failed:
        user_id, reason = next(iter(outcome.failed.items()))
        told.append(f"{len(outcome.failed)} accounts could not be deactivated, such as {user_id}: {reason}.")
    excused = outcome.broken.keys() if allow_broken_rooms else set()
    not_parted = {user_id: rooms for user_id, rooms in outcome.not_parted.items() if not rooms.keys() <= excused}
    if not_parted:
        user_id, rooms = next(iter(not_parted.items()))
        room_id, reason = next(iter(rooms.items()))
        told.append(
            f"{len(not_parted)} accounts are deactivated but still in rooms, such as {user_id} in {room_id}: {reason}."
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
            "redact": {"type": "bool", "default": False},
            "wait_for": {"type": "str", "choices": ["all", "federated", "none"], "default": "all"},
            "wait_timeout": {"type": "int", "default": 60},
            "allow_broken_rooms": {"type": "bool", "default": False},
            "record_pending": {"type": "bool", "default": False},
            "max_passes": {"type": "int", "default": 5, "no_log": False},
            "concurrency": {"type": "int", "default": 8},
            "log_path": {"type": "path"},
            "progress_path": {"type": "path"},
        }
    )
    params = module.params
    if params["all_users"] is (params["user_ids"] is not None):
        module.fail_json(msg="Nothing was changed: set either user_ids or all_users=true.")
    options = Options(
        erase=params["erase"],
        redact=params["redact"],
        wait_for=params["wait_for"],
        wait_timeout=params["wait_timeout"],
        max_passes=params["max_passes"],
        concurrency=params["concurrency"],
    )
    paths = (None, None) if module.check_mode else (params["log_path"], params["progress_path"])
    unlisted: dict[str, str] = {}
    started = time.monotonic()
    with module.client(connections=params["concurrency"], changes=True) as client, Journal(*paths) as journal:

        def record(accounts: Sequence[Account]) -> None:
            unlisted.update(record_pending(client, accounts, params["concurrency"]))

        outcome = drain(
            client,
            params["user_ids"],
            options,
            journal,
            keep=params["keep"],
            allow_admins=params["allow_admins"],
            before_deactivation=record if params["record_pending"] else None,
            dry_run=module.check_mode,
        )
    result = as_result(outcome, time.monotonic() - started)
    if not module.check_mode:
        result["timeline"] = journal.timeline
    if options.redact:
        result["not_redacted"] = [
            {"user_id": user_id, "events": events, "reason": reason}
            for user_id, (events, reason) in islice(outcome.not_redacted.items(), MOST_NAMES)
        ]
    if params["record_pending"]:
        result["pending_unlisted"] = with_reasons("user_id", unlisted)
    if options.wait_for != "none" and not module.check_mode:
        result["proof"] = {"parted": outcome.proven, "read": f"GET {JOINED_ROOMS}", "requests": outcome.reads}
    if module._diff:  # it has every name
        result["diff"] = as_diff(outcome, options.erase)
    module.end(result, problem(outcome, allow_broken_rooms=params["allow_broken_rooms"]), outcome.aborted)


if __name__ == "__main__":
    main()
