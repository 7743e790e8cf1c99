# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  period:
    description:
      - Propagation period in seconds, from the time when all accounts had left the federated rooms. That time is
        recorded by M(matrixops.synapse.synapse_decommission_state).
    type: int
    required: true
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
"""
