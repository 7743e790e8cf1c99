# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _archive
from ansible_collections.matrixops.synapse.tests.stubs.helpers import SERVER


def test_all_files() -> None:
    texts = _archive.archive_files(SERVER, [], "signing.key.age")
    assert sorted(texts) == [
        "README.md",
        "aliases.csv",
        "aliases.json",
    ]
    assert "age --decrypt" in texts["README.md"] and "not archived here" not in texts["README.md"]


@pytest.mark.parametrize(
    "source",
    [None, {}, {"aliases": None}, {"aliases": [7, {}, {"alias": "=1+1"}, {"alias": 1}, {"room_id": "!r:x"}]}],
)
def test_malformed_aliases_are_left_out(source: Any) -> None:
    assert _archive.known_aliases(source) == []


def test_a_known_room_is_not_lost() -> None:
    known, unknown = {"alias": "#a:x", "room_id": "!a:x"}, {"alias": "#a:x", "room_id": None}
    for order in ([known, unknown], [unknown, known]):
        assert _archive.known_aliases(*({"aliases": [each]} for each in order)) == [known]


def test_files_that_differ(tmp_path: Path) -> None:
    texts = {"a": "1", "www/b": "2"}
    _archive.write(tmp_path / "archive", texts, texts)
    assert _archive.changed_files(tmp_path / "archive", texts) == []
    assert _archive.changed_files(tmp_path / "archive", {**texts, "a": "3", "c": "4"}) == ["a", "c"]
