# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validate what the service ghost_cleanup is to do, build its program, and put that onto the host."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from typing import Any, Mapping

from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.sources import read_files
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import FederationError
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.config import ConfigError, parse_config
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _ghost_cleanup_program as program
from ansible_collections.matrixops.synapse.plugins.plugin_utils._archive import NOT_CONFIRMED


class ActionModule(ActionBase):
    """Lets the action plugin C(copy) compare and transfer."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(
            {
                "path": {"type": "path", "required": True},
                "config": {"type": "dict"},
                "rooms_paths": {"type": "list", "elements": "path", "default": []},
            }
        )
        paths = [
            os.path.join(path, NOT_CONFIRMED) if os.path.isdir(path) else path for path in arguments["rooms_paths"]
        ]
        try:
            if arguments["config"] is not None:
                _validate(arguments["config"], paths)
            content = program.build()
        except (FederationError, OSError, ValueError) as error:
            return {**result, "changed": False, "failed": True, "msg": f"No changes made: {error}"}
        with tempfile.NamedTemporaryFile(prefix="matrixops-", suffix=".pyz") as file:
            file.write(content)
            file.flush()
            answer = self._copy(file.name, str(arguments["path"]), task_vars or {})
        if answer.get("failed"):
            return {**result, **answer}
        shown: dict[str, Any] = {str(key): answer[key] for key in ("changed", "diff") if key in answer}
        sha256 = hashlib.sha256(content).hexdigest()
        return {**result, **shown, "sha256": sha256, "size": len(content), "rooms_paths": paths}

    def _copy(self, source: str, path: str, variables: dict[str, Any]) -> dict[str, Any]:
        task = self._task.copy()
        task.args = {"src": source, "dest": path, "owner": "root", "group": "root", "mode": "0644"}
        action = self._shared_loader_obj.action_loader.get(
            "ansible.legacy.copy",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        answer: dict[str, Any] = action.run(task_vars=variables)
        return answer


def _validate(config: Mapping[str, Any], paths: list[str]) -> None:
    """Validate the configuration, and the files with rooms on the controller.

    :raises FederationError: if something is wrong.
    """
    try:
        # Without Ansible's own types of texts.
        valid = parse_config(json.loads(json.dumps(config)))
    except ConfigError as error:
        # Each message begins with a key, and variables of the role are named after the keys.
        raise ConfigError(f"ghost_cleanup_{error}") from error
    try:
        read_files(paths, valid.server_name)
    except FederationError as error:
        raise ConfigError(f"ghost_cleanup_rooms_paths: {error}") from error
