# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The delay that a server asks for, for the client of Synapse and the federation client."""

from __future__ import annotations

import datetime
import email.utils
import sys


def retry_after(header: str, body: object) -> float | None:
    """Return the seconds that a server asks to wait; C(None) if it does not.

    :param header: C(Retry-After): seconds or a date (RFC 9110).
    :param body: the JSON of the answer: C(retry_after_ms), as in the Matrix specification.
    """
    try:
        return float(int(header))
    except (ValueError, OverflowError):
        pass
    try:
        then = email.utils.parsedate_to_datetime(header)
        return (then - datetime.datetime.now(then.tzinfo)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        pass
    milliseconds = body.get("retry_after_ms") if isinstance(body, dict) else None
    # A huge integer can't be converted to a float.
    return min(milliseconds, sys.maxsize) / 1000 if isinstance(milliseconds, (int, float)) else None
