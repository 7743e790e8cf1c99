# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What it takes to list very many accounts: from a stub that answers at once, and from a real server."""

from __future__ import annotations

from functools import partial
from typing import Any

from .contenders import FOUND, LISTINGS, Target
from .drain import target
from .processes import timed
from .servers import Servers, insert_accounts, scratch
from .stubs import accounts_stub


def measure(servers: Servers, database: str, accounts: int, contender: str) -> dict[str, Any]:
    """One contender's run, against the stub if that is the C(database)."""
    if database == "stub":
        with accounts_stub(accounts) as base_url:
            return _listed(Target(base_url, "token", "example.org"), contender, accounts)
    fill = partial(insert_accounts, accounts=accounts)
    lab = servers.fresh(f"listing-{database}-{accounts}", database, fill)
    return _listed(target(lab["s0"]), contender, accounts + 1)  # and the operator


def _listed(server: Target, contender: str, expected: int) -> dict[str, Any]:
    with scratch(f"listing-{contender}") as directory:
        command = LISTINGS[contender](server, directory)
        usage = timed(command.arguments, directory, command.environment)
        file = directory / FOUND
        found = int(file.read_text()) if file.exists() else 0
    return {
        "code": usage.code,
        "missing": expected - found,
        "seconds": usage.seconds,
        "own_cpu": usage.cpu,
        "own_memory": usage.memory,
    }
