# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the table of tests into CONTRIBUTING.md, generated from the tests: ``make tests-table``."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections import Counter, defaultdict
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from nightly import CATEGORIES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- written by make tests-table -->\n", "<!-- end -->\n"
HEAD = "| Tests | Subject | `make test` | `make nightly` |\n|---|---|---|---|\n"


class Collector:
    """A plugin of pytest that counts the tests.

    :ivar counts: by row and nightly category, which is empty for those of ``make test``.
    :ivar subjects: the subject of the tests of a row.
    """

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.subjects: dict[str, str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            module = item.getparent(pytest.Module)
            text = inspect.getdoc(module.obj) if module else None
            path = item.path.relative_to(ROOT)
            row = str(path)
            if text is None:  # named like what it tests
                row = f"{path.parent}/"
                text = f"Unit tests of `{path.parent.relative_to('tests/unit')}/`, file by file."
            mark = item.get_closest_marker("nightly")
            category = mark.kwargs["category"] if mark else ""
            assert category in ("", *CATEGORIES), f"{item.nodeid}: tests/nightly.py has no category {category}"
            self.counts[row][category] += 1
            self.subjects[row] = re.split(r"(?<=\.)\s", text.replace("\n", " ").replace("``", "`"))[0].rstrip(".")


def table() -> str:
    """The table of all tests."""
    collector = Collector()
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        code = pytest.main(["--collect-only", "-qq", "-m", "", "-p", "no:cacheprovider"], plugins=[collector])
    if code != 0:
        sys.exit("Cannot collect the tests: run pytest --collect-only for the error")
    rows = []
    for name, subject in sorted(collector.subjects.items()):
        counts = dict(sorted(collector.counts[name].items()))
        at_once = counts.pop("", "")
        nightly = ", ".join(f"{category}: {number}" for category, number in counts.items())
        rows.append(f"| `{name}` | {subject} | {at_once} | {nightly} |\n")
    return HEAD + "".join(rows)


def rendered(page: str) -> str:
    """The page with the current table."""
    before, _begin, rest = page.partition(BEGIN)
    _old, _end, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    """With ``--check``, write nothing, and return 1 if the page is out of date."""
    page = PAGE.read_text()
    new = rendered(page)
    if "--check" in sys.argv:
        return int(new != page)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
