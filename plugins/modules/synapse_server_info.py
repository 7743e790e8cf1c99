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
  - Reads the name and version of a homeserver, the account that the access token belongs to, who handles login, by
    which ways new accounts come, and what is known of this version of Synapse that matters to a retirement.
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
ways_in:
  description: The ways by which new accounts come, those too that are closed.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description:
        - V(registration) with a password, a token or the like; V(sso), single sign-on (OpenID Connect, SAML, CAS);
          V(jwt), JSON Web Tokens; V(authentication_service), a Matrix Authentication Service; V(guest); or
          V(application_service), such as a bridge.
      type: str
    open:
      description: Whether new accounts can come that way, or V(none) if Synapse does not say.
      type: bool
    detail:
      description: What was seen, for a person to read, with the name of Synapse's setting.
      type: str
known_issues:
  description:
    - What Synapse's changelog says of bugs in this version that matter to a retirement. Empty for a version that makes
      no sense.
  returned: success
  type: list
  elements: dict
  contains:
    summary:
      description: What happens in a retirement, and what to do.
      type: str
    mended_in:
      description: The version of Synapse that does not have it any more.
      type: str
      sample: 1.155.0
    reference:
      description: The entry in the changelog, by the number of the pull request, or the CVE.
      type: str
      sample: "#19617"
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
