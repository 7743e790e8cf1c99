# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible import constants, context
from ansible.errors import AnsibleError
from ansible.module_utils.common.collections import ImmutableDict
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _gate_ticket as ticket

HOST, SERVER = "matrix.example.org", "example.org"


@pytest.fixture(autouse=True)
def _run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))


@pytest.mark.parametrize("is_open", [True, False])
def test_a_ticket_of_this_run(is_open: bool) -> None:
    ticket.write(HOST, SERVER, is_open=is_open)
    assert ticket.is_open(HOST, SERVER) is is_open


def test_without_a_ticket_it_is_refused() -> None:
    with pytest.raises(AnsibleError, match="the gate has not been passed"):
        ticket.is_open(HOST, SERVER)


def test_a_ticket_that_was_removed() -> None:
    ticket.write(HOST, SERVER, is_open=True)
    ticket.remove(HOST)
    ticket.remove(HOST)
    with pytest.raises(AnsibleError, match="the gate has not been passed"):
        ticket.is_open(HOST, SERVER)


@pytest.mark.parametrize(("host", "server"), [("other", SERVER), (HOST, "other.example")])
def test_a_ticket_of_another_host_or_server(host: str, server: str) -> None:
    ticket.write(HOST, SERVER, is_open=True)
    with pytest.raises(AnsibleError, match="Refused to power off"):
        ticket.is_open(host, server)


@pytest.mark.parametrize("age", [ticket.VALID_FOR + 1, -60.0])
def test_an_old_ticket(monkeypatch: pytest.MonkeyPatch, age: float) -> None:
    ticket.write(HOST, SERVER, is_open=True)
    later = time.time() + age
    monkeypatch.setattr("time.time", lambda: later)
    with pytest.raises(AnsibleError, match="run the stage power_off again"):
        ticket.is_open(HOST, SERVER)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"host": 1}'])
def test_a_ticket_that_makes_no_sense(tmp_path: Path, content: str) -> None:
    ticket.write(HOST, SERVER, is_open=True)
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    with pytest.raises(AnsibleError, match="Refused to power off"):
        ticket.is_open(HOST, SERVER)


def test_a_ticket_is_private_and_follows_no_link(tmp_path: Path) -> None:
    ticket.write(HOST, SERVER, is_open=True)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o077 == 0
    path.unlink()
    path.symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        ticket.write(HOST, SERVER, is_open=True)
    assert not os.path.exists(tmp_path / "target")


@pytest.mark.parametrize("given", ["_decommission_period=0", '{"_decommission_gate": {"open": true}}'])
def test_internal_variables_on_the_command_line_are_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(extra_vars=("decommission_erase=false", given)))
    # Ansible reads them once, and keeps them.
    monkeypatch.delattr("ansible.utils.vars.load_extra_vars.extra_vars", raising=False)
    with pytest.raises(AnsibleError, match="only the role itself sets variables that begin with _decommission_"):
        ticket.refuse_internal_variables()


def test_other_variables_on_the_command_line_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(extra_vars=("decommission_erase=false",)))
    monkeypatch.delattr("ansible.utils.vars.load_extra_vars.extra_vars", raising=False)
    ticket.refuse_internal_variables()
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict())
    ticket.refuse_internal_variables()
