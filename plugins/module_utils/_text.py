# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text for people: names, lists of names, durations and dates in messages."""

from __future__ import annotations

import datetime
import re
from typing import Collection, Iterable

MAX_NAMES_IN_MESSAGE = 10
"""Maximum number of names that a message lists. The result of the module has more."""
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
"""Control characters, line and paragraph separators, bidirectional formatting, invisible characters and surrogates."""


def printable(text: str) -> str:
    """Return I(text) with every character that a terminal would obey or hide escaped as in a Python string."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def join_names(
    names: Collection[str], separator: str = ", ", most: int = MAX_NAMES_IN_MESSAGE, total: int | None = None
) -> str:
    """Return the first I(most) names, and how many more there are: C(a, b and 3 more).

    :param total: how many there are if I(names) may have only some of them.
    """
    more = (len(names) if total is None else total) - min(len(names), most)
    return separator.join(_first(names, most)) + (f" and {more:,} more" if more > 0 else "")


def _first(names: Iterable[str], most: int) -> Iterable[str]:
    return (name for name, _number in zip(names, range(most)))


def with_advice(message: str, advice: str) -> str:
    """Return a message, followed by what to do about it unless that is empty."""
    return f"{message.rstrip('.')}. {advice}" if advice else message


def plural(number: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"1 {one}" if number == 1 else f"{number:,} {many}"


def duration(seconds: float) -> str:
    """Return a number of seconds with its two largest units: C(2 d 3 h), C(4 min 5 s), C(0.4 s)."""
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = int(seconds % size // smaller_size)
            return f"{int(seconds // size)} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds:.1f} s" if 0 < seconds < 1 else f"{max(seconds, 0):.0f} s"


def date(timestamp: int) -> str:
    """Return a time in seconds since 1970 as a date and a time in UTC, or as it is if it is in no calendar."""
    try:
        moment = datetime.datetime.fromtimestamp(timestamp, datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        return str(timestamp)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
