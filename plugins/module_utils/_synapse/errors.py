# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors of requests to Synapse, and which of them end the run."""

from __future__ import annotations

from typing import Any

from .._text import printable, with_advice

BASE_URL = "base_url (in the role: decommission_base_url)"
OWN_LISTENER = f"set {BASE_URL} to the listener of Synapse itself, for example http://localhost:8008"
ADVICE = {
    "M_RESOURCE_LIMIT_EXCEEDED": "Synapse blocks its accounts: in homeserver.yaml, set hs_disabled to false or raise"
    " max_mau_value, restart Synapse, then run again",
    "ORG_MATRIX_EXPIRED_ACCOUNT": "The account of the access token has expired: extend its validity, for example with"
    " another admin and POST /_synapse/admin/v1/account_validity/validity, or set another access_token (in the role:"
    " decommission_access_token)",
    "M_CONSENT_NOT_GIVEN": "The account of the access token has not accepted the privacy policy: accept it with that"
    " account, or remove user_consent from homeserver.yaml and restart Synapse, then run again",
    "M_USER_LOCKED": "The account of the access token is locked: unlock it with another admin and PUT"
    " /_synapse/admin/v2/users/<user_id>, or set another access_token (in the role: decommission_access_token)",
    "M_USER_SUSPENDED": "The account of the access token is suspended: end that with another admin and PUT"
    " /_synapse/admin/v1/suspend/<user_id>, or set another access_token (in the role: decommission_access_token)",
    "encoded slash": "A reverse proxy in front of Synapse decodes or refuses %2F in a path, so accounts, rooms and"
    f" aliases with a slash cannot be reached: {OWN_LISTENER}",
    "too large": "A reverse proxy in front of Synapse limits the size of requests: raise its limit (nginx:"
    f" client_max_body_size 10m), or {OWN_LISTENER}",
    "plain port": f"The port does not use TLS: write http:// instead of https:// in {BASE_URL}",
    "TLS port": f"If the port uses TLS, write https:// instead of http:// in {BASE_URL}",
    "closed port": f"Nothing listens on that port: start Synapse, or correct the host and the port in {BASE_URL}",
    "certificate": f"Use the host name of the certificate in {BASE_URL}, or set ca_path to the CA certificate",
    "compressed": f"Disable compression in the reverse proxy for requests that do not ask for it, or {OWN_LISTENER}",
    "another server": f"Another homeserver answers at that URL: correct {BASE_URL}, or the reverse proxy in front of"
    " it, then run again",
    "slow": "Check the load of Synapse and of its database, or raise timeout, then run again",
    "short list": "Accounts or rooms were added or removed during the listing: stop what changes them, then run again",
}
"""What the operator can do, by errcode or problem, about a request with the access token of the operator."""
ACCOUNT_ADVICE = {
    "M_RESOURCE_LIMIT_EXCEEDED": ADVICE["M_RESOURCE_LIMIT_EXCEEDED"],
    "ORG_MATRIX_EXPIRED_ACCOUNT": "The account has expired: extend its validity with POST"
    " /_synapse/admin/v1/account_validity/validity, then run again",
    "M_CONSENT_NOT_GIVEN": "The account has not accepted the privacy policy: remove user_consent from homeserver.yaml"
    " and restart Synapse, then run again",
    "M_USER_SUSPENDED": "The account is suspended: end that with PUT /_synapse/admin/v1/suspend/<user_id>, then run"
    " again",
    "encoded slash": ADVICE["encoded slash"],
    "too large": ADVICE["too large"],
}
"""What the operator can do about a request with the access token of another account."""
OTHER_SERVER = (
    "Can only look up local users",
    "Can only lookup local users",
    "Can only deactivate local users",
    "Only local users can be logged in as",
    "Only local users can be ratelimited",
    "This endpoint can only be used with local users",
)
"""What Synapse answers to requests about accounts of remote servers."""
UNUSABLE_OPERATOR = ("ORG_MATRIX_EXPIRED_ACCOUNT", "M_USER_LOCKED")
"""The errcodes with which Synapse refuses every request of an account."""


class SynapseError(Exception):
    """A request that failed, an unusable answer, or something that is refused before a request is sent.

    Raised only as one of its subclasses: code that deals with many accounts or rooms catches C(RefusedError), records
    it for that one, and continues with the next; a C(FatalError) ends the run.

    :ivar status: HTTP status, C(None) without an answer.
    :ivar errcode: C(errcode) of the Matrix specification.
    :ivar unanswered: whether the server may have carried out the request: only its answer is missing.
    :ivar borrowed: whether the request was sent with another access token than the operator's.
    :ivar retry_after: seconds after which the server asks to send the request again, if it does.
    :ivar problem: a key of C(ADVICE), for what no errcode of the server says.
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
        problem: str | None = None,
    ) -> None:
        self.error = printable(error)
        self.method = method
        self.url = url
        self.status = status
        self.errcode = errcode
        self.unanswered = unanswered
        self.borrowed = borrowed
        self.retry_after = retry_after
        self.problem = problem
        super().__init__(str(self))

    def add(self, text: str) -> None:
        """Add a sentence to the error."""
        self.error = printable(f"{self.error.rstrip('.')}. {text[:1].upper()}{text[1:]}")

    def __str__(self) -> str:
        if self.method is None and self.status is None:
            return self.error
        request = f"{self.method} {self.url}: " if self.method else ""
        answer = " ".join(str(part) for part in (self.status, self.errcode) if part is not None)
        return printable(f"{request}{answer}{': ' if answer else ''}{self.error}")

    @property
    def advice(self) -> str:
        """What the operator can do about it, or an empty text if the error itself says so."""
        return self._specific_advice or ("" if self.method is None or self.borrowed else self._general_advice)

    @property
    def reason(self) -> str:
        """The error of one account or room, with what the operator can do about it if the answer shows that."""
        return with_advice(str(self), self._specific_advice)

    @property
    def _specific_advice(self) -> str:
        table = ACCOUNT_ADVICE if self.borrowed else ADVICE
        return next((table[key] for key in (self.problem, self.errcode) if key in table), "")

    @property
    def _general_advice(self) -> str:
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
            problem=error.problem,
        )


class RefusedError(SynapseError):
    """Is about one account or room: requests about others may succeed."""


def request_error(
    error: str,
    *,
    method: str,
    url: str,
    status: int | None = None,
    errcode: str | None = None,
    unanswered: bool = False,
    borrowed: bool = False,
    **more: Any,
) -> FatalError | RefusedError:
    """The error of a request that was sent.

    Fatal if the server is gone, is another one, or does not accept the operator's token.

    The arguments are those of C(SynapseError).
    """
    gone = status is None and not unanswered
    invalid_token = not borrowed and (status == 401 or errcode in UNUSABLE_OPERATOR)
    # Synapse says so of accounts of remote servers, and only accounts of this server are sent to it.
    elsewhere = status == 400 and error in OTHER_SERVER
    kind = FatalError if gone or invalid_token or elsewhere else RefusedError
    if elsewhere:
        more["problem"] = "another server"
    if status == 404 and errcode == "M_UNRECOGNIZED" and "%2F" in url:
        more["problem"] = "encoded slash"
    if status == 413 and errcode is None:
        # Synapse itself answers M_TOO_LARGE.
        more["problem"] = "too large"
    return kind(
        error, method=method, url=url, status=status, errcode=errcode, unanswered=unanswered, borrowed=borrowed, **more
    )
