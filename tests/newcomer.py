# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the commands of CONTRIBUTING.md and README.md that install and use the collection: ``make newcomer``.

A fresh clone, a fresh virtual environment with ansible-core and the requirements of the modules, and a real homeserver.
Each command is typed at a terminal, and its prompts are answered. Only the addresses differ: ``host_vars`` sets them,
because matrix.example.org does not exist.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from compatibility.environments import ROOT, make_origin
from lab import Homeserver, Lab, populate
from lab.waiting import wait_until

BASE_PORT = 18735
SECTIONS = (("CONTRIBUTING.md", "## Build and install"), ("README.md", "## Quick start"))
"""Pages and headings, in the order in which their commands are typed."""
PASSWORD = "vault-password"
VAULT = {"ew Vault password": f"{PASSWORD}\n"}  # twice
UNLOCK = {"Vault password:": f"{PASSWORD}\n"}
TIMEOUT = 300

#: A file of tasks that powers nothing off.
MARK = [{"name": "Create a mark", "ansible.builtin.file": {"path": "{{ mark }}", "state": "touch", "mode": "0600"}}]


def main() -> int:
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="newcomer-") as name,
        Lab(ROOT / ".cache/tests/newcomer", base_port=BASE_PORT) as lab,
    ):
        homeserver, remote = lab["a"], lab["b"]
        populate(homeserver, remote, users=6, big_room=6)
        Newcomer(Path(name), homeserver, remote).follow()
    print(f"All commands work, in {time.monotonic() - started:.0f} s.")
    return 0


def blocks(page: str, section: str) -> Iterator[tuple[str, str]]:
    """The examples of a section of a page, in their order: language and text."""
    text = (ROOT / page).read_text()
    found = re.search(rf"^{section}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    if not found:
        raise SystemExit(f"{page} has no section {section}")
    for indent, language, body in re.findall(r"^( *)```(\w+)\n(.*?)^ *```$", found[1], re.MULTILINE | re.DOTALL):
        yield language, re.sub(f"^{indent}", "", body, flags=re.MULTILINE)


def sample_pattern(line: str) -> str:
    """A regular expression for a line of a sample output: numbers and the server name may differ.

    A line may be cut off with three dots. The server here is left running, which the output says.
    """
    pattern = re.escape(line.removesuffix("...").rstrip()).replace(re.escape("example.org"), r"\S+")
    pattern = pattern.replace(re.escape("powered off;"), re.escape("powered off (not verified);"))
    return re.sub(r"(server|account)s\b", r"\1s?", re.sub(r"\d[\d,]*", r"\\d[\\d,]*", pattern))


class Newcomer:
    def __init__(self, directory: Path, homeserver: Homeserver, remote: Homeserver) -> None:
        self.directory, self.homeserver, self.remote = directory, homeserver, remote
        origin, self.clone, environment = (directory / name for name in ("origin", "clone", "venv"))
        make_origin(origin)
        subprocess.run(["git", "clone", "--quiet", origin, self.clone], check=True)
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        pip = ["pip", "install", "--quiet", "--disable-pip-version-check"]
        needed = ["ansible-core", "requests", "signedjson", "dnspython"]
        subprocess.run([environment / "bin/python", "-m", *pip, *needed], check=True)
        self.python = environment / "bin/python"
        self.mark = directory / "off"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "HOME": str(directory),
            "PATH": os.pathsep.join([str(environment / "bin"), os.environ["PATH"]]),
            "ANSIBLE_NOCOLOR": "1",
            # The address in the README is replaced by this checkout.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.file://{origin}.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://github.com/matrixops/synapse.git",
        }

    def follow(self) -> None:
        """Type the commands of all sections, one after the other, and compare their output with the samples."""
        token = output = ""
        for language, text in (block for section in SECTIONS for block in blocks(*section)):
            if language == "yaml":
                self.write_inventory(text, token)
            for line in text.splitlines() if language == "text" else ():
                if not re.search(sample_pattern(line), output):
                    raise SystemExit(f"the output has no line like this sample: {line}\n{output}")
            for line in text.splitlines() if language == "console" else ():
                output = self.command(line.removeprefix("$ "))
                if "encrypt_string" in line:
                    found = re.search(r"decommission_access_token: !vault \|\r\n( +\S+\r\n)+", output)
                    assert found, output
                    token = found[0]
        if not self.mark.exists():
            raise SystemExit("the power-off tasks did not run")

    def command(self, command: str) -> str:
        """Type a command, and check its effect."""
        print(f"$ {command}", flush=True)
        match command.split():
            case ["ansible-galaxy", "collection", "install", _source]:
                # ansible-galaxy does not replace an installed collection.
                shutil.rmtree(self.directory / ".ansible/collections", ignore_errors=True)
                output = self.type(command, {})
                assert "matrixops.synapse" in self.type("ansible-galaxy collection list", {})
            case ["ansible-galaxy", "collection", "build"]:
                output = self.type(command, {})
            case ["ansible-vault", *_]:
                answers = {**VAULT, "Reading plaintext input": f"{self.homeserver.admin_token}\x04\x04"}
                output = self.type(command, answers)
            case ["ansible-playbook", *_, "--check"]:
                before = self.ghosts()
                output = self.type(command, UNLOCK)
                assert self.ghosts() == before > 0 and not self.mark.exists(), output
            case ["ansible-playbook", *_, "matrixops.synapse.decommission"]:
                output = self.type(command, UNLOCK)
                assert self.mark.exists(), output
                assert f"{self.remote.server_name}: " in output, output
                wait_until(lambda: not self.ghosts(), "the remote server lists no account")
            case ["ansible-playbook", *_, "matrixops.synapse.status"]:
                output = self.type(command, UNLOCK)
            case _:
                raise SystemExit(f"no check is defined for this command: {command}")
        assert self.homeserver.admin_token not in output or "encrypt_string" in command
        return output

    def ghosts(self) -> int:
        """The number of memberships that the remote server lists."""
        return sum(map(len, self.remote.members_of(self.homeserver.server_name).values()))

    def write_inventory(self, text: str, token: str) -> None:
        """The inventory of the README, with the token that ansible-vault has printed, and the addresses of the lab."""
        start, variable, _token = text.partition("decommission_access_token:")
        assert variable and token
        (self.clone / "inventory.yml").write_text(start + token.replace("\r\n", "\n"))
        tasks = self.directory / "mark.json"
        tasks.write_text(json.dumps(MARK))
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(self.python),
            **self.homeserver.role_variables,
            "decommission_propagation_period": "3s",
            "decommission_poll_interval": 1,
            "decommission_power_off_tasks": str(tasks),
            # These tasks leave the homeserver running.
            "decommission_power_off_timeout": 0,
            "mark": str(self.mark),
        }
        del variables["decommission_access_token"]
        file = self.clone / "host_vars/matrix.example.org.json"
        file.parent.mkdir()
        file.write_text(json.dumps(variables))

    def type(self, command: str, answers: Mapping[str, str]) -> str:
        """Run a command at a terminal, answer each prompt (found by a part of it), and return the output."""
        process, terminal = pty.fork()
        if not process:
            os.chdir(self.clone)
            os.execvpe("sh", ["sh", "-c", command], self.environment)  # noqa: S606
        output = unanswered = ""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                read = os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # the end, on Linux
                break
            output += read
            unanswered += read
            for question, answer in answers.items():
                if question in unanswered:
                    unanswered = unanswered.partition(question)[2]
                    os.write(terminal, answer.encode())
        else:
            os.kill(process, 15)
            raise SystemExit(f"{command} does not end:\n{output}")
        if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
            raise SystemExit(f"{command} failed:\n{output}")
        return output


if __name__ == "__main__":
    sys.exit(main())
