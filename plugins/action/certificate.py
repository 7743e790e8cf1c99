# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Adds to the certificate of a retirement, which is on the controller."""

from __future__ import annotations

import json
import time
from typing import Any, Mapping

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _certificate, _page

FACTS = {
    "preflight": ("server", "plan", "state"),
    "prepare": ("announcement", "handover", "aliases", "demotion"),
    "drain": ("drain", "anchors_chosen", "anchors_read"),
    "leave_rooms": ("leave", "state"),
    "propagate": ("state", "propagation"),
    "verify": ("open", "joined", "occupied", "not_closed", "in_rooms", "closed"),
    "power_off": ("open", "joined", "occupied", "not_closed", "in_rooms", "closed", "gate"),
}
"""What the tasks of each stage register, by the names of variables without C(_decommission_)."""
SECRETS = ("decommission_access_token", "decommission_login_password")


class ActionModule(ActionBase):
    """Looks up for itself what has been registered: what comes from servers goes through no template on its way."""

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
                "state": {
                    "type": "str",
                    "choices": ["started", "done", "waiting", "failed", "written", "fleet"],
                    "default": "written",
                },
                "settings": {"type": "dict", "default": {}},
                "ids": {"type": "bool", "default": False},
                "server_names": {"type": "list", "elements": "str", "default": []},
            },
            required_if=[
                ("state", state, ["server_name"]) for state in ("started", "done", "waiting", "failed", "written")
            ],
        )
        variables = task_vars or {}
        problem = _reason(variables) if arguments["state"] == "failed" else None
        self._secrets = self._find_secrets(variables)
        self._now = int(time.time())
        try:
            if not self._task.check_mode:
                directory = _certificate.Directory(arguments["directory"])
                result.update(
                    self._sum_up(directory, arguments["server_names"])
                    if arguments["state"] == "fleet"
                    else self._add(directory, arguments, variables, problem)
                )
        except Exception as error:
            written = (
                f"The certificate can't be written: {error}. Run this again when {arguments['directory']} is a"
                " directory that can be written to"
            )
            if problem:
                return {**result, "failed": True, "msg": f"{problem} ({written})"}
            if isinstance(error, OSError):
                return {**result, "failed": True, "msg": written}
            raise
        # Whoever records a failure must not end it.
        return {"changed": True, "failed": True, "msg": problem} if problem else result

    def _add(
        self,
        directory: _certificate.Directory,
        arguments: Mapping[str, Any],
        variables: Mapping[str, Any],
        problem: str | None,
    ) -> dict[str, Any]:
        name, stage, state = arguments["server_name"], arguments["stage"], arguments["state"]
        if not name or (not directory.json_path(name).exists() and not self._may_begin(stage, state)):
            return {"changed": False, "began": self._now}
        with directory.locked():
            certificate = directory.read(name)
            aside = None
            if certificate is None:
                aside = directory.set_aside(name, self._now)
                certificate = _certificate.new(name, self._now)
            self._change(certificate, stage, state, arguments, variables, problem)
            _certificate.conclude(certificate, self._now)
            certificate = self._redacted(certificate, arguments["ids"])
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

    def _may_begin(self, stage: str | None, state: str) -> bool:
        """Not before the server has said its name, or there would be one for each that was mistyped."""
        if stage == "preflight":
            return state == "done"
        return state in ("started", "done") and stage is not None

    def _change(
        self,
        certificate: _certificate.Certificate,
        stage: str | None,
        state: str,
        arguments: Mapping[str, Any],
        variables: Mapping[str, Any],
        problem: str | None,
    ) -> None:
        if arguments["settings"]:
            certificate["settings"] = plain(arguments["settings"])
        if state == "written":
            return
        if state == "failed":
            # Which one it was is in the certificate: what failed may be a task of the user's.
            stage = _certificate.under_way(certificate) or stage or "preflight"
        if stage is None:
            raise AnsibleError("stage is required")
        if state == "started" or _certificate.under_way(certificate) != stage:
            began = variables.get("_decommission_certificate")
            before = state != "started" and isinstance(began, Mapping) and "path" not in began and began.get("began")
            _certificate.begin_stage(certificate, stage, int(before or self._now))
        if state != "started":
            found = {name: plain(variables.get(f"_decommission_{name}")) for name in FACTS.get(stage, ())}
            try:
                _certificate.add_facts(certificate, stage, found, self._now)
            except Exception:
                # That something failed is more than what it says of itself.
                if not problem:
                    raise
            _certificate.end_stage(certificate, stage, state, self._now, problem)

    def _redacted(self, certificate: _certificate.Certificate, ids: bool) -> _certificate.Certificate:
        name, salt = certificate["server"]["name"], certificate["salt"]
        redaction = _certificate.Redaction(
            name, salt, secrets=self._secrets, ids=ids, spared=certificate["server"].get("operator")
        )
        closed = certificate.get("accounts", {}).get("closed", {})
        listed = {key: closed.pop(key) for key in ("user_ids", "digests") if key in closed}
        redacted: _certificate.Certificate = redaction(certificate)
        redacted["server"]["name"], redacted["salt"] = name, salt
        if listed:
            redacted["accounts"]["closed"].update(listed)
        return redacted

    def _find_secrets(self, variables: Mapping[str, Any]) -> list[str]:
        found = []
        for name in SECRETS:
            if name in variables:
                try:
                    found.append(str(self._templar.template(variables[name])))
                except AnsibleError:  # then nothing has used it
                    continue
        session = variables.get("_decommission_session")
        if isinstance(session, Mapping):
            found.append(str(session.get("access_token") or ""))
        return found

    def _sum_up(self, directory: _certificate.Directory, names: list[str]) -> dict[str, Any]:
        """Say how these servers stand."""
        found = {name: directory.read(name) for name in names}
        lines = [
            _certificate.summary(certificate) if certificate else f"{name}: there is no certificate"
            for name, certificate in sorted(found.items())
        ]
        states = [certificate["state"] if certificate else "none" for certificate in found.values()]
        words = {
            "powered_off": "powered off",
            "verified": "verified, and on",
            "waiting": "waiting",
            "begun": "not finished",
            "failed": "failed",
            "none": "without a certificate",
        }
        counted = ", ".join(f"{states.count(state)} {word}" for state, word in words.items() if state in states)
        result = {"changed": False, "summary": f"{len(names)} servers: {counted}", "servers": lines}
        page = directory.path / "fleet.html"
        return {**result, "html_path": str(page)} if page.exists() else result


def plain(value: Any) -> Any:
    """The same without Ansible's own types."""
    return json.loads(json.dumps(value, default=str))


def _reason(variables: Mapping[str, Any]) -> str:
    """What went wrong, as the task that failed says; or only its name, if that is not to be logged."""
    task, failed = variables.get("ansible_failed_task"), variables.get("ansible_failed_result")
    task = task if isinstance(task, Mapping) else {}
    failed = failed if isinstance(failed, Mapping) else {}
    where = f"The task {str(task.get('name') or '?')!r} failed"
    if task.get("no_log") or failed.get("_ansible_no_log") or "censored" in failed:
        return f"{where}; what it said is hidden by no_log"
    for item in [*[item for item in failed.get("results") or [] if isinstance(item, Mapping)], failed]:
        if item.get("failed", item is failed) and item.get("msg"):
            return str(item["msg"])
    return where
