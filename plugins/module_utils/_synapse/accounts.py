# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Local accounts in the admin API: listing, reading, deactivating and locking them."""

from __future__ import annotations

from typing import Collection, Iterable, Iterator, Mapping, NamedTuple

from .._results import sample
from .answer import Answer, JsonDict
from .client import ADMIN, Client
from .delegation import ServiceAccount
from .errors import SynapseError
from .listing import list_all
from .unanswered import send_once

CLASSES = ("operator", "admin", "appservice", "guest", "user")
DEACTIVATED = ("deactivated", "erased")
STATES = ("active", "suspended", "locked", *DEACTIVATED)
MAX_UNSEEN_READS = 5000
"""Maximum number of accounts that C(classified_accounts) reads one by one."""
USERS = f"{ADMIN}/v2/users"
MAX_SINGLE_READS = 100
"""Maximum number of accounts that are read one by one. For more, all accounts of the server are listed."""


class Account(NamedTuple):
    """What decisions about an account need. A server may have 200,000 of them."""

    user_id: str
    account_class: str
    state: str
    locked: bool = False

    @property
    def is_deactivated(self) -> bool:
        """Whether it is deactivated, erased or not."""
        return self.state in DEACTIVATED


def account_class(user: JsonDict, operator: str) -> str:
    """The first of CLASSES that applies. The listing of accounts does not have the field for application services."""
    if user["name"] == operator:
        return "operator"
    if user["admin"]:
        return "admin"
    if user.get("appservice_id"):
        return "appservice"
    return "guest" if user["is_guest"] else "user"


def account_state(user: JsonDict) -> str:
    """The last of STATES that applies. The listing of accounts does not have the field for suspended accounts."""
    if user["deactivated"]:
        return "erased" if user.get("erased") else "deactivated"
    if user.get("locked"):
        return "locked"
    return "suspended" if user.get("suspended") else "active"


def count_by_class(counter: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """The number of accounts by class and state, without zeros, from the number by pairs of these."""
    counts = {kind: {state: counter[kind, state] for state in STATES if counter.get((kind, state))} for kind in CLASSES}
    return {kind: states for kind, states in counts.items() if states}


def list_users(client: Client, *, name: str | None = None, active: bool | None = None) -> Iterator[JsonDict]:
    """List the accounts of the server, each once, as C(GET /_synapse/admin/v2/users) has them.

    :param name: only those with this in their localpart or display name.
    :param active: only those that are not deactivated, or only those that are.
    """
    yield from _list_users(client, _service_accounts(client), name=name, active=active)


def _list_users(
    client: Client, known: dict[str, ServiceAccount], *, name: str | None = None, active: bool | None = None
) -> Iterator[JsonDict]:
    """As C(list_users). Those of the accounts of the service that Synapse lists as well are removed from I(known)."""
    # Names do not change, unlike most of what accounts can be ordered by.
    params = {
        "order_by": "name",
        "locked": "true",
        "guests": "true",
        # An account that is deactivated in Synapse may be active in the service that handles login.
        "deactivated": "false" if active and client.service is None else "true",
    }
    if name is not None:
        params["name"] = name
    for answer in _list_with_guests(client, params, known.values()):
        user = _merged(client, _user(answer), known.pop(localpart_of(answer.take("name", str)), None))
        if user["name"].partition(":")[2] != client.server_name:
            # The URL may lead to another server by now, whose accounts must not be deactivated.
            raise answer.error(f"has {user['name']}, which is not an account of {client.server_name}")
        if active is None or active is not user["deactivated"]:
            yield user


def count_users(client: Client, *, active: bool | None = None) -> int:
    """Count the accounts of the server without a listing, unless a service handles login, which only a listing asks.

    :param active: as for C(list_users).
    """
    if client.service is not None:
        return sum(1 for _user in list_users(client, active=active))

    def count(deactivated: str) -> int:
        params = {"limit": 1, "locked": "true", "deactivated": deactivated}
        try:
            page = client.get(USERS, params={**params, "guests": "true"})
        except SynapseError as error:
            if error.status != 400:
                raise
            page = client.get(USERS, params={**params, "guests": "false"})
        return page.take("total", int)

    if active is not None and not active:
        return count("true") - count("false")
    return count("false" if active else "true")


def _user(answer: Answer) -> JsonDict:
    """An account, with the fields that decisions rest on as booleans. Old versions have 0 and 1."""
    flags = {key: bool(answer.take(key, int)) for key in ("admin", "is_guest", "deactivated")}
    return {**answer, **flags, "name": answer.take("name", str)}


def localpart_of(user_id: str) -> str:
    """The localpart of a user ID, or what is one already."""
    return user_id[1:].partition(":")[0] if user_id.startswith("@") else user_id


def _service_accounts(client: Client) -> dict[str, ServiceAccount]:
    """The accounts of the service that handles login, by their localpart; none without one."""
    return {} if client.service is None else {account.username: account for account in client.service.accounts()}


def _merged(client: Client, user: JsonDict, known: ServiceAccount | None) -> JsonDict:
    """An account with what the service that handles login knows of it. It is deactivated only if it is so in both."""
    if client.service is None or known is None:
        return user
    flags = {
        "admin": user["admin"] or known.admin,
        "locked": bool(user.get("locked")) or known.locked,
        "deactivated": user["deactivated"] and known.deactivated,
    }
    return {**user, **flags}


def unknown_to_synapse(client: Client) -> Iterator[ServiceAccount]:
    """The accounts that only the service that handles login has."""
    known = _service_accounts(client)
    if known:
        for _listed in _list_users(client, known):
            pass
    yield from known.values()


def _list_with_guests(client: Client, params: dict[str, str], known: Iterable[ServiceAccount]) -> Iterator[Answer]:
    try:
        yield from list_all(client, USERS, "users", name_key="name", params=params)
    except SynapseError as error:
        if error.status != 400:
            raise
        # Under delegated authentication, Synapse refuses to list guests. Those from before are known to the service.
        yield from list_all(client, USERS, "users", name_key="name", params={**params, "guests": "false"})
        # By now, I(known) has only those that were not listed.
        guests = [account.username for account in known if account.guest]
        for username in guests if "name" not in params else ():
            yield from _read_users(client, f"@{username}:{client.server_name}")


def list_accounts(client: Client) -> Iterator[Account]:
    """All accounts of the server."""
    for user in list_users(client):
        yield as_account(client, user)


def classified_accounts(client: Client) -> list[Account]:
    """All accounts of the server, with the class C(appservice) as far as few requests show it.

    No version of Synapse lists the application service of an account, nor whether it is suspended. By default, Synapse
    does not record when an application service uses an account. So those that were never seen are read one by one,
    evenly chosen if there are many.
    """
    accounts: list[Account] = []
    unseen: list[Account] = []
    for user in list_users(client):
        account = as_account(client, user)
        # An old version does not list the time.
        is_unseen = user.get("last_seen_ts") is None and not account.is_deactivated
        (unseen if is_unseen else accounts).append(account)
    chosen = set(sample(unseen, MAX_UNSEEN_READS))
    accounts.extend(account for account in unseen if account not in chosen)
    read = client.map(lambda account: get_account(client, account.user_id), sorted(chosen), step="accounts read")
    accounts.extend(account for _listed, account in read)
    return accounts


def existing_accounts(client: Client, user_ids: Collection[str]) -> dict[str, Account]:
    """Those of these accounts that exist."""
    if len(user_ids) > MAX_SINGLE_READS:
        wanted = set(user_ids)
        return {account.user_id: account for account in list_accounts(client) if account.user_id in wanted}
    return {user_id: as_account(client, user) for user_id in user_ids for user in _get_users(client, user_id)}


def as_account(client: Client, user: JsonDict) -> Account:
    """What decisions about an account need, of what C(list_users) or C(get_user) returns."""
    # A server that is too old for locks has no field for them, and no account needs to be locked.
    locked = bool(user.get("locked", True))
    return Account(user["name"], account_class(user, client.user_id), account_state(user), locked)


def _get_users(client: Client, user_id: str) -> Iterator[JsonDict]:
    for answer in _read_users(client, user_id):
        yield _with_service(client, answer)


def _read_users(client: Client, user_id: str) -> Iterator[Answer]:
    try:
        yield _read_user(client, user_id)
    except SynapseError as error:
        if error.status != 404:
            raise


def _read_user(client: Client, user_id: str) -> Answer:
    return client.get(f"{USERS}/{{}}", user_id)


def _with_service(client: Client, answer: Answer) -> JsonDict:
    user = _user(answer)
    known = None if client.service is None else client.service.account(localpart_of(user["name"]))
    return _merged(client, user, known)


def get_user(client: Client, user_id: str) -> JsonDict:
    """One account, with the fields that the listing leaves out (C(suspended), C(appservice_id)).

    API: C(GET /_synapse/admin/v2/users/<user_id>).
    """
    return _with_service(client, _read_user(client, user_id))


def get_account(client: Client, user_id: str) -> Account:
    """One account, as it is now. For the endpoint and the errors see C(get_user)."""
    return as_account(client, get_user(client, user_id))


def deactivate(client: Client, user_id: str, *, erase: bool) -> None:
    """Deactivate an account. Synapse makes it leave its rooms afterwards, in the background.

    Where a service handles login and knows the account, the service does it.
    """
    if client.service is None or not client.service.deactivate(localpart_of(user_id), erase=erase):
        deactivate_in_synapse(client, user_id, erase=erase)


def is_deactivated(client: Client, user_id: str, *, erase: bool) -> bool:
    """Whether an account is deactivated in Synapse, and erased if that is asked for, or does not exist there."""
    return all(
        user["deactivated"] and (user.get("erased") or not erase) for user in map(_user, _read_users(client, user_id))
    )


def deactivate_in_synapse(client: Client, user_id: str, *, erase: bool) -> None:
    """Deactivate an account in Synapse only.

    If the answer is lost, the account is read before the request is sent again.

    API: C(POST /_synapse/admin/v1/deactivate/<user_id>).
    """

    def send() -> None:
        client.post(f"{ADMIN}/v1/deactivate/{{}}", user_id, json={"erase": erase}, repeat=False)

    send_once(send, lambda: is_deactivated(client, user_id, erase=erase))


def suspend(client: Client, user_id: str) -> None:
    """Suspend an account: it can leave rooms, but neither join, create nor send to any. A deactivation keeps that.

    API: C(PUT /_synapse/admin/v1/suspend/<user_id>).
    """
    client.put(f"{ADMIN}/v1/suspend/{{}}", user_id, json={"suspend": True})


def set_locked(client: Client, user_id: str, locked: bool) -> None:
    """Lock an account, or unlock it. Synapse accepts no access token of a locked account.

    Where a service handles login and knows the account, the service does it.

    API: C(PUT /_synapse/admin/v2/users/<user_id>).
    """
    if client.service is None or not client.service.set_locked(localpart_of(user_id), locked):
        client.put(f"{USERS}/{{}}", user_id, json={"locked": locked})
