# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.aliases import delete_alias, local_aliases
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import RefusedError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Server, matrix_error, quoted, room_id

ALIAS = "#a/b:example.org"
PATH = f"/_matrix/client/v3/directory/room/{quoted(ALIAS)}"


def test_aliases_of_a_room_are_sorted(server: Server, client: Client) -> None:
    path = f"/_matrix/client/v3/rooms/{quoted(room_id('r'))}/aliases"
    server.get(path, {"aliases": ["#b:example.org", "#a:example.org"]})
    assert local_aliases(client, room_id("r")) == ["#a:example.org", "#b:example.org"]


def test_an_alias_is_deleted(server: Server, client: Client) -> None:
    server.delete(PATH)
    delete_alias(client, ALIAS)


def test_an_alias_that_does_not_exist(server: Server, client: Client) -> None:
    server.delete(PATH, matrix_error("M_NOT_FOUND", "Unknown room alias"), status=404)
    with pytest.raises(RefusedError, match="Unknown room alias"):
        delete_alias(client, ALIAS)
