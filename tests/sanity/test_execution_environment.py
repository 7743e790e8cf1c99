# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection as others install it, and in an execution environment.

No image is built here, since none can be pulled that it could be based on: the tests end with what ansible-builder
makes of the example, which is all that is needed for the build.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from compatibility.environments import ROOT, make_origin
from packaging.requirements import Requirement

EXAMPLES = ROOT / "docs/examples"


def run(directory: Path, program: str, *arguments: str | Path, **variables: str) -> str:
    """What a program of this environment prints, which must succeed."""
    command = [Path(sys.executable).with_name(program), *arguments]
    # Nobody's own configuration, and no cache of what was cloned before.
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(directory / ".ansible"), **variables}
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example's requirements.yml has installed the collection, from this checkout instead of its origin."""
    directory = tmp_path_factory.mktemp("installed")
    origin = directory / "origin"
    make_origin(origin)
    requirements = (EXAMPLES / "requirements.yml").read_text()
    repository = yaml.safe_load((ROOT / "galaxy.yml").read_text())["repository"]
    assert f"{repository}.git" in requirements
    (directory / "requirements.yml").write_text(requirements.replace(f"{repository}.git", f"file://{origin}"))
    # As in docs/howto/fleet.md: into the first path that Ansible searches.
    collections = directory / "collections"
    run(directory, "ansible-galaxy", "install", "-r", "requirements.yml", ANSIBLE_COLLECTIONS_PATH=str(collections))
    return collections


def test_what_the_collection_needs(installed: Path) -> None:
    """In the collection as it is installed, ansible-builder finds what it needs on the controller."""
    assert (installed / "ansible_collections/matrixops/synapse/roles/decommission/tasks/main.yml").exists()
    found = yaml.safe_load(run(installed, "ansible-builder", "introspect", installed))
    needed = [Requirement(line.partition("#")[0]) for line in found["python"]]
    assert [requirement.name for requirement in needed] == ["requests", "dnspython", "signedjson"]
    assert not found["system"]


def test_build_context(tmp_path: Path) -> None:
    for name in ("execution-environment.yml", "requirements.yml"):
        shutil.copy(EXAMPLES / name, tmp_path)
    run(tmp_path, "ansible-builder", "create")
    context = tmp_path / "context"
    assert (context / "_build/requirements.yml").read_text() == (EXAMPLES / "requirements.yml").read_text()
    # Named for podman or docker, whichever is here.
    (file,) = context.glob("*file")
    containerfile = file.read_text()
    image = yaml.safe_load((EXAMPLES / "execution-environment.yml").read_text())["images"]["base_image"]["name"]
    assert f'ARG EE_BASE_IMAGE="{image}"' in containerfile
    git, install = (containerfile.find(part) for part in ("install -y git-core", "ansible-galaxy collection install"))
    assert 0 < git < install
    # Not quoted where it is used: each word is an argument of pip's.
    words = re.search(r"^ARG ANSIBLE_INSTALL_REFS=(.*)$", containerfile, re.MULTILINE)
    assert words
    packages = {Requirement(word).name: Requirement(word) for word in shlex.split(words[1])[0].split()}
    assert set(packages) == {"ansible-core", "ansible-runner"}
    needed = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"].removesuffix(".0")
    assert needed in str(packages["ansible-core"].specifier)
