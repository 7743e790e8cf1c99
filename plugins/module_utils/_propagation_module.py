# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules that check the propagation: the options that they share, and one poll."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator

from ._decommission.propagation import Options, Propagation
from ._federation.connect import Settings, connect
from ._federation.errors import FederationError, SigningKeyError
from ._federation.signing import DEBIAN_KEY, read_key_file
from ._module import INVALID_OPTION, SynapseModule
from ._synapse.client import Client
from ._synapse.errors import FatalError, SynapseError
from ._synapse.server import check_clock

OPTIONS: dict[str, dict[str, Any]] = {
    "period": {"type": "int", "required": True},
    "early_exit": {"type": "bool", "default": False},
    "unreachable_after": {"type": "int", "default": 86400},
    "poll_interval": {"type": "int", "default": 30},
    "ghost_checks": {"type": "bool", "default": True},
    "signing_key_path": {"type": "path", "default": DEBIAN_KEY},
    "federation_ca_path": {"type": "path"},
    "federation_proxy": {"type": "str", "no_log": True},
    "federation_ip_allowlist": {"type": "list", "elements": "str", "default": []},
    "federation_timeout": {"type": "int", "default": 30},
    "ignore": {"type": "list", "elements": "str", "default": []},
    "broken_rooms": {"type": "dict"},
    "clock": {"type": "int"},
    "concurrency": {"type": "int", "default": 8},
}
MINIMUM = {"period": 0, "unreachable_after": 0, "federation_timeout": 1}


class PropagationModule(SynapseModule):
    """A module that checks remote servers as C(synapse_propagation) does."""

    def __init__(self, options: dict[str, dict[str, Any]]) -> None:
        super().__init__({**OPTIONS, **options}, shows_progress=True)
        for option, least in MINIMUM.items():
            if self.params[option] < least:
                message = f"No changes made: {option} is {self.params[option]}: set it to {least} or more"
                self.fail_json(msg=message, errcode=INVALID_OPTION)

    def propagation(self, client: Client, *, recheck: bool) -> Propagation:
        """The propagation as it is recorded, before its poll."""
        params = self.params
        if params["clock"] is not None:
            check_clock(client, params["clock"])
        broken = params["broken_rooms"]
        options = Options(
            period=params["period"],
            early_exit=params["early_exit"],
            unreachable_after=params["unreachable_after"],
            poll_interval=params["poll_interval"],
            recheck=recheck,
            ignore=frozenset(params["ignore"]),
            broken_rooms=None if broken is None else {room_id: str(reason) for room_id, reason in broken.items()},
        )
        return Propagation(client, options, dry_run=self.check_mode, progress_path=params["progress_path"])

    def poll(self, propagation: Propagation) -> dict[str, Any]:
        """Check the remote servers that are due, and return the result."""
        if self.params["ghost_checks"]:
            self._check(propagation)
        return propagation.finish()

    @contextmanager
    def reporting_removals(self, propagation: Propagation) -> Iterator[None]:
        """Fail the module after an error in the context, with the number of ghosts that were removed before it."""
        try:
            yield
        except (FederationError, SynapseError, OSError, ValueError) as error:
            cause = error if isinstance(error, SynapseError) else None
            self.end({"changed": propagation.changed, "removed": propagation.removed}, str(error), cause)

    def _check(self, propagation: Propagation) -> None:
        servers = propagation.servers
        if not servers:
            # Without any, no signing key is required.
            propagation.checked = True
            return
        params = self.params
        settings = Settings(
            ca_path=params["federation_ca_path"],
            proxy=params["federation_proxy"],
            ip_allowlist=tuple(params["federation_ip_allowlist"]),
            timeout=float(params["federation_timeout"]),
        )
        try:
            key = read_key_file(params["signing_key_path"])
        except SigningKeyError as error:
            # Unlike a key that cannot be verified at the moment, this remains until the operator acts.
            raise FatalError(str(error), errcode=INVALID_OPTION) from None
        with connect(propagation.client.server_name, key, settings, servers) as connection:
            propagation.check(connection.client)
