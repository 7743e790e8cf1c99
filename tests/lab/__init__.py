# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real Synapse servers on loopback, federating over TLS, for the demo, the tests and the benchmarks."""

from .api import ApiError
from .database import VOLATILE
from .dendrite import Dendrite
from .errors import LabError, MissingError
from .homeserver import Homeserver, Settings
from .lab import Lab
from .population import Population, populate

__all__ = [
    "VOLATILE",
    "ApiError",
    "Dendrite",
    "Homeserver",
    "Lab",
    "LabError",
    "MissingError",
    "Population",
    "Settings",
    "populate",
]
