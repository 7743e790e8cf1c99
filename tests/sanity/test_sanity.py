# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-test sanity: all of it, on every Python that managed hosts may have."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import ansible_test
import pytest
from ansible_test._util.target.common.constants import REMOTE_ONLY_PYTHON_VERSIONS

ROOT = Path(__file__).parents[2]
# ansible-core 2.16 knows older ones, which tests/config.yml rules out.
MANAGED_PYTHONS = [version for version in REMOTE_ONLY_PYTHON_VERSIONS if version not in ("2.7", "3.6", "3.7")]

# ansible-test wants to download a script that installs pip in its environments; this one needs no download.
GET_PIP = """
import subprocess, sys
subprocess.check_call([sys.executable, "-m", "ensurepip"])
wanted = [arg for arg in sys.argv[1:] if arg not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "pip", "install"] + wanted)
"""


def ansible_test_home() -> Path:
    """A home of its own, kept, for the environments that ansible-test makes under ~/.ansible."""
    home = ROOT / ".cache/home"
    scripts = home / ".ansible/test/cache"
    scripts.mkdir(parents=True, exist_ok=True)
    source = Path(ansible_test.__file__).with_name("_internal") / "python_requirements.py"
    for version in re.findall(r"pip='([\d.]+)'", source.read_text()):
        (scripts / f"get_pip_{version.replace('.', '_')}.py").write_text(GET_PIP)
    config = home / ".config"
    if not config.is_symlink():
        config.symlink_to(Path.home() / ".config")  # pip's settings
    return home


def copy_checkout(destination: Path) -> None:
    """ansible-test goes by the real path, and would walk into whatever git ignores."""
    listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():  # not deleted and still to be committed
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, destination / name)


@pytest.fixture(scope="module")
def sanity(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    collection = tmp_path_factory.mktemp("sanity") / "ansible_collections/matrixops/synapse"
    copy_checkout(collection)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    pythons = sorted(map(str, pyenv.glob("versions/*/bin")))
    return subprocess.run(
        [Path(sys.executable).with_name("ansible-test"), "sanity", "--color", "no"],
        cwd=collection,
        env={
            **os.environ,
            "HOME": str(ansible_test_home()),
            "PATH": os.pathsep.join([os.environ["PATH"], *pythons]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_sanity(sanity: subprocess.CompletedProcess[str]) -> None:
    problems = [line for line in sanity.stdout.splitlines() if line.startswith(("ERROR", "FATAL"))]
    assert sanity.returncode == 0, "\n".join(problems) or sanity.stdout


def test_nothing_is_ignored() -> None:
    assert not list(Path(__file__).parent.glob("ignore*"))


@pytest.mark.parametrize("python", MANAGED_PYTHONS)
def test_managed_python(
    sanity: subprocess.CompletedProcess[str], python: str, skip_or_fail: Callable[[str], NoReturn]
) -> None:
    """ansible-test only warns of a Python that it did not find."""
    if f"on Python {python} because it could not be found" in sanity.stdout:
        skip_or_fail(f"modules were not tried on Python {python}, which is not here")
