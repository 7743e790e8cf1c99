# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lease on a server: only one run at a time may change it.

The lease is kept beside the milestones. It names its holder by the ID of the run, and the former holders. It is renewed
as long as a module works, and then stays valid until the next module begins. A run takes over a lease that has expired,
and the former holder stops when it reads that.

Matrix has no compare-and-swap. A run that takes over a lease reads it again a moment later. If two runs have taken it
over at the same moment, the first renewal stops one of them.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from .._synapse.account_data import ACCOUNT_DATA_TYPE, read_data, write_data
from .._synapse.answer import JsonDict
from .._synapse.client import Client
from .._synapse.errors import FatalError, SynapseError

LEASE_TYPE = f"{ACCOUNT_DATA_TYPE}.lease"

LENGTH = 15
"""Seconds for which a lease is valid after it was renewed. A run that was killed keeps the next one waiting as long."""
RENEWAL = 4.0
"""Seconds between two renewals."""
GRACE = 5
"""Seconds for which a lease is valid after a module has ended."""
SETTLING = 1.0
"""Seconds to wait before a lease that was taken over is read again."""
LOOK = 1.0
"""Seconds between two polls of the lease of another run."""
FORMER = 100
"""Maximum number of former holders that are recorded."""

TAKEN = "LEASE_TAKEN"
"""The I(errcode) of the error that another run holds the lease."""


class Lease:
    """The right of one run to change a server, for as long as the context lasts. If it is lost, the client stops.

    :raises FatalError: if another run holds the lease, or has taken it over.
    """

    def __init__(self, client: Client, holder: str) -> None:
        self._client = client
        self._holder = holder
        self._former: list[str] = []
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Lease:
        self._acquire()
        self._keeper.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._keeper.join()
        if self._client.stopped is None:
            # Without this renewal, it expires sooner.
            with suppress(SynapseError):
                self._renew(GRACE)

    def _acquire(self) -> None:
        content = self._read()
        if content.get("holder") == self._holder:
            self._write(LENGTH)
            return
        self._wait_for_end(content)
        self._former = [*self._former, *filter(None, [content.get("holder")])][-FORMER:]
        self._write(LENGTH)
        time.sleep(SETTLING)
        if self._read().get("holder") != self._holder:
            raise self._taken("Another run has just begun")

    def _read(self) -> JsonDict:
        """The current lease; empty if there is none, or if it is not valid."""
        content = read_data(self._client, LEASE_TYPE)
        former = content.get("former")
        if not (isinstance(content.get("holder"), str) and isinstance(content.get("until"), int)):
            return {}
        self._former = [name for name in former if isinstance(name, str)] if isinstance(former, list) else []
        if self._holder in self._former:
            raise self._taken("Another run has taken over")
        return content

    def _wait_for_end(self, content: JsonDict) -> None:
        """Wait until the lease expires: its holder may have been killed. If it is renewed instead, the holder works."""
        began = time.monotonic()
        # Also limited by the time that passes here, in case a clock is wrong.
        while content and content["until"] > self._now() and time.monotonic() - began < LENGTH:
            time.sleep(LOOK)
            if self._read() != content:
                raise self._taken("Another run is at work")

    def _write(self, seconds: int) -> None:
        content = {"holder": self._holder, "until": self._now() + seconds, "former": self._former}
        write_data(self._client, LEASE_TYPE, content)

    def _now(self) -> int:
        return int(self._client.time().timestamp())

    def _renew(self, seconds: int) -> None:
        holder = self._read().get("holder", self._holder)
        if holder != self._holder:
            raise self._taken("Another run has taken over")
        self._write(seconds)

    def _keep(self) -> None:
        while not self._ended.wait(RENEWAL):
            try:
                self._renew(LENGTH)
            except SynapseError as error:
                if error.errcode == TAKEN:
                    self._client.stop(error)
                    return

    def _taken(self, what: str) -> SynapseError:
        return FatalError(
            f"{what} on {self._client.server_name}: lost the lease to it. Run only one at a time: wait until the other"
            " run has ended, then run again",
            errcode=TAKEN,
        )
