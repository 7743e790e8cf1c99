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
from ansible.utils.display import Display
from ansible_collections.matrixops.synapse.plugins.module_utils._text import printable
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report import page, record, results, state
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.files import Directory
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.redaction import Redaction
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.schema import Certificate
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.summary import summary

STATES = ("started", "done", "waiting", "written", "admins_started", "admins_ended", "fleet")
SECRETS = ("decommission_access_token", "decommission_login_password")

display = Display()


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
                "power_off_by_hand": {"type": "str", "default": ""},
                "show": {"type": "list", "elements": "str", "default": []},
                "show_summary": {"type": "bool", "default": False},
                "server_names": {"type": "list", "elements": "str", "default": []},
            },
            required_if=[("state", state, ["server_name"]) for state in STATES if state != "fleet"],
        )
        self._arguments: dict[str, Any] = arguments
        self._variables = task_vars or {}
        self._failure = self._find_failure() if arguments["state"] == "written" else self._power_off_failure()
        self._now = int(time.time())
        try:
            if not self._task.check_mode:
                directory = Directory(arguments["directory"])
                result.update(self._summarize(directory) if arguments["state"] == "fleet" else self._write(directory))
        except Exception as error:
            return {**result, "failed": True, "msg": self._write_error(error)}
        return {**result, **self._show(result)}

    def _show(self, result: dict[str, Any]) -> dict[str, Any]:
        """Show each line as it is, without the braces that Ansible puts around a result."""
        lines = self._lines(result)
        if self._task.no_log or not lines:
            return {}
        host, stage = str(self._variables.get("inventory_hostname", "")), self._arguments["stage"]
        for line in lines:
            display.display(": ".join(printable(part) for part in (host, stage, line) if part))
        return {"msg": lines}

    def _lines(self, result: dict[str, Any]) -> list[str]:
        if "failed_stage" in result:
            return self._failed_lines
        summarized = ("summary", "servers", "html_path") if self._arguments["show_summary"] else ()
        found = [result[key] for key in summarized if key in result]
        lines = [line for item in found for line in (item if isinstance(item, list) else [item])]
        return [*lines, *filter(None, self._arguments["show"])]

    def _find_failure(self) -> str | None:
        """Return why the run has failed, if it has: a registered task failed, or a stage has started and not ended.

        The role has no C(rescue), in which Ansible would name the task, since the host would count as rescued.
        """
        # The assertions first, which explain the other failures.
        names = ["_decommission_check", *(name for name in self._variables if name.startswith("_decommission_"))]
        failed = [result for result in (_mapping(self._variables.get(name)) for name in names) if result.get("failed")]
        running = _mapping(self._variables.get("_decommission_certificate")).get("running")
        if not failed and not running:
            return None
        if self._task.no_log:
            return "A task failed; its message is hidden by no_log"
        unknown = f"A task that is not part of the role failed in {running}: see the output of Ansible"
        return next(filter(None, map(_message, failed)), unknown)

    def _power_off_failure(self) -> str | None:
        """Return why the power-off has failed, if it has: with C(ignore_errors), its stage would be done."""
        if (self._arguments["stage"], self._arguments["state"]) != ("power_off", "done"):
            return None
        results_of = (_mapping(self._variables.get(f"_decommission_{name}")) for name in results.POWER_OFF_CHECKS)
        return next((_message(result) or "the power-off failed" for result in results_of if result.get("failed")), None)

    def _write_error(self, error: Exception) -> str:
        """Return the message for an error, and raise it again if it is unexpected and hides no failure."""
        path = self._arguments["directory"]
        message = f"Cannot write the certificate: {error}. Make {path} a writable directory (decommission_report_dir)"
        if not isinstance(error, OSError) and not self._failure:
            raise error
        return message

    def _write(self, directory: Directory) -> dict[str, Any]:
        name = self._arguments["server_name"]
        result: dict[str, Any] = {"changed": False, "started_at": self._now}
        if not name or (not directory.json_path(name).exists() and not self._may_create()):
            return result
        with directory.locked():
            certificate, renamed_to = directory.read(name), None
            if certificate is not None and state.is_finished(certificate):
                if not self._may_replace():
                    return {**result, **self._finished(directory, certificate)}
                if not self._has_written():
                    renamed_to = directory.rename_finished(certificate)
                    certificate = None
            if certificate is None:
                renamed_to = renamed_to or directory.rename_invalid(name, self._now)
                certificate = record.new(name, self._start_time())
            self._change(certificate)
            certificate = record.conclude(self._redacted(certificate), self._now)
            directory.write(certificate, page.certificate_page(certificate))
            certificates = directory.read_all()
            if len(certificates) > 1:
                directory.replace(directory.fleet_path, page.fleet_page(certificates))
        result.update(
            changed=True,
            path=str(directory.json_path(name)),
            html_path=str(directory.html_path(name)),
            salt=certificate["salt"],
            summary=summary(certificate),
        )
        if self._failure:
            result["failed_stage"] = self._failed_stage
            # Without the reason: the task that failed has shown it.
            self._failed_lines = [
                summary({**certificate, "findings": []}),
                *(finding["text"] for finding in certificate["findings"] if finding["kind"] == "admins"),
                f"the failure is recorded in {result['html_path']}",
            ]
        elif self._arguments["state"] == "started":
            result["running"] = self._arguments["stage"]
        if renamed_to:
            what = "not a valid certificate" if renamed_to.suffix == ".invalid" else "the certificate of an earlier run"
            warning = f"{result['path']} was {what}, and was renamed to {renamed_to}"
            result.update(renamed_to=str(renamed_to), warnings=[warning])
        return result

    # A finished certificate

    def _has_written(self) -> bool:
        """Return whether this run has written the certificate before."""
        return "path" in _mapping(self._variables.get("_decommission_certificate"))

    def _may_replace(self) -> bool:
        """Return whether a finished certificate may be written again, or be replaced by that of another run.

        This run may write its own again, unless it has failed after the power-off. Another run renames a certificate
        that is finished, once its preflight has succeeded: the homeserver answers, so it is decommissioned anew.
        """
        if self._has_written():
            return self._failure is None
        return (self._arguments["stage"], self._arguments["state"]) == ("preflight", "done")

    def _finished(self, directory: Directory, certificate: Certificate) -> dict[str, Any]:
        """Return the result for a finished certificate, which is not changed."""
        page_path = str(directory.html_path(certificate["server"]["name"]))
        result = {"html_path": page_path, "summary": summary(certificate)}
        if not self._failure:
            return result
        running = _mapping(self._variables.get("_decommission_certificate")).get("running")
        where = f"{running} failed" if running else "this run failed"
        self._failed_lines = [result["summary"], f"{where} after the power-off, and {page_path} was not changed"]
        return {**result, "failed_stage": running or "preflight"}

    def _may_create(self) -> bool:
        """Return whether there may be a certificate by now: not before the server name has been checked."""
        stage = self._arguments["stage"]
        states = ("done",) if stage == "preflight" else ("started", "done")
        return stage is not None and self._arguments["state"] in states

    # What is written

    def _change(self, certificate: Certificate) -> None:
        new_state, settings = self._arguments["state"], self._arguments["settings"]
        if settings:
            certificate["settings"] = results.plain(settings)
        if self._failure:
            new_state = "failed"
        if new_state in ("admins_started", "admins_ended"):
            record.record_admins(
                certificate, self._now, ended=new_state == "admins_ended", by_hand=self._arguments["power_off_by_hand"]
            )
        if new_state in ("written", "admins_started", "admins_ended"):
            return
        stage = self._stage(certificate)
        if new_state == "started" or state.current_stage(certificate) != stage:
            record.start_stage(certificate, stage, self._start_time())
        if new_state != "started":
            self._add_results(certificate, stage)
            record.end_stage(certificate, stage, new_state, self._now, self._failure)

    def _stage(self, certificate: Certificate) -> str:
        stage: str | None = self._arguments["stage"]
        if self._failure:
            self._failed_stage = state.current_stage(certificate) or "preflight"
            return self._failed_stage
        if stage is None:
            raise AnsibleError(f"state {self._arguments['state']} requires stage")
        return stage

    def _start_time(self) -> int:
        """Return when the stage has started: now, or when a preflight has that was not written down then."""
        before = self._variables.get("_decommission_certificate")
        if self._arguments["state"] == "started" or not isinstance(before, Mapping) or "path" in before:
            return self._now
        return int(before.get("started_at") or self._now)

    def _add_results(self, certificate: Certificate, stage: str) -> None:
        try:
            results.add_results(certificate, stage, self._variables, self._now)
        except Exception:
            # The failure itself is what must be recorded.
            if not self._failure:
                raise

    def _redacted(self, certificate: Certificate) -> Certificate:
        name, salt, ids = certificate["server"]["name"], certificate["salt"], self._arguments["ids"]
        operator = certificate["server"].get("operator")
        redaction = Redaction(name, salt, secrets=self._find_secrets(), ids=ids, spared=operator)
        redacted: Certificate = redaction(certificate)
        redacted["server"]["name"] = name
        return redacted

    def _find_secrets(self) -> list[str]:
        found = []
        for name in SECRETS:
            if name in self._variables:
                # A variable that cannot be templated was not used by a task either.
                with suppress(AnsibleError):
                    found.append(str(self._templar.template(self._variables[name])))
        session = self._variables.get("_decommission_session")
        return [*found, str(session.get("access_token") or "")] if isinstance(session, Mapping) else found

    # The fleet

    def _summarize(self, directory: Directory) -> dict[str, Any]:
        """Return the states of the servers."""
        names = self._arguments["server_names"]
        found = {name: directory.read(name) for name in names}
        lines = [
            summary(certificate) if certificate else f"{name}: there is no certificate"
            for name, certificate in sorted(found.items())
        ]
        titles = {key: title.lower() for key, (title, _explanation) in state.STATES.items()}
        states = [titles[each["state"]] if each else "without a certificate" for each in found.values()]
        counted = ", ".join(f"{states.count(title)} {title}" for title in dict.fromkeys(states))
        result = {"changed": False, "summary": f"{len(names)} servers: {counted}", "servers": lines}
        overview = directory.fleet_path
        return {**result, "html_path": str(overview)} if overview.exists() else result


def _message(failed: Mapping[str, Any]) -> str | None:
    """Return the message of a failed result: of a loop, that of the first item that failed."""
    items = [item for item in failed.get("results") or [] if isinstance(item, Mapping) and item.get("failed")]
    candidates = [*items, failed] if failed.get("failed", True) else items
    return next((str(item["msg"]) for item in candidates if item.get("msg")), None)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
