# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is published."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml
from compatibility.checks import built
from compatibility.environments import ROOT

#: Made by the build.
GENERATED = {"FILES.json", "MANIFEST.json"}
#: Only for this repository.
LEFT_OUT = {
    ".ansible-lint",
    ".ci",
    ".github",
    ".gitignore",
    ".pre-commit-config.yaml",
    ".yamllint",
    "benchmarks",
    "galaxy.yml",
}


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("tarball"))


def test_it_has_what_git_has(tarball: Path) -> None:
    """All of it, but for what is of no use elsewhere; and nothing that lies about here."""
    with tarfile.open(tarball) as archive:
        packed = {member.name for member in archive if member.isfile()}
    listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True)
    known = {name for name in listed.split("\0") if name and (ROOT / name).exists()}
    assert packed - GENERATED == {name for name in known if name.partition("/")[0] not in LEFT_OUT}


def test_it_is_small(tarball: Path) -> None:
    """A large file that was added by mistake would be noticed."""
    assert tarball.stat().st_size < 1_400_000


def test_metadata() -> None:
    """What Galaxy shows, and its importer insists on."""
    metadata = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    for key in ("repository", "documentation", "homepage", "issues"):
        assert metadata[key].startswith("https://github.com/matrixops/synapse")
    assert metadata["tags"] and metadata["license"] == ["GPL-3.0-or-later"]
    assert all(len(author) <= 64 for author in metadata["authors"])
    assert (ROOT / metadata["readme"]).exists() and (ROOT / "COPYING").exists()
