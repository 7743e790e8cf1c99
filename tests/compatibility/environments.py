# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Environments with other versions than the repository's own, made once, under ``.cache``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: For each ansible-core: a Python that it runs on, and the oldest that its modules may run on (and ours).
CORES = {
    "2.16": ("3.10", "3.8"),
    "2.17": ("3.12", "3.8"),
    "2.18": ("3.11", "3.8"),
    "2.19": ("3.13", "3.8"),
    "2.20": ("3.12", "3.9"),
    "2.21": ("3.13", "3.9"),
}

#: For each Synapse, what to hold back that has changed since: the oldest that is supported, those that are about two
#: years and one year old, and the newest.
SYNAPSES: dict[str, tuple[str, ...]] = {
    "1.93": ("prometheus-client<0.23",),
    "1.120": ("prometheus-client<0.23",),
    "1.142": ("prometheus-client<0.23",),
    "1.163": (),
}
_SYNAPSE_PYTHON = "3.11"
#: What the modules need, as in meta/ee-requirements.txt.
_REQUIREMENTS = ("requests", "signedjson", "dnspython")

# ansible-test wants to download a script that installs pip in its environments; this one needs no download.
_GET_PIP = """
import subprocess, sys
subprocess.check_call([sys.executable, "-m", "ensurepip"])
wanted = [arg for arg in sys.argv[1:] if arg not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "pip", "install"] + wanted)
"""


class MissingPythonError(Exception):
    """There is no such Python on this machine."""


def python_path() -> str:
    """``PATH``, with all Pythons of pyenv at its end."""
    return os.pathsep.join([os.environ["PATH"], *map(str, sorted(_pyenv().glob("versions/*/bin")))])


def ansible_core(core: str, python: str) -> Path:
    """The Python of an environment that has a version of ansible-core, for a version of Python."""
    return _environment(f"ansible-{core}", python, f"ansible-core=={core}.*", *_REQUIREMENTS)


def target(python: str) -> Path:
    """The Python of a managed host: what the modules need, and nothing else."""
    return _environment(f"target-{python}", python, *_REQUIREMENTS)


def synapse(version: str) -> Path:
    """The Python of an environment that has a version of Synapse."""
    packages = (f"matrix-synapse=={version}.*", "psycopg2-binary", *SYNAPSES[version])
    return _environment(f"synapse-{version}", _SYNAPSE_PYTHON, *packages)


def _environment(name: str, python: str, *packages: str) -> Path:
    environment = ROOT / ".cache" / name
    made = environment / "made"  # only once all of it is there
    content = " ".join((python, *packages))
    if not made.exists() or made.read_text() != content:
        found = [*map(str, _pyenv().glob(f"versions/{python}.*/bin/python3")), shutil.which(f"python{python}")]
        if not found[0]:
            raise MissingPythonError(f"no Python {python} here, for {name}")
        subprocess.run([found[0], "-m", "venv", "--clear", environment], check=True)
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([environment / "bin/python", *pip, *packages], check=True)
        made.write_text(content)
    return environment / "bin/python"


def _pyenv() -> Path:
    return Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))


def ansible_test_home(python: Path) -> Path:
    """A home of its own, kept, for what the ansible-test of this Python makes under ``~/.ansible``."""
    home = ROOT / ".cache/home"
    scripts = home / ".ansible/test/cache"
    scripts.mkdir(parents=True, exist_ok=True)
    (source,) = python.parents[1].glob("lib/python*/site-packages/ansible_test/_internal/python_requirements.py")
    for version in re.findall(r"pip='([\d.]+)'", source.read_text()):
        (scripts / f"get_pip_{version.replace('.', '_')}.py").write_text(_GET_PIP)
    config = home / ".config"
    if not config.is_symlink():
        config.symlink_to(Path.home() / ".config")  # pip's settings
    return home


def ansible_test(python: Path, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the ansible-test of this Python on a copy of the checkout, which is made in the directory."""
    collection = directory / "ansible_collections/matrixops/synapse"
    if not collection.exists():
        copy_checkout(collection)
    environment = {name: value for name, value in os.environ.items() if name != "ANSIBLE_COLLECTIONS_PATH"}
    return subprocess.run(
        [python.with_name("ansible-test"), *arguments, "--color", "no"],
        cwd=collection,
        env={**environment, "HOME": str(ansible_test_home(python)), "PATH": python_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def copy_checkout(destination: Path) -> None:
    """Copy what git does not ignore. ansible-test goes by the real path, and would walk into the rest."""
    listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():  # not deleted and still to be committed
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, destination / name)


def make_origin(destination: Path) -> None:
    """Make a repository of a single commit, of what is in the checkout now."""
    copy_checkout(destination)
    nobody = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
    for command in (
        ["init", "--quiet", "--initial-branch", "main"],
        ["add", "--all"],
        [*nobody, "commit", "--quiet", "--message", "all"],
    ):
        subprocess.run(["git", *command], cwd=destination, check=True)
