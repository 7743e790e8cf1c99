# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module by hand: ansible localhost -m matrixops.synapse.matrix_ghosts_info, on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from stubs.answers import Answer
from stubs.remote_server import RemoteServer
from stubs.rooms import Room

from .conftest import StartServer

GENEROUS = 120.0


class Terminal:
    """A command on a terminal of its own, whose output is read as it comes."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.output = ""
        self._changed = threading.Condition()
        self._ended = False
        ours, its = pty.openpty()
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=its, stderr=its, start_new_session=True
        )
        os.close(its)
        threading.Thread(target=self._read, args=[ours], daemon=True).start()

    def _read(self, ours: int) -> None:
        with os.fdopen(ours, "rb", buffering=0) as stream:
            while True:
                try:
                    piece = stream.read(65536)
                except OSError:  # how a terminal ends
                    piece = b""
                with self._changed:
                    self.output += (piece or b"").decode(errors="replace").replace("\r\n", "\n")
                    self._ended = not piece
                    self._changed.notify_all()
                if not piece:
                    return

    def wait_for(self, pattern: str) -> re.Match[str] | None:
        """The first place where the output is like this; C(None) if the command ends without it."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self.output, re.MULTILINE)

        with self._changed:
            assert self._changed.wait_for(lambda: found() or self._ended, GENEROUS), self.output
            return found()

    def status(self) -> int:
        return self._process.wait(GENEROUS)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def us(remote: StartServer) -> RemoteServer:
    return remote()


def command(us: RemoteServer, options: Mapping[str, object], *arguments: str) -> list[str]:
    ansible = str(Path(sys.executable).with_name("ansible"))
    every = {"server_name": us.server_name, "ip_allowlist": ["127.0.0.1", "::1"], "timeout": 600, **options}
    return [ansible, "localhost", "-m", "matrixops.synapse.matrix_ghosts_info", "-a", json.dumps(every), *arguments]


def environment(home: Path) -> dict[str, str]:
    given = {"ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_NOCOLOR": "true", "HOME": str(home)}
    return {**os.environ, **given, "ANSIBLE_LOCAL_TEMP": str(home / "tmp"), "ANSIBLE_REMOTE_TEMP": str(home / "tmp")}


def test_asking_and_progress(us: RemoteServer, remote: StartServer, ca_file: str, tmp_path: Path) -> None:
    alice = f"@alice:{us.server_name}"
    room = Room({alice: "join"})
    server = remote(room)
    server.known_keys[us.server_name] = us.key.key_answer()
    seen = threading.Event()

    def held(normal: Callable[[], Answer]) -> Answer:
        assert seen.wait(GENEROUS)
        return normal()

    server.inject("state_ids", held)
    key = tmp_path / "signing.key"
    key.write_text(us.key.key_file)
    rooms = [{"room_id": room.room_id, "servers": [server.server_name], "accounts": [alice]}]
    options = {"signing_key_path": str(key), "rooms": rooms, "ca_path": ca_file}
    terminal = Terminal(command(us, options, "-vvvv"), environment(tmp_path))
    try:
        shown = terminal.wait_for(r"^localhost: 0 of 1 pairs of server and room checked; time left unknown$")
        seen.set()
        assert terminal.status() == 0, terminal.output
        assert shown, terminal.output
        assert terminal.wait_for(rf'"user_id": "{alice}"')
        assert us.key.key_file.split()[2] not in terminal.output
    finally:
        seen.set()
        terminal.close()


def test_a_failure(us: RemoteServer, tmp_path: Path) -> None:
    process = subprocess.run(
        command(us, {"rooms": [], "signing_key_path": "/nonexistent/key"}),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    message = "signing_key_path: /nonexistent/key: No such file or directory: set it to the signing_key_path of"
    assert message in process.stdout + process.stderr
    assert "Traceback" not in process.stdout + process.stderr
