# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugins of modules with secrets in their arguments or results."""

from __future__ import annotations

from typing import Any, Mapping

from ansible import constants
from ansible.plugins.action.normal import ActionModule as NormalAction

SECRETS = (
    "access_token",
    "login_password",
    "mas_client_secret",
    "mas_access_token",
    "signing_key",
    "proxy",
    "federation_proxy",
)
"""Options of the modules that are secret, or may contain a password."""


def debug_refusal(names: str) -> dict[str, Any] | None:
    """Return a failed result if C(ANSIBLE_DEBUG) is set, with which Ansible prints and logs all arguments of modules.

    :param names: the secrets, for the message.
    """
    if not constants.DEFAULT_DEBUG:
        return None
    message = (
        f"No changes made: ANSIBLE_DEBUG is set, with which Ansible prints and logs {names}. Unset ANSIBLE_DEBUG, or"
        " set debug = false in ansible.cfg; use -vvvv instead"
    )
    return {"changed": False, "failed": True, "msg": message}


def refuse_secrets(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a failed result if an argument is secret and would be printed."""
    names = [name for name in SECRETS if arguments.get(name)]
    return debug_refusal(", ".join(names)) if names else None


class SecretAction(NormalAction):
    """Runs the module of the same name, unless its secrets would be printed."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        return refuse_secrets(self._task.args) or dict(super().run(tmp, task_vars))
