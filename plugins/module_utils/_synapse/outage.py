# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which part of Synapse does not answer.

A Synapse with workers consists of several processes behind a reverse proxy. If one of them is dead or frozen, some
requests get no answer for minutes, and others do. After some seconds, two probes show which process answers. More is
not known: what a process waits for can only be concluded from what the request needs.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Iterator

from .errors import FatalError, SynapseError

NOTICE_AFTER = 20.0
"""Seconds without an answer after which the server is probed. A leave may take that long if a remote server is slow."""
PROBE_TIMEOUT = 5.0
"""Seconds in which a process must answer a probe."""
MAX_UNANSWERED = 3
"""Number of requests for the same thing in sequence, each sent again until its patience was over, after which the run
ends: more of them would only take hours."""
CHECK_INTERVAL = 2.0
"""Seconds between two checks whether a request waits for too long."""

EVENTS = re.compile(r"/(leave|join|knock|send|state|redact|invite|kick|deactivate|rooms)(/|$)")
"""Paths of requests that add events to rooms."""
ACCOUNT_DATA = re.compile(r"/account_data/")

Probe = Callable[[str], str]
"""Sends a harmless request to a URL. Returns an empty text if Synapse answers, and what happened instead otherwise."""


@dataclass
class Waiting:
    """A request that has no answer yet, its retries included.

    :ivar path: the template of its path.
    :ivar sent: when it was first sent, by C(time.monotonic), if it was.
    :ivar finding: what the probes have shown, once there were any.
    """

    method: str
    path: str
    url: str
    sent: float | None = None
    finding: str = ""


class WaitingRequests:
    """The requests that have no answer yet. May be shared between threads, each of which sends one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, Waiting] = {}
        self._unanswered: Counter[str] = Counter()

    @contextmanager
    def add(self, method: str, path: str, url: str, *, is_required: bool) -> Iterator[None]:
        """Count a request as one without an answer, for as long as the context lasts.

        If it ends in an error for lack of an answer, what the probes have shown is added to the error.

        :param is_required: whether the run cannot continue without such requests.
        :raises FatalError: instead of the error, after C(MAX_UNANSWERED) required requests in sequence.
        """
        waiting = Waiting(method, path, url)
        thread = threading.get_ident()
        with self._lock:
            self._waiting[thread] = waiting
        try:
            yield
            self._unanswered.pop(path, None)
        except SynapseError as error:
            if not error.unanswered and error.status is not None:
                self._unanswered.pop(path, None)
                raise
            if waiting.finding:
                error.add(waiting.finding)
            if is_required and error.unanswered:
                self._unanswered[path] += 1
                if self._unanswered[path] >= MAX_UNANSWERED:
                    raise FatalError.of(error) from error
            raise
        finally:
            with self._lock:
                del self._waiting[thread]

    def note_sent(self) -> None:
        """Note that the request of this thread is sent now."""
        waiting = self._waiting.get(threading.get_ident())
        if waiting is not None and waiting.sent is None:
            waiting.sent = time.monotonic()

    def overdue(self) -> list[tuple[float, Waiting]]:
        """The requests that have no answer for C(NOTICE_AFTER) seconds or more, with these seconds, longest first."""
        now = time.monotonic()
        with self._lock:
            sent = [(now - waiting.sent, waiting) for waiting in self._waiting.values() if waiting.sent is not None]
        return sorted((s for s in sent if s[0] >= NOTICE_AFTER), key=lambda found: -found[0])


class OutageWatch:
    """Probes the server as long as requests get no answer. A context manager, with a thread of its own."""

    def __init__(
        self, requests: WaitingRequests, probe: Probe, main_url: str, on_change: Callable[[str], object]
    ) -> None:
        """
        :param probe: is called from the thread.
        :param main_url: a URL that only the main process answers.
        :param on_change: is called with a line for the terminal when there is a finding, and with an empty text when
            requests are answered again.
        """
        self._requests = requests
        self._probe = probe
        self._main_url = main_url
        self._on_change = on_change
        self._shown = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> OutageWatch:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._thread.join(timeout=2 * PROBE_TIMEOUT)

    def _watch(self) -> None:
        while not self._ended.wait(CHECK_INTERVAL):
            self.check()

    def check(self) -> None:
        """Probe the server if a request waits for too long."""
        overdue = self._requests.overdue()
        line = ""
        if overdue:
            seconds, oldest = overdue[0]
            finding = find_outage(oldest, self._probe, self._main_url)
            for _seconds, waiting in overdue:
                if waiting.path == oldest.path:
                    waiting.finding = finding
            line = f"no answer to {oldest.method} {oldest.path} for {seconds:.0f} s: {finding}"
        if line or self._shown:
            self._on_change(line)
            self._shown = line


def find_outage(waiting: Waiting, probe: Probe, main_url: str) -> str:
    """Say which part of Synapse does not answer, as far as two probes show."""
    main = probe(main_url)
    own = probe(waiting.url)
    if main:
        return f"the main process of Synapse, or the reverse proxy in front of it, does not answer ({main})"
    if own:
        part = "the account data writer" if ACCOUNT_DATA.search(waiting.path) else "the worker (gateway)"
        return (
            f"the main process of Synapse answers, but not {part} that the reverse proxy passes this request to ({own})"
        )
    if ACCOUNT_DATA.search(waiting.path):
        part = "the account data writer (stream_writers: account_data)"
    elif waiting.method != "GET" and EVENTS.search(waiting.path):
        part = "the event persister (stream_writers: events)"
    else:
        part = "another worker"
    return (
        f"the process that takes this request answers others, so it waits, probably for {part}, Redis or the database"
    )
