# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Json
from ansible_collections.matrixops.synapse.tests.stubs.mas import MasStub

Run = Callable[..., Json]


def test_closed_and_opened_again(mas: MasStub, run: Run, mas_options: Json) -> None:
    token = mas.add_registration_token("welcome")
    mas.add_provider("corporate")
    planned = run("mas_cordon", mas_options, check=True)
    assert planned["changed"] and mas.policy_data == [] and mas.registration_tokens[token]["valid"]
    done = run("mas_cordon", mas_options)
    diff = {
        "before": "registration open, 1 valid registration tokens\n",
        "after": "registration closed, 0 valid registration tokens\n",
    }
    assert done["changed"] and done["diff"] == planned["diff"] == diff
    assert done["open"] is True and done["tokens"] == [token] and done["providers"] == ["corporate"]
    assert not mas.register("alice")
    again = run("mas_cordon", mas_options)
    assert not again["changed"] and again["tokens"] == [] and again["open"] is False

    undo = {**mas_options, "state": "absent", "tokens": done["tokens"]}
    assert run("mas_cordon", undo, check=True)["changed"] and not mas.registration_tokens[token]["valid"]
    undone = run("mas_cordon", undo)
    assert undone["changed"] and undone["diff"] == {"before": diff["after"], "after": diff["before"]}
    assert mas.registration_tokens[token]["valid"] and mas.register("alice")
    assert not run("mas_cordon", undo)["changed"]


@pytest.mark.parametrize("state", ["present", "absent"])
def test_without_a_service(run: Run, mas: MasStub, state: str) -> None:
    assert "set mas_url" in run("mas_cordon", {"state": state})["msg"]
