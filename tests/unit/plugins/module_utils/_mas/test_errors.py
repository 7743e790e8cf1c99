# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.errors import (
    ADVICE,
    MasFatalError,
    MasRefusedError,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError, RefusedError


@pytest.mark.parametrize("kind", [MasFatalError, MasRefusedError])
def test_advice_is_about_the_service(kind: type[MasFatalError] | type[MasRefusedError]) -> None:
    error = kind("no", method="GET", url="http://mas.test", status=401, problem="token")
    assert error.advice == ADVICE["token"] and error.reason.endswith(ADVICE["token"])
    assert kind("no", method="GET", url="http://mas.test", status=401).advice == ""
    assert isinstance(error, FatalError) is (kind is MasFatalError)
    assert isinstance(error, RefusedError) is (kind is MasRefusedError)
