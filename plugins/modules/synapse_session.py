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
  - Logs in with a password, once for many tasks, or logs an access token out.
  - Synapse allows few password logins in a row. A play with more than a few tasks that each have O(login_user) is soon
    made to wait for minutes.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
attributes:
  check_mode:
    support: partial
    details:
      - A session is opened and closed in check mode too, as the tasks that need it could not read anything otherwise.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run with O(state=present) opens another session.
options:
  state:
    description:
      - With V(present), O(login_user) and O(login_password) are required, and a session is opened.
      - With V(absent), O(access_token) is required, and its session is closed. One that is closed already stays so.
    type: str
    choices: [present, absent]
    default: present
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
    - Access token of the new session. Whoever has it is an admin of the server, so set C(no_log) on the task.
  returned: O(state=present)
  type: str
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule


def main() -> None:
    module = SynapseModule(
        {"state": {"type": "str", "choices": ["present", "absent"], "default": "present"}},
        required_if=[("state", "present", ("login_user",)), ("state", "absent", ("access_token",))],
    )
    opening = module.params["state"] == "present"
    # The token may be dead already, and then the server can't be asked for its name.
    with module.client(token_only=not opening) as client:
        if opening:
            client.keep_session()
            result = {"changed": True, "access_token": client.access_token}
        else:
            result = {"changed": client.logout()}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
