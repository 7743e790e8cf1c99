# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.schema import KEYWORDS, SCHEMA, violation
from ansible_collections.matrixops.synapse.tests.unit.plugins.plugin_utils._report.sample import (
    HOSTILE,
    VALIDATOR,
    concluded,
    findings,
    of_all_stages,
    server,
)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(schema_version=1),
        lambda c: c.update(schema_version=True),
        lambda c: c.pop("salt"),
        lambda c: c.update(salt="x"),
        lambda c: c.update(more=1),
        lambda c: c.update(state="gone"),
        lambda c: c["server"].update(name=""),
        lambda c: c["stages"][0].update(attempts=None),
        lambda c: c["stages"][0]["attempts"][0].update(started=-1),
        lambda c: c["stages"][0]["attempts"][0].update(started="then"),
        lambda c: c["stages"].append({}),
        lambda c: c["drains"][0]["timeline"].append([1, 2]),
        lambda c: c["accounts"]["before"]["counts"].update(user={"active": True}),
        lambda c: c["drains"].extend(c["drains"] * 30),
        lambda c: c["remote_servers"]["servers"][0].update(state="lost"),
        lambda c: c["remote_servers"]["servers"][0].update(text="x" * 4001),
        lambda c: c.update(ledger={}),
    ],
)
def test_it_finds_what_the_library_finds(change: Any) -> None:
    certificate = concluded(of_all_stages())
    change(certificate)
    assert not VALIDATOR.is_valid(certificate)
    assert violation(certificate, SCHEMA)


def test_it_supports_all_keywords_of_the_schema() -> None:
    known = {*KEYWORDS, "type", "items", "properties", "additionalProperties", "$schema", "$id", "title", "description"}

    def keywords(schema: Any) -> Iterator[str]:
        if isinstance(schema, dict):
            yield from schema
            for name in ("items", "additionalProperties"):
                yield from keywords(schema.get(name))
            for inner in schema.get("properties", {}).values():
                yield from keywords(inner)

    assert set(keywords(SCHEMA)) <= known


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: c["stages"][0]["attempts"][0].update(started=-1), "stages[0].attempts[0].started is less than 0"),
        (lambda c: c["server"].update(more=1), "server.more is an unknown property"),
        (lambda c: c.update(drains="many"), "drains is not of type array"),
        (lambda c: c["server"].pop("name"), "server does not have all of ['name']"),
    ],
)
def test_it_says_where_and_what(change: Any, problem: str) -> None:
    certificate = concluded(of_all_stages())
    change(certificate)
    assert violation(certificate, SCHEMA) == problem


def test_long_texts_and_lists_are_cut() -> None:
    rows = [server("x" * 9000, "unreachable", text=HOSTILE * 20, reason="y" * 9000) for _row in range(1100)]
    rows[0]["open_rooms"] *= 30
    certificate = concluded(of_all_stages(servers=rows, message="z" * 9000, ignored=["i"] * 2000, unknown=1))
    remote = certificate["remote_servers"]
    assert len(remote["servers"]) == 1000 and len(remote["servers"][0]["open_rooms"]) == 5
    assert len(remote["ignored"]) == 1000 and "unknown" not in remote
    lengths = {key: len(remote["servers"][0][key]) for key in ("server", "text", "reason")}
    assert lengths == {"server": 255, "text": len(HOSTILE) * 20, "reason": 1000}
    assert len(findings(certificate)["unreachable"]) < 2000
