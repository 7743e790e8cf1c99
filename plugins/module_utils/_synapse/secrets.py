# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets that no message may repeat."""

from __future__ import annotations

import re
from threading import Lock

HIDDEN = "********"
MAX_SECRETS = 10_000
"""Maximum number of secrets that are known at a time. Sessions as other accounts are fewer: see C(MAX_SESSIONS)."""
TOKEN = re.compile(r"(?<=bearer )[!-~]+|\b(?:sy[tr]|m[acpu][tr])_[\w.~+/=-]+", re.IGNORECASE)
"""What follows C(Bearer), and the access and refresh tokens of Synapse and of the Matrix Authentication Service."""


class Secrets:
    """The tokens and the password of a client. May be shared between threads."""

    def __init__(self) -> None:
        # In the order in which they were added.
        self._secrets: dict[str, None] = {}
        self._lock = Lock()

    def add(self, secret: str | None) -> None:
        """Hide this secret from now on."""
        if not secret:
            return
        with self._lock:
            self._secrets[secret] = None
            if len(self._secrets) > MAX_SECRETS:
                del self._secrets[next(iter(self._secrets))]

    def hide(self, text: str) -> str:
        """The text, with what may be a secret replaced: a proxy may answer with the headers that it received."""
        with self._lock:
            secrets = list(self._secrets)
        # The longest first, since one may be part of another.
        for secret in sorted(filter(text.__contains__, secrets), key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return TOKEN.sub(HIDDEN, text)
