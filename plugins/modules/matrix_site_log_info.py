#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: matrix_site_log_info
short_description: Gather the remote servers that still send transactions to a static site
version_added: 1.0.0
description:
  - Reads the log of transactions of the static site of a decommissioned server, on the host of its web server.
  - A remote server that still sends transactions still lists an account of the decommissioned server in a room. Remove
    such ghosts with M(matrixops.synapse.matrix_ghosts).
  - Nothing verifies that a transaction is from the server that it names.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.info_module
options:
  path:
    description:
      - Path of the log. It is in the format of the static site for nginx or Caddy.
      - A file of the same name with the suffix C(.1), to which the log was rotated, is read as well. It is not an error
        if neither exists.
    type: path
    required: true
  max_bytes:
    description:
      - Maximum number of bytes to read, from the end of the log.
    type: int
    default: 16777216
"""

EXAMPLES = r"""
- name: Find the remote servers that still send transactions
  matrixops.synapse.matrix_site_log_info:
    path: /var/log/nginx/decommissioned-matrix.log
  become: true
  register: log
"""

RETURN = r"""
servers:
  description:
    - Remote servers that have sent a transaction, at most 1,000. The one with the most recent transaction is the first.
  returned: success
  type: list
  elements: dict
  contains:
    server:
      description: Server name.
      type: str
    count:
      description: Number of transactions.
      type: int
    first:
      description: Time of the first one in seconds since 1970.
      type: int
    last:
      description: Time of the last one in seconds since 1970.
      type: int
  sample:
    - server: matrix.example
      count: 12
      first: 1795000000
      last: 1795086400
total:
  description: Number of remote servers, also beyond the limit of RV(servers).
  returned: success
  type: int
invalid:
  description:
    - Number of lines without a valid time and server name. Each run of M(matrixops.synapse.matrix_site_info) adds one.
  returned: success
  type: int
truncated:
  description: Whether there are older lines beyond O(max_bytes).
  returned: success
  type: bool
table:
  description: RV(servers) as lines of text.
  returned: success
  type: list
  elements: str
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.transaction_log import (
    Transactions,
    read_log,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._results import MAX_NAMES
from ansible_collections.matrixops.synapse.plugins.module_utils._text import date, plural, printable

OPTIONS: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "max_bytes": {"type": "int", "default": 16 * 1024 * 1024},
}
MAX_ROWS = 30
"""Maximum number of servers in the table."""


def table(transactions: Transactions) -> list[str]:
    """Return the servers as aligned lines, and how many are left out."""
    shown = transactions.origins[:MAX_ROWS]
    width = max((len(origin.server) for origin in shown), default=0)
    lines = [
        f"{printable(origin.server):<{width}}  {plural(origin.count, 'transaction', 'transactions')},"
        f" last {date(origin.last)}, first {date(origin.first)}"
        for origin in shown
    ]
    if len(transactions.origins) > MAX_ROWS:
        lines.append(f"and {plural(len(transactions.origins) - MAX_ROWS, 'more server', 'more servers')}")
    return lines


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    path, max_bytes = module.params["path"], module.params["max_bytes"]
    if max_bytes < 1:
        module.fail_json(msg=f"max_bytes is {max_bytes}: set it to 1 or more")
    try:
        found = read_log(path, max_bytes)
    except PermissionError:
        module.fail_json(msg=f"{path} can't be read by this user: set become: true")
    except OSError as error:
        module.fail_json(msg=f"{printable(path)} can't be read: {printable(error.strerror or str(error))}")
    module.exit_json(
        changed=False,
        servers=[asdict(origin) for origin in found.origins[:MAX_NAMES]],
        total=len(found.origins),
        invalid=found.invalid,
        truncated=found.truncated,
        table=table(found),
    )


if __name__ == "__main__":
    main()
