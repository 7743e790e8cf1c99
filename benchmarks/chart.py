# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Charts as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, LABEL, ROW, HEAD = 800, 170, 22, 34
HEADER = """<!--
Copyright (c) 2026 the matrixops.synapse contributors
GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later
-->
"""
INK, OURS, THEIRS, WAITING, PAPER = "#222222", "#1f77b4", "#888888", "#dddddd", "#ffffff"


class Bar(NamedTuple):
    """Seconds until it was done, and until the contender ended; and a remark."""

    name: str
    claimed: float
    done: float
    ours: bool
    remark: str


def bars(groups: Sequence[tuple[str, Sequence[Bar]]], legend: str) -> str:
    """Groups of bars, each with a scale of its own. The time after the end of the contender is pale."""
    parts = []
    y = 8
    for title, group in groups:
        parts.append(_text(8, y + 16, title, weight="bold"))
        y += HEAD
        scale = (WIDTH - LABEL - 190) / max(row.done for row in group)
        for row in group:
            parts += [
                _text(LABEL - 8, y + 14, row.name, anchor="end"),
                _box(LABEL, y, row.done * scale, WAITING),
                _box(LABEL, y, min(row.claimed, row.done) * scale, OURS if row.ours else THEIRS),
                _text(LABEL + row.done * scale + 6, y + 14, f"{row.done:,.0f} s{row.remark}"),
            ]
            y += ROW
        y += 10
    parts.append(_text(LABEL, y + 14, legend))
    return _svg(y + HEAD, parts)


def _svg(height: int, parts: Sequence[str]) -> str:
    return (
        f'{HEADER}<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
        f' height="{height}" font-family="sans-serif" font-size="13" fill="{INK}">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _box(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.5, width):.1f}" height="{ROW - 4}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
