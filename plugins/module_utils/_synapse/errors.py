# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors of requests to Synapse, and which of them end the run."""

from __future__ import annotations

from typing import Any

from .._text import printable


class SynapseError(Exception):
    """A request that failed, an unusable answer, or something that is refused before a request is sent.

    Raised only as one of its subclasses: code that deals with many accounts or rooms catches C(RefusedError), records
    it for that one, and continues with the next; a C(FatalError) ends the run.

    :ivar status: HTTP status, C(None) without an answer.
    :ivar errcode: C(errcode) of the Matrix specification.
    :ivar unanswered: whether the server may have carried out the request: only its answer is missing.
    :ivar borrowed: whether the request was sent with another access token than the operator's.
    :ivar retry_after: seconds after which the server asks to send the request again, if it does.
    """

    def __init__(
        self,
        error: str,
        *,
        method: str | None = None,
        url: str | None = None,
        status: int | None = None,
        errcode: str | None = None,
        unanswered: bool = False,
        borrowed: bool = False,
        retry_after: float | None = None,
    ) -> None:
        self.error = printable(error)
        self.method = method
        self.url = url
        self.status = status
        self.errcode = errcode
        self.unanswered = unanswered
        self.borrowed = borrowed
        self.retry_after = retry_after
        super().__init__(str(self))

    def __str__(self) -> str:
        if self.method is None and self.status is None:
            return self.error
        request = f"{self.method} {self.url}: " if self.method else ""
        answer = " ".join(str(part) for part in (self.status, self.errcode) if part is not None)
        return printable(f"{request}{answer}{': ' if answer else ''}{self.error}")

    @property
    def advice(self) -> str:
        """What the operator can do about it, or an empty text if the error itself says so."""
        if self.method is None or self.borrowed:
            return ""
        if self.status == 401:
            return "The access token is invalid or expired: set access_token (in the role: decommission_access_token)"
        if self.status == 403:
            return "Make the account of the access token an admin of the server, then run again"
        if self.status is None or self.status == 429 or self.status >= 500 or self.unanswered:
            return "Check that Synapse is running and that base_url (decommission_base_url) is correct, then run again"
        if self.status == 200:
            return "Unexpected response: check the reverse proxy in front of Synapse, then run again"
        return ""


class FatalError(SynapseError):
    """Ends the run: any other request would fail as well, or must not be sent."""

    @classmethod
    def of(cls, error: SynapseError) -> FatalError:
        """The same error, fatal."""
        return cls(
            error.error,
            method=error.method,
            url=error.url,
            status=error.status,
            errcode=error.errcode,
            unanswered=error.unanswered,
            borrowed=error.borrowed,
        )


class RefusedError(SynapseError):
    """Is about one account or room: requests about others may succeed."""


def request_error(
    error: str, *, method: str, url: str, status: int | None = None, unanswered: bool = False, **more: Any
) -> FatalError | RefusedError:
    """The error of a request that was sent. Fatal if the server is gone, or does not accept the operator's token.

    The arguments are those of C(SynapseError).
    """
    gone = status is None and not unanswered
    invalid_token = status == 401 and not more.get("borrowed", False)
    kind = FatalError if gone or invalid_token else RefusedError
    return kind(error, method=method, url=url, status=status, unanswered=unanswered, **more)
