# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lease: only one run at a time makes changes on a server.

The lease is stored in the account data of the operator, next to the record of the decommissioning. It names its holder,
the ID of a run, and the former holders. While a module works, a thread renews it over a connection of its own, so that
no renewal queues behind other requests. Before each write, the module asserts that the last renewal is recent enough.
At the end of a run, the role releases it.

Another run that finds the lease waits until it has expired, and takes it over only if it was not renewed meanwhile. A
run whose lease was taken over stops, and cannot take it again.

Matrix has no compare-and-swap. A run that takes the lease, or renews it too late, reads it again after a pause before
it relies on it. If two runs take it at the same moment, the last write counts, and the other run stops.
"""

from __future__ import annotations

import threading
import time
from typing import NoReturn

from .._synapse import retries
from .._synapse.account_data import ACCOUNT_DATA_TYPE, read_data, write_data
from .._synapse.answer import JsonDict
from .._synapse.client import Client
from .._synapse.errors import FatalError, SynapseError

LEASE_TYPE = f"{ACCOUNT_DATA_TYPE}.lease"
"""An account data type of its own, since other modules write the record, which may have a megabyte."""

LENGTH = 60
"""Seconds for which the lease is valid after a renewal. This covers the time between two tasks of a slow controller."""
RENEWAL = 5.0
"""Pause in seconds between two renewals."""
REQUEST_TIMEOUT = 20.0
"""Maximum seconds to wait for the answer to each of the two requests of a renewal."""
MARGIN = 10.0
"""Seconds for which the lease must still be valid when a write is sent. The write takes time too."""
OBSERVATION = 15.0
"""Seconds without a renewal after which an expired lease is taken over. The clock of the server may have been wrong."""
SETTLING = 3.0
"""Minimum seconds from taking the lease to reading it again."""
POLL_INTERVAL = 1.0
"""Pause in seconds between two reads of a lease that another run has."""
MAX_FORMER = 100
"""Maximum number of former holders in the lease."""

TAKEN = "LEASE_TAKEN"
"""The I(errcode) of the error that another run has the lease."""
PERMANENT_STATUS = (401, 403)
"""Status of a refused renewal that is not tried again."""


class Lease:
    """The lease of one run on one server, for as long as the context lasts.

    When the context ends, the lease stays valid for the rest of C(LENGTH), for the next module of the run. If it is
    lost, the client stops.

    :raises FatalError: C(LEASE_TAKEN) if another run has the lease, or has taken it over.
    """

    def __init__(self, client: Client, holder: str) -> None:
        """
        :param holder: the ID of the run.
        """
        self._client = client
        self._holder = holder
        self._requests = client
        """Renewals use another one: see C(__enter__)."""
        self._former: list[str] = []
        self._valid_until = float("-inf")
        """By the monotonic clock."""
        self._failure: SynapseError | None = None
        """Why the last renewal failed."""
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._renewer = threading.Thread(target=self._renew_until_ended, daemon=True)

    def __enter__(self) -> Lease:
        self._acquire()
        self._requests = self._client.sibling(REQUEST_TIMEOUT)
        self._client.before_write = self.require
        self._renewer.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._renewer.join()
        self._client.before_write = None
        self._requests.__exit__(None)

    def release(self) -> None:
        """End the lease, so that the next run does not wait. Does nothing if another run has it."""
        try:
            content = self._read()
        except SynapseError as error:
            if error.errcode != TAKEN:
                raise
            return
        if content.get("holder") == self._holder:
            self._write(0)

    def require(self) -> None:
        """Assert that the lease is valid for C(MARGIN) more seconds. If it is not, wait until it is renewed.

        :raises FatalError: C(LEASE_TAKEN) if another run has taken it over; without an I(errcode) if it was not renewed
            within the retry timeout.
        """
        with self._changed:
            is_valid = self._changed.wait_for(
                lambda: self._client.stopped is not None or time.monotonic() < self._valid_until - MARGIN,
                timeout=retries.RETRY_TIMEOUT,
            )
        if not is_valid:
            # Requests that wait for this one to end must not wait for the lease one after the other.
            self._client.stop(self._unconfirmed())
        if self._client.stopped is not None:
            raise self._client.stopped

    # Reading and writing

    def _read(self) -> JsonDict:
        """Return the lease, or an empty dict if there is none, or one that is invalid.

        :raises FatalError: C(LEASE_TAKEN) if this run is a former holder.
        """
        content = read_data(self._requests, LEASE_TYPE)
        former = content.get("former")
        if not (isinstance(content.get("holder"), str) and isinstance(content.get("until"), int)):
            return {}
        self._former = [name for name in former if isinstance(name, str)] if isinstance(former, list) else []
        if self._holder in self._former:
            self._fail("Another run has taken over the lease")
        return content

    def _write(self, until: int) -> None:
        content = {"holder": self._holder, "until": until, "former": self._former}
        write_data(self._requests, LEASE_TYPE, content)

    def _now(self) -> int:
        return int(self._client.time().timestamp())

    # Acquiring

    def _acquire(self) -> None:
        began = time.monotonic()
        content = self._read()
        if content.get("holder") == self._holder:
            # Of an earlier module of this run. By other clocks, it may expire somewhat earlier.
            remaining = content["until"] - self._now() - MARGIN
            self._confirm(began, safe_until=time.monotonic() + remaining)
            return
        if content:
            self._wait_until_expired(content)
            self._former = [*self._former, content["holder"]][-MAX_FORMER:]
        self._confirm(time.monotonic(), safe_until=float("-inf"))

    def _wait_until_expired(self, content: JsonDict) -> None:
        """Wait until the lease of another run has expired, and see that it is not renewed.

        The clock only says how long to wait: it may be wrong, and a run that renews its lease must not lose it.
        """
        if content["until"] == 0:
            return
        began = time.monotonic()
        length = LENGTH if content["until"] > self._now() else OBSERVATION
        while time.monotonic() - began < length:
            time.sleep(POLL_INTERVAL)
            if self._read() != content:
                self._fail("Another run has the lease and is working")

    def _confirm(self, began: float, safe_until: float) -> None:
        """Write the lease. It counts from before it was written.

        :param began: when it was last read.
        :param safe_until: until when no other run can take it over. If that is over, it is read again after a pause.
        """
        sent = time.monotonic()
        self._write(self._now() + LENGTH)
        answered = time.monotonic()
        if answered >= safe_until:
            # A slow write may have replaced the lease of a run that has already read it again: that one stops first.
            time.sleep(SETTLING + 2 * (answered - began))
            if self._read().get("holder") != self._holder:
                self._fail("Another run has just taken the lease")
        with self._changed:
            self._valid_until = sent + LENGTH
            self._failure = None
            self._changed.notify_all()

    # Renewing

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(RENEWAL):
            try:
                self._renew()
            except SynapseError as error:
                self._failure = error
                if error.errcode == TAKEN or error.status in PERMANENT_STATUS:
                    self._client.stop(error)
                    with self._changed:
                        self._changed.notify_all()
                    return

    def _renew(self) -> None:
        began = time.monotonic()
        if self._read().get("holder", self._holder) != self._holder:
            self._fail("Another run has taken over the lease")
        self._confirm(began, self._valid_until)

    # Errors

    def _fail(self, what: str) -> NoReturn:
        raise FatalError(
            f"{what} on {self._client.server_name}, so this run ends. Only one run at a time can make changes: wait for"
            f" the other run, or end it, then run again. A run that was killed keeps the lease for up to {LENGTH} s",
            errcode=TAKEN,
        )

    def _unconfirmed(self) -> FatalError:
        cause = f": {self._failure}" if self._failure else ""
        return FatalError(
            f"Cannot renew the lease on {self._client.server_name} for {retries.RETRY_TIMEOUT:.0f} s{cause}. Another"
            " run may take it over, so this run ends. Check that Synapse is running and answers within"
            f" {REQUEST_TIMEOUT:.0f} s, then run again"
        )
