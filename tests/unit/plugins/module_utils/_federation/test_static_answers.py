# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Constants of what answers under the name of a homeserver that is gone."""

from __future__ import annotations

from ansible_collections.matrixops.synapse.plugins.module_utils._federation import static_answers


def test_types_of_files() -> None:
    """Browsers may show all of them but one: no pages, no scripts, no SVG."""
    assert {each.partition("/")[0] for each in static_answers.EXTENSIONS} == {"image", "audio", "video"}
    assert not [each for each in static_answers.EXTENSIONS if "svg" in each or "xml" in each]
    assert set(static_answers.EXTENSIONS.values()) | {"bin"} == set(static_answers.CONTENT_TYPES)
    assert static_answers.CONTENT_TYPES["jpg"] == "image/jpeg"
    assert static_answers.CONTENT_TYPES["wav"] == "audio/wav"
    assert static_answers.MULTIPART not in static_answers.CONTENT_TYPES
    assert {each: static_answers.disposition(each) for each in ("png", "bin")} == {"png": "inline", "bin": "attachment"}
