# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What contenders do who ask remote servers, without Ansible: ``bare TASK`` or ``loop TASK``.

TASK is a file in JSON: whom to ask about which rooms, as the modules take it. What was found goes to the output.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghost_record import GhostRecord
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import GhostRun, Room
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import KnownAccounts
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.connect import Settings, connect
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import (
    read_signing_key,
    sign_request,
)

SAMPLE = 20
"""The loop asks about one of so many pairs."""
TIMEOUT = 30.0


def bare(task: dict[str, Any]) -> dict[str, Any]:
    """Check as the module does by default."""
    rooms = [
        Room(room["room_id"], tuple(room["servers"]), KnownAccounts(tuple(room["accounts"]))) for room in task["rooms"]
    ]
    settings = Settings(ca_path=task["ca_path"], ip_allowlist=tuple(task["ip_allowlist"]))
    servers = {server for room in rooms for server in room.servers}
    with (
        connect(task["server_name"], task["signing_key"], settings, servers) as connection,
        GhostRecord(None, task["server_name"]) as record,
    ):
        run = GhostRun(connection.client, record.add)
        run.check(rooms)
        return {"counts": run.counts(), "requests": connection.client.sent}


def loop(task: dict[str, Any]) -> dict[str, Any]:
    """Ask about some pairs one after the other, in one request each. It takes for a ghost whatever is no 403."""
    key = read_signing_key(task["signing_key"])
    pairs = [(server, room["room_id"]) for room in task["rooms"] for server in room["servers"]][::SAMPLE]
    counts: Counter[str] = Counter()
    for server, room_id in pairs:
        target = f"/_matrix/federation/v1/state_ids/{quote(room_id, safe='')}?event_id=%24none"
        headers = {"Authorization": sign_request(task["server_name"], key, server, "GET", target, None)}
        try:
            answer = requests.get(f"https://{server}{target}", headers=headers, verify=task["ca_path"], timeout=TIMEOUT)
            counts["confirmed" if answer.status_code == 403 else "ghosts"] += 1
        except requests.RequestException:
            counts["unreachable"] += 1
    return {"counts": counts, "requests": len(pairs)}


if __name__ == "__main__":
    what, file = sys.argv[1:]
    print(json.dumps((loop if what == "loop" else bare)(json.loads(Path(file).read_text()))))
