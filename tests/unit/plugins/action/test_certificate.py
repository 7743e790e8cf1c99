# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.action import certificate as plugin
from ansible_collections.matrixops.synapse.tests.unit.helpers import SERVER, Json

DEFAULTS: Json = {"server_name": SERVER, "stage": None, "state": "written", "settings": {}, "ids": False}
FAILED: Json = {
    "ansible_failed_task": {"name": "Leave", "no_log": False},
    "ansible_failed_result": {"failed": True, "msg": "403: {{ 1 }}"},
}

Certify = Callable[..., Json]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "reports"


@pytest.fixture
def certify(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Certify:
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})

    def run(variables: Json | None = None, *, check_mode: bool = False, **options: Any) -> Json:
        action = plugin.ActionModule.__new__(plugin.ActionModule)
        action._task = SimpleNamespace(check_mode=check_mode)
        action._templar = SimpleNamespace(template=lambda value: value)
        arguments = {**DEFAULTS, "server_names": [], "directory": str(directory), **options}
        action.validate_argument_spec = lambda _spec, **_more: (None, arguments)
        return dict(action.run(task_vars=variables))

    return run


def read(directory: Path, name: str = SERVER) -> Json:
    found: Json = json.loads((directory / f"{name}.json").read_text())
    return found


def results(certificate: Json) -> list[tuple[str, str]]:
    return [(stage["stage"], attempt["result"]) for stage in certificate["stages"] for attempt in stage["attempts"]]


def test_there_is_none_before_the_server_was_seen_to_be_the_right_one(certify: Certify, directory: Path) -> None:
    began = certify(stage="preflight", state="started")
    assert "path" not in began
    failed = certify(FAILED, state="failed")
    assert (failed["failed"], failed["msg"]) == (True, "403: {{ 1 }}")
    certify(state="written")
    assert not directory.exists()
    done = certify({"_decommission_certificate": {"began": 7}}, stage="preflight", state="done")
    assert done["path"] == str(directory / f"{SERVER}.json")
    assert read(directory)["stages"][0]["attempts"][0]["started"] == 7


@pytest.mark.parametrize("options", [{"stage": "drain", "state": "started"}, {"state": "written"}])
def test_check_mode_writes_nothing(certify: Certify, directory: Path, options: Json) -> None:
    certify(check_mode=True, **options)
    assert not directory.exists()


def test_in_check_mode_a_failure_is_one(certify: Certify) -> None:
    assert certify(FAILED, check_mode=True, state="failed")["failed"]


def test_a_failure_stays_one_and_belongs_to_the_stage_that_was_under_way(certify: Certify, directory: Path) -> None:
    certify(stage="preflight", state="done")
    certify(stage="drain", state="started")
    failed = certify(FAILED, state="failed")
    assert failed == {"changed": True, "failed": True, "msg": "403: {{ 1 }}"}
    assert results(read(directory)) == [("preflight", "done"), ("drain", "failed")]
    assert read(directory)["stages"][1]["attempts"][0]["reason"] == "403: {{ 1 }}"
    assert read(directory)["state"] == "failed"


def test_facts_in_an_odd_shape_do_not_hide_a_failure(certify: Certify) -> None:
    certify(stage="drain", state="started")
    odd = {"_decommission_drain": {"deactivated": 1, "parted": 1, "timeline": 1, "not_parted": 7}}
    assert certify({**FAILED, **odd}, state="failed")["msg"] == "403: {{ 1 }}"


def test_nothing_hides_a_failure(certify: Certify, monkeypatch: pytest.MonkeyPatch) -> None:
    certify(stage="drain", state="started")

    def breaks(_certificate: Json) -> str:
        raise KeyError("tail")

    monkeypatch.setattr(plugin._page, "certificate_page", breaks)
    result = certify(FAILED, state="failed")
    assert result["failed"] and result["msg"].startswith("403: {{ 1 }} (")
    with pytest.raises(KeyError):
        certify(stage="drain", state="done")


def test_without_a_name_nothing_is_recorded(certify: Certify, directory: Path) -> None:
    certify(stage="drain", state="started")
    before = read(directory)
    assert certify(FAILED, state="failed", server_name="")["failed"]
    assert read(directory) == before


def test_a_kill_is_seen_by_the_next_run(certify: Certify, directory: Path) -> None:
    certify(stage="preflight", state="done")
    certify(stage="drain", state="started")
    certify(stage="preflight", state="started")
    assert results(read(directory)) == [("preflight", "done"), ("preflight", "started"), ("drain", "interrupted")]


@pytest.mark.parametrize(
    ("failed", "reason"),
    [
        ({"ansible_failed_task": {"name": "N", "no_log": True}, "ansible_failed_result": {"msg": "s3cret"}}, "'N'"),
        ({"ansible_failed_result": {"censored": "hidden", "msg": "s3cret"}}, "no_log"),
        ({"ansible_failed_result": {"msg": "One or more", "results": [{"failed": True, "msg": "why"}]}}, "why"),
        ({"ansible_failed_task": {"name": "N"}, "ansible_failed_result": {}}, "The task 'N' failed"),
        ({}, "failed"),
    ],
)
def test_reasons(certify: Certify, failed: Json, reason: str) -> None:
    message = certify(failed, state="failed")["msg"]
    assert reason in message and "s3cret" not in message


def test_no_secret_is_written(certify: Certify, directory: Path) -> None:
    secrets = {
        "decommission_access_token": "syt_token",
        "decommission_login_password": "correct horse",
        "_decommission_session": {"access_token": "syt_session"},
    }
    certify(stage="drain", state="started")
    message = "syt_token syt_session correct horse"
    certify({**secrets, "ansible_failed_result": {"msg": message}}, state="failed", settings={"a": message})
    text = "".join(path.read_text() for path in directory.iterdir())
    assert "******** ******** ********" in text
    assert not [secret for secret in ("syt_token", "syt_session", "correct horse") if secret in text]


def test_what_is_in_the_way_is_set_aside(certify: Certify, directory: Path) -> None:
    directory.mkdir()
    (directory / f"{SERVER}.json").write_text("precious")
    result = certify(stage="preflight", state="done")
    assert Path(result["aside"]).read_text() == "precious"
    assert read(directory)["state"] == "begun"


@pytest.mark.parametrize("state", ["started", "done", "failed"])
def test_what_cannot_be_written_fails(certify: Certify, directory: Path, state: str) -> None:
    directory.write_text("no directory")
    result = certify(FAILED, stage="drain", state=state)
    assert result["failed"] and ("can't be written" in result["msg"] or "403" in result["msg"])


def test_fleet(certify: Certify, directory: Path) -> None:
    assert certify(state="fleet", server_names=[SERVER], server_name=None)["servers"] == [
        f"{SERVER}: there is no certificate"
    ]
    for name in (SERVER, "<b>.example"):
        assert not (directory / "fleet.html").exists()
        certify(stage="preflight", state="done", server_name=name)
    assert "<b>.example" not in (directory / "fleet.html").read_text()
    result = certify(state="fleet", server_names=[SERVER, "<b>.example", "other.org"], server_name=None)
    assert result["summary"] == "3 servers: 2 not finished, 1 without a certificate"
    assert result["changed"] is False
