# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of this name, and meanwhile shows how far it has come."""

from __future__ import annotations

from typing import Any

from ansible_collections.matrixops.synapse.plugins.plugin_utils._watch import WatchedModule, duration


class ActionModule(WatchedModule):
    def describe(self, progress: dict[str, Any]) -> str:
        """C(120 of 500 accounts have left all rooms, 130 are deactivated; ...)."""
        accounts, deactivated, parted = progress["accounts"], progress["deactivated"], progress["parted"]
        # Without waiting for it, nobody is seen to part.
        done = parted or deactivated
        failed = f", {progress['failed']:,} failed" if progress["failed"] else ""
        rate = done / progress["elapsed"] if progress["elapsed"] else 0.0
        left = f"about {duration((accounts - done - progress['failed']) / rate)} left" if rate else "time left unknown"
        return (
            f"{parted:,} of {accounts:,} accounts have left all rooms, {deactivated:,} are deactivated{failed};"
            f" {rate:.1f} per second, {left}"
        )
