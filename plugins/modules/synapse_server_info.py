#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_server_info
short_description: Gather facts about a Synapse homeserver
version_added: 1.0.0
description:
  - Gathers the name and version of a homeserver, the account of the access token, and whether login is delegated.
  - Gathers the paths by which new accounts can be created, and the known issues of the version that affect a
    decommissioning.
  - Fails if the account is not an admin of the server.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
  - matrixops.synapse.attributes.info_module
"""

EXAMPLES = r"""
- name: Gather facts about the homeserver
  matrixops.synapse.synapse_server_info:
    access_token: "{{ synapse_access_token }}"
  register: server

- name: Assert that registration is closed
  ansible.builtin.assert:
    that: server.registration_paths | selectattr('open') | length == 0
"""

RETURN = r"""
server_name:
  description: Name of the homeserver, as in its user IDs.
  returned: success
  type: str
  sample: example.org
version:
  description: Version of Synapse.
  returned: success
  type: str
  sample: 1.163.2
operator:
  description: User ID of the account of the access token.
  returned: success
  type: str
  sample: "@admin:example.org"
delegated_auth:
  description: Whether a Matrix Authentication Service handles login instead of Synapse itself.
  returned: success
  type: bool
registration:
  description: Whether registration with Synapse is open, for example with a password or a token.
  returned: success
  type: bool
registration_paths:
  description: The paths by which new accounts can be created, open or closed.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description:
        - V(registration), for example with a password or a token; V(sso), single sign-on (OpenID Connect, SAML, CAS);
          V(jwt), JSON Web Tokens; V(authentication_service), a Matrix Authentication Service; V(guest); or
          V(application_service), for example a bridge.
      type: str
    open:
      description: Whether the path is open, or V(none) if Synapse does not report it.
      type: bool
    detail:
      description: The state of the path as a text, with the name of Synapse's setting.
      type: str
known_issues:
  description:
    - Known issues of this version that affect a decommissioning, from Synapse's changelog. Empty if the version cannot
      be parsed.
  returned: success
  type: list
  elements: dict
  contains:
    summary:
      description: What happens during a decommissioning, and what to do.
      type: str
    fixed_in:
      description: The first version of Synapse with the fix.
      type: str
      sample: 1.155.0
    reference:
      description: The entry in the changelog, as the number of a pull request, or as a CVE.
      type: str
      sample: "#19617"
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.server import server_info


def main() -> None:
    module = SynapseModule({})
    with module.client() as client:
        info = server_info(client)
    module.exit_json(changed=False, **info)


if __name__ == "__main__":
    main()
