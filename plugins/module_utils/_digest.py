# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Digests of user IDs: to say of an account that it was here, to whoever knows its name, and to nobody else."""

from __future__ import annotations

import base64
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Iterable, NamedTuple

ROUNDS = 10_000
"""Some 3 ms of one core for each. There may be 200,000 accounts, and most names can be guessed whatever it is."""
LARGEST = 1_000_000
"""How many characters the digests of all accounts may take up together."""
WIDEST = 10
NARROWEST = 5


class Digests(NamedTuple):
    """The digests of many user IDs, each of I(width) characters, sorted and in one string: a list would be longer."""

    width: int
    digests: str


def digest(user_id: str, salt: str) -> str:
    """The digest of a user ID, in URL-safe Base64. I(salt) is in hexadecimal."""
    raw = hashlib.pbkdf2_hmac("sha256", user_id.encode(), bytes.fromhex(salt), ROUNDS)
    return base64.urlsafe_b64encode(raw).decode()


def digest_all(user_ids: Iterable[str], salt: str) -> Digests:
    """Of as many at the same time as there are processors."""
    listed = list(user_ids)
    processors = os.cpu_count() or 1
    with ThreadPoolExecutor(processors) as pool:
        parts = pool.map(lambda part: [digest(user_id, salt) for user_id in part], _dealt(listed, processors))
        found = sorted(chain.from_iterable(parts))
    width = max(NARROWEST, min(WIDEST, LARGEST // max(len(found), 1)))
    return Digests(width, "".join(each[:width] for each in found))


def _dealt(listed: list[str], parts: int) -> list[list[str]]:
    return [listed[start::parts] for start in range(parts)]
