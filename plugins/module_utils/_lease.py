# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may change something on a server: one run at a time.

The lease is kept where the record of the retirement is. It names the run that has it, by a word that this run has made
up, and those that had it before. It is renewed for as long as a module works; after that it lasts for a moment, until
the next module comes. Who finds one that has run out takes it over, and the run that had it stops when it sees that.

Matrix has no compare-and-swap. Whoever takes a lease over looks a moment later whether it still has it; and if two have
got through even so, the first renewal tells one of them.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from . import _state
from ._client import Client, JsonDict, SynapseError

LENGTH = 15
"""For how long a lease holds, in seconds. So long, at most, does a run that was killed keep the next one waiting."""
RENEWAL = 4.0
"""Seconds between two renewals."""
GRACE = 5
"""For how long it holds, in seconds, after a module has ended."""
SETTLING = 1.0
"""Seconds until somebody else who takes it at the same moment has done so."""
LOOK = 1.0
"""Seconds between two looks at a lease that somebody else has."""
FORMER = 100
"""How many of those who had it before are remembered."""

TAKEN = "LEASE_TAKEN"
"""The I(errcode) of the error that somebody else has it."""


class Lease:
    """The right of one run to change something on a server, for as long as the context lasts.

    If it is lost meanwhile, the client stops.

    :raises SynapseError: if another run has it, or has taken it over.
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
            # It runs out by itself.
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
        """The lease as it is; nothing if there is none, or none that this version can make sense of."""
        content = _state.read_data(self._client, _state.LEASE_TYPE)
        former = content.get("former")
        if not (isinstance(content.get("holder"), str) and isinstance(content.get("until"), int)):
            return {}
        self._former = [name for name in former if isinstance(name, str)] if isinstance(former, list) else []
        if self._holder in self._former:
            raise self._taken("Another run has taken over")
        return content

    def _wait_for_end(self, content: JsonDict) -> None:
        """Who has it may have been killed. But if it is renewed, somebody is at work."""
        began = time.monotonic()
        # Whatever the clocks say, nothing that is not renewed lasts longer.
        while content and content["until"] > self._now() and time.monotonic() - began < LENGTH:
            time.sleep(LOOK)
            if self._read() != content:
                raise self._taken("Another run is at work")

    def _write(self, seconds: int) -> None:
        content = {"holder": self._holder, "until": self._now() + seconds, "former": self._former}
        _state.write_data(self._client, _state.LEASE_TYPE, content)

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
        error = SynapseError(
            f"{what} on {self._client.server_name}, so that this one stops. Let only one run at a time, and run this"
            " again when that one has ended",
            errcode=TAKEN,
        )
        error.lost = True
        return error
