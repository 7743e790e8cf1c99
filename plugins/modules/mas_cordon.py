#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mas_cordon
short_description: Close the registration of a Matrix Authentication Service
version_added: 1.0.0
description:
  - Closes the registration without a restart, by the policy data of the service, and revokes its registration tokens.
    Sign-ups through upstream providers are refused as well. All other policy data is kept. The result is read back.
  - Other processes of the service apply it within 60 seconds.
  - B(A registration that was begun before can still be finished.) List the accounts again later, as
    M(matrixops.synapse.synapse_decommission_gate) does.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) closes the registration. V(absent) undoes that, and makes the registration tokens in O(tokens) valid
        again.
    type: str
    choices: [present, absent]
    default: present
  tokens:
    description:
      - IDs of registration tokens, from RV(tokens) of the task that has revoked them. Ignored with O(state=present).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Close the registration
  matrixops.synapse.mas_cordon:
    mas_url: http://localhost:8080
    mas_client_id: 01HFVBY12TMNTYTBV8W921M5FA
    mas_client_secret: "{{ mas_client_secret }}"
    login_user: admin
  register: cordon

- name: Open the registration again
  matrixops.synapse.mas_cordon:
    mas_url: http://localhost:8080
    mas_client_id: 01HFVBY12TMNTYTBV8W921M5FA
    mas_client_secret: "{{ mas_client_secret }}"
    login_user: admin
    state: absent
    tokens: "{{ cordon.tokens }}"
"""

RETURN = r"""
open:
  description: Whether the policy lets users register, before the task.
  returned: success
  type: bool
tokens:
  description: IDs of the registration tokens that were revoked, or made valid again. These are no secrets.
  returned: success
  type: list
  elements: str
providers:
  description: Names of the enabled upstream providers. Their users can still log in.
  returned: success
  type: list
  elements: str
passwords:
  description: Whether the service offers the registration with a password.
  returned: success
  type: bool
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._mas.cordon import (
    close_registration,
    open_registration,
    read_registration,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule


def describe(is_open: bool, valid: int) -> str:
    return f"registration {'open' if is_open else 'closed'}, {valid} valid registration tokens\n"


def main() -> None:
    module = SynapseModule(
        {
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "tokens": {"type": "list", "elements": "str", "default": [], "no_log": False},
        }
    )
    closes = module.params["state"] == "present"
    with module.client(changes=True) as client:
        mas = module.mas(client).mas
        before = read_registration(mas)
        # A token that is valid already need not be made so.
        tokens = before.tokens if closes else sorted(set(module.params["tokens"]) - set(before.tokens))
        changed = bool(tokens) or before.open is closes
        if changed and not module.check_mode:
            if closes:
                close_registration(mas, before)
            else:
                open_registration(mas, tokens)
    valid = len(before.tokens)
    after = describe(not closes, 0 if closes else valid + len(tokens))
    module.exit_json(
        changed=changed,
        open=before.open,
        tokens=tokens,
        providers=before.providers,
        passwords=before.passwords,
        diff={"before": describe(before.open, valid), "after": after},
    )


if __name__ == "__main__":
    main()
