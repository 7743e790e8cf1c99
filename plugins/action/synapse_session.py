# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open or close a session. The access token is encrypted in the output of the module, and decrypted here."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.module_utils._sealed import new_key, unseal
from ansible_collections.matrixops.synapse.plugins.plugin_utils._secrets import refuse_secrets


class ActionModule(ActionBase):
    """Runs the module of this name with a key for its result."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        refusal = refuse_secrets(self._task.args)
        if refusal:
            return {**result, **refusal}
        key = new_key()
        answer = dict(self._execute_module(module_args={**self._task.args, "one_time_key": key}, task_vars=task_vars))
        sealed = answer.pop("sealed_token", None)
        if sealed is not None and not answer.get("failed"):
            answer["access_token"] = unseal(key, sealed).decode()
        return {**result, **answer}
