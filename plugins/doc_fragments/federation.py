# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
requirements:
  - python >= 3.8
  - requests
  - signedjson
  - dnspython
options:
  server_name:
    description:
      - Name of the homeserver, which is the domain of its accounts.
    type: str
    required: true
  signing_key_path:
    description:
      - Path of the signing key of the homeserver, on the host where the module runs. This is C(signing_key_path) of
        C(homeserver.yaml).
      - Reading it usually requires C(become=true). The key never leaves the host.
      - The key must be the one that is published at C(/_matrix/key/v2/server) under O(server_name). If nothing answers
        there, it is compared with the key that remote servers have stored. See also O(require_key_answer).
    type: path
    default: /etc/matrix-synapse/homeserver.signing.key
  signing_key:
    description:
      - Content of a signing key file. Takes precedence over O(signing_key_path).
    type: str
  require_key_answer:
    description:
      - Whether to fail if nothing answers at C(/_matrix/key/v2/server) under O(server_name). Remote servers that have
        not stored the key need this answer.
      - If there is an answer, up to 5 of the remote servers are asked which key they have stored. The module fails
        before any other request if all of those that know the key ID have stored another key, since they then reject
        all requests. Servers that do not answer do not count.
    type: bool
    default: false
  max_concurrent:
    description:
      - Maximum number of concurrent requests to one server.
    type: int
    default: 3
  max_rate:
    description:
      - Maximum number of requests to one server per second. Synapse delays requests from 10 per second.
    type: int
    default: 8
"""

    REMOTE = r"""
options:
  ip_allowlist:
    description:
      - IP addresses and CIDR ranges to allow although they are not public, for example private or loopback addresses.
        All other addresses that are not public are refused, since remote servers choose the addresses.
    type: list
    elements: str
    default: []
  proxy:
    description:
      - URL of an HTTP proxy for all requests, for example V(http://proxy.example:3128). The proxy then resolves names,
        and O(ip_allowlist) only applies to IP addresses in server names.
    type: str
  ca_path:
    description:
      - Path of the CA certificates with which to verify all servers, instead of the default ones.
    type: path
  timeout:
    description:
      - Total time of one request in seconds.
    type: int
    default: 30
"""

    GHOSTS = r"""
options:
  rooms:
    description:
      - Rooms to check.
      - If not set, they are read from the homeserver at O(base_url). This also works after all accounts have left.
    type: list
    elements: dict
    suboptions:
      room_id:
        description: Room ID.
        type: str
        required: true
      servers:
        description: Names of the remote servers to check.
        type: list
        elements: str
        required: true
      accounts:
        description:
          - Accounts of O(server_name) that were joined to the room. Each is checked, unless the server answers that
            none is joined.
          - If empty, the state of the room is read, which Dendrite and Conduit do not always allow.
        type: list
        elements: str
        default: []
      pending:
        description:
          - Accounts of O(server_name) that may be invited or knocking. Each is always checked.
        type: list
        elements: str
        default: []
  base_url:
    description:
      - URL of the client and admin API of the homeserver, if it is running.
      - If not set, the value of the environment variable E(SYNAPSE_BASE_URL) is used.
    type: str
  access_token:
    description:
      - Access token of the operator, an admin of the homeserver at O(base_url).
      - If not set, the value of the environment variable E(SYNAPSE_ACCESS_TOKEN) is used.
    type: str
  max_state_size:
    description:
      - Maximum size of the state of a room in MiB. The state is read as a stream, and only if O(rooms[].accounts)
        is empty or incomplete. A member has about 650 bytes.
    type: int
    default: 128
  record_path:
    description:
      - Path of a file for the results, one line of JSON for each, on the host where the module runs. Pairs of
        server and room that are confirmed in it are not checked again, so that a run that was killed can be resumed.
      - Remove the file to check all pairs again.
    type: path
  progress_path:
    description:
      - Path of a file for the progress, on the host where the module runs. It is replaced about once a second.
      - Ansible sets this itself, to show the progress on the terminal.
    type: path
"""
