# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Digests of user IDs: proof that an account existed, for those who know its user ID, without publishing the IDs."""

from __future__ import annotations

import base64
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, NamedTuple, Sequence

ROUNDS = 10_000
"""Iterations of PBKDF2: about 3 ms of one core per account. More would be too slow for 200,000 accounts, and would not
protect user IDs that are easy to guess."""
MAX_LENGTH = 1_000_000
"""Maximum number of characters of the digests of all accounts."""
PART = 500
"""Number of digests that a thread computes at a time."""
WIDEST = 10
NARROWEST = 5
"""Maximum and minimum number of characters of a digest."""


class Digests(NamedTuple):
    """Sorted digests of I(width) characters each, in one string, which is shorter than a list."""

    width: int
    digests: str


def digest(user_id: str, salt: str) -> str:
    """The digest of a user ID in URL-safe Base64.

    :param salt: the salt in hexadecimal.
    """
    raw = hashlib.pbkdf2_hmac("sha256", user_id.encode(), bytes.fromhex(salt), ROUNDS)
    return base64.urlsafe_b64encode(raw).decode()


def digest_all(
    user_ids: Sequence[str], salt: str, on_step: Callable[[str, int, int | None], object] | None = None
) -> Digests:
    """The digests of these user IDs, computed on all processors.

    :param on_step: is called with the progress, see C(Client.on_step).
    """
    found: list[str] = []
    parts = [user_ids[start : start + PART] for start in range(0, len(user_ids), PART)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for digests in pool.map(lambda part: [digest(user_id, salt) for user_id in part], parts):
            found += digests
            if on_step is not None:
                on_step("digests computed", len(found), len(user_ids))
    found.sort()
    width = max(NARROWEST, min(WIDEST, MAX_LENGTH // max(len(found), 1)))
    return Digests(width, "".join(each[:width] for each in found))
