# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import content
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.site import Room

ROOMS = (Room("!r\u202e:x", ("a.example",), ("#caf\u00e9:x", '#"\n:x'), "Caf\u00e9"), Room("!q", (), ()))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = content.Content(ROOMS, content.new_boundary())
    assert content.read(tmp_path / "site") is None
    assert content.write(tmp_path / "site", written)
    assert content.read(tmp_path / "site") == written
    assert not content.write(tmp_path / "site", written)
    assert (tmp_path / "site/content.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"rooms": [{}], "boundary": "abcdefabcdefabcdef"}', '{"rooms": [], "boundary": "a b"}']
)
def test_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "content.json").write_text(text)
    with pytest.raises(ValueError, match=r"damaged|Expecting|letters and digits"):
        content.read(tmp_path)


def test_boundaries_differ() -> None:
    assert content.new_boundary() != content.new_boundary()
