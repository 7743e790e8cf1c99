#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_federation_info
short_description: Say what other servers have been told by a Synapse homeserver
version_added: 1.0.0
description:
  - A destination is another server that this one sends events to. The ledger says of each destination whether it has
    taken all that is meant for it.
  - V(delivered) means that the other server took the newest event of each room, and, as far as can be told, all before
    it. It has yet to act on them, and may first have to ask this server for events in between. Give it some time in
    which somebody of this server stays in the room.
  - V(pending) means that it has yet to take something, and may be about to.
  - V(unreachable) means that Synapse can't reach it, and waits before it tries again.
  - V(unknown) means that it can't be told from here. The ledger says why.
  - What Synapse has not looked at yet is not in the ledger. Rely on it once it has been the same, with the same
    RV(position), for several polls.
  - It can't see when a destination takes what it is sent and then refuses one of the events, except for a server ACL.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.info_module
options:
  destinations:
    description:
      - The names of the only servers that count. One that Synapse has never sent anything to is V(unknown).
      - By default all that Synapse has a record of, and all that O(look_for_others) finds.
    type: list
    elements: str
  ignore:
    description:
      - The names of servers that don't count, such as those that are being retired at the same time.
    type: list
    elements: str
    default: []
  rooms:
    description:
      - The IDs of the only rooms that count. By default all.
    type: list
    elements: str
  since:
    description:
      - The RV(position) that this module returned before the accounts began to leave.
      - A room that nobody of this server is in any more counts as V(unknown) for a destination, unless the destination
        had been told of everything before the last one left. It may have got no more than the newest event, see
        O(uninterrupted). Rooms in which nothing was sent after O(since) are exempt.
    type: int
    default: 0
  uninterrupted:
    description:
      - Set this only if it is certain that neither Synapse nor one of its federation senders was restarted after
        O(since).
      - What a destination is yet to be sent is in memory. After a restart, or when the back-off of a destination
        exceeds an hour, Synapse sends only the newest event of each room. With V(true), only the latter counts against
        rooms that nobody of this server is in any more.
    type: bool
    default: false
  look_for_others:
    description:
      - Look into the rooms that somebody of this server is in, for servers that Synapse has no record of, and for
        server ACLs that bar this server. That takes two requests per room that it shares with others.
      - It is done in polls that look at everything, see O(known).
    type: bool
    default: true
  known:
    description:
      - The RV(known) of the poll before, as it is. Then only those destinations are looked at that had not been told,
        or have failed or taken something since. That makes a poll cheap.
      - The first poll after the accounts have left must go without, since what was known while they were leaving is
        worth nothing.
      - When somebody of this server has left a room since, this looks at everything. It is noticed from Synapse's
        statistics, which follow within moments.
      - It is of no use, and not used, with another O(rooms) or O(since), or on another server.
    type: dict
  everything:
    description:
      - Look at all destinations, whatever is known. That takes one request for each.
      - What was sent without anybody leaving a room, and has not been taken, is noticed only so. Use it for the last
        poll before something that can't be undone.
    type: bool
    default: false
  concurrency:
    description:
      - How many requests to have under way at the same time, at most.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Who has been told?
  matrixops.synapse.synapse_federation_info:
    access_token: "{{ synapse_access_token }}"
  register: ledger

- name: Wait until nobody is about to be told
  matrixops.synapse.synapse_federation_info:
    access_token: "{{ synapse_access_token }}"
    since: "{{ ledger_before_the_accounts_left.position }}"
    ignore: "{{ servers_that_retire_too }}"
    known: "{{ poll.known | default({}) }}"
  register: poll
  until: poll.summary.pending == 0 and poll.summary.unknown == 0
  retries: 100
  delay: 30
"""

RETURN = r"""
summary:
  description:
    - How many destinations there are in each state (C(delivered), C(pending), C(unreachable), C(unknown)), in all of
      these (C(total)), and how many don't count (C(ignored)).
  returned: success
  type: dict
  sample: {"delivered": 214, "pending": 3, "unreachable": 12, "unknown": 1, "total": 230, "ignored": 2}
destinations:
  description: The destinations that are not C(delivered), by name; no more than 1,000 of them.
  returned: success
  type: list
  elements: dict
  contains:
    destination:
      description: The name of the server.
      type: str
    state:
      description: One of V(pending), V(unreachable) and V(unknown).
      type: str
    reason:
      description:
        - Why nothing more can be said, or V(none).
        - V(never_sent_to). It is in rooms of this server, or was named, but Synapse has never sent it anything.
        - V(never_taken). It has never taken an event. Either this is only beginning, or it is lost; after a restart,
          Synapse sends nothing to such a server before there is a new event.
        - V(not_queued). It is in these rooms, but Synapse has recorded nothing for it there. Either nobody has done
          anything there, or Synapse has not looked at it yet.
        - V(purged). It was behind in a room that Synapse has no record of any more, as after a purge. What was meant
          for it there may be lost. Only a poll with O(known) can see this.
        - V(no_rooms). Synapse has recorded nothing for it, in any room that counts. Rooms that were purged leave this
          behind.
        - V(left). Nobody of this server is in these rooms any more. It took the newest event, and may lack those
          before.
        - V(barred). A server ACL bars this server from these rooms. What it sends there is dropped.
        - V(unconfirmed). It took the newest event, but then could not be reached. An event may be left that was sent
          out of order.
      type: str
    rooms:
      description: The IDs of the rooms that it is behind in, or that the reason is about; no more than 5 of them.
      type: list
      elements: str
    rooms_total:
      description: How many rooms these are.
      type: int
    failing_since:
      description: Since when Synapse can't reach it, in seconds since 1970, or V(none).
      type: int
    next_retry:
      description:
        - When its back-off ends, in seconds since 1970, or V(none) if it is in none.
        - That does not mean that it is healthy. After a server has gone down, Synapse goes on trying for ten minutes or
          so before it records anything (C(retry_last_ts) stays 0). Until then, the server is V(pending).
      type: int
destinations_total:
  description: How many destinations are not C(delivered).
  returned: success
  type: int
rooms_behind:
  description: The rooms in RV(destinations), by ID; no more than 500 of them.
  returned: success
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    destinations:
      description: The names of the servers that it is about; no more than 5 of them.
      type: list
      elements: str
    destinations_total:
      description: How many servers these are.
      type: int
rooms_behind_total:
  description: How many rooms these are.
  returned: success
  type: int
position:
  description:
    - A number that grows with every event that Synapse sends, or is to send, to others. If accounts have left rooms
      that they shared with others, and this does not grow, then Synapse's federation sender does not run.
  returned: success
  type: int
looked_at:
  description: How many destinations were looked at.
  returned: success
  type: int
known:
  description: For O(known) of the next poll. It is small, and not meant to be read.
  returned: success
  type: dict
"""

from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._destinations import Ledger, as_rows, read_ledger
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule

SHOWN_ROOMS = 500
SHOWN_EACH = 5


def as_result(ledger: Ledger) -> dict[str, Any]:
    behind = ledger.rooms_behind
    return {
        "summary": ledger.summary,
        "destinations": as_rows(ledger),
        "destinations_total": len(ledger.open),
        "rooms_behind": [
            {"room_id": room_id, "destinations": names[:SHOWN_EACH], "destinations_total": len(names)}
            for room_id, names in sorted(behind.items())[:SHOWN_ROOMS]
        ],
        "rooms_behind_total": len(behind),
        "position": ledger.position,
        "looked_at": ledger.read,
        "known": ledger.known,
    }


def main() -> None:
    module = SynapseModule(
        {
            "destinations": {"type": "list", "elements": "str"},
            "ignore": {"type": "list", "elements": "str", "default": []},
            "rooms": {"type": "list", "elements": "str"},
            "since": {"type": "int", "default": 0},
            "uninterrupted": {"type": "bool", "default": False},
            "look_for_others": {"type": "bool", "default": True},
            "known": {"type": "dict"},
            "everything": {"type": "bool", "default": False},
            "concurrency": {"type": "int", "default": 8},
        }
    )
    options = ("destinations", "ignore", "rooms", "since", "uninterrupted", "look_for_others", "known", "everything")
    with module.client(connections=module.params["concurrency"]) as client:
        ledger = read_ledger(client, module.params["concurrency"], **{name: module.params[name] for name in options})
    module.exit_json(changed=False, **as_result(ledger))


if __name__ == "__main__":
    main()
