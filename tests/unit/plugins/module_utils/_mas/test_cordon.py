# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.client import MasClient
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.cordon import (
    EVERY_NAME,
    close_registration,
    open_registration,
    read_registration,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError
from ansible_collections.matrixops.synapse.tests.stubs.mas import MasStub

OTHER: dict[str, Any] = {"registration": {"banned_usernames": {"literals": ["root"], "regexes": ["^x"]}}, "more": [1]}


@pytest.mark.parametrize("policy", [None, OTHER])
def test_registration_is_closed_and_opened_again(mas: MasStub, mas_client: MasClient, policy: Any) -> None:
    if policy:
        mas._set_policy({"data": policy})
    token = mas.add_registration_token("welcome")
    mas.add_provider("corporate")
    before = read_registration(mas_client)
    assert (before.open, before.passwords, before.tokens, before.providers) == (True, True, [token], ["corporate"])
    close_registration(mas_client, before)
    assert not mas.register("alice") and not mas.registration_tokens[token]["valid"]
    if policy:
        assert mas.latest_policy["more"] == [1]
        banned = mas.latest_policy["registration"]["banned_usernames"]
        assert banned == {"literals": ["root"], "regexes": ["^x", EVERY_NAME]}
    closed = read_registration(mas_client)
    assert not closed.open and closed.tokens == []
    close_registration(mas_client, closed)
    assert len(mas.policy_data) == (2 if policy else 1)

    open_registration(mas_client, [token])
    open_registration(mas_client, [token])
    assert mas.latest_policy == (policy or {}) and mas.registration_tokens[token]["valid"]
    assert mas.register("alice")


def test_a_policy_that_another_process_replaces(mas: MasStub, mas_client: MasClient) -> None:
    before = read_registration(mas_client)
    mas._set_policy = lambda _body: (201, {"data": {}})  # type: ignore[method-assign]
    with pytest.raises(FatalError, match="replaced by another process"):
        close_registration(mas_client, before)


def test_a_service_without_tokens(mas: MasStub, mas_client: MasClient) -> None:
    mas_client.__dict__["paths"] = mas_client.paths - {"/user-registration-tokens", "/upstream-oauth-providers"}
    assert read_registration(mas_client).tokens == read_registration(mas_client).providers == []
