# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What it takes to see what each of very many destinations has been told, for the first time and again."""

from __future__ import annotations

import json
from typing import Any

from .contenders import Target, ledger
from .processes import timed
from .servers import Servers, scratch
from .stubs import destinations_stub

BEHIND = 50
POLLS = 4


def measure(_servers: Servers, _database: str, accounts: int, _contender: str) -> dict[str, Any]:
    """Some polls; the C(accounts) are destinations."""
    with destinations_stub(accounts) as base_url, scratch("ledger") as directory:
        command = ledger(Target(base_url, "secret", "example.org"), BEHIND, POLLS)
        usage = timed(command.arguments, directory, command.environment)
        output = (directory / "output").read_text()
    if usage.code:
        raise RuntimeError(f"the ledger ended with {usage.code}: {output[-2000:]}")
    return {"polls": [json.loads(line) for line in output.splitlines()], "own_memory": usage.memory}
