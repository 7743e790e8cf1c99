#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_announcement
short_description: Send a server notice once to each active account of a Synapse homeserver
version_added: 1.0.0
description:
  - Sends a text to all active and suspended accounts, except guests and accounts of application services. Synapse
    creates a room for each account, and invites the account to it.
  - Synapse must be configured to send server notices, with C(server_notices) in C(homeserver.yaml).
  - Each account receives one notice for each O(name), even if the module is killed, run again, or run from another
    controller. Notices are found on the server itself, by a marker in the message.
  - The operator receives the first notice. Other notices are sent once this one was found on the server, which requires
    that Synapse's statistics are enabled.
  - Synapse sent about 8 notices per second in a test.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.progress
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - If notices are deleted from the server, by a C(retention) policy or a purge of rooms, they are sent again.
options:
  text:
    description:
      - Text of the notice, as plain text.
    type: str
    required: true
  name:
    description:
      - Name of the announcement. An account that has a notice with this name does not receive another one, even if
        O(text) differs.
    type: str
    default: decommissioning
  concurrency:
    description:
      - Maximum number of requests at the same time.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Announce the decommissioning
  matrixops.synapse.synapse_announcement:
    access_token: "{{ synapse_access_token }}"
    text: example.org will be switched off for good at the end of the year.

- name: Send a reminder
  matrixops.synapse.synapse_announcement:
    access_token: "{{ synapse_access_token }}"
    name: last-week
    text: example.org will be switched off for good next week.
"""

RETURN = r"""
sent:
  description: Number of accounts that the notice was sent to, or would be in check mode.
  returned: when the accounts could be listed
  type: int
unchanged:
  description: Number of accounts that have received it before.
  returned: when the accounts could be listed
  type: int
failures:
  description: The accounts that it could not be sent to, at most 1,000. The module fails if there are any.
  returned: when the accounts could be listed
  type: list
  elements: dict
  contains:
    user_id:
      description: User ID of the account.
      type: str
    reason:
      description: The error. Synapse before 1.136 refuses to send notices to suspended accounts (403).
      type: str
failures_total:
  description: Number of accounts that it could not be sent to.
  returned: when the accounts could be listed
  type: int
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.announcement import Announcement
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._results import with_reasons
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError


def main() -> None:
    module = SynapseModule(
        {
            "text": {"type": "str", "required": True},
            "name": {"type": "str", "default": "decommissioning"},
            "concurrency": {"type": "int", "default": 8},
        },
        shows_progress=True,
    )
    params = module.params
    sent: list[str] = []
    failed: dict[str, str] = {}
    aborted = None
    with module.client(changes=True) as client:
        announcement = Announcement(client, params["name"], params["text"], dry_run=module.check_mode)
        try:
            for user_id, reason in announcement.predict() if module.check_mode else announcement.send():
                if reason is None:
                    sent.append(user_id)
                else:
                    failed[user_id] = reason
        except SynapseError as error:
            aborted = error

    result = {
        "changed": bool(sent),
        "sent": len(sent),
        "unchanged": announcement.unchanged,
        "failures": with_reasons("user_id", failed),
        "failures_total": len(failed),
    }
    after = "".join(f"{user_id} has the announcement {params['name']}\n" for user_id in sorted(sent))
    result["diff"] = {"before": "", "after": after}
    module.end(result, message(len(sent), failed, aborted), aborted)


def message(sent: int, failed: dict[str, str], aborted: SynapseError | None) -> str:
    """The message of a failed module; empty if nothing failed."""
    if aborted is not None:
        return f"Stopped after {sent} notices: {aborted}. Run again to resume"
    if failed:
        user_id, reason = next(iter(failed.items()))
        example = f"{len(failed)} accounts could not be sent the notice, for example {user_id}: {reason}"
        return f"{example}. Run again to retry them"
    return ""


if __name__ == "__main__":
    main()
