# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writing files that others should not read."""

from __future__ import annotations

import json
import os
from pathlib import Path


def write_private(path: Path, content: object) -> None:
    """Write JSON that only its owner can read, in one go."""
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(new, path)
