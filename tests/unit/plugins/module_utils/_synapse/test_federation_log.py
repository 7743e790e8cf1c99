# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import federation_log
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.federation_log import LogError, read_log

START = "2026-11-30 07:12:00,123 - synapse.federation.federation_server - 479 - INFO"
"""As Debian's package configures it, with C(%(request)s) next."""


def transaction(number: int, origin: str) -> str:
    return f"{START} - PUT-{number} - Received txn 1795988392501 from {origin}. (PDUs: 1, EDUs: 0)\n"


def unknown(number: int, room_id: str) -> str:
    return f"{START} - PUT-{number} - Ignoring PDU for unknown room_id: {room_id}\n"


def receipt(room_id: str, origin: str, kind: str = "receipt") -> str:
    return f"{START} - PUT-1 - Ignoring {kind} for room '{room_id}' from server {origin} as we're not in the room\n"


def found(tmp_path: Path, *lines: str) -> list[tuple[str, str]]:
    path = tmp_path / "homeserver.log"
    path.write_text("".join(lines))
    return list(read_log(str(path)))


def test_rooms_with_the_servers_that_sent_events(tmp_path: Path) -> None:
    assert found(
        tmp_path,
        transaction(1, "b.example"),
        transaction(2, "c.example:8449"),
        "nothing of interest\n",
        unknown(1, "!one:b.example"),
        unknown(2, "!two"),
        receipt("!three:a.example", "d.example"),
        receipt("!four:a.example", "e.example", "typing update"),
    ) == [
        ("!one:b.example", "b.example"),
        ("!two", "c.example:8449"),
        ("!three:a.example", "d.example"),
        ("!four:a.example", "e.example"),
    ]


def test_other_log_formats(tmp_path: Path) -> None:
    """Of a container, in JSON, and without the request."""
    assert found(
        tmp_path,
        "synapse | INFO - PUT-7- Received txn 1 from b.example. (PDUs: 2, EDUs: 0)\n",
        '{"log":"Ignoring PDU for unknown room_id: !a:b.example","request":"PUT-7"}\n'.replace('example"', 'example "'),
        "Ignoring PDU for unknown room_id: !b:b.example\n",
    ) == [("!a:b.example", "b.example"), ("!b:b.example", "")]


def test_a_request_number_is_used_again_after_a_restart(tmp_path: Path) -> None:
    lines = (transaction(1, "b.example"), transaction(1, "c.example"), unknown(1, "!a"))
    assert found(tmp_path, *lines) == [("!a", "c.example")]


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation_log, "MAX_REQUESTS", 2)
    lines = [transaction(number, f"s{number}.example") for number in range(3)]
    assert found(tmp_path, *lines, unknown(0, "!a"), unknown(2, "!b")) == [("!a", ""), ("!b", "s2.example")]


def test_long_lines_and_garbage(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\xff\x00\n" + b"x" * 20_000 + unknown(1, "!hidden").encode() + unknown(1, "!a").encode())
    assert list(read_log(str(path))) == [("!a", "")]


def test_what_is_no_file(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "missing", "No such file"), (tmp_path, "Is a directory|not a regular file")):
        with pytest.raises(LogError, match=f"log_paths: .*{reason}"):
            list(read_log(str(path)))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(LogError, match="not a regular file"):
        list(read_log(str(tmp_path / "fifo")))
