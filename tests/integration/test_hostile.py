# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What comes from a server is text: Ansible does not template it, and no terminal obeys it.

Synapse takes anything for a display name, or for the name of a room. What it takes from nobody for a user ID, and does
not say in an error, comes from a stub.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from lab.api import quote

from .conftest import Federation

CORES = {"2.16": "3.10", "2.19": "", "2.21": "3.12"}
"""Versions of ansible-core, which guard against templates in quite different ways, with the Python for each; empty for
the version that runs all other tests."""


class Nasty:
    """Names that do something where they are taken for more than names."""

    def __init__(self, directory: Path) -> None:
        self.canary = directory / "canary"
        self.names = [
            # Words, since digits may just as well be a part of a room ID.
            "{{ 'water' ~ 'wagtail' }}",
            "{{ lookup('ansible.builtin.pipe', 'touch " + str(self.canary) + "') }}",
            "{% for i in range(3) %}ostrich,{% endfor %}",
            "!unsafe \x1b]0;owned\x07\x1b[2J",
        ]

    def assert_harmless(self, output: str) -> None:
        assert not self.canary.exists(), "a name was templated"
        assert "waterwagtail" not in output and "ostrich,ostrich" not in output, output
        assert "\x1b" not in output and "\x07" not in output, repr(output)
        assert "wagtail" in output and "Traceback" not in output, output


@pytest.fixture(
    params=[
        pytest.param(core, marks=pytest.mark.nightly(category="versions")) if CORES[core] else core for core in CORES
    ]
)
def ansible_playbook(request: pytest.FixtureRequest, ansible_core: Callable[[str, str], str]) -> Path:
    core = request.param
    python = Path(ansible_core(core, CORES[core]) if CORES[core] else sys.executable)
    return python.with_name("ansible-playbook")


@pytest.fixture
def play(ansible_playbook: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs these tasks, each of which may fail; returns all that is shown."""

    def play(connection: dict[str, Any], tasks: list[dict[str, Any]]) -> str:
        content = {
            "hosts": "localhost",
            "gather_facts": False,
            "module_defaults": {"group/matrixops.synapse.synapse": connection},
            "tasks": [{**task, "ignore_errors": True} for task in tasks],
        }
        (tmp_path / "play.json").write_text(json.dumps([content]))
        command = [ansible_playbook, "-i", "localhost,", "-c", "local", "play.json", "-vvv", "--diff", "--check"]
        local = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_PYTHON_INTERPRETER": str(ansible_playbook.with_name("python"))}
        run = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, **local},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return run.stdout.decode()

    return play


SHOW = [
    {
        "ansible.builtin.debug": {"msg": "{{ item.name }} {{ item }}"},
        "loop": "{{ found['users'] | default(found['rooms']) }}",
    },
    {"ansible.builtin.assert": {"that": "false", "fail_msg": "{{ found }}"}},
    {"ansible.builtin.set_fact": {"again": "{{ found | to_json | from_json }}"}},
    {"ansible.builtin.debug": {"msg": "{{ again }}"}},
]


def test_names_of_a_real_server(filled: Federation, play: Callable[..., str], tmp_path: Path) -> None:
    filled.changed = True
    nasty = Nasty(tmp_path)
    retiring, made = filled.retiring, filled.population
    for user_id, name in zip(made.users, nasty.names, strict=False):
        path = f"/_matrix/client/v3/profile/{quote(user_id)}/displayname"
        retiring.call("PUT", path, token=made.tokens[user_id], json={"displayname": name})
    for room, name in zip([made.big_room, made.shared_by_retiring[0]], nasty.names, strict=False):
        retiring.set_state(made.tokens[made.users[0]], room, "m.room.name", {"name": name})
    listings = [
        ("synapse_users_info", {"gather": []}),
        ("synapse_rooms_info", {"local_members": True}),
    ]
    tasks = [
        task
        for module, options in listings
        for task in ({f"matrixops.synapse.{module}": options, "register": "found"}, *SHOW)
    ]
    nasty.assert_harmless(play(filled.connection, tasks))


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[tuple[str, Nasty]]:
    """A homeserver whose accounts are named so, and that refuses the rest in such words."""
    nasty = Nasty(tmp_path)
    users = [
        {"name": f"@{name}:example.org", "admin": 0, "is_guest": 0, "deactivated": 0, "displayname": name}
        for name in nasty.names
    ]

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = 403, {"errcode": nasty.names[0], "error": " ".join(nasty.names)}
            if "whoami" in self.path:
                status, body = 200, {"user_id": "@op:example.org"}
            elif "/v2/users?" in self.path:
                status, body = 200, {"users": users, "total": len(users)}
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", nasty
        server.shutdown()


def test_user_ids_and_errors(stub: tuple[str, Nasty], play: Callable[..., str]) -> None:
    base_url, nasty = stub
    connection = {"base_url": base_url, "access_token": "token", "server_name": "example.org"}
    tasks = [
        {"matrixops.synapse.synapse_users_info": {"gather": []}, "register": "found"},
        *SHOW,
        {"matrixops.synapse.synapse_server_info": {}, "register": "failed"},
        {"ansible.builtin.debug": {"msg": "{{ failed }} {{ failed.msg }}"}},
        # With a diff of their names, and then without check mode, with a reason for each.
        {"matrixops.synapse.synapse_user_deactivate": {"all_users": True}},
        {
            "matrixops.synapse.synapse_user_deactivate": {"all_users": True, "wait_for": "none"},
            "check_mode": False,
            "register": "failed",
        },
        {"ansible.builtin.assert": {"that": "false", "fail_msg": "{{ failed.msg }} {{ failed.failures }}"}},
    ]
    output = play(connection, tasks)
    nasty.assert_harmless(output)
    assert "accounts could not be deactivated" in output
