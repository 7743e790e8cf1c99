# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module that Synapse itself loads: it forbids what a file says, to make the server fail on cue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Veto:
    """Forbids accounts to leave rooms, or to be deactivated: those that the file has under these words."""

    def __init__(self, config: dict[str, str], api: Any) -> None:
        self._file = Path(config["file"])
        api.register_third_party_rules_callbacks(
            check_event_allowed=self.check_event_allowed,
            check_can_deactivate_user=self.check_can_deactivate_user,
        )

    def _forbidden(self, action: str, user_id: str | None) -> bool:
        return self._file.exists() and user_id in json.loads(self._file.read_text()).get(action, [])

    async def check_event_allowed(self, event: Any, state: Any) -> tuple[bool, None]:
        leave = event.type == "m.room.member" and event.content.get("membership") == "leave"
        return not (leave and self._forbidden("leave", event.state_key)), None

    async def check_can_deactivate_user(self, user_id: str, by_admin: bool) -> bool:
        return not self._forbidden("deactivate", user_id)
