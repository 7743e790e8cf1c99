# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What 20,000 media files in 20,000 rooms take of the memory of the host and of the controller.

The server is the fake homeserver, in a process of its own. The times are only printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import Room
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import Record, write_record
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import KnownAccounts
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from stubs.helpers import SERVER, TOKEN
from stubs.homeserver import Homeserver, event

ROOT = Path(__file__).parents[2]
FILES = 20_000
FEW = 500
LARGE = 4 * 2**20
MOST_MEMORY = 250 * 2**20
"""Of each process, in bytes."""
LARGE_FILES = 40
"""How many of the files are large: more than would fit into that memory, with the batches of them."""

# In a small process of its own, since what a parent is told of a child includes its own memory, from before the exec.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
with open(sys.argv[1], "w") as peak:
    peak.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


def fill(homeserver: Homeserver, number: int) -> None:
    """Rooms with a remote account and a file each, all left by the only account."""
    (alice,) = homeserver.register("alice")
    for index in range(number):
        content = bytes([index % 256]) * (LARGE if index < LARGE_FILES else 100 + index % 1000)
        uri = homeserver.upload(f"media-{index:06}", content)
        room = homeserver.add_room(f"room-{index}", [alice, "@someone:other.example"])
        homeserver.events[room] = [event("m.room.message", {"url": uri})]
    homeserver.leave_all()


@pytest.fixture(params=[FEW, pytest.param(FILES, marks=pytest.mark.nightly(category="memory"))])
def number(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def base_url(number: int) -> Iterator[str]:
    homeserver = Homeserver()
    fill(homeserver, number)
    with homeserver.serve() as url:
        with Client(url, TOKEN) as client:
            record = Record()
            known = KnownAccounts((f"@alice:{SERVER}",))
            record.add(Room(room, ("other.example",), known) for room in homeserver.members)
            write_record(client, record)
        yield url


def test_memory(base_url: str, number: int, tmp_path: Path) -> None:
    options = {"base_url": base_url, "access_token": TOKEN, "select": "all", "boundary": "0123456789abcdef"}
    task: dict[str, Any] = {"matrixops.synapse.synapse_media": {**options, "directory": str(tmp_path / "media")}}
    task["register"] = "answer"
    keep = {"ansible.builtin.copy": {"content": "{{ answer | to_json }}", "dest": str(tmp_path / "answer.json")}}
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [task, keep]}
    (tmp_path / "playbook.json").write_text(json.dumps([play]))
    peak = tmp_path / "peak"
    ansible = [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", "-c", "local"]
    ansible += ["-e", f"ansible_python_interpreter={sys.executable}", "playbook.json"]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, peak, *ansible],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert (answer["downloaded"], answer["failures_total"]) == (number, 0)
    most = int(peak.read_text()) * 2**10
    print(f"{most / 2**20:.0f} MB at most, {answer['bytes'] / 2**20:.0f} MB downloaded")
    print(f"{time.monotonic() - began:.0f} s")
    assert answer["bytes"] > LARGE_FILES * LARGE
    assert most < MOST_MEMORY
