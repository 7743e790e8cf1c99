# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write into tests/durations.json how many seconds each file of tests took in the last ``make test``.

They decide on the order of the tests only: nothing fails if they are out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]


def main(report: str) -> None:
    seconds: defaultdict[str, float] = defaultdict(float)
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - pytest has written it
        path = re.match(r"(.*?\.test_\w+)", case.attrib["classname"])  # a class may follow
        assert path, case.attrib
        seconds[f"{path[1].replace('.', '/')}.py"] += float(case.attrib["time"])
    rounded = {name: round(seconds[name], 1) for name in sorted(seconds)}
    (ROOT / "tests/durations.json").write_text(json.dumps(rounded, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
