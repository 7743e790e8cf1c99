#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_announcement
short_description: Send a server notice to every active account of a Synapse homeserver, once to each
version_added: 1.0.0
description:
  - Sends a text to every account that is active or suspended, and is neither a guest's nor an application service's.
    Synapse sends it in a room of its own for each account, which the account is invited to.
  - Synapse must be set up to send server notices, with C(server_notices) in C(homeserver.yaml).
  - Each account gets it once for each O(name), however often this is run, by whomever, and wherever it was killed. That
    an account has had it is read from the server itself, from a marker in the message.
  - The operator is told first. Nobody else is, until the operator's notice has been found again. For that, Synapse's
    statistics must not be switched off.
  - A large server takes its time. With a few requests at the same time, Synapse was seen to send 8 notices in a second.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - Unless the messages are gone from the server, because of a C(retention) policy or a purge of the rooms.
options:
  text:
    description:
      - What to say, as plain text.
    type: str
    required: true
  name:
    description:
      - What this announcement is called. An account that has had one of this name is not sent another, even if the
        text is another.
    type: str
    default: retirement
  concurrency:
    description:
      - How many accounts to deal with at the same time.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Say goodbye
  matrixops.synapse.synapse_announcement:
    access_token: "{{ synapse_access_token }}"
    text: example.org will be switched off for good at the end of the year.

- name: Remind everybody
  matrixops.synapse.synapse_announcement:
    access_token: "{{ synapse_access_token }}"
    name: last-week
    text: example.org will be switched off for good next week.
"""

RETURN = r"""
sent:
  description: How many accounts were sent it now.
  returned: when the accounts could be listed
  type: int
unchanged:
  description: How many accounts had had it before.
  returned: when the accounts could be listed
  type: int
failures:
  description: The accounts that it could not be sent to; no more than 1,000 of them.
  returned: when the accounts could be listed
  type: list
  elements: dict
  contains:
    user_id:
      description: The account.
      type: str
    reason:
      description: What the server said. Before 1.136, Synapse refuses to send notices to suspended accounts (403).
      type: str
failures_total:
  description: How many accounts it could not be sent to.
  returned: when the accounts could be listed
  type: int
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._announcement import Announcement
from ansible_collections.matrixops.synapse.plugins.module_utils._client import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule

MOST_NAMES = 1000
"""How many accounts a list of the result names: a server may have 200,000."""


def main() -> None:
    module = SynapseModule(
        {
            "text": {"type": "str", "required": True},
            "name": {"type": "str", "default": "retirement"},
            "concurrency": {"type": "int", "default": 8},
        }
    )
    params = module.params
    sent: list[str] = []
    failed: list[dict[str, str]] = []
    problem = None
    with module.client(connections=params["concurrency"], changes=True) as client:
        announcement = Announcement(client, params["name"], params["text"], params["concurrency"])
        try:
            for told in announcement.planned() if module.check_mode else announcement.tell():
                if told.reason is None:
                    sent.append(told.user_id)
                else:
                    failed.append({"user_id": told.user_id, "reason": told.reason})
        except SynapseError as error:
            problem = error

    result = {
        "changed": bool(sent),
        "sent": len(sent),
        "unchanged": announcement.unchanged,
        "failures": failed[:MOST_NAMES],
        "failures_total": len(failed),
    }
    if module._diff:  # it has every name
        after = "".join(f"{user_id} was told of {params['name']}\n" for user_id in sorted(sent))
        result["diff"] = {"before": "", "after": after}
    module.end(result, message(len(sent), failed, problem), problem)


def message(sent: int, failed: list[dict[str, str]], problem: SynapseError | None) -> str:
    """What went wrong, and what to do about it; empty if nothing did."""
    if problem is not None:
        return f"Stopped after {sent} accounts: {problem}. Run this again to go on."
    if failed:
        first = failed[0]
        told = f"{len(failed)} accounts could not be sent it, such as {first['user_id']}: {first['reason']}"
        return f"{told}. Run this again for what is left"
    return ""


if __name__ == "__main__":
    main()
