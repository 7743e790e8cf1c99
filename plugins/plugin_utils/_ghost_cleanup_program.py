# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program of the role ghost_cleanup: one file that a Python without Ansible runs.

It has the parts of C(module_utils) that the service imports, and no others. So it only changes if one of these does.
"""

from __future__ import annotations

import ast
import io
import zipfile
from pathlib import Path
from typing import Iterator

MODULE_UTILS = Path(__file__).parents[1] / "module_utils"
PACKAGE = "matrixops_synapse"
"""Name of C(module_utils) in the program."""
SERVICE = "_ghost_cleanup"
MAIN = f"""\
import sys

from {PACKAGE}.{SERVICE}.service import main

sys.exit(main(sys.argv[1:]))
"""
EPOCH = (1980, 1, 1, 0, 0, 0)
MODE = 0o100644 << 16
UNIX = 3


def build(module_utils: Path = MODULE_UTILS) -> bytes:
    """Return the program, a ZIP file. Equal sources give equal bytes, on each controller.

    :raises ValueError: if the service imports Ansible.
    :raises OSError: if a file cannot be read.
    """
    sources = {f"{PACKAGE}/{name}": text for name, text in _sources(module_utils).items()}
    sources = {f"{PACKAGE}/__init__.py": b"", "__main__.py": MAIN.encode(), **sources}
    file = io.BytesIO()
    # Without compression, which depends on the version of zlib.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(sources):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr, entry.create_system = MODE, UNIX
            archive.writestr(entry, sources[name])
    return file.getvalue()


def _sources(module_utils: Path) -> dict[str, bytes]:
    """Return the files of the service, and those that they import, by path."""
    open_files = sorted((module_utils / SERVICE).glob("*.py"))
    found: dict[str, bytes] = {}
    while open_files:
        path = open_files.pop()
        name = path.relative_to(module_utils).as_posix()
        if name not in found:
            found[name] = path.read_bytes()
            open_files += _imported(path, module_utils)
    return found


def _imported(path: Path, module_utils: Path) -> Iterator[Path]:
    """Yield the files of C(module_utils) that a file imports, anywhere in it, with the packages that they are in.

    :raises ValueError: if it imports Ansible.
    """
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            _refuse_ansible(path, *(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom) and not node.level:
            _refuse_ansible(path, node.module or "")
        elif isinstance(node, ast.ImportFrom):
            directory = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            # What is imported may be a module, too.
            for target in [directory, *(directory / alias.name for alias in node.names)]:
                yield from _files(target, module_utils)


def _files(target: Path, module_utils: Path) -> Iterator[Path]:
    package = target / "__init__.py"
    file = package if package.is_file() else target.with_suffix(".py")
    if file.is_file():
        yield file
        yield from (parent / "__init__.py" for parent in file.parents if module_utils in parent.parents)


def _refuse_ansible(path: Path, *modules: str) -> None:
    for module in modules:
        if module.partition(".")[0] in ("ansible", "ansible_collections"):
            raise ValueError(f"{path} imports {module}, which the host of the service does not have")
