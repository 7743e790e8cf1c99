# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one would drain a server with, or list its accounts, each as a command.

The loops are as good as somebody who knows what to look out for would write them: they spare the admins.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.lab import REPOSITORY

SYNADM = REPOSITORY / ".cache/synadm/bin/synadm"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
CONFIG = REPOSITORY / "docs/examples/ansible.cfg"
HOST = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
FOUND = "found"
"""The file that a contender in listing writes the number of accounts to."""


@dataclass(frozen=True)
class Target:
    """A server to be drained, and its operator's access token."""

    base_url: str
    token: str
    server_name: str


@dataclass(frozen=True)
class Command:
    """What to start, and with what besides the environment that we have."""

    arguments: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)


Contender = Callable[[Target, Path], Command]
"""Makes a command, which may use files that it writes to a directory of its own."""


# To drain


def curl(workers: int = 1) -> Contender:
    def contender(target: Target, directory: Path) -> Command:
        script = (
            'curl --silent --header "@$HEADERS" "$BASE_URL/_synapse/admin/v2/users?limit=1000000"'
            " | jq --raw-output '.users[] | select(.admin | not) | .name'"
            ' | xargs -P "$WORKERS" -I{} curl --silent --output /dev/null --request POST --header "@$HEADERS"'
            ' --data \'{"erase": true}\' "$BASE_URL/_synapse/admin/v1/deactivate/{}"'
        )
        return _shell(script, target, directory, WORKERS=str(workers))

    return contender


def uri(target: Target, directory: Path) -> Command:
    request = {"headers": {"Authorization": "Bearer {{ token }}"}}
    listing = {**request, "url": "{{ base_url }}/_synapse/admin/v2/users?limit=1000000"}
    deactivation = {
        **request,
        "url": "{{ base_url }}/_synapse/admin/v1/deactivate/{{ item.name | urlencode }}",
        "method": "POST",
        "body_format": "json",
        "body": {"erase": True},
    }
    return _play(
        target,
        directory,
        {"ansible.builtin.uri": listing, "register": "listing"},
        {
            "ansible.builtin.uri": deactivation,
            "loop": "{{ listing.json.users | rejectattr('admin') }}",
            "loop_control": {"label": "{{ item.name }}"},
        },
    )


def synadm(target: Target, directory: Path) -> Command:
    # It has no option to spare admins; without the look-ahead, it would end when it closes its own.
    config = {
        "user": "operator",
        "token": target.token,
        "base_url": target.base_url,
        "homeserver": target.server_name,
        "format": "human",
    }
    file = directory / "synadm.yaml"
    file.write_text(json.dumps(config))
    command = ["user", "deactivate-regex", "--gdpr-erase", "@(?!operator:)"]
    return Command([SYNADM, "--config-file", file, "--batch", *command], {"HOME": str(directory)})


def collection(target: Target, directory: Path) -> Command:
    common = {**_connection(), "allow_broken_rooms": True}
    drain = {**common, "all_users": True, "record": True, "wait_for": "federated"}
    return _play(
        target,
        directory,
        {"matrixops.synapse.synapse_user_deactivate": drain},
        {"matrixops.synapse.synapse_admin_leave_rooms": {**common, "record_pending": True, "unlisted": True}},
    )


DRAINS: dict[str, Contender] = {
    "curl": curl(),
    "curl-8": curl(8),
    "uri": uri,
    "synadm": synadm,
    "collection": collection,
}


def playbook(targets: Mapping[str, Target], directory: Path, serial: int) -> Command:
    """Our playbook, until all have left, for servers so many at the same time."""
    hosts = {
        name: {
            **HOST,
            "decommission_base_url": target.base_url,
            "decommission_access_token": target.token,
            "decommission_confirm": target.server_name,
        }
        for name, target in targets.items()
    }
    variables = {
        "decommission_stages": ["preflight", "drain", "leave_rooms"],
        "decommission_serial": serial,
        "decommission_power_off": False,
        "decommission_ghost_checks": False,
    }
    inventory = directory / "inventory.json"
    inventory.write_text(json.dumps({"matrix_retiring": {"hosts": hosts, "vars": variables}}))
    return ansible("-i", inventory, "matrixops.synapse.decommission")


# To list


def list_with_curl(target: Target, directory: Path) -> Command:
    script = (
        'from=0; while [ "$from" != null ]; do'
        ' curl --silent --header "@$HEADERS" --output page'
        ' "$BASE_URL/_synapse/admin/v2/users?deactivated=true&locked=true&limit=1000&from=$from";'
        " jq --raw-output '.users[].name' page >>names; from=$(jq --raw-output .next_token page); done;"
        f" wc -l <names >{FOUND}"
    )
    return _shell(script, target, directory)


def list_with_uri(target: Target, directory: Path) -> Command:
    url = "{{ base_url }}/_synapse/admin/v2/users?deactivated=true&locked=true"
    request = {"headers": {"Authorization": "Bearer {{ token }}"}}
    return _play(
        target,
        directory,
        {"ansible.builtin.uri": {**request, "url": f"{url}&limit=1"}, "register": "first"},
        {
            "ansible.builtin.uri": {**request, "url": url + "&limit=1000&from={{ item }}"},
            "loop": "{{ range(0, first.json.total, 1000) | list }}",
            "register": "pages",
        },
        _write("{{ pages.results | map(attribute='json.users') | flatten | length }}", directory),
    )


def list_with_module(returned: bool) -> Contender:
    def contender(target: Target, directory: Path) -> Command:
        options = {**_connection(), "gather": [], **({} if returned else {"classes": []})}
        return _play(
            target,
            directory,
            {"matrixops.synapse.synapse_users_info": options, "register": "accounts"},
            _write("{{ accounts.users | length }}" if returned else "{{ accounts.total }}", directory),
        )

    return contender


def list_bare(target: Target, _directory: Path) -> Command:
    command = python("bare", "list", FOUND)
    return Command(command.arguments, {**command.environment, "BASE_URL": target.base_url, "TOKEN": target.token})


LISTINGS: dict[str, Contender] = {
    "curl": list_with_curl,
    "uri": list_with_uri,
    "module": list_with_module(True),
    "module-counts": list_with_module(False),
    "bare": list_bare,
}

DESCRIPTIONS = {
    "curl": "a shell loop over `curl` and `jq`, one request after the other",
    "curl-8": "the same with `xargs -P8`",
    "uri": "a playbook that loops over `ansible.builtin.uri`",
    "synadm": "`synadm --batch user deactivate-regex --gdpr-erase`",
    "collection": "a playbook with the modules of the drain: `synapse_user_deactivate`, `synapse_admin_leave_rooms`",
    "module": "a playbook with one module of this collection: `synapse_users_info` or `matrix_ghosts_info`",
    "module-counts": "the same, but only the counts are returned",
    "bare": "the code of the module without Ansible",
    "loop": "a loop that signs a request for each pair and sends it with `requests.get`, one after the other",
}


def module_from(file: Path, name: str, options: Sequence[str], directory: Path) -> Command:
    """A playbook with one module, whose options are in a file in JSON. What it returns is written to C(FOUND)."""
    task = {f"matrixops.synapse.{name}": {option: f"{{{{ {option} }}}}" for option in options}, "register": "found"}
    play = {"hosts": "localhost", "gather_facts": False, "vars": HOST, "vars_files": [str(file)]}
    written = _write("{{ found | to_json }}", directory)
    playbook = directory / "play.json"
    playbook.write_text(json.dumps([{**play, "tasks": [task, written]}]))
    return ansible("-i", "localhost,", playbook)


def python(module: str, *arguments: str | Path) -> Command:
    """A module of the benchmarks, in a Python of its own."""
    path = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / ".cache")))
    return Command([sys.executable, "-m", f"benchmarks.{module}", *arguments], {"PYTHONPATH": path})


def _connection() -> dict[str, str]:
    return {"base_url": "{{ base_url }}", "access_token": "{{ token }}"}


def _write(what: str, directory: Path) -> dict[str, Any]:
    return {"ansible.builtin.copy": {"content": what, "dest": str(directory / FOUND), "mode": "0600"}}


def _shell(script: str, target: Target, directory: Path, **environment: str) -> Command:
    headers = directory / "headers"
    headers.write_text(f"Authorization: Bearer {target.token}\n")
    return Command(["sh", "-c", script], {"BASE_URL": target.base_url, "HEADERS": str(headers), **environment})


def _play(target: Target, directory: Path, *tasks: dict[str, Any]) -> Command:
    variables = {**HOST, "base_url": target.base_url, "token": target.token}
    play = {"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": tasks}
    file = directory / "play.json"
    file.write_text(json.dumps([play]))
    return ansible("-i", "localhost,", file)


def ansible(*arguments: str | Path) -> Command:
    # Our playbook is found where the repository is a collection; colours would only be in the way.
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".cache"),
        "ANSIBLE_CONFIG": str(CONFIG),
        "ANSIBLE_NOCOLOR": "1",
    }
    return Command([ANSIBLE, *arguments], environment)
