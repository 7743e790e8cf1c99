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
  - matrixops.synapse.attributes
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
  period:
    description:
      - Propagation period in seconds, from the time when all accounts had left the federated rooms. That time is
        recorded by M(matrixops.synapse.synapse_decommission_state).
    type: int
    required: true
  wait:
    description:
      - Whether to poll until RV(finished) is true. V(false) polls once, and returns RV(next_poll).
      - Only has an effect in a task, since Ansible waits and not the module.
    type: bool
    default: true
  early_exit:
    description:
      - Whether to finish before the end of O(period), once all servers that answer have confirmed, and the others have
        been unreachable for O(unreachable_after) seconds.
    type: bool
    default: false
  unreachable_after:
    description:
      - Time in seconds to retry unreachable servers with O(early_exit=true).
    type: int
    default: 86400
  poll_interval:
    description:
      - Minimum time in seconds from one poll of a server that has not confirmed to the next.
    type: int
    default: 30
  recheck:
    description:
      - Whether to check confirmed pairs of server and room again, for example before a step that can't be undone. Of
        more than 10,000 pairs, a random sample of 10,000 is checked.
    type: bool
    default: false
  ghost_checks:
    description:
      - Whether to check remote servers. With V(false), all servers stay C(unconfirmed) until O(period) is over, and no
        signing key is required.
    type: bool
    default: true
  signing_key_path:
    description:
      - Path of the signing key of the homeserver, on the host where the module runs. Reading it usually requires
        C(become=true). The key never leaves the host.
    type: path
    default: /etc/matrix-synapse/homeserver.signing.key
  federation_ca_path:
    description:
      - Path of the CA certificates with which to verify remote servers, instead of the default ones.
    type: path
  federation_proxy:
    description:
      - URL of the HTTP proxy for requests to remote servers.
    type: str
  federation_ip_allowlist:
    description:
      - IP addresses and CIDR ranges to allow although they are not public.
    type: list
    elements: str
    default: []
  federation_timeout:
    description:
      - Total time of one request to a remote server in seconds.
    type: int
    default: 30
  ignore:
    description:
      - Names of remote servers that are not checked, and that need not confirm.
    type: list
    elements: str
    default: []
  broken_rooms:
    description:
      - Rooms that accounts could not leave on this server, as a mapping of room ID to reason, for example from
        RV(matrixops.synapse.synapse_user_deactivate#module:broken_rooms). Ghosts in these rooms are removed although
        the accounts are still joined on this server.
      - If not set, the rooms that an earlier run has recorded.
    type: dict
  clock:
    description:
      - Time in seconds since 1970, by another clock than that of the homeserver. The module fails if the two differ by
        more than five minutes.
      - In a task, Ansible sets this to the time of the controller.
    type: int
  concurrency:
    description:
      - Maximum number of concurrent requests to the homeserver.
    type: int
    default: 8
  progress_path:
    description:
      - Path of a file for the progress, on the host where the module runs. It is replaced about once a second.
      - Ansible sets this itself, to show the progress on the terminal.
    type: path
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

from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.propagation import Options, Propagation
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.connect import Settings, connect
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import FederationError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import DEBIAN_KEY, read_key_file
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.server import check_clock


def options_of(params: dict[str, Any]) -> Options:
    broken = params["broken_rooms"]
    return Options(
        period=params["period"],
        early_exit=params["early_exit"],
        unreachable_after=params["unreachable_after"],
        poll_interval=params["poll_interval"],
        recheck=params["recheck"],
        ignore=frozenset(params["ignore"]),
        broken_rooms=None if broken is None else {room_id: str(reason) for room_id, reason in broken.items()},
    )


def check(propagation: Propagation, params: dict[str, Any]) -> None:
    """Check the remote servers. Without any, no signing key is required."""
    servers = propagation.servers
    if not servers:
        propagation.checked = True
        return
    settings = Settings(
        ca_path=params["federation_ca_path"],
        proxy=params["federation_proxy"],
        ip_allowlist=tuple(params["federation_ip_allowlist"]),
        timeout=float(params["federation_timeout"]),
    )
    key = read_key_file(params["signing_key_path"])
    with connect(propagation.client.server_name, key, settings, servers) as connection:
        propagation.check(connection.client)


def main() -> None:
    module = SynapseModule(
        {
            "period": {"type": "int", "required": True},
            "wait": {"type": "bool", "default": True},
            "early_exit": {"type": "bool", "default": False},
            "unreachable_after": {"type": "int", "default": 86400},
            "poll_interval": {"type": "int", "default": 30},
            "recheck": {"type": "bool", "default": False},
            "ghost_checks": {"type": "bool", "default": True},
            "signing_key_path": {"type": "path", "default": DEBIAN_KEY},
            "federation_ca_path": {"type": "path"},
            "federation_proxy": {"type": "str", "no_log": True},
            "federation_ip_allowlist": {"type": "list", "elements": "str", "default": []},
            "federation_timeout": {"type": "int", "default": 30},
            "ignore": {"type": "list", "elements": "str", "default": []},
            "broken_rooms": {"type": "dict"},
            "clock": {"type": "int"},
            "concurrency": {"type": "int", "default": 8},
            "progress_path": {"type": "path"},
        }
    )
    params = module.params
    for option, least in (("period", 0), ("unreachable_after", 0), ("federation_timeout", 1)):
        if params[option] < least:
            module.fail_json(msg=f"{option} is {params[option]}: set it to {least} or more")
    with module.client(changes=True) as client:
        if params["clock"] is not None:
            check_clock(client, params["clock"])
        propagation = Propagation(
            client, options_of(params), dry_run=module.check_mode, progress_path=params["progress_path"]
        )
        try:
            if params["ghost_checks"]:
                check(propagation, params)
            result = propagation.finish()
        except (FederationError, SynapseError, OSError, ValueError) as error:
            # Ghosts may have been removed before the error.
            cause = error if isinstance(error, SynapseError) else None
            module.end({"changed": bool(propagation.removed), "removed": propagation.removed}, str(error), cause)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
