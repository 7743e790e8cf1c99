# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which part of Synapse does not answer: requests without an answer, and what probes show."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import outage as module
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import (
    FatalError,
    RefusedError,
    SynapseError,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.outage import (
    MAX_UNANSWERED,
    NOTICE_AFTER,
    OutageWatch,
    Waiting,
    WaitingRequests,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Clock

URL = "https://matrix.test"
MAIN = f"{URL}/_synapse/admin/v1/server_version"
LEAVE = "/_matrix/client/v3/rooms/{}/leave"
DEACTIVATE = "/_synapse/admin/v1/deactivate/{}"
DATA = "/_matrix/client/v3/user/{}/account_data/{}"
WHOAMI = "/_matrix/client/v3/account/whoami"


def lost(error: str = "no answer") -> RefusedError:
    return RefusedError(error, method="POST", url=URL, status=502, unanswered=True)


def finding(method: str, path: str, **down: str) -> str:
    """What is found if some URLs are C(down)."""
    waiting = Waiting(method, path, URL + path)
    return module.find_outage(waiting, lambda url: down.get("main" if url == MAIN else "own", ""), MAIN)


@pytest.mark.parametrize(
    ("method", "path", "down", "expected"),
    [
        ("POST", LEAVE, {"own": "502 Bad Gateway"}, "not the worker (gateway) that the reverse proxy passes this"),
        ("PUT", DATA, {"own": "502 Bad Gateway"}, "not the account data writer that the reverse proxy passes this"),
        ("GET", WHOAMI, {"main": "closed", "own": "closed"}, "main process of Synapse, or the reverse proxy in front"),
        ("POST", LEAVE, {}, "waits, probably for the event persister (stream_writers: events)"),
        ("POST", DEACTIVATE, {}, "waits, probably for the event persister (stream_writers: events)"),
        ("PUT", DATA, {}, "waits, probably for the account data writer (stream_writers: account_data)"),
        ("GET", WHOAMI, {}, "waits, probably for another worker, Redis or the database"),
    ],
)
def test_which_part(method: str, path: str, down: dict[str, str], expected: str) -> None:
    found = finding(method, path, **down)
    assert expected in found
    for reason in down.values():
        assert f"({reason})" in found


@pytest.fixture
def requests() -> WaitingRequests:
    return WaitingRequests()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def watch(requests: WaitingRequests, lines: list[str]) -> OutageWatch:
    return OutageWatch(requests, lambda url: "" if url == MAIN else "502 Bad Gateway", MAIN, lines.append)


@pytest.fixture
def waiting(requests: WaitingRequests) -> Iterator[None]:
    """A leave that has just been sent."""
    with requests.add("POST", LEAVE, URL, is_required=True):
        requests.note_sent()
        yield


@pytest.mark.usefixtures("waiting")
def test_a_line_for_the_terminal(watch: OutageWatch, lines: list[str], clock: Clock) -> None:
    clock.sleep(NOTICE_AFTER - 1)
    watch.check()
    assert lines == []
    clock.sleep(5)
    watch.check()
    (line,) = lines
    assert line.startswith(f"no answer to POST {LEAVE} for 24 s: the main process of Synapse answers, but not ")


def test_the_line_is_withdrawn(requests: WaitingRequests, watch: OutageWatch, lines: list[str], clock: Clock) -> None:
    with requests.add("POST", LEAVE, URL, is_required=True):
        requests.note_sent()
        clock.sleep(NOTICE_AFTER)
        watch.check()
    watch.check()
    watch.check()
    assert [bool(line) for line in lines] == [True, False]


def test_a_request_that_was_not_sent_yet(
    requests: WaitingRequests, watch: OutageWatch, lines: list[str], clock: Clock
) -> None:
    """It waits for a slot, and not for the server."""
    with requests.add("POST", LEAVE, URL, is_required=True):
        clock.sleep(10 * NOTICE_AFTER)
        watch.check()
    assert lines == []


@pytest.mark.parametrize("is_lost", [True, False])
def test_the_finding_is_added_to_the_error(
    requests: WaitingRequests, watch: OutageWatch, clock: Clock, is_lost: bool
) -> None:
    error = lost() if is_lost else RefusedError("no", method="POST", url=URL, status=403)

    def fail_late() -> None:
        with requests.add("POST", LEAVE, URL, is_required=True):
            requests.note_sent()
            clock.sleep(NOTICE_AFTER)
            watch.check()
            raise error

    with pytest.raises(SynapseError) as caught:
        fail_late()
    assert ("but not the worker (gateway)" in str(caught.value)) is is_lost


def send(requests: WaitingRequests, error: SynapseError | None, path: str = LEAVE, *, is_required: bool = True) -> None:
    with requests.add("POST", path, URL, is_required=is_required):
        if error is not None:
            raise error


def test_an_outage_ends_the_run(requests: WaitingRequests) -> None:
    for _request in range(MAX_UNANSWERED - 1):
        with pytest.raises(RefusedError):
            send(requests, lost())
    with pytest.raises(FatalError, match="no answer"):
        send(requests, lost())


@pytest.mark.parametrize("answer", [None, RefusedError("no", method="POST", url=URL, status=403)])
def test_an_answer_shows_that_there_is_no_outage(requests: WaitingRequests, answer: SynapseError | None) -> None:
    for error in [lost(), lost(), answer, lost(), lost()]:
        with nullcontext() if error is None else pytest.raises(RefusedError):
            send(requests, error)


def test_what_ends_no_run(requests: WaitingRequests) -> None:
    """Requests for other things, and those that the run can do without."""
    for number in range(2 * MAX_UNANSWERED):
        with pytest.raises(RefusedError):
            send(requests, lost(), f"/path/{number}")
        with pytest.raises(RefusedError):
            send(requests, lost(), is_required=False)


def test_watching(watch: OutageWatch) -> None:
    """The thread ends with the context."""
    with watch:
        assert watch._thread.is_alive()
    assert not watch._thread.is_alive()
