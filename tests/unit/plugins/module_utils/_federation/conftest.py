# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real TLS servers on loopback addresses, and a client that trusts them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Iterator

import pytest

if TYPE_CHECKING:
    from ansible_collections.matrixops.synapse.plugins.module_utils._federation.transport import Transport

COLLECTION = "ansible_collections.matrixops.synapse"


@pytest.fixture
def transport(ca_path: str) -> Iterator[Transport]:
    module = importlib.import_module(f"{COLLECTION}.plugins.module_utils._federation.transport")
    transport: Transport = module.Transport(ca_path=ca_path)
    yield transport
    transport.close()
