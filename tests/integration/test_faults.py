# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A drain of a real server that turns requests away, or whose answers get lost on the way."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from lab.proxy import Fault, Proxy
from lab.waiting import wait_until

from .conftest import Federation, Result, RunModule

DEACTIVATE = "/_synapse/admin/v1/deactivate/"
ACCOUNT = "/_synapse/admin/v2/users/"
#: Everything but deactivations, and but the first request: before that is answered, there may be no server at all.
OTHERS = f"^(?!{DEACTIVATE}|.*/whoami$)"

Rooms = dict[str, list[str]]

variation = pytest.mark.nightly(category="variations")


class Drain:
    """Drains through a proxy. What the server was like before is read at once, past the proxy, as all that counts."""

    def __init__(self, federation: Federation, proxy: Proxy, run_module: RunModule) -> None:
        self.federation = federation
        self.proxy = proxy
        self._run_module = run_module
        self._accounts = self._list_accounts()
        self._to_close = federation.to_close
        self._ghosts = self._only_who_stays(federation.ghosts())
        self._members = self._only_who_stays(self._list_members())

    def run(self, **more: Any) -> Result:
        """Run the module. If it says that all is well, then see that it is so."""
        to_close = self.federation.to_close
        options = {
            **self.federation.connection,
            "base_url": self.proxy.base_url,
            "server_name": self.federation.retiring.server_name,
            "all_users": True,
        }
        result = self._run_module("synapse_user_deactivate", {**options, **more})
        if not result.get("failed"):
            assert (result["deactivated"], result["failures"], result["still_joined"]) == (len(to_close), [], [])
            self._assert_done()
        return result

    def must_succeed(self, **more: Any) -> None:
        result = self.run(**more)
        assert not result.get("failed"), result

    @property
    def deactivations(self) -> dict[str, int]:
        """How often each account was deactivated: by the homeserver, whatever the client was told."""
        return Counter(
            exchange.path.removeprefix(DEACTIVATE)
            for exchange in self.proxy.exchanges
            if exchange.path.startswith(DEACTIVATE) and exchange.status == 200
        )

    def assert_each_deactivated_once(self) -> None:
        assert self.deactivations == dict.fromkeys(self._to_close, 1)

    def assert_looked_before_repeating(self) -> None:
        """Where the answer to a deactivation was lost, the next request about that account was a look at it."""
        exchanges = self.proxy.exchanges
        lost = [i for i, e in enumerate(exchanges) if e.fault is not None and e.path.startswith(DEACTIVATE)]
        for i in lost:
            user_id = exchanges[i].path.removeprefix(DEACTIVATE)
            about = (e for e in exchanges[i + 1 :] if e.path in (DEACTIVATE + user_id, ACCOUNT + user_id))
            following = next(about, None)
            assert following is not None and (following.method, following.path) == ("GET", ACCOUNT + user_id)
        assert lost

    def _assert_done(self) -> None:
        """All who were to go are closed and out of all rooms, by both servers' word, and nothing else has changed."""
        accounts = self._list_accounts()
        assert accounts.keys() == self._accounts.keys()
        for user_id, account in accounts.items():
            if account["admin"]:
                assert account == self._accounts[user_id]
            else:
                assert account["deactivated"] and account["erased"], account
                assert self.federation.retiring.joined_rooms(user_id) == []
        assert self._list_members() == self._members
        wait_until(lambda: self.federation.ghosts() == self._ghosts, "the other server lists nobody")
        operator = self.federation.retiring.operator.user_id
        assert self.federation.retiring.admin("GET", f"/v1/users/{operator}/override_ratelimit") == {}

    def _list_accounts(self) -> dict[str, dict[str, Any]]:
        accounts = {account["name"]: account for account in self.federation.retiring.accounts()}
        for account in accounts.values():
            del account["last_seen_ts"]  # the operator is seen with each request
        return accounts

    def _list_members(self) -> Rooms:
        return self.federation.retiring.members_of(self.federation.retiring.server_name)

    def _only_who_stays(self, rooms: Rooms) -> Rooms:
        """Without those who are to leave: there remain the admins, and the application service's own account."""
        made = self.federation.population
        staying = {made.operator, made.second_admin, made.appservice_bot}
        kept = {room_id: [member for member in members if member in staying] for room_id, members in rooms.items()}
        return {room_id: members for room_id, members in kept.items() if members}


@pytest.fixture
def drain(federation: Federation, proxy: Proxy, run_module: RunModule) -> Drain:
    return Drain(federation, proxy, run_module)


@pytest.mark.parametrize(
    ("storm", "hail", "share"),
    [
        pytest.param(Fault.RETRY_AFTER, Fault.RETRY_AFTER_MS, 0.3, id="told_when"),
        pytest.param(Fault.TOO_MANY_REQUESTS, Fault.TOO_MANY_REQUESTS, 0.05, id="not_told", marks=variation),
    ],
)
def test_too_many_requests(drain: Drain, proxy: Proxy, storm: Fault, hail: Fault, share: float) -> None:
    """Many requests are turned away all the time, and from the first deactivation on all of them for a while."""
    everything = proxy.rule(storm, path=DEACTIVATE, lasting=2)
    some = proxy.rule(hail, share=share, seed=1, seconds=0.1)
    drain.must_succeed()
    assert everything.injected and some.injected
    drain.assert_each_deactivated_once()


def test_late_answers(drain: Drain, proxy: Proxy) -> None:
    """Deactivations for which a proxy, or the module, has not the patience, and which are carried out all the same."""
    proxy.rule(Fault.GATEWAY_TIMEOUT_AFTER, path=DEACTIVATE, every=3)
    proxy.rule(Fault.DELAY_BEFORE, path=DEACTIVATE, every=4, seconds=4)
    drain.must_succeed(timeout=3)
    assert set(proxy.injected) == {Fault.GATEWAY_TIMEOUT_AFTER, Fault.DELAY_BEFORE}
    drain.assert_looked_before_repeating()
    drain.assert_each_deactivated_once()


def test_broken_connections(drain: Drain, proxy: Proxy) -> None:
    proxy.rule(Fault.TORN, path=DEACTIVATE, every=3)
    proxy.rule(Fault.HALF_ANSWERED, path=DEACTIVATE, every=4)
    proxy.rule(Fault.TORN, path=OTHERS, every=19)
    proxy.rule(Fault.HALF_ANSWERED, path=OTHERS, every=23)
    proxy.rule(Fault.CUT, path=OTHERS, every=29)
    proxy.rule(Fault.BAD_GATEWAY, path=OTHERS, every=31)
    drain.must_succeed()
    assert set(proxy.injected) == {Fault.TORN, Fault.HALF_ANSWERED, Fault.CUT, Fault.BAD_GATEWAY}
    drain.assert_looked_before_repeating()
    drain.assert_each_deactivated_once()


def test_pages_of_html(federation: Federation, drain: Drain, proxy: Proxy) -> None:
    """An answer that is none: neither is it taken for one, nor is what was asked for taken for done."""
    victim = federation.population.users[0]
    listing = proxy.rule(Fault.HTML, path=f"{ACCOUNT.rstrip('/')}$", first=1)
    proxy.rule(Fault.HTML, path=DEACTIVATE + victim)
    failed = drain.run()
    assert listing.injected == 1
    (failure,) = failed["failures"]
    assert failure["user_id"] == victim and "text/html" in failure["reason"]
    assert not federation.retiring.account(victim)["deactivated"]

    proxy.clear()
    drain.must_succeed()
    drain.assert_each_deactivated_once()
