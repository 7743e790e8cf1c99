#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_propagation
short_description: Wait until other servers have been told that the accounts of a Synapse homeserver have left
version_added: 1.0.0
description:
  - Has the anchors join their rooms once more, see RV(rejoined), looks at what other servers have been told, lets the
    anchors leave the rooms whose servers have all been told, and now and then ends the back-off of servers that can't
    be reached. At the end of O(period), all anchors leave, and are closed.
  - What the next look must know is in the account data of the operator, under the type
    C(io.github.matrixops.decommission.propagation), and so is when it all began, by
    M(matrixops.synapse.synapse_decommission_state). A run that is stopped at any point can be followed by another one
    from anywhere.
  - With O(wait), Ansible itself waits, on the controller, and runs the module on the host for each look. Between two of
    them there is no connection. A look that fails, since the host can't be reached or the homeserver does not answer,
    is followed by another one, for up to six hours; but the first must not fail.
  - A host that waits takes up one of Ansible's forks.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
attributes:
  check_mode:
    support: full
    details:
      - Looks once, and does not wait.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  state:
    description:
      - With V(begun), only notes where the ledger stands, unless that is noted. This must be done before the first
        account leaves, since it is what tells those events that count from older ones.
    type: str
    choices: [begun, ended]
    default: ended
  period:
    description:
      - How long the other servers have, in seconds from when the first wave ended, as it is recorded.
      - Required with O(state=ended).
    type: int
  wait:
    description:
      - Whether to wait until there is nothing more to wait for. Otherwise looks once, does what is due, and says in how
        many seconds to come again.
      - It is Ansible that waits, and not the module, so that this is of use in a task only.
    type: bool
    default: true
  early_exit:
    description:
      - Don't wait for the end of O(period) once all servers but those that can't be reached have been told, and that
        has been so for O(settling) seconds. Servers that can't be reached, and come back later, may then go on showing
        accounts of this one for good.
    type: bool
    default: false
  settling:
    description:
      - How many seconds a server has to act on what it has taken, and to ask for what it lacks, before the anchor
        leaves the room.
    type: int
    default: 60
  last_leaves_timeout:
    description:
      - When the anchors have left, for how many seconds to wait for servers that have not taken that yet, but may. A
        server that goes down is not known to be for ten minutes or so.
    type: int
    default: 900
  nudge_interval:
    description:
      - How often to end the back-offs of the servers that can't be reached, in seconds; V(0) for never. Synapse's own
        go up to a week, and after an hour it forgets what it was to send.
      - Also how often anchors may join a room once more for servers that were never reached, see RV(rejoined).
    type: int
    default: 1800
  poll_interval:
    description:
      - The shortest time between two looks, in seconds. The longer nothing changes, the longer it gets, up to ten
        minutes.
    type: int
    default: 30
  everything:
    description:
      - Look at all destinations, whatever was known before. Use it for a last look before something that can't be
        undone.
    type: bool
    default: false
  clock:
    description:
      - The time in seconds since 1970, by another clock than the homeserver's. If the two differ by more than five
        minutes, nothing is done.
      - In a task, the controller's clock is taken.
    type: int
  keep:
    description:
      - Accounts that stay open, as the admins do.
    type: list
    elements: str
    default: []
  ignore:
    description:
      - The names of servers that don't count, such as those that are being retired at the same time.
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
seealso:
  - module: matrixops.synapse.synapse_anchors
  - module: matrixops.synapse.synapse_federation_info
"""

EXAMPLES = r"""
- name: Before anybody leaves
  matrixops.synapse.synapse_propagation:
    access_token: "{{ synapse_access_token }}"
    state: begun

- name: Give the other servers a week
  matrixops.synapse.synapse_propagation:
    access_token: "{{ synapse_access_token }}"
    period: 604800

- name: See how things stand, and do what is due
  matrixops.synapse.synapse_propagation:
    access_token: "{{ synapse_access_token }}"
    period: 604800
    wait: false
  register: propagation
"""

RETURN = r"""
message:
  description: How things stand, for a person.
  returned: with O(state=ended), on success
  type: str
  sample: 214 of 230 servers told; 3 pending; 13 unreachable, 9 of them for more than 30 days; 12 rooms still anchored;
    ends 2026-11-30 14:00:00 UTC
finished:
  description: Whether there is nothing more to wait for.
  returned: with O(state=ended), on success
  type: bool
early:
  description: Whether the end is by O(early_exit).
  returned: with O(state=ended), on success
  type: bool
next_poll:
  description: In how many seconds to come again; 0 if there is no need.
  returned: with O(state=ended), on success
  type: int
now:
  description: The time by the homeserver's clock, in seconds since 1970.
  returned: with O(state=ended), on success
  type: int
ends:
  description: When the period is over, in seconds since 1970.
  returned: with O(state=ended), on success
  type: int
second_wave_ended:
  description: When the last anchor left its last room, in seconds since 1970, or V(none).
  returned: with O(state=ended), on success
  type: int
summary:
  description: As of M(matrixops.synapse.synapse_federation_info).
  returned: with O(state=ended), on success
  type: dict
destinations:
  description: As of M(matrixops.synapse.synapse_federation_info). Those that have not been told.
  returned: with O(state=ended), on success
  type: list
  elements: dict
destinations_total:
  description: How many destinations have not been told.
  returned: with O(state=ended), on success
  type: int
anchored:
  description: The rooms that have an anchor; no more than 1,000 of them, those that wait for somebody first.
  returned: with O(state=ended), on success
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    anchor:
      description: The account that stays in it.
      type: str
    waiting_for:
      description: The servers that have not been told; no more than 5 of them.
      type: list
      elements: str
    waiting_for_total:
      description: How many servers these are.
      type: int
anchored_total:
  description: How many rooms these are.
  returned: with O(state=ended), on success
  type: int
history:
  description:
    - How it went, in no more than 200 points, as it is kept on the homeserver. Each is a list of the time in seconds
      since 1970, how many destinations were V(delivered), V(pending), V(unreachable) and V(unknown), and how many rooms
      had an anchor, and stands until the next one. The last look may be later than the last point.
  returned: with O(state=ended), on success
  type: list
  elements: list
  sample: [[1795416420, 0, 40, 0, 0, 12], [1795416450, 38, 0, 2, 0, 3]]
lost:
  description: The rooms that have lost their anchor, see M(matrixops.synapse.synapse_anchors); no more than 1,000.
  returned: with O(state=ended), on success
  type: list
  elements: dict
lost_total:
  description: How many rooms these are.
  returned: with O(state=ended), on success
  type: int
released:
  description: How many rooms their anchors left.
  returned: with O(state=ended), on success
  type: int
closed:
  description: How many anchors were deactivated.
  returned: with O(state=ended), on success
  type: int
nudged:
  description: How many back-offs were ended.
  returned: with O(state=ended), on success
  type: int
rejoined:
  description:
    - In how many rooms the anchors joined once more, which changes nothing there, but makes Synapse send something.
    - Each does so once after the first wave. Servers that have taken that ask for what they lack, should Synapse have
      lost a leave, and the room counts as told only then.
    - Later on, that is for servers that were never reached before Synapse was restarted, and that it would not tell
      otherwise.
  returned: with O(state=ended), on success
  type: int
failures:
  description: What could not be done, see M(matrixops.synapse.synapse_anchors); no more than 1,000 of these.
  returned: with O(state=ended), on success
  type: list
  elements: dict
"""

from itertools import islice
from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._anchors import Options as AnchorOptions
from ansible_collections.matrixops.synapse.plugins.module_utils._destinations import as_rows
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._propagation import (
    Options,
    Poll,
    begin,
    message,
    poll,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._server import check_clock, date

SHOWN = 1000
SHOWN_EACH = 5


def as_result(outcome: Poll) -> dict[str, Any]:
    rooms = sorted(outcome.anchored, key=lambda room_id: (room_id not in outcome.waiting, room_id))
    return {
        "changed": outcome.changed,
        "message": message(outcome, date(outcome.ends)),
        "finished": outcome.finished,
        "early": outcome.early,
        "next_poll": outcome.next_poll,
        "now": outcome.now,
        "ends": outcome.ends,
        "second_wave_ended": outcome.second_wave_ended,
        "summary": outcome.ledger.summary,
        "destinations": as_rows(outcome.ledger),
        "destinations_total": len(outcome.ledger.open),
        "anchored": [
            {
                "room_id": room_id,
                "anchor": outcome.anchored[room_id],
                "waiting_for": outcome.waiting.get(room_id, [])[:SHOWN_EACH],
                "waiting_for_total": len(outcome.waiting.get(room_id, [])),
            }
            for room_id in rooms[:SHOWN]
        ],
        "anchored_total": len(outcome.anchored),
        "history": outcome.history,
        "lost": [
            {"room_id": room_id, "user_id": loss.user_id, "reason": loss.reason}
            for room_id, loss in islice(sorted(outcome.lost.items()), SHOWN)
        ],
        "lost_total": len(outcome.lost),
        "released": len(outcome.released),
        "closed": len(outcome.closed),
        "nudged": outcome.nudged,
        "rejoined": outcome.rejoined,
        "failures": [
            {"user_id": user_id, "room_id": room_id, "reason": reason}
            for user_id, room_id, reason in outcome.failed[:SHOWN]
        ],
    }


def problem(outcome: Poll) -> str:
    if not outcome.failed:
        return ""
    user_id, room_id, reason = outcome.failed[0]
    where = f" in {room_id}" if room_id else ""
    failures = f"{len(outcome.failed)} failures"
    return f"Not everything could be done ({failures}), such as for {user_id}{where}: {reason}. Run this again"


def main() -> None:
    module = SynapseModule(
        {
            "state": {"type": "str", "choices": ["begun", "ended"], "default": "ended"},
            "period": {"type": "int"},
            "wait": {"type": "bool", "default": True},
            "early_exit": {"type": "bool", "default": False},
            "settling": {"type": "int", "default": 60},
            "last_leaves_timeout": {"type": "int", "default": 900},
            "nudge_interval": {"type": "int", "default": 1800},
            "poll_interval": {"type": "int", "default": 30},
            "everything": {"type": "bool", "default": False},
            "clock": {"type": "int"},
            "keep": {"type": "list", "elements": "str", "default": []},
            "ignore": {"type": "list", "elements": "str", "default": []},
            "erase": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int", "default": 60},
            "concurrency": {"type": "int", "default": 8},
        },
        required_if=[("state", "ended", ["period"])],
    )
    params = module.params
    for option in ("period", "settling", "last_leaves_timeout", "nudge_interval"):
        if (params[option] or 0) < 0:
            module.fail_json(msg=f"Nothing was changed: {option} is {params[option]}, but must be 0 or more.")
    with module.client(connections=params["concurrency"], changes=True) as client:
        if params["clock"] is not None:
            check_clock(client, params["clock"])
        if params["state"] == "begun":
            module.exit_json(changed=begin(client, params["concurrency"], dry_run=module.check_mode))
        options = Options(
            period=params["period"],
            settling=params["settling"],
            last_leaves=params["last_leaves_timeout"],
            nudge=params["nudge_interval"],
            pause=params["poll_interval"],
            early_exit=params["early_exit"],
            anchors=AnchorOptions(
                keep=frozenset(params["keep"]),
                ignore=frozenset(params["ignore"]),
                erase=params["erase"],
                wait_timeout=params["wait_timeout"],
                concurrency=params["concurrency"],
            ),
        )
        outcome = poll(client, options, everything=params["everything"], dry_run=module.check_mode)
    module.end(as_result(outcome), problem(outcome))


if __name__ == "__main__":
    main()
