# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the fake homeserver answers: replies, errors, and requests whose answer is lost."""

from __future__ import annotations

from typing import Any, Callable, List, NamedTuple, Tuple, Union

import requests

from ..helpers import matrix_error

Reply = Tuple[int, Any]
"""Status and JSON body, or a C(File). A body that is an exception is raised by the HTTP client: there is no answer."""


class File(NamedTuple):
    """A body that is no JSON, with further headers."""

    content: bytes
    headers: dict[str, str]


class After(NamedTuple):
    """A request that is carried out, and whose answer is then replaced by I(reply)."""

    reply: Reply


Hook = Callable[[], object]
Fault = Union[Reply, After, Hook, None]
"""What happens to one request; a function is called right before it is carried out; C(None): nothing unusual."""
Faults = Union[Fault, List[Fault]]
"""What happens to every request of a kind, or to one after the other until the list is used up."""


class RefusalError(Exception):
    """The server refuses a request."""

    def __init__(self, status: int, errcode: str, error: str, **more: object) -> None:
        super().__init__(error)
        self.reply: Reply = (status, {**matrix_error(errcode, error), **more})


NOT_FOUND: Reply = (404, matrix_error("M_NOT_FOUND", "not found"))
UNRECOGNIZED: Reply = (404, matrix_error("M_UNRECOGNIZED", "Unrecognized request"))
BROKEN: Reply = (500, matrix_error("M_UNKNOWN", "Internal server error"))
GATEWAY_TIMEOUT: Reply = (504, matrix_error("M_UNKNOWN", "gateway timeout"))
INVALID_TOKEN: Reply = (401, matrix_error("M_UNKNOWN_TOKEN", "Invalid access token"))
CONNECTION_LOST: Reply = (0, requests.exceptions.ConnectionError("Connection aborted."))


def too_many_requests(seconds: float) -> Reply:
    """The answer of a rate limit, with the time in seconds after which to try again."""
    return 429, {**matrix_error("M_LIMIT_EXCEEDED", "Too Many Requests"), "retry_after_ms": int(seconds * 1000)}


def fault_of(faults: Faults) -> Fault:
    """What happens to the next request; used up, unless it happens to every request."""
    if isinstance(faults, list):
        return faults.pop(0) if faults else None
    return faults
