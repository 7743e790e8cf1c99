# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificate of a retirement: what is in it, and how it is kept on the controller."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping
from urllib.parse import quote, unquote

from ansible_collections.matrixops.synapse.plugins.module_utils._digest import WIDEST, digest

COLLECTION = Path(__file__).parents[2]
ROLE = COLLECTION / "roles/decommission"
SCHEMA: dict[str, Any] = json.loads((ROLE / "files/certificate.schema.json").read_text(encoding="utf-8"))
VERSION = 1
MOST_ATTEMPTS = 20
MOST_DRAINS = 20
MOST_ITEMS = 1000

Certificate = Dict[str, Any]
"""As the schema says."""

USERS = "GET /_synapse/admin/v2/users"
JOINED_ROOMS = "GET /_synapse/admin/v1/users/<user_id>/joined_rooms"
ROOMS = "GET /_synapse/admin/v1/rooms"
DESTINATIONS = "GET /_synapse/admin/v1/federation/destinations"


# What is in it


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
    """Whatever had begun before, and has no end, was interrupted."""
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
    if len(stage["attempts"]) > MOST_ATTEMPTS:
        del stage["attempts"][1]


def end_stage(certificate: Certificate, name: str, result: str, now: int, reason: str | None = None) -> None:
    stage = next(stage for stage in certificate["stages"] if stage["stage"] == name)
    stage["attempts"][-1].update(ended=max(now, stage["attempts"][-1]["started"]), result=result, reason=reason)


def under_way(certificate: Certificate) -> str | None:
    """The stage that has begun, and not ended."""
    names = [stage["stage"] for stage in certificate["stages"] if stage["attempts"][-1]["result"] == "started"]
    return names[-1] if names else None


def newest(certificate: Certificate) -> tuple[str, dict[str, Any]] | None:
    """The stage that was begun last, and that attempt. That the server was looked at once more does not count."""
    attempts = [
        (stage["stage"], attempt)
        for stage in certificate["stages"]
        for attempt in stage["attempts"][-1:]
        if len(certificate["stages"]) == 1 or (stage["stage"], attempt["result"]) != ("preflight", "done")
    ]
    return max(reversed(attempts), key=lambda pair: int(pair[1]["started"]), default=None)


def add_facts(certificate: Certificate, stage: str, facts: Mapping[str, Any], now: int) -> None:
    """What the tasks of a stage have registered. What is not there, or has failed, is left out."""
    _Facts(certificate, stage, facts, now).add()


class _Facts:
    def __init__(self, certificate: Certificate, stage: str, facts: Mapping[str, Any], now: int) -> None:
        self.certificate = certificate
        self.stage = stage
        self.facts = facts
        self.now = now
        self.failures: list[dict[str, Any]] = []
        self.failures_total = 0

    def fact(self, name: str, *keys: str) -> dict[str, Any] | None:
        found = self.facts.get(name)
        return dict(found) if isinstance(found, Mapping) and all(key in found for key in keys) else None

    def add(self) -> None:
        self._add_milestones()
        add = {
            "preflight": self._add_preflight,
            "prepare": self._add_prepare,
            "drain": self._add_drain,
            "leave_rooms": self._add_left_rooms,
            "propagate": self._add_propagation,
            "verify": self._add_verify,
            "power_off": self._add_power_off,
        }.get(self.stage)
        if add:
            add()
        stages = [stage for stage in self.certificate["stages"] if stage["stage"] == self.stage]
        for stage in stages:
            stage["failures"] = self.failures[:MOST_ITEMS]
            stage["failures_total"] = max(self.failures_total, len(self.failures))

    def _fail(self, subject: Any, reason: Any, room: Any = None) -> None:
        failure = {"subject": str(subject), "reason": None if reason is None else str(reason)}
        self.failures.append(failure if room is None or room == subject else {**failure, "room": str(room)})

    def _add_failures(self, result: Mapping[str, Any]) -> None:
        for item in result.get("failures") or []:
            subject = next((item[key] for key in ("user_id", "alias", "room_id") if item.get(key)), "?")
            self._fail(subject, item.get("reason"), item.get("room_id"))
        self.failures_total += int(result.get("failures_total", len(result.get("failures") or [])))

    def _add_milestones(self) -> None:
        state = self.fact("state", "milestones")
        if state:
            self.certificate["milestones"] = {name: int(time) for name, time in state["milestones"].items()}

    def _add_preflight(self) -> None:
        certificate = self.certificate
        server = self.fact("server", "server_name", "version")
        if server:
            names = ("version", "operator", "registration")
            certificate["server"].update({name: server.get(name) for name in names})
        plan = self.fact("plan", "plan")
        accounts = certificate.setdefault("accounts", {})
        # As it was before anybody was closed.
        if plan and ("before" not in accounts or "started" not in certificate.get("milestones", {})):
            accounts["before"] = {"at": self.now, "counts": _only_open(plan["plan"]["accounts"])}

    def _add_prepare(self) -> None:
        announced = self.fact("announcement")
        if announced and "sent" in announced:
            self.certificate["announced"] = {
                "sent": count(announced["sent"]),
                "unchanged": count(announced.get("unchanged")),
                "failed": count(announced.get("failures_total", announced.get("failures"))),
            }
        for fact, key, name in (
            ("handover", "handed_over", "handed_over"),
            ("handover", "not_handed_over", "not_handed_over"),
            ("aliases", "aliases", "aliases"),
            ("demotion", "demoted", "demoted"),
        ):
            result = self.fact(fact, key)
            if result:
                listed = [item if isinstance(item, dict) else {"room_id": item} for item in as_list(result[key])]
                # What an earlier run has done need not be done again. What is left of it is what the newest says.
                total = 0
                if name != "not_handed_over":
                    listed = [*(item for item in self.certificate.get(name, []) if item not in listed), *listed]
                    total = self.certificate.get(f"{name}_total", 0)
                self.certificate[name] = listed[:MOST_ITEMS]
                self.certificate[f"{name}_total"] = max(total, len(listed))
        for fact in ("announcement", "handover", "aliases", "demotion"):
            self._add_failures(self.fact(fact) or {})

    def _add_drain(self) -> None:
        result = self.fact("drain", "deactivated", "parted", "timeline")
        if not result:
            return
        drain = {
            "ended": self.now,
            "failures_total": result["failures_total"],
            "not_parted_total": result["not_parted_total"],
            "not_redacted_total": len(result.get("not_redacted") or []),
            **{key: result[key] for key in ("elapsed", "deactivated", "unchanged", "parted", "passes", "timeline")},
        }
        if result.get("proof"):
            drain["proven"] = result["proof"]
        drains = self.certificate.setdefault("drains", [])
        if not drains or drain["deactivated"] + drain["parted"] + drain["failures_total"] > 0:
            drains.append(drain)
            del drains[:-MOST_DRAINS]
        self._add_failures(result)
        for account in result["not_parted"]:
            for room in account["rooms"]:
                self._fail(account["user_id"], f"is still in a room: {room['reason']}", room["room_id"])
        for account in result.get("not_redacted") or []:
            self._fail(account["user_id"], f"{account['events']} events were not redacted: {account['reason']}")
        self.failures_total += result["not_parted_total"] + drain["not_redacted_total"]
        anchors = self.fact("anchors_chosen", "user_ids") or self.fact("anchors_read", "user_ids")
        self.certificate.setdefault("accounts", {})["anchors"] = len(anchors["user_ids"]) if anchors else 0

    def _add_left_rooms(self) -> None:
        result = self.fact("leave", "accounts")
        if not result:
            return
        before = self.certificate.get("left_rooms", {})
        found = {key: sum(len(a[key]) for a in result["accounts"]) for key in ("left", "rejected", "retracted")}
        self.certificate["left_rooms"] = {
            "accounts": len(result["accounts"]),
            **{key: number + before.get(key, 0) for key, number in found.items()},
        }
        for account in result["accounts"]:
            if account.get("error"):
                self._fail(account["user_id"], account["error"])
            for room in account.get("failed") or []:
                self._fail(account["user_id"], room["reason"], room["room_id"])

    def _add_propagation(self) -> None:
        self._add_ledger("propagation")

    def _add_ledger(self, name: str) -> None:
        result = self.fact(name, "summary", "history", "now")
        if not result:
            return
        keys = ("summary", "message", "finished", "early", "ends", "destinations", "destinations_total", "lost_total")
        ledger = {"at": result["now"], "stage": self.stage, **{key: result[key] for key in keys}}
        self.certificate["ledger"] = ledger
        self.certificate["propagation"] = result["history"]
        if result.get("second_wave_ended") is not None:
            self.certificate.setdefault("milestones", {})["second_wave_ended"] = result["second_wave_ended"]
        if name == "gate":  # which only looks
            return
        self._add_failures(result)
        for loss in result["lost"]:
            self._fail(loss["user_id"], f"the room has lost its anchor: {loss['reason']}", loss["room_id"])

    def _add_verify(self) -> None:
        certificate = self.certificate
        accounts = certificate.setdefault("accounts", {})
        opened = self.fact("open", "counts")
        joined = self.fact("joined", "users", "total")
        occupied = self.fact("occupied", "rooms")
        not_closed, in_rooms = self.facts.get("not_closed"), self.facts.get("in_rooms")
        if opened:
            accounts["open"] = {"at": self.now, "counts": opened["counts"]}
        if opened and joined and occupied and isinstance(not_closed, list) and isinstance(in_rooms, list):
            listed = {str(user["name"]) for user in joined["users"]}
            total = joined["total"]
            certificate["proof"] = [
                self._proof("no account is open but admins, those kept and anchors", USERS, total, not_closed),
                self._proof(
                    "no account is joined to a room but anchors, each read by itself",
                    JOINED_ROOMS,
                    total,
                    [user_id for user_id in in_rooms if user_id in listed],
                    requests=total,
                ),
                self._proof(
                    "nobody is in a room whom nobody can log in as",
                    ROOMS,
                    len(occupied["rooms"]),
                    [user_id for user_id in in_rooms if user_id not in listed],
                ),
            ]
            for user_id in not_closed:
                self._fail(user_id, "is open")
            for user_id in in_rooms:
                self._fail(user_id, "is in a room")
        closed = self.fact("closed", "states", "total")
        if closed:
            keys = ("total", "states", "digests", "width", "rounds", "user_ids")
            accounts["closed"] = {"at": self.now, **{key: closed[key] for key in keys if key in closed}}
            if "digests" in closed:
                accounts["closed"]["salt"] = certificate["salt"]

    def _proof(self, claim: str, read: str, looked_at: int, found: list[Any], **more: int) -> dict[str, Any]:
        return {"claim": claim, "read": read, "at": self.now, "looked_at": looked_at, "found": len(found), **more}

    def _add_power_off(self) -> None:
        self._add_verify()
        self._add_ledger("gate")
        ledger = self.certificate.get("ledger")
        gate = self.fact("gate", "summary", "now")
        if gate and ledger and "proof" in self.certificate:
            not_told = [None] * (gate["summary"]["total"] - gate["summary"]["delivered"])
            proof = self._proof("every other server has been told", DESTINATIONS, gate["summary"]["total"], not_told)
            self.certificate["proof"].append(proof)


def _only_open(accounts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Of how many accounts there are of each class in which state, those that are not closed."""
    counts = {
        kind: {state: number for state, number in states.items() if state not in ("deactivated", "erased")}
        for kind, states in accounts.items()
    }
    return {kind: states for kind, states in counts.items() if states}


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def count(value: Any) -> int:
    return len(value) if isinstance(value, (list, tuple, dict)) else int(value or 0)


def conclude(certificate: Certificate, now: int) -> None:
    """Draw from what is in it how the retirement stands, and what a reader must not miss."""
    certificate["updated"] = max(now, certificate["created"])
    certificate["collection"]["version"] = collection_version()
    certificate["state"] = _state(certificate)
    certificate["warnings"] = [{"kind": kind, "text": text} for kind, text in _warnings(certificate)]


def _state(certificate: Certificate) -> str:
    last = newest(certificate)
    if last is None:
        return "begun"
    name, attempt = last
    if name == "preflight" and attempt["result"] != "done" and _was_powered_off(certificate):
        # Nobody is there to be looked at.
        return "powered_off"
    if attempt["result"] in ("failed", "waiting"):
        return str(attempt["result"])
    if attempt["result"] == "done" and name == "power_off":
        return "powered_off"
    if attempt["result"] == "done" and name == "verify":
        return "verified" if certificate.get("ledger", {}).get("finished", True) else "waiting"
    return "begun"


def _was_powered_off(certificate: Certificate) -> bool:
    """Whether that was the last thing that was done."""
    done = [
        (attempt["started"], stage["stage"])
        for stage in certificate["stages"]
        for attempt in stage["attempts"]
        if attempt["result"] == "done"
    ]
    return max(reversed(done), key=lambda pair: int(pair[0]), default=(0, ""))[1] == "power_off"


def plural(number: int, one: str, many: str) -> str:
    return f"1 {one}" if number == 1 else f"{number:,} {many}"


def _warnings(certificate: Certificate) -> Iterator[tuple[str, str]]:
    name = certificate["server"]["name"]
    last = newest(certificate)
    for stage in certificate["stages"]:
        attempt = stage["attempts"][-1]
        if attempt["result"] == "failed":
            yield "failed", f"The stage {stage['stage']} failed: {attempt['reason'] or 'no reason was given'}"
        if attempt["result"] == "interrupted":
            yield (
                "interrupted",
                f"The stage {stage['stage']} was interrupted, and has not been gone through since.",
            )
        if attempt["result"] == "started" and last and last[0] == stage["stage"]:
            yield "started", f"The stage {stage['stage']} has begun. Unless it is still being run, it was interrupted."
    for proof in certificate.get("proof", []):
        if proof["found"] and proof["read"] != DESTINATIONS:
            yield "disproved", f"Not so: {proof['claim']}. There are {proof['found']:,} for which that does not hold."
    if certificate["state"] == "powered_off" and not certificate.get("proof"):
        yield "unproven", "The host was powered off, and nothing had been proven before."
    ledger = certificate.get("ledger")
    if ledger and ledger["destinations_total"]:
        total = ledger["summary"].get("total", ledger["destinations_total"])
        servers = f"{ledger['destinations_total']:,} of {plural(total, 'other server', 'other servers')}"
        were = "was" if ledger["destinations_total"] == 1 else "were"
        if ledger["finished"]:
            yield "never_told", f"{servers} {were} never told, and may go on showing accounts of {name}."
        else:
            yield "not_told", f"{servers} {were} not told yet."
    if ledger and ledger["finished"] and ledger["early"]:
        yield "early", "The end did not wait for the propagation period to be over, as was asked for."
    failures = sum(stage["failures_total"] for stage in certificate["stages"])
    if failures:
        yield "failures", f"{plural(failures, 'thing', 'things')} could not be done. They are listed below."
    if certificate.get("settings", {}).get("anchors") is False and "drains" in certificate:
        yield "anchors", "All left in one wave. Servers that were down meanwhile may go on showing accounts for good."
    if certificate["server"].get("registration") and certificate["state"] != "powered_off":
        yield "registration", "Registration was open when this began."


def summary(certificate: Certificate) -> str:
    """One line for a terminal: nothing in it moves the cursor."""
    accounts, ledger = certificate.get("accounts", {}), certificate.get("ledger")
    words = {
        "begun": "not finished",
        "waiting": "waiting until the propagation period is over",
        "failed": "failed",
        "verified": "drained and verified, and not powered off",
        "powered_off": "powered off",
    }
    parts = [f"{certificate['server']['name']}: {words[certificate['state']]}"]
    if "closed" in accounts:
        parts.append(plural(accounts["closed"]["total"], "account is closed", "accounts are closed"))
    if ledger:
        told = f"{ledger['summary'].get('delivered', 0):,} of {ledger['summary'].get('total', 0):,} servers told"
        names = [row["destination"] for row in ledger["destinations"][:5]]
        more = ", ..." if ledger["destinations_total"] > len(names) else ""
        parts.append(f"{told}, not {', '.join(names)}{more}" if names else told)
    failures = sum(stage["failures_total"] for stage in certificate["stages"])
    parts.append(plural(failures, "failure", "failures"))
    if certificate["state"] == "failed":
        parts += [warning["text"] for warning in certificate["warnings"] if warning["kind"] == "failed"]
    return "".join(character if character.isprintable() else "?" for character in "; ".join(parts))


# What must not be in it


class Redaction:
    """Takes secrets out of all texts, and unless I(ids), the names of local accounts.

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
            return {self._text(str(key)): self(item) for key, item in value.items()}
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


# The file


def file_name(server_name: str) -> str:
    """What to call a server's files: its name, if that is one that no file system minds."""
    safe = re.sub(r"[^a-zA-Z0-9.-]", "_", server_name).strip(".") or "_"
    if safe == server_name and safe not in ("fleet",) and len(safe) <= 200:
        return safe
    return f"{safe[:200]}-{hashlib.sha256(server_name.encode()).hexdigest()[:6]}"


class Directory:
    """Where the certificates are. All methods may raise C(OSError)."""

    def __init__(self, path: str) -> None:
        self.path = Path(os.path.abspath(os.path.expanduser(path)))

    def json_path(self, server_name: str) -> Path:
        return self.path / f"{file_name(server_name)}.json"

    def html_path(self, server_name: str) -> Path:
        return self.path / f"{file_name(server_name)}.html"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else reads and writes meanwhile: hosts of one run share the directory."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.path / ".lock", "a", opener=_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self, server_name: str) -> Certificate | None:
        """The certificate of a server, if there is a valid one."""
        try:
            content = self.json_path(server_name).read_bytes()
        except FileNotFoundError:
            return None
        return _parsed(content, server_name)

    def read_all(self) -> list[Certificate]:
        """Every valid certificate that is where it belongs, by name."""
        found = []
        for path in sorted(self.path.glob("*.json")):
            with suppress(OSError):
                certificate = _parsed(path.read_bytes())
                if certificate and path == self.json_path(certificate["server"]["name"]):
                    found.append(certificate)
        return found

    def set_aside(self, server_name: str, now: int) -> Path | None:
        """Give what is in the way of a certificate another name, and return that. Nothing is lost."""
        path = self.json_path(server_name)
        if not os.path.lexists(path):
            return None
        number = 0
        while True:
            aside = path.with_name(f"{path.name}.{now}{f'.{number}' if number else ''}.aside")
            if not os.path.lexists(aside):
                path.rename(aside)
                return aside
            number += 1

    def write(self, certificate: Certificate, html: str) -> None:
        name = certificate["server"]["name"]
        problem = departure(certificate, SCHEMA)
        if problem:
            raise AssertionError(f"the certificate is not as its schema says: {problem}")
        # JSON first: HTML is made of it.
        self.replace(self.json_path(name), json.dumps(certificate, indent=2) + "\n")
        self.replace(self.html_path(name), html)

    def replace(self, path: Path, text: str) -> None:
        """Whoever reads the file, or whenever all power fails, it is the old or the new."""
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


def departure(value: Any, schema: Mapping[str, Any], where: str = "") -> str | None:
    """Where, and how, something is not as a JSON Schema says. Only for what our schema makes use of: the library for
    all of it would be one more thing to install.
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
        if len(value) < schema.get("minLength", 0) or not re.search(schema.get("pattern", ""), value):
            return f"{where} is not as it must be"
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
