# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml
from ansible_collections.matrixops.synapse.plugins.modules import matrix_site_log_info as module
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW, Json

Run = Callable[..., Json]
NAME = "matrix_site_log_info"


def write(path: Path, *entries: Any) -> str:
    path.write_text("".join(json.dumps({"ts": when, "user_id": origin}) + "\n" for origin, when in entries))
    return str(path)


@pytest.mark.parametrize("check", [False, True])
def test_servers(run: Run, tmp_path: Path, check: bool) -> None:
    path = write(tmp_path / "log", ("b.example", NOW), ("long.c.example", NOW + 60), ("-", NOW), ("b.example", NOW + 1))
    result = run(NAME, {"path": path}, bare=True, check=check)
    assert result == {
        "changed": False,
        "servers": [
            {"server": "long.c.example", "count": 1, "first": NOW + 60, "last": NOW + 60},
            {"server": "b.example", "count": 2, "first": NOW, "last": NOW + 1},
        ],
        "total": 2,
        "invalid": 1,
        "truncated": False,
        "table": [
            "long.c.example  1 transaction, last 2026-11-23 06:41:00 UTC, first 2026-11-23 06:41:00 UTC",
            "b.example       2 transactions, last 2026-11-23 06:40:01 UTC, first 2026-11-23 06:40:00 UTC",
        ],
    }
    assert set(yaml.safe_load(module.RETURN)) == set(result) - {"changed"}


def test_many_servers(run: Run, tmp_path: Path) -> None:
    """Anybody can claim any name."""
    path = write(tmp_path / "log", *((f"{number}.example.org", NOW - number) for number in range(1200)))
    result = run(NAME, {"path": path}, bare=True)
    assert (len(result["servers"]), result["total"]) == (1000, 1200)
    assert result["servers"][0]["server"] == "0.example.org"
    assert len(result["table"]) == 31 and result["table"][-1] == "and 1,170 more servers"


def test_only_the_end(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "log", *(("b.example", NOW) for _number in range(100)))
    result = run(NAME, {"path": path, "max_bytes": 200}, bare=True)
    assert result["truncated"] and 2 <= result["servers"][0]["count"] < 6


def test_no_log(run: Run, tmp_path: Path) -> None:
    result = run(NAME, {"path": str(tmp_path / "log")}, bare=True)
    assert (result["servers"], result["total"], result["table"]) == ([], 0, [])


def test_errors(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(NAME, {"path": str(tmp_path)}, bare=True)
    assert result["failed"] and f"{tmp_path} can't be read: " in result["msg"]
    result = run(NAME, {"path": str(tmp_path / "log"), "max_bytes": 0}, bare=True)
    assert result["failed"] and result["msg"] == "max_bytes is 0: set it to 1 or more"

    def denied(*_arguments: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(module, "read_log", denied)
    assert "set become: true" in run(NAME, {"path": str(tmp_path / "log")}, bare=True)["msg"]
