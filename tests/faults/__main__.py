# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write docs/faults.md from what ``make faults`` and ``make nightly`` have found."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

from .faults import MISHAPS, stages

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / ".cache/faults/results.jsonl"

BEFORE = """<!--
Copyright (c) 2026 the matrixops.synapse contributors
GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later
Written by `make faults`; don't edit.
-->

# Injected faults, and how a run ends

Two real Synapse servers, a proxy in front of the one that is decommissioned, and the playbook. A fault is injected at a
task of the stage, chosen at random. The operator then removes the fault, and runs the playbook again. After each run,
these are checked on the servers themselves, and not by what the playbook says:

- no admin is deactivated, and no account or membership of the remote server is changed;
- nothing is powered off while an account is active or in a room;
- a run exits with 0 only if the server is decommissioned, and otherwise with a message that says what to do;
- a run that exits with 0 has removed all ghosts from **the remote server**, or names that server as unreachable;
- the last run, without a fault, exits with 0: all accounts are deactivated, none is joined to a room, and **the remote
  server lists nobody**.

`4: 3 coped` means: the fault was injected in four runs, and three of them went on to the next stage or to the end. The
other one stopped or was killed, and a later run finished. **failed** means that one of the checks failed. `-` has not
been tried, or the run did not reach the stage.
"""
AFTER = """
How it is done: `tests/faults`. Times are shortened: a request without an answer is retried for some seconds instead of
two minutes, and the propagation period is a second. Modules run in the process that Ansible forks for the task. A full
disk is a limit to the size of files, set on the server's process; a database that is gone is locked by another process.
(In another test PostgreSQL is stopped for a minute, and requests are retried for two minutes.) The server that the URL
leads to accepts the operator's token as well, which is the worst case. A token that has expired gets the same answer as
one that was revoked. Requests to the remote server do not go through the proxy: it is killed, and starts again after
some seconds, or when the playbook is run again.

An account that registers between the last check and the power-off is seen by nobody: close registration first.

`make faults` injects each fault at each stage, and one or two faults at random in 200 decommissionings; no fault comes
again before all have come. `make nightly` does so, too. It prints its seed, and `SEED=<seed>` repeats it. `make test`
runs the sequences in `tests/faults/cases.py`, to which those that failed once are added.
"""


def main() -> None:
    path = Path(sys.argv[1]) if sys.argv[1:] else RESULTS
    cells: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for line in path.read_text().splitlines():
        result = json.loads(line)
        if result["struck"]:
            cells[result["mishap"], result["stage"]].update(
                {"runs": 1, "failed": int(not result["held"]), "coped": int(result["outcome"] == "coped")}
            )
    table = [f"| | {' | '.join(f'`{stage}`' for stage in stages())} |", "|---" * (len(stages()) + 1) + "|"]
    table += [f"| {name} | {' | '.join(shown(cells[name, stage]) for stage in stages())} |" for name in MISHAPS]
    runs = sum(cell["runs"] for cell in cells.values())
    failed = sum(cell["failed"] for cell in cells.values())
    total = f"\n{runs:,} faults in all; checks failed in {failed or 'none'} of them.\n"
    (ROOT / "docs/faults.md").write_text("\n".join([BEFORE, *table, total]) + AFTER)


def shown(cell: Counter[str]) -> str:
    if not cell["runs"]:
        return "-"
    failed = f", **{cell['failed']} failed**" if cell["failed"] else ""
    return f"{cell['runs']}: {cell['coped']} coped{failed}"


if __name__ == "__main__":
    main()
