# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long it takes to drain some small servers with the playbook, so many of them at the same time."""

from __future__ import annotations

from functools import partial
from typing import Any

from .contenders import playbook
from .drain import Load, target
from .processes import timed
from .servers import Servers, populate, scratch

SERVERS = 4


def measure(servers: Servers, database: str, accounts: int, contender: str) -> dict[str, Any]:
    """All servers, with so many C(accounts) each; the contender is how many at the same time."""
    fill = partial(populate, accounts=accounts, drained=SERVERS)
    lab = servers.fresh(f"fleet-{database}-{accounts}", database, fill, SERVERS)
    load = Load(lab)
    with scratch(f"fleet-{contender}") as directory:
        targets = {name: target(server) for name, server in lab.servers.items()}
        command = playbook(targets, directory, serial=int(contender))
        usage = timed(command.arguments, directory, command.environment)
        if usage.code:
            raise RuntimeError(f"the playbook ended with {usage.code}: {(directory / 'output').read_text()[-2000:]}")
    return {
        "seconds": usage.seconds,
        "own_cpu": usage.cpu,
        "own_memory": usage.memory,
        **load.since(usage.cpu),
    }
