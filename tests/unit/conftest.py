# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import json
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator
from unittest import mock

import pytest
import responses
from ansible.module_utils import basic
from hypothesis import settings

if TYPE_CHECKING:
    import trustme
    from ansible_collections.matrixops.synapse.plugins.module_utils._mas.client import MasClient
    from ansible_collections.matrixops.synapse.plugins.module_utils._mas.service import MasService
    from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
    from ansible_collections.matrixops.synapse.tests.stubs.helpers import Clock, Json, PassingTime, Server, Wire
    from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver
    from ansible_collections.matrixops.synapse.tests.stubs.mas import MasStub
    from ansible_collections.matrixops.synapse.tests.stubs.tls_server import TlsServer

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:  # before ansible-core 2.19

    def patch_module_args(args: Json | None = None) -> AbstractContextManager[Any]:
        return mock.patch.object(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode())


# The same examples each time, unless ``SEED`` is set: see tests/conftest.py.
settings.register_profile("fixed", derandomize="SEED" not in os.environ)
settings.load_profile("fixed")

COLLECTION = "ansible_collections.matrixops.synapse"
ENVIRONMENT = ("SYNAPSE_BASE_URL", "SYNAPSE_ACCESS_TOKEN", "NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")

SERVER_ADDRESS = "127.0.0.2"
"""Where servers listen: not at 127.0.0.1, so that an allowlist can name this address and no other."""


@pytest.fixture(scope="session")
def helpers() -> Any:
    """The module with helpers. Where pytest-ansible is used, collections cannot be imported yet by a conftest.py."""
    return importlib.import_module(f"{COLLECTION}.tests.stubs.helpers")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ENVIRONMENT, *PROXIES, *(name.upper() for name in PROXIES)):
        monkeypatch.delenv(name, raising=False)
    # Spares requests to look through the whole environment, twice with each request.
    monkeypatch.setenv("no_proxy", "synapse.test")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch, helpers: Any) -> Clock:
    """No test sleeps."""
    clock: Clock = helpers.Clock()
    monkeypatch.setattr("time.sleep", clock.sleep)
    monkeypatch.setattr("time.monotonic", clock.monotonic)
    return clock


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
    """Starts a server: C(serve(answer, *names)) has a certificate for these names, or with I(plain) no TLS."""
    module = importlib.import_module(f"{COLLECTION}.tests.stubs.tls_server")
    servers: list[TlsServer] = []

    def start(answer: Callable[[Any], Any], *names: str, host: str = SERVER_ADDRESS, plain: bool = False) -> TlsServer:
        certificate = None if plain else ca.issue_cert(*names or ("example.org",))
        servers.append(module.TlsServer(certificate, answer, host))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def server(helpers: Any) -> Iterator[Server]:
    with responses.RequestsMock(registry=helpers.Declared) as mocked:
        yield helpers.Server(mocked)
        registry: Any = mocked.get_registry()
        assert registry.unexpected == []


@pytest.fixture
def homeserver() -> Iterator[Homeserver]:
    """A fake homeserver that has only the operator."""
    module = importlib.import_module(f"{COLLECTION}.tests.stubs.homeserver")
    with module.Homeserver.mocked() as homeserver:
        yield homeserver


@pytest.fixture
def strict_umask() -> Iterator[None]:
    """New files are private. For this test only: the next one of this process may build a machine."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def simulate(homeserver: Homeserver) -> Callable[..., Homeserver]:
    """Adds accounts to the fake homeserver, and by localpart the rooms that they are joined to."""
    return homeserver.populate


@pytest.fixture
def lone_client(helpers: Any) -> Iterator[Client]:
    """A client without a server of declared requests."""
    module = importlib.import_module(f"{COLLECTION}.plugins.module_utils._synapse.client")
    with module.Client(helpers.BASE_URL, helpers.TOKEN, connections=1) as client:
        yield client


@pytest.fixture
def fresh_client(server: Server, lone_client: Client) -> Client:
    """A client that has sent nothing yet."""
    return lone_client


@pytest.fixture
def client(helpers: Any, server: Server, fresh_client: Client) -> Client:
    """A client that has reached its server and knows who it is."""
    server.whoami()
    assert fresh_client.user_id == helpers.OPERATOR
    return fresh_client


@pytest.fixture
def mas(homeserver: Homeserver) -> MasStub:
    """The service of the fake homeserver."""
    return homeserver.delegate()


@pytest.fixture
def mas_options(mas: MasStub) -> Json:
    """The options of a module that asks the service."""
    stub = importlib.import_module(f"{COLLECTION}.tests.stubs.mas")
    return {"mas_url": mas.url, "mas_client_id": stub.CLIENT_ID, "mas_client_secret": stub.CLIENT_SECRET}


@pytest.fixture
def connect(mas: MasStub) -> Iterator[Callable[..., MasClient]]:
    """Makes clients of the service."""
    module = importlib.import_module(f"{COLLECTION}.plugins.module_utils._mas.client")
    stub = importlib.import_module(f"{COLLECTION}.tests.stubs.mas")
    clients: list[MasClient] = []

    def connect(url: str = mas.url, **options: Any) -> MasClient:
        if "access_token" not in options:
            options = {"client_id": stub.CLIENT_ID, "client_secret": stub.CLIENT_SECRET, **options}
        clients.append(module.MasClient(url, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def mas_client(connect: Callable[..., MasClient]) -> MasClient:
    return connect()


@pytest.fixture
def service(mas_client: MasClient, lone_client: Client) -> MasService:
    """The service, which the client of the homeserver asks from now on."""
    module = importlib.import_module(f"{COLLECTION}.plugins.module_utils._mas.service")
    service: MasService = module.MasService(mas_client, lone_client, "1234")
    lone_client.service = service
    return service


@pytest.fixture
def wire(helpers: Any) -> Iterator[Callable[..., Wire]]:
    """Starts a real server that gives the answers it is passed."""
    wires: list[Wire] = []

    def start(*answers: bytes | None) -> Wire:
        wires.append(helpers.Wire(answers))
        return wires[-1]

    yield start
    for started in wires:
        started.close()


@pytest.fixture
def run(helpers: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., Json]:
    """Runs a module as Ansible does, and returns what it prints."""

    def run(
        name: str, options: Json | None = None, *, check: bool = False, diff: bool = True, bare: bool = False
    ) -> Json:
        connection = {"base_url": helpers.BASE_URL, "access_token": helpers.TOKEN, "server_name": helpers.SERVER}
        arguments: dict[str, Any] = {"_ansible_check_mode": check, "_ansible_diff": diff}
        arguments.update({**({} if bare else connection), **(options or {})})
        # What is None is not set.
        arguments = {key: value for key, value in arguments.items() if value is not None}
        module = importlib.import_module(f"{COLLECTION}.plugins.modules.{name}")
        with patch_module_args(arguments), pytest.raises(SystemExit) as exit_:
            module.main()
        result: Json = json.loads(capsys.readouterr().out)
        result.pop("invocation", None)  # Ansible puts it in before 2.20
        assert exit_.value.code == (1 if result.get("failed") else 0)
        return result

    return run
