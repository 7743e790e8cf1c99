# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON that would take too much memory or time."""

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.bounded_json import (
    MAX_VALUES,
    JsonError,
    parse_object,
)


def test_objects() -> None:
    assert parse_object('{"a": [1, -2.5, "ä", null, true]}'.encode()) == {"a": [1, -2.5, "ä", None, True]}
    assert parse_object(b"{}") == {}
    assert len(parse_object(b'{"a":[' + b"0," * (MAX_VALUES - 3) + b"0]}")["a"]) == MAX_VALUES - 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b"null",
        b"{",
        b"{}{}",
        b'{"a": 1,}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": ' + b"9" * 65 + b"}",
        b'{"a": ' + b"9" * 10_000_000 + b"}",
        b'{"a": 1.' + b"9" * 100 + b"}",
        b'{"a": ' + b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": "\xff"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b"\x1f\x8b\x08\x00",
        b"--x\r\nContent-Type: application/json\r\n\r\n{}",
    ],
)
def test_what_is_no_object(body: bytes) -> None:
    with pytest.raises(JsonError, match="not a JSON object"):
        parse_object(body)


@pytest.mark.parametrize("part", [b"[],", b"{},", b"0,", b"["])
def test_what_would_take_much_memory(part: bytes) -> None:
    with pytest.raises(JsonError, match="more than 250,000 values"):
        parse_object(b'{"a":[' + part * (9_000_000 // len(part)) + b"0]}")
