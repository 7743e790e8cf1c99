# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The archive, by ansible-playbook itself. No homeserver is needed: the keys are a file."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from .conftest import RunModule, RunPlaybook
from .test_playbook import PLAYBOOK

SEED = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"
KEYS = f"ed25519 a_1 {SEED}\n"


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "signing.key").write_text(KEYS)
    (tmp_path / "password").write_text("correct horse\n")
    return {
        "directory": str(tmp_path / "reports"),
        "server_name": "example.org",
        "signing_key_path": str(tmp_path / "signing.key"),
        "vault_password_file": str(tmp_path / "password"),
    }


def test_the_keys_are_in_no_output_and_no_file(run_module: RunModule, options: dict[str, Any], tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    results = [
        run_module("archive", options, "-vvvvv", *more, ANSIBLE_REMOTE_TMP=str(remote), ANSIBLE_KEEP_REMOTE_FILES="1")
        for more in (["--check"], [], [])
    ]
    assert [result["changed"] for result in results] == [True, True, False]
    archive = tmp_path / "reports/example.org-archive"
    vault = VaultLib([("default", VaultSecret(b"correct horse"))])
    assert vault.decrypt((archive / "signing.key.vault").read_text()) == KEYS.encode()
    encoded = [base64.b64encode(b"." * shift + SEED.encode()).decode()[4:-8] for shift in range(3)]
    files = [path.read_bytes() for path in [*archive.rglob("*"), *remote.rglob("*")] if path.is_file()]
    for shown in [*(result.output for result in results), *(content.decode("latin-1") for content in files)]:
        assert not [each for each in (SEED, *encoded) if each in shown]


def test_with_ansible_debug_no_key_is_read(run_module: RunModule, options: dict[str, Any]) -> None:
    result = run_module("archive", options, ANSIBLE_DEBUG="1")
    assert result["failed"] and "ANSIBLE_DEBUG" in result["msg"]
    assert SEED not in result.output


def test_options_exclude_each_other(run_module: RunModule, options: dict[str, Any], tmp_path: Path) -> None:
    result = run_module("archive", {**options, "age_recipient": "age1friend"})
    assert "mutually exclusive" in result["msg"]
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "there is no file"),
        ({"decommission_archive_age_recipient": "age1friend"}, "are both set"),
    ],
)
def test_preflight_refuses_wrong_options(run_playbook: RunPlaybook, more: dict[str, str], message: str) -> None:
    asked = {"decommission_archive": True, "decommission_archive_vault_password_file": "nowhere/password"}
    operator = {"decommission_access_token": "syt_none", "decommission_confirm": "example.org"}
    off = {"decommission_power_off": False, "decommission_base_url": "http://127.0.0.1:9"}
    process = run_playbook(PLAYBOOK, {"a": {**operator, **off, **asked, **more}})
    assert process.returncode == 2, process.stdout
    assert "No changes made" in process.stdout and message in process.stdout
