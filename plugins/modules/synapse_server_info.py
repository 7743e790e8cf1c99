#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_server_info
short_description: Tell which Synapse homeserver this is, and who is asking
version_added: 1.0.0
description:
  - Reads the name and version of a homeserver, the account that the access token belongs to, who handles login, and
    whether anybody can register.
  - Fails if the account is not an admin of the server.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.info_module
"""

EXAMPLES = r"""
- name: Which server is this?
  matrixops.synapse.synapse_server_info:
    access_token: "{{ synapse_access_token }}"
  register: server
"""

RETURN = r"""
server_name:
  description: The name of the homeserver, which its user IDs end in.
  returned: success
  type: str
  sample: example.org
version:
  description: The version of Synapse.
  returned: success
  type: str
  sample: 1.163.2
operator:
  description: User ID of the account that the access token belongs to.
  returned: success
  type: str
  sample: "@admin:example.org"
delegated_auth:
  description: Whether a Matrix Authentication Service handles login instead of Synapse itself.
  returned: success
  type: bool
registration:
  description: Whether Synapse lets people register accounts with a password, a token or the like.
  returned: success
  type: bool
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._server import server_info


def main() -> None:
    module = SynapseModule({})
    with module.client() as client:
        info = server_info(client)
    module.exit_json(changed=False, **info)


if __name__ == "__main__":
    main()
