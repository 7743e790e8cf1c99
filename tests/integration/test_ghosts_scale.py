# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Five hundred ghosts in one room, removed at Synapse's own limits and the default pacing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab import Lab, MissingError, Settings
from lab.waiting import wait_until

from .conftest import ROOT, RunModule

GHOSTS = 500


@pytest.mark.nightly(category="scale")
def test_many_ghosts_in_one_room(run_module: RunModule, skip_or_fail: Callable[[str], None]) -> None:
    settings = Settings(default_limits=("rc_federation",))
    try:
        with Lab(ROOT / ".cache/tests/many-ghosts", ["a", "b"], base_port=18840, settings=settings) as lab:
            a, b = lab["a"], lab["b"]
            host = b.register("host")
            room_id = b.create_room(host.token, preset="public_chat")
            with ThreadPoolExecutor(8) as pool:
                users = list(pool.map(a.register, [f"user{number}" for number in range(GHOSTS)]))
                a.join(users[0].token, room_id, via=b.server_name)
                list(pool.map(lambda user: a.join(user.token, room_id, via=b.server_name), users[1:]))
            wait_until(lambda: len(b.joined_members(room_id)) == GHOSTS + 1, "b lists everybody")
            a.kill()
            accounts = [user.user_id for user in users]
            done = run_module(
                "matrix_ghosts",
                {
                    "server_name": a.server_name,
                    "signing_key_path": str(a.directory / "signing.key"),
                    "rooms": [{"room_id": room_id, "servers": [b.server_name], "accounts": accounts}],
                    "ip_allowlist": ["127.0.0.0/8", "::1"],
                    "ca_path": str(lab.ca_file),
                },
            )
            assert done["removed"] == GHOSTS and done["counts"]["confirmed"] == 1
            assert b.joined_members(room_id) == [host.user_id]
            print(f"{done['requests']} requests")
    except MissingError as missing:
        skip_or_fail(str(missing))
