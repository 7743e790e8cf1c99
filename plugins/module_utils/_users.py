# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Accounts: what the admin API says of them, and how to close one or act as one."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Collection, Iterator, NamedTuple, Sequence

from ._client import ADMIN, Answer, Client, JsonDict, SynapseError

CLASSES = ("operator", "admin", "appservice", "guest", "user")
DEACTIVATED = ("deactivated", "erased")
STATES = ("active", "suspended", "locked", *DEACTIVATED)

SESSION_MS = 3_600_000
"""How long a session lives, in milliseconds, that the operator opens as another account, should we fail to end it."""
FEW = 100
"""Up to so many accounts are read one by one; for more, all accounts of the server are listed."""
SHOWN = 10
"""How many of the accounts that are refused a message names."""
LOOKS = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each of the looks at an account whose deactivation got no answer: Synapse may still be at it."""


class Account(NamedTuple):
    """What a decision needs to know of an account. There may be 200,000 of them."""

    user_id: str
    account_class: str
    state: str
    locked: bool = False

    @property
    def is_deactivated(self) -> bool:
        """Whether it is deactivated, erased or not."""
        return self.state in DEACTIVATED


def account_class(user: JsonDict, operator: str) -> str:
    """The first of CLASSES that fits. Only an account with C(details) can be known as an application service's."""
    if user["name"] == operator:
        return "operator"
    if user["admin"]:
        return "admin"
    if user.get("appservice_id"):
        return "appservice"
    return "guest" if user["is_guest"] else "user"


def account_state(user: JsonDict) -> str:
    """The last of STATES that fits. Only an account with C(details) can be known as suspended."""
    if user["deactivated"]:
        return "erased" if user.get("erased") else "deactivated"
    if user.get("locked"):
        return "locked"
    return "suspended" if user.get("suspended") else "active"


def list_users(client: Client, *, name: str | None = None, active: bool | None = None) -> Iterator[JsonDict]:
    """List the accounts of the server, each once, as C(GET /_synapse/admin/v2/users) has them.

    :param name: only those with this in their localpart or display name.
    :param active: only those that are not deactivated, or only those that are.
    """
    params = {"locked": "true", "guests": "true", "deactivated": "false" if active else "true"}
    if name is not None:
        params["name"] = name
    seen = set()
    for answer in _list_with_guests(client, params):
        user = _user(answer)
        if user["name"].partition(":")[2] != client.server_name:
            # The URL may lead elsewhere by now, where nobody is to be closed.
            raise answer.error(f"has {user['name']}, which is no account of {client.server_name}")
        if user["name"] in seen or (active is False and not user["deactivated"]):
            continue
        # An account that is registered while we list moves others to the next page, where they come again.
        seen.add(user["name"])
        yield user


def _user(answer: Answer) -> JsonDict:
    """An account with all that a decision hangs on. Old versions have some of it as 0 and 1."""
    flags = {key: bool(answer.take(key, int)) for key in ("admin", "is_guest", "deactivated")}
    return {**answer, **flags, "name": answer.take("name", str)}


def _list_with_guests(client: Client, params: dict[str, str]) -> Iterator[Answer]:
    path = f"{ADMIN}/v2/users"
    try:
        yield from client.pages(path, "users", params=params)
    except SynapseError as error:
        if error.status != 400:
            raise
        # Under delegated authentication Synapse refuses to be asked for guests. Those from before it are not listed.
        yield from client.pages(path, "users", params={**params, "guests": "false"})


def list_accounts(client: Client) -> Iterator[Account]:
    """All accounts of the server, reduced to what a decision needs."""
    for user in list_users(client):
        yield _account(client, user)


def find_accounts(client: Client, user_ids: Sequence[str]) -> dict[str, Account]:
    """These accounts of the server.

    :raises SynapseError: if one is not a user ID, is of another server, or does not exist.
    """
    refused = {}
    for user_id in user_ids:
        if not user_id.startswith("@") or ":" not in user_id:
            refused[user_id] = "is not a user ID (@localpart:server)"
        elif user_id.split(":", 1)[1] != client.server_name:
            refused[user_id] = f"is not an account of {client.server_name}"
    refuse(refused)
    found = existing_accounts(client, user_ids)
    refuse({user_id: "does not exist" for user_id in user_ids if user_id not in found})
    return found


def existing_accounts(client: Client, user_ids: Collection[str]) -> dict[str, Account]:
    """Those of these accounts that exist."""
    if len(user_ids) > FEW:
        wanted = set(user_ids)
        return {account.user_id: account for account in list_accounts(client) if account.user_id in wanted}
    return {user_id: _account(client, user) for user_id in user_ids for user in _get_users(client, user_id)}


def refuse(reasons: dict[str, str]) -> None:
    """Raise an error that says of each account why it is refused, if there is any."""
    if reasons:
        shown = "; ".join(f"{user_id} {reason}" for user_id, reason in list(reasons.items())[:SHOWN])
        more = f"; and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
        raise SynapseError(f"Nothing was changed: {shown}{more}")


def _account(client: Client, user: JsonDict) -> Account:
    # A server that is too old to know of locks has nothing to lock.
    locked = bool(user.get("locked", True))
    return Account(user["name"], account_class(user, client.user_id), account_state(user), locked)


def _get_users(client: Client, user_id: str) -> Iterator[JsonDict]:
    try:
        yield get_user(client, user_id)
    except SynapseError as error:
        if error.status != 404:
            raise


def get_user(client: Client, user_id: str) -> JsonDict:
    """One account, with what the listing leaves out (C(suspended), C(appservice_id)).

    API: C(GET /_synapse/admin/v2/users/<user_id>).
    """
    return _user(client.get(f"{ADMIN}/v2/users/{{}}", user_id))


def deactivate(client: Client, user_id: str, *, erase: bool) -> None:
    """Deactivate an account. When this returns, Synapse has yet to make it leave its rooms.

    A request without an answer is not sent again before the account has been looked at, for some time.

    API: C(POST /_synapse/admin/v1/deactivate/<user_id>).
    """

    def is_closed() -> bool:
        try:
            user = get_user(client, user_id)
        except SynapseError as error:
            error.lost = error.unanswered
            raise
        return bool(user["deactivated"] and (user.get("erased") or not erase))

    for attempt in (1, 2):
        try:
            client.post(f"{ADMIN}/v1/deactivate/{{}}", user_id, json={"erase": erase}, repeat=False)
            return
        except SynapseError as error:
            if not error.unanswered:
                raise
            for pause in LOOKS:
                time.sleep(pause)
                if is_closed():
                    return
            if attempt == 2:
                raise


def set_locked(client: Client, user_id: str, locked: bool) -> None:
    """Lock an account, or unlock it. While it is locked, Synapse takes none of its access tokens.

    API: C(PUT /_synapse/admin/v2/users/<user_id>).
    """
    client.put(f"{ADMIN}/v2/users/{{}}", user_id, json={"locked": locked})


def login_is_delegated(client: Client) -> bool:
    """Whether a Matrix Authentication Service handles login. Then nobody can be acted as, and no lock has any effect.

    It is seen, on all versions, by what Synapse leaves out of its admin API then.
    API: C(GET /_synapse/admin/v1/registration_tokens).
    """
    try:
        client.get(f"{ADMIN}/v1/registration_tokens")
    except SynapseError as error:
        if error.errcode != "M_UNRECOGNIZED":
            raise
        return True
    return False


@contextmanager
def unlocked(client: Client, user_id: str) -> Iterator[None]:
    """Unlock an account, if it is locked, for as long as the context lasts."""
    locked = bool(get_user(client, user_id).get("locked"))
    if locked:
        set_locked(client, user_id, False)
    try:
        yield
    finally:
        if locked:
            set_locked(client, user_id, True)


def log_in_as(client: Client, user_id: str) -> str:
    """Open a session as another account, and return its access token. End it with C(log_out).

    API: C(POST /_synapse/admin/v1/users/<user_id>/login). The session has no device, the account's owner does not see
    it, and Synapse counts what is done with it against the operator's rate limits. Not even the deactivation of the
    account ends it. As a guest, it can't be logged out, and lasts until it expires.

    :raises SynapseError: 404 M_UNRECOGNIZED if login is delegated.
    """
    valid_until = int(client.time().timestamp() * 1000) + SESSION_MS
    login = client.post(f"{ADMIN}/v1/users/{{}}/login", user_id, json={"valid_until_ms": valid_until})
    return login.take("access_token", str)


def log_out(client: Client, token: str) -> None:
    """End a session that C(log_in_as) opened, unless it is a guest's."""
    try:
        client.logout(token)
    except SynapseError as error:
        if error.errcode != "M_GUEST_ACCESS_FORBIDDEN":
            raise


@contextmanager
def acting_as(client: Client, user_id: str) -> Iterator[str | None]:
    """An access token of I(user_id), for as long as the context lasts; C(None), the client's own, for the operator.

    :raises SynapseError: as C(log_in_as) does.
    """
    if user_id == client.user_id:
        yield None
        return
    token = log_in_as(client, user_id)
    try:
        yield token
    finally:
        log_out(client, token)
