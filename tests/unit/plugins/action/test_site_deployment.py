# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.action import site_deployment as plugin
from ansible_collections.matrixops.synapse.plugins.module_utils._site_release import TASK_OPTIONS
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import deployment, layout
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.site import Room, Site
from ansible_collections.matrixops.synapse.tests.stubs.helpers import SERVER, Json

Make = Callable[..., Json]
NAME = "site_deployment"
KEYS: Json = {"verify_keys": {"ed25519:new": {}}}


class Host:
    """A host whose modules run in this process, and whose files are copies."""

    def __init__(self, run: Callable[..., Json], directory: Path) -> None:
        self._run = run
        self._directory = directory
        self.calls: list[Json] = []
        self.check_mode = False
        self._shell = SimpleNamespace(join_path=os.path.join)

    def execute_module(self, *, module_args: Json, task_vars: Json) -> Json:
        self.calls.append(module_args)
        return self._run(NAME, module_args, bare=True, check=self.check_mode)

    def make_tmp_path(self) -> str:
        self._directory.mkdir()
        return str(self._directory)

    def remove_tmp_path(self, path: str) -> None:
        for file in Path(path).iterdir():
            file.unlink()
        Path(path).rmdir()

    @staticmethod
    def transfer_file(local: str, remote: str) -> None:
        Path(remote).write_bytes(Path(local).read_bytes())

    @property
    def transfers(self) -> int:
        return len([call for call in self.calls if call.get("archive")])


@pytest.fixture
def host(run: Callable[..., Json], tmp_path: Path) -> Host:
    return Host(run, tmp_path / "remote_tmp")


@pytest.fixture
def served(tmp_path: Path) -> Path:
    return tmp_path / f"served/{SERVER}-site"


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of nginx, of which there is a stand-in."""
    directory = tmp_path / "conf.d"
    directory.mkdir()
    path = directory / f"00-{SERVER}-site.conf"
    monkeypatch.setattr(deployment, "NGINX_CONF_D", str(directory))
    monkeypatch.setattr(deployment, "TEST", ["sh", "-c", f"! grep refused {path}"])
    monkeypatch.setattr(deployment, "RELOAD", ["sh", "-c", f"echo reload >>{tmp_path}/reloads"])
    return path


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: Host, served: Path, conf: Path, ca: Any) -> Make:
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
    issued = ca.issue_cert(SERVER)
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "a.crt"))
    issued.private_key_pem.write_to_path(str(tmp_path / "a.key"))

    def make(check_mode: bool = False, **options: Any) -> Json:
        action: Any = plugin.ActionModule.__new__(plugin.ActionModule)
        action._task = SimpleNamespace(check_mode=check_mode)
        action._connection = host
        action._execute_module = host.execute_module
        action._make_tmp_path, action._remove_tmp_path = host.make_tmp_path, host.remove_tmp_path
        action._transfer_file, action._fixup_perms2 = host.transfer_file, lambda _paths: None
        arguments = {name: option.get("default") for name, option in TASK_OPTIONS.items()}
        arguments.update(directory=str(site_path(tmp_path)), path=str(served.parent))
        arguments.update(tls_certificate=str(tmp_path / "a.crt"), tls_certificate_key=str(tmp_path / "a.key"))
        action.validate_argument_spec = lambda _spec, **_more: (None, {**arguments, **options})
        host.check_mode = check_mode
        return dict(action.run(task_vars={}))

    return make


def site_path(directory: Path) -> Path:
    return layout.site_path(str(directory), SERVER)


def write(directory: Path, *names: str) -> None:
    rooms = tuple(Room(f"!{number}:x", ("b.example",), (name,)) for number, name in enumerate(names))
    layout.write(site_path(directory), Site(SERVER, KEYS, rooms, 1, "0123456789abcdef"))


def reloads(directory: Path) -> int:
    path = directory / "reloads"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_new_site(make: Make, host: Host, tmp_path: Path, served: Path, conf: Path) -> None:
    write(tmp_path, f"#a:{SERVER}")
    would = make(check_mode=True)
    changes = [str(served / "current"), str(conf)]
    assert (would["changed"], would["changes"], host.transfers) == (True, changes, 0)
    assert not served.exists() and not conf.exists()

    done = make()
    assert (done["changed"], done["changes"], host.transfers, reloads(tmp_path)) == (True, changes, 1, 1)
    assert (done["server_name"], done["aliases"], done["key_id"]) == (SERVER, 1, "ed25519:new")
    assert (served / "current/www/rooms/1.json").exists() and conf.exists()
    assert not (tmp_path / "remote_tmp").exists(), "the archive is removed"

    for check_mode in (True, False):
        again = make(check_mode=check_mode)
        assert (again["changed"], again["changes"], host.transfers, reloads(tmp_path)) == (False, [], 1, 1)


def test_another_configuration(make: Make, host: Host, tmp_path: Path, conf: Path) -> None:
    """The site is not transferred again."""
    write(tmp_path)
    make()
    done = make(acme_webroot="/acme")
    assert (done["changes"], host.transfers, reloads(tmp_path)) == ([str(conf)], 1, 2)


def test_a_configuration_that_is_refused(make: Make, host: Host, tmp_path: Path, served: Path, conf: Path) -> None:
    write(tmp_path, f"#a:{SERVER}")
    make()
    before = conf.read_text(), os.readlink(str(served / "current"))
    write(tmp_path, f"#b:{SERVER}")
    result = make(acme_webroot="/refused")
    assert result["failed"] and not result["changed"] and result["msg"].startswith("No changes made: sh -c ! grep")
    assert (conf.read_text(), os.readlink(str(served / "current"))) == before and reloads(tmp_path) == 1
    assert not (tmp_path / "remote_tmp").exists()


def test_the_certificate_is_of_another_key(make: Make, host: Host, tmp_path: Path, served: Path, ca: Any) -> None:
    write(tmp_path)
    ca.issue_cert("x.example").private_key_pem.write_to_path(str(tmp_path / "b.key"))
    result = make(tls_certificate_key=str(tmp_path / "b.key"))
    assert result["failed"] and "are not a TLS certificate and its private key" in result["msg"]
    assert host.transfers == 0 and not served.exists()


def test_a_certificate_that_is_not_there_yet(make: Make, tmp_path: Path) -> None:
    """In check mode, the role has not copied it."""
    write(tmp_path)
    missing = {"tls_certificate": str(tmp_path / "no.crt"), "tls_certificate_key": str(tmp_path / "no.key")}
    assert make(check_mode=True, **missing)["changed"]
    assert "are not a TLS certificate" in make(**missing)["msg"]


def test_a_file_system_that_is_full(make: Make, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the site is transferred."""
    write(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=1000))
    result = make()
    assert result["failed"] and "free some space, or set site_path" in result["msg"] and host.transfers == 0


def test_what_is_no_site(make: Make, host: Host, tmp_path: Path) -> None:
    result = make()
    assert result["failed"] and not result["changed"] and "has no site.json: set site_directory" in result["msg"]
    write(tmp_path)
    assert "is the site of example.org, not of b.example" in make(server_name="b.example")["msg"]
    (site_path(tmp_path) / "www/x").write_text("x")
    assert "they were changed later" in make()["msg"]
    assert host.calls == []


def test_a_file_that_cannot_be_read_any_more(
    make: Make, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)

    def vanished(*_arguments: Any) -> None:
        raise FileNotFoundError("index.html")

    monkeypatch.setattr(deployment, "write_archive", vanished)
    result = make()
    assert result["failed"] and result["msg"] == "cannot transfer the site: index.html" and host.transfers == 0
