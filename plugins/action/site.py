# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the static site of a decommissioned server on the controller."""

from __future__ import annotations

from typing import Any, Mapping

from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import content, layout
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.site import Site

SHOWN = ("rooms", "aliases", "media_files", "media_bytes", "sha256")


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(
            {
                "directory": {"type": "path", "required": True},
                "server_name": {"type": "str", "required": True},
                # The answer is public.
                "key_answer": {"type": "dict", "required": True, "no_log": False},
                "operator": {"type": "str", "default": ""},
                "contact": {"type": "str", "default": ""},
                "text": {"type": "str", "default": ""},
                "list_rooms": {"type": "bool", "default": False},
            },
        )
        name = str(arguments["server_name"])
        try:
            path = layout.site_path(arguments["directory"], name)
            result["path"] = str(path)
            found = content.read(path)
            if found is None and self._task.check_mode:
                # Before the first run, the options can be checked all the same.
                found = content.Content((), content.new_boundary())
            site = _site(arguments, found)
            files = layout.changed(path, site) if self._task.check_mode else layout.write(path, site)
            summary = None if self._task.check_mode else layout.read_summary(path)
        except (OSError, ValueError) as error:
            return {**result, "failed": True, "msg": f"Cannot write the site of {name}: {error}"}
        shown = {"summary": {key: summary[key] for key in SHOWN}} if summary else {}
        return {**result, **shown, "changed": bool(files), "files": len(files)}


def _site(arguments: Mapping[str, Any], found: content.Content | None) -> Site:
    """
    :raises ValueError: if an option is invalid, or nothing was collected.
    """
    if found is None:
        raise ValueError("nothing was collected. Run synapse_site first, while the homeserver is on")
    key_answer = dict(arguments["key_answer"])
    try:
        closed = max(key["expired_ts"] for key in key_answer["old_verify_keys"].values()) // 1000
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ValueError(
            "key_answer has no expired key. Set it to the key_answer of matrixops.synapse.archive"
        ) from None
    texts = {option: str(arguments[option]) for option in ("operator", "contact", "text")}
    return Site(
        server_name=str(arguments["server_name"]),
        key_answer=key_answer,
        rooms=found.rooms,
        closed=closed,
        boundary=found.boundary,
        list_rooms=bool(arguments["list_rooms"]),
        **texts,
    )
