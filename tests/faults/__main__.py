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

# What goes wrong, and what comes of it

Two real Synapse servers, a proxy before the one that is retired, and the playbook. At a task of the stage, chosen by
chance, something goes wrong; whoever runs it then mends that, and runs it again. In each case this was checked, on the
servers and not by what the playbook says:

- no admin is closed, and nothing of the other server's is touched;
- nothing is powered off while an account is open or in a room;
- the run ends with 0 only if the server is retired, and otherwise with a message that says what to do;
- it ends well, at the latest in the next run in which nothing goes wrong: everybody is closed and out of all rooms, and
  **the other server shows nobody**.

`4: 3 coped` means: it was tried four times, in three of them the run itself went on to the end or to the next stage,
and in the other it stopped, or was killed, and a later one went on. **failed** would mean that one of the above did not
hold, or that a run after it did not end well. `-` has not been tried: most often, since the run did not come there.
"""
AFTER = """
How it is done: `tests/faults`. The client's patience with a server that does not answer is shortened from two minutes
to some seconds, the period is a second, and modules run in the process that Ansible forks for the task, instead of a
Python of their own. A full disk is a limit to the size of files, set on the server's process; a database that is gone
is one that somebody else has locked. (In another test PostgreSQL is stopped for a minute, and the patience is two.)
The other server that the URL leads to takes the operator's token as well, which is the worst case. A token that has
expired gets the same answer as one that was revoked.

Who registers in the moment between the last look and the power-off is seen by nobody: close registration first.

`make faults` runs all of them, and 200 retirements with one or two mishaps each, chosen at random; no mishap comes
again before all have come. `make nightly` does so, too. It prints its seed, and `SEED=<seed>` repeats it. `make test`
runs the few that `tests/faults/cases.py` lists: those that failed once are among them.
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
    total = f"\n{runs:,} mishaps in all; in {failed or 'none'} of them something did not hold.\n"
    (ROOT / "docs/faults.md").write_text("\n".join([BEFORE, *table, total]) + AFTER)


def shown(cell: Counter[str]) -> str:
    if not cell["runs"]:
        return "-"
    failed = f", **{cell['failed']} failed**" if cell["failed"] else ""
    return f"{cell['runs']}: {cell['coped']} coped{failed}"


if __name__ == "__main__":
    main()
