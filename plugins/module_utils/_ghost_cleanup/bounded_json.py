# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON of remote servers: bounded in depth, in the number of its values, and in the length of its numbers.

Ten megabytes of C([[],[],…) take 200 MB once they are parsed, and a number of a million digits takes seconds.
"""

from __future__ import annotations

import json
from typing import Any, Dict

JsonDict = Dict[str, Any]

MAX_VALUES = 250_000
"""Maximum number of values. A transaction of 50 events of 64 KiB has some 100,000."""
MAX_DIGITS = 64
"""Maximum length of a number in characters."""


class JsonError(Exception):
    """The text is not a JSON object, or exceeds a bound. The message does not quote it."""


def parse_object(body: bytes) -> JsonDict:
    """Parse a JSON object.

    :raises JsonError: if it is none, or exceeds a bound.
    """
    # Those within strings count as well: events are short texts.
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_VALUES:
        raise JsonError(f"the JSON has more than {MAX_VALUES:,} values")
    try:
        parsed = json.loads(body.decode("utf-8"), parse_int=_integer, parse_float=_number, parse_constant=_constant)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise JsonError("the body is not a JSON object")
    return parsed


def _integer(text: str) -> int:
    return int(_bounded(text))


def _number(text: str) -> float:
    return float(_bounded(text))


def _bounded(text: str) -> str:
    if len(text) > MAX_DIGITS:
        raise ValueError("the number is too long")
    return text


def _constant(_text: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")
