# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of this name, and leaves its result as a ticket that the power-off demands."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.matrixops.synapse.plugins.plugin_utils import _gate_ticket
from ansible_collections.matrixops.synapse.plugins.plugin_utils._progress_display import GhostProgressAction


class ActionModule(GhostProgressAction):
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        host = str((task_vars or {}).get("inventory_hostname", ""))
        _gate_ticket.remove(host)
        _gate_ticket.refuse_internal_variables()
        self._task.args["clock"] = int(time.time())
        result = super().run(tmp, task_vars)
        if not result.get("failed") and "open" in result and not self._task.check_mode:
            _gate_ticket.write(host, str(self._task.args.get("server_name", "")), is_open=result["open"])
        return result
