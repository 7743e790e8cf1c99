#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: matrix_federation_info
short_description: Gather whether a signing key is valid and remote servers answer
version_added: 1.0.0
description:
  - Checks that the signing key of a homeserver is readable and published, and that remote servers answer requests from
    the host where the module runs. M(matrixops.synapse.matrix_ghosts_info) and M(matrixops.synapse.matrix_ghosts)
    require both.
  - The task fails if the key is missing, unreadable or not the published one. A remote server that does not answer is
    not a failure. See RV(servers).
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.federation
  - matrixops.synapse.federation.remote
  - matrixops.synapse.attributes.federation
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.info_module
options:
  servers:
    description:
      - Names of the remote servers to send a request to. A sample is usually enough.
      - Each gets one C(GET /_matrix/federation/v1/version), up to eight servers concurrently. Servers do not verify the
        signature of that request.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Check that the signing key is valid and a remote server answers
  matrixops.synapse.matrix_federation_info:
    server_name: old.example
    servers:
      - matrix.example
      - chat.example
  become: true
  register: federation
  failed_when: federation is failed or federation.servers | selectattr('answers') | length == 0

- name: Check that the archived signing key is the published one
  matrixops.synapse.matrix_federation_info:
    server_name: old.example
    signing_key: "{{ lookup('ansible.builtin.file', 'old.example.signing.key') }}"
  delegate_to: localhost
"""

RETURN = r"""
key_id:
  description: ID of the signing key.
  returned: success
  type: str
  sample: "ed25519:a_abcd"
published_keys:
  description:
    - The keys that are published for O(server_name), by key ID, with the C(expired_ts) of old ones in milliseconds
      since 1970. If nothing answers under the name, those that a remote server has stored.
  returned: success
  type: dict
  sample: {"ed25519:a_abcd": {"key": "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI"}}
homeserver:
  description:
    - Name and version of the homeserver that answers under O(server_name).
    - Empty if none answers. This includes a homeserver that runs, but that the host where the module runs can't reach
      under its name.
  returned: success
  type: str
  sample: Synapse 1.163.2
servers:
  description: The servers of O(servers), in the same order, without duplicates.
  returned: success
  type: list
  elements: dict
  contains:
    server:
      description: Server name.
      type: str
    answers:
      description: Whether the server has answered.
      type: bool
    reason:
      description:
        - Why RV(servers[].answers) is false, in at most 300 characters. May quote the server. Empty if it answers.
      type: str
  sample:
    - server: matrix.example
      answers: true
      reason: ""
    - server: chat.example
      answers: false
      reason: "cannot connect to 198.51.100.7 port 8448: Connection refused"
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._concurrency import results_by_item
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.client import FEDERATION, FederationClient
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import (
    AnswerError,
    FederationError,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation_module import FederationModule
from ansible_collections.matrixops.synapse.plugins.module_utils._text import printable

SERVERS_AT_ONCE = 8
"""Maximum number of concurrent requests."""


def problem(client: FederationClient, server: str) -> str:
    """Return why a server does not answer, printable and bounded; an empty text if it answers.

    API: U(https://spec.matrix.org/latest/server-server-api/#get_matrixfederationv1version).
    """
    try:
        answer = client.get(server, f"{FEDERATION}/v1/version")
        if answer.status != 200:
            raise AnswerError(f"unexpected answer {answer}")
    except FederationError as error:
        return str(error)
    return ""


def main() -> None:
    module = FederationModule({"servers": {"type": "list", "elements": "str", "default": []}})
    servers = list(dict.fromkeys(module.params["servers"]))
    with module.signing_key() as key, module.connect(key, servers) as connection:
        client = connection.client
        problems = results_by_item(lambda server: problem(client, server), servers, SERVERS_AT_ONCE)
    module.exit_json(
        changed=False,
        key_id=client.key.key_id,
        published_keys=connection.published.as_json(),
        homeserver=connection.homeserver,
        servers=[{"server": printable(s), "answers": not reason, "reason": reason} for s, reason in problems.items()],
    )


if __name__ == "__main__":
    main()
