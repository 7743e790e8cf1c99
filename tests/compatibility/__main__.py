# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Try the collection on each ansible-core, and write down what came of it: ``make matrix``.

The results go to docs/compatibility.json, and from there into docs/compatibility.md and the README.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from . import table
from .checks import CheckError, Playbook, sanity, units
from .environments import CORES, ROOT, MissingPythonError, ansible_core

LOGS = ROOT / ".cache/compatibility"


def main() -> int:
    parser = argparse.ArgumentParser(prog="compatibility", description=__doc__)
    parser.add_argument("--core", nargs="+", choices=CORES, default=list(CORES), help="only these; the others stay")
    parser.add_argument("--checks", nargs="+", choices=table.CHECKS, default=list(table.CHECKS), help="only these")
    parser.add_argument("--dry-run", action="store_true", help="don't write the results down")
    options = parser.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    results = table.read()
    commit = _git("describe", "--always", "--dirty", "--exclude=*")
    failed = False
    with tempfile.TemporaryDirectory(prefix="compatibility-") as name:
        directory = Path(name)
        playbook = Playbook(directory) if "playbook" in options.checks else None
        try:
            for core in options.core:
                result = results["cores"].setdefault(core, {})
                failed |= not _try(core, options.checks, directory, playbook, result)
                result["commit"] = commit
                result["date"] = datetime.now(timezone.utc).date().isoformat()
                if not options.dry_run:
                    table.write(results)
        finally:
            if playbook:
                playbook.close()
    return int(failed)


def _try(core: str, checks: list[str], directory: Path, playbook: Playbook | None, result: dict[str, str]) -> bool:
    """Try one ansible-core, and return whether all is well."""
    controller, managed = CORES[core]
    try:
        python = ansible_core(core, controller)
    except MissingPythonError as missing:
        print(missing)
        return False
    code = "import ansible.release; print(ansible.release.__version__)"
    result["version"] = subprocess.check_output([python, "-c", code], text=True).strip()
    result["controller_python"], result["managed_python"] = controller, managed
    steps: dict[str, Callable[[], str]] = {
        "sanity": partial(sanity, python, directory),
        "units": partial(units, python, directory, controller),
        "managed_units": partial(units, python, directory, managed),
    }
    if playbook:
        steps["playbook"] = partial(playbook.check, python, managed)
    for check in checks:
        print(f"ansible-core {result['version']}: {check} ... ", end="", flush=True)
        started = time.monotonic()
        try:
            result[check] = steps[check]()
        except (CheckError, OSError, subprocess.CalledProcessError, TimeoutError) as problem:
            log = LOGS / f"{core}-{check}.log"
            log.write_text(str(problem))
            result[check] = "failed"
            print(f"failed; see {log.relative_to(ROOT)}")
        else:
            print(f"{result[check]}, {time.monotonic() - started:.0f} s")
    return all(result[check] != "failed" for check in checks)


def _git(*arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=ROOT, text=True).strip()


if __name__ == "__main__":
    sys.exit(main())
