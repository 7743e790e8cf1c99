# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real machines that boot systemd (systemd-nspawn), each with a Synapse, reached over SSH and powered off for real."""

from .base import build, require_machine
from .host import Host, HostedHomeserver
from .hostlab import HostLab
from .population import populate

__all__ = ["Host", "HostLab", "HostedHomeserver", "build", "populate", "require_machine"]
