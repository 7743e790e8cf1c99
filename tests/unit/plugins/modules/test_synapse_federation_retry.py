# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.tests.unit.helpers import Json, Server, matrix_error

Run = Callable[..., Json]

DESTINATIONS = "/_synapse/admin/v1/federation/destinations"
NEEDLESS = matrix_error("M_UNKNOWN", "The retry timing does not need to be reset for this destination.")


def listing(server: Server, **waiting: bool) -> None:
    rows = [
        {
            "destination": f"{name}.net",
            "last_successful_stream_ordering": 1,
            "retry_last_ts": 2_000_000 if waits else 0,
            "retry_interval": 600_000 if waits else 0,
            "failure_ts": 1_000_000 if waits else None,
        }
        for name, waits in waiting.items()
    ]
    server.whoami()
    server.get(DESTINATIONS, {"destinations": rows, "total": len(rows)}, query={"limit": "1000"})


@pytest.mark.parametrize("check", [True, False])
def test_all_that_wait(server: Server, run: Run, check: bool) -> None:
    listing(server, b=True, a=True, c=False)
    if not check:
        server.post(f"{DESTINATIONS}/a.net/reset_connection", {})
        server.post(f"{DESTINATIONS}/b.net/reset_connection", {})
    result = run("synapse_federation_retry", check=check)
    assert result["changed"] is True
    assert (result["reset"], result["reset_total"], result["unchanged"]) == (["a.net", "b.net"], 2, 0)
    assert result["diff"] == {"before": "a.net waiting\nb.net waiting\n", "after": ""}


@pytest.mark.parametrize("check", [True, False])
def test_some(server: Server, run: Run, check: bool) -> None:
    listing(server, a=True, b=True, c=False)
    if not check:
        server.post(f"{DESTINATIONS}/a.net/reset_connection", {})
    result = run("synapse_federation_retry", {"destinations": ["c.net", "a.net"]}, check=check)
    assert (result["changed"], result["reset"], result["unchanged"]) == (True, ["a.net"], 1)


@pytest.mark.parametrize("check", [True, False])
def test_nobody_waits(server: Server, run: Run, check: bool) -> None:
    listing(server, a=False)
    result = run("synapse_federation_retry", check=check)
    assert (result["changed"], result["reset"], result["unchanged"]) == (False, [], 0)
    assert result["diff"] == {"before": "", "after": ""}


def test_one_that_came_back_in_the_meantime(server: Server, run: Run) -> None:
    listing(server, a=True)
    server.post(f"{DESTINATIONS}/a.net/reset_connection", {}, NEEDLESS, status=400)
    server.get(f"{DESTINATIONS}/a.net", {"destination": "a.net", "retry_last_ts": 0})
    result = run("synapse_federation_retry", {"destinations": ["a.net"]})
    assert (result["changed"], result["reset"], result["unchanged"]) == (False, [], 1)


def test_an_error_names_what_was_done(server: Server, run: Run) -> None:
    listing(server, a=True, b=True)
    server.post(f"{DESTINATIONS}/a.net/reset_connection", {})
    error = matrix_error("M_UNKNOWN", "Internal server error")
    server.post(f"{DESTINATIONS}/b.net/reset_connection", {}, error, status=500)
    result = run("synapse_federation_retry")
    assert result["failed"] and result["status"] == 500
    assert (result["changed"], result["reset"]) == (True, ["a.net"])


def test_a_stranger_is_refused(server: Server, run: Run) -> None:
    listing(server, a=True)
    result = run("synapse_federation_retry", {"destinations": ["a.net", "z.net"]})
    assert result["failed"] and "Nothing was changed: no destination of this server: z.net" in result["msg"]
    assert server.methods == ["GET", "GET"]


@pytest.mark.parametrize("rate", [0, -1])
def test_nonsense_is_refused(run: Run, rate: int) -> None:
    result = run("synapse_federation_retry", {"rate": rate})
    assert result["failed"] and result["msg"] == f"Nothing was changed: rate is {rate}, but must be 1 or more."


@pytest.mark.parametrize("check", [True, False])
def test_on_another_server_nothing_is_done(server: Server, run: Run, check: bool) -> None:
    server.whoami("@op:example.com")
    result = run("synapse_federation_retry", check=check)
    assert result["failed"] and "is example.com, not 'example.org'" in result["msg"]
