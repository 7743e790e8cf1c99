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
from ansible_collections.matrixops.synapse.tests.stubs.helpers import SERVER, Json

DEFAULTS: Json = {"server_name": SERVER, "stage": None, "state": "written", "settings": {}, "ids": False}
SHOWN: Json = {"show": [], "show_summary": False, "server_names": [], "power_off_by_hand": ""}
RUNNING: Json = {"_decommission_certificate": {"running": "drain", "path": "x"}}
FAILED: Json = {**RUNNING, "_decommission_drain": {"failed": True, "msg": "403: {{ 1 }}"}}

Certify = Callable[..., Json]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "reports"


@pytest.fixture
def certify(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Certify:
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})

    def run(variables: Json | None = None, *, check_mode: bool = False, no_log: bool = False, **options: Any) -> Json:
        action = plugin.ActionModule.__new__(plugin.ActionModule)
        action._task = SimpleNamespace(check_mode=check_mode, no_log=no_log)
        action._templar = SimpleNamespace(template=lambda value: value)
        arguments = {**DEFAULTS, **SHOWN, "directory": str(directory), **options}
        action.validate_argument_spec = lambda _spec, **_more: (None, arguments)
        return dict(action.run(task_vars=variables))

    return run


def read(directory: Path, name: str = SERVER) -> Json:
    found: Json = json.loads((directory / f"{name}.json").read_text())
    return found


def results(certificate: Json) -> list[tuple[str, str]]:
    return [(stage["stage"], attempt["result"]) for stage in certificate["stages"] for attempt in stage["attempts"]]


def test_there_is_none_before_the_server_name_was_checked(certify: Certify, directory: Path) -> None:
    started = certify(stage="preflight", state="started")
    assert "path" not in started and started["started_at"] > 1_700_000_000
    failed = certify({"_decommission_check": {"failed": True, "msg": "wrong"}})
    assert "failed" not in failed and "failed_stage" not in failed
    certify(state="written")
    assert not directory.exists()
    done = certify({"_decommission_certificate": {"started_at": 7}}, stage="preflight", state="done")
    assert done["path"] == str(directory / f"{SERVER}.json")
    assert read(directory)["stages"][0]["attempts"][0]["started"] == 7


@pytest.mark.parametrize("options", [{"stage": "drain", "state": "started"}, {"state": "written"}])
def test_check_mode_writes_nothing(certify: Certify, directory: Path, options: Json) -> None:
    certify(check_mode=True, **options)
    assert not directory.exists()


def test_a_failure_is_recorded_for_the_current_stage(certify: Certify, directory: Path) -> None:
    certify(stage="preflight", state="done")
    assert certify(stage="drain", state="started")["running"] == "drain"
    result = certify(FAILED)
    assert result["failed_stage"] == "drain" and "failed" not in result
    # The error itself has been shown before.
    assert "403: {{ 1 }}" in result["summary"]
    assert result["msg"] == [f"{SERVER}: failed; 0 failures", f"the failure is recorded in {directory / SERVER}.html"]
    assert results(read(directory)) == [("preflight", "done"), ("drain", "failed")]
    assert read(directory)["stages"][1]["attempts"][0]["reason"] == "403: {{ 1 }}"
    assert read(directory)["state"] == "failed"


def test_admins_are_deactivated_before_the_power_off(certify: Certify, directory: Path) -> None:
    by_hand = {"power_off_by_hand": "systemctl poweroff on h"}
    running = certify(stage="power_off", state="started")
    certify(stage="power_off", state="admins_started", **by_hand)
    assert results(read(directory)) == [("power_off", "started")]
    killed = certify({"_decommission_check": {"failed": True, "msg": "401"}})
    assert "If the access token of the operator still works, run again" in killed["msg"][1]
    certify(stage="power_off", state="started")
    certify(stage="power_off", state="admins_ended", **by_hand)
    failed = certify(
        {"_decommission_certificate": running, "_decommission_host_off": {"failed": True, "msg": "still on"}}
    )
    assert failed["msg"][1].endswith("If it is not, power off by hand: systemctl poweroff on h")
    assert read(directory)["admins"]["ended"] >= read(directory)["admins"]["started"]
    certify(stage="power_off", state="started")
    certify(stage="power_off", state="done")
    assert "admins" not in {finding["kind"] for finding in read(directory)["findings"]}


def test_a_run_without_a_failure_records_none(certify: Certify, directory: Path) -> None:
    certify(stage="drain", state="started")
    done = certify(stage="drain", state="done")
    assert "running" not in done
    assert "failed_stage" not in certify({"_decommission_drain": {"failed": False}, "_decommission_certificate": done})
    assert results(read(directory)) == [("drain", "done")]


def test_malformed_results_do_not_hide_a_failure(certify: Certify, directory: Path) -> None:
    certify(stage="drain", state="started")
    malformed = {"_decommission_drain": {"deactivated": 1, "left_all_rooms": 1, "timeline": 1, "still_joined": 7}}
    with pytest.raises(TypeError):
        certify(malformed, stage="drain", state="done")
    certify({**RUNNING, **malformed, "_decommission_check": {"failed": True, "msg": "why"}})
    assert read(directory)["stages"][0]["attempts"][0]["reason"] == "why"


def test_an_unexpected_error_is_raised_unless_the_run_has_failed(
    certify: Certify, monkeypatch: pytest.MonkeyPatch
) -> None:
    certify(stage="drain", state="started")

    def breaks(_certificate: Json) -> str:
        raise KeyError("tail")

    monkeypatch.setattr(plugin.page, "certificate_page", breaks)
    result = certify(FAILED)
    assert result["failed"] and result["msg"].startswith("Cannot write the certificate: ")
    with pytest.raises(KeyError):
        certify(stage="drain", state="done")


def test_without_a_name_nothing_is_recorded(certify: Certify, directory: Path) -> None:
    certify(stage="drain", state="started")
    before = read(directory)
    assert "failed_stage" not in certify(FAILED, server_name="")
    assert read(directory) == before


def test_the_next_run_records_an_interruption(certify: Certify, directory: Path) -> None:
    certify(stage="preflight", state="done")
    certify(stage="drain", state="started")
    certify(stage="preflight", state="started")
    assert results(read(directory)) == [("preflight", "done"), ("preflight", "started"), ("drain", "interrupted")]


ITEMS: Json = {"failed": True, "msg": "One or more", "results": [{"failed": True, "msg": "why"}]}
ODD_ITEMS: Json = {"failed": True, "msg": "all", "results": [{"msg": "fine"}, 7, {"failed": True}]}


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({**RUNNING, "_decommission_drain": ITEMS}, "why"),
        ({**RUNNING, "_decommission_drain": ODD_ITEMS}, "all"),
        # Of the two, the assertion explains the other.
        ({**FAILED, "_decommission_check": {"failed": True, "msg": "assertion"}}, "assertion"),
        ({**RUNNING, "_decommission_drain": {"failed": True}}, "not part of the role failed in drain"),
        (
            {**RUNNING, "failed": {"failed": True, "msg": "no result of the role"}},
            "not part of the role failed in drain",
        ),
        ({"_decommission_certificate": {"failed": True, "msg": "disk full"}}, "disk full"),
    ],
)
def test_reasons(certify: Certify, directory: Path, variables: Json, reason: str) -> None:
    certify(stage="drain", state="started")
    certify(variables)
    assert reason in read(directory)["stages"][0]["attempts"][0]["reason"]


def test_no_log_hides_the_reason_and_the_lines(
    certify: Certify, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certify(stage="drain", state="started")
    assert "msg" not in certify(FAILED, no_log=True, show=["s3cret"])
    reason = read(directory)["stages"][0]["attempts"][0]["reason"]
    assert "403" not in reason and "no_log" in reason
    assert "s3cret" not in capsys.readouterr().out


def test_shown_lines(certify: Certify, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a stage, and of the whole run."""
    host = {"inventory_hostname": "host"}
    certify(host, stage="drain", state="done", show=["1 account\x1b[2J", ""])
    assert capsys.readouterr().out == "host: drain: 1 account\\x1b[2J\n"
    result = certify(host, show_summary=True, show=["remote: confirmed"])
    page = str(directory / f"{SERVER}.html")
    assert result["msg"] == [result["summary"], page, "remote: confirmed"]
    assert capsys.readouterr().out == "".join(f"host: {line}\n" for line in result["msg"])


def test_no_secret_is_written(certify: Certify, directory: Path) -> None:
    secrets = {
        "decommission_access_token": "syt_token",
        "decommission_login_password": "correct horse",
        "_decommission_session": {"access_token": "syt_session"},
    }
    certify(stage="drain", state="started")
    message = "syt_token syt_session correct horse"
    failed = {**RUNNING, "_decommission_drain": {"failed": True, "msg": message}}
    certify({**secrets, **failed}, settings={"a": message})
    text = "".join(path.read_text() for path in directory.iterdir())
    assert "******** ******** ********" in text
    assert not [secret for secret in ("syt_token", "syt_session", "correct horse") if secret in text]


def test_a_file_that_is_no_certificate_is_renamed(certify: Certify, directory: Path) -> None:
    directory.mkdir()
    (directory / f"{SERVER}.json").write_text("precious")
    result = certify(stage="preflight", state="done")
    assert Path(result["renamed_to"]).read_text() == "precious"
    assert result["renamed_to"] in result["warnings"][0]
    assert read(directory)["state"] == "incomplete"


@pytest.mark.parametrize("state", ["started", "done"])
def test_a_directory_that_is_not_writable(certify: Certify, directory: Path, state: str) -> None:
    directory.write_text("no directory")
    result = certify(FAILED, stage="drain", state=state)
    assert result["failed"] and result["msg"].startswith("Cannot write the certificate: ")
    assert "decommission_report_dir" in result["msg"]


def test_fleet(certify: Certify, directory: Path) -> None:
    assert certify(state="fleet", server_names=[SERVER], server_name=None)["servers"] == [
        f"{SERVER}: there is no certificate"
    ]
    for name in (SERVER, "<b>.example"):
        assert not (directory / "fleet.html").exists()
        certify(stage="preflight", state="done", server_name=name)
    assert "<b>.example" not in (directory / "fleet.html").read_text()
    names = [SERVER, "<b>.example", "other.org"]
    result = certify(state="fleet", server_names=names, server_name=None, show_summary=True)
    assert result["msg"] == [result["summary"], *result["servers"], str(directory / "fleet.html")]
    assert result["summary"] == "3 servers: 2 incomplete, 1 without a certificate"
    assert result["changed"] is False


# A finished certificate

OWN: Json = {"_decommission_certificate": {"path": "x"}}


def finish(certify: Certify, directory: Path) -> dict[str, bytes]:
    """Write a finished certificate, and return the contents of all files."""
    certify(stage="preflight", state="done")
    certify(OWN, stage="power_off", state="done")
    assert read(directory)["state"] == "powered_off"
    return contents(directory)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({}, {"stage": "preflight", "state": "started"}),
        ({"_decommission_check": {"failed": True, "msg": "unreachable"}}, {}),
        ({"_decommission_certificate": {"started_at": 7}}, {}),
        ({}, {"stage": "drain", "state": "started"}),
        ({}, {"stage": "verify", "state": "done"}),
        ({}, {"stage": "power_off", "state": "waiting"}),
    ],
)
def test_another_run_does_not_change_a_finished_certificate(
    certify: Certify, directory: Path, variables: Json, options: Json
) -> None:
    before = finish(certify, directory)
    result = certify(variables, **options)
    assert contents(directory) == before
    assert result["changed"] is False and "path" not in result
    assert result["html_path"].endswith(f"{SERVER}.html") and ": powered off" in result["summary"]


def test_the_run_that_has_finished_it_may_write_it_again(certify: Certify, directory: Path) -> None:
    finish(certify, directory)
    assert certify(OWN, settings={"a": "b"})["changed"]
    assert read(directory)["settings"] == {"a": "b"}


@pytest.mark.parametrize("own", [OWN, {}])
def test_a_failure_after_the_power_off_does_not_change_it(certify: Certify, directory: Path, own: Json) -> None:
    before = finish(certify, directory)
    running = {"_decommission_certificate": {**own.get("_decommission_certificate", {}), "running": "post_tasks"}}
    result = certify(running)
    assert contents(directory) == before
    assert result["failed_stage"] == "post_tasks"
    assert "post_tasks failed after the power-off" in result["msg"][1]


def test_a_homeserver_that_is_on_again_has_another_certificate(certify: Certify, directory: Path) -> None:
    before = finish(certify, directory)
    started = certify(stage="preflight", state="started")
    result = certify({"_decommission_certificate": started}, stage="preflight", state="done")
    assert read(directory)["state"] == "incomplete" and read(directory)["salt"] != json.loads(before[f"{SERVER}.json"])
    kept = Path(result["renamed_to"])
    assert "certificate of an earlier run" in result["warnings"][0]
    assert kept.read_bytes() == before[f"{SERVER}.json"]
    assert kept.with_suffix(".html").read_bytes() == before[f"{SERVER}.html"]
    # And once more within the same second.
    certify({"_decommission_certificate": result}, stage="power_off", state="done")
    again = Path(certify(stage="preflight", state="done")["renamed_to"])
    assert again != kept and kept.read_bytes() == before[f"{SERVER}.json"]
    assert certify(state="fleet", server_names=[SERVER], server_name=None)["summary"] == "1 servers: 1 incomplete"


@pytest.mark.parametrize("name", ["host_off", "homeserver_off"])
def test_a_power_off_that_failed_is_not_done(certify: Certify, directory: Path, name: str) -> None:
    """With ignore_errors, the run continues to the end of the stage."""
    certify(stage="preflight", state="done")
    certify(OWN, stage="power_off", state="started")
    failed = {f"_decommission_{name}": {"failed": True, "msg": "The host still answers"}}
    result = certify({**OWN, **failed}, stage="power_off", state="done")
    assert result["failed_stage"] == "power_off"
    assert read(directory)["state"] == "failed"
    assert read(directory)["stages"][-1]["attempts"][0]["reason"] == "The host still answers"
