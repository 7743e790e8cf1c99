#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_propagation
short_description: Check all remote servers for ghosts until they have confirmed, and remove these
version_added: 1.0.0
description:
  - Asks every remote server in every room that M(matrixops.synapse.synapse_federated_rooms) has recorded, and that
    Synapse knows of, whether it still lists an account of the homeserver. Ghosts are removed on it directly, as by
    M(matrixops.synapse.matrix_ghosts). Servers that have not confirmed are asked again with backoff, from
    O(poll_interval) up to an hour, until O(period) is over.
  - What each server has said is recorded on the homeserver. A run that is killed at any point is resumed by the next
    one, from any controller, and what was confirmed is not asked again.
  - In a task, Ansible itself waits, on the controller, and runs the module on the host for each poll. There is no
    connection between two of them. A poll that fails is repeated for up to six hours, but the first must not fail.
  - A host that waits takes up one of Ansible's forks.
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
      - Asks all servers once, and removes nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  period:
    description:
      - How long remote servers have, in seconds from when all accounts had left the federated rooms, as recorded by
        M(matrixops.synapse.synapse_decommission_state).
    type: int
    required: true
  wait:
    description:
      - Whether to wait until there is nothing more to wait for. Otherwise polls once, and says in how many seconds to
        come again.
      - It is Ansible that waits, and not the module, so that this is of use in a task only.
    type: bool
    default: true
  early_exit:
    description:
      - Do not wait for the end of O(period) once all servers that answer have confirmed, and the others have been tried
        for O(unreachable_after) seconds.
    type: bool
    default: false
  unreachable_after:
    description:
      - With O(early_exit=true), for how many seconds servers that do not answer are tried.
    type: int
    default: 86400
  poll_interval:
    description:
      - Minimum time in seconds until a server that has not confirmed is asked again.
    type: int
    default: 30
  recheck:
    description:
      - Ask also about what was confirmed, right before something that can't be undone. Of more than 10,000 pairs of
        server and room, a random 10,000.
    type: bool
    default: false
  ghost_checks:
    description:
      - Whether to ask remote servers. If not, no signing key is needed, the period is waited out, and every server is
        C(unconfirmed).
    type: bool
    default: true
  signing_key_path:
    description:
      - File with the signing key of the homeserver, on the host where the module runs. Reading it usually requires
        C(become=true). The key never leaves the host.
    type: path
    default: /etc/matrix-synapse/homeserver.signing.key
  federation_ca_path:
    description:
      - File with the CA certificates to check the certificates of remote servers with, instead of the usual ones.
    type: path
  federation_proxy:
    description:
      - URL of an HTTP proxy to reach remote servers through.
    type: str
  federation_ip_allowlist:
    description:
      - IP addresses and CIDR ranges to connect to although they are not public.
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
      - Names of remote servers that are not asked, and that need not confirm.
    type: list
    elements: str
    default: []
  broken_rooms:
    description:
      - The rooms that accounts could not leave on this server, with the reason of each by room ID, as of
        RV(matrixops.synapse.synapse_user_deactivate#module:broken_rooms). Ghosts in them are removed although the
        accounts are joined on this server.
      - If not set, those that were recorded before.
    type: dict
  clock:
    description:
      - The time in seconds since 1970, by another clock than the homeserver's. If the two differ by more than five
        minutes, nothing is done.
      - In a task, the controller's clock is taken.
    type: int
  concurrency:
    description:
      - Maximum number of concurrent requests to the homeserver.
    type: int
    default: 8
  progress_path:
    description:
      - File on the host where the module runs that says how far it has come, written anew about once a second. Ansible
        itself sets this, to show the progress on the terminal.
    type: path
seealso:
  - module: matrixops.synapse.synapse_federated_rooms
  - module: matrixops.synapse.matrix_ghosts
"""

EXAMPLES = r"""
- name: Give remote servers a week, and remove the ghosts that they list
  matrixops.synapse.synapse_propagation:
    access_token: "{{ synapse_access_token }}"
    server_name: example.org
    period: 604800
  become: true

- name: Check once, and come again later
  matrixops.synapse.synapse_propagation:
    access_token: "{{ synapse_access_token }}"
    server_name: example.org
    period: 604800
    wait: false
  become: true
  register: propagation
"""

RETURN = r"""
message:
  description: How things stand, in one line.
  returned: success
  type: str
  sample: 12 of 13 remote servers confirmed; 1 unreachable; the propagation period ends 2026-11-30 14:00:00 UTC
finished:
  description: Whether there is nothing more to wait for.
  returned: success
  type: bool
early:
  description: Whether the end is by O(early_exit).
  returned: success
  type: bool
checked:
  description: Whether remote servers were asked.
  returned: success
  type: bool
next_poll:
  description: In how many seconds to come again; 0 if there is no need.
  returned: success
  type: int
now:
  description: The time by the homeserver's clock, in seconds since 1970.
  returned: success
  type: int
ends:
  description: When the period is over, in seconds since 1970.
  returned: success
  type: int
removed:
  description: How many ghosts were removed, each counted once for each server and room.
  returned: success
  type: int
summary:
  description:
    - How many remote servers there are (C(servers)), how many are C(confirmed), C(ghosts), C(refused), C(unreachable)
      and C(unconfirmed), by the room in which it is worst, and how many are C(ignored).
    - How many pairs of server and room there are (C(pairs)), and are confirmed (C(pairs_confirmed)), and how many
      ghosts were C(removed) in all polls.
  returned: success
  type: dict
servers:
  description: The remote servers, those that have not confirmed first; no more than 1,000 of them.
  returned: success
  type: list
  elements: dict
  contains:
    server:
      description: The server name.
      type: str
    state:
      description:
        - V(confirmed), V(ghosts) if it lists accounts, V(refused) if it does not say, V(unreachable), or V(unconfirmed)
          if its answer says nothing.
      type: str
    text:
      description: How it stands, in one line.
      type: str
      sample: "chat.example: ghosts removed (12); confirmed, 10 of 10 rooms"
    rooms:
      description: How many rooms it is in.
      type: int
    confirmed_rooms:
      description: In how many of them it has confirmed.
      type: int
    removed:
      description: How many ghosts were removed on it.
      type: int
    confirmed_at:
      description: When it had confirmed all rooms, in seconds since 1970, or none.
      type: int
    unreachable_since:
      description: Since when it has not answered, in seconds since 1970, or none.
      type: int
    reason:
      description: Why it has not confirmed. Quotes the server.
      type: str
    open_rooms:
      description:
        - The rooms that it has not confirmed, with C(room_id), C(state), C(reason), how many C(ghosts) it lists, and
          if it refuses, the accounts of remote servers that C(can_kick); no more than 5 rooms.
      type: list
      elements: dict
    open_rooms_total:
      description: How many rooms these are.
      type: int
servers_total:
  description: How many remote servers there are.
  returned: success
  type: int
broken_rooms:
  description:
    - The federated rooms among O(broken_rooms), with C(room_id), C(reason), the remote C(servers) in them, and those
      that have not confirmed (C(not_confirmed_by)).
  returned: success
  type: list
  elements: dict
unreadable_rooms:
  description:
    - Rooms that Synapse can't read, and that are not recorded, with C(room_id) and C(reason). Nobody can tell which
      servers are in them.
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
    - How it went, in no more than 200 points. Each is a list of the time in seconds since 1970, and how many servers
      were V(confirmed), V(ghosts), V(refused), V(unreachable) and V(unconfirmed).
  returned: success
  type: list
  elements: list
  sample: [[1795416420, 0, 0, 0, 1, 12], [1795416450, 12, 0, 0, 1, 0]]
"""

from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._client import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.propagation import Options, Propagation
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.connect import Settings, connect
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import FederationError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.keys import DEBIAN_KEY, read_key_file
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._server import check_clock


def options_of(params: dict[str, Any]) -> Options:
    broken = params["broken_rooms"]
    return Options(
        period=params["period"],
        early_exit=params["early_exit"],
        unreachable_after=params["unreachable_after"],
        pause=params["poll_interval"],
        recheck=params["recheck"],
        ignore=frozenset(params["ignore"]),
        broken_rooms=None if broken is None else {room_id: str(reason) for room_id, reason in broken.items()},
        concurrency=params["concurrency"],
    )


def check(propagation: Propagation, params: dict[str, Any]) -> None:
    """Ask the remote servers, if there are any: without, no signing key is needed."""
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
    with module.client(connections=params["concurrency"], changes=True) as client:
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
            # Ghosts may have been removed before.
            cause = error if isinstance(error, SynapseError) else None
            module.end({"changed": bool(propagation.removed), "removed": propagation.removed}, str(error), cause)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
