# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ticket of the gate: proof, for the power-off, that the gate was open for this host a moment ago in this run.

A variable would not be one: -e replaces registered variables, and ignore_errors and --start-at-task continue without
them.
The ticket is a file in the temporary directory that ansible-playbook creates for itself, and removes at its end.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from typing import Any

from ansible import constants, context
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.utils.vars import load_extra_vars

VALID_FOR = 900.0
"""Seconds for which a ticket is valid."""
INTERNAL = "_decommission_"
"""Prefix of the variables that only the role itself sets."""


def _path(host: str) -> str:
    name = hashlib.sha256(host.encode()).hexdigest()[:32]
    return os.path.join(constants.DEFAULT_LOCAL_TMP, f"matrixops-gate-{name}.json")


def write(host: str, server_name: str, *, is_open: bool) -> None:
    """Write the ticket of a host: whether the gate is open for its server."""
    ticket = {"host": host, "server_name": server_name, "open": is_open, "time": time.time()}
    descriptor = os.open(_path(host), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(ticket, file)


def remove(host: str) -> None:
    """Remove the ticket of a host, before the gate is computed anew."""
    with suppress(FileNotFoundError):
        os.remove(_path(host))


def is_open(host: str, server_name: str) -> bool:
    """Whether the gate was found open for this host and server in this run.

    :raises AnsibleError: if there is no valid ticket, for example because the gate has failed or was skipped.
    """
    try:
        with open(_path(host), encoding="utf-8") as file:
            ticket: dict[str, Any] = json.load(file)
        age, subject, opened = time.time() - ticket["time"], (ticket["host"], ticket["server_name"]), ticket["open"]
    except (OSError, ValueError, TypeError, KeyError):
        raise AnsibleError(
            f"Refused to power off {host}: in this run, the gate has not been passed for it. Run the stage power_off as"
            " a whole, without --start-at-task and --skip-tags"
        ) from None
    if subject != (host, server_name) or not 0 <= age <= VALID_FOR:
        raise AnsibleError(
            f"Refused to power off {host}: the result of the gate is for {subject[1]} and {age:.0f} s old. It must be"
            f" for {server_name} and at most {VALID_FOR:.0f} s old: run the stage power_off again"
        )
    return opened is True


def refuse_internal_variables() -> None:
    """Refuse variables of the role itself on the command line: they replace what the role has found out.

    :raises AnsibleError: if one is set with -e.
    """
    if "extra_vars" not in context.CLIARGS:
        return
    names = sorted(name for name in load_extra_vars(DataLoader()) if str(name).startswith(INTERNAL))
    if names:
        raise AnsibleError(
            f"Refused: {', '.join(names)} is set with -e, but only the role itself sets variables that begin with"
            f" {INTERNAL}. Remove it from the command line"
        )
