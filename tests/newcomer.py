# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Follow the README to the letter, as somebody would who has nothing yet: ``make newcomer``.

A fresh clone, a fresh virtual environment with ansible-core and what the modules need, and a real homeserver. Each
command of the README's section is typed at a terminal, and what it asks is answered. Only where things are reached is
said elsewhere, in ``host_vars``, since matrix.example.org is not to be had.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
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
SECTION = "## Retire your own server"
PASSWORD = "vault-password"
VAULT = {"ew Vault password": f"{PASSWORD}\n"}  # twice
UNLOCK = {"Vault password:": f"{PASSWORD}\n"}
TIMEOUT = 300

#: A file of tasks that powers nothing off.
MARK = [{"name": "Leave a mark", "ansible.builtin.file": {"path": "{{ mark }}", "state": "touch", "mode": "0600"}}]


def main() -> int:
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="newcomer-") as name,
        Lab(ROOT / ".cache/tests/newcomer", base_port=BASE_PORT) as lab,
    ):
        retiring, staying = lab["a"], lab["b"]
        populate(retiring, staying, users=6, big_room=6)
        Newcomer(Path(name), retiring, staying).follow()
    print(f"All of it works, in {time.monotonic() - started:.0f} s.")
    return 0


def blocks(section: str) -> Iterator[tuple[str, str]]:
    """The examples of a section of the README, in their order: language and text."""
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"^{section}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    if not found:
        raise SystemExit(f"the README has no section {section}")
    for indent, language, body in re.findall(r"^( *)```(\w+)\n(.*?)^ *```$", found[1], re.MULTILINE | re.DOTALL):
        yield language, re.sub(f"^{indent}", "", body, flags=re.MULTILINE)


class Newcomer:
    def __init__(self, directory: Path, retiring: Homeserver, staying: Homeserver) -> None:
        self.directory, self.retiring, self.staying = directory, retiring, staying
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
            # The address in the README leads to this checkout.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.file://{origin}.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://github.com/matrixops/synapse.git",
        }

    def follow(self) -> None:
        """All blocks of the section, one after the other."""
        token = ""
        for language, text in blocks(SECTION):
            if language == "yaml":
                self.write_inventory(text, token)
            for line in text.splitlines() if language == "console" else ():
                output = self.command(line.removeprefix("$ "))
                if "encrypt_string" in line:
                    found = re.search(r"decommission_access_token: !vault \|\r\n( +\S+\r\n)+", output)
                    assert found, output
                    token = found[0]
        if not self.mark.exists():
            raise SystemExit("the server is not off")

    def command(self, command: str) -> str:
        """Do as the README says, and see that it had the effect."""
        print(f"$ {command}", flush=True)
        match command.split():
            case ["ansible-galaxy", "collection", "install", source]:
                if source.endswith(".tar.gz"):  # in place of what was installed before
                    subprocess.run(["rm", "-r", self.directory / ".ansible/collections"], check=True)
                output = self.type(command, {})
                assert "matrixops.synapse" in self.type("ansible-galaxy collection list", {})
            case ["ansible-galaxy", "collection", "build"]:
                output = self.type(command, {})
            case ["ansible-vault", *_]:
                answers = {**VAULT, "Reading plaintext input": f"{self.retiring.admin_token}\x04\x04"}
                output = self.type(command, answers)
            case ["ansible-playbook", *_, "--check"]:
                before = self.ghosts()
                output = self.type(command, UNLOCK)
                assert self.ghosts() == before > 0 and not self.mark.exists(), output
            case ["ansible-playbook", *_, "matrixops.synapse.decommission"]:
                output = self.type(command, UNLOCK)
                assert self.mark.exists(), output
                assert f"{self.staying.server_name}: " in output, output
                wait_until(lambda: not self.ghosts(), "the other server lists nobody")
            case ["ansible-playbook", *_, "matrixops.synapse.status"]:
                output = self.type(command, UNLOCK)
            case _:
                raise SystemExit(f"it is not known here how to see that this has worked: {command}")
        assert self.retiring.admin_token not in output or "encrypt_string" in command
        return output

    def ghosts(self) -> int:
        """How many memberships of the retiring server the other one sees."""
        return sum(map(len, self.staying.members_of(self.retiring.server_name).values()))

    def write_inventory(self, text: str, token: str) -> None:
        """The README's, with the token that ansible-vault has printed; and what is not as in the README."""
        start, variable, _token = text.partition("decommission_access_token:")
        assert variable and token
        (self.clone / "inventory.yml").write_text(start + token.replace("\r\n", "\n"))
        tasks = self.directory / "mark.json"
        tasks.write_text(json.dumps(MARK))
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(self.python),
            **self.retiring.role_variables,
            "decommission_propagation_period": "3s",
            "decommission_poll_interval": 1,
            "decommission_power_off_tasks": str(tasks),
            "mark": str(self.mark),
        }
        del variables["decommission_access_token"]
        file = self.clone / "host_vars/matrix.example.org.json"
        file.parent.mkdir()
        file.write_text(json.dumps(variables))

    def type(self, command: str, answers: Mapping[str, str]) -> str:
        """Run a command at a terminal, answer each question (by a part of it), and return what the terminal shows."""
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
