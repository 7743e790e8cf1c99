# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run prints with Ansible's default callback and settings, and whether the certificate says the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .conftest import LEASE, Federation, RunPlaybook, unchanged
from .test_playbook import PLAYBOOK

MOST_LINES = 40
"""Lines that carry information."""
MOST_BANNERS = 85
"""Banners of plays and tasks."""
BANNER = re.compile(r"(PLAY|TASK) \[.*\] \**$")
WITHOUT_MESSAGE = re.compile(r"(ok|changed|skipping|included): [^{]*$|included: ")
STAGES = ("drain", "leave_rooms", "propagate", "verify", "power_off")


def informative(output: str) -> list[str]:
    """All lines but blank ones, banners, results without a message, and the recap."""
    run, _recap, _hosts = output.partition("PLAY RECAP")
    return [
        line for line in run.splitlines() if line.strip() and not BANNER.match(line) and not WITHOUT_MESSAGE.match(line)
    ]


def recap(output: str) -> dict[str, int]:
    (line,) = re.findall(r"^a +: (.*)$", output.partition("PLAY RECAP")[2], re.MULTILINE)
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", line)}


def certificate(directory: Path) -> dict[str, Any]:
    (path,) = (directory / "decommission-reports").glob("*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_run_fits_on_one_page(federation: Federation, run_playbook: RunPlaybook, tmp_path: Path) -> None:
    """The plan, a line for each stage, and the summary, which says what the certificate says."""
    done = run_playbook(PLAYBOOK, {"a": federation.role_variables})
    assert done.returncode == 0, done.stdout
    lines = informative(done.stdout)
    print(f"{len(lines)} lines with information of {len(done.stdout.splitlines())}", *lines, sep="\n")
    assert len(lines) <= MOST_LINES
    assert len([line for line in done.stdout.splitlines() if BANNER.match(line)]) <= MOST_BANNERS

    written = certificate(tmp_path)
    for stage in STAGES:
        (line,) = [line for line in lines if line.startswith(f"a: {stage}: ")]
        assert re.search(r"\d|no account|off", line), line
    (drain,) = written["drains"]
    assert any(f"deactivated {drain['deactivated']} accounts" in line for line in lines)
    (remote,) = written["remote_servers"]["servers"]
    page = next((tmp_path / "decommission-reports").glob("*.html"))
    summary, path, server = lines[-3:]
    assert summary.startswith(f"a: {federation.retiring.server_name}: powered off (not verified); ")
    assert f"{written['accounts']['deactivated']['total']} accounts deactivated" in summary
    assert (path, server) == (f"a: {page}", f"a: {remote['text']}")
    assert recap(done.stdout)["rescued"] == recap(done.stdout)["failed"] == 0


def test_an_error_is_shown_once(federation: Federation, run_playbook: RunPlaybook, tmp_path: Path) -> None:
    """Of an assertion before anything is changed, and of a module while something is."""
    host = federation.role_variables
    wrong = {**host, "decommission_confirm": "example.org"}
    with unchanged(federation.retiring):
        refused = run_playbook(PLAYBOOK, {"a": wrong})
    assert_failed_once(refused.stdout, "decommission_confirm is 'example.org'", changed=False)
    assert f"set decommission_confirm: '{federation.retiring.server_name}'" in refused.stdout
    assert not (tmp_path / "decommission-reports").exists()

    with unchanged(federation.retiring, but=LEASE):
        preflight = run_playbook(PLAYBOOK, {"a": host}, "--tags", "preflight")
    assert preflight.returncode == 0, preflight.stdout
    broken = run_playbook(PLAYBOOK, {"a": {**host, "decommission_log_path": "/nowhere/log.jsonl"}})
    message = assert_failed_once(broken.stdout, "/nowhere/log.jsonl")
    written = certificate(tmp_path)
    assert written["state"] == "failed"
    (drain,) = [stage for stage in written["stages"] if stage["stage"] == "drain"]
    assert [attempt["result"] for attempt in drain["attempts"]] == ["failed"]
    assert drain["attempts"][0]["reason"] == message
    page = next((tmp_path / "decommission-reports").glob("*.html"))
    assert informative(broken.stdout)[-1] == f"a: the failure is recorded in {page}"


def assert_failed_once(output: str, reason: str, *, changed: bool | None = None) -> str:
    """The run has failed with that message, which it has shown once; return the message."""
    (fatal,) = re.findall(r"^fatal: \[a\]: FAILED! => (\{.*)", output, re.MULTILINE | re.DOTALL)
    result = json.JSONDecoder().raw_decode(fatal)[0]
    message: str = result["msg"]
    assert reason in message
    # Ansible of late shows it once more, as an error with its origin.
    assert fatal.count(json.dumps(message)[1:-1]) == 1, output
    assert changed is None or result["changed"] is changed
    assert (recap(output)["failed"], recap(output)["rescued"]) == (1, 0)
    return message


def test_status_is_a_table(filled: Federation, run_playbook: RunPlaybook) -> None:
    with unchanged(filled.retiring):
        done = run_playbook("matrixops.synapse.status", {"a": filled.role_variables})
    assert done.returncode == 0, done.stdout
    (shown,) = re.findall(r'"msg": (\[.*?\n    \])', done.stdout, re.DOTALL)
    table = json.loads(shown)
    assert [line[:16].strip() for line in table] == ["Server", "Progress", "Accounts", "Rooms", "Remote servers"]
    assert table[0].split() == ["Server", filled.retiring.server_name] and table[1].endswith("not started")
