# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tests that take too long for ``make test``, one category after the other: ``make nightly``.

Each category leaves a report and a log in ``.cache/nightly``. All chance starts from a seed that is printed;
``SEED=<seed>`` repeats it.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / ".cache/nightly"
CATEGORIES = {
    "random": "the tests of make test that draw by chance, from another seed",
    "faults": "each fault at each stage, and 200 sequences of faults by chance",
    "kills": "a controller or homeserver that is killed, at many points",
    "variations": "what make test tries, with other options",
    "scale": "hundreds of accounts on a real server",
    "memory": "200,000 accounts in little memory",
    "browser": "the certificate in Chromium",
    "dendrite": "Dendrite as a remote server",
    "hosts": "real machines over SSH",
    "scenarios": "remote servers that are down, back, or barred",
    "workers": "a Synapse of several processes, each of which is killed, frozen or delayed",
    "versions": "each ansible-core and each Synapse",
}
"""The categories that the mark ``nightly`` takes, in the order in which they run."""
RANDOM = ["tests/unit/test_hostile_input.py", "tests/integration/test_kill.py"]
PROCESSES = {"faults": 2, "workers": 3}
"""How many tests of a category run at the same time, if not one."""


def main() -> int:
    """Return the number of categories that failed."""
    parser = argparse.ArgumentParser(prog="nightly", description=__doc__)
    parser.add_argument("categories", nargs="*", help=f"only these of {', '.join(CATEGORIES)}")
    categories = parser.parse_args().categories or list(CATEGORIES)
    if unknown := set(categories).difference(CATEGORIES):
        parser.error(f"no such category: {', '.join(unknown)}")
    REPORTS.mkdir(parents=True, exist_ok=True)
    seed = os.environ.get("SEED") or str(random.randrange(2**32))
    print(f"SEED={seed}", flush=True)
    failed = [category for category in categories if _run(category, seed) != 0]
    print(f"{len(failed)} of {len(categories)} categories failed: {', '.join(failed) or 'none'}")
    return len(failed)


def _run(category: str, seed: str) -> int:
    """Run a category, print a line about it, and return pytest's exit code."""
    report, log = (REPORTS / f"{category}.{kind}" for kind in ("xml", "log"))
    report.unlink(missing_ok=True)
    chosen = ["-m", f"nightly(category={category!r})"]
    if category == "random":
        chosen = [*RANDOM, f"--hypothesis-seed={seed}"]
    processes = [f"--numprocesses={PROCESSES[category]}"] if category in PROCESSES else []
    started = time.monotonic()
    with log.open("w") as output:
        code = subprocess.run(
            [sys.executable, "-m", "pytest", "-v", "--durations=20", f"--junit-xml={report}", *processes, *chosen],
            cwd=ROOT,
            env={**os.environ, "SEED": seed},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    minutes = (time.monotonic() - started) / 60
    print(f"{category}: {_counts(report)}, {minutes:.0f} min; the log is {log.relative_to(ROOT)}", flush=True)
    return code


def _counts(report: Path) -> str:
    if not report.exists():
        return "no report"
    suite = next(ElementTree.parse(report).iter("testsuite")).attrib  # noqa: S314 - pytest has written it
    failed = int(suite["failures"]) + int(suite["errors"])
    return f"{suite['tests']} tests, {failed} failed, {suite['skipped']} skipped"


if __name__ == "__main__":
    sys.exit(main())
