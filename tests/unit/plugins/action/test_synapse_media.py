# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.matrixops.synapse.plugins.action import synapse_media as plugin
from ansible_collections.matrixops.synapse.plugins.modules import synapse_media as module
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _secrets
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import media as site_media
from ansible_collections.matrixops.synapse.tests.stubs.helpers import SERVER, TOKEN, Clock, Json
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import (
    BROKEN,
    INVALID_TOKEN,
    Homeserver,
    event,
)

Run = Callable[..., Json]
ALICE, REMOTE = f"@alice:{SERVER}", "@someone:other.example"
FILES = {f"id-{number}": bytes([number]) * 1000 for number in range(7)}
BOUNDARY = "0123456789abcdef"


class Display:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def display(self, message: str) -> None:
        self.lines.append(message)


class Controller:
    """Runs the action with the module itself, on a host whose temporary directory is another one."""

    def __init__(self, run: Run, directory: Path, become: bool) -> None:
        self.run_module = run
        self.remote = directory / "remote"
        self.remote.mkdir()
        self.directory = directory / "media"
        self.become = become
        self.batches: list[list[str]] = []
        self.before_module: Callable[[], None] = lambda: None
        self.display = Display()

    def run(self, *, check: bool = False, **options: Any) -> Json:
        arguments = {"select": "all", "directory": str(self.directory), "boundary": BOUNDARY, **options}
        task = SimpleNamespace(args=arguments, async_val=0, check_mode=check, action="synapse_media")
        shell = SimpleNamespace(
            tmpdir=None,
            get_option=lambda _name: [str(self.remote), "/tmp"],
            remove=lambda path, recurse: ("remove", path, recurse),
        )
        connection = SimpleNamespace(_shell=shell, become=self.become, fetch_file=self._fetch)
        action = plugin.ActionModule(task, connection, SimpleNamespace(), None, None, None)
        action._execute_module = self._execute
        action._low_level_execute_command = self._command
        result: Json = action.run(task_vars={"inventory_hostname": "matrix"})
        return result

    def _execute(self, module_args: Json, task_vars: Json, module_name: str | None = None) -> Json:
        assert task_vars == {"inventory_hostname": "matrix"}
        if module_name == "ansible.legacy.slurp":
            assert self.become
            return {"content": base64.b64encode(Path(module_args["src"]).read_bytes()).decode()}
        self.batches.append(module_args.get("media_ids"))
        self.before_module()
        return self.run_module("synapse_media", module_args)

    def _fetch(self, source: str, target: str) -> None:
        assert not self.become
        shutil.copy(source, target)

    def _command(self, command: tuple[str, str, bool]) -> Json:
        name, path, recurse = command
        assert (name, recurse, Path(path).parent) == ("remove", True, self.remote)
        shutil.rmtree(path, ignore_errors=True)
        return {"rc": 0}

    def stored(self) -> dict[str, bytes]:
        """The plain files by media ID."""
        plain = [path for path in self.directory.iterdir() if path.suffix != ".multipart"]
        assert site_media.stored(self.directory).keys() == {path.stem for path in plain}
        return {path.stem: path.read_bytes() for path in plain}


@pytest.fixture(params=[False, True], ids=["ordinary user", "become"])
def become(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def controller(
    run: Run, tmp_path: Path, homeserver: Homeserver, become: bool, monkeypatch: pytest.MonkeyPatch
) -> Controller:
    """A federated room with C(FILES)."""
    homeserver.register("alice")
    room = homeserver.add_room("r", [ALICE, REMOTE])
    uris = [homeserver.upload(media_id, content) for media_id, content in FILES.items()]
    homeserver.events[room] = [event("m.room.message", {"url": uri}) for uri in uris]
    controller = Controller(run, tmp_path, become)
    monkeypatch.setattr(plugin, "display", controller.display)
    return controller


def reasons(result: Json) -> dict[str, str]:
    assert result["failures_total"] == len(result["failures"])
    return {failure["media_id"]: failure["reason"] for failure in result["failures"]}


def downloads(homeserver: Homeserver) -> int:
    return homeserver.count("media/download")


def test_files_are_downloaded(controller: Controller, homeserver: Homeserver) -> None:
    assert controller.run() == {
        "changed": True,
        "message": "7 media files (0.0 MB) of federated rooms, 7 downloaded",
        "files": 7,
        "bytes": 7000,
        "downloaded": 7,
        "removed": 0,
        "failures": [],
        "failures_total": 0,
        "unreadable_rooms": [],
        "unreadable_rooms_total": 0,
    }
    assert controller.stored() == FILES
    assert list(controller.remote.iterdir()) == []
    again = controller.run()
    assert (again["changed"], again["files"], again["downloaded"]) == (False, 7, 0)
    assert downloads(homeserver) == 7


def test_batches(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    """By number, and by size: then what was left of a batch comes with the next."""
    monkeypatch.setattr(plugin, "BATCH_FILES", 5)
    monkeypatch.setattr(module, "BATCH_SIZE", 2000)
    assert controller.run(concurrency=1)["downloaded"] == 7
    ids = sorted(FILES)
    assert controller.batches == [None, ids[:5], ids[2:], ids[4:], ids[6:]]
    assert controller.stored() == FILES


def test_check_mode(controller: Controller, homeserver: Homeserver) -> None:
    homeserver.upload("id-0", quarantined=True)
    predicted = controller.run(check=True)
    assert (predicted["changed"], predicted["files"], predicted["bytes"]) == (True, 6, 6000)
    assert predicted["message"] == "6 media files (0.0 MB) of federated rooms, 1 cannot be downloaded"
    assert (predicted["downloaded"], reasons(predicted)) == (0, {"id-0": "the file is quarantined"})
    assert not controller.directory.exists()
    assert (list(controller.remote.iterdir()), downloads(homeserver)) == ([], 0)
    controller.run()
    assert controller.run(check=True) == {**predicted, "changed": False}


def test_an_old_version(controller: Controller, homeserver: Homeserver) -> None:
    """The lengths are not known before the downloads."""
    homeserver.version = "1.93.0"
    assert controller.run(check=True)["bytes"] == 0
    assert controller.run()["bytes"] == 7000
    assert controller.run()["changed"] is False
    assert controller.stored() == FILES


def test_files_that_fail(controller: Controller, homeserver: Homeserver) -> None:
    del homeserver.media["id-0"]
    homeserver.upload("id-1", quarantined=True)
    homeserver.upload("id-2", length=None)
    homeserver.upload("id-3", length=8)
    homeserver.upload("id-4", length=2**40)
    homeserver.faults[f"GET client/v1/media/download/{SERVER}/id-5"] = (404, {"errcode": "M_NOT_FOUND", "error": ""})
    result = controller.run()
    found = reasons(result)
    assert "the answer is not complete" in found.pop("id-3")
    assert found == {
        "id-0": "Synapse does not have the file",
        "id-1": "the file is quarantined",
        "id-2": "the file was never uploaded",
        "id-4": "the file has more than 1 GiB",
        "id-5": "Synapse does not have the file, or it is quarantined",
    }
    assert (result["downloaded"], result["files"], result["changed"]) == (1, 1, True)
    assert controller.stored() == {"id-6": FILES["id-6"]}
    assert controller.run()["changed"] is False


def test_a_file_of_another_length_than_reported(controller: Controller, homeserver: Homeserver) -> None:
    info = {"media_id": "id-0", "media_length": 999, "media_type": "image/png", "quarantined_by": None}
    homeserver.faults[f"GET admin/v1/media/{SERVER}/id-0"] = (200, {"media_info": info})
    assert reasons(controller.run()) == {"id-0": "the file has 1000 bytes, and not 999, as Synapse reports"}
    assert "id-0" not in controller.stored()


def test_failures_are_bounded(controller: Controller, homeserver: Homeserver) -> None:
    missing = [event("m.room.message", {"url": f"mxc://{SERVER}/missing-{number:04}"}) for number in range(1200)]
    homeserver.events["!r:example.org"] += missing
    result = controller.run()
    assert (len(result["failures"]), result["failures_total"], result["downloaded"]) == (1000, 1200, 7)


def test_types_and_names_are_odd(controller: Controller, homeserver: Homeserver) -> None:
    types = ["text/plain", "IMAGE/JPEG; x=y", "image/svg+xml", "text/html", "\u202e/../..", "a\nb: c", "x" * 300]
    for media_id, kind in zip(FILES, types):
        homeserver.upload(media_id, FILES[media_id], kind.encode().decode("latin-1").replace("\n", " "))
    controller.run()
    assert controller.stored() == FILES
    names = {path.name for path in controller.directory.iterdir() if path.suffix != ".multipart"}
    assert "id-1.jpg" in names
    assert {f"id-{number}.bin" for number in (2, 3, 4, 5, 6)} <= names


def test_a_killed_run_is_resumed(
    controller: Controller, homeserver: Homeserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of a batch, and of a file that is being stored."""
    monkeypatch.setattr(plugin, "BATCH_FILES", 3)
    store = site_media.store
    left = iter(range(5))

    def store_some(directory: Path, media_id: str, *more: Any) -> None:
        if next(left, None) is None:
            (directory / f".{media_id}.png{site_media.UNFINISHED}").write_bytes(b"half")
            raise KeyboardInterrupt
        store(directory, media_id, *more)

    monkeypatch.setattr(site_media, "store", store_some)
    with pytest.raises(KeyboardInterrupt):
        controller.run()
    assert (len(site_media.stored(controller.directory)), list(controller.remote.iterdir())) == (5, [])
    monkeypatch.setattr(site_media, "store", store)
    before = downloads(homeserver)
    assert controller.run()["downloaded"] == 2
    assert downloads(homeserver) == before + 2
    assert controller.stored() == FILES


def test_a_damaged_file_is_downloaded_again(controller: Controller) -> None:
    controller.run()
    (controller.directory / "id-3.png").write_bytes(b"short")
    assert controller.run()["downloaded"] == 1
    assert controller.stored() == FILES


def test_files_that_are_not_selected_any_more_are_removed(controller: Controller, homeserver: Homeserver) -> None:
    controller.run()
    homeserver.upload("id-0", quarantined=True)
    homeserver.set_content("!r:example.org", "m.room.avatar", {"url": f"mxc://{SERVER}/id-1"})
    (controller.directory / "notes.txt").touch()
    assert controller.run(select="all", check=True)["changed"] is True
    result = controller.run(select="all")
    assert (result["removed"], reasons(result)) == (1, {"id-0": "the file is quarantined"})
    assert "id-0" not in site_media.stored(controller.directory)
    result = controller.run(select="avatars")
    assert (result["removed"], result["files"], result["changed"]) == (5, 1, True)
    assert {path.name for path in controller.directory.iterdir()} == {"id-1.png", "id-1.multipart", "notes.txt"}


def test_nothing_is_removed_if_a_room_can_not_be_read(controller: Controller, homeserver: Homeserver) -> None:
    controller.run()
    homeserver.faults["GET admin/v1/rooms/!r:example.org/forward_extremities"] = BROKEN
    homeserver.faults["GET admin/v1/rooms/!r:example.org/state"] = BROKEN
    result = controller.run()
    assert (result["removed"], result["changed"], result["unreadable_rooms_total"]) == (0, False, 1)
    assert controller.stored() == FILES


def test_avatars_that_were_not_recorded_are_a_warning(controller: Controller, homeserver: Homeserver) -> None:
    homeserver.accounts[ALICE]["erased"] = True
    assert controller.run()["warnings"] == [plugin.LACKING]


# Errors


def test_invalid_options(controller: Controller, homeserver: Homeserver) -> None:
    result = controller.run(select="everything")
    assert result["failed"] and "value of select must be one of" in result["msg"]
    assert homeserver.requests == []


@pytest.mark.parametrize("boundary", ["", "a\r\nb", "x" * 100])
def test_an_invalid_boundary(controller: Controller, boundary: str) -> None:
    result = controller.run(boundary=boundary)
    assert result["failed"] and "Correct directory or boundary" in result["msg"]
    assert (result["changed"], list(controller.remote.iterdir())) == (False, [])


def test_a_directory_that_can_not_be_written(controller: Controller) -> None:
    controller.directory.write_text("a file")
    result = controller.run()
    assert result["failed"] and result["msg"].startswith("Cannot store media")
    assert list(controller.remote.iterdir()) == []


def test_a_token_that_becomes_invalid(
    controller: Controller, homeserver: Homeserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host is left clean, and what was stored before counts."""
    monkeypatch.setattr(plugin, "BATCH_FILES", 4)
    homeserver.faults[f"GET client/v1/media/download/{SERVER}/id-5"] = INVALID_TOKEN
    result = controller.run()
    assert (result["failed"], result["status"], result["changed"], result["downloaded"]) == (True, 401, True, 4)
    assert list(controller.remote.iterdir()) == []
    assert TOKEN not in str(result)


def test_a_connection_that_drops(controller: Controller) -> None:
    gone = AnsibleConnectionFailure("no route to host")

    def drop() -> None:
        raise gone

    controller.before_module = drop
    with pytest.raises(AnsibleConnectionFailure):
        controller.run()


@pytest.mark.parametrize(
    "content", [b"", b"damaged\n", b'["../../x", 1, ""]\nx', b'["other", 1, ""]\nx', b'["id-0", 9, ""]\nx']
)
def test_a_host_that_passes_on_something_else(
    controller: Controller, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    def replaced(module_args: Json, task_vars: Json, module_name: str | None = None) -> Json:
        if module_name is not None or module_args.get("media_ids") is None:
            return execute(module_args, task_vars, module_name)
        path = Path(module_args["transfer_path"])
        path.mkdir()
        (path / "part-0").write_bytes(content)
        return {"parts": 1, "failures": [{"media_id": "unknown", "reason": "x"}]}

    execute = controller._execute
    monkeypatch.setattr(controller, "_execute", replaced)
    result = controller.run()
    assert result["failed"] and result["msg"].startswith("Cannot store media: ")
    assert list(controller.remote.iterdir()) == []
    assert site_media.stored(controller.directory) == {}


def test_debugging_is_refused(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_secrets.constants, "DEFAULT_DEBUG", True)
    assert "ANSIBLE_DEBUG" in controller.run(access_token=TOKEN)["msg"]
    assert controller.batches == []


def test_internal_options_of_a_task_are_ignored(controller: Controller) -> None:
    result = controller.run(media_ids=["x"], transfer_path="/etc")
    assert result["downloaded"] == 7
    assert controller.batches == [None, sorted(FILES)]


# Progress


def test_progress(controller: Controller, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one line in ten seconds."""
    monkeypatch.setattr(plugin, "INTERVAL", 9.0)
    monkeypatch.setattr(plugin, "BATCH_FILES", 1)

    def wait() -> None:
        clock.now += 5

    controller.before_module = wait
    controller.run()
    assert controller.display.lines == [
        "matrix: 1 of 7 media files downloaded, 0.0 MB; about 30 s left",
        "matrix: 3 of 7 media files downloaded, 0.0 MB; about 20 s left",
        "matrix: 5 of 7 media files downloaded, 0.0 MB; about 10 s left",
        "matrix: 7 of 7 media files downloaded, 0.0 MB; about 0 s left",
    ]
