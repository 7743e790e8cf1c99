# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ledger, held against what the other servers themselves say of who is in their rooms."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lab import Homeserver, Lab, MissingError
from lab.api import Account
from lab.waiting import wait_until

from .conftest import Result, RunModule, unchanged

ROOT = Path(__file__).parents[2]
PUBLIC = {"preset": "public_chat"}

pytestmark = pytest.mark.nightly(category="anchors")


@dataclass
class Net:
    """The server ``a``, and those that it tells of what happens."""

    lab: Lab
    names: Iterator[int] = field(default_factory=itertools.count)

    def __getitem__(self, name: str) -> Homeserver:
        return self.lab[name]

    def account(self, server: str) -> Account:
        return self.lab[server].register(f"someone{next(self.names)}")

    def room(self, host: str, *others: str, anchored: bool, members: int = 2) -> Room:
        """A room of the host's, with so many members from ``a``, somebody from each other server, and the anchor."""
        owner = self.account(host)
        room_id = self.lab[host].create_room(owner.token, **PUBLIC)
        accounts = [self.account("a") for _member in range(members)]
        joining = [(other, self.account(other)) for other in others if other != "a"]
        joining += [("a", account) for account in accounts]
        if anchored:
            joining.append(("a", self.lab["a"].operator))
        for server, account in joining:
            self.lab[server].join(account.token, room_id, via=self.lab[host].server_name)
        if host == "a":
            accounts.append(owner)
        return Room(self, room_id, owner, accounts)

    def settle(self) -> None:
        # What has gone wrong once, Synapse tries again every minute.
        wait_until(self.settled, "a, b and c have told each other everything")

    def settled(self) -> bool:
        """Whether a, b and c have nothing left to tell each other."""
        lost = {self.lab["d"].server_name}
        return not any(self.lab[name].undelivered().keys() - lost for name in "abc")


@dataclass
class Room:
    net: Net
    room_id: str
    owner: Account
    accounts: list[Account]
    """Those of ``a``, without the anchor."""

    def leave(self) -> None:
        for account in self.accounts:
            self.net["a"].leave(account.token, self.room_id)

    def leave_anchor(self) -> None:
        self.net["a"].leave(self.net["a"].admin_token, self.room_id)

    def seen_by(self, server: str) -> set[str]:
        """Who of ``a`` is in the room, as another server sees it."""
        return set(self.net[server].members_of(self.net["a"].server_name).get(self.room_id, ()))

    @property
    def anchor_only(self) -> set[str]:
        return {self.net["a"].operator.user_id}


@pytest.fixture(scope="module")
def net(skip_or_fail: Callable[[str], None]) -> Iterator[Net]:
    try:
        with Lab(ROOT / ".cache/tests/federation", ["a", "b", "c", "d"], base_port=18650) as lab:
            yield Net(lab)
    except MissingError as missing:
        skip_or_fail(str(missing))


Info = Callable[..., Result]


@pytest.fixture
def connection(net: Net) -> dict[str, Any]:
    return {"base_url": net["a"].base_url, "access_token": net["a"].admin_token}


@pytest.fixture
def info(net: Net, connection: dict[str, Any], run_module: RunModule) -> Info:
    """Reads the ledger, of b and c only if not told otherwise, since tests leave others behind."""

    def read(**options: Any) -> Result:
        names = [net["b"].server_name, net["c"].server_name]
        return run_module("synapse_federation_info", {**connection, "destinations": names, **options})

    return read


def wait_for(info: Info, condition: Callable[[Result], bool], what: str, **options: Any) -> Result:
    last: list[Result] = []

    def holds() -> bool:
        last[:] = [info(**options)]
        return condition(last[0])

    try:
        wait_until(holds, what)
    except TimeoutError as error:
        raise TimeoutError(f"{error}; the last ledger: {dict(last[0], known=None)}") from None
    return last[0]


def told(ledger: Result) -> bool:
    return ledger["summary"]["delivered"] == ledger["summary"]["total"] == 2


def entries(ledger: Result) -> dict[str, tuple[str, str | None, list[str]]]:
    return {e["destination"]: (e["state"], e["reason"], e["rooms"]) for e in ledger["destinations"]}


def seen(room: Room, server: str, who: set[str]) -> None:
    """Wait for as long as a destination may take to act on what it has taken, and no longer."""
    wait_until(lambda: room.seen_by(server) == who, f"{server} sees {who} in the room")


def test_servers_that_are_up_are_told(net: Net, info: Info) -> None:
    rooms = {
        "b": net.room("a", "b", anchored=True),
        "c": net.room("a", "c", anchored=True),
        "bc": net.room("b", "c", anchored=True),
    }
    net.settle()
    since = info()["position"]
    for room in rooms.values():
        room.leave()
    ledger = wait_for(info, told, "both have been told", since=since)
    assert ledger["destinations"] == ledger["rooms_behind"] == []
    assert ledger["position"] > since
    for servers, room in rooms.items():
        for server in servers:
            seen(room, server, room.anchor_only)

    # Nothing is open, so nothing is looked at; and nothing is changed by looking.
    with unchanged(net["a"]):
        again = info(since=since, known=ledger["known"])
    assert told(again) and again["looked_at"] == 0 and again["changed"] is False

    # The anchors leave: everything is looked at again, and the single leave of each is told.
    for room in rooms.values():
        room.leave_anchor()
    last = wait_for(
        info, lambda now: told(now) and now["looked_at"] == 2, "of the anchors, too", since=since, known=again["known"]
    )
    assert last["position"] > ledger["position"]
    for servers, room in rooms.items():
        for server in servers:
            seen(room, server, set())
    # Who has not watched can't know that.
    assert {state for state, _reason, _rooms in entries(info(since=since)).values()} == {"unknown"}


def test_a_server_that_is_down_and_comes_back(net: Net, info: Info, connection: Any, run_module: RunModule) -> None:
    b, c = net["b"].server_name, net["c"].server_name
    with_b, with_c = net.room("a", "b", anchored=True), net.room("a", "c", anchored=True)
    with_both = net.room("a", "b", "c", anchored=True)
    net.settle()
    since = info()["position"]
    net["c"].stop()
    for room in (with_b, with_c, with_both):
        room.leave()

    def is_down(ledger: Result) -> bool:
        return ledger["summary"]["delivered"] == 1 and ledger["summary"]["unreachable"] == 1

    ledger = wait_for(info, is_down, "b is told, and c is unreachable", since=since)
    behind = sorted([with_c.room_id, with_both.room_id])
    assert entries(ledger) == {c: ("unreachable", None, behind)}
    assert [room["room_id"] for room in ledger["rooms_behind"]] == behind
    assert ledger["rooms_behind"][0]["destinations"] == [c]
    assert ledger["destinations"][0]["failing_since"] <= ledger["destinations"][0]["next_retry"]
    seen(with_b, "b", with_b.anchor_only)
    seen(with_both, "b", with_b.anchor_only)

    # Who retires together with us does not count.
    alone = info(since=since, ignore=[c])
    assert alone["summary"]["total"] == alone["summary"]["delivered"] == 1 and alone["rooms_behind"] == []

    options = {**connection, "destinations": [b, c]}
    predicted = run_module("synapse_federation_retry", options, "--check", "--diff")
    assert predicted["changed"] and predicted["reset"] == [c]
    assert entries(info(since=since))[c][0] == "unreachable"
    net["c"].start()
    done = run_module("synapse_federation_retry", options, "--diff")
    assert {**done, "invocation": None} == {**predicted, "invocation": None}
    wait_until(lambda: not net["a"].undelivered().get(c), "c is told once it is back")
    assert told(info(since=since, known=ledger["known"]))
    seen(with_c, "c", with_c.anchor_only)
    seen(with_both, "c", with_c.anchor_only)
    again = run_module("synapse_federation_retry", options, "--diff")
    assert (again["changed"], again["reset"], again["unchanged"]) == (False, [], 2)
    assert run_module("synapse_federation_retry", connection)["changed"] is False


def test_after_a_restart_only_rooms_with_an_anchor_heal(
    net: Net, info: Info, connection: dict[str, Any], run_module: RunModule
) -> None:
    c = net["c"].server_name
    anchored, abandoned = net.room("a", "c", anchored=True), net.room("a", "c", anchored=False)
    net.settle()
    since = info()["position"]
    net["c"].stop()
    anchored.leave()
    abandoned.leave()
    ledger = wait_for(info, lambda now: now["summary"]["unreachable"] == 1, "c is unreachable", since=since)
    net["a"].kill()
    net["a"].start()
    net["c"].start()
    run_module("synapse_federation_retry", connection)
    wait_until(lambda: not net["a"].undelivered().get(c), "Synapse says that c has taken everything")
    # Whoever has watched, or not: of the room that was left, nobody may say that it was told.
    for known in (ledger["known"], None):
        assert entries(info(since=since, known=known)) == {c: ("unknown", "left", [abandoned.room_id])}
    seen(anchored, "c", anchored.anchor_only)
    assert abandoned.seen_by("c"), "these should be ghosts, or this test shows nothing"
    assert entries(info(since=since)) == {c: ("unknown", "left", [abandoned.room_id])}
    # A wrong word of the caller's, and what it leads to.
    assert told(info(since=since, uninterrupted=True))


def test_the_leave_of_an_anchor_gets_through_a_restart(
    net: Net, info: Info, connection: dict[str, Any], run_module: RunModule
) -> None:
    c = net["c"].server_name
    room = net.room("a", "c", anchored=True)
    net.settle()
    since = info()["position"]
    room.leave()
    ledger = wait_for(info, told, "both have been told", since=since)
    seen(room, "c", room.anchor_only)
    net["c"].stop()
    room.leave_anchor()
    ledger = wait_for(info, lambda now: c in entries(now), "c is behind", since=since, known=ledger["known"])
    net["a"].kill()
    net["a"].start()
    net["c"].start()
    run_module("synapse_federation_retry", connection)
    wait_for(info, told, "of the anchor, too", since=since, known=ledger["known"])
    seen(room, "c", set())


def test_a_server_that_was_never_contacted(
    net: Net, info: Info, connection: dict[str, Any], run_module: RunModule
) -> None:
    d = net["d"].server_name
    room = net.room("d", anchored=False)
    assert entries(info(destinations=[d])) == {d: ("unknown", "never_sent_to", [room.room_id])}
    found = run_module("synapse_federation_info", connection)
    assert entries(found)[d] == ("unknown", "never_sent_to", [room.room_id])

    net["d"].stop()
    room.leave()
    ledger = wait_for(info, lambda now: now["summary"]["unreachable"] == 1, "d is unreachable", destinations=[d])
    assert entries(ledger) == {d: ("unreachable", "never_taken", [room.room_id])}
    net["a"].kill()
    net["a"].start()
    net["d"].start()
    run_module("synapse_federation_retry", {**connection, "destinations": [d]})
    for known in (ledger["known"], None):
        assert entries(info(destinations=[d], known=known)) == {d: ("unknown", "never_taken", [room.room_id])}
    assert room.seen_by("d"), "nothing has been sent"


def test_a_room_that_bars_us(net: Net, info: Info) -> None:
    b = net["b"].server_name
    room = net.room("b", anchored=True)
    net.settle()
    since = info()["position"]
    acl = {"allow": ["*"], "deny": ["localhost"]}
    net["b"].set_state(room.owner.token, room.room_id, "m.room.server_acl", acl)
    path = f"/v1/rooms/{room.room_id}/state"
    wait_until(lambda: "m.room.server_acl" in str(net["a"].admin("GET", path)), "a has heard that it is barred")
    room.leave()
    barred = ("unknown", "barred", [room.room_id])
    ledger = wait_for(info, lambda now: entries(now).get(b) == barred, "b is known to bar us", since=since)
    assert net.settled(), "Synapse says that b has taken everything"
    assert len(room.seen_by("b")) == 3
    room.leave_anchor()
    net.settle()
    assert entries(info(since=since, known=ledger["known"]))[b] == barred
    assert len(room.seen_by("b")) == 3


def test_a_purged_room(net: Net, info: Info) -> None:
    c = net["c"].server_name
    other, purged = net.room("a", "c", anchored=True), net.room("a", "c", anchored=False)
    net.settle()
    since = info()["position"]
    net["c"].stop()
    purged.leave()
    ledger = wait_for(info, lambda now: c in entries(now), "c is behind", since=since)
    net["a"].admin("DELETE", f"/v1/rooms/{purged.room_id}", json={"purge": True})
    assert not net["a"].undelivered().get(c), "Synapse says that c has taken everything"
    after = info(since=since, known=ledger["known"])
    state, reason, _rooms = entries(after)[c]
    assert (state, reason) in (("unreachable", "purged"), ("unknown", "purged"))
    net["c"].start()
    assert other.seen_by("c")
