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
        if "step" in progress:
            return super().describe(progress)
        accounts, failed, seconds = progress["accounts"], progress["failed"], progress["elapsed"]
        deactivated, left_all = progress["deactivated"], progress["left_all_rooms"]
        left = max(progress["left"], left_all)
        out = f", {left_all:,} have left all rooms" if left_all else ""
        given_up = progress.get("left_to_deactivation", 0)
        if given_up:
            out += f", {given_up:,} leave with their deactivation only, since their leaves get no answer"
        remaining = self._time_left(seconds, accounts - failed, left, deactivated, left_all)
        return (
            f"{left:,} of {accounts:,} accounts have left all federated rooms, {deactivated:,} are deactivated{out}"
            f"{f', {failed:,} failed' if failed else ''}; {remaining}"
        )

    def _time_left(self, elapsed: float, accounts: int, left: int, deactivated: int, left_all: int) -> str:
        """Return how long the rest takes. An account leaves its federated rooms, and is deactivated later.

        Unless the run waits for all rooms: then Synapse makes it leave them.
        """
        if left_all:
            return self._paces["left_all"].time_left(elapsed, left_all, accounts)
        until_left = self._paces["left"].seconds_left(elapsed, left, accounts)
        if left >= accounts:
            return self._paces["deactivated"].time_left(elapsed, deactivated, accounts)
        if until_left is None:
            return "time left unknown"
        # Until the deactivations begin, one is taken to last as long as the leaves of an account.
        until_deactivated = until_left / (accounts - left) * (accounts - deactivated)
        return f"about {duration(until_left + until_deactivated)} left"
