# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import stat
from pathlib import Path
from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._media_transfer import read_files, read_listing
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.media import Media
from ansible_collections.matrixops.synapse.plugins.modules import synapse_media as module
from ansible_collections.matrixops.synapse.tests.stubs.helpers import SERVER, TOKEN, Json
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import INVALID_TOKEN, Homeserver, event

Run = Callable[..., Json]
MODULE = "synapse_media"
OPTIONS = {"select": "avatars", "directory": "/nowhere", "boundary": "x"}


@pytest.fixture
def transfer(tmp_path: Path) -> Path:
    return tmp_path / "transfer"


def test_the_listing(run: Run, homeserver: Homeserver, transfer: Path) -> None:
    homeserver.register("alice")
    uri = homeserver.upload("a")
    homeserver.add_room("r", ["@alice:example.org", "@a:other.example"], event("m.room.avatar", {"url": uri}))
    for check in (False, True):
        path = transfer.with_name(f"transfer-{check}")
        assert run(MODULE, {**OPTIONS, "transfer_path": str(path)}, check=check) == {
            "changed": False,
            "parts": 1,
            "unreadable_rooms": [],
            "unreadable_rooms_total": 0,
            "lacks_avatars": False,
        }
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        with (path / "part-0").open("rb") as part:
            assert list(read_listing(part)) == [Media("a", 7, "image/png")]


def test_a_batch(run: Run, homeserver: Homeserver, transfer: Path) -> None:
    homeserver.upload("a")
    result = run(MODULE, {**OPTIONS, "media_ids": ["a", "b"], "transfer_path": str(transfer)})
    failure = {"media_id": "b", "reason": "Synapse does not have the file, or it is quarantined"}
    assert result == {"changed": False, "parts": 1, "failures": [failure]}
    assert [path.name for path in transfer.iterdir()] == ["part-0"]
    with (transfer / "part-0").open("rb") as part:
        assert [(media, file.read()) for media, file in read_files(part, ["a"])] == [
            (Media("a", 7, "image/png"), b"content")
        ]


def test_a_batch_that_is_full(
    run: Run, homeserver: Homeserver, transfer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was requested before it was full still comes with it."""
    monkeypatch.setattr(module, "BATCH_SIZE", 1)
    ids = [f"id-{number}" for number in range(100)]
    for media_id in ids:
        homeserver.upload(media_id)
    run(MODULE, {**OPTIONS, "media_ids": ids, "transfer_path": str(transfer), "concurrency": 4})
    with (transfer / "part-0").open("rb") as part:
        assert 1 <= len(list(read_files(part, ids))) <= 2 * 4


@pytest.mark.parametrize("media_ids", [None, ["a"]])
def test_an_error_leaves_nothing(run: Run, homeserver: Homeserver, transfer: Path, media_ids: list[str] | None) -> None:
    homeserver.upload("a")
    homeserver.faults[f"GET client/v1/media/download/{SERVER}/a"] = INVALID_TOKEN
    homeserver.faults["GET admin/v2/users"] = INVALID_TOKEN
    result = run(MODULE, {**OPTIONS, "media_ids": media_ids, "transfer_path": str(transfer)})
    assert (result["failed"], result["status"]) == (True, 401)
    assert TOKEN not in str(result)
    assert not transfer.exists()


def test_a_directory_that_exists(run: Run, homeserver: Homeserver, transfer: Path) -> None:
    """Another user may have made it."""
    transfer.mkdir()
    result = run(MODULE, {**OPTIONS, "transfer_path": str(transfer)})
    assert result["failed"] and "File exists" in result["msg"]


def test_without_ansible(run: Run, homeserver: Homeserver) -> None:
    assert "only runs in a task" in run(MODULE, OPTIONS)["msg"]
