# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of this name, and meanwhile shows how far it has come."""

from __future__ import annotations

from ansible_collections.matrixops.synapse.plugins.plugin_utils._progress_display import ProgressAction


class ActionModule(ProgressAction):
    """See C(ProgressAction)."""
