# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which part of the code may import which."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = "ansible_collections.matrixops.synapse.plugins"
UTILS = f"{PLUGINS}.module_utils"
FEDERATION = f"{UTILS}._federation"
FILES = {
    ".".join((PLUGINS, *path.relative_to(ROOT / "plugins").with_suffix("").parts)): path
    for path in sorted((ROOT / "plugins").rglob("*.py"))
}


def imported(module: str) -> Iterator[str]:
    """The full names of all modules that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = module.rsplit(".", node.level)[0] if node.level else ""
            base = ".".join(filter(None, (parent, node.module)))
            # What is imported may be a module, too.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def is_below(name: str, *packages: str) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


MODULES_OF_FEDERATION = [module for module in FILES if is_below(module, FEDERATION)]


def test_files_are_found() -> None:
    assert f"{FEDERATION}.client" in MODULES_OF_FEDERATION
    assert f"{FEDERATION}.errors.UnreachableError" in set(imported(f"{FEDERATION}.client"))
    assert f"{UTILS}._pool.each" in set(imported(f"{UTILS}._decommission.ghosts"))


@pytest.mark.parametrize("module", MODULES_OF_FEDERATION)
def test_the_federation_client_needs_neither_ansible_nor_synapse(module: str) -> None:
    assert [name for name in imported(module) if is_below(name, "ansible", "ansible_collections")] == [
        name for name in imported(module) if is_below(name, FEDERATION)
    ]


def test_what_uses_the_federation_client() -> None:
    """What speaks to Synapse alone does not: policy is what puts the two together."""
    users = {module for module in FILES if any(is_below(name, FEDERATION) for name in imported(module))}
    allowed = (FEDERATION, f"{UTILS}._decommission", f"{PLUGINS}.modules", f"{PLUGINS}.plugin_utils")
    assert {module for module in users if not is_below(module, *allowed)} == {f"{UTILS}._ghosts_module"}


@pytest.mark.parametrize("module", [module for module in FILES if is_below(module, f"{UTILS}._decommission")])
def test_policy_needs_no_ansible(module: str) -> None:
    assert [name for name in imported(module) if is_below(name, "ansible")] == []
