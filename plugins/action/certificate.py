# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the certificate of a decommissioning on the controller."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Mapping

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _certificate, _page

STATES = ("started", "done", "waiting", "failed", "written", "fleet")
SECRETS = ("decommission_access_token", "decommission_login_password")


class ActionModule(ActionBase):
    """Reads registered results from the variables: data of servers is never passed through a template."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(
            {
                "directory": {"type": "path", "required": True},
                "server_name": {"type": "str"},
                "stage": {"type": "str"},
                "state": {"type": "str", "choices": list(STATES), "default": "written"},
                "settings": {"type": "dict", "default": {}},
                "ids": {"type": "bool", "default": False},
                "server_names": {"type": "list", "elements": "str", "default": []},
            },
            required_if=[("state", state, ["server_name"]) for state in STATES if state != "fleet"],
        )
        self._arguments: dict[str, Any] = arguments
        self._variables = task_vars or {}
        self._problem = _reason(self._variables) if arguments["state"] == "failed" else None
        self._now = int(time.time())
        try:
            if not self._task.check_mode:
                directory = _certificate.Directory(arguments["directory"])
                result.update(self._summarize(directory) if arguments["state"] == "fleet" else self._add(directory))
        except Exception as error:
            path = arguments["directory"]
            written = f"The certificate can't be written: {error}. Make {path} a writable directory, then run again"
            if self._problem:
                return {**result, "failed": True, "msg": f"{self._problem} ({written})"}
            if isinstance(error, OSError):
                return {**result, "failed": True, "msg": written}
            raise
        # A failure that is recorded stays one.
        return {"changed": True, "failed": True, "msg": self._problem} if self._problem else result

    def _add(self, directory: _certificate.Directory) -> dict[str, Any]:
        name, stage, state = (self._arguments[option] for option in ("server_name", "stage", "state"))
        if not name or (not directory.json_path(name).exists() and not _may_create(stage, state)):
            return {"changed": False, "began": self._now}
        with directory.locked():
            certificate = directory.read(name)
            aside = None
            if certificate is None:
                aside = directory.set_aside(name, self._now)
                certificate = _certificate.new(name, self._now)
            self._change(certificate)
            certificate = _certificate.conclude(self._redacted(certificate), self._now)
            directory.write(certificate, _page.certificate_page(certificate))
            everybody = directory.read_all()
            if len(everybody) > 1:
                directory.replace(directory.path / "fleet.html", _page.fleet_page(everybody))
        result: dict[str, Any] = {
            "changed": True,
            "began": self._now,
            "path": str(directory.json_path(name)),
            "html_path": str(directory.html_path(name)),
            "salt": certificate["salt"],
            "summary": _certificate.summary(certificate),
        }
        return {**result, "aside": str(aside), "warnings": [f"Set aside {aside}"]} if aside else result

    def _change(self, certificate: _certificate.Certificate) -> None:
        stage, state, settings = (self._arguments[option] for option in ("stage", "state", "settings"))
        if settings:
            certificate["settings"] = _certificate.plain(settings)
        if state == "written":
            return
        if state == "failed":
            # The task that failed may be the user's own: the certificate says in which stage that was.
            stage = _certificate.current_stage(certificate) or stage or "preflight"
        if stage is None:
            raise AnsibleError("stage is required")
        if state == "started" or _certificate.current_stage(certificate) != stage:
            began = self._variables.get("_decommission_certificate")
            before = state != "started" and isinstance(began, Mapping) and "path" not in began and began.get("began")
            _certificate.begin_stage(certificate, stage, int(before or self._now))
        if state != "started":
            try:
                _certificate.add_facts(certificate, stage, self._variables, self._now)
            except Exception:
                # The failure itself is what must be recorded.
                if not self._problem:
                    raise
            _certificate.end_stage(certificate, stage, state, self._now, self._problem)

    def _redacted(self, certificate: _certificate.Certificate) -> _certificate.Certificate:
        name, salt, ids = certificate["server"]["name"], certificate["salt"], self._arguments["ids"]
        operator = certificate["server"].get("operator")
        redaction = _certificate.Redaction(name, salt, secrets=self._find_secrets(), ids=ids, spared=operator)
        redacted: _certificate.Certificate = redaction(certificate)
        redacted["server"]["name"] = name
        return redacted

    def _find_secrets(self) -> list[str]:
        found = []
        for name in SECRETS:
            if name in self._variables:
                # Without its value, no task has used it.
                with suppress(AnsibleError):
                    found.append(str(self._templar.template(self._variables[name])))
        session = self._variables.get("_decommission_session")
        return [*found, str(session.get("access_token") or "")] if isinstance(session, Mapping) else found

    def _summarize(self, directory: _certificate.Directory) -> dict[str, Any]:
        """Say in which state the servers are."""
        names = self._arguments["server_names"]
        found = {name: directory.read(name) for name in names}
        lines = [
            _certificate.summary(certificate) if certificate else f"{name}: there is no certificate"
            for name, certificate in sorted(found.items())
        ]
        words = {state: title.lower() for state, (title, _text) in _certificate.STATES.items()}
        states = [
            words[certificate["state"]] if certificate else "without a certificate" for certificate in found.values()
        ]
        counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        result = {"changed": False, "summary": f"{len(names)} servers: {counted}", "servers": lines}
        page = directory.path / "fleet.html"
        return {**result, "html_path": str(page)} if page.exists() else result


def _may_create(stage: str | None, state: str) -> bool:
    """Whether there may be a certificate: not before the server name has been checked."""
    return stage is not None and state in (("done",) if stage == "preflight" else ("started", "done"))


def _reason(variables: Mapping[str, Any]) -> str:
    """The message of the task that failed, or only its name if the task has C(no_log)."""
    task, failed = variables.get("ansible_failed_task"), variables.get("ansible_failed_result")
    task = task if isinstance(task, Mapping) else {}
    failed = failed if isinstance(failed, Mapping) else {}
    where = f"The task {str(task.get('name') or '?')!r} failed"
    if task.get("no_log") or failed.get("_ansible_no_log") or "censored" in failed:
        return f"{where}; its message is hidden by no_log"
    for item in [*[item for item in failed.get("results") or [] if isinstance(item, Mapping)], failed]:
        if item.get("failed", item is failed) and item.get("msg"):
            return str(item["msg"])
    return where
