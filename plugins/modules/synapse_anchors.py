#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_anchors
short_description: Keep accounts of a Synapse homeserver in federated rooms until the other servers have been told
version_added: 1.0.0
description:
  - An anchor is an account that stays in a federated room while all others leave it. A server that was down meanwhile
    asks this one for the events that it missed, and is answered only while somebody of this server is in the room.
    Without an anchor, it may show those who left as members for good.
  - The anchors are recorded in the account data of the operator, under the type
    C(io.github.matrixops.decommission.anchors), before anything is done to them. Run again, from anywhere, this module
    goes on with the same anchors. There is no record for another operator.
  - Without O(state), it only reads. Check mode is of no use then.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
attributes:
  check_mode:
    support: partial
    details:
      - Logs in as nobody, so that invites from other servers are not seen, except those of the operator.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - With V(chosen), each room that other servers are in has an anchor, if there is anybody to be one. The fewest
        accounts that will do are chosen. Admins and O(keep) come first, then ordinary accounts, then suspended and
        shadow-banned ones, then locked ones. Guests, and the accounts of application services, are none.
      - An anchor that is neither an admin nor in O(keep) is logged out everywhere and locked. Sessions that an admin
        has opened as the account with the admin API are not ended, but are of no use while it is locked.
      - All anchors leave the rooms that they don't anchor, turn down invites and take back knocks.
      - Whoever anchors a room goes on with it. If an anchor was kicked, banned or deactivated, or has left, another
        account takes its place, if there is one in the room; otherwise the room is lost.
      - Rooms in which a server ACL bars this server need no anchor, since the others drop what it sends there.
      - With V(released), the anchors leave O(rooms). A locked one is unlocked for that moment. Those that anchor no
        room any more, and are neither admins nor in O(keep), are deactivated, and seen out of every room.
    type: str
    choices: [chosen, released]
  rooms:
    description:
      - With O(state=released), the IDs of the rooms to leave. By default all.
      - Those that have no anchor are left alone.
    type: list
    elements: str
  keep:
    description:
      - Accounts that stay open, as the admins do.
    type: list
    elements: str
    default: []
  ignore:
    description:
      - With O(state=chosen), the names of servers that need not be told, such as those that retire at the same time.
        Rooms without any other server need no anchor.
    type: list
    elements: str
    default: []
  erase:
    description:
      - Whether anchors that are closed are also marked as erased, as by M(matrixops.synapse.synapse_user_deactivate).
    type: bool
    default: true
  wait_timeout:
    description:
      - When anchors are closed, for how many seconds nobody on the whole server must have left a room, before those
        who are still in one count as forgotten by Synapse, see M(matrixops.synapse.synapse_user_deactivate).
    type: int
    default: 60
  concurrency:
    description:
      - How many requests to have under way at the same time, at most.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Keep an anchor in each federated room
  matrixops.synapse.synapse_anchors:
    access_token: "{{ synapse_access_token }}"
    state: chosen
  register: anchors

- name: Which rooms are anchored?
  matrixops.synapse.synapse_anchors:
    access_token: "{{ synapse_access_token }}"

- name: The servers in these rooms have been told
  matrixops.synapse.synapse_anchors:
    access_token: "{{ synapse_access_token }}"
    state: released
    rooms:
      - "!OGEhHVWSdvArJzumhm:example.org"

- name: The time is up
  matrixops.synapse.synapse_anchors:
    access_token: "{{ synapse_access_token }}"
    state: released
"""

RETURN = r"""
user_ids:
  description:
    - All accounts that anchor rooms. They must not be deactivated, nor made to leave rooms, by anything else, so they
      belong in O(matrixops.synapse.synapse_user_deactivate#module:keep).
  returned: when the rooms could be looked at
  type: list
  elements: str
anchors:
  description: The anchors, with their rooms; no more than 100 of them.
  returned: when the rooms could be looked at
  type: list
  elements: dict
  contains:
    user_id:
      description: The account.
      type: str
    class:
      description: One of V(operator), V(admin), V(appservice) and V(user).
      type: str
    stays:
      description: Whether it stays open, as an admin, or since it is to be kept. The others are locked, and closed.
      type: bool
    rooms:
      description: The IDs of the rooms that it anchors; no more than 100 of them.
      type: list
      elements: str
    rooms_total:
      description: How many rooms these are.
      type: int
rooms_total:
  description: How many rooms have an anchor.
  returned: when the rooms could be looked at
  type: int
lost:
  description:
    - The rooms that have lost their anchor, and that no other account of this server could anchor; no more than 1,000
      of them. Servers that were not told by then may go on showing those who left.
    - Unless O(state=chosen), rooms that have just lost it are among them, also if somebody could take its place.
  returned: when the rooms could be looked at
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    user_id:
      description: The account that anchored it.
      type: str
    reason:
      description: Why it does not any more.
      type: str
lost_total:
  description: How many rooms these are.
  returned: when the rooms could be looked at
  type: int
replaced:
  description: The rooms whose anchor was replaced; no more than 1,000 of them.
  returned: when the rooms could be looked at
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    user_id:
      description: The account that anchored it.
      type: str
    reason:
      description: Why it does not any more.
      type: str
    replacement:
      description: The account that does instead.
      type: str
replaced_total:
  description: How many rooms these are.
  returned: when the rooms could be looked at
  type: int
unanchored:
  description: The rooms that need an anchor, but have nobody who could be one; no more than 1,000 of them.
  returned: with O(state=chosen), when the rooms could be looked at
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    reason:
      description:
        - Who is in it, that is, V(appservice), V(guest), V(deactivated), or V(unlisted), who are in no listing of
          accounts.
      type: str
unanchored_total:
  description: How many rooms these are.
  returned: with O(state=chosen), when the rooms could be looked at
  type: int
barred:
  description: How many rooms need no anchor because a server ACL bars this server.
  returned: with O(state=chosen), when the rooms could be looked at
  type: int
held:
  description: How many accounts were logged out everywhere and locked.
  returned: when the rooms could be looked at
  type: int
left:
  description: How many rooms, invites and knocks the anchors gave up that they don't anchor.
  returned: when the rooms could be looked at
  type: int
released:
  description: How many rooms their anchors left.
  returned: when the rooms could be looked at
  type: int
closed:
  description: How many anchors were deactivated or erased.
  returned: when the rooms could be looked at
  type: int
failures:
  description: What could not be done; no more than 1,000 of these. Run the module again.
  returned: when the rooms could be looked at
  type: list
  elements: dict
  contains:
    user_id:
      description: The account.
      type: str
    room_id:
      description: The room that it could not leave, or V(none) if it is about the account.
      type: str
    reason:
      description: What the server said.
      type: str
failures_total:
  description: How many these are.
  returned: when the rooms could be looked at
  type: int
"""

from itertools import islice
from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._anchors import (
    Anchors,
    Loss,
    Options,
    Record,
    choose,
    read,
    release,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule

MOST_ANCHORS = 100
MOST_ROOMS = 100
"""How many rooms of an anchor the result names."""
SHOWN = 1000
"""How many rooms, or failures, a list of the result names."""


def as_result(outcome: Anchors) -> dict[str, Any]:
    record = outcome.record
    return {
        "changed": outcome.changed,
        "user_ids": record.anchoring,
        "anchors": [
            {
                "user_id": user_id,
                "class": outcome.classes[user_id],
                "stays": user_id in record.staying,
                "rooms": record.anchors[user_id][:MOST_ROOMS],
                "rooms_total": len(record.anchors[user_id]),
            }
            for user_id in record.anchoring[:MOST_ANCHORS]
        ],
        "rooms_total": len(record.rooms),
        "lost": as_list(outcome.lost, "user_id", "reason"),
        "lost_total": len(outcome.lost),
        "replaced": as_list(outcome.replaced, "user_id", "reason", "replacement"),
        "replaced_total": len(outcome.replaced),
        "held": len(outcome.held),
        "left": sum(outcome.left.values()),
        "released": len(outcome.released),
        "closed": len(outcome.closed),
        "failures": [
            {"user_id": user_id, "room_id": room_id, "reason": reason}
            for user_id, room_id, reason in outcome.failed[:SHOWN]
        ],
        "failures_total": len(outcome.failed),
    }


def as_list(losses: dict[str, Loss], *fields: str) -> list[dict[str, Any]]:
    return [
        {"room_id": room_id, **{name: getattr(loss, name) for name in fields}}
        for room_id, loss in islice(sorted(losses.items()), SHOWN)
    ]


def as_lines(record: Record) -> str:
    return "".join(f"{user_id} {room_id}\n" for user_id in record.anchoring for room_id in record.anchors[user_id])


def problem(outcome: Anchors) -> str:
    """What went wrong; empty if nothing did."""
    if outcome.aborted is not None:
        return f"Stopped: {outcome.aborted}. Run this again to go on."
    if outcome.failed:
        user_id, room_id, reason = outcome.failed[0]
        where = f" in {room_id}" if room_id else ""
        failures = f"{len(outcome.failed)} failures"
        return f"Not everything could be done ({failures}), such as for {user_id}{where}: {reason}. Run this again."
    return ""


def main() -> None:
    module = SynapseModule(
        {
            "state": {"type": "str", "choices": ["chosen", "released"]},
            "rooms": {"type": "list", "elements": "str"},
            "keep": {"type": "list", "elements": "str", "default": []},
            "ignore": {"type": "list", "elements": "str", "default": []},
            "erase": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int", "default": 60},
            "concurrency": {"type": "int", "default": 8},
        }
    )
    params = module.params
    if params["rooms"] is not None and params["state"] != "released":
        module.fail_json(msg="Nothing was changed: rooms goes with state=released only.")
    options = Options(
        keep=frozenset(params["keep"]),
        ignore=frozenset(params["ignore"]),
        erase=params["erase"],
        wait_timeout=params["wait_timeout"],
        concurrency=params["concurrency"],
    )
    with module.client(connections=params["concurrency"], changes=params["state"] is not None) as client:
        if params["state"] == "chosen":
            outcome = choose(client, options, dry_run=module.check_mode)
        elif params["state"] == "released":
            outcome = release(client, params["rooms"], options, dry_run=module.check_mode)
        else:
            outcome = read(client, params["concurrency"])
    result = as_result(outcome)
    if params["state"] == "chosen":
        result["unanchored"] = [
            {"room_id": room_id, "reason": reason} for room_id, reason in islice(outcome.unanchored.items(), SHOWN)
        ]
        result["unanchored_total"] = len(outcome.unanchored)
        result["barred"] = outcome.barred
    if module._diff:  # it has every room
        result["diff"] = {"before": as_lines(outcome.before), "after": as_lines(outcome.record)}
    module.end(result, problem(outcome), outcome.aborted)


if __name__ == "__main__":
    main()
