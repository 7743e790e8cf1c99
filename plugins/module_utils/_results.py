# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The size of what modules return."""

from __future__ import annotations

from itertools import islice
from typing import Any, Mapping, Sequence, TypeVar

Item = TypeVar("Item")

MAX_NAMES = 1000
"""Maximum number of names that a list of a result has: a server may have 200,000 accounts."""


def sample(items: Sequence[Item], most: int) -> list[Item]:
    """At most I(most) items, evenly distributed."""
    count = max(min(most, len(items)), 0)
    return [items[number * len(items) // count] for number in range(count)]


def first_of(**lists: Sequence[Any]) -> dict[str, Any]:
    """The first I(MAX_NAMES) items of each list by its name, and how many there are: C(name), C(name_total)."""
    shortened: dict[str, Any] = {name: list(items[:MAX_NAMES]) for name, items in lists.items()}
    return {**shortened, **{f"{name}_total": len(items) for name, items in lists.items()}}


def with_reasons(key: str, reasons: Mapping[str, str], most: int = MAX_NAMES) -> list[dict[str, Any]]:
    """The first I(most) names, sorted, with their reasons, as modules return them: C([{key: name, "reason": ...}])."""
    return [{key: name, "reason": reason} for name, reason in islice(sorted(reasons.items()), most)]
