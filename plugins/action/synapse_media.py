# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Download media to the controller in batches, each through a directory on the host that is removed again."""

from __future__ import annotations

import base64
import shutil
import tempfile
import time
import uuid
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, BinaryIO, Collection, Iterator, NamedTuple, cast

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.path import unfrackpath
from ansible_collections.matrixops.synapse.plugins.module_utils._media_transfer import (
    part_path,
    read_files,
    read_listing,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._results import with_reasons
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.media import Media
from ansible_collections.matrixops.synapse.plugins.module_utils._text import duration, plural, printable
from ansible_collections.matrixops.synapse.plugins.plugin_utils._parent_process import ends_with_parent
from ansible_collections.matrixops.synapse.plugins.plugin_utils._progress_display import INTERVAL
from ansible_collections.matrixops.synapse.plugins.plugin_utils._secrets import refuse_secrets
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import media as site_media

BATCH_FILES = 500
"""Maximum number of files of a batch. The module ends it earlier at C(BATCH_SIZE) bytes."""
MAX_PARTS = 100_000
"""Maximum number of parts that a module may announce: 800 GB."""
INTERNAL = ("media_ids", "transfer_path")
LACKING = (
    "The avatars of people were not recorded before their accounts were erased. A picture of a room that was also the"
    " avatar of a person cannot be recognized. Before the drain, run synapse_federated_rooms with record_avatars: true"
)

display = Display()


class _ModuleError(Exception):
    """The module has failed.

    :ivar answer: its result.
    """

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(str(answer.get("msg")))
        self.answer = answer


class _Listed(NamedTuple):
    """The selected media, in order of their IDs, and more of the result."""

    media: dict[str, Media]
    result: dict[str, Any]


class ActionModule(ActionBase):
    """Lists the media first, then runs the module of the same name for each batch."""

    _supports_check_mode = True
    _supports_async = False

    @ends_with_parent()
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        refusal = refuse_secrets(self._task.args)
        if refusal:
            return {**result, **refusal}
        self._variables = task_vars or {}
        self._progress = _Progress(str(self._variables.get("inventory_hostname", "")))
        self._downloaded: set[str] = set()
        self._removed: list[str] = []
        self._failures: dict[str, str] = {}
        try:
            result.update(self._synchronize())
        except _ModuleError as error:
            result.update({**error.answer, "downloaded": len(self._downloaded)})
        except (OSError, ValueError) as error:
            message = f"Cannot store media: {printable(str(error))}. Correct directory or boundary, then run again"
            result.update(failed=True, msg=message, downloaded=len(self._downloaded))
        return {**result, "changed": bool(self._downloaded or self._removed or result.get("changed"))}

    def _synchronize(self) -> dict[str, Any]:
        listed = self._list()
        # The options are valid: the module has checked them.
        directory = Path(unfrackpath(self._task.args["directory"]))
        stored = site_media.stored(directory)
        wanted = [media for media in listed.media.values() if not _is_stored(media, stored)]
        self._failures = {media.media_id: media.problem for media in wanted if media.problem}
        to_download = {media.media_id: media for media in wanted if not media.problem}
        is_complete = not listed.result["unreadable_rooms_total"]
        obsolete = sorted(stored.keys() - _may_stay(listed.media.values())) if is_complete else []
        if self._task.check_mode:
            return self._predicted(listed, bool(to_download or obsolete))
        for media_id in obsolete:
            site_media.remove(directory, media_id)
            self._removed.append(media_id)
        if directory.is_dir():
            site_media.remove_unfinished(directory)
        self._progress.begin(len(to_download), sum(media.length or 0 for media in to_download.values()))
        while to_download:
            self._download(to_download, directory)
        return self._result(listed, site_media.stored(directory))

    def _list(self) -> _Listed:
        with self._run_module() as (answer, stream):
            media = {media.media_id: media for media in read_listing(stream)}
        result = {key: answer[key] for key in ("unreadable_rooms", "unreadable_rooms_total")}
        if answer["lacks_avatars"]:
            result["warnings"] = [LACKING]
        return _Listed(media, result)

    def _download(self, to_download: dict[str, Media], directory: Path) -> None:
        """Download the next batch, and remove what was in it from I(to_download).

        :raises ValueError: the batch was empty.
        """
        batch = list(islice(to_download, BATCH_FILES))
        before = len(to_download)
        with self._run_module(media_ids=batch) as (answer, stream):
            for failure in answer["failures"]:
                if to_download.pop(failure["media_id"], None) is not None:
                    self._failures[failure["media_id"]] = failure["reason"]
            for media, file in read_files(stream, batch):
                listed = to_download.pop(media.media_id)
                self._store(directory, media, listed, file)
        if len(to_download) == before:
            raise ValueError("the host has passed on no file of a batch")
        self._progress.show()

    def _store(self, directory: Path, media: Media, listed: Media, file: IO[bytes]) -> None:
        length = media.length or 0
        if listed.length not in (None, length):
            self._failures[media.media_id] = f"the file has {length} bytes, and not {listed.length}, as Synapse reports"
            return
        # As it was uploaded: in an answer, Synapse adds a charset to text.
        content_type = listed.content_type or media.content_type
        boundary = str(self._task.args["boundary"])
        site_media.store(directory, media.media_id, content_type, cast(BinaryIO, file), length, boundary)
        self._downloaded.add(media.media_id)
        self._progress.add(length)

    def _predicted(self, listed: _Listed, changed: bool) -> dict[str, Any]:
        sizes = {media.media_id: media.length or 0 for media in listed.media.values() if not media.problem}
        return {**self._summary(listed, sizes), "changed": changed}

    def _result(self, listed: _Listed, stored: dict[str, int]) -> dict[str, Any]:
        sizes = {media_id: stored[media_id] for media_id in listed.media if media_id in stored}
        return self._summary(listed, sizes)

    def _summary(self, listed: _Listed, sizes: dict[str, int]) -> dict[str, Any]:
        total = sum(sizes.values())
        parts = [f"{plural(len(sizes), 'media file', 'media files')} ({_megabytes(total)}) of federated rooms"]
        if not self._task.check_mode:
            parts.append(f"{len(self._downloaded):,} downloaded")
        if self._failures:
            parts.append(f"{len(self._failures):,} cannot be downloaded")
        failures = dict(sorted(self._failures.items()))
        return {
            "message": ", ".join(parts),
            "files": len(sizes),
            "bytes": total,
            "downloaded": len(self._downloaded),
            "removed": len(self._removed),
            "failures": with_reasons("media_id", failures),
            "failures_total": len(failures),
            **listed.result,
        }

    @contextmanager
    def _run_module(self, **more: Any) -> Iterator[tuple[dict[str, Any], BinaryIO]]:
        """Run the module, and fetch the stream that it has written. What it has left on the host is removed.

        :raises _ModuleError: it has failed.
        """
        path = f"{self._connection._shell.get_option('system_tmpdirs')[0]}/matrixops.synapse-{uuid.uuid4()}"
        given = {name: value for name, value in self._task.args.items() if name not in INTERNAL}
        try:
            arguments = {**given, **more, "transfer_path": path}
            answer = dict(self._execute_module(module_args=arguments, task_vars=self._variables))
            if answer.get("failed") or "parts" not in answer:
                raise _ModuleError({"failed": True, **answer})
            with tempfile.TemporaryFile() as stream:
                for number in range(min(int(answer["parts"]), MAX_PARTS)):
                    self._fetch(part_path(path, number), stream)
                stream.seek(0)
                yield answer, cast(BinaryIO, stream)
        finally:
            self._remove(path)

    def _fetch(self, path: str, stream: IO[bytes]) -> None:
        if self._connection.become:
            # The file belongs to another user than that of the connection.
            answer = self._execute_module(
                module_name="ansible.legacy.slurp", module_args={"src": path}, task_vars=self._variables
            )
            if answer.get("failed"):
                raise _ModuleError(dict(answer))
            stream.write(base64.b64decode(answer["content"]))
            return
        # Only this user may read what is in such a directory.
        with tempfile.TemporaryDirectory() as directory:
            fetched = Path(directory, "part")
            self._connection.fetch_file(path, str(fetched))
            with fetched.open("rb") as part:
                shutil.copyfileobj(part, stream)

    def _remove(self, path: str) -> None:
        # After a dropped connection, this is not possible.
        with suppress(AnsibleError):
            self._low_level_execute_command(self._connection._shell.remove(path, recurse=True))


class _Progress:
    """Shows how many files were downloaded, at most once in C(INTERVAL)."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._shown = self._began = time.monotonic()
        self._total = self._total_bytes = self._files = self._bytes = 0

    def begin(self, files: int, size: int) -> None:
        """
        :param files: number of files to download.
        :param size: of those whose size is known, in bytes.
        """
        self._began = time.monotonic()
        self._total, self._total_bytes = files, size

    def add(self, size: int) -> None:
        self._files += 1
        self._bytes += size

    def show(self) -> None:
        now = time.monotonic()
        if now - self._shown < INTERVAL:
            return
        self._shown = now
        done, total = (self._bytes, self._total_bytes) if self._total_bytes else (self._files, self._total)
        left = duration(round((now - self._began) / done * max(total - done, 0))) if done else "unknown time"
        display.display(
            f"{self._host}: {self._files:,} of {self._total:,} media files downloaded, {_megabytes(self._bytes)}; about"
            f" {left} left"
        )


def _is_stored(media: Media, stored: dict[str, int]) -> bool:
    """Media does not change, so that a file whose length is not known is the right one."""
    length = stored.get(media.media_id)
    return length is not None and not media.problem and media.length in (None, length)


def _may_stay(listed: Collection[Media]) -> set[str]:
    """The files that may stay in the directory: not those that were quarantined or deleted since."""
    return {media.media_id for media in listed if not media.problem}


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
