# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client of a server whose homeserver is gone, and remote servers that stubs play over TLS on loopback."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from ansible.module_utils.testing import patch_module_args
from stubs.remote_server import RemoteServer
from stubs.rooms import Room, ServerKey

if TYPE_CHECKING:
    from ansible_collections.matrixops.synapse.plugins.module_utils._federation.client import FederationClient

OURS = ServerKey("gone.example")
StartServer = Callable[..., RemoteServer]
MakeClient = Callable[..., "FederationClient"]
RunModule = Callable[..., dict[str, Any]]


def plugin(name: str) -> Any:
    """A Python module below C(plugins). A conftest.py can't import from collections yet when it is loaded."""
    return importlib.import_module(f"ansible_collections.matrixops.synapse.plugins.{name}")


def module(name: str) -> Any:
    """A module of the client."""
    return plugin(f"module_utils._federation.{name}")


@pytest.fixture(scope="session")
def certificate(ca: trustme.CA) -> trustme.LeafCert:
    return ca.issue_cert("localhost", "127.0.0.1", OURS.server_name)


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def remote(certificate: trustme.LeafCert) -> Iterator[StartServer]:
    """Start a remote server with rooms; more arguments are those of C(RemoteServer)."""
    with ExitStack() as stack:

        def start(*rooms: Room, **more: Any) -> RemoteServer:
            return stack.enter_context(RemoteServer(certificate, rooms=rooms, peers=[OURS.key_answer()], **more))

        yield start


@pytest.fixture
def make_client(ca_file: str) -> Iterator[MakeClient]:
    """Make a client, with a pacing; more arguments are those of C(FederationClient)."""
    addresses, client, discovery, pacing, signing, transport = (
        module(name) for name in ("addresses", "client", "discovery", "pacing", "signing", "transport")
    )
    with ExitStack() as stack:

        def make(**more: Any) -> FederationClient:
            limits = more.pop("pacing", None) or pacing.Pacing(max_concurrent=3, max_rate=10_000.0)
            connections = stack.enter_context(closing(transport.Transport(ca_path=ca_file)))
            allowed = addresses.AddressFilter(["127.0.0.1/32", "::1"])
            made: FederationClient = client.FederationClient(
                OURS.server_name,
                signing.read_signing_key(OURS.key_file),
                connections,
                discovery.Discovery(connections, discovery.SystemResolver(), allowed),
                pacing.Limiters(limits),
                **more,
            )
            return made

        yield make


@pytest.fixture
def client(make_client: MakeClient) -> FederationClient:
    return make_client()


@pytest.fixture(autouse=True)
def _no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    removal = module("removal")
    monkeypatch.setattr(removal, "CHECK_DELAYS", (0.0,) * len(removal.CHECK_DELAYS))


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunModule:
    """Run an Ansible module in this process, without its delays; return what it prints."""
    for name in ("SYNAPSE_BASE_URL", "SYNAPSE_ACCESS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(plugin("module_utils._decommission.ghosts"), "time", SimpleNamespace(sleep=lambda _delay: None))

    def run(name: str, options: dict[str, Any], *, check: bool = False, diff: bool = False) -> dict[str, Any]:
        # Tracebacks are what a user gets who asks for them.
        internal = {"check_mode": check, "diff": diff, "tracebacks_for": ["error", "warning"]}
        arguments = {**options, **{f"_ansible_{key}": value for key, value in internal.items()}}
        with patch_module_args(arguments), pytest.raises(SystemExit) as exit_:
            plugin(f"modules.{name}").main()
        printed = capsys.readouterr()
        result: dict[str, Any] = json.loads(printed.out)
        assert exit_.value.code == int(result.get("failed", False))
        assert not printed.err
        result.pop("invocation", None)
        return result

    return run
