# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line: ``python -m benchmarks run``, ``report`` or ``compare``; the Makefile knows the environment."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lab import LabError, MissingError
from lab.lab import default_python
from lab.postgresql import binaries

from .contenders import DESCRIPTIONS, DRAINS, SYNADM
from .plan import MEASURES, POINTS, QUICK, Plan
from .processes import pace
from .report import compare, write
from .results import Results, ResultsError, machine
from .scale import SIZES
from .servers import Servers

BASE_PORT = 18750
SETTINGS = (
    "One process of Synapse for each server; rate limits and presence are off. Three memberships for"
    " each account: in the room of all, a room of 20 and a room of two. A third of the memberships is in rooms that the"
    " remote server is in: half of the rooms of 20 and of two. One of 50 accounts is locked, one of 100 has a `/` in"
    " its name. All contenders erase. Each run begins on the same snapshot of both servers, just after a restart. The"
    " tables show the median, and the minimum and maximum."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. The exit code is 0 when all was measured, or all claims hold."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except (ResultsError, LabError) as problem:
        print(f"benchmarks: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from here.", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="measure what is not in the file yet")
    run.set_defaults(command=_run)
    run.add_argument("result", type=Path, metavar="FILE", help="file of results (.jsonl)")
    run.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    run.add_argument("--base-port", type=int, default=BASE_PORT, help="the first of the ten ports (%(default)s)")
    run.add_argument("--points", nargs="+", choices=POINTS)
    run.add_argument("--databases", nargs="+", choices=("sqlite", "postgresql"))
    run.add_argument("--contenders", nargs="+", choices=DRAINS, help="in the drain")
    run.add_argument("--accounts", nargs="+", type=int, help="in the drain")
    run.add_argument("--listing", type=int, metavar="ACCOUNTS")
    run.add_argument("--fleet", type=int, metavar="ACCOUNTS", help="of each server")
    run.add_argument("--pairs", type=int, help="of server and room, in ghosts")
    run.add_argument("--scale", nargs="+", choices=SIZES, help="the sizes of the large server")
    run.add_argument("--runs", type=int)
    run.add_argument("--list", action="store_true", help="only say what would be measured")

    report = commands.add_parser("report", help="say what came of it, as Markdown")
    report.set_defaults(command=_report)
    report.add_argument("result", type=Path, metavar="FILE")
    report.add_argument("--into", type=Path, metavar="PAGE", help="put it between the markers of a page")

    second = commands.add_parser("compare", help="see whether what one file says holds in another")
    second.set_defaults(command=_compare)
    second.add_argument("result", type=Path, metavar="FILE")
    second.add_argument("other", type=Path, metavar="OTHER")
    return parser


def _run(options: argparse.Namespace) -> int:
    plan = QUICK if options.quick else Plan()
    chosen = {field.name: getattr(options, field.name) for field in fields(Plan)}
    plan = replace(plan, **{name: value for name, value in chosen.items() if value is not None})
    jobs = list(plan.jobs())
    if options.list:
        print("\n".join(json.dumps(job) for job in jobs))
        return 0
    # Where all servers are stubs, nothing else is needed to ask them.
    has_servers = not {"ghosts", "scale"}.issuperset(plan.points)
    for program in ("curl", "jq", "xargs", str(SYNADM)) if has_servers else ():
        if not shutil.which(program):
            raise MissingError(f"there is no {program}, which is one of the contenders")
    results = Results(options.result)
    postgres = _postgres(has_servers and "postgresql" in plan.databases)
    results.open_for(machine(default_python(), SYNADM, postgres, SETTINGS if has_servers else ""))
    left = [job for job in jobs if job not in results]
    print(f"{len(left)} of {len(jobs)} measurements are left to do", flush=True)
    return _measure(results, left, Servers(options.base_port))


def _postgres(needed: bool) -> Path | None:
    # Also for runs without it, as they go into the same file as those with it.
    try:
        return binaries() / "postgres"
    except MissingError:
        if needed:
            raise
        return None


def _measure(results: Results, jobs: Sequence[dict[str, Any]], servers: Servers) -> int:
    failures = 0
    try:
        for number, job in enumerate(jobs, 1):
            what = " ".join(map(str, job.values()))
            began = time.monotonic()
            try:
                measured = MEASURES[job["point"]](servers, job["database"], job["accounts"], job["contender"])
            except Exception as problem:  # the others are still worth measuring
                failures += 1
                print(f"{number}/{len(jobs)} {what}: failed: {problem}", file=sys.stderr, flush=True)
                continue
            results.append({**job, **measured, "pace": pace()})
            print(f"{number}/{len(jobs)} {what}: {time.monotonic() - began:.0f} s in all", flush=True)
    finally:
        servers.stop()
    return 1 if failures else 0


def _report(options: argparse.Namespace) -> int:
    print(write(_existing(options.result), DESCRIPTIONS, options.into))
    return 0


def _compare(options: argparse.Namespace) -> int:
    text, holds = compare(_existing(options.result), _existing(options.other))
    print(text)
    return 0 if holds else 1


def _existing(path: Path) -> Results:
    results = Results(path)
    if not results.runs:
        raise ResultsError(f"nothing has been measured in {path}")
    return results


if __name__ == "__main__":
    sys.exit(main())
