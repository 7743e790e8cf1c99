# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors of the federation client. Texts may quote remote servers, so they are escaped and bounded here."""

from __future__ import annotations

from .._text import printable

MAX_MESSAGE = 300
"""Maximum length of a message in characters."""


class FederationError(Exception):
    """Base class of all errors of this package. C(str()) is one printable line of at most C(MAX_MESSAGE) characters."""

    def __init__(self, message: str) -> None:
        line = printable(message[: MAX_MESSAGE + 1])
        super().__init__(line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…")


class MissingRequirementError(FederationError):
    """A Python library is not installed."""

    def __init__(self, library: str) -> None:
        """
        :param library: the name on pip. Debian's package has the prefix C(python3-).
        """
        super().__init__(
            f"the Python library {library} is missing: install python3-{library} (Debian package) or {library} (pip)"
        )


class InvalidNameError(FederationError):
    """A text is not a valid server name, user ID, room ID or event ID."""


class UnreachableError(FederationError):
    """There is no answer: no address, no connection, no valid certificate, or no complete headers in time."""


class AddressNotAllowedError(UnreachableError):
    """The address filter refuses all addresses of a server."""


class AnswerError(FederationError):
    """The answer is not usable: too large, too slow, compressed, a redirect, or not of the expected form."""


class RedirectError(AnswerError):
    """The answer is a redirect. I(location) is the target as the server sent it: neither checked nor printable."""

    def __init__(self, status: int, location: str) -> None:
        super().__init__(f"redirected (HTTP {status}) to {location or 'nowhere'}")
        self.status = status
        self.location = location


class SigningKeyError(FederationError):
    """The signing key can't be read, or is not the one that the server publishes."""


class EventError(FederationError):
    """A make_leave template from which no leave event is built."""
