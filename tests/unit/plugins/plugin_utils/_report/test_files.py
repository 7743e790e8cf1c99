# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.files import Directory, file_name
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.page import certificate_page
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.record import conclude, end_stage, new
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW, SERVER, Json
from ansible_collections.matrixops.synapse.tests.unit.plugins.plugin_utils._report.sample import HOSTILE, of_all_stages


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    directory = Directory(str(tmp_path / "reports"))
    with directory.locked():
        return directory


def write(directory: Directory, certificate: Json) -> Json:
    certificate = conclude(certificate, NOW)
    directory.write(certificate, certificate_page(certificate))
    return certificate


def test_file_names() -> None:
    names = ["example.org", "example.org:8448", "[2001:db8::1]:8448", "..", "a/../../b", "fleet", "x" * 300, HOSTILE]
    found = [file_name(name) for name in names]
    assert found[0] == "example.org" and len(set(found)) == len(found)
    for name in found:
        assert "/" not in name and len(name) < 220 and not name.startswith(".") and name != "fleet"


def test_written_and_read(directory: Directory) -> None:
    certificate = write(directory, of_all_stages())
    assert directory.read(SERVER) == certificate
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.path.iterdir()} == {0o600}
    assert sorted(path.name for path in directory.path.iterdir()) == [".lock", f"{SERVER}.html", f"{SERVER}.json"]
    assert directory.read("other.org") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"schema_version": 1}', b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_certificate_is_renamed(directory: Directory, content: bytes) -> None:
    path = directory.json_path(SERVER)
    for number in range(2):
        path.write_bytes(content)
        assert directory.read(SERVER) is None
        renamed_to = directory.rename_invalid(SERVER, NOW)
        assert renamed_to and renamed_to.read_bytes() == content and not path.exists()
        assert len(list(directory.path.glob("*.invalid"))) == number + 1
    assert directory.rename_invalid(SERVER, NOW) is None


def test_the_certificate_of_another_server_is_not_read(directory: Directory) -> None:
    write(directory, new("other.org", NOW))
    directory.json_path("other.org").rename(directory.json_path(SERVER))
    assert directory.read(SERVER) is None
    assert directory.read_all() == []


def test_when_the_disk_is_full_the_old_files_stay(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = of_all_stages()
    write(directory, certificate)
    before = {path.name: path.read_bytes() for path in directory.path.iterdir()}

    def fsync(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    end_stage(certificate, "drain", "failed", NOW, "x")
    with pytest.raises(OSError, match="No space"):
        write(directory, certificate)
    assert {path.name: path.read_bytes() for path in directory.path.iterdir()} == before


def test_a_certificate_that_violates_the_schema_is_not_written(directory: Directory) -> None:
    certificate = of_all_stages()
    certificate["drains"] = "many"
    with pytest.raises(AssertionError, match="drains"):
        directory.write(certificate, "")
    assert not directory.json_path(SERVER).exists()


def test_200_000_accounts(directory: Directory) -> None:
    certificate = of_all_stages()
    certificate["accounts"]["deactivated"].update(digests="x" * 1_000_000, width=5, total=200_000)
    write(directory, certificate)
    assert directory.json_path(SERVER).stat().st_size < 1_100_000
    assert json.loads(directory.json_path(SERVER).read_text())["accounts"]["deactivated"]["total"] == 200_000
