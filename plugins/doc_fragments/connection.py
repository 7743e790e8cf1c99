# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
requirements:
  - python >= 3.8
  - requests
options:
  base_url:
    description:
      - URL of the client and admin API of the homeserver, without C(/_matrix) or C(/_synapse).
      - Many reverse proxies do not pass the admin API on. The listener of Synapse itself always has it.
      - If not set, the value of the environment variable E(SYNAPSE_BASE_URL) is used.
    type: str
    default: http://localhost:8008
  access_token:
    description:
      - Access token of an admin of the server, the operator.
      - If not set, the value of the environment variable E(SYNAPSE_ACCESS_TOKEN) is used.
      - Either this or O(login_user) is required. If there are both, O(login_user) is used.
    type: str
  login_user:
    description:
      - The operator, as a user ID or its localpart, to log in with O(login_password).
      - The session that is opened this way is logged out at the end.
      - Synapse allows few such logins in a row (five from one address, and then one in 333 seconds, unless it is
        configured otherwise). For more than a few tasks, log in once with M(matrixops.synapse.synapse_session).
    type: str
  login_password:
    description:
      - Password of O(login_user).
    type: str
  server_name:
    description:
      - The name that the server must have. The module refuses to go on if it is another.
    type: str
  lease:
    description:
      - A word that stands for one run of a playbook, such as a random number. If there is one, then nobody with another
        word changes anything on the server at the same time. Who comes second waits for up to 15 seconds, in case
        that the first was killed, and fails if it was not.
      - It is kept in the account data of the operator. Modules and tasks that only read don't mind it.
    type: str
  validate_certs:
    description:
      - Whether to check the TLS certificate of the server.
    type: bool
    default: true
  ca_path:
    description:
      - File or directory with the CA certificates to check the server's with, instead of the system's.
    type: path
  timeout:
    description:
      - How many seconds to wait for a connection, and for an answer.
    type: int
    default: 60
"""
