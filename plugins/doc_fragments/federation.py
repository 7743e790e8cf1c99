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
      - Path of the CA certificates with which to verify all servers, instead of the default ones. Remote servers only
        accept the certificates of public CAs.
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
      - If neither this nor O(rooms_paths), O(witness_url) or O(log_paths) is set, rooms are read from the homeserver at
        O(base_url). This also works after all accounts have left. Rooms of several sources are merged.
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
  rooms_paths:
    description:
      - Paths of files with rooms to check, on the host where the module runs. Each is the certificate of a run of the
        role P(matrixops.synapse.decommission#role), the file C(not_confirmed.json) of its archive, or another JSON list
        in the form of O(rooms).
      - A certificate has no accounts, so the state of the rooms is read, and invites and knocks are not found.
    type: list
    elements: path
    default: []
  witness_url:
    description:
      - URL of the client API of any homeserver with an account in rooms that may list accounts of O(server_name). The
        joined rooms of that account are searched for them.
    type: str
  witness_token:
    description:
      - Access token of the account at O(witness_url). It only reads.
    type: str
  log_paths:
    description:
      - Paths of logs of a Synapse that was set up anew under O(server_name), on the host where the module runs. The
        rooms are those of which remote servers send events although Synapse is not in them.
      - The logs need the level V(INFO), which is the default.
    type: list
    elements: path
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
  alongside:
    description:
      - Whether the homeserver at O(base_url) was set up anew under O(server_name), after the earlier one was lost. Its
        own rooms are not checked then.
      - Accounts that are joined to a room on it are no ghosts there, and are kept. An invite or a knock of an account
        that exists on it is kept as well, since the admin API of Synapse does not list these.
    type: bool
    default: false
  max_state_size:
    description:
      - Maximum size of the state of a room in MiB. The state is read as a stream, and only if O(rooms[].accounts)
        is empty or incomplete. A member has about 650 bytes.
    type: int
    default: 128
  record_path:
    description:
      - Path of a file for the results, on the host where the module runs. Each result that differs from the last one
        of its pair, and each run, adds a line of JSON.
      - Pairs of server and room that are confirmed in it are not checked again, so that a run that was killed can be
        resumed.
    type: path
  recheck:
    description:
      - Whether to check pairs again that are confirmed in O(record_path).
    type: bool
    default: false
"""
