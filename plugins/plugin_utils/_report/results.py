# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the results of a stage's tasks add to a certificate."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from ansible_collections.matrixops.synapse.plugins.module_utils._text import plural

from .schema import Certificate
from .summary import JOINED_ROOMS, REMOTE_CHECKS, ROOMS, USERS

MAX_DRAINS = 20
LISTS = (
    ("handover", "handed_over"),
    ("handover", "not_handed_over"),
    ("aliases", "aliases"),
    ("demotion", "demoted"),
)
"""Registered results of the stage C(prepare), with the list in each that the certificate keeps."""
POWER_OFF_CHECKS = ("off_check", "host_off", "homeserver_off")
"""Registered results of the checks after the power-off: of the method, of the host, and of the homeserver's URL."""
ANNOUNCED = {"sent": "sent", "unchanged": "unchanged", "failed": "failures_total"}
"""Counts of the announcement, with their names in the module's result."""


def add_results(certificate: Certificate, stage: str, variables: Mapping[str, Any], now: int) -> None:
    """Add what the tasks of a stage have registered in variables C(_decommission_*).

    Results that are missing, or that are of a task that was skipped or has failed, are left out.
    """
    _StageResults(certificate, stage, variables, now).add()


def plain(value: Any) -> Any:
    """Return the same without Ansible's own types, which JSON Schema has no names for."""
    return json.loads(json.dumps(value, default=str))


@dataclass
class _Failures:
    """The failures of one attempt. The modules list only some, so that the total may be more."""

    listed: list[dict[str, Any]] = field(default_factory=list)
    counted: int = 0

    @property
    def total(self) -> int:
        return max(self.counted, len(self.listed))

    def add(self, subject: Any, reason: Any, room: Any = None) -> None:
        failure = {"subject": str(subject), "reason": None if reason is None else str(reason)}
        self.listed.append(failure if room is None or room == subject else {**failure, "room": str(room)})

    def add_result(self, result: Mapping[str, Any]) -> None:
        """Add C(failures) of a module's result."""
        failures = result.get("failures") or []
        for item in failures:
            subject = next((item[key] for key in ("user_id", "alias", "media_id", "room_id") if item.get(key)), "?")
            self.add(subject, item.get("reason"), item.get("room_id"))
        self.counted += int(result.get("failures_total", len(failures)))

    def add_broken_rooms(self, result: Mapping[str, Any]) -> int:
        """Add C(broken_rooms) of a module's result, and return their number."""
        rooms = result.get("broken_rooms") or []
        for room in rooms:
            accounts = plural(int(room.get("accounts") or 0), "account", "accounts")
            self.add(room["room_id"], f"broken room, {accounts} cannot leave: {room['reason']}")
        total = int(result.get("broken_rooms_total", len(rooms)))
        self.counted += total
        return total


class _Verification(NamedTuple):
    """What the last reads of accounts and rooms have found."""

    accounts: int
    """How many accounts were listed."""
    rooms: int
    """How many rooms have local members, or could have."""
    active: Sequence[str]
    """Accounts that are active, but neither admins nor kept."""
    joined: Sequence[str]
    """Accounts that are joined to a room that is not broken."""
    unlisted: Sequence[str]
    """Those of them that are in no list of accounts, for example the sender of an application service."""
    broken_rooms: bool

    def proof(self, now: int) -> Iterator[dict[str, Any]]:
        """Return each claim that was checked, with the number of exceptions."""
        where = " outside the broken rooms" if self.broken_rooms else ""
        active, listed, unlisted = len(self.active), len(self.joined) - len(self.unlisted), len(self.unlisted)
        yield _proof("no account is active except admins and kept accounts", USERS, now, self.accounts, active)
        read = _proof(f"no account is joined to a room{where}", JOINED_ROOMS, now, self.accounts, listed)
        yield {**read, "requests": self.accounts}
        yield _proof(f"no unlisted account is joined to a room{where}", ROOMS, now, self.rooms, unlisted)


def _proof(claim: str, read: str, now: int, checked: int, exceptions: int) -> dict[str, Any]:
    return {"claim": claim, "read": read, "at": now, "checked": checked, "exceptions": exceptions}


def gate_proof(gate: Mapping[str, Any], now: int) -> dict[str, Any]:
    """Return the proof by the gate's check of all remote servers."""
    states = ("ghosts", "refused", "unconfirmed")
    rooms = sum(row["rooms"] - row["confirmed_rooms"] for row in gate["servers"] if row["state"] in states)
    # The list of servers may be cut, their counts are not.
    exceptions = max(rooms, sum(gate["summary"].get(state, 0) for state in states))
    claim = "every remote server that answers has confirmed that it lists no account"
    return _proof(claim, REMOTE_CHECKS, now, gate["summary"]["pairs"], exceptions)


class _StageResults:
    def __init__(self, certificate: Certificate, stage: str, variables: Mapping[str, Any], now: int) -> None:
        self.certificate = certificate
        self.accounts: dict[str, Any] = certificate.setdefault("accounts", {})
        self.stage = stage
        self.variables = variables
        self.now = now
        self.failures = _Failures()

    def add(self) -> None:
        state = self._result("state", "milestones")
        if state:
            self.certificate["milestones"] = {name: int(time) for name, time in state["milestones"].items()}
        getattr(self, f"_add_{self.stage}", lambda: None)()
        for stage in self.certificate["stages"]:
            if stage["stage"] == self.stage:
                stage.update(failures=self.failures.listed, failures_total=self.failures.total)

    def _result(self, name: str, *keys: str) -> dict[str, Any]:
        """Return a registered result, or an empty one unless it has all I(keys)."""
        found = self.variables.get(f"_decommission_{name}")
        return plain(found) if isinstance(found, Mapping) and all(key in found for key in keys) else {}

    def _names(self, name: str) -> list[str] | None:
        """Return a list of texts that the role has set, for example of user IDs, or none."""
        found = plain(self.variables.get(f"_decommission_{name}"))
        return found if isinstance(found, list) else None

    # The stages

    def _add_preflight(self) -> None:
        server = self._result("server", "server_name", "version")
        if server:
            names = ("version", "operator", "registration", "delegated_auth")
            self.certificate["server"].update({name: server.get(name) for name in names})
        plan = self._result("plan", "plan")
        # The counts before the first account was deactivated.
        if plan and ("before" not in self.accounts or "started" not in self.certificate.get("milestones", {})):
            self.accounts["before"] = {"at": self.now, "counts": _only_active(plan["plan"]["accounts"])}

    def _add_prepare(self) -> None:
        announced = self._result("announcement", *ANNOUNCED.values())
        if announced:
            self.certificate["announced"] = {name: announced[key] for name, key in ANNOUNCED.items()}
        for task, name in LISTS:
            result = self._result(task, name)
            if result:
                self._add_list(name, result[name], result[f"{name}_total"])
        for task in ("announcement", "handover", "aliases", "demotion"):
            self.failures.add_result(self._result(task))

    def _add_list(self, name: str, items: Sequence[Any], number: int) -> None:
        listed = [item if isinstance(item, dict) else {"room_id": item} for item in items]
        total = number
        # An earlier run's work is not repeated, and stays listed. What is not handed over is as the newest run says.
        if name != "not_handed_over":
            listed = [*(item for item in self.certificate.get(name, []) if item not in listed), *listed]
            total = max(number, self.certificate.get(f"{name}_total", 0))
        self.certificate.update({name: listed, f"{name}_total": max(total, len(listed))})

    def _add_drain(self) -> None:
        result = self._result("drain", "deactivated", "left_all_rooms", "timeline")
        if not result:
            return
        self.failures.add_result(result)
        for account in result["still_joined"]:
            for room in account["rooms"]:
                self.failures.add(account["user_id"], f"is still joined: {room['reason']}", room["room_id"])
        not_redacted = result.get("not_redacted") or []
        for account in not_redacted:
            self.failures.add(account["user_id"], f"{account['events']} events were not redacted: {account['reason']}")
        self.failures.counted += result["still_joined_total"] + len(not_redacted)
        totals = {"not_redacted_total": len(not_redacted), "broken_rooms_total": self.failures.add_broken_rooms(result)}
        drains = self.certificate.setdefault("drains", [])
        # Runs that changed nothing are not listed, but for the first one.
        if not drains or result["deactivated"] + result["left_all_rooms"] + result["failures_total"] > 0:
            drains.append({**result, **totals, "ended": self.now})
            del drains[:-MAX_DRAINS]

    def _add_leave_rooms(self) -> None:
        result = self._result("leave", "accounts")
        if not result:
            return
        before = self.certificate.get("left_rooms", {})
        self.certificate["left_rooms"] = {"accounts": len(result["accounts"])}
        for key in ("left", "rejected", "retracted"):
            self.certificate["left_rooms"][key] = result[f"{key}_total"] + before.get(key, 0)
        for account in result["accounts"]:
            if account.get("error"):
                self.failures.add(account["user_id"], account["error"])
            for room in account.get("failed") or []:
                self.failures.add(account["user_id"], room["reason"], room["room_id"])
        self.failures.counted = len(self.failures.listed)
        self.failures.add_broken_rooms(result)

    def _add_propagate(self) -> None:
        self._add_remote_servers("propagation")

    def _add_remote_servers(self, task: str) -> dict[str, Any]:
        result = self._result(task, "summary", "history", "now")
        if result:
            rooms = result.get("not_confirmed")
            # The archive has the accounts as well.
            pairs = {"not_confirmed": [_without_accounts(room) for room in rooms]} if rooms is not None else {}
            self.certificate["remote_servers"] = {**result, **pairs, "at": result["now"], "stage": self.stage}
            self.certificate["propagation"] = result["history"]
        return result

    def _add_verify(self) -> None:
        # The drain does not wait for rooms that only this server is in.
        rooms = self._result("rest").get("broken_rooms") or []
        self.failures.add_broken_rooms({"broken_rooms": [room for room in rooms if not room["federated"]]})
        self._add_verification()

    def _add_power_off(self) -> None:
        self._add_verification()
        gate = self._add_remote_servers("gate")
        if gate.get("checked") and "proof" in self.certificate:
            self.certificate["proof"].append(gate_proof(gate, self.now))
        self._add_site()
        self._add_checks_of_the_power_off()

    def _add_site(self) -> None:
        """Add what was put into the static site."""
        site, archive = self._result("site", "summary"), self._result("archive", "key_answer")
        if site and archive:
            answer = archive["key_answer"]
            keys = {"key_id": next(iter(answer["verify_keys"])), "valid_until": answer["valid_until_ts"] // 1000}
            self.certificate["site"] = {"at": self.now, **site["summary"], **keys}
            self.failures.add_result(self._result("site_media", "failures"))

    def _add_checks_of_the_power_off(self) -> None:
        """Add by which method the server was powered off, and what the checks have seen."""
        method = str(self.variables.get("_decommission_off_method_used") or "host")
        checks = [check for check in map(self._result, POWER_OFF_CHECKS) if "verified" in check]
        reasons = [str(check.get("reason") or "something still answers") for check in checks if not check["verified"]]
        reasons += self._names("off_reasons") or []
        if method == "none":
            reasons = ["nothing was stopped (decommission_power_off_method: none)"]
        if checks or method == "none":
            found = {"method": method, "seen": self._names("off_seen") or []}
            reason = "; ".join(reasons) or None
            self.certificate["power_off"] = {"at": self.now, "verified": not reasons, "reason": reason, **found}

    def _add_verification(self) -> None:
        active = self._result("open", "counts")
        if active:
            self.accounts["active"] = {"at": self.now, "counts": active["counts"]}
        verification = self._verification()
        if verification:
            self.certificate["proof"] = list(verification.proof(self.now))
            for user_id in verification.active:
                self.failures.add(user_id, "is still active")
            for user_id in verification.joined:
                self.failures.add(user_id, "is still joined")
        deactivated = self._result("closed", "states", "total")
        if deactivated:
            salt = {"salt": self.certificate["salt"]} if "digests" in deactivated else {}
            self.accounts["deactivated"] = {"at": self.now, **deactivated, **salt}

    def _verification(self) -> _Verification | None:
        """Return what was verified, or none if one of the reads is missing."""
        broken = any(self._result(task).get("broken_rooms") for task in ("drain", "leave", "rest", "propagation"))
        gate = self._result("gate", "accounts") if self.stage == "power_off" else {}
        if gate:
            found = gate["accounts"]
            active, joined, unlisted = (found[name] for name in ("active", "joined", "unlisted"))
            return _Verification(found["total"], found["rooms"], active, joined, unlisted, broken)
        users, occupied = self._result("joined", "users", "total"), self._result("occupied", "rooms")
        active, joined = self._names("not_closed"), self._names("in_rooms")
        if not users or not occupied or not self._result("open", "counts") or active is None or joined is None:
            return None
        listed = {str(user["name"]) for user in users["users"]}
        return _Verification(
            accounts=users["total"],
            rooms=len(occupied["rooms"]),
            active=active,
            joined=joined,
            unlisted=[user_id for user_id in joined if user_id not in listed],
            broken_rooms=broken,
        )


def _without_accounts(room: Mapping[str, Any]) -> dict[str, Any]:
    return {"room_id": room["room_id"], "servers": room["servers"]}


def _only_active(accounts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Return the counts by class and state without the accounts that are deactivated."""
    counts = {
        kind: {state: number for state, number in states.items() if state not in ("deactivated", "erased")}
        for kind, states in accounts.items()
    }
    return {kind: states for kind, states in counts.items() if states}
