# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Mapping

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _ghost_cleanup_program as program

SERVICE = "def main(arguments):\n    print('ran', arguments)\n    return 3\n"
TREE = {
    "_ghost_cleanup/__init__.py": "",
    "_ghost_cleanup/service.py": f"from ..used import thing\nfrom .._deep.package import module\n{SERVICE}",
    "_ghost_cleanup/late.py": "def function():\n    from .. import later\n",
    "_deep/__init__.py": "",
    "_deep/package/__init__.py": "",
    "_deep/package/module.py": "from ...third import x as y\n",
    "_deep/unused.py": "import ansible\n",
    "used.py": "thing = 1\n",
    "later.py": "",
    "third.py": "x = 1\n",
    "unused.py": "from ansible.module_utils.basic import AnsibleModule\n",
}


def write(directory: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def names(content: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_it_has_what_is_imported(tmp_path: Path) -> None:
    """And nothing else. It runs without anything of this repository, and gives its exit code."""
    content = program.build(write(tmp_path / "tree", TREE))
    used = [f"matrixops_synapse/{name}" for name in TREE if "unused" not in name]
    assert names(content) == sorted(["__main__.py", "matrixops_synapse/__init__.py", *used])
    (tmp_path / "program.pyz").write_bytes(content)
    command = [sys.executable, "-I", "-S", "program.pyz", "--config", "x"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "ran ['--config', 'x']\n", "")


def test_equal_sources_give_equal_bytes(tmp_path: Path) -> None:
    """Whatever their times, modes and order on the disk are."""
    first = write(tmp_path / "a", TREE)
    second = write(tmp_path / "b", dict(reversed(TREE.items())))
    for path in second.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    assert program.build(first) == program.build(second)
    write(second, {"unused.py": "x = 2\n"})
    assert program.build(first) == program.build(second)
    write(second, {"used.py": "thing = 2\n"})
    assert program.build(first) != program.build(second)


@pytest.mark.parametrize(
    "statement",
    [
        "import ansible",
        "from ansible.module_utils.basic import AnsibleModule",
        "def f():\n    import ansible_collections.matrixops.synapse.plugins.module_utils._text",
    ],
)
def test_ansible_is_refused(tmp_path: Path, statement: str) -> None:
    write(tmp_path, {**TREE, "used.py": statement})
    with pytest.raises(ValueError, match=r"used\.py imports ansible.* which the host of the service does not have"):
        program.build(tmp_path)
