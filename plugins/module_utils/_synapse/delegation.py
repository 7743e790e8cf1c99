# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a service that handles login does in the place of Synapse, which then has no API for it."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Protocol


class ServiceAccount(NamedTuple):
    """An account as the service knows it.

    :ivar username: the localpart.
    :ivar admin: whether it may ask for the permissions of an admin.
    :ivar guest: whether it was a guest of Synapse. Synapse does not list guests then.
    """

    username: str
    admin: bool = False
    locked: bool = False
    deactivated: bool = False
    guest: bool = False


class LoginService(Protocol):
    """The service. An account that it does not know is one of Synapse alone, for example of an application service.

    Each method raises a C(SynapseError) if the service does not answer, or refuses.
    """

    @property
    def can_act(self) -> bool:
        """Whether it opens sessions as other accounts."""

    def accounts(self) -> Iterator[ServiceAccount]:
        """All accounts that it knows."""

    def account(self, username: str) -> ServiceAccount | None:
        """One account as it is now."""

    def open_session(self, username: str, lifetime: int, *, admin: bool = False) -> str:
        """Open a session without a device, and return its access token.

        :param lifetime: seconds after which it expires.
        :param admin: whether it may use Synapse's admin API.
        """

    def end_session(self, token: str) -> None:
        """End a session that C(open_session) has opened."""

    def end_all_sessions(self, username: str) -> None:
        """End all sessions of the owner of an account, on all devices and in all browsers."""

    def set_locked(self, username: str, locked: bool) -> bool:
        """Lock or unlock an account. Return C(False) if the service does not know it."""

    def deactivate(self, username: str, *, erase: bool) -> bool:
        """Deactivate an account there and on Synapse. Return C(False) if the service does not know it."""
