# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.site import Address, Site, support

SITE = Site("old.example", {"server_name": "old.example"}, (), 1_700_000_000, "b" * 32)


@pytest.mark.parametrize(
    ("name", "host", "ports", "well_known"),
    [
        ("old.example", "old.example", (443,), True),
        ("old.example.", "old.example", (443,), True),
        ("old.example:8448", "old.example", (8448, 443), False),
        ("old.example:443", "old.example", (443,), False),
        ("192.0.2.1", "192.0.2.1", (8448, 443), False),
        ("[2001:db8::1]", "[2001:db8::1]", (8448, 443), False),
        ("[2001:db8::1]:8449", "[2001:db8::1]", (8449, 443), False),
    ],
)
def test_where_a_server_is_asked(name: str, host: str, ports: tuple[int, ...], well_known: bool) -> None:
    address = Address.of(name)
    assert (address.host, address.ports, address.has_well_known) == (host, ports, well_known)


@pytest.mark.parametrize(
    "changes",
    [
        {"server_name": 'old.example"; }'},
        {"server_name": "old.example\n"},
        {"server_name": ""},
        {"boundary": ""},
        {"boundary": "b" * 15},
        {"boundary": "b" * 71},
        {"boundary": "b" * 32 + "\r\n"},
        {"boundary": '"' + "b" * 32},
        {"contact": "nobody"},
    ],
)
def test_invalid_sites(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"boundary|Correct"):
        replace(SITE, **changes)


@pytest.mark.parametrize(
    ("contact", "answer"),
    [
        ("", {"support_page": "https://old.example/"}),
        ("https://new.example/help?a=1", {"support_page": "https://new.example/help?a=1"}),
        ("@admin:new.example", {"contacts": [{"role": "m.role.admin", "matrix_id": "@admin:new.example"}]}),
        ("admin@new.example", {"contacts": [{"role": "m.role.admin", "email_address": "admin@new.example"}]}),
    ],
)
def test_contacts(contact: str, answer: dict[str, Any]) -> None:
    assert support("old.example", contact) == answer


@pytest.mark.parametrize(
    "contact",
    [
        "somebody",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://",
        "https://[",
        'https://new.example/"onclick=',
        "https://new.example/\u202e",
        "@admin",
        "@:new.example",
        "@a b:new.example",
        "@admin:new example",
        "a@b@c",
        "a b@new.example",
        "<a@new.example>",
        "\ud800@new.example",
    ],
)
def test_no_contacts(contact: str) -> None:
    with pytest.raises(ValueError, match="Correct decommission_site_contact"):
        support("old.example", contact)
