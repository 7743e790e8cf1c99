# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of this name, and meanwhile shows how far it has come."""

from __future__ import annotations

from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._text import duration
from ansible_collections.matrixops.synapse.plugins.plugin_utils._progress_display import ProgressAction


class ActionModule(ProgressAction):
    def describe(self, progress: dict[str, Any]) -> str:
        """C(120 of 500 accounts have left all federated rooms, 130 are deactivated; ...)."""
        accounts, failed, seconds = progress["accounts"], progress["failed"], progress["elapsed"]
        deactivated, left_all = progress["deactivated"], progress["left_all_rooms"]
        left = max(progress["left"], left_all)
        out = f", {left_all:,} have left all rooms" if left_all else ""
        # Leaving the federated rooms is about half of the work, unless the run waits for all rooms.
        done = left_all or (left + deactivated) / 2
        rate = done / seconds if seconds else 0.0
        remaining = f"about {duration(round((accounts - done - failed) / rate))} left" if rate else "time left unknown"
        return (
            f"{left:,} of {accounts:,} accounts have left all federated rooms, {deactivated:,} are deactivated{out}"
            f"{f', {failed:,} failed' if failed else ''}; {rate:.1f} per second, {remaining}"
        )
