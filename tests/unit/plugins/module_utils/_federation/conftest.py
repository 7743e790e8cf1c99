# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real TLS servers on loopback addresses, and a client that trusts them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator

import pytest

if TYPE_CHECKING:
    import trustme
    from ansible_collections.matrixops.synapse.plugins.module_utils._federation.transport import Transport
    from ansible_collections.matrixops.synapse.tests.stubs.helpers import PassingTime
    from ansible_collections.matrixops.synapse.tests.stubs.tls_server import TlsServer

COLLECTION = "ansible_collections.matrixops.synapse"
SERVER_ADDRESS = "127.0.0.2"
"""Where servers listen: not at 127.0.0.1, so that an allowlist can name this address and no other."""


@pytest.fixture
def passing_time(monkeypatch: pytest.MonkeyPatch, helpers: Any) -> PassingTime:
    """For tests with sockets. It only takes the place of C(clock) if a test file has a fixture C(clock) of its own."""
    passing: PassingTime = helpers.PassingTime()
    monkeypatch.setattr("time.monotonic", passing.monotonic)
    return passing


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    trustme = importlib.import_module("trustme")
    authority: trustme.CA = trustme.CA()
    return authority


@pytest.fixture(scope="session")
def ca_path(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def serve(ca: trustme.CA) -> Iterator[Callable[..., TlsServer]]:
    """Starts a server: C(serve(answer, *names)) has a certificate for these names."""
    module = importlib.import_module(f"{COLLECTION}.tests.stubs.tls_server")
    servers: list[TlsServer] = []

    def start(answer: Callable[[Any], Any], *names: str, host: str = SERVER_ADDRESS) -> TlsServer:
        servers.append(module.TlsServer(ca.issue_cert(*names or ("example.org",)), answer, host))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def transport(ca_path: str) -> Iterator[Transport]:
    module = importlib.import_module(f"{COLLECTION}.plugins.module_utils._federation.transport")
    transport: Transport = module.Transport(ca_path=ca_path)
    yield transport
    transport.close()
