# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documentation of modules and roles, checked against the code."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Json

ROOT = Path(__file__).parents[2]
PLUGINS = "ansible_collections.matrixops.synapse.plugins"
ON_THE_CONTROLLER = ("archive", "certificate", "ghost_cleanup_program", "power_off", "site")
"""Action plugins. Their modules have the documentation; that of the archive also reads the keys."""
MODULES = sorted({path.stem for path in (ROOT / "plugins/modules").glob("*.py")} - set(ON_THE_CONTROLLER))
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
UNSIGNED = {"matrix_name_info", "matrix_server_key", "matrix_site_info", "matrix_site_log_info"}
"""Modules that do not sign requests, which do not have the options of the action group."""
ACTION_GROUPS = {"federation": {name for name in MODULES if name.startswith("matrix_")} - UNSIGNED}
ACTION_GROUPS["synapse"] = {name for name in MODULES if name.startswith(("mas_", "synapse_"))}
LOGIN = {"access_token", "login_password", "mas_client_secret", "mas_access_token"}
SECRETS = {
    **dict.fromkeys(ACTION_GROUPS["synapse"], LOGIN),
    **{name: {"access_token", "signing_key", "proxy", "witness_token"} for name in ACTION_GROUPS["federation"]},
    "matrix_federation_info": {"signing_key", "proxy"},
    "matrix_name_info": {"proxy"},
    "matrix_server_key": {"proxy"},
    "matrix_site_info": {"proxy"},
    "matrix_site_log_info": set(),
    "site_deployment": set(),
    "synapse_session": {*LOGIN, "one_time_key"},
    "archive": {"one_time_key"},
    **{name: {*LOGIN, "federation_proxy"} for name in ("synapse_propagation", "synapse_decommission_gate")},
}


class Started(BaseException):
    """Carries the arguments that a module passes to Ansible."""


@cache
def read_yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@cache
def documentation(name: str) -> Json:
    """DOCUMENTATION of a module, with the fragments that it extends."""
    merged: Json = yaml.safe_load(importlib.import_module(f"{PLUGINS}.modules.{name}").DOCUMENTATION)
    for fragment_name in merged.get("extends_documentation_fragment", []):
        _namespace, _collection, file, *part = fragment_name.split(".")
        module = importlib.import_module(f"{PLUGINS}.doc_fragments.{file}")
        text = getattr(module.ModuleDocFragment, part[0].upper() if part else "DOCUMENTATION")
        for key, value in yaml.safe_load(text).items():
            if isinstance(value, dict):
                inner = merged.setdefault(key, {})
                merged[key] = {**value, **{name: {**value.get(name, {}), **inner[name]} for name in inner}}
    return merged


def arguments(name: str, monkeypatch: pytest.MonkeyPatch) -> Json:
    """The arguments that a module passes to Ansible."""

    def init(_module: AnsibleModule, **arguments: Any) -> None:
        raise Started(arguments)

    monkeypatch.setattr(AnsibleModule, "__init__", init)
    with pytest.raises(Started) as started:
        importlib.import_module(f"{PLUGINS}.modules.{name}").main()
    found: Json = started.value.args[0]
    return found


def shape(option: Json) -> Json:
    """The parts of an option on which documentation and code must agree."""
    default = option.get("default")
    return {
        "type": option.get("type", "str"),
        "elements": option.get("elements"),
        "default": default,
        "choices": sorted(option.get("choices") or []),
        "required": option.get("required", False),
    }


def test_there_are_modules_and_roles() -> None:
    assert MODULES
    assert ROLES == ["decommission", "ghost_cleanup", "ghosts", "site"]


@pytest.mark.parametrize("name", [*MODULES, "archive"])
def test_options_are_as_documented(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    documented = documentation(name)["options"]
    spec = arguments(name, monkeypatch)["argument_spec"]
    assert {key: shape(option) for key, option in spec.items()} == {
        key: shape(option) for key, option in documented.items()
    }


@pytest.mark.parametrize("name", [*MODULES, "archive"])
def test_secrets_are_not_logged(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = arguments(name, monkeypatch)["argument_spec"]
    assert {key for key, option in spec.items() if option.get("no_log")} == SECRETS[name]


@pytest.mark.parametrize("name", MODULES)
def test_environment_variables_are_documented(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    documented = documentation(name)["options"]
    spec = arguments(name, monkeypatch)["argument_spec"]
    fallbacks = {key: option["fallback"][1] for key, option in spec.items() if "fallback" in option}
    expected = {"base_url": ["SYNAPSE_BASE_URL"], "access_token": ["SYNAPSE_ACCESS_TOKEN"]}
    without = {"matrix_federation_info", "site_deployment", *UNSIGNED}
    assert fallbacks == ({} if name in without else expected)
    for key, variables in fallbacks.items():
        for variable in variables:
            assert f"E({variable})" in str(documented[key]["description"])


@pytest.mark.parametrize("name", MODULES)
def test_check_mode_is_supported_as_documented(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert documentation(name)["attributes"]["check_mode"]["support"] in ("full", "partial")
    assert arguments(name, monkeypatch)["supports_check_mode"] is True


@pytest.mark.parametrize("name", MODULES)
def test_attributes_are_complete(name: str) -> None:
    attributes = documentation(name)["attributes"]
    in_group = {"action_group"} if any(name in group for group in ACTION_GROUPS.values()) else set()
    assert set(attributes) == {*in_group, "check_mode", "diff_mode", "idempotent", "platform"}
    assert all(attribute["support"] and attribute["description"] for attribute in attributes.values())


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_named_as_its_file(name: str) -> None:
    assert documentation(name)["module"] == name
    module = importlib.import_module(f"{PLUGINS}.modules.{name}")
    assert yaml.safe_load(module.RETURN)
    first, *others = yaml.safe_load(module.EXAMPLES)
    assert f"matrixops.synapse.{name}" in first
    # What follows may use the result.
    for task in others:
        assert {f"matrixops.synapse.{name}", "ansible.builtin.assert", "ansible.builtin.debug"}.intersection(task)


@pytest.mark.parametrize("group", ACTION_GROUPS)
def test_every_module_is_in_its_action_group(group: str) -> None:
    assert set(read_yaml("meta/runtime.yml")["action_groups"][group]) == ACTION_GROUPS[group]
    for name in ACTION_GROUPS[group]:
        assert documentation(name)["attributes"]["action_group"]["membership"] == [f"matrixops.synapse.{group}"]


@pytest.mark.parametrize("role", ROLES)
def test_defaults_of_a_role_are_as_documented(role: str) -> None:
    options = read_yaml(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = read_yaml(f"roles/{role}/defaults/main.yml")
    assert {name: option["default"] for name, option in options.items() if "default" in option} == defaults


@pytest.mark.parametrize("role", ROLES)
def test_variables_of_a_role_begin_with_its_name(role: str) -> None:
    options = read_yaml(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert all(name.startswith(f"{role}_") for name in options)
    assert all(name.startswith(f"_{role}_") for name in read_yaml(f"roles/{role}/vars/main.yml"))
