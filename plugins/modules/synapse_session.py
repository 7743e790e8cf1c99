#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_session
short_description: Open or close a session on a Synapse homeserver
version_added: 1.0.0
description:
  - Logs in with a password and returns an access token for many tasks, or logs out an access token.
  - Synapse limits password logins. A play with more than a few tasks that each have O(login_user) has to wait for
    minutes.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
attributes:
  check_mode:
    support: partial
    details:
      - A session is opened and closed in check mode, too. Otherwise, tasks that use it could not read anything.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run with O(state=present) opens a new session.
options:
  state:
    description:
      - Desired state of the session.
      - V(present) opens a session, and requires O(login_user), and either O(login_password) or O(mas_url).
      - V(absent) closes the session of O(access_token), which is required. If it is closed already, nothing changes.
        With O(mas_url), it closes all sessions that were opened with the same O(lease).
    type: str
    choices: [present, absent]
    default: present
  lifetime:
    description:
      - Number of seconds after which a session of the Matrix Authentication Service expires, should it not be closed.
        Ignored for a login with O(login_password).
    type: int
    default: 86400
  one_time_key:
    description:
      - Key that the module encrypts the access token with, so that Ansible does not print it with C(-vvv). The action
        plugin of this module generates the key, and decrypts the token. A value in a task is ignored.
    type: str
"""

EXAMPLES = r"""
- name: Log in
  matrixops.synapse.synapse_session:
    login_user: admin
    login_password: "{{ synapse_admin_password }}"
  register: session
  no_log: true

- name: Log out
  matrixops.synapse.synapse_session:
    access_token: "{{ session.access_token }}"
    state: absent
"""

RETURN = r"""
access_token:
  description:
    - Access token of the new session. It permits everything that the operator may do, so set C(no_log) on the task.
  returned: O(state=present)
  type: str
"""

from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._mas.service import MasService
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._sealed import seal


def main() -> None:
    module = SynapseModule(
        {
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "lifetime": {"type": "int", "default": 86400},
            "one_time_key": {"type": "str", "no_log": True},
        },
        required_if=[("state", "present", ("login_user", "one_time_key")), ("state", "absent", ("access_token",))],
    )
    opening = module.params["state"] == "present"
    # The token may be invalid already, and then the server name cannot be verified.
    with module.client(token_only=not opening) as client:
        if not opening and isinstance(client.service, MasService):
            result: dict[str, Any] = {"changed": client.service.sessions.end_own() > 0}
        elif opening:
            client.keep_session()
            sealed = seal(module.params["one_time_key"], (client.access_token or "").encode())
            result = {"changed": True, "sealed_token": sealed}
        else:
            result = {"changed": client.logout()}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
