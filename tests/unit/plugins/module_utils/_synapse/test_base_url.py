# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.base_url import check_base_url
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import TOKEN


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://localhost:8008", "localhost"),
        ("https://matrix.example.org/", "matrix.example.org"),
        ("https://example.org/some/prefix", "example.org"),
        ("http://[::1]:8008", "::1"),
    ],
)
def test_urls_of_homeservers(url: str, host: str) -> None:
    assert check_base_url(url) == host


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "does not begin with http:// or https://"),
        ("localhost:8008", "does not begin with http:// or https://"),
        ("matrix.example.org", "does not begin with http:// or https://"),
        ("ftp://localhost", "does not begin with http:// or https://"),
        ("http://", "has no host name"),
        ("http://:8008", "has no host name"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://localhost:port", "Port could not be cast"),
        ("http://localhost:8008/_matrix", "contains the path of an API"),
        ("http://localhost:8008/prefix/_synapse/admin", "contains the path of an API"),
        ("http://localhost:8008/?a=b", "has a query or a fragment"),
    ],
)
def test_other_urls_are_refused_before_any_request(url: str, problem: str) -> None:
    with pytest.raises(FatalError, match=r"base_url \(in the role: decommission_base_url\)") as caught:
        Client(url, TOKEN)
    assert f"is '{url}', but it " in str(caught.value) or problem[0].isupper()
    assert problem in str(caught.value)
    assert "for example http://localhost:8008" in str(caught.value)


@pytest.mark.parametrize("url", ["http://op:hunter2@localhost:8008", "https://syt_token@localhost"])
def test_credentials_in_the_url_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(FatalError, match="contains a user name or a password: remove them") as caught:
        Client(url, TOKEN)
    assert "hunter2" not in str(caught.value)
    assert "syt_" not in str(caught.value)
