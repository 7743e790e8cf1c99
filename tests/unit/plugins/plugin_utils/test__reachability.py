# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _reachability as reachability
from ansible_collections.matrixops.synapse.plugins.plugin_utils._reachability import Endpoint, Silence

HOST = Endpoint("192.0.2.1", 2222)
SSH = """#!/bin/sh
for last; do :; done
echo "$@" > "$(dirname "$0")/arguments"
case $last in
jumped) echo "hostname 192.0.2.7"; echo "port 22"; echo "proxyjump bastion" ;;
piped) echo "hostname piped"; echo "port 22"; echo "proxycommand nc %h %p" ;;
broken) echo "Bad configuration option" >&2; exit 255 ;;
*) echo "hostname 192.0.2.9"; echo "port 2200"; echo "proxycommand none" ;;
esac
"""


class Connection:
    def __init__(self, program: Path) -> None:
        self.options = {
            "ssh_executable": str(program),
            "ssh_args": "-C -o 'User=a b'",
            "ssh_common_args": "-F /dev/null",
        }

    def get_option(self, name: str) -> str | None:
        return self.options.get(name)


@pytest.fixture
def connection(tmp_path: Path) -> Connection:
    program = tmp_path / "ssh"
    program.write_text(SSH)
    program.chmod(0o755)
    return Connection(program)


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("alias", Endpoint("192.0.2.9", 2200)),
        ("jumped", Endpoint("192.0.2.7", 22, "bastion")),
        ("piped", Endpoint("piped", 22, "nc %h %p")),
        ("broken", Endpoint("broken", 5)),
    ],
)
def test_the_configuration_of_ssh_applies(
    connection: Connection, tmp_path: Path, host: str, endpoint: Endpoint
) -> None:
    assert reachability.ssh_endpoint(connection, host, 5) == endpoint
    assert (tmp_path / "arguments").read_text() == f"-C -o User=a b -F /dev/null -oPort=5 -G {host}\n"
    reachability.ssh_endpoint(connection, host, None)
    assert "-oPort" not in (tmp_path / "arguments").read_text()


def test_without_ssh_the_address_is_that_of_the_inventory(connection: Connection) -> None:
    connection.options["ssh_executable"] = "/nowhere/ssh"
    assert reachability.ssh_endpoint(connection, "a.example", None) == Endpoint("a.example", 22)


def test_addresses() -> None:
    assert reachability.addresses("127.0.0.1") == {"127.0.0.1"}
    assert reachability.addresses("a..b") == {"a..b"}


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """The error of a connection to each port, or none if it is established. The others time out."""
    errors: dict[int, Any] = {}

    class Socket:
        def close(self) -> None: ...

    def connect(target: tuple[str, int], _timeout: float) -> Socket:
        error = errors.get(target[1], socket.timeout())
        if error is not None:
            raise error
        return Socket()

    monkeypatch.setattr(reachability.socket, "create_connection", connect)
    return errors


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT])
def test_nothing_answers(ports: dict[int, Any], number: int) -> None:
    ports.update({22: OSError(number, "x"), 80: OSError(errno.ENETUNREACH, "x")})
    assert reachability.tcp_answer(HOST) is None


@pytest.mark.parametrize("port", [2222, 22, 443, 8448])
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (None, "TCP connection established"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "Connection refused"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "Connection reset by peer"),
        (OSError(), "Input/output error"),
    ],
)
def test_any_answer_of_any_port_counts(ports: dict[int, Any], port: int, error: Any, text: str) -> None:
    """A kernel that refuses is on."""
    ports[port] = error
    assert reachability.tcp_answer(HOST) == f"192.0.2.1 port {port}: {text}"


def test_an_established_connection_is_shown_first(ports: dict[int, Any]) -> None:
    ports.update({port: ConnectionRefusedError(errno.ECONNREFUSED, "x") for port in (22, 80, 2222)})
    ports[8448] = None
    assert reachability.tcp_answer(HOST) == "192.0.2.1 port 8448: TCP connection established"


def test_a_controller_that_is_offline_sees_no_host(ports: dict[int, Any]) -> None:
    ports.update(dict.fromkeys((HOST.port, *reachability.PORTS), OSError(errno.ENETUNREACH, "x")))
    assert reachability.tcp_answer(HOST) == "192.0.2.1: Network is unreachable"
    ports.update(dict.fromkeys((HOST.port, *reachability.PORTS), socket.gaierror(-2, "x")))
    assert reachability.tcp_answer(HOST) == "192.0.2.1: Network is unreachable"


def checks(*answers: str | None) -> Callable[[], str | None]:
    """The last goes on for ever."""
    remaining: Iterator[str | None] = iter(answers)
    last = answers[-1]
    return lambda: next(remaining, last)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("answers", "timeout", "expected"),
    [
        ((None,), 120, Silence(None, 0.0)),
        (("a", "b", None), 120, Silence(None, 6.0)),
        # A host that is silent for a moment is not off.
        ((None, None, "a", None, "b", None), 120, Silence(None, 15.0)),
        (("a",), 10, Silence("a", 12.0)),
        ((None, None, "a"), 1, Silence("a", 6.0)),
        # Once it is silent, the checks are completed.
        (("a", None), 1, Silence(None, 3.0)),
    ],
)
def test_only_consecutive_checks_count(answers: Any, timeout: float, expected: Silence) -> None:
    assert reachability.wait_for_silence(checks(*answers), timeout) == expected
