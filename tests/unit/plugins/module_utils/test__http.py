# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import email.utils
import sys
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._http import MAX_YEAR, http_date, retry_after
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Clock, Server, matrix_error

LIMITED = matrix_error("M_LIMIT_EXCEEDED", "Too Many Requests")


def test_rate_limit_until_a_date(server: Server, fresh_client: Client, clock: Clock) -> None:
    then = email.utils.format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
    server.get("/path", LIMITED, status=429, headers={"Retry-After": then})
    server.get("/path")
    fresh_client.get("/path")
    assert len(clock.waits) == 1
    assert 25 < clock.waits[0] <= 30


@pytest.mark.parametrize("zone", ["", " -0000", " +0000", " GMT"])
def test_dates_are_in_utc(zone: str) -> None:
    assert http_date(f"Mon, 23 Nov 2026 06:40:00{zone}") == datetime(2026, 11, 23, 6, 40, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "date",
    [
        "",
        "now",
        "Mon, 99 Nov 2026 06:40:00 GMT",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        f"Fri, 31 Dec {MAX_YEAR + 1} 23:59:59 GMT",
        "Wed, 31 Dec 1969 23:59:59 GMT",
        "9" * 5_000,
    ],
)
def test_dates_that_cannot_be_computed_with(date: str) -> None:
    assert http_date(date) is None
    assert retry_after(date, None) is None or date.isdecimal()


@pytest.mark.parametrize(
    ("header", "body", "seconds"),
    [
        ("7", {"retry_after_ms": 1000}, 7.0),
        ("", {"retry_after_ms": 1500}, 1.5),
        ("", {"retry_after_ms": 10**400}, sys.maxsize / 1000),
        ("", {"retry_after_ms": "1"}, None),
        ("", None, None),
        ("9" * 400, {"retry_after_ms": 1500}, 1.5),
    ],
)
def test_seconds_to_wait(header: str, body: object, seconds: float | None) -> None:
    assert retry_after(header, body) == seconds
