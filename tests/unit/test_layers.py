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


SYNAPSE = f"{UTILS}._synapse"
MAS = f"{UTILS}._mas"
POLICY = f"{UTILS}._decommission"
SERVICE = f"{UTILS}._ghost_cleanup"
SHARED = tuple(f"{UTILS}.{name}" for name in ("_concurrency", "_http", "_results", "_text"))
"""What any layer may use: it uses none of them."""


def below(package: str) -> list[str]:
    return [module for module in FILES if is_below(module, package)]


def imported_from(module: str, *packages: str) -> list[str]:
    return [name for name in imported(module) if is_below(name, *packages)]


def test_files_are_found() -> None:
    assert f"{FEDERATION}.client" in below(FEDERATION)
    assert f"{FEDERATION}.errors.UnreachableError" in set(imported(f"{FEDERATION}.client"))
    assert f"{UTILS}._concurrency.map_concurrent" in set(imported(f"{POLICY}.ghosts"))


@pytest.mark.parametrize("package", [SYNAPSE, FEDERATION, *SHARED])
def test_what_speaks_to_servers_needs_neither_ansible_nor_policy(package: str) -> None:
    own = () if package in SHARED else (package, *SHARED)
    for module in below(package):
        foreign = imported_from(module, "ansible", "ansible_collections")
        assert foreign == imported_from(module, *own), module


def test_the_login_service_needs_only_the_client_of_the_homeserver() -> None:
    assert below(MAS)
    for module in below(MAS):
        foreign = imported_from(module, "ansible", "ansible_collections")
        assert foreign == imported_from(module, MAS, SYNAPSE, *SHARED), module


def test_policy_needs_no_ansible() -> None:
    for module in below(POLICY):
        assert imported_from(module, "ansible") == [], module
        assert imported_from(module, "ansible_collections") == imported_from(
            module, POLICY, SYNAPSE, FEDERATION, *SHARED
        )


def test_the_service_stands_alone() -> None:
    """It is built from these parts, for a host without Ansible. The role validates its configuration beforehand."""
    configuration = [f"{SERVICE}.config.{name}" for name in ("ConfigError", "parse_config")]
    parts = (SERVICE, POLICY, SYNAPSE, FEDERATION, *SHARED)
    for module in FILES:
        if is_below(module, SERVICE):
            assert imported_from(module, "ansible") == [], module
            assert imported_from(module, "ansible_collections") == imported_from(module, *parts), module
        else:
            allowed = configuration if module == f"{PLUGINS}.action.ghost_cleanup_program" else []
            assert [name for name in imported_from(module, SERVICE) if name not in allowed] == [], module


def test_the_file_tree_has_one_underscore_a_path() -> None:
    """What is private is said once, by the folder or by the file."""
    for path in (ROOT / "plugins").glob("*_utils/**/*.py"):
        names = [part.removesuffix(".py") for part in path.relative_to(ROOT / "plugins").parts[1:]]
        assert [name.startswith("_") for name in names].count(True) == 1 or names[-1].startswith("__"), path


TESTED_BY = {
    "_propagation_module.py": "../modules/test_synapse_propagation.py",
    "_decommission/actors.py": "_decommission/test_handover.py",
    "_decommission/drain_run.py": "_decommission/test_drain.py",
    "_decommission/federated_leaves.py": "_decommission/test_drain.py",
    "_decommission/room_tracker.py": "_decommission/test_drain.py",
    "_synapse/delegation.py": "_mas/test_service.py",
}
"""Modules that are parts of another one, and are tested with it."""
WITH_REAL_SERVERS = {
    "_decommission/ghosts.py": "test_ghosts.py",
    "_federation/answers.py": "test_checks.py",
    "_federation/checks.py": "test_checks.py",
    "_federation/client.py": "test_checks.py",
    "_federation/connect.py": "test_connect.py",
    "_federation/name_check.py": "test_name_info.py",
    "_federation/notaries.py": "test_server_key.py",
    "_federation/removal.py": "test_checks.py",
    "_federation/site_checks.py": "test_site_info.py",
    "_ghost_cleanup/cleanup.py": "test_cleanup.py",
    "_ghost_cleanup/self_test.py": "test_ghost_service.py",
    "_ghost_cleanup/service.py": "test_ghost_service.py",
    "_ghost_cleanup/web.py": "test_ghost_web.py",
}
"""Which file of tests/federation tests a module that is only used with remote servers."""


def test_each_file_of_module_utils_has_its_tests() -> None:
    """One file of tests for each, in a tree like that of the code."""
    code, tests = ROOT / "plugins/module_utils", ROOT / "tests/unit/plugins/module_utils"
    tested = {path.relative_to(code).as_posix() for path in code.rglob("*.py") if path.name[:2] != "__"}
    found = {
        (path.parent / path.name[len("test_") :]).relative_to(tests).as_posix() for path in tests.rglob("test_*.py")
    }
    assert tested - found == {*WITH_REAL_SERVERS, *TESTED_BY}
    assert found - tested == set()
    for name in TESTED_BY.values():
        assert (tests / name).is_file(), name
    for name in WITH_REAL_SERVERS.values():
        assert (ROOT / "tests/federation" / name).is_file(), name


PATTERNS = ("compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer")


def variable_patterns(module: str) -> Iterator[str]:
    """The patterns of regular expressions that are made of something else than constants."""
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PATTERNS:
            is_of_re = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
            if is_of_re and not isinstance(node.args[0], ast.Constant):
                yield ast.unparse(node.args[0])


def test_no_pattern_is_made_of_what_a_server_answers() -> None:
    """Globs of a server ACL with many stars would take for ever to match, for example."""
    assert not [module for module in FILES for name in imported(module) if is_below(name, "fnmatch", "glob")]
    assert not [module for module, path in FILES.items() if "server_acl" in path.read_text(encoding="utf-8")]
    # Made of constants, of the name of this server, escaped, and of the schema of the certificate.
    made = {module.rpartition(".")[2] for module in FILES if list(variable_patterns(module))}
    assert made == {"answers", "leave_events", "names", "redaction", "schema"}


MAX_LINES = 60


@pytest.mark.parametrize("module", FILES)
def test_functions_fit_on_a_screen(module: str) -> None:
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= MAX_LINES]
    assert long == []
