# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether anything answers at the address of a host."""

from __future__ import annotations

import errno
import os
import shlex
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, NamedTuple

CHECKS = 3
"""Number of consecutive checks without an answer, after which a host is off."""
PAUSE = 3.0
"""Seconds between two checks."""
CONNECT_TIMEOUT = 3.0
"""Maximum time in seconds for one TCP connection."""
SSH_PORT = 22
PORTS = (22, 80, 443, 8008, 8448)
"""Ports that are tried in addition to that of SSH. A host that refuses a connection is on."""
SILENT = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN)
"""Errors of a connection to an address without a host."""


class Endpoint(NamedTuple):
    """Where SSH connects to."""

    host: str
    port: int
    proxy: str | None = None
    """The jump host or the command that SSH connects through."""


class Silence(NamedTuple):
    """The result of consecutive checks."""

    answer: str | None
    """The last answer, or none if nothing answers any more."""
    elapsed: float
    """Seconds until nothing answered."""


def ssh_endpoint(connection: Any, host: str, port: int | None) -> Endpoint:
    """Return where the SSH of a connection connects to for a host, by its own configuration.

    :param connection: a connection plugin C(ssh), whose options apply.
    """
    options = [connection.get_option(name) for name in ("ssh_args", "ssh_common_args", "ssh_extra_args")]
    arguments = [argument for option in options for argument in shlex.split(option or "")]
    command = [connection.get_option("ssh_executable"), *arguments, *([f"-oPort={port}"] if port else []), "-G", host]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=10, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return Endpoint(host, port or SSH_PORT)
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    proxies = (found.get(name) for name in ("proxyjump", "proxycommand"))
    proxy = next((proxy for proxy in proxies if proxy and proxy != "none"), None)
    return Endpoint(found.get("hostname", host), int(found.get("port", port or SSH_PORT)), proxy)


def addresses(host: str) -> set[str]:
    """Return the IP addresses of a host, or its name if it has none."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return {host}


def tcp_answer(endpoint: Endpoint) -> str | None:
    """Return what answers at an address, or none if nothing does.

    That its network is unreachable counts as an answer: then the controller itself may be offline.
    """
    targets = [(address, port) for address in addresses(endpoint.host) for port in {endpoint.port, *PORTS}]
    with ThreadPoolExecutor(len(targets)) as pool:
        errors = list(pool.map(_connect, targets))
    # An established connection first, which says most.
    for number, (address, port) in sorted(zip(errors, targets)):
        if number not in (*SILENT, errno.ENETUNREACH):
            return f"{address} port {port}: {os.strerror(number) if number else 'TCP connection established'}"
    return None if any(number in SILENT for number in errors) else f"{endpoint.host}: {os.strerror(errno.ENETUNREACH)}"


def _connect(target: tuple[str, int]) -> int:
    """Return the error number of a TCP connection, or 0 if it is established."""
    try:
        socket.create_connection(target, CONNECT_TIMEOUT).close()
    except socket.timeout:
        return errno.ETIMEDOUT
    except socket.gaierror:
        return errno.ENETUNREACH
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def wait_for_silence(check: Callable[[], str | None], timeout: float) -> Silence:
    """Check until C(CHECKS) checks in a row had no answer, or until there is one after I(timeout) seconds."""
    started = time.monotonic()
    silent, elapsed = 0, 0.0
    while True:
        answer = check()
        silent = 0 if answer else silent + 1
        if answer or silent == 1:
            elapsed = time.monotonic() - started
        if silent == CHECKS or (answer and elapsed > timeout):
            return Silence(answer, round(elapsed, 1))
        time.sleep(PAUSE)
