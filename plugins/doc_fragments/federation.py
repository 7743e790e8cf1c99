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
      - Name of the homeserver whose accounts this is about. It is the domain of the accounts.
    type: str
    required: true
  signing_key_path:
    description:
      - File with the signing key of the homeserver, on the host where the module runs. Synapse's C(signing_key_path).
      - Reading it usually requires C(become=true). The key never leaves the host.
      - The key must be the one that is published at C(/_matrix/key/v2/server) under O(server_name). Where nothing
        answers there, remote servers are asked which key they have seen.
    type: path
    default: /etc/matrix-synapse/homeserver.signing.key
  signing_key:
    description:
      - The signing key itself, as the content of such a file. Takes precedence over O(signing_key_path).
    type: str
  ip_allowlist:
    description:
      - IP addresses and CIDR ranges to connect to although they are private, loopback, link-local or otherwise not
        public. All others of these are refused, since remote servers choose the addresses.
    type: list
    elements: str
    default: []
  proxy:
    description:
      - URL of an HTTP proxy to connect through, for example V(http://proxy.example:3128). Names are then resolved by
        the proxy, and O(ip_allowlist) applies to IP addresses in server names only.
    type: str
  ca_path:
    description:
      - File with the CA certificates to check the certificates of all servers with, instead of the usual ones.
    type: path
  timeout:
    description:
      - Total time of one request in seconds.
    type: int
    default: 30
  max_concurrent:
    description:
      - Maximum number of requests to one server at the same time.
    type: int
    default: 3
  max_rate:
    description:
      - Maximum number of requests to one server in a second. Synapse delays requests from 10 in a second.
    type: int
    default: 8
"""

    GHOSTS = r"""
options:
  rooms:
    description:
      - The rooms to ask about.
      - If not set, they are read from the homeserver at O(base_url), also after all accounts have left.
    type: list
    elements: dict
    suboptions:
      room_id:
        description: Room ID.
        type: str
        required: true
      servers:
        description: Names of the remote servers to ask.
        type: list
        elements: str
        required: true
      accounts:
        description:
          - Accounts of O(server_name) that were joined to the room. Each is asked about where the server does not say
            that nobody is joined.
          - Without any, the state of the room is read, which Dendrite and Conduit do not always allow.
        type: list
        elements: str
        default: []
      pending:
        description:
          - Accounts of O(server_name) that may be invited or knocking. Each of them is always asked about.
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
      - Access token of an admin of the homeserver at O(base_url).
      - If not set, the value of the environment variable E(SYNAPSE_ACCESS_TOKEN) is used.
    type: str
  max_state_size:
    description:
      - Maximum size of the state of a room in MiB. It is read as a stream, and only where O(rooms[].accounts) is empty
        or incomplete. A member has about 650 bytes.
    type: int
    default: 128
  record_path:
    description:
      - File on the host where the module runs, to append a line of JSON to for each answer. A pair of server and room
        that it has as confirmed is not asked about again, so that a run that was killed continues where it was.
      - Remove the file to ask about everything again.
    type: path
  progress_path:
    description:
      - File on the host where the module runs that says how far it has come, written anew about once a second. Ansible
        itself sets this, to show the progress on the terminal.
    type: path
"""
