#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_propagation
short_description: Remove ghosts from remote servers until all of them have confirmed
version_added: 1.0.0
description:
  - Checks whether remote servers still list accounts of the homeserver, in each room that
    M(matrixops.synapse.synapse_federated_rooms) has recorded or that Synapse knows. Removes these ghosts on the remote
    servers, as M(matrixops.synapse.matrix_ghosts) does.
  - Polls servers that have not confirmed with backoff, from O(poll_interval) up to an hour, until O(period) is over.
  - Records the results on the homeserver. A run that was killed is resumed by the next one, from any controller.
    Confirmed pairs of server and room are not checked again.
  - In a task, Ansible itself waits on the controller, and runs the module on the host for each poll. The connection is
    closed between polls. A failed poll is retried for up to six hours, except for the first one.
  - A waiting host occupies one of Ansible's forks.
author:
  - matrixops (@matrixops)
requirements:
  - signedjson
  - dnspython
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.propagation
  - matrixops.synapse.progress
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
attributes:
  check_mode:
    support: full
    details:
      - Polls once, and removes nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  wait:
    description:
      - Whether to poll until RV(finished) is true. V(false) polls once, and returns RV(next_poll).
      - Only has an effect in a task, since Ansible waits and not the module.
    type: bool
    default: true
  recheck:
    description:
      - Whether to check confirmed pairs of server and room again, for example before a step that can't be undone. Of
        more than 10,000 pairs, a random sample of 10,000 is checked.
      - The start of the period is compared with the rooms of the server as well, with one request for each. If an
        account has joined a federated room again since, and has left it, the period starts at the newest event in it.
    type: bool
    default: false
seealso:
  - module: matrixops.synapse.synapse_federated_rooms
  - module: matrixops.synapse.matrix_ghosts
"""

EXAMPLES = r"""
- name: Remove ghosts from remote servers for up to a week
  matrixops.synapse.synapse_propagation:
    access_token: "{{ synapse_access_token }}"
    server_name: example.org
    period: 604800
    early_exit: true
  become: true

- name: Poll remote servers once
  matrixops.synapse.synapse_propagation:
    access_token: "{{ synapse_access_token }}"
    server_name: example.org
    period: 604800
    wait: false
  become: true
  register: propagation

- name: Show the servers that have not confirmed
  ansible.builtin.debug:
    msg: "{{ propagation.servers | rejectattr('state', 'eq', 'confirmed') | map(attribute='text') }}"
"""

RETURN = r"""
message:
  description: Result of the poll in one line.
  returned: success
  type: str
  sample: 12 of 13 remote servers confirmed; 1 unreachable; the propagation period ends 2026-11-30 14:00:00 UTC
finished:
  description: Whether O(period) is over, or the wait has ended by O(early_exit).
  returned: success
  type: bool
ended_early:
  description: Whether the wait has ended by O(early_exit), before the end of O(period).
  returned: success
  type: bool
checked:
  description: Whether remote servers were checked.
  returned: success
  type: bool
next_poll:
  description: Seconds until the next poll is due; 0 if RV(finished) is true.
  returned: success
  type: int
now:
  description: Time by the clock of the homeserver, in seconds since 1970.
  returned: success
  type: int
ends:
  description: End of O(period), in seconds since 1970.
  returned: success
  type: int
removed:
  description: Number of removed ghosts, each counted once for each server and room.
  returned: success
  type: int
summary:
  description:
    - Number of remote servers (C(servers)), of those that are C(confirmed), C(ghosts), C(refused), C(unreachable) and
      C(unconfirmed), each by the worst state of its rooms, and of those that are C(ignored).
    - Number of pairs of server and room (C(pairs)), of confirmed ones (C(pairs_confirmed)), and of ghosts that were
      C(removed) in all polls.
  returned: success
  type: dict
servers:
  description: The remote servers, those that have not confirmed first. At most 1,000.
  returned: success
  type: list
  elements: dict
  contains:
    server:
      description: Server name.
      type: str
    state:
      description:
        - Worst state of the rooms. V(ghosts) is a server that still lists accounts, V(refused) one that denies access,
          and V(unconfirmed) one whose answer is not conclusive.
      type: str
    text:
      description: State of the server in one line. Reasons are shortened to 80 characters.
      type: str
      sample: "chat.example: ghosts removed (12); confirmed, 10 of 10 rooms"
    rooms:
      description: Number of rooms that the server is in.
      type: int
    confirmed_rooms:
      description: Number of confirmed rooms.
      type: int
    removed:
      description: Number of ghosts that were removed on the server.
      type: int
    confirmed_at:
      description: Time at which the server had confirmed all rooms, in seconds since 1970. Null before that.
      type: int
    unreachable_since:
      description: Time since which the server has not answered, in seconds since 1970. Null if it answers.
      type: int
    reason:
      description: Why the server has not confirmed. Quotes the server.
      type: str
    open_rooms:
      description:
        - The rooms that the server has not confirmed, with C(room_id), C(state), C(reason), and the number of
          C(ghosts). If it refuses, C(can_kick) has remote accounts that can remove the ghosts. At most 5 rooms.
      type: list
      elements: dict
    open_rooms_total:
      description: Number of rooms that the server has not confirmed.
      type: int
servers_total:
  description: Number of remote servers.
  returned: success
  type: int
broken_rooms:
  description:
    - The federated rooms of O(broken_rooms), with C(room_id), C(reason), the remote C(servers) in them, and those that
      have not confirmed (C(not_confirmed_by)).
  returned: success
  type: list
  elements: dict
unreadable_rooms:
  description:
    - Rooms that are not recorded and that Synapse can't read, with C(room_id) and C(reason). The remote servers in
      these rooms are unknown, so they are not checked there.
  returned: success
  type: list
  elements: dict
not_sent_to:
  description:
    - Remote servers that have listed accounts, and for which no federation sender of Synapse has taken the last leave
      in a room, by Synapse's records of at most 50 pairs. Probably a federation sender does not run, or lags behind.
      Such servers may lack other events as well, so the host is not powered off. The ghosts are removed all the same.
    - A sender that was started again waits for the next event. So a room of the operator alone is created and left, at
      most once in an hour, and with O(recheck).
  returned: success
  type: list
  elements: str
stale_rooms:
  description:
    - Rooms that all accounts have left, and that Synapse's statistics still show with local members. Probably the
      background worker does not run. They are read in the first ten minutes, and right before the power-off.
  returned: success
  type: list
  elements: str
ignored:
  description: The servers of O(ignore) that are in federated rooms.
  returned: success
  type: list
  elements: str
history:
  description:
    - Number of servers by state over time, in at most 200 points. Each is a list of the time in seconds since 1970,
      and the number of servers that were V(confirmed), V(ghosts), V(refused), V(unreachable) and V(unconfirmed).
  returned: success
  type: list
  elements: list
  sample: [[1795416420, 0, 0, 0, 1, 12], [1795416450, 12, 0, 0, 1, 0]]
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._propagation_module import PropagationModule


def main() -> None:
    module = PropagationModule(
        {"wait": {"type": "bool", "default": True}, "recheck": {"type": "bool", "default": False}}
    )
    with module.client(changes=True) as client:
        propagation = module.propagation(client, recheck=module.params["recheck"])
        with module.reporting_removals(propagation):
            result = module.poll(propagation)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
