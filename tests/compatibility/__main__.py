# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the collection with each ansible-core and each Synapse, and record the results: ``make matrix``.

The results are stored in docs/maintainers/compatibility.json, and shown in docs/maintainers/compatibility.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from lab import LabError, MissingError

from . import table
from .checks import CheckError, Playbook, playbook, sanity, units
from .environments import CORES, ROOT, SYNAPSES, MissingPythonError, ansible_core, synapse

LOGS = ROOT / ".cache/compatibility"
Result = dict[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(prog="compatibility", description=__doc__)
    parser.add_argument("--core", nargs="+", choices=CORES, help="only these; the others stay")
    parser.add_argument("--synapse", nargs="+", choices=SYNAPSES, help="only these; the others stay")
    parser.add_argument("--checks", nargs="+", choices=table.CHECKS, default=list(table.CHECKS), help="of each core")
    parser.add_argument("--dry-run", action="store_true", help="don't write the results down")
    options = parser.parse_args()
    everything = not (options.core or options.synapse)
    LOGS.mkdir(parents=True, exist_ok=True)
    results = table.read()
    commit = _git("describe", "--always", "--dirty", "--exclude=*")
    failed = False

    def keep(result: Result) -> None:
        result["commit"] = commit
        result["date"] = datetime.now(timezone.utc).date().isoformat()
        if not options.dry_run:
            table.write(results)

    if cores := list(CORES) if everything else options.core:
        with tempfile.TemporaryDirectory(prefix="compatibility-") as name:
            directory = Path(name)
            servers = Playbook(directory) if "playbook" in options.checks else None
            try:
                for core in cores:
                    result = results["cores"].setdefault(core, {})
                    failed |= not _try_core(core, options.checks, directory, servers, result)
                    keep(result)
            finally:
                if servers:
                    servers.close()
    for version in list(SYNAPSES) if everything else options.synapse or ():
        result = results["synapses"].setdefault(version, {})
        failed |= not _try_synapse(version, result)
        keep(result)
    return int(failed)


def _try_core(core: str, checks: list[str], directory: Path, servers: Playbook | None, result: Result) -> bool:
    """Try one ansible-core, and return whether all is well."""
    controller, managed = CORES[core]
    try:
        python = ansible_core(core, controller)
    except MissingPythonError as missing:
        print(missing)
        return False
    result["version"] = _version(python, "ansible-core")
    result["controller_python"], result["managed_python"] = controller, managed
    steps: dict[str, Callable[[], str]] = {
        "sanity": partial(sanity, python, directory),
        "units": partial(units, python, directory, controller),
        "managed_units": partial(units, python, directory, managed),
    }
    if servers:
        steps["playbook"] = partial(servers.check, python, managed)
    return _try("ansible-core", core, {check: steps[check] for check in checks}, result)


def _try_synapse(version: str, result: Result) -> bool:
    """Try one Synapse with the newest ansible-core, and return whether all is well."""
    core, (controller, managed) = list(CORES.items())[-1]
    try:
        python, synapse_python = ansible_core(core, controller), synapse(version)
    except MissingPythonError as missing:
        print(missing)
        return False
    result["version"] = _version(synapse_python, "matrix-synapse")
    steps = {name: partial(playbook, python, managed, synapse_python, name) for name in table.DATABASES}
    return _try("Synapse", version, steps, result)


def _try(what: str, name: str, steps: Mapping[str, Callable[[], str]], result: Result) -> bool:
    for step, check in steps.items():
        print(f"{what} {result['version']}: {step} ... ", end="", flush=True)
        started = time.monotonic()
        try:
            result[step] = check()
        except MissingError as missing:
            result.pop(step, None)
            print(f"not tried: {missing}")
        except (CheckError, LabError, OSError, subprocess.CalledProcessError, TimeoutError) as problem:
            log = LOGS / f"{name}-{step}.log"
            log.write_text(str(problem))
            result[step] = "failed"
            print(f"failed; see {log.relative_to(ROOT)}")
        else:
            print(f"{result[step]}, {time.monotonic() - started:.0f} s")
    return all(result.get(step, "failed") != "failed" for step in steps)


def _version(python: Path, package: str) -> str:
    code = f"from importlib.metadata import version; print(version('{package}'))"
    return subprocess.check_output([python, "-c", code], text=True).strip()


def _git(*arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=ROOT, text=True).strip()


if __name__ == "__main__":
    sys.exit(main())
