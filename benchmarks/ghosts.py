# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What it takes to check very many pairs of remote server and room."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from .asking import SAMPLE
from .contenders import FOUND, Command, module_from, python
from .processes import busy, cpu_of, timed
from .remote_servers import Federation, Running, running
from .servers import Servers, scratch

SHAPES = ("even", "even-dead", "skewed", "skewed-dead")


def contenders(shape: str) -> tuple[str, ...]:
    """Who is measured. The loop waits for the timeout of each pair of a dead server, which takes hours."""
    if shape.endswith("-dead"):
        return ("bare",)
    return ("loop", "module", "bare") if shape == "even" else ("loop", "bare")


def measure(_servers: Servers, database: str, accounts: int, contender: str) -> dict[str, Any]:
    """One contender's check of so many pairs (C(accounts)) in a federation of a shape (C(database))."""
    federation = Federation.of(database, accounts)
    with running(federation) as remote, scratch(f"ghosts-{contender}") as directory:
        command = _command(contender, remote, directory)
        before = busy()
        usage = timed(command.arguments, directory, command.environment)
        others = busy() - before - usage.cpu - cpu_of(remote.pid)
        output = (directory / "output").read_text()
        if usage.code:
            raise RuntimeError(f"{contender} ended with {usage.code}: {output[-2000:]}")
        found = json.loads((directory / FOUND).read_text() if contender == "module" else output)
    times = SAMPLE if contender == "loop" else 1
    return {
        "pairs": sum(federation.rooms),
        "seconds": usage.seconds * times,
        "own_cpu": usage.cpu * times,
        "own_memory": usage.memory,
        "other_cpu": max(0.0, others) * times,
        "requests": found["requests"] * times,
        "extrapolated": times > 1,
        # The loop does not tell an account from another.
        "right": times > 1 or +Counter(found["counts"]) == federation.states(),
    }


def _command(contender: str, remote: Running, directory: Path) -> Command:
    task = {
        "server_name": remote.server_name,
        "signing_key": remote.key_file,
        "ca_path": remote.ca_path,
        "ip_allowlist": ["127.0.0.0/8", "::1"],
        "rooms": remote.rooms,
    }
    file = directory / "task.json"
    file.write_text(json.dumps(task))
    if contender == "module":
        return module_from(file, "matrix_ghosts_info", tuple(task), directory)
    return python("asking", contender, file)
