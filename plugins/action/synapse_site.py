# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of this name, and writes what it has collected on the controller."""

from __future__ import annotations

from typing import Any

from ansible_collections.matrixops.synapse.plugins.plugin_utils._progress_display import ProgressAction
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import content
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.layout import site_path


class ActionModule(ProgressAction):
    """There may be 100,000 aliases: they are in a file, and not in the result."""

    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        collected = result.pop("content", None)
        if result.get("failed") or collected is None:
            return result
        try:
            path = site_path(str(self._task.args["directory"]), str(self._task.args.get("server_name")))
            before = content.read(path)
            found = content.Content(content.rooms_of(collected), before.boundary if before else content.new_boundary())
            changed = found != before
            if changed and not self._task.check_mode:
                content.write(path, found)
        except (OSError, ValueError) as error:
            return {**result, "failed": True, "msg": f"Cannot write the collected aliases: {error}"}
        return {**result, "changed": changed, "path": str(path), "boundary": found.boundary}
