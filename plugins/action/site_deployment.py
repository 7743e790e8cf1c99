# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put a static site from the controller onto the host of a web server, as one archive."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Mapping

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.module_utils._site_release import TASK_OPTIONS
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import deployment


class ActionModule(ActionBase):
    """Reads and checks the site, and transfers it only if the host does not have it."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(TASK_OPTIONS)
        try:
            site = deployment.read_site(arguments["directory"], arguments["server_name"], arguments["sample"])
            options = deployment.module_options(site, arguments)
        except (OSError, ValueError) as error:
            return {**result, "changed": False, "failed": True, "msg": f"No changes made: {error}"}
        answer = self._execute_module(module_args=options, task_vars=task_vars)
        if answer.pop("needs_archive", False) and not answer.get("failed") and not self._task.check_mode:
            try:
                answer = self._transfer(site, options, task_vars or {})
            except (AnsibleError, OSError, ValueError) as error:
                return {**result, "changed": False, "failed": True, "msg": f"cannot transfer the site: {error}"}
        answer.pop("invocation", None)
        return {**result, **answer, **deployment.described(site, arguments)}

    def _transfer(self, site: deployment.SiteFiles, options: dict[str, Any], variables: Mapping[str, Any]) -> Any:
        """Run the module with an archive of the site on the host."""
        with tempfile.NamedTemporaryFile(prefix="matrixops-site-", suffix=".tar.gz") as file:
            deployment.write_archive(site, file)
            file.flush()
            directory = self._make_tmp_path()
            try:
                remote = self._connection._shell.join_path(directory, os.path.basename(file.name))
                self._transfer_file(file.name, remote)
                self._fixup_perms2((directory, remote))
                return self._execute_module(module_args={**options, "archive": remote}, task_vars=dict(variables))
            finally:
                self._remove_tmp_path(directory)
