# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificate of a decommissioning: its contents, and its files on the controller."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import re
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Sequence
from urllib.parse import quote, unquote

from ansible_collections.matrixops.synapse.plugins.module_utils._digest import WIDEST, digest

COLLECTION = Path(__file__).parents[2]
ROLE = COLLECTION / "roles/decommission"
SCHEMA: dict[str, Any] = json.loads((ROLE / "files/certificate.schema.json").read_text(encoding="utf-8"))
VERSION = 1
MAX_ATTEMPTS = 20
MAX_DRAINS = 20
MAX_NAMES_IN_MESSAGE = 5

Certificate = Dict[str, Any]
"""As the schema says."""

STATES = {
    "begun": ("Not finished", "Not all stages have been run to their end."),
    "waiting": ("Waiting", "Remote servers are checked until the propagation period is over."),
    "failed": ("Failed", "A stage failed. The host stays on until the playbook is run again."),
    "verified": ("Verified", "The server is drained and verified. The host is still on."),
    "powered_off": ("Powered off", "The server is drained and verified. The host was powered off."),
}
"""The states of a certificate, each with a title and an explanation."""
REMOTE_STATES = ("confirmed", "ghosts", "refused", "unreachable", "unconfirmed")
"""The states of a remote server, in the order of the history."""

USERS = "GET /_synapse/admin/v2/users"
JOINED_ROOMS = "GET /_synapse/admin/v1/users/<user_id>/joined_rooms"
ROOMS = "GET /_synapse/admin/v1/rooms"
CHECKS = "GET /_matrix/federation/v1/state_ids, make_leave"


# Contents


def new(server_name: str, now: int) -> Certificate:
    return {
        "schema_version": VERSION,
        "server": {"name": server_name, "software": "Synapse"},
        "collection": {"name": "matrixops.synapse", "version": collection_version()},
        "created": now,
        "updated": now,
        "state": "begun",
        "salt": secrets.token_hex(16),
        "stages": [],
        "warnings": [],
    }


def collection_version() -> str | None:
    """As Ansible's manifest of what is installed has it, or in a checkout, galaxy.yml."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((COLLECTION / "MANIFEST.json").read_text("utf-8"))["collection_info"]["version"])
    with suppress(OSError):
        found = re.search(r"^version: *(\S+)", (COLLECTION / "galaxy.yml").read_text("utf-8"), re.MULTILINE)
        return found and found[1]
    return None


def begin_stage(certificate: Certificate, name: str, now: int) -> None:
    """Add an attempt. An earlier one that has no end was interrupted."""
    for stage in certificate["stages"]:
        for attempt in stage["attempts"]:
            if attempt["result"] == "started":
                attempt["result"] = "interrupted"
    stages = {stage["stage"]: stage for stage in certificate["stages"]}
    if name not in stages:
        stages[name] = {"stage": name, "attempts": [], "attempts_total": 0, "failures": [], "failures_total": 0}
        certificate["stages"].append(stages[name])
    stage = stages[name]
    stage["attempts"].append({"started": now, "ended": None, "result": "started", "reason": None})
    stage["attempts_total"] += 1
    if len(stage["attempts"]) > MAX_ATTEMPTS:
        del stage["attempts"][1]


def end_stage(certificate: Certificate, name: str, result: str, now: int, reason: str | None = None) -> None:
    stage = next(stage for stage in certificate["stages"] if stage["stage"] == name)
    stage["attempts"][-1].update(ended=max(now, stage["attempts"][-1]["started"]), result=result, reason=reason)


def current_stage(certificate: Certificate) -> str | None:
    """The stage that has begun, and not ended."""
    names = [stage["stage"] for stage in certificate["stages"] if stage["attempts"][-1]["result"] == "started"]
    return names[-1] if names else None


def add_facts(certificate: Certificate, stage: str, variables: Mapping[str, Any], now: int) -> None:
    """Add what the tasks of a stage have registered in variables C(_decommission_*).

    Results that are missing, or that are of a task that was skipped or has failed, are left out.
    """
    _Facts(certificate, stage, variables, now).add()


def plain(value: Any) -> Any:
    """The same without Ansible's own types."""
    return json.loads(json.dumps(value, default=str))


class _Facts:
    def __init__(self, certificate: Certificate, stage: str, variables: Mapping[str, Any], now: int) -> None:
        self.certificate = certificate
        self.accounts: dict[str, Any] = certificate.setdefault("accounts", {})
        self.stage = stage
        self.variables = variables
        self.now = now
        self.failures: list[dict[str, Any]] = []
        self.failures_total = 0

    def fact(self, name: str, *keys: str) -> dict[str, Any]:
        """A registered result, or an empty one unless it has all I(keys)."""
        found = self.variables.get(f"_decommission_{name}")
        return plain(found) if isinstance(found, Mapping) and all(key in found for key in keys) else {}

    def add(self) -> None:
        state = self.fact("state", "milestones")
        if state:
            self.certificate["milestones"] = {name: int(time) for name, time in state["milestones"].items()}
        getattr(self, f"_stage_{self.stage}", lambda: None)()
        for stage in self.certificate["stages"]:
            if stage["stage"] == self.stage:
                total = max(self.failures_total, len(self.failures))
                stage.update(failures=self.failures, failures_total=total)

    def _fail(self, subject: Any, reason: Any, room: Any = None) -> None:
        failure = {"subject": str(subject), "reason": None if reason is None else str(reason)}
        self.failures.append(failure if room is None or room == subject else {**failure, "room": str(room)})

    def _add_failures(self, result: Mapping[str, Any]) -> None:
        failures = result.get("failures") or []
        for item in failures:
            subject = next((item[key] for key in ("user_id", "alias", "room_id") if item.get(key)), "?")
            self._fail(subject, item.get("reason"), item.get("room_id"))
        self.failures_total += int(result.get("failures_total", len(failures)))

    def _add_broken_rooms(self, result: Mapping[str, Any]) -> int:
        rooms = result.get("broken_rooms") or []
        for room in rooms:
            accounts = plural(int(room.get("accounts") or 0), "account", "accounts")
            self._fail(room["room_id"], f"broken room, {accounts} cannot leave: {room['reason']}")
        total = int(result.get("broken_rooms_total", len(rooms)))
        self.failures_total += total
        return total

    def _stage_preflight(self) -> None:
        server = self.fact("server", "server_name", "version")
        if server:
            names = ("version", "operator", "registration")
            self.certificate["server"].update({name: server.get(name) for name in names})
        plan = self.fact("plan", "plan")
        # The counts before the first account was deactivated.
        if plan and ("before" not in self.accounts or "started" not in self.certificate.get("milestones", {})):
            self.accounts["before"] = {"at": self.now, "counts": _only_active(plan["plan"]["accounts"])}

    def _stage_prepare(self) -> None:
        announced = self.fact("announcement", "sent", "unchanged", "failures_total")
        if announced:
            names = (("sent", "sent"), ("unchanged", "unchanged"), ("failed", "failures_total"))
            self.certificate["announced"] = {name: announced[key] for name, key in names}
        for fact, name in (
            ("handover", "handed_over"),
            ("handover", "not_handed_over"),
            ("aliases", "aliases"),
            ("demotion", "demoted"),
        ):
            result = self.fact(fact, name)
            if result:
                listed = [item if isinstance(item, dict) else {"room_id": item} for item in result[name]]
                total = 0
                # An earlier run's work is not repeated. What remains is as the newest run says.
                if name != "not_handed_over":
                    listed = [*(item for item in self.certificate.get(name, []) if item not in listed), *listed]
                    total = self.certificate.get(f"{name}_total", 0)
                self.certificate.update({name: listed, f"{name}_total": max(total, len(listed))})
        for fact in ("announcement", "handover", "aliases", "demotion"):
            self._add_failures(self.fact(fact))

    def _stage_drain(self) -> None:
        result = self.fact("drain", "deactivated", "parted", "timeline")
        if not result:
            return
        self._add_failures(result)
        for account in result["not_parted"]:
            for room in account["rooms"]:
                self._fail(account["user_id"], f"is still joined: {room['reason']}", room["room_id"])
        not_redacted = result.get("not_redacted") or []
        for account in not_redacted:
            self._fail(account["user_id"], f"{account['events']} events were not redacted: {account['reason']}")
        self.failures_total += result["not_parted_total"] + len(not_redacted)
        broken_rooms_total = self._add_broken_rooms(result)
        drains = self.certificate.setdefault("drains", [])
        if not drains or result["deactivated"] + result["parted"] + result["failures_total"] > 0:
            more = {"not_redacted_total": len(not_redacted), "broken_rooms_total": broken_rooms_total}
            drains.append({**result, **more, "ended": self.now})
            del drains[:-MAX_DRAINS]

    def _stage_leave_rooms(self) -> None:
        result = self.fact("leave", "accounts")
        if not result:
            return
        before = self.certificate.get("left_rooms", {})
        self.certificate["left_rooms"] = {"accounts": len(result["accounts"])}
        for key in ("left", "rejected", "retracted"):
            number = sum(len(account[key]) for account in result["accounts"])
            self.certificate["left_rooms"][key] = number + before.get(key, 0)
        for account in result["accounts"]:
            if account.get("error"):
                self._fail(account["user_id"], account["error"])
            for room in account.get("failed") or []:
                self._fail(account["user_id"], room["reason"], room["room_id"])
        self.failures_total = len(self.failures)
        self._add_broken_rooms(result)

    def _stage_propagate(self) -> None:
        self._add_remote_servers("propagation")

    def _add_remote_servers(self, fact: str) -> dict[str, Any]:
        result = self.fact(fact, "summary", "history", "now")
        if result:
            self.certificate["remote_servers"] = {**result, "at": result["now"], "stage": self.stage}
            self.certificate["propagation"] = result["history"]
        return result

    def _stage_verify(self) -> None:
        if self.stage == "verify":
            # The drain does not wait for rooms that only this server is in.
            rooms = self.fact("rest").get("broken_rooms") or []
            self._add_broken_rooms({"broken_rooms": [room for room in rooms if not room["federated"]]})
        active, joined = self.fact("open", "counts"), self.fact("joined", "users", "total")
        occupied = self.fact("occupied", "rooms")
        names = ("_decommission_not_closed", "_decommission_in_rooms")
        not_closed, in_rooms = (plain(self.variables.get(name)) for name in names)
        if active:
            self.accounts["active"] = {"at": self.now, "counts": active["counts"]}
        if active and joined and occupied and isinstance(not_closed, list) and isinstance(in_rooms, list):
            listed = {str(user["name"]) for user in joined["users"]}
            unlisted = [user_id for user_id in in_rooms if user_id not in listed]
            members, total, rooms = len(in_rooms) - len(unlisted), joined["total"], len(occupied["rooms"])
            facts = ("drain", "leave", "rest", "propagation")
            broken = " outside the broken rooms" if any(self.fact(each).get("broken_rooms") for each in facts) else ""
            self.certificate["proof"] = [
                self._proof("no account is active except admins and kept accounts", USERS, total, len(not_closed)),
                self._proof(f"no account is joined to a room{broken}", JOINED_ROOMS, total, members, requests=total),
                self._proof(f"no unlisted account is joined to a room{broken}", ROOMS, rooms, len(unlisted)),
            ]
            for user_id in not_closed:
                self._fail(user_id, "is still active")
            for user_id in in_rooms:
                self._fail(user_id, "is still joined")
        closed = self.fact("closed", "states", "total")
        if closed:
            salt = {"salt": self.certificate["salt"]} if "digests" in closed else {}
            self.accounts["deactivated"] = {"at": self.now, **closed, **salt}

    def _proof(self, claim: str, read: str, looked_at: int, found: int, **more: int) -> dict[str, Any]:
        return {"claim": claim, "read": read, "at": self.now, "looked_at": looked_at, "found": found, **more}

    def _stage_power_off(self) -> None:
        self._stage_verify()
        gate = self._add_remote_servers("gate")
        if gate.get("checked") and "proof" in self.certificate:
            states = ("ghosts", "refused", "unconfirmed")
            rooms = sum(row["rooms"] - row["confirmed_rooms"] for row in gate["servers"] if row["state"] in states)
            # The list of servers may be cut, their counts are not.
            found = max(rooms, sum(gate["summary"].get(state, 0) for state in states))
            claim = "every remote server that answers has confirmed that it lists no account"
            self.certificate["proof"].append(self._proof(claim, CHECKS, gate["summary"]["pairs"], found))


def _only_active(accounts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """The counts by class and state without the accounts that are deactivated."""
    counts = {
        kind: {state: number for state, number in states.items() if state not in ("deactivated", "erased")}
        for kind, states in accounts.items()
    }
    return {kind: states for kind, states in counts.items() if states}


def conclude(certificate: Certificate, now: int) -> Certificate:
    """The same as far as the schema has room for it, with its state and its findings."""
    certificate = fit(certificate, SCHEMA)
    certificate["updated"] = max(now, certificate["created"])
    certificate["collection"]["version"] = collection_version()
    certificate["state"] = _state(certificate)
    findings = [*_stage_findings(certificate), *_remote_findings(certificate)]
    certificate["warnings"] = [{"kind": kind, "text": text} for kind, text in findings]
    return certificate


def _newest(certificate: Certificate) -> tuple[str, dict[str, Any]] | None:
    """The attempt that was started last, with its stage. A preflight that succeeded changes no state."""
    attempts = [
        (stage["stage"], attempt)
        for stage in certificate["stages"]
        for attempt in stage["attempts"][-1:]
        if len(certificate["stages"]) == 1 or (stage["stage"], attempt["result"]) != ("preflight", "done")
    ]
    return max(reversed(attempts), key=lambda pair: int(pair[1]["started"]), default=None)


def _state(certificate: Certificate) -> str:
    name, attempt = _newest(certificate) or ("", {"result": "started"})
    if name == "preflight" and attempt["result"] != "done" and _was_powered_off(certificate):
        # A host that is off does not answer.
        return "powered_off"
    if attempt["result"] in ("failed", "waiting"):
        return str(attempt["result"])
    if attempt["result"] == "done" and name == "power_off":
        return "powered_off"
    if attempt["result"] == "done" and name == "verify":
        return "verified" if certificate.get("remote_servers", {}).get("finished", True) else "waiting"
    return "begun"


def _was_powered_off(certificate: Certificate) -> bool:
    """Whether the last stage that succeeded was the power-off."""
    done = [
        (attempt["started"], stage["stage"])
        for stage in certificate["stages"]
        for attempt in stage["attempts"]
        if attempt["result"] == "done"
    ]
    return max(reversed(done), key=lambda pair: int(pair[0]), default=(0, ""))[1] == "power_off"


def plural(number: int, one: str, many: str) -> str:
    return f"1 {one}" if number == 1 else f"{number:,} {many}"


def _some(names: Sequence[str], total: int) -> str:
    """The first of I(total) names."""
    shown = ", ".join(names[:MAX_NAMES_IN_MESSAGE])
    more = total - len(names[:MAX_NAMES_IN_MESSAGE])
    return f"{shown} and {more:,} more" if more > 0 else shown


def _stage_findings(certificate: Certificate) -> Iterator[tuple[str, str]]:
    last = _newest(certificate)
    for stage in certificate["stages"]:
        attempt, name = stage["attempts"][-1], stage["stage"]
        if attempt["result"] == "failed":
            yield "failed", f"Stage {name} failed: {attempt['reason'] or 'no reason was given'}"
        if attempt["result"] == "interrupted":
            yield "interrupted", f"Stage {name} was interrupted and has not been run again."
        if attempt["result"] == "started" and last and last[0] == name:
            yield "started", f"Stage {name} has started and not ended. Unless it is still running, it was interrupted."
    for proof in certificate.get("proof", []):
        if proof["found"] and proof["read"] != CHECKS:
            yield "disproved", f"Does not hold: {proof['claim']}. Exceptions: {proof['found']:,}."
    if certificate["state"] == "powered_off" and not certificate.get("proof"):
        yield "unproven", "The host was powered off without a proof that no account is active or joined."
    failures = sum(stage["failures_total"] for stage in certificate["stages"])
    if failures:
        yield "failures", f"{plural(failures, 'failure', 'failures')}: see the table under Failures."
    if certificate["server"].get("registration") and certificate["state"] != "powered_off":
        yield "registration", "Registration was open at the preflight."


CHECK_AGAIN = "Check again later with the module matrix_ghosts, from any machine that has the signing key."
REMOTE_FINDINGS = {
    "ghosts": ("Accounts still listed", CHECK_AGAIN),
    "refused": ("Refused", "Ask a user who can kick the accounts (see Unconfirmed rooms) to do so, then check again."),
    "unreachable": ("Unreachable", CHECK_AGAIN),
    "unconfirmed": ("Unconfirmed", f"The reasons are under Remote servers. {CHECK_AGAIN}"),
}


def _remote_findings(certificate: Certificate) -> Iterator[tuple[str, str]]:
    remote = certificate.get("remote_servers")
    if not remote:
        return
    servers = plural(servers_total(remote), "remote server", "remote servers")
    names, number = unconfirmed(remote)
    if not remote["checked"]:
        text = f"No remote server was asked (decommission_ghost_checks: false), 0 of {servers} confirmed."
        yield "not_checked", f"{text} {CHECK_AGAIN}"
    elif number and not remote["finished"]:
        text = f"Not confirmed yet: {number:,} of {servers} ({_some(names, number)})."
        yield "not_confirmed_yet", f"{text} Run the stage propagate again."
    for state, (label, step) in REMOTE_FINDINGS.items():
        number = remote["summary"].get(state, 0)
        if number and remote["checked"] and remote["finished"]:
            names = [row["server"] for row in remote["servers"] if row["state"] == state]
            yield state, f"{label}: {number:,} of {servers} ({_some(names, number)}). {step}"
    if remote["finished"] and remote["early"]:
        yield "early", "The checks ended before the propagation period was over (decommission_early_exit)."
    broken = [room["room_id"] for room in remote["broken_rooms"]]
    if broken:
        names = sorted({name for room in remote["broken_rooms"] for name in room["not_confirmed_by"]})
        text = f"Broken rooms, which could not be left on this server: {len(broken):,} ({_some(broken, len(broken))})."
        step = f"Not confirmed by {_some(names, len(names))}. {CHECK_AGAIN}"
        yield "broken_rooms", f"{text} {step if names else 'All remote servers in them have confirmed.'}"
    unreadable = [room["room_id"] for room in remote.get("unreadable_rooms", [])]
    if unreadable:
        text = f"Rooms whose remote servers are unknown: {len(unreadable):,} ({_some(unreadable, len(unreadable))})."
        yield "unreadable_rooms", f"{text} Synapse could not read them before they were recorded."


def servers_total(remote: Mapping[str, Any]) -> int:
    """How many remote servers there are, without those that are ignored."""
    return sum(remote["summary"].get(state, 0) for state in REMOTE_STATES)


def unconfirmed(remote: Mapping[str, Any]) -> tuple[list[str], int]:
    """The names of servers that have not confirmed, at most as many as are listed, and their number."""
    names = [row["server"] for row in remote["servers"] if row["state"] != "confirmed"]
    return names, servers_total(remote) - remote["summary"].get("confirmed", 0)


def summary(certificate: Certificate) -> str:
    """One line for a terminal, of printable characters."""
    accounts, remote = certificate.get("accounts", {}), certificate.get("remote_servers")
    parts = [f"{certificate['server']['name']}: {STATES[certificate['state']][0].lower()}"]
    if "deactivated" in accounts:
        parts.append(f"{plural(accounts['deactivated']['total'], 'account', 'accounts')} deactivated")
    if remote:
        servers = plural(servers_total(remote), "remote server", "remote servers")
        names, number = unconfirmed(remote)
        confirmed = f"{servers_total(remote) - number:,} of {servers} confirmed"
        missing = f", not {_some(names, number)}" if number else ""
        parts.append(confirmed + missing if remote["checked"] else f"{servers} not asked")
    failures = sum(stage["failures_total"] for stage in certificate["stages"])
    parts.append(plural(failures, "failure", "failures"))
    if certificate["state"] == "failed":
        parts += [warning["text"] for warning in certificate["warnings"] if warning["kind"] == "failed"]
    return "".join(character if character.isprintable() else "?" for character in "; ".join(parts))


# Redaction


class Redaction:
    """Replaces secrets in all texts and, unless I(ids), the IDs of local accounts.

    :param spared: a user ID that stays, which is the operator's.
    """

    def __init__(self, server_name: str, salt: str, *, secrets: list[str], ids: bool, spared: str | None) -> None:
        self._salt = salt
        self._secrets = [secret for secret in secrets if secret]
        self._ids = ids
        self._spared = spared
        self._known: dict[str, str] = {}
        self._server_name = server_name
        localpart = r"(?P<name>[^\s:@]+)"
        encoded = r"(?P<name>(?:[^\s/?%:@]|%(?!3[aA])[0-9a-fA-F]{2})+)"
        self._patterns = [
            re.compile(f"@{localpart}:{re.escape(server_name)}(?!:\\d|[\\w.-]*\\w)"),
            re.compile(f"%40{encoded}%3[aA]{re.escape(quote(server_name, safe=''))}"),
        ]

    def __call__(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return {self._text(k): item if k in ("salt", "digests") else self(item) for k, item in value.items()}
        return [self(item) for item in value] if isinstance(value, list) else value

    def _text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "********")
        if self._ids or ("@" not in text and "%40" not in text):
            return text
        for pattern in self._patterns:
            text = pattern.sub(self._alias_of, text)
        return text

    def _alias_of(self, found: re.Match[str]) -> str:
        user_id = f"@{unquote(found['name'])}:{self._server_name}"
        if user_id == self._spared:
            return user_id
        if user_id not in self._known:
            self._known[user_id] = f"#{digest(user_id, self._salt)[:WIDEST]}"
        return self._known[user_id]


# Files


def file_name(server_name: str) -> str:
    """The base name of a server's files: its name if that is safe on any file system, else with a part of a digest."""
    safe = re.sub(r"[^a-zA-Z0-9.-]", "_", server_name).strip(".") or "_"
    if safe == server_name and safe not in ("fleet",) and len(safe) <= 200:
        return safe
    return f"{safe[:200]}-{hashlib.sha256(server_name.encode()).hexdigest()[:6]}"


class Directory:
    """The directory of the certificates. All methods may raise C(OSError)."""

    def __init__(self, path: str) -> None:
        self.path = Path(os.path.abspath(os.path.expanduser(path)))

    def json_path(self, server_name: str) -> Path:
        return self.path / f"{file_name(server_name)}.json"

    def html_path(self, server_name: str) -> Path:
        return self.path / f"{file_name(server_name)}.html"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock on the directory, which the hosts of one run share."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.path / ".lock", "a", opener=_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self, server_name: str) -> Certificate | None:
        """The certificate of a server, or none if there is no valid one."""
        try:
            content = self.json_path(server_name).read_bytes()
        except FileNotFoundError:
            return None
        return _parsed(content, server_name)

    def read_all(self) -> list[Certificate]:
        """All valid certificates that have the file name of their server, sorted by that."""
        found = []
        for path in sorted(self.path.glob("*.json")):
            with suppress(OSError):
                certificate = _parsed(path.read_bytes())
                if certificate and path == self.json_path(certificate["server"]["name"]):
                    found.append(certificate)
        return found

    def set_aside(self, server_name: str, now: int) -> Path | None:
        """Rename a file that is in the way of a certificate, to a name that is not in use, and return that."""
        path = self.json_path(server_name)
        if not os.path.lexists(path):
            return None
        names = (path.with_name(f"{path.name}.{now}{f'.{n}' if n else ''}.aside") for n in itertools.count())
        aside = next(name for name in names if not os.path.lexists(name))
        path.rename(aside)
        return aside

    def write(self, certificate: Certificate, html: str) -> None:
        name = certificate["server"]["name"]
        problem = departure(certificate, SCHEMA)
        if problem:
            raise AssertionError(f"the certificate is not as its schema says: {problem}")
        # JSON first: the page can be made from it.
        self.replace(self.json_path(name), json.dumps(certificate, indent=2) + "\n")
        self.replace(self.html_path(name), html)

    def replace(self, path: Path, text: str) -> None:
        """Replace a file atomically: readers see the old or the new one, also after a power failure."""
        fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
        with suppress(FileNotFoundError):
            fresh.unlink()
        try:
            with open(fresh, "xb", opener=_private) as file:
                file.write(text.encode("utf-8", "replace"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, path)
        except BaseException:
            with suppress(OSError):
                fresh.unlink()
            raise
        directory = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _parsed(content: bytes, server_name: str | None = None) -> Certificate | None:
    try:
        certificate = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if departure(certificate, SCHEMA) or server_name not in (None, certificate["server"]["name"]):
        return None
    return dict(certificate)


TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def fit(value: Any, schema: Mapping[str, Any]) -> Any:
    """Cut a value to what a JSON Schema allows: its properties, C(maxLength) of texts, C(maxItems) of lists."""
    if isinstance(value, dict):
        known, more = schema.get("properties", {}), schema.get("additionalProperties", {})
        return {k: fit(item, known.get(k, more or {})) for k, item in value.items() if k in known or more is not False}
    if isinstance(value, list):
        return [fit(item, schema.get("items", {})) for item in value[: schema.get("maxItems")]]
    return value[: schema.get("maxLength")] if isinstance(value, str) else value


def departure(value: Any, schema: Mapping[str, Any], where: str = "") -> str | None:
    """Where a value first departs from a JSON Schema, and how. Supports the keywords that our schema uses, so that the
    controller needs no further library.
    """
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is_a(value, kind) for kind in kinds):
        return f"{where or 'it'} is not of type {' or '.join(kinds)}"
    if "const" in schema and (value != schema["const"] or isinstance(value, bool)):
        return f"{where} is not {schema['const']}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{where} is none of {', '.join(schema['enum'])}"
    if isinstance(value, str):
        fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        if not fits or not re.search(schema.get("pattern", ""), value):
            return f"{where} has an invalid length or form"
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and value < schema.get("minimum", value):
        return f"{where} is too small"
    elif isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return f"{where} has {len(value)} items"
        problems = (departure(item, schema.get("items", {}), f"{where}[{i}]") for i, item in enumerate(value))
        return next((problem for problem in problems if problem), None)
    elif isinstance(value, dict):
        missing = [name for name in schema.get("required", []) if name not in value]
        if missing:
            return f"{where or 'it'} has no {missing[0]}"
        known = schema.get("properties", {})
        more = schema.get("additionalProperties", {})
        for name, item in value.items():
            if name not in known and more is False:
                return f"{where or 'it'} has a {name}"
            problem = departure(item, known.get(name, more), f"{where}.{name}".lstrip("."))
            if problem:
                return problem
    return None


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES[kind])
