#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_media
short_description: Download the local media of federated rooms from Synapse to the controller
version_added: 1.0.0
description:
  - Downloads media that accounts of the homeserver have uploaded, from rooms that remote servers are in, into the
    C(media) directory of a static site. Each file is stored twice, as it is and as C(multipart/mixed).
  - The rooms are those that M(matrixops.synapse.synapse_federated_rooms) has recorded, or without a record those that
    Synapse knows. This also works after all accounts have left.
  - On a static site, anybody who knows a media ID can load the file, without an account.
  - Avatars of people are never downloaded, as far as they are known. Accounts that are erased leave no trace of
    their avatars, so record these before, with O(matrixops.synapse.synapse_federated_rooms#module:record_avatars).
  - Encrypted media are not downloaded, since Synapse does not know which rooms have them. Synapse lists media of
    redacted messages until it removes their content, by default after seven days.
  - A run that was killed is resumed by the next one. Files that are stored already with the right length are not
    downloaded again, and files that are not selected any more are removed from O(directory).
  - Needs up to 100 MB of disk space in C(/var/tmp) of the host, or in the first of C(system_tmpdirs), and more for
    larger files. What is there is removed after each batch.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
attributes:
  check_mode:
    support: full
    details:
      - Lists and counts the files, and downloads none.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  select:
    description:
      - Which media to download.
      - V(avatars) are the avatars of rooms and spaces.
      - V(public) also selects media in rooms that anybody may join or read, which are those with the join rule
        C(public) or the history visibility C(world_readable).
      - V(all) selects the media in all rooms that remote servers are in.
    type: str
    choices: [avatars, public, all]
    required: true
  directory:
    description:
      - Directory on the controller, C(www/media) of the static site.
    type: path
    required: true
  boundary:
    description:
      - Boundary of the C(multipart/mixed) files, as in C(site.json) of the static site.
    type: str
    required: true
  concurrency:
    description:
      - Maximum number of concurrent requests.
    type: int
    default: 8
  media_ids:
    description:
      - The next files to download. Ansible sets this itself, and ignores a value in a task.
    type: list
    elements: str
  transfer_path:
    description:
      - Path of a new directory on the host, from which Ansible fetches the files. Ansible sets this itself, and ignores
        a value in a task.
    type: str
seealso:
  - module: matrixops.synapse.synapse_federated_rooms
"""

EXAMPLES = r"""
- name: Download the avatars of rooms
  matrixops.synapse.synapse_media:
    access_token: "{{ synapse_access_token }}"
    server_name: example.org
    select: avatars
    directory: decommissioned/example.org-site/www/media
    boundary: 2f1c9d6e8b7a
  register: media

- name: Show the files that could not be downloaded
  ansible.builtin.debug:
    var: media.failures
"""

RETURN = r"""
message:
  description: Result in one line.
  returned: success
  type: str
  sample: 1,204 media files (310.2 MB) of federated rooms, 1,204 downloaded
files:
  description: Number of selected files that are in O(directory). In check mode, of all that are selected.
  returned: success
  type: int
bytes:
  description: Size of these files in bytes. In check mode, of those whose size Synapse reports, which requires 1.140.
  returned: success
  type: int
downloaded:
  description: Number of files that were downloaded.
  returned: success
  type: int
removed:
  description: Number of files in O(directory) that were removed, since they are not selected any more.
  returned: success
  type: int
failures:
  description:
    - The files that could not be downloaded, at most 1,000. Such a file does not fail the task.
  returned: success
  type: list
  elements: dict
  contains:
    media_id:
      description: Media ID.
      type: str
    reason:
      description: Why the file could not be downloaded.
      type: str
failures_total:
  description: Number of files that could not be downloaded.
  returned: success
  type: int
unreadable_rooms:
  description:
    - The rooms that Synapse can't read, with the reason of each, at most 1,000. No media of these are downloaded, and
      none are removed from O(directory) as long as there are any.
  returned: success
  type: list
  elements: dict
  contains:
    room_id:
      description: Room ID.
      type: str
    reason:
      description: Why Synapse can't read the room.
      type: str
unreadable_rooms_total:
  description: Number of rooms that Synapse can't read.
  returned: success
  type: int
"""

import tempfile
from typing import Any, BinaryIO, Iterator, cast

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.site_media import (
    SELECTIONS,
    select_media,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._media_transfer import (
    PartWriter,
    new_directory,
    write_listing,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._results import with_reasons
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError, RefusedError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.media import Media, MediaRepository

BATCH_SIZE = 64 * 1024**2
"""Size of a batch in bytes from which on no more files are added to it."""


def list_media(client: Client, select: str, writer: PartWriter) -> dict[str, Any]:
    """Write what is known of the selected files for the controller."""
    found = select_media(client, select)
    write_listing(writer, found.files)
    return {
        "unreadable_rooms": with_reasons("room_id", found.unreadable),
        "unreadable_rooms_total": len(found.unreadable),
        "lacks_avatars": found.lacks_avatars,
    }


def download(client: Client, media_ids: list[str], directory: str, writer: PartWriter) -> dict[str, Any]:
    """Write files for the controller, in any order, until the batch is full. At least one is written or has failed."""
    repository = MediaRepository(client)
    failures: dict[str, str] = {}

    def until_full() -> Iterator[str]:
        for media_id in media_ids:
            if writer.size >= BATCH_SIZE:
                return
            yield media_id

    def download_one(media_id: str) -> tuple[Media, BinaryIO] | str:
        # Without a name in the directory, so that it is gone with this process.
        file = cast(BinaryIO, tempfile.TemporaryFile(dir=directory))  # noqa: SIM115 - is closed by who gets it
        try:
            return repository.download(media_id, file), file
        except RefusedError as error:
            file.close()
            return error.reason

    for media_id, done in client.map(download_one, until_full()):
        if isinstance(done, str):
            failures[media_id] = done
        else:
            media, file = done
            with file:
                writer.write_file(media, file)
    return {"failures": with_reasons("media_id", failures, len(failures))}


def main() -> None:
    module = SynapseModule(
        {
            "select": {"type": "str", "choices": list(SELECTIONS), "required": True},
            "directory": {"type": "path", "required": True},
            "boundary": {"type": "str", "required": True},
            "concurrency": {"type": "int", "default": 8},
            "media_ids": {"type": "list", "elements": "str"},
            "transfer_path": {"type": "str"},
        },
    )
    params = module.params
    with module.client() as client:
        if params["transfer_path"] is None:
            raise FatalError("synapse_media only runs in a task: its action plugin sets transfer_path")
        with new_directory(params["transfer_path"]) as directory, PartWriter(directory) as writer:
            if params["media_ids"] is None:
                result = list_media(client, params["select"], writer)
            else:
                result = download(client, params["media_ids"], directory, writer)
    module.exit_json(changed=False, parts=writer.parts, **result)


if __name__ == "__main__":
    main()
