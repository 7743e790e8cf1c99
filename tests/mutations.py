# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Break each rule of safety in the code, and see that a test fails.

``python tests/mutations.py [part of a rule or file]...`` works on a copy of the checkout, and prints a table. The rules
are those of docs/explanation/design.md.
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
SYNAPSE, FEDERATION, DECOMMISSION = f"{UTILS}/_synapse", f"{UTILS}/_federation", f"{UTILS}/_decommission"
GHOST_CLEANUP = f"{UTILS}/_ghost_cleanup"
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
        f"{UNIT}/module_utils/test__module.py",
    ),
    Mutation(
        "1 the name first",
        "roles/decommission/tasks/preflight.yml",
        "that: decommission_confirm | default('') == _decommission_server.server_name",
        "that: true",
        f"{INTEGRATION}/test_bad_input.py::test_role_variables",
    ),
    Mutation(
        "2 listed to the end",
        f"{SYNAPSE}/listing.py",
        "        if token is None:\n            return",
        "        return",
        f"{UNIT}/module_utils/_synapse/test_listing.py",
    ),
    Mutation(
        "2 nothing is missed",
        f"{SYNAPSE}/listing.py",
        "if len(names) >= totals[-1] >= max(totals):",
        "if totals[-1] >= max(totals):",
        f"{UNIT}/module_utils/_synapse/test_listing.py",
    ),
    Mutation(
        "2 nothing is missed",
        f"{SYNAPSE}/listing.py",
        "if len(names) >= totals[-1] >= max(totals):",
        "if len(names) >= totals[-1]:",
        f"{UNIT}/module_utils/_synapse/test_listing.py",
    ),
    Mutation(
        "2 nothing is missed",
        f"{SYNAPSE}/rooms.py",
        '{"order_by": "version"}',
        '{"order_by": "joined_local_members"}',
        f"{UNIT}/module_utils/_synapse/test_rooms.py",
    ),
    Mutation(
        "2 nothing is missed",
        f"{SYNAPSE}/accounts.py",
        '"order_by": "name"',
        '"order_by": "displayname"',
        f"{UNIT}/module_utils/_synapse/test_accounts.py",
    ),
    Mutation(
        "2 nothing is missed",
        f"{DECOMMISSION}/unlisted.py",
        "    _assert_no_accounts(",
        "    str(",
        f"{UNIT}/module_utils/_decommission/test_unlisted.py",
    ),
    Mutation(
        "4 redacted before anything else",
        f"{DECOMMISSION}/federated_leaves.py",
        "        if repeatable:\n",
        "        if False:\n",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "4 redacted before anything else",
        f"{SYNAPSE}/redaction.py",
        "(error.status, error.errcode) in PERMANENT",
        "error.status in (403, 404)",
        f"{UNIT}/module_utils/_synapse/test_redaction.py",
    ),
    Mutation(
        "2 listed to the end",
        f"{DECOMMISSION}/drain.py",
        "run.sort(options.eligibility.select(client, user_ids))",
        "run.sort(options.eligibility.select(client, user_ids)[:1])",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "3 no admins",
        f"{DECOMMISSION}/eligibility.py",
        "not (named and self.allow_admins):",
        "named and not self.allow_admins:",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "3 no admins",
        f"{DECOMMISSION}/eligibility.py",
        '        if account.account_class == "admin" and',
        "        if False and",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "3 never the operator",
        f"{DECOMMISSION}/eligibility.py",
        'if account.account_class == "operator":',
        "if False:",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "3 checked again",
        f"{DECOMMISSION}/drain_run.py",
        "            self._options.eligibility.check_again(self._client, user_id, named=self._named)\n"
        "            if account.account_class",
        "            if account.account_class",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "3 checked again",
        f"{DECOMMISSION}/drain_run.py",
        "        self._options.eligibility.check_again(self._client, user_id, named=self._named)\n        deactivate(",
        "        deactivate(",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "4 seen to be out",
        f"{DECOMMISSION}/drain_run.py",
        "            if self._options.waits and (awaited or not self._lists_again):",
        "            if self._options.waits and awaited:",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "4 seen to be out",
        f"{DECOMMISSION}/federated_leaves.py",
        "rooms.update({account: self._tracker.read(account.user_id)})",
        "rooms.update({account: []})",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "4 seen to be out",
        f"{DECOMMISSION}/drain_run.py",
        "        if self._options.waits:\n            self._make_leave(waiting)",
        "        if False:\n            self._make_leave(waiting)",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "4 federated rooms first",
        f"{DECOMMISSION}/drain_run.py",
        "self._leaves.send(group, rooms, redacting)",
        "pass",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "4 federated rooms are recorded first",
        f"{DECOMMISSION}/drain.py",
        "        stragglers = run.find_stragglers(deactivated)\n        run.record_joined()\n",
        "        stragglers = run.find_stragglers(deactivated)\n",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "4 invites are recorded first",
        f"{DECOMMISSION}/drain_run.py",
        "self._recorder.record_pending(accounts)\n",
        "pass\n",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "4 federated rooms first",
        f"{DECOMMISSION}/room_tracker.py",
        "        if room_id not in self._federated:\n",
        "        if True:\n",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "4 confirmed by the remote server",
        f"{DECOMMISSION}/propagation.py",
        '            if before.state != "confirmed" or not is_down:',
        '            if before.state != "confirmed":',
        f"{UNIT}/module_utils/_decommission/test_propagation.py",
    ),
    Mutation(
        "4 confirmed by the remote server",
        f"{DECOMMISSION}/propagation.py",
        " and not (result.has_answered or result.removed)\n",
        "\n",
        f"{UNIT}/module_utils/_decommission/test_propagation.py",
    ),
    Mutation(
        "4 confirmed by the remote server",
        f"{FEDERATION}/checks.py",
        "is_transient=True, has_answered=has_answered)",
        "is_transient=True)",
        f"{REMOTE}/test_propagation.py",
    ),
    Mutation(
        "4 confirmed by the remote server",
        f"{DECOMMISSION}/propagation.py",
        "                self.record.reset(room_id)\n",
        "                pass\n",
        f"{UNIT}/module_utils/_decommission/test_propagation.py",
    ),
    Mutation(
        "4 confirmed by the remote server",
        f"{DECOMMISSION}/record.py",
        "                self.reset(room.room_id)\n",
        "",
        f"{UNIT}/module_utils/_decommission/test_record.py",
    ),
    Mutation(
        "8 no purge",
        f"{SYNAPSE}/rooms.py",
        'json={"purge": False, "block": False}',
        'json={"purge": True, "block": False}',
        f"{UNIT}/module_utils/_synapse/test_rooms.py",
    ),
    Mutation(
        "6 look before repeating",
        f"{SYNAPSE}/accounts.py",
        'json={"erase": erase}, repeat=False)',
        'json={"erase": erase})',
        f"{UNIT}/module_utils/_synapse/test_accounts.py",
    ),
    Mutation(
        "6 look before repeating",
        f"{SYNAPSE}/unanswered.py",
        "            if _becomes_true(is_done):",
        "            if False:",
        f"{UNIT}/module_utils/_synapse/test_unanswered.py",
    ),
    Mutation(
        "7 the gate: the period",
        f"{DECOMMISSION}/propagation.py",
        "        over = self.now >= self.ends\n",
        "        over = True\n",
        f"{UNIT}/module_utils/_decommission/test_propagation.py",
    ),
    Mutation(
        "7 the gate: the period",
        f"{DECOMMISSION}/propagation.py",
        "all(self._is_settled(s, state) for s, state in states.items())",
        "True",
        f"{UNIT}/module_utils/_decommission/test_propagation.py",
    ),
    Mutation(
        "7 the gate: the period",
        f"{DECOMMISSION}/propagation.py",
        "self._start_again(left) if self.options.recheck else left",
        "left",
        f"{UNIT}/module_utils/_decommission/test_propagation.py",
    ),
    Mutation(
        "7 the gate: the period",
        f"{DECOMMISSION}/period_start.py",
        "if start < received <= now",
        "if False",
        f"{INTEGRATION}/test_propagation.py::test_an_account_that_joined_and_left_again_between_two_runs",
    ),
    Mutation(
        "12 the static site: no avatars of accounts",
        f"{DECOMMISSION}/site_media.py",
        "sorted(selected - people - profiles - (recorded or set()))",
        "sorted(selected)",
        f"{UNIT}/module_utils/_decommission/test_site_media.py",
    ),
    Mutation(
        "12 the static site: former keys",
        "plugins/plugin_utils/_server_key.py",
        "{**published, **expired}",
        "{}",
        f"{UNIT}/plugin_utils/test__server_key.py",
    ),
    Mutation(
        "12 the static site: aliases are kept",
        f"{DECOMMISSION}/aliases.py",
        "if alias not in outcome.kept}",
        "}",
        f"{UNIT}/module_utils/_decommission/test_aliases.py",
    ),
    Mutation(
        "7 the gate: checked afresh",
        f"{DECOMMISSION}/propagation.py",
        "        if self.options.recheck:\n            yield from",
        "        if False:\n            yield from",
        f"{UNIT}/module_utils/_decommission/test_propagation.py",
    ),
    Mutation(
        "7 the gate: the period",
        f"{DECOMMISSION}/gate.py",
        '    if not propagation["finished"]:',
        "    if False:",
        f"{UNIT}/module_utils/_decommission/test_gate.py",
    ),
    Mutation(
        "7 the gate: what was not sent",
        f"{DECOMMISSION}/gate.py",
        'if propagation["not_sent_to"]:',
        "if False:",
        f"{UNIT}/module_utils/_decommission/test_gate.py",
    ),
    Mutation(
        "7 the gate: what was not sent",
        f"{DECOMMISSION}/propagation.py",
        "for pair in dict.fromkeys([*self.record.unsent, *listed])",
        "for pair in listed",
        f"{UNIT}/module_utils/_decommission/test_propagation.py",
    ),
    Mutation(
        "7 the gate: what was not sent",
        f"{DECOMMISSION}/idle_parts.py",
        "if taken[pair.server].get(pair.room_id, 0) < leaves[pair.room_id]}",
        "if False}",
        f"{UNIT}/module_utils/_decommission/test_idle_parts.py",
    ),
    Mutation(
        "7 the gate: erasure",
        f"{DECOMMISSION}/gate.py",
        'elif demands.erase and account.state != "erased":',
        "elif False:",
        f"{UNIT}/module_utils/_decommission/test_gate.py",
    ),
    Mutation(
        "7 the gate: by value",
        f"{TASKS}/power_off.yml",
        "    - lookup('matrixops.synapse.gate', inventory_hostname, decommission_confirm)",
        "    - true",
        f"{INTEGRATION}/test_gate.py",
    ),
    Mutation(
        "7 a method that is not possible is refused before the drain",
        f"{TASKS}/check_power_off.yml",
        "power_off_{{ _decommission_off_method }}.yml",
        "power_off_none.yml",
        f"{INTEGRATION}/test_power_off.py::test_a_closed_gate_stops_nothing",
    ),
    Mutation(
        "7 what was stopped does not start again",
        f"{TASKS}/stop_containers.yml",
        "['update', '--restart', 'no', item]",
        "['inspect', item]",
        f"{INTEGRATION}/test_power_off.py::test_compose",
    ),
    Mutation(
        "7 the gate: by value",
        "plugins/plugin_utils/_gate_ticket.py",
        "    if subject != (host, server_name) or not 0 <= age <= VALID_FOR:",
        "    if False:",
        f"{UNIT}/plugin_utils/test__gate_ticket.py",
    ),
    Mutation(
        "7 the gate: by value",
        "plugins/action/synapse_decommission_gate.py",
        "        _gate_ticket.refuse_internal_variables()\n",
        "",
        f"{INTEGRATION}/test_gate.py",
    ),
    Mutation(
        "7 the gate: no account is active or joined",
        f"{DECOMMISSION}/gate.py",
        "    return [*_account_problems(accounts), *_propagation_problems(propagation, demands)]",
        "    return [*_propagation_problems(propagation, demands)]",
        f"{UNIT}/module_utils/_decommission/test_gate.py",
    ),
    Mutation(
        "8 again from any point",
        f"{DECOMMISSION}/record.py",
        '    side = SIDES[index.get("side") == SIDES[0]]',
        "    side = SIDES[0]",
        f"{UNIT}/module_utils/_decommission/test_record.py",
    ),
    Mutation(
        "8 again from any point",
        f"{DECOMMISSION}/record.py",
        '        if hashlib.sha256(text.encode()).hexdigest() != index["sha256"]:',
        "        if False:",
        f"{UNIT}/module_utils/_decommission/test_record.py",
    ),
    Mutation(
        "8 again from any point",
        f"{DECOMMISSION}/propagation.py",
        "            if time.monotonic() - self._saved > SAVE_INTERVAL:",
        "            if False:",
        f"{UNIT}/module_utils/_decommission/test_propagation.py",
    ),
    Mutation(
        "8 again from any point",
        f"{DECOMMISSION}/drain_run.py",
        'return account.state == "erased" or (account.state == "deactivated" and not self.erase)',
        "return False",
        f"{UNIT}/module_utils/_decommission/test_drain.py",
    ),
    Mutation(
        "8 one run at a time",
        f"{DECOMMISSION}/lease.py",
        "        if self._holder in self._former:",
        "        if False:",
        f"{UNIT}/module_utils/_decommission/test_lease.py",
    ),
    Mutation(
        "8 one run at a time",
        f"{DECOMMISSION}/lease.py",
        "self._requests = self._client.sibling(REQUEST_TIMEOUT)",
        "self._requests = self._client",
        f"{UNIT}/module_utils/_decommission/test_lease.py",
    ),
    Mutation(
        "8 one run at a time",
        f"{DECOMMISSION}/lease.py",
        "time.monotonic() < self._valid_until - MARGIN",
        "True",
        f"{UNIT}/module_utils/_decommission/test_lease.py",
    ),
    Mutation(
        "8 one run at a time",
        f"{DECOMMISSION}/lease.py",
        "self._valid_until = sent + LENGTH",
        "self._valid_until = answered + LENGTH",
        f"{UNIT}/module_utils/_decommission/test_lease.py",
    ),
    Mutation(
        "8 one run at a time",
        f"{DECOMMISSION}/lease.py",
        "if answered >= safe_until:",
        "if False:",
        f"{UNIT}/module_utils/_decommission/test_lease.py",
    ),
    Mutation(
        "8 one run at a time",
        f"{DECOMMISSION}/lease.py",
        'length = LENGTH if content["until"] > self._now() else OBSERVATION',
        'length = LENGTH if content["until"] > self._now() else 0.0',
        f"{UNIT}/module_utils/_decommission/test_lease.py",
    ),
    Mutation(
        "8 one run at a time",
        f"{SYNAPSE}/client.py",
        "                self.check_write()",
        "                    pass",
        f"{UNIT}/module_utils/_synapse/test_client.py",
    ),
    Mutation(
        "8 one run at a time",
        "plugins/plugin_utils/_parent_process.py",
        "    while os.getppid() == parent:",
        "    while False:",
        f"{UNIT}/plugin_utils/test__parent_process.py",
    ),
    Mutation(
        "8 one run at a time",
        "plugins/plugin_utils/_parent_process.py",
        "for pid in _descendants(os.getpid()):",
        "for pid in ():",
        f"{UNIT}/plugin_utils/test__parent_process.py",
    ),
    Mutation(
        "8 one run at a time",
        "plugins/action/synapse_propagation.py",
        "    @ends_with_parent()\n",
        "",
        f"{UNIT}/plugin_utils/test__parent_process.py",
    ),
    Mutation(
        "8 one run at a time",
        "plugins/action/synapse_propagation.py",
        'if not answer.get("failed") or _is_permanent(answer):',
        'if not answer.get("failed"):',
        f"{UNIT}/action/test_synapse_propagation.py",
    ),
    Mutation(
        "8 one run at a time",
        "plugins/action/synapse_propagation.py",
        'self._show(f"{host}: poll failed, retrying: {message}", color=constants.COLOR_WARN)',
        "display.warning(message)",
        f"{UNIT}/action/test_synapse_propagation.py",
    ),
    Mutation(
        "8 one run at a time",
        f"{DECOMMISSION}/propagation.py",
        "        self.client.check_write()\n",
        "",
        f"{UNIT}/module_utils/_decommission/test_propagation.py",
    ),
    Mutation(
        "8 one run at a time",
        f"{DECOMMISSION}/lease.py",
        "            self._write(0)",
        "            pass",
        f"{UNIT}/module_utils/_decommission/test_lease.py",
    ),
    Mutation(
        "9 paced",
        f"{SYNAPSE}/limiter.py",
        "        elif slot.began >= self._halved:",
        "        elif False:",
        f"{UNIT}/module_utils/_synapse/test_limiter.py",
    ),
    Mutation(
        "9 paced",
        f"{SYNAPSE}/client.py",
        "slot.refused = received.status == 429 or received.status >= 500",
        "slot.refused = False",
        f"{UNIT}/module_utils/_synapse/test_client.py",
    ),
    Mutation(
        "9 paced",
        f"{SYNAPSE}/client.py",
        "            time.sleep(pause)\n",
        "\n",
        f"{UNIT}/module_utils/_synapse/test_retries.py",
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
        f"{FEDERATION}/leave_events.py",
        "    check_user_id(user_id, server_name)\n",
        "",
        f"{UNIT}/module_utils/_federation/test_leave_events.py",
    ),
    Mutation(
        "10 only accounts of ours",
        f"{DECOMMISSION}/sources.py",
        "                check_user_id(user_id, server_name)\n",
        "                pass\n",
        f"{REMOTE}/test_modules.py",
    ),
    Mutation(
        "10 only what we build is signed",
        f"{FEDERATION}/leave_events.py",
        "    _assert_leave(event, room_id, user_id)\n",
        "",
        f"{REMOTE}/test_hostile.py",
    ),
    Mutation(
        "10 only what we build is signed",
        f"{FEDERATION}/leave_events.py",
        "if not isinstance(values, list) or len(values) > limit:",
        "if not isinstance(values, list):",
        f"{UNIT}/module_utils/_federation/test_leave_events.py",
    ),
    Mutation(
        "10 the published key",
        f"{FEDERATION}/connect.py",
        "                assert_published(key, published, time.time())\n",
        "",
        f"{REMOTE}/test_connect.py",
    ),
    Mutation(
        "10 the published key: as remote servers have it",
        f"{FEDERATION}/connect.py",
        "assert_not_known_otherwise(remote, servers)",
        "pass",
        f"{REMOTE}/test_connect.py",
    ),
    Mutation(
        "10 the published key: one server may lie",
        f"{FEDERATION}/notaries.py",
        "if others and True not in found.values():",
        "if others:",
        f"{REMOTE}/test_connect.py",
    ),
    Mutation(
        "10 a new key: the former ones",
        f"{FEDERATION}/notaries.py",
        'if known["key"] != key["key"]:',
        "if False:",
        f"{REMOTE}/test_server_key.py",
    ),
    Mutation(
        "10 a new key: a new ID",
        "plugins/modules/matrix_server_key.py",
        "            assert_id_is_unused(existing, known, path)",
        "            pass",
        f"{REMOTE}/test_server_key.py",
    ),
    Mutation(
        "10 a new key: the former ones",
        "plugins/modules/matrix_server_key.py",
        "            known.insert(0, Source(answer_path, earlier.keys.as_json()))",
        "            pass",
        f"{REMOTE}/test_server_key.py",
    ),
    Mutation(
        "10 a new key: none is replaced",
        f"{FEDERATION}/signing.py",
        "            os.link(temporary, path)",
        "            os.replace(temporary, path)\n            open(temporary, 'w').close()",
        f"{UNIT}/module_utils/_federation/test_signing.py",
    ),
    Mutation(
        "10 the published key",
        f"{FEDERATION}/connect.py",
        "assert_published(remote.key, seen, time.time())",
        "pass",
        f"{REMOTE}/test_connect.py",
    ),
    Mutation(
        "10 the published key",
        f"{FEDERATION}/published_keys.py",
        "    if published == key.public_base64:",
        "    if published is not None:",
        f"{UNIT}/module_utils/_federation/test_published_keys.py",
    ),
    Mutation(
        "10 the published key",
        f"{FEDERATION}/published_keys.py",
        "        if valid_until < now:",
        "        if False:",
        f"{REMOTE}/test_connect.py",
    ),
    Mutation(
        "5 look before each leave",
        f"{FEDERATION}/checks.py",
        "            if template is not None:\n                yield user_id, template",
        "            yield user_id, template",
        f"{REMOTE}/test_checks.py",
    ),
    Mutation(
        "5 look before each leave",
        f"{FEDERATION}/checks.py",
        "        if membership not in (*LISTED, PENDING, UNKNOWN):",
        "        if False:",
        f"{REMOTE}/test_checks.py",
    ),
    Mutation(
        "5 look before each leave",
        f"{FEDERATION}/removal.py",
        "            if user_id in left or user_id in self.kept:",
        "            if False:",
        f"{REMOTE}/test_checks.py",
    ),
    Mutation(
        "5 look before each leave",
        f"{DECOMMISSION}/ghosts.py",
        "        self._ask_all(rooms, is_confirmed)",
        "        undecided.update(Pair(server, room.room_id) for room in rooms for server in room.servers)",
        f"{REMOTE}/test_ghosts.py",
    ),
    Mutation(
        "5 who is joined here is kept",
        f"{DECOMMISSION}/propagation.py",
        " or room_id not in joined_rooms(self.client, user_id)",
        " or True",
        f"{REMOTE}/test_propagation.py",
    ),
    Mutation(
        "5 who is joined here is kept",
        f"{FEDERATION}/removal.py",
        "            if not self._may_leave(user_id, self._pair.room_id, pair_check.ghosts[user_id]):",
        "            if False:",
        f"{REMOTE}/test_checks.py",
    ),
    Mutation(
        "5 who is joined here is kept",
        "plugins/modules/matrix_ghosts.py",
        "lambda *account: not is_member(*account)",
        "lambda *_account: True",
        f"{REMOTE}/test_modules.py",
    ),
    Mutation(
        "5 who is joined here is kept",
        f"{DECOMMISSION}/alongside.py",
        "    return room_id in joined_rooms(client, user_id)",
        "    return False",
        f"{INTEGRATION}/test_same_name.py",
    ),
    Mutation(
        "5 who may be invited here is kept",
        f"{DECOMMISSION}/alongside.py",
        "    return membership != JOIN and user_id in existing_accounts(client, [user_id])",
        "    return False",
        f"{UNIT}/module_utils/_decommission/test_alongside.py",
    ),
    Mutation(
        "5 who is joined here is kept",
        "roles/ghosts/tasks/main.yml",
        "that: not _ghosts_name.homeserver or ghosts_alongside | bool",
        "that: true",
        f"{INTEGRATION}/test_same_name.py",
    ),
    Mutation(
        "7 a confirmation covers what was checked",
        f"{DECOMMISSION}/ghost_record.py",
        "covered.issuperset(room.known.pending)",
        "True",
        f"{UNIT}/module_utils/_decommission/test_ghost_record.py",
    ),
    Mutation(
        "1 the name first",
        f"{DECOMMISSION}/sources.py",
        '    if server.get("name") != server_name:',
        "    if False:",
        f"{UNIT}/module_utils/_decommission/test_sources.py",
    ),
    Mutation(
        "5 who is joined here is kept",
        "plugins/modules/matrix_ghosts.py",
        "        if run.homeserver:",
        "        if False:",
        f"{REMOTE}/test_modules.py",
    ),
    Mutation(
        "5 who is joined here is kept",
        f"{UTILS}/_federation_module.py",
        "        if synapse is not None and synapse.server_name != name:",
        "        if False:",
        f"{REMOTE}/test_modules.py",
    ),
    Mutation(
        "11 answers are bounded",
        f"{UTILS}/_http.py",
        "        self.settimeout(budget.timeout())  # type: ignore[attr-defined]\n        received",
        "        received",
        f"{UNIT}/module_utils/_synapse/test_connection.py",
    ),
    Mutation(
        "11 answers are bounded",
        f"{UTILS}/_http.py",
        "        budget.bytes_left -= received\n",
        "",
        f"{UNIT}/module_utils/_synapse/test_connection.py",
    ),
    Mutation(
        "11 answers are bounded",
        f"{UTILS}/_http.py",
        "        if size > max_bytes:\n",
        "        if False:\n",
        f"{UNIT}/module_utils/_federation/test_transport.py",
    ),
    Mutation(
        "11 answers are bounded",
        f"{UTILS}/_http.py",
        'if encoding.strip().lower() != "identity":',
        "if False:",
        f"{UNIT}/module_utils/_synapse/test_connection.py",
    ),
    Mutation(
        "11 answers are bounded",
        f"{UTILS}/_http.py",
        "return date if MIN_YEAR <= date.year <= MAX_YEAR else None",
        "return date",
        f"{UNIT}/module_utils/test__http.py",
    ),
    Mutation(
        "12 no secrets",
        f"{SYNAPSE}/client.py",
        "self._secrets.hide(error)[:MAX_ERROR]",
        "error[:MAX_ERROR]",
        f"{UNIT}/module_utils/_synapse/test_connection.py",
    ),
    Mutation(
        "12 no secrets",
        f"{SYNAPSE}/answer.py",
        'self._hide(f"the answer {error}")',
        'f"the answer {error}"',
        f"{UNIT}/module_utils/_synapse/test_connection.py",
    ),
    Mutation(
        "12 no secrets",
        f"{SYNAPSE}/connection.py",
        "self._secrets.hide(message)",
        "message",
        f"{UNIT}/module_utils/_synapse/test_connection.py",
    ),
    Mutation(
        "12 no secrets",
        f"{SYNAPSE}/base_url.py",
        'if "@" in parts.netloc:',
        "if False:",
        f"{UNIT}/module_utils/_synapse/test_base_url.py",
    ),
    Mutation(
        "13 the way to Synapse",
        f"{SYNAPSE}/server.py",
        "    _check_slashes(client)\n",
        "",
        f"{UNIT}/module_utils/_synapse/test_server.py",
    ),
    Mutation(
        "13 the way to Synapse",
        f"{SYNAPSE}/server.py",
        "    _check_size(client)\n",
        "",
        f"{UNIT}/module_utils/_synapse/test_server.py",
    ),
    Mutation(
        "13 the way to Synapse",
        f"{SYNAPSE}/server.py",
        "    _check_not_blocked(client)\n",
        "",
        f"{UNIT}/module_utils/_synapse/test_server.py",
    ),
    Mutation(
        "11 addresses are filtered",
        f"{FEDERATION}/discovery.py",
        " if self._is_allowed(address[0])]",
        "]",
        f"{UNIT}/module_utils/_federation/test_discovery.py",
    ),
    Mutation(
        "11 addresses are filtered",
        f"{FEDERATION}/connect.py",
        "AddressFilter(settings.ip_allowlist)",
        "AddressFilter(EVERYWHERE)",
        f"{REMOTE}/test_connect.py",
    ),
    Mutation(
        "11 addresses are filtered",
        f"{FEDERATION}/addresses.py",
        "    inner = address.ipv4_mapped or address.sixtofour\n",
        "    inner = None\n",
        f"{UNIT}/module_utils/_federation/test_addresses.py",
    ),
    Mutation(
        "7 off is verified",
        "plugins/plugin_utils/_reachability.py",
        "        if silent == CHECKS or",
        "        if silent == 1 or",
        f"{UNIT}/plugin_utils/test__reachability.py",
    ),
    Mutation(
        "7 off is verified",
        "plugins/plugin_utils/_reachability.py",
        "SILENT = (errno.ETIMEDOUT,",
        "SILENT = (errno.ECONNREFUSED, errno.ETIMEDOUT,",
        f"{UNIT}/plugin_utils/test__reachability.py",
    ),
    Mutation(
        "7 off is verified",
        "plugins/plugin_utils/_reachability.py",
        "    return None if any(number in SILENT for number in errors) else",
        "    return None if True else",
        f"{UNIT}/plugin_utils/test__reachability.py",
    ),
    Mutation(
        "7 off is verified",
        "plugins/action/power_off.py",
        "        if endpoint is not None and endpoint.proxy is None:\n",
        "        if endpoint is not None:\n",
        f"{UNIT}/action/test_power_off.py",
    ),
    Mutation(
        "7 off is verified",
        "plugins/action/power_off.py",
        "STOPPED = (-1, 200,",
        "STOPPED = (-1, 200, 401,",
        f"{UNIT}/action/test_power_off.py",
    ),
    Mutation(
        "7 off is verified",
        "plugins/action/power_off.py",
        "            if status not in STOPPED:",
        "            if False:",
        f"{UNIT}/action/test_power_off.py",
    ),
    Mutation(
        "7 no homeserver is powered off with another one",
        "plugins/action/power_off.py",
        "        if not others:\n",
        "        if True:\n",
        f"{UNIT}/action/test_power_off.py",
    ),
    Mutation(
        "7 no homeserver is powered off with another one",
        "plugins/action/power_off.py",
        "DONE = (",
        'DONE = ("waiting", ',
        f"{UNIT}/action/test_power_off.py",
    ),
    Mutation(
        "7 a finished certificate stays",
        "plugins/action/certificate.py",
        "                if not self._may_replace():\n",
        "                if False:\n",
        f"{UNIT}/action/test_certificate.py",
    ),
    Mutation(
        "7 a finished certificate stays",
        "plugins/action/certificate.py",
        "            return self._failure is None\n",
        "            return True\n",
        f"{UNIT}/action/test_certificate.py",
    ),
    Mutation(
        "7 a certificate says what is not done",
        "plugins/action/certificate.py",
        'for result in results_of if result.get("failed")',
        "for result in ()",
        f"{UNIT}/action/test_certificate.py",
    ),
    Mutation(
        "7 a certificate says what is not done",
        "plugins/plugin_utils/_report/page.py",
        '    return "partial" if result == "done" and not complete else result',
        "    return result",
        f"{UNIT}/plugin_utils/_report/test_page.py",
    ),
    Mutation(
        "7 a certificate says what is not done",
        "plugins/plugin_utils/_report/findings.py",
        "    if is_finished(certificate) and not is_off_verified(certificate):\n",
        "    if False:\n",
        f"{UNIT}/plugin_utils/_report/test_page.py",
    ),
    Mutation(
        "no secret is printed",
        "plugins/modules/synapse_session.py",
        'seal(module.params["one_time_key"], (client.access_token or "").encode())',
        "client.access_token",
        f"{UNIT}/modules/test_synapse_session.py",
    ),
    Mutation(
        "no secret is printed",
        "plugins/module_utils/_sealed.py",
        "    return bytes(a ^ b for a, b in zip(text, stream))",
        "    return text",
        f"{UNIT}/module_utils/test__sealed.py",
    ),
    Mutation(
        "no secret is printed",
        "plugins/module_utils/_sealed.py",
        "    if not hmac.compare_digest(code, _authenticate(raw, masked)):",
        "    if False:",
        f"{UNIT}/module_utils/test__sealed.py",
    ),
    Mutation(
        "no secret is printed",
        "plugins/plugin_utils/_secrets.py",
        "    if not constants.DEFAULT_DEBUG:\n",
        "    if True:\n",
        f"{UNIT}/plugin_utils/test__secrets.py",
    ),
    Mutation(
        "a run has a host",
        "playbooks/assert_hosts.yml",
        "        that: _decommission_matched | length > 0",
        "        that: true",
        "tests/sanity/test_playbooks.py",
    ),
    Mutation(
        "a run has a host",
        "playbooks/assert_hosts.yml",
        "| intersect(ansible_play_hosts_all)",
        "",
        "tests/sanity/test_playbooks.py",
    ),
    Mutation(
        "14 the name of a homeserver that is gone",
        f"{GHOST_CLEANUP}/self_test.py",
        "if connection.homeserver:",
        "if False:",
        f"{REMOTE}/test_ghost_service.py",
    ),
    Mutation(
        "14 the name of a homeserver that is gone",
        f"{GHOST_CLEANUP}/self_test.py",
        "            assert_not_known_otherwise(connection.client, self._config.servers)\n",
        "            pass\n",
        f"{REMOTE}/test_ghost_service.py",
    ),
    Mutation(
        "14 one removal in a room at a time",
        f"{GHOST_CLEANUP}/cleanup.py",
        "            if free == BUSY:",
        "            if False:",
        f"{REMOTE}/test_cleanup.py",
    ),
    Mutation(
        "14 one removal in a room at a time",
        f"{GHOST_CLEANUP}/cleanup.py",
        "            self._rooms[visit.room] = BUSY\n",
        "",
        f"{REMOTE}/test_cleanup.py",
    ),
    Mutation(
        "14 a pause",
        f"{GHOST_CLEANUP}/schedule.py",
        "while self._heap and not self._is_paused:",
        "while self._heap:",
        f"{REMOTE}/test_cleanup.py",
    ),
    Mutation(
        "14 a kill loses nothing",
        f"{GHOST_CLEANUP}/store.py",
        'self._run("UPDATE pairs SET held = 0 WHERE held != 0")',
        "pass",
        f"{UNIT}/module_utils/_ghost_cleanup/test_store.py",
    ),
    Mutation(
        "14 a kill loses nothing",
        f"{GHOST_CLEANUP}/store.py",
        "due = CASE WHEN heard > ? THEN ? ELSE ? END",
        "due = CASE WHEN heard < ? THEN ? ELSE ? END",
        f"{UNIT}/module_utils/_ghost_cleanup/test_store.py",
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
