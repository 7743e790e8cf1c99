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
      - URL of the client and admin API of the homeserver, with V(http://) or V(https://), and without C(/_matrix),
        C(/_synapse), a user name or a password.
      - Many reverse proxies do not forward the admin API. The default is the listener of Synapse itself.
      - If not set, the environment variable E(SYNAPSE_BASE_URL) is used.
    type: str
    default: http://localhost:8008
  access_token:
    description:
      - Access token of the operator, an admin of the server.
      - If not set, the environment variable E(SYNAPSE_ACCESS_TOKEN) is used.
      - Either O(access_token) or O(login_user) is required. If both are set, O(login_user) is used.
    type: str
  login_user:
    description:
      - User ID or localpart of the operator, to log in with O(login_password). The session is logged out at the end.
      - Synapse limits such logins, by default to five from one address, and then one in 333 seconds. For more than a
        few tasks, log in once with M(matrixops.synapse.synapse_session).
    type: str
  login_password:
    description:
      - Password of O(login_user). Without it, O(mas_url) is required.
    type: str
  mas_url:
    description:
      - URL of the Matrix Authentication Service that handles login for the homeserver, with the prefix of the listener
        that has the resource C(adminapi). Required version is 1.3 or later.
      - With it, accounts are listed, locked and deactivated in this service as well. From version 1.5, the operator
        acts as other accounts by personal sessions of the service, and O(login_user) needs no password.
      - The service must be configured for the same homeserver. Otherwise, the module fails without changes.
      - Either O(mas_client_id) and O(mas_client_secret) or O(mas_access_token) are required with it. O(validate_certs),
        O(ca_path) and O(timeout) apply to this service, too.
    type: str
  mas_client_id:
    description:
      - ID of a client of the Matrix Authentication Service that may have the scope C(urn:mas:admin).
    type: str
  mas_client_secret:
    description:
      - Secret of O(mas_client_id).
    type: str
  mas_access_token:
    description:
      - Access token with the scope C(urn:mas:admin), instead of O(mas_client_id). It must stay valid until the end of
        the run.
    type: str
  server_name:
    description:
      - Expected name of the server. If the server has another name, the module fails without changes. By default, the
        name is not verified.
    type: str
  lease:
    description:
      - Lease ID of a run of a playbook, for example a random number. Only one lease ID can make changes on the server
        at a time. A module with another ID waits for up to 60 seconds until the lease has expired, in case the other
        run was killed. It fails if the lease is renewed meanwhile.
      - While a module works, it renews the lease every 5 seconds. If it cannot renew it, it sends no more writes, and
        fails after 120 seconds. Between two modules, the lease stays valid for the rest of 60 seconds.
      - The lease is stored in the account data of the operator. Modules ignore it if they only read, or in check mode.
        By default, no lease is taken.
    type: str
  validate_certs:
    description:
      - Whether to verify the TLS certificate of the server.
    type: bool
    default: true
  ca_path:
    description:
      - File or directory of the CA certificates to verify the certificate of the server with. By default, those of the
        system.
    type: path
  timeout:
    description:
      - Maximum time in seconds for one answer of the server, from the connection to the last byte.
    type: int
    default: 60
"""
