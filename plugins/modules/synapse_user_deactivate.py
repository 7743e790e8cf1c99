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
  - Other servers may miss what happens in the last moments of a room that nobody of this server stays in, and go on
    showing those who left. For rooms that other servers are in, see M(matrixops.synapse.synapse_anchors) first.
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
        again. With O(wait=true), it is therefore erased once it has left; with O(wait=false), at once.
    type: bool
    default: true
  allow_admins:
    description:
      - Whether admins may be among O(user_ids). The operator, whose access token this uses, may not in any case.
    type: bool
    default: false
  strategy:
    description:
      - With V(leave), each account but guests is logged in to with the admin API, leaves its rooms, and is then
        deactivated, many at the same time. What that misses is left to Synapse. Under delegated authentication, where
        nobody can be logged in to, that is everything.
      - With V(deactivate), the accounts are only deactivated, and Synapse makes them leave their rooms afterwards, one
        account and one room after the other. That takes longer, above all on PostgreSQL.
      - Other servers see the same either way. On this one, in the database, with V(leave) the join events in the old
        history of a room keep the display name that the account had, which V(deactivate) together with O(erase=true)
        removes (as of Synapse 1.150). No client is shown them, since an erased account's events are hidden.
    type: str
    choices: [deactivate, leave]
    default: leave
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
      - How many requests to have under way at the same time, at most. It starts with two, and goes on with as many as
        the server takes without being slow.
    type: int
    default: 8
  log_path:
    description:
      - A file, where the module runs, to append one line of JSON to for everything that happens to an account, as it
        happens. A line has C(time) (seconds since 1970), C(user_id), and C(result), which is C(deactivated), C(parted),
        C(failed), C(queued again), C(not queued again) or C(not parted). Where it applies, it also has C(rooms_left)
        (how many), C(not_left) and C(not_redacted) (IDs with reasons), C(rooms) (those that it is still in, with
        reasons) and C(error).
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
parted:
  description:
    - How many accounts were seen to leave their rooms, or to have none when they were deactivated. Those that had been
      deactivated before, but were in rooms until now, count too.
  returned: when the accounts could be looked at
  type: int
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
  description: The accounts that are deactivated, but still in rooms; no more than 1,000 of them.
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
  description: How many accounts are deactivated, but still in rooms.
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
  returned: with O(wait=true), when not in check mode
  type: dict
  contains:
    parted:
      description: How many accounts were seen to be in no room, each by itself, after they had been deactivated.
      type: int
    read:
      description: The endpoint of the admin API that said so. It is exact, other than the lists of rooms.
      type: str
    requests:
      description: How many requests to it that took, the polls included.
      type: int
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
      been deactivated and had parted by then, in this run.
  returned: when not in check mode
  type: list
  elements: list
  sample: [[0.0, 0, 0], [12.3, 120, 114], [50.1, 488, 488]]
rate:
  description: How many accounts per second were deactivated and, with O(wait=true), seen out of their rooms.
  returned: when the accounts could be looked at
  type: float
"""

import time
from itertools import islice
from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._drain import Drain, Options, drain
from ansible_collections.matrixops.synapse.plugins.module_utils._journal import Journal
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._rooms import JOINED_ROOMS

MOST_NAMES = 1000
"""How many accounts a list of the result names: a server may have 200,000."""
MOST_ROOMS = 10


def as_result(outcome: Drain, elapsed: float) -> dict[str, Any]:
    return {
        "changed": bool(outcome.closed or outcome.parted),
        "deactivated": len(outcome.closed),
        "unchanged": outcome.unchanged,
        "parted": outcome.parted,
        "failures": [
            {"user_id": user_id, "reason": reason} for user_id, reason in islice(outcome.failed.items(), MOST_NAMES)
        ],
        "failures_total": len(outcome.failed),
        "not_parted": [
            {
                "user_id": user_id,
                "rooms": [
                    {"room_id": room_id, "reason": reason} for room_id, reason in islice(rooms.items(), MOST_ROOMS)
                ],
            }
            for user_id, rooms in islice(outcome.not_parted.items(), MOST_NAMES)
        ],
        "not_parted_total": len(outcome.not_parted),
        "passes": outcome.passes,
        "elapsed": round(elapsed, 3),
        "rate": round(len(outcome.closed) / elapsed, 2) if elapsed else 0.0,
    }


def as_diff(outcome: Drain, erase: bool) -> dict[str, str]:
    after = "erased" if erase else "deactivated"
    return {
        "before": "".join(f"{user_id} {state}\n" for user_id, state in sorted(outcome.closed.items())),
        "after": "".join(f"{user_id} {after}\n" for user_id in sorted(outcome.closed)),
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
            "strategy": {"type": "str", "choices": ["deactivate", "leave"], "default": "leave"},
            "redact": {"type": "bool", "default": False},
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int", "default": 60},
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
        leave_first=params["strategy"] == "leave",
        wait=params["wait"],
        wait_timeout=params["wait_timeout"],
        max_passes=params["max_passes"],
        concurrency=params["concurrency"],
    )
    paths = (None, None) if module.check_mode else (params["log_path"], params["progress_path"])
    started = time.monotonic()
    with module.client(connections=params["concurrency"], changes=True) as client, Journal(*paths) as journal:
        outcome = drain(
            client,
            params["user_ids"],
            options,
            journal,
            keep=params["keep"],
            allow_admins=params["allow_admins"],
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
    if options.wait and not module.check_mode:
        result["proof"] = {"parted": outcome.proven, "read": f"GET {JOINED_ROOMS}", "requests": outcome.reads}
    if module._diff:  # it has every name
        result["diff"] = as_diff(outcome, options.erase)
    module.end(result, problem(outcome), outcome.aborted)


if __name__ == "__main__":
    main()
