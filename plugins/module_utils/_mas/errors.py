# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors of requests to the Matrix Authentication Service. They are errors of the homeserver's, for its callers."""

from __future__ import annotations

from .._synapse.errors import FatalError, RefusedError
from .._text import with_advice

MAS_URL = "mas_url (in the role: decommission_mas_url)"
CLIENT = "mas_client_id and mas_client_secret (decommission_mas_client_id, decommission_mas_client_secret)"
ADVICE = {
    "unreachable": "Check that the Matrix Authentication Service is running and that mas_url (decommission_mas_url) is"
    " correct, then run again",
    "no admin API": "In the configuration of the Matrix Authentication Service, add the resource adminapi to a"
    f" listener, restart the service, and set {MAS_URL} to that listener",
    "client": f"Correct {CLIENT}: they must be those of a client in the section clients of the configuration of the"
    " Matrix Authentication Service, with client_auth_method: client_secret_basic",
    "policy": "In the configuration of the Matrix Authentication Service, add the ID of the client to policy: data:"
    " admin_clients, and restart the service",
    "token": "Set mas_access_token (decommission_mas_access_token) to a valid token with the scope urn:mas:admin, or"
    f" remove it and set {CLIENT}",
    "answer": "Unexpected response: check the reverse proxy in front of the Matrix Authentication Service, then run"
    " again",
}
"""What the operator can do, by problem."""


class _MasError:
    """Advice about the service instead of the homeserver."""

    problem: str | None

    @property
    def advice(self) -> str:
        """What the operator can do about it, or an empty text if the error itself says so."""
        return ADVICE.get(self.problem or "", "")

    @property
    def reason(self) -> str:
        """The error of one account, with what the operator can do about it."""
        return with_advice(str(self), self.advice)


class MasFatalError(_MasError, FatalError):
    """Ends the run: any other request to the service would fail as well, or must not be sent."""


class MasRefusedError(_MasError, RefusedError):
    """Is about one account: requests about others may succeed."""
