#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: matrix_name_info
short_description: Gather what answers under a server name
version_added: 1.0.0
description:
  - Finds a Matrix server by its name, as remote servers do, and gathers whether a homeserver answers, and which signing
    keys are published.
  - Sends two requests to the name. They are not signed, so the module needs no key.
  - A name under which nothing answers is not a failure. See RV(problem).
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.federation.remote
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.info_module
requirements:
  - python >= 3.8
  - requests
  - signedjson
  - dnspython
options:
  server_name:
    description:
      - Name of the server.
    type: str
    required: true
  key_id:
    description:
      - ID of the key that must be published as valid. By default, any valid key answer is accepted.
    type: str
  wait:
    description:
      - Maximum time in seconds to repeat the requests until there is no problem, for example after a start.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Check that no homeserver answers as old.example
  matrixops.synapse.matrix_name_info:
    server_name: old.example
  delegate_to: localhost
  register: name
  failed_when: name is failed or name.homeserver
"""

RETURN = r"""
homeserver:
  description:
    - Name and version of the homeserver that answers. Empty if none answers. The static site and the service of the
      role P(matrixops.synapse.ghost_cleanup#role) are no homeservers.
  returned: success
  type: str
  sample: Synapse 1.163.2
problem:
  description:
    - What prevents remote servers from using the keys of a server that is gone. Empty if nothing does.
    - With V(dns), the name does not resolve. With V(address), it resolves to addresses that are not public. With
      V(connection), nothing accepts connections there. With V(tls), the certificate is not valid. With V(answer), the
      answer is not of a server of Matrix. With V(homeserver), a homeserver answers. With V(keys), the key answer is
      missing, invalid or expired, or O(key_id) is not in it.
  returned: success
  type: str
  sample: dns
reason:
  description:
    - RV(problem) in words, in at most 300 characters. May quote the answer.
  returned: success
  type: str
  sample: "cannot resolve old.example: Name or service not known"
addresses:
  description: IP addresses, or with O(proxy) host names, with ports, that the name leads to.
  returned: success
  type: list
  elements: str
  sample: ["198.51.100.7 port 8448"]
key_ids:
  description: IDs of the keys that are published as valid.
  returned: success
  type: list
  elements: str
  sample: ["ed25519:a_abcd"]
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import FederationError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.name_check import check_name
from ansible_collections.matrixops.synapse.plugins.module_utils._federation_module import REMOTE_OPTIONS, settings
from ansible_collections.matrixops.synapse.plugins.module_utils._text import printable

OPTIONS: dict[str, dict[str, Any]] = {
    "server_name": {"type": "str", "required": True},
    "key_id": {"type": "str", "no_log": False},
    **REMOTE_OPTIONS,
    "wait": {"type": "int", "default": 0},
}
INTERVAL = 1.0
"""Time in seconds until requests are repeated."""


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    params = module.params
    if params["timeout"] < 1:
        module.fail_json(msg=f"timeout is {params['timeout']}: set it to 1 or more")
    reached_by = settings(params)
    try:
        found = check_name(params["server_name"], params["key_id"], reached_by)
        deadline = time.monotonic() + params["wait"]
        while found.problem and time.monotonic() < deadline:
            time.sleep(INTERVAL)
            found = check_name(params["server_name"], params["key_id"], reached_by)
    except (FederationError, ValueError) as error:
        module.fail_json(msg=printable(str(error)))
    module.exit_json(
        changed=False,
        homeserver=found.homeserver,
        problem=found.problem,
        reason=found.reason,
        addresses=[printable(f"{address} port {port}") for address, port in found.addresses],
        key_ids=list(found.key_ids),
    )


if __name__ == "__main__":
    main()
