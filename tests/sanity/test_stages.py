# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stages of the role: their order, their files, and the variables that they need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .test_language import flattened

ROLE = Path(__file__).parents[2] / "roles/decommission"


def load(path: str) -> Any:
    return yaml.safe_load((ROLE / path).read_text())


STEPS: list[dict[str, Any]] = load("vars/main.yml")["_decommission_all_steps"]
STAGES = [step["name"] for step in STEPS if step["name"] == step["stage"]]
READS = {"ansible.builtin.assert", "ansible.builtin.debug", "ansible.builtin.include_tasks"}
SPECS = load("meta/argument_specs.yml")["argument_specs"]


def test_the_power_off_is_the_last_stage_before_the_report() -> None:
    assert [*STAGES, "report"] == load("defaults/main.yml")["decommission_stages"]
    assert STAGES[-1] == "power_off"
    assert STEPS[-2:] == [{"name": name, "stage": "power_off"} for name in ("power_off", "post_tasks")]
    assert SPECS["main"]["options"]["decommission_stages"]["choices"] == [*STAGES, "report"]


def test_accounts_leave_before_the_federation_is_checked() -> None:
    assert STAGES == ["preflight", "prepare", "drain", "leave_rooms", "propagate", "verify", "power_off"]
    steps = [step["name"] for step in STEPS]
    first = [
        "requirements",
        "log_in",
        "preflight",
        "check_power_off",
        "check_archive",
        "cordon",
        "pre_tasks",
        "prepare",
        "drain",
    ]
    assert steps[: len(first)] == first


def test_each_step_has_a_file() -> None:
    names = [*(step["name"] for step in STEPS), "stage", "report", "log_out", "show_status", "announcement"]
    assert [name for name in names if not (ROLE / f"tasks/{name}.yml").exists()] == []


def test_each_step_belongs_to_a_stage() -> None:
    """By which it has its tag."""
    assert {step["stage"] for step in STEPS} == {*STAGES, "always"}


def test_a_stage_is_recorded_in_one_place() -> None:
    """Only the file for all stages calls the module that records them, but for the report, and for what is recorded in
    the middle of a stage: that no run can log in any more."""
    users = {path.name for path in ROLE.glob("tasks/*.yml") if "synapse.certificate:" in path.read_text()}
    assert users == {"run.yml", "stage.yml", "report.yml", "deactivate_admins.yml"}


def test_each_stage_but_the_first_two_has_a_message() -> None:
    messages = {name for name in load("vars/main.yml") if name.endswith("_message")}
    assert messages == {f"_decommission_{stage}_message" for stage in STAGES[2:]}


def test_the_defaults_are_those_of_the_specification() -> None:
    defaults = load("defaults/main.yml")
    options = SPECS["main"]["options"]
    assert defaults == {name: option["default"] for name, option in options.items() if "default" in option}


def test_entry_points_have_options_of_the_role() -> None:
    options = SPECS["main"]["options"]
    for name in ("status", "announce"):
        assert (ROLE / f"tasks/{name}.yml").exists()
        assert {key: options[key] for key in SPECS[name]["options"]} == SPECS[name]["options"]


def test_only_the_power_off_opens_the_gate() -> None:
    """The host is powered off in one place, by the result of the gate in this run, and by no variable."""
    texts = {path.name: path.read_text() for path in ROLE.glob("tasks/*.yml")}
    # Only these include the methods, and only one of them for more than a check.
    methods = {name for name, text in texts.items() if "power_off_{{ _decommission_off_method }}.yml" in text}
    assert methods == {"check_power_off.yml", "stop_host.yml"}
    assert [name for name, text in texts.items() if "_decommission_off_now: true" in text] == ["stop_host.yml"]
    assert [name for name, text in texts.items() if "stop_host.yml" in text] == ["stop.yml"]
    assert [name for name, text in texts.items() if ", 'stop'] | reject" in text] == ["power_off.yml"]
    gate, power_off = load("tasks/power_off.yml")
    assert "matrixops.synapse.synapse_decommission_gate" in gate and "'stop'" in power_off["loop"]
    lookup = "lookup('matrixops.synapse.gate', inventory_hostname, decommission_confirm)"
    assert power_off["when"] == ["not ansible_check_mode", lookup]


def test_each_method_has_a_file() -> None:
    methods = SPECS["main"]["options"]["decommission_power_off_method"]["choices"]
    assert {path.stem.partition("off_")[2] for path in ROLE.glob("tasks/power_off_*.yml")} == set(methods)


def test_methods_change_nothing_in_a_check() -> None:
    """Outside of their blocks after the gate, their tasks only read, also in check mode."""
    for name in ("systemd", "docker", "podman", "compose", "kubernetes", "none", "host"):
        for path in (ROLE / f"tasks/power_off_{name}.yml", ROLE / "tasks/stop_containers.yml"):
            for task in before_the_gate(yaml.safe_load(path.read_text())):
                if "ansible.builtin.command" in task:
                    assert (task["check_mode"], task["changed_when"]) == (False, False), task["name"]
                else:
                    assert READS.intersection(task), task["name"]


def before_the_gate(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The tasks without those that only run after the gate."""
    for task in tasks:
        conditions = task.get("when", [])
        if "_decommission_off_now | bool" not in (conditions if isinstance(conditions, list) else [conditions]):
            yield from before_the_gate(task["block"]) if "block" in task else [task]


def test_loops_are_equal_for_all_hosts() -> None:
    """Ansible runs the files of a loop in the order of the first host that has them. So the items must not depend on
    the host, except by the list that is empty if there are several hosts."""
    loops = {}
    for path in ROLE.glob("tasks/*.yml"):
        for task in flattened(yaml.safe_load(path.read_text())):
            if "ansible.builtin.include_tasks" in task and "loop" in task:
                loops[path.name, task["name"]] = task["loop"]
    assert len(loops) == 6
    # The items of _decommission_off_hosts have the name of the host.
    allowed = "_decommission_(steps|part|all_stages|left_out|final_steps|off_hosts)"
    for loop in loops.values():
        # These filters do not keep the order.
        assert not re.search("difference|intersect|union", loop), loop
        assert not re.search(rf"(?<!\w)(?!{allowed})_?decommission_\w+", loop), loop
    left_out = load("vars/main.yml")["_decommission_left_out"]
    assert left_out == "{{ _decommission_excluded if ansible_play_hosts_all | length == 1 else [] }}"
