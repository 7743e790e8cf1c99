# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules do, without Ansible: ``drain``, ``list FILE`` or ``ledger BEHIND POLLS``.

C(BASE_URL) and C(TOKEN) in the environment say of which server.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._destinations import read_ledger
from ansible_collections.matrixops.synapse.plugins.module_utils._drain import Options
from ansible_collections.matrixops.synapse.plugins.module_utils._drain import drain as drain_all
from ansible_collections.matrixops.synapse.plugins.module_utils._journal import Journal
from ansible_collections.matrixops.synapse.plugins.module_utils._users import list_users

CONCURRENCY = 8


def drain(client: Client) -> None:
    """Drain the server as the module does by default."""
    options = Options(concurrency=CONCURRENCY)
    with Journal() as journal:
        result = drain_all(client, None, options, journal)
    if result.aborted or result.failed or result.not_parted:
        sys.exit(str(result))


def list_to(client: Client, file: str) -> None:
    """Write how many accounts there are."""
    Path(file).write_text(str(sum(1 for _user in list_users(client))))


def ledger(client: Client, behind: int, polls: int) -> None:
    """Poll the ledger of the stub, which so many destinations are behind on, and print a line for each poll."""
    known = None
    for _poll in range(polls):
        client.get("/stub/{}", str(behind))
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
        began = time.perf_counter()
        found = read_ledger(client, CONCURRENCY, known=known)
        seconds = time.perf_counter() - began
        known = found.known
        requests = client.get("/stub/{}", str(behind))["requests"] - 1
        pending = found.summary["pending"]
        print(json.dumps({"seconds": seconds, "memory": _peak(), "requests": requests, "pending": pending}))


def _peak() -> int:
    status = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(status[1]) * 1024 if status else 0


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    with Client(os.environ["BASE_URL"], os.environ["TOKEN"], connections=CONCURRENCY) as opened:
        if what == "drain":
            drain(opened)
        elif what == "list":
            list_to(opened, *arguments)
        else:
            ledger(opened, *map(int, arguments))
