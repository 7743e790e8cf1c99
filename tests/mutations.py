# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Break each rule of safety in the code, and see that a test fails.

``python tests/mutations.py [part of a rule or file]...`` works on a copy of the checkout, and prints a table. The rules
are those of docs/design.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COPY = ROOT / ".cache/mutations"
UTILS, TASKS = "plugins/module_utils", "roles/decommission/tasks"
FEDERATION, DECOMMISSION = f"{UTILS}/_federation", f"{UTILS}/_decommission"
UNIT, INTEGRATION, REMOTE = "tests/unit/plugins", "tests/integration", "tests/federation"


class Mutation(NamedTuple):
    """One line of the code, what to make of it, and the tests of which one must fail then."""

    rule: str
    file: str
    line: str
    mutant: str
    tests: str


MUTATIONS = [
    Mutation(
        "1 the name first",
        f"{UTILS}/_module.py",
        "if expected is not None and client.server_name != expected:",
        "if False:",
        f"{UNIT}/modules/test_common.py",
    ),
    Mutation(
        "1 the name first",
        "roles/decommission/tasks/preflight.yml",
        "that: decommission_confirm | default('') == _decommission_server.server_name",
        "that: true",
        f"{INTEGRATION}/test_bad_input.py::test_role_variables",
    ),
    Mutation(
        "1 the name first",
        f"{UTILS}/_sender.py",
        "    client.confirm()\n",
        "",
        f"{UNIT}/module_utils/test__sender.py",
    ),
    Mutation(
        "2 listed to the end",
        f"{UTILS}/_client.py",
        "            if token is None:\n                return",
        "            return",
        f"{UNIT}/module_utils/test__client.py",
    ),
    Mutation(
        "2 listed to the end",
        f"{UTILS}/_drain.py",
        "    to_close, closed = work.sort(accounts)\n    work.result.unchanged",
        "    to_close, closed = work.sort(accounts[:1])\n    work.result.unchanged",
        f"{UNIT}/module_utils/test__drain.py",
    ),
    Mutation(
        "3 no admins",
        f"{UTILS}/_drain.py",
        'return account.account_class in ("admin", "operator") or account.user_id in keep',
        'return account.account_class == "operator" or account.user_id in keep',
        f"{UNIT}/module_utils/test__drain.py",
    ),
    Mutation(
        "3 no admins",
        f"{UTILS}/_drain.py",
        'elif account.account_class == "admin" and not allow_admins:',
        "elif False:",
        f"{UNIT}/module_utils/test__drain.py",
    ),
    Mutation(
        "3 never the operator",
        f"{UTILS}/_drain.py",
        'if account.account_class == "operator":',
        "if False:",
        f"{UNIT}/module_utils/test__drain.py",
    ),
    Mutation(
        "4 seen to be out",
        f"{UTILS}/_drain.py",
        "closing.parted = has_left and (self.looks_again or not joined_rooms(self.client, account.user_id))",
        "closing.parted = has_left",
        f"{UNIT}/module_utils/test__drain.py",
    ),
    Mutation(
        "4 seen to be out",
        f"{UTILS}/_drain.py",
        "        if self.options.wait:\n            self._see_out(in_rooms)",
        "        if False:\n            self._see_out(in_rooms)",
        f"{UNIT}/module_utils/test__drain.py",
    ),
    Mutation(
        "5 anchors stay",
        f"{UTILS}/_propagation.py",
        "told = [room_id for room_id in rooms if room_id not in waiting] if state.since else []",
        "told = list(rooms)",
        f"{UNIT}/module_utils/test__propagation.py",
    ),
    Mutation(
        "5 anchors stay",
        f"{UTILS}/_propagation.py",
        "if now - since >= max(options.settling, 1)}",
        "}",
        f"{UNIT}/module_utils/test__propagation.py",
    ),
    Mutation(
        "5 one leave, then the next",
        f"{UTILS}/_anchors.py",
        "                    wake(self.client)\n",
        "",
        f"{UNIT}/module_utils/test__anchors.py",
    ),
    Mutation(
        "5 one leave, then the next",
        f"{UTILS}/_anchors.py",
        "            with self.sender.sees_off(room_id):\n                leave(",
        "            if True:\n                leave(",
        f"{UNIT}/module_utils/test__anchors.py",
    ),
    Mutation(
        "5 one leave, then the next",
        f"{UTILS}/_sender.py",
        "        if witness is None or self._has_taken(witness):",
        "        if True:",
        f"{UNIT}/module_utils/test__sender.py",
    ),
    Mutation(
        "5 once more",
        f"{UTILS}/_propagation.py",
        "self.to_rejoin = rooms - anchors.record.alone - state.rejoined.keys()",
        "self.to_rejoin = set()",
        f"{UNIT}/module_utils/test__propagation.py",
    ),
    Mutation(
        "5 once more",
        f"{UTILS}/_propagation.py",
        "room_id: state.rejoined.get(room_id, state.since) for",
        "room_id: state.since for",
        f"{UNIT}/module_utils/test__propagation.py",
    ),
    Mutation(
        "5 once more",
        f"{UTILS}/_propagation.py",
        " and room_id not in self.to_rejoin\n",
        "\n",
        f"{UNIT}/module_utils/test__propagation.py",
    ),
    Mutation(
        "5 once more",
        f"{UTILS}/_propagation.py",
        "        wake(self.client)\n",
        "",
        f"{UNIT}/module_utils/test__propagation.py",
    ),
    Mutation(
        "5 once more",
        f"{UTILS}/_anchors.py",
        "with sender.sees_off(room_id) if sender else nullcontext():",
        "with nullcontext():",
        f"{UNIT}/module_utils/test__anchors.py",
    ),
    Mutation(
        "5 no purge",
        f"{UTILS}/_rooms.py",
        'json={"purge": False, "block": False}',
        'json={"purge": True, "block": False}',
        f"{UNIT}/module_utils/test__rooms.py",
    ),
    Mutation(
        "6 look before repeating",
        f"{UTILS}/_users.py",
        'json={"erase": erase}, repeat=False)',
        'json={"erase": erase})',
        f"{UNIT}/module_utils/test__users.py",
    ),
    Mutation(
        "6 look before repeating",
        f"{UTILS}/_users.py",
        "                if is_closed():\n                    return",
        "                if False:\n                    return",
        f"{UNIT}/module_utils/test__users.py",
    ),
    Mutation(
        "7 the gate: the period",
        f"{UTILS}/_propagation.py",
        "over = now >= state.wave + options.period or",
        "over = True or",
        f"{UNIT}/module_utils/test__propagation.py",
    ),
    Mutation(
        "7 the gate: the period",
        f"{TASKS}/gate.yml",
        "that: _decommission_gate.finished",
        "that: true",
        f"{INTEGRATION}/test_playbook.py::test_not_due_yet",
    ),
    Mutation(
        "7 the gate: nobody is left",
        f"{TASKS}/verify.yml",
        "      - not _decommission_not_closed\n      - not _decommission_in_rooms",
        "      - true",
        f"{INTEGRATION}/test_playbook.py::test_somebody_comes_back_while_waiting",
    ),
    Mutation(
        "8 again from any point",
        f"{UTILS}/_anchors.py",
        "    if result.record != look.record:\n        _state.write_anchors(client, result.record.as_json())",
        "    pass",
        f"{UNIT}/module_utils/test__anchors.py",
    ),
    Mutation(
        "8 again from any point",
        f"{UTILS}/_drain.py",
        'return account.state == "erased" or (account.state == "deactivated" and not self.options.erase)',
        "return False",
        f"{UNIT}/module_utils/test__drain.py",
    ),
    Mutation(
        "8 one run at a time",
        f"{UTILS}/_lease.py",
        "        if self._holder in self._former:",
        "        if False:",
        f"{UNIT}/module_utils/test__lease.py",
    ),
    Mutation(
        "9 paced",
        f"{UTILS}/_pool.py",
        "        elif turn.began >= self._halved:",
        "        elif False:",
        f"{UNIT}/module_utils/test__pool.py",
    ),
    Mutation(
        "9 paced",
        f"{UTILS}/_client.py",
        "turn.refused = answer.status_code == 429 or answer.status_code >= 500",
        "turn.refused = False",
        f"{UNIT}/module_utils/test__client.py",
    ),
    Mutation(
        "9 paced",
        f"{UTILS}/_client.py",
        "            time.sleep(pause)\n            wait = min",
        "            wait = min",
        f"{UNIT}/module_utils/test__client.py",
    ),
    Mutation(
        "10 only accounts of ours",
        f"{FEDERATION}/checks.py",
        "        check_user_id(user_id, self._client.server_name)\n",
        "",
        f"{REMOTE}/test_checks.py",
    ),
    Mutation(
        "10 only accounts of ours",
        f"{FEDERATION}/events.py",
        "    check_user_id(user_id, server_name)\n",
        "",
        f"{UNIT}/module_utils/_federation/test_events.py",
    ),
    Mutation(
        "10 only accounts of ours",
        f"{UTILS}/_ghosts_module.py",
        "                    check_user_id(user_id, name)\n",
        "                    pass\n",
        f"{REMOTE}/test_modules.py",
    ),
    Mutation(
        "10 only what we build is signed",
        f"{FEDERATION}/events.py",
        "    _assert_leave(event, room_id, user_id)\n",
        "",
        f"{REMOTE}/test_hostile.py",
    ),
    Mutation(
        "10 only what we build is signed",
        f"{FEDERATION}/events.py",
        "if not isinstance(values, list) or len(values) > limit:",
        "if not isinstance(values, list):",
        f"{UNIT}/module_utils/_federation/test_events.py",
    ),
    Mutation(
        "10 the published key",
        f"{FEDERATION}/connect.py",
        "        assert_published(own.key, published, time.time())\n",
        "",
        f"{REMOTE}/test_connect.py",
    ),
    Mutation(
        "10 the published key",
        f"{FEDERATION}/connect.py",
        "assert_published(own.key, _seen_by(remote, server), time.time())",
        "_seen_by(remote, server)",
        f"{REMOTE}/test_connect.py",
    ),
    Mutation(
        "10 the published key",
        f"{FEDERATION}/keys.py",
        "    if published == key.public_base64:",
        "    if published is not None:",
        f"{UNIT}/module_utils/_federation/test_keys.py",
    ),
    Mutation(
        "10 the published key",
        f"{FEDERATION}/keys.py",
        "        if valid_until < now:",
        "        if False:",
        f"{REMOTE}/test_connect.py",
    ),
    Mutation(
        "11 look before each leave",
        f"{FEDERATION}/checks.py",
        "            if template is not None:\n                yield user_id, template",
        "            yield user_id, template",
        f"{REMOTE}/test_checks.py",
    ),
    Mutation(
        "11 look before each leave",
        f"{FEDERATION}/checks.py",
        "        if membership not in (*LISTED, PENDING, UNKNOWN):",
        "        if False:",
        f"{REMOTE}/test_checks.py",
    ),
    Mutation(
        "11 look before each leave",
        f"{FEDERATION}/removal.py",
        "            if user_id in left or user_id in kept:",
        "            if False:",
        f"{REMOTE}/test_checks.py",
    ),
    Mutation(
        "11 look before each leave",
        f"{DECOMMISSION}/ghosts.py",
        "        self._ask_all(rooms, is_confirmed)",
        "        undecided.update(Pair(server, room.room_id) for room in rooms for server in room.servers)",
        f"{REMOTE}/test_ghosts.py",
    ),
    Mutation(
        "11 who is joined here is kept",
        f"{FEDERATION}/removal.py",
        "            if not may_leave(user_id, pair.room_id):",
        "            if False:",
        f"{REMOTE}/test_checks.py",
    ),
    Mutation(
        "11 who is joined here is kept",
        "plugins/modules/matrix_ghosts.py",
        "lambda user_id, room_id: room_id not in joined_rooms(synapse, user_id)",
        "lambda _user_id, _room_id: True",
        f"{REMOTE}/test_modules.py",
    ),
    Mutation(
        "11 who is joined here is kept",
        "plugins/modules/matrix_ghosts.py",
        "        if run.homeserver:",
        "        if False:",
        f"{REMOTE}/test_modules.py",
    ),
    Mutation(
        "11 who is joined here is kept",
        f"{UTILS}/_ghosts_module.py",
        "        if synapse is not None and synapse.server_name != name:",
        "        if False:",
        f"{REMOTE}/test_modules.py",
    ),
    Mutation(
        "12 addresses are filtered",
        f"{FEDERATION}/discovery.py",
        " if self._is_allowed(address[0])]",
        "]",
        f"{UNIT}/module_utils/_federation/test_discovery.py",
    ),
    Mutation(
        "12 addresses are filtered",
        f"{FEDERATION}/connect.py",
        "remote = client(settings.ip_allowlist)",
        "remote = client(EVERYWHERE)",
        f"{REMOTE}/test_connect.py",
    ),
    Mutation(
        "12 addresses are filtered",
        f"{FEDERATION}/addresses.py",
        "    inner = address.ipv4_mapped or address.sixtofour\n",
        "    inner = None\n",
        f"{UNIT}/module_utils/_federation/test_addresses.py",
    ),
]


def copy_checkout() -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)
    collection = COPY / ".cache/ansible_collections/matrixops/synapse"
    collection.parent.mkdir(parents=True)
    collection.symlink_to(COPY)


def tests_fail(tests: str) -> bool:
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(COPY / ".cache"),
        "LAB_SYNAPSE_PYTHON": os.environ.get("LAB_SYNAPSE_PYTHON", str(ROOT / ".cache/synapse/bin/python")),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", tests]
    run = subprocess.run(command, cwd=COPY, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode not in (0, 1) or " passed" not in run.stdout + " passed" * run.returncode:
        raise SystemExit(run.stdout)
    return run.returncode == 1


def main() -> None:
    wanted = sys.argv[1:]
    chosen = [m for m in MUTATIONS if not wanted or any(word in f"{m.rule} {m.file} {m.tests}" for word in wanted)]
    copy_checkout()
    for tests in sorted({mutation.tests for mutation in chosen}):
        if tests_fail(tests):
            raise SystemExit(f"{tests} fails without any mutation")
    survived = 0
    print("| rule | mutated | becomes | a test fails |\n|---|---|---|---|")
    for rule, file, line, mutant, tests in chosen:
        path = COPY / file
        code = path.read_text()
        if code.count(line) != 1:
            raise SystemExit(f"{file} has {code.count(line)} times: {line}")
        path.write_text(code.replace(line, mutant))
        failed = tests_fail(tests)
        path.write_text(code)
        survived += not failed
        shown = [" ".join(text.split()).replace("|", r"\|") for text in (line, mutant)]
        verdict = f"yes, of `{tests}`" if failed else "**no**"
        print(f"| {rule} | `{shown[0]}` | `{shown[1]}` | {verdict} |", flush=True)
    raise SystemExit(f"{survived} mutations were not noticed" if survived else 0)


if __name__ == "__main__":
    main()
