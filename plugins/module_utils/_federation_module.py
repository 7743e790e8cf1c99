# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base of the modules that send requests to remote servers: options, client, errors and results."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, TypeVar

from ansible.module_utils.basic import AnsibleModule, env_fallback

from ._decommission.alongside import may_be_member
from ._decommission.ghost_record import GhostRecord
from ._decommission.ghosts import GhostRun, Room
from ._decommission.sources import Sources, merge, room_of
from ._federation.checks import STATES, UNKNOWN, PairResult
from ._federation.client import FederationClient
from ._federation.connect import Connection, Settings, connect
from ._federation.errors import FederationError, InvalidNameError, MissingRequirementError
from ._federation.names import ServerName
from ._federation.pacing import Pacing
from ._federation.signing import DEBIAN_KEY, read_key_file
from ._results import MAX_NAMES
from ._synapse.client import Client
from ._synapse.connection import REQUESTS_IMPORT_ERROR
from ._synapse.errors import FatalError, SynapseError
from ._text import plural, printable, with_advice

MAX_SIZE = 200_000
"""Maximum size of each list in a result in bytes. Names have up to 255 bytes, and reasons quote remote servers."""
MAX_ACCOUNTS = 10
"""Maximum number of accounts of a pair in a result."""

REMOTE_OPTIONS: dict[str, dict[str, Any]] = {
    "ip_allowlist": {"type": "list", "elements": "str", "default": []},
    "proxy": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "timeout": {"type": "int", "default": 30},
}
"""How to reach remote servers."""
OPTIONS: dict[str, dict[str, Any]] = {
    "server_name": {"type": "str", "required": True},
    "signing_key_path": {"type": "path", "default": DEBIAN_KEY},
    "signing_key": {"type": "str", "no_log": True},
    "require_key_answer": {"type": "bool", "default": False},
    **REMOTE_OPTIONS,
    "max_concurrent": {"type": "int", "default": 3},
    "max_rate": {"type": "int", "default": 8},
}
GHOST_OPTIONS: dict[str, dict[str, Any]] = {
    "rooms": {
        "type": "list",
        "elements": "dict",
        "options": {
            "room_id": {"type": "str", "required": True},
            "servers": {"type": "list", "elements": "str", "required": True},
            "accounts": {"type": "list", "elements": "str", "default": []},
            "pending": {"type": "list", "elements": "str", "default": []},
        },
    },
    "rooms_paths": {"type": "list", "elements": "path", "default": []},
    "witness_url": {"type": "str"},
    "witness_token": {"type": "str", "no_log": True},
    "log_paths": {"type": "list", "elements": "path", "default": []},
    "base_url": {"type": "str", "fallback": (env_fallback, ["SYNAPSE_BASE_URL"])},
    "access_token": {"type": "str", "no_log": True, "fallback": (env_fallback, ["SYNAPSE_ACCESS_TOKEN"])},
    "alongside": {"type": "bool", "default": False},
    "max_state_size": {"type": "int", "default": 128},
    "record_path": {"type": "path"},
    "recheck": {"type": "bool", "default": False},
    "progress_path": {"type": "path"},
}
SOURCES = ("rooms", "rooms_paths", "witness_url", "log_paths")
"""The options that name rooms. Without any, they are read from the homeserver."""

Item = TypeVar("Item")


class Run(NamedTuple):
    """The checks of a module, and what they need."""

    ghosts: GhostRun
    rooms: list[Room]
    sources: dict[str, int]
    """Number of rooms by the name of the source."""
    synapse: Client | None
    """The admin API of the homeserver, if base_url is set."""
    homeserver: str
    """Name and version of the homeserver that answers under server_name; empty if none does."""

    @property
    def removed(self) -> int:
        """Number of removed accounts, each counted once for each server and room."""
        return sum(len(result.removed) for result in self.ghosts.results.values())


@contextmanager
def _option(name: str) -> Iterator[None]:
    """Prefix errors of names with the name of the option."""
    try:
        yield
    except InvalidNameError as error:
        raise InvalidNameError(f"{name}: {error}") from None


def settings(params: Mapping[str, Any]) -> Settings:
    """Return the settings of C(REMOTE_OPTIONS)."""
    return Settings(
        ca_path=params["ca_path"],
        proxy=params["proxy"],
        ip_allowlist=tuple(params["ip_allowlist"]),
        timeout=float(params["timeout"]),
    )


class FederationModule(AnsibleModule):
    """A module that signs requests to remote servers."""

    def __init__(self, options: dict[str, dict[str, Any]], **arguments: Any) -> None:
        """
        :param options: options of the module in addition to C(OPTIONS). Numbers must be 1 or more.
        """
        self._client: FederationClient | None = None
        super().__init__(argument_spec={**OPTIONS, **options}, supports_check_mode=True, **arguments)
        for option, value in self.params.items():
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                self.fail_json(msg=f"{option} is {value}: set it to 1 or more")

    @contextmanager
    def signing_key(self) -> Iterator[str]:
        """Read the signing key, for C(connect). An error, also one in the context, fails the module."""
        try:
            with _option("server_name"):
                ServerName.parse(self.params["server_name"])
            key = self.params["signing_key"]
            yield read_key_file(self.params["signing_key_path"]) if key is None else key
        except SynapseError as error:
            message = with_advice(str(error), error.advice)
            self.fail_json(msg=message, status=error.status, errcode=error.errcode, changed=self._has_written())
        except (FederationError, OSError, ValueError) as error:
            self.fail_json(msg=str(error), changed=self._has_written())

    @contextmanager
    def connect(self, key: str, servers: Iterable[str]) -> Iterator[Connection]:
        """Open a client with the settings of the options. For arguments and errors, see C(connect)."""
        params = self.params
        pacing = Pacing(params["max_concurrent"], float(params["max_rate"]))
        with connect(
            params["server_name"],
            key,
            replace(settings(params), pacing=pacing),
            servers,
            require_key_answer=params["require_key_answer"],
        ) as connection:
            self._client = connection.client
            yield connection

    def _has_written(self) -> bool:
        """Whether a leave may have been sent, also before an error."""
        return self._client is not None and self._client.written > 0

    def fail_json(self, msg: str, **result: Any) -> None:
        super().fail_json(msg=printable(msg), **result)


class GhostsModule(FederationModule):
    """A module that checks rooms on remote servers."""

    def __init__(self) -> None:
        super().__init__(
            GHOST_OPTIONS,
            required_by={"base_url": ("access_token",)},
            required_together=[("witness_url", "witness_token")],
            required_if=[("alongside", True, ("base_url", "access_token"))],
        )
        if not self._names_rooms and not self._reads_homeserver:
            self.fail_json(msg=f"No source of rooms: set at least one of {', '.join(SOURCES)} and base_url")

    @property
    def _names_rooms(self) -> bool:
        """Whether an option names rooms. An empty list of rooms is one, too."""
        return self.params["rooms"] is not None or any(self.params[name] for name in SOURCES)

    @property
    def _reads_homeserver(self) -> bool:
        """Whether the rooms are those of the homeserver: not those of one that was set up anew."""
        return self.params["base_url"] is not None and not self._names_rooms and not self.params["alongside"]

    @contextmanager
    def open(self) -> Iterator[Run]:
        """Determine the rooms, and connect. An error, also one in the context, fails the module."""
        params = self.params
        # Check mode writes nothing, but uses an existing record.
        progress_path = None if self.check_mode else params["progress_path"]
        with self.signing_key() as key, ExitStack() as stack:
            synapse = self._client_of("base_url", "access_token", stack)
            self._assert_server_name(synapse)
            found = self._sources(synapse, stack).read(params["server_name"])
            rooms = merge(room for source in found.values() for room in source)
            record = GhostRecord(params["record_path"], params["server_name"], progress_path=progress_path)
            servers = dict.fromkeys(server for room in rooms for server in room.servers)
            with self.connect(key, servers) as connection:
                ghosts = GhostRun(connection.client, record.add, state_limit=params["max_state_size"] * 1024 * 1024)
                if synapse is not None and params["alongside"]:
                    ghosts.is_member = partial(may_be_member, synapse)
                ghosts.results.update(record.begin(rooms, recheck=params["recheck"]))
                sources = {name: len(source) for name, source in found.items()}
                run = Run(ghosts, rooms, sources, synapse, connection.homeserver)
                with nullcontext() if self.check_mode else record:
                    yield run
                    if record.to_check:
                        record.end({**as_result(run), "removed": run.removed})

    def _client_of(self, url: str, token: str, stack: ExitStack) -> Client | None:
        """Return a client of the homeserver that two options name, if they are set."""
        params = self.params
        if params[url] is None:
            return None
        if REQUESTS_IMPORT_ERROR is not None:
            raise MissingRequirementError("requests")
        return stack.enter_context(Client(params[url], params[token], verify=params["ca_path"] or True))

    def _assert_server_name(self, synapse: Client | None) -> None:
        name = self.params["server_name"]
        if synapse is not None and synapse.server_name != name:
            raise FatalError(
                f"base_url is the URL of {synapse.server_name}, but server_name is {name}: correct one of them"
            )

    def _sources(self, synapse: Client | None, stack: ExitStack) -> Sources:
        params = self.params
        return Sources(
            self._rooms(),
            params["rooms_paths"],
            synapse if self._reads_homeserver else None,
            self._client_of("witness_url", "witness_token", stack),
            params["log_paths"],
        )

    def _rooms(self) -> list[Room]:
        rooms = [room_of(option, self.params["server_name"]) for option in self.params["rooms"] or ()]
        for room_id, count in Counter(room.room_id for room in rooms).items():
            if count > 1:
                raise InvalidNameError(f"rooms: {room_id} has {count} entries: list all of its servers in one entry")
        return rooms


def as_result(run: Run) -> dict[str, Any]:
    """Return the result of both modules."""
    results = run.ghosts.results.values()
    open_results = [result for result in results if result.state != "confirmed"]
    counts = run.ghosts.counts()
    return {
        "message": message(run),
        "key_id": run.ghosts.client.key.key_id,
        "sources": run.sources,
        "pairs": len(run.ghosts.results),
        "counts": {state: counts[state] for state in STATES},
        "ghosts": sum(membership != UNKNOWN for result in results for membership in result.ghosts.values()),
        "requests": run.ghosts.client.sent,
        "servers": shown(_server(name, found) for name, found in _by_server(results).items()),
        "not_confirmed": shown(map(_pair, open_results)),
    }


def message(run: Run) -> str:
    """Return the result in one line."""
    counts = run.ghosts.counts()
    results = run.ghosts.results
    pairs = plural(len(results), "pair of server and room", "pairs of server and room")
    parts = [f"{counts['confirmed']:,} of {pairs} confirmed"]
    parts += [f"{counts[state]:,} {'with ' * (state == 'ghosts')}{state}" for state in STATES[1:] if counts[state]]
    return "; ".join([*parts, *([f"{plural(run.removed, 'ghost', 'ghosts')} removed"] if run.removed else [])])


def shown(items: Iterable[Item]) -> list[Item]:
    """Return the first items, as many as a result may have."""
    found, bytes_left = [], MAX_SIZE
    for item in islice(items, MAX_NAMES):
        bytes_left -= len(json.dumps(item)) + 2
        if bytes_left < 0:
            break
        found.append(item)
    return found


def _by_server(results: Iterable[PairResult]) -> dict[str, list[PairResult]]:
    """Return the results by server, those with most pairs that are not confirmed first."""
    found: dict[str, list[PairResult]] = {}
    for result in results:
        found.setdefault(result.pair.server, []).append(result)

    def order(name: str) -> tuple[int, str]:
        return -sum(result.state != "confirmed" for result in found[name]), name

    return {name: found[name] for name in sorted(found, key=order)}


def _server(name: str, results: list[PairResult]) -> dict[str, Any]:
    return {
        "server": name,
        "rooms": len(results),
        **{state: sum(result.state == state for result in results) for state in STATES},
        "removed": sum(len(result.removed) for result in results),
    }


def _pair(result: PairResult) -> dict[str, Any]:
    return {
        "server": result.pair.server,
        "room_id": result.pair.room_id,
        "state": result.state,
        "reason": result.reason,
        "ghosts": [
            {"user_id": user_id, "membership": membership}
            for user_id, membership in islice(result.ghosts.items(), MAX_ACCOUNTS)
        ],
        "ghosts_total": len(result.ghosts),
    }
