# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
import requests
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import RefusedError, SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import USERS, Clock, Server, matrix_error

LIMITED = matrix_error("M_LIMIT_EXCEEDED", "Too Many Requests")
TORN = requests.exceptions.ConnectionError("Connection aborted.")
TWO_MINUTES = [1, 2, 4, 8, *[16] * 6]


@pytest.mark.parametrize(
    ("headers", "body", "wait"),
    [
        ({"Retry-After": "7"}, {}, 7),
        ({"Retry-After": "7"}, {"retry_after_ms": 3000}, 7),
        ({}, {"retry_after_ms": 2500}, 2.5),
        ({}, {}, 1),
        ({}, {"retry_after_ms": "soon"}, 1),
        ({}, {"retry_after_ms": None}, 1),
        ({"Retry-After": "soon"}, {}, 1),
        ({"Retry-After": "-7"}, {}, 1),
        ({"Retry-After": "7.5"}, {"retry_after_ms": 7500}, 7.5),
        ({"Retry-After": "0"}, {}, 1),
        ({"Retry-After": "Mon, 23 Nov 1998 06:40:00 GMT"}, {}, 1),
        ({"Retry-After": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}, {}, 1),
        ({"Retry-After": "\xb2"}, {}, 1),
        ({}, {"retry_after_ms": -5000}, 1),
        ({}, {"retry_after_ms": float("nan")}, 1),
        ({"Retry-After": "120"}, {}, 120),
    ],
)
def test_rate_limit(
    server: Server, fresh_client: Client, clock: Clock, headers: dict[str, str], body: Any, wait: float
) -> None:
    server.post("/path", {}, {**LIMITED, **body}, status=429, headers=headers)
    server.post("/path", {}, {"done": True})
    assert fresh_client.post("/path", repeat=False) == {"done": True}
    assert clock.waits == [wait]


@pytest.mark.parametrize("status", [429, 503])
def test_too_long_a_wait_is_refused(server: Server, fresh_client: Client, clock: Clock, status: int) -> None:
    server.get("/path", LIMITED, status=status, headers={"Retry-After": "333"})
    with pytest.raises(SynapseError, match=r"Too Many Requests \(the server asks to wait 333 s\)"):
        fresh_client.get("/path")
    assert clock.waits == []


@pytest.mark.parametrize(
    ("status", "waits"),
    [(429, [1, 2, 4, 8, *[16] * 36]), (502, TWO_MINUTES), (503, TWO_MINUTES), (504, TWO_MINUTES)],
)
def test_patience_has_an_end(
    server: Server, fresh_client: Client, clock: Clock, status: int, waits: list[float]
) -> None:
    for _try in range(len(waits) + 1):
        server.get("/path", status=status)
    with pytest.raises(SynapseError, match=rf"\(after {sum(waits)} s of retries\)") as caught:
        fresh_client.get("/path")
    assert caught.value.status == status
    assert clock.waits == waits


def test_a_server_that_has_no_time_for_ten_minutes(server: Server, fresh_client: Client, clock: Clock) -> None:
    for _try in range(9):
        server.get("/path", LIMITED, status=429, headers={"Retry-After": "60"})
    server.get("/path", {"done": True})
    assert fresh_client.get("/path") == {"done": True}
    assert clock.waits == [60] * 9


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_error_is_tried_again(server: Server, fresh_client: Client, status: int) -> None:
    server.get("/path", b"<html>", status=status, content_type="text/html")
    server.get("/path", {"done": True})
    assert fresh_client.get("/path") == {"done": True}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 501])
def test_other_errors_are_not_tried_again(server: Server, fresh_client: Client, clock: Clock, status: int) -> None:
    server.get("/path", status=status)
    with pytest.raises(SynapseError) as caught:
        fresh_client.get("/path")
    assert not caught.value.unanswered
    assert clock.waits == []


@pytest.mark.parametrize("probe", [{"status": 500, "has_a_database": False}, {"answer": TORN}])
def test_a_server_without_its_database_is_tried_again(
    server: Server, fresh_client: Client, clock: Clock, probe: dict[str, Any]
) -> None:
    broken = matrix_error("M_UNKNOWN", "Internal server error")
    for _try in range(2):
        server.post("/path", {}, broken, status=500, has_a_database=False)
        server.get(USERS, query={"limit": "1", "guests": "false"}, **probe)
    server.post("/path", {}, {"done": True})
    assert fresh_client.post("/path") == {"done": True}
    assert clock.waits == [1, 2]


def test_what_a_server_without_its_database_may_have_done_is_not_repeated(server: Server, client: Client) -> None:
    server.post("/path", {}, status=500, has_a_database=False)
    server.get(USERS, query={"limit": "1", "guests": "false"}, status=500, has_a_database=False)
    with pytest.raises(SynapseError) as caught:
        client.post("/path", repeat=False)
    assert caught.value.unanswered


@pytest.mark.parametrize(
    ("exception", "unanswered"),
    [
        (TORN, True),
        (requests.exceptions.ReadTimeout(), True),
        (requests.exceptions.ChunkedEncodingError(), True),
        (requests.exceptions.ConnectTimeout(), False),
        (requests.exceptions.SSLError(), False),
    ],
)
def test_a_network_error_is_tried_again(
    server: Server, client: Client, clock: Clock, exception: Exception, unanswered: bool
) -> None:
    for _try in range(2 * len(TWO_MINUTES) + 1):
        server.get("/path", exception)
    server.get("/path", {"done": True})
    with pytest.raises(SynapseError) as caught:
        client.get("/path")
    assert caught.value.unanswered is unanswered
    assert caught.value.status is None
    assert client.get("/path") == {"done": True}
    assert clock.waits == TWO_MINUTES * 2


@pytest.mark.parametrize("exception", [TORN, requests.exceptions.ReadTimeout(), requests.exceptions.ConnectTimeout()])
def test_the_first_contact_fails_fast(server: Server, fresh_client: Client, clock: Clock, exception: Exception) -> None:
    server.get("/path", exception)
    with pytest.raises(SynapseError):
        fresh_client.get("/path")
    assert clock.waits == []


@pytest.mark.parametrize("answer", [{"status": 502}, {"status": 504}, {"answer": TORN}])
def test_a_post_that_must_not_be_repeated(server: Server, client: Client, clock: Clock, answer: dict[str, Any]) -> None:
    server.expect("POST", "/path", sent={}, **answer)
    with pytest.raises(SynapseError) as caught:
        client.post("/path", repeat=False)
    assert caught.value.unanswered
    assert isinstance(caught.value, RefusedError)
    assert clock.waits == []


def test_a_post_that_never_arrived_is_repeated(server: Server, client: Client) -> None:
    server.post("/path", {}, requests.exceptions.ConnectTimeout())
    server.post("/path", {}, {"done": True})
    assert client.post("/path", repeat=False) == {"done": True}


def test_less_patience(server: Server, client: Client, clock: Clock) -> None:
    for _attempt in range(5):
        server.get("/path", {}, status=502)
    with pytest.raises(RefusedError, match=r"after 15 s of retries"):
        client.get("/path", patience=30.0)
    assert clock.waits == TWO_MINUTES[:4]
