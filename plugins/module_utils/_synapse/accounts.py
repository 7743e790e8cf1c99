# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Local accounts in the admin API: listing, reading, deactivating and locking them."""

from __future__ import annotations

from typing import Collection, Iterator, Mapping, NamedTuple

from .answer import Answer, JsonDict
from .client import ADMIN, Client
from .errors import SynapseError
from .listing import list_all
from .unanswered import send_once

CLASSES = ("operator", "admin", "appservice", "guest", "user")
DEACTIVATED = ("deactivated", "erased")
STATES = ("active", "suspended", "locked", *DEACTIVATED)
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
    # Names do not change, unlike most of what accounts can be ordered by.
    params = {
        "order_by": "name",
        "locked": "true",
        "guests": "true",
        "deactivated": "false" if active else "true",
    }
    if name is not None:
        params["name"] = name
    for answer in _list_with_guests(client, params):
        user = _user(answer)
        if user["name"].partition(":")[2] != client.server_name:
            # The URL may lead to another server by now, whose accounts must not be deactivated.
            raise answer.error(f"has {user['name']}, which is not an account of {client.server_name}")
        if active is not False or user["deactivated"]:
            yield user


def _user(answer: Answer) -> JsonDict:
    """An account, with the fields that decisions rest on as booleans. Old versions have 0 and 1."""
    flags = {key: bool(answer.take(key, int)) for key in ("admin", "is_guest", "deactivated")}
    return {**answer, **flags, "name": answer.take("name", str)}


def _list_with_guests(client: Client, params: dict[str, str]) -> Iterator[Answer]:
    path = f"{ADMIN}/v2/users"
    try:
        yield from list_all(client, path, "users", name_key="name", params=params)
    except SynapseError as error:
        if error.status != 400:
            raise
        # Under delegated authentication, Synapse refuses to list guests. Guests from before it are not listed.
        yield from list_all(client, path, "users", name_key="name", params={**params, "guests": "false"})


def list_accounts(client: Client) -> Iterator[Account]:
    """All accounts of the server."""
    for user in list_users(client):
        yield _account(client, user)


def existing_accounts(client: Client, user_ids: Collection[str]) -> dict[str, Account]:
    """Those of these accounts that exist."""
    if len(user_ids) > MAX_SINGLE_READS:
        wanted = set(user_ids)
        return {account.user_id: account for account in list_accounts(client) if account.user_id in wanted}
    return {user_id: _account(client, user) for user_id in user_ids for user in _get_users(client, user_id)}


def _account(client: Client, user: JsonDict) -> Account:
    # A server that is too old for locks has no field for them, and no account needs to be locked.
    locked = bool(user.get("locked", True))
    return Account(user["name"], account_class(user, client.user_id), account_state(user), locked)


def _get_users(client: Client, user_id: str) -> Iterator[JsonDict]:
    try:
        yield get_user(client, user_id)
    except SynapseError as error:
        if error.status != 404:
            raise


def get_user(client: Client, user_id: str) -> JsonDict:
    """One account, with the fields that the listing leaves out (C(suspended), C(appservice_id)).

    API: C(GET /_synapse/admin/v2/users/<user_id>).
    """
    return _user(client.get(f"{ADMIN}/v2/users/{{}}", user_id))


def get_account(client: Client, user_id: str) -> Account:
    """One account, as it is now. For the endpoint and the errors see C(get_user)."""
    return _account(client, get_user(client, user_id))


def deactivate(client: Client, user_id: str, *, erase: bool) -> None:
    """Deactivate an account. Synapse makes it leave its rooms afterwards, in the background.

    If the answer is lost, the account is read before the request is sent again.

    API: C(POST /_synapse/admin/v1/deactivate/<user_id>).
    """

    def is_deactivated() -> bool:
        user = get_user(client, user_id)
        return bool(user["deactivated"] and (user.get("erased") or not erase))

    def send() -> None:
        client.post(f"{ADMIN}/v1/deactivate/{{}}", user_id, json={"erase": erase}, repeat=False)

    send_once(send, is_deactivated)


def set_locked(client: Client, user_id: str, locked: bool) -> None:
    """Lock an account, or unlock it. Synapse accepts no access token of a locked account.

    API: C(PUT /_synapse/admin/v2/users/<user_id>).
    """
    client.put(f"{ADMIN}/v2/users/{{}}", user_id, json={"locked": locked})
