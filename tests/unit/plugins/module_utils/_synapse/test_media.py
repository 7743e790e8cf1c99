# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
from typing import Any, Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import media as module
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import (
    FatalError,
    RefusedError,
    SynapseError,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.media import (
    MISSING,
    NOT_UPLOADED,
    QUARANTINED,
    TOO_LARGE,
    Media,
    MediaRepository,
    local_media_id,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import SERVER, Clock
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import (
    GATEWAY_TIMEOUT,
    INVALID_TOKEN,
    UNRECOGNIZED,
    Homeserver,
    event,
)

ID = "a1_-Z"
DOWNLOAD = f"GET client/v1/media/download/{SERVER}/{ID}"
OLD_DOWNLOAD = f"GET media/v3/download/{SERVER}/{ID}"
INFO = f"GET admin/v1/media/{SERVER}/{ID}"
OLD = "1.93.0"


@pytest.fixture
def client(homeserver: Homeserver, lone_client: Client) -> Iterator[Client]:
    assert lone_client.server_name == SERVER
    homeserver.log.clear()
    return lone_client


@pytest.fixture
def repository(client: Client) -> MediaRepository:
    return MediaRepository(client)


def download(repository: MediaRepository) -> tuple[Media, bytes]:
    with io.BytesIO(b"of an earlier attempt") as file:
        media = repository.download(ID, file)
        return media, file.getvalue()


def failure(repository: MediaRepository) -> SynapseError:
    with pytest.raises(SynapseError) as caught:
        download(repository)
    return caught.value


@pytest.mark.parametrize("media_id", ["a", "A-Z_09", "x" * 100])
def test_uris_of_local_media(media_id: str) -> None:
    assert local_media_id(f"mxc://{SERVER}/{media_id}", SERVER) == media_id


@pytest.mark.parametrize(
    "uri",
    [
        None,
        7,
        ["mxc://example.org/a"],
        "",
        "mxc://",
        "mxc://example.org",
        "mxc://example.org/",
        "mxc://other.example/a",
        "mxc://example.org.evil/a",
        "mxc://example.org:8448/a",
        "mxc://EXAMPLE.org/a",
        "MXC://example.org/a",
        " mxc://example.org/a",
        "https://example.org/a",
        "mxc://example.org/a\n",
        "mxc://example.org/a b",
        "mxc://example.org/../a",
        "mxc://example.org/a/b",
        "mxc://example.org/a?b",
        "mxc://example.org/a#auto",
        "mxc://example.org/a%2e",
        "mxc://example.org/ä",
        "mxc://example.org/.",
        "mxc://example.org/\ud800",
        "mxc://example.org/" + "x" * 101,
    ],
)
def test_other_uris(uri: object) -> None:
    assert local_media_id(uri, SERVER) is None


# In a room


def test_media_in_a_room(homeserver: Homeserver, repository: MediaRepository) -> None:
    room = homeserver.add_room("r", [], event("m.room.avatar", {"url": homeserver.upload("avatar")}))
    contents = [
        {"url": f"mxc://{SERVER}/picture", "info": {"thumbnail_url": f"mxc://{SERVER}/thumbnail"}},
        {"url": f"mxc://{SERVER}/picture"},
        {"url": "mxc://other.example/theirs"},
        {"url": f"mxc://{SERVER}/../../etc/passwd"},
    ]
    homeserver.events[room] = [event("m.room.message", content) for content in contents]
    assert repository.list_in_room(room) == {"avatar", "picture", "thumbnail"}


def test_a_server_that_does_not_serve_media(homeserver: Homeserver, repository: MediaRepository) -> None:
    """As the main process, with a worker for media."""
    room = homeserver.add_room("r", [])
    homeserver.faults[f"GET admin/v1/room/{room}/media"] = UNRECOGNIZED
    with pytest.raises(FatalError, match="worker"):
        repository.list_in_room(room)
    homeserver.faults.update({DOWNLOAD: UNRECOGNIZED, OLD_DOWNLOAD: UNRECOGNIZED})
    error = failure(repository)
    assert isinstance(error, FatalError) and "worker" in str(error)


def test_a_room_with_a_slash_that_a_proxy_decodes(homeserver: Homeserver, repository: MediaRepository) -> None:
    room = homeserver.add_room("!a/b:example.org", [])
    homeserver.faults[f"GET admin/v1/room/{room}/media"] = UNRECOGNIZED
    with pytest.raises(RefusedError) as caught:
        repository.list_in_room(room)
    assert caught.value.problem == "encoded slash"


# What is known of a file


@pytest.mark.parametrize(
    ("upload", "expected"),
    [
        ({}, Media(ID, 7, "image/png")),
        ({"content_type": "x" * 300}, Media(ID, 7, "x" * 255)),
        ({"quarantined": True}, Media(ID, problem=QUARANTINED)),
        ({"length": None}, Media(ID, problem=NOT_UPLOADED)),
        ({"length": module.MAX_FILE}, Media(ID, module.MAX_FILE, "image/png")),
        ({"length": module.MAX_FILE + 1}, Media(ID, problem=TOO_LARGE)),
    ],
)
def test_descriptions(homeserver: Homeserver, repository: MediaRepository, upload: Any, expected: Media) -> None:
    homeserver.upload(ID, **upload)
    assert repository.describe(ID) == expected


def test_a_missing_file(repository: MediaRepository) -> None:
    assert repository.describe(ID) == Media(ID, problem=MISSING)


def test_old_versions_describe_nothing(homeserver: Homeserver, repository: MediaRepository) -> None:
    homeserver.version = "1.139.2"
    homeserver.upload(ID)
    assert [repository.describe(media_id) for media_id in (ID, "b")] == [Media(ID), Media("b")]
    assert homeserver.paths == [INFO]


def test_a_description_that_fails(homeserver: Homeserver, repository: MediaRepository) -> None:
    homeserver.faults[INFO] = [(500, {"errcode": "M_UNKNOWN", "error": "Internal server error"})]
    homeserver.upload(ID)
    assert [repository.describe(ID) for _time in range(2)] == [Media(ID), Media(ID, 7, "image/png")]


# Downloads


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("image/png", "image/png"),
        ("text/plain", "text/plain; charset=UTF-8"),
        ('text/html; a="\\""', 'text/html; a="\\""'),
        ("x" * 300, "x" * 255),
    ],
)
def test_a_download(homeserver: Homeserver, repository: MediaRepository, content_type: str, expected: str) -> None:
    homeserver.upload(ID, bytes(range(256)) * 1000, content_type)
    assert download(repository) == (Media(ID, 256_000, expected), bytes(range(256)) * 1000)
    assert [request.query for request in homeserver.log] == [{"timeout_ms": "0"}]


def test_an_empty_file(homeserver: Homeserver, repository: MediaRepository) -> None:
    homeserver.upload(ID, b"")
    assert download(repository) == (Media(ID, 0, "image/png"), b"")


def test_a_download_from_an_old_version(homeserver: Homeserver, repository: MediaRepository) -> None:
    homeserver.version = OLD
    homeserver.upload(ID)
    assert [download(repository) for _time in range(2)] == [(Media(ID, 7, "image/png"), b"content")] * 2
    assert homeserver.paths == [DOWNLOAD, OLD_DOWNLOAD, OLD_DOWNLOAD]


@pytest.mark.parametrize("version", ["1.163.2", OLD])
def test_files_that_are_not_there(homeserver: Homeserver, repository: MediaRepository, version: str) -> None:
    homeserver.version = version
    assert failure(repository).reason == f"{MISSING}, or it is quarantined"
    homeserver.upload(ID, quarantined=True)
    assert failure(repository).reason == f"{MISSING}, or it is quarantined"
    homeserver.upload(ID, length=None)
    assert failure(repository).reason == NOT_UPLOADED
    assert isinstance(failure(repository), RefusedError)


def test_a_file_that_is_not_uploaded_is_not_asked_for_again(
    homeserver: Homeserver, repository: MediaRepository, clock: Clock
) -> None:
    homeserver.upload(ID, length=None)
    failure(repository)
    assert (homeserver.paths, clock.waits) == ([DOWNLOAD], [])


def test_a_truncated_file(homeserver: Homeserver, repository: MediaRepository) -> None:
    """Twice, since the connection may have been lost."""
    homeserver.upload(ID, length=8)
    error = failure(repository)
    assert isinstance(error, RefusedError)
    assert "the answer is not complete" in error.reason
    assert homeserver.paths == [DOWNLOAD] * 2


def test_a_file_that_is_too_large(
    homeserver: Homeserver, repository: MediaRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILE", 6)
    homeserver.upload(ID)
    error = failure(repository)
    assert isinstance(error, RefusedError)
    assert "more than 6 bytes" in error.reason
    assert homeserver.paths == [DOWNLOAD]


def test_a_page_of_a_proxy(homeserver: Homeserver, repository: MediaRepository) -> None:
    homeserver.faults[DOWNLOAD] = (200, {"hello": "world"})
    error = failure(repository)
    assert isinstance(error, RefusedError)
    assert "not a file of Synapse" in error.reason


def test_a_temporary_failure(homeserver: Homeserver, repository: MediaRepository, clock: Clock) -> None:
    homeserver.upload(ID)
    homeserver.faults[DOWNLOAD] = [GATEWAY_TIMEOUT] * 3
    assert download(repository)[1] == b"content"
    assert clock.waits == [1, 2, 4]


@pytest.mark.parametrize("answer", [INVALID_TOKEN, (403, {"errcode": "M_FORBIDDEN", "error": "not an admin"})])
def test_the_operator_is_refused(homeserver: Homeserver, repository: MediaRepository, answer: Any) -> None:
    homeserver.faults.update({DOWNLOAD: answer, INFO: answer})
    assert isinstance(failure(repository), FatalError)
    with pytest.raises(FatalError):
        repository.describe(ID)


def test_a_redirect_is_not_followed(homeserver: Homeserver, repository: MediaRepository) -> None:
    homeserver.faults[DOWNLOAD] = (307, {})
    assert "307" in failure(repository).reason


class FullDisk(io.BytesIO):
    def write(self, _data: Any) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_ends_the_run(homeserver: Homeserver, repository: MediaRepository, clock: Clock) -> None:
    homeserver.upload(ID)
    with pytest.raises(FatalError, match="No space left on device"):
        repository.download(ID, FullDisk())
    assert clock.waits == []
