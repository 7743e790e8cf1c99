# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import email.utils
from datetime import datetime, timedelta, timezone

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
