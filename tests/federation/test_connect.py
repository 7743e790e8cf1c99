# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether our key is the published one, by what answers under our own name, or by what remote servers have seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.connect import (
    Settings,
    connect,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import (
    AddressNotAllowedError,
    FederationError,
    SigningKeyError,
    UnreachableError,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.notaries import MAX_NOTARIES
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.static_answers import STATIC_SITE, VERSION
from stubs import faults
from stubs.answers import Answer
from stubs.remote_server import RemoteServer
from stubs.rooms import Json, ServerKey

from .conftest import OURS, StartServer

OTHER = ServerKey(OURS.server_name, "ed25519:a_other")
PAST = 1_000_000_000_000
"""2001-09-09 in milliseconds."""

Try = Callable[..., str]


class Names:
    """A resolver to which our own name leads to a stub, once there is one, and all others to loopback."""

    def __init__(self) -> None:
        self.own: RemoteServer | None = None
        self.looked_up: list[str] = []

    def addresses(self, host: str, port: int) -> list[tuple[str, int]]:
        self.looked_up.append(host)
        if host != OURS.server_name:
            return [("127.0.0.1", port)]
        if self.own is None:
            raise UnreachableError(f"cannot resolve {host}")
        return [("127.0.0.1", self.own.port)]

    def srv(self, _name: str) -> list[tuple[str, int]]:
        return []


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def own(names: Names, remote: StartServer) -> RemoteServer:
    """A server that answers under our own name, with our key."""
    names.own = server = remote()
    says(server, OURS.key_answer())
    return server


@pytest.fixture
def attempt(names: Names, ca_file: str) -> Try:
    """Connect, and return which homeserver answers under our name."""

    def attempt(*notaries: RemoteServer, key_file: str = OURS.key_file, timeout: float = 30.0, **options: bool) -> str:
        settings = Settings(ca_path=ca_file, ip_allowlist=("127.0.0.1",), timeout=timeout)
        servers = [server.server_name for server in notaries]
        with connect(OURS.server_name, key_file, settings, servers, resolver=names, **options) as connection:
            return connection.homeserver

    return attempt


def says(server: RemoteServer, answer: Any) -> None:
    """Let a server publish these keys."""
    server.inject("server_keys", faults.instead(Answer.of(200, answer)))


def has_seen(server: RemoteServer, *answers: Any) -> RemoteServer:
    """Let a notary have these key answers of ours."""
    server.inject("query_keys", faults.instead(Answer.of(200, {"server_keys": list(answers)})))
    return server


def keys(*published: ServerKey, valid_until: int = 4_000_000_000_000, **changes: Any) -> Json:
    """A key answer of ours that is signed by all of its keys."""
    answer = {
        "server_name": OURS.server_name,
        "valid_until_ts": valid_until,
        "verify_keys": {key.key_id: key.verify_keys[key.key_id] for key in published},
        "old_verify_keys": {},
        **changes,
    }
    for key in published:
        answer = key.sign(answer)
    return answer


# Under our own name


def test_the_key_is_published(own: RemoteServer, attempt: Try) -> None:
    assert attempt() == "Synapse 1.163.2"
    assert len(own.asked("server_keys")) == 1


def test_our_own_name_may_lead_to_a_private_address_and_no_other(
    own: RemoteServer, attempt: Try, names: Names, remote: StartServer, ca_file: str
) -> None:
    server = remote()
    settings = Settings(ca_path=ca_file)
    with connect(OURS.server_name, OURS.key_file, settings, [], resolver=names) as connection:
        with pytest.raises(AddressNotAllowedError, match="ip_allowlist"):
            connection.client.get(server.server_name, "/_matrix/federation/v1/version")
        # The client for remote servers is as strict with our own name, which they may delegate to.
        with pytest.raises(AddressNotAllowedError):
            connection.client.get(OURS.server_name, "/_matrix/federation/v1/version")
    assert own.requests and not server.requests


def test_another_key_id_is_published(own: RemoteServer, attempt: Try) -> None:
    own.remove_faults()
    says(own, keys(OTHER))
    with pytest.raises(SigningKeyError) as raised:
        attempt()
    assert str(raised.value).startswith(
        "signing key ed25519:a_stub is not published by gone.example, which publishes ed25519:a_other: use that key"
    )


def test_one_of_several_keys_that_are_published(own: RemoteServer, attempt: Try) -> None:
    own.remove_faults()
    says(own, keys(OTHER, OURS))
    attempt()


def test_another_key_of_the_same_id_is_published(own: RemoteServer, attempt: Try) -> None:
    text = OTHER.key_file.replace("a_other", "a_stub")
    with pytest.raises(SigningKeyError, match="differs from the ed25519:a_stub that") as raised:
        attempt(key_file=text)
    assert text.split()[2] not in str(raised.value)


def test_an_expired_answer_is_refused(own: RemoteServer, attempt: Try, remote: StartServer) -> None:
    notary = remote()
    own.remove_faults()
    says(own, keys(OURS, valid_until=PAST))
    with pytest.raises(SigningKeyError, match=r"expired at 2001-09-09 01:46 UTC: publish a new one"):
        attempt(notary)
    assert not notary.requests, "our own word counts"


@pytest.mark.parametrize(
    "fault",
    [
        faults.error(404, "M_UNRECOGNIZED", "Unrecognized request"),
        faults.page(),
        faults.instead(Answer.of(200, ServerKey("other.example").key_answer())),
        faults.instead(Answer.of(200, {**OURS.key_answer(), "signatures": {}})),
        faults.instead(Answer.of(502, {})),
        faults.endless(),
    ],
    ids=["missing", "page", "another name", "not signed", "gateway", "endless"],
)
def test_notaries_are_asked_without_a_valid_answer_under_the_server_name(
    own: RemoteServer, attempt: Try, remote: StartServer, fault: faults.Fault
) -> None:
    own.remove_faults()
    own.inject("server_keys", fault)
    with pytest.raises(SigningKeyError, match="can't be verified: serve /_matrix/key/v2/server under"):
        attempt()
    attempt(remote())


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (faults.error(404, "M_UNRECOGNIZED", "Unrecognized request"), ""),
        (faults.page(), ""),
        (faults.instead(Answer.of(200, {})), ""),
        (faults.instead(Answer.of(200, {"server": "Synapse"})), ""),
        (faults.instead(Answer.of(200, {"server": {"name": STATIC_SITE, "version": "1"}})), ""),
        (faults.instead(Answer.of(200, VERSION)), ""),
        (faults.instead(Answer.of(502, {})), ""),
        (faults.instead(Answer.of(200, {"server": {"name": "Dendrite\x1b[2J", "version": "1"}})), "Dendrite\\x1b[2J 1"),
    ],
)
def test_which_homeserver_answers(own: RemoteServer, attempt: Try, fault: faults.Fault, expected: str) -> None:
    own.inject("version", fault)
    assert attempt() == expected


# By what remote servers have seen


def test_a_notary_has_seen_the_key(attempt: Try, remote: StartServer) -> None:
    notary, second = remote(), remote()
    assert attempt(notary, second) == ""
    assert [request.arguments for request in notary.requests] == [("gone.example",)]
    assert not second.requests, "one word is enough"


def test_a_notary_that_has_nothing_is_followed_by_the_next(attempt: Try, remote: StartServer) -> None:
    down = remote()
    down.stop()
    attempt(has_seen(remote()), down, has_seen(remote(), []), has_seen(remote(), {}), remote())


def test_the_newest_answer_of_a_notary_counts(attempt: Try, remote: StartServer) -> None:
    new, old = keys(OURS, valid_until=3_000_000_000_000), keys(OTHER, valid_until=2_900_000_000_000)
    attempt(has_seen(remote(), old, new, keys(OURS, valid_until=PAST)))
    with pytest.raises(SigningKeyError, match="which publishes ed25519:a_stub"):
        attempt(has_seen(remote(), new, old), key_file=OTHER.key_file)


def test_an_expired_answer_of_a_notary_is_refused(attempt: Try, remote: StartServer) -> None:
    notary = has_seen(remote(), keys(OURS, valid_until=PAST))
    with pytest.raises(SigningKeyError, match=rf"^according to {notary.server_name}, .* expired at"):
        attempt(notary)
    attempt(notary, remote())


def test_notaries_agree_on_another_key(attempt: Try, remote: StartServer) -> None:
    with pytest.raises(SigningKeyError, match="ed25519:a_other is not published by"):
        attempt(remote(), remote(), key_file=OTHER.key_file)


def test_a_notary_that_lies_does_not_keep_us_from_all_others(attempt: Try, remote: StartServer) -> None:
    # It needs no key of ours for such an answer.
    faulty = has_seen(remote(), keys(ServerKey("gone.example", "ed25519:evil")))
    attempt(faulty, remote())
    with pytest.raises(SigningKeyError, match="ed25519:evil"):
        attempt(faulty)


@pytest.mark.parametrize(
    "fault", [faults.big(600), faults.page(), faults.trickled(1.0), faults.redirect("https://127.0.0.1/")]
)
def test_a_notary_that_talks_nonsense(attempt: Try, remote: StartServer, fault: faults.Fault) -> None:
    faulty = remote()
    faulty.inject("query_keys", fault)
    attempt(faulty, remote(), timeout=2.0)
    with pytest.raises(SigningKeyError, match="can't be verified"):
        attempt(faulty, timeout=2.0)


def test_many_answers_of_a_notary(attempt: Try, remote: StartServer) -> None:
    with pytest.raises(SigningKeyError):
        attempt(has_seen(remote(), *[keys(OTHER)] * 200, OURS.key_answer()))


def test_no_server_has_the_key(attempt: Try, remote: StartServer) -> None:
    notaries = [has_seen(remote()) for _number in range(MAX_NOTARIES + 1)]
    with pytest.raises(SigningKeyError) as raised:
        attempt(*notaries)
    message = str(raised.value)
    assert message.startswith(
        "signing key ed25519:a_stub can't be verified: serve /_matrix/key/v2/server under gone.example (a static file"
        " is enough) and retry. "
    )
    assert "cannot resolve gone.example" in message and notaries[0].server_name in message
    assert len(message) <= 300
    assert [len(notary.requests) for notary in notaries] == [1] * MAX_NOTARIES + [0]


# With require_key_answer


@pytest.fixture
def strict(attempt: Try) -> Try:
    """Connect with require_key_answer."""
    return partial(attempt, require_key_answer=True)


def reused() -> ServerKey:
    """Another key under the ID of ours, as remote servers may have stored it."""
    key = ServerKey("gone.example", "ed25519:a_stub")
    # The key is derived from both names, so this one is made of another.
    vars(key)["_seed"] = OTHER._seed
    return key


def test_the_key_answer_is_there(own: RemoteServer, strict: Try, remote: StartServer) -> None:
    notaries = [remote() for _number in range(MAX_NOTARIES + 1)]
    assert strict(*notaries) == "Synapse 1.163.2"
    assert [len(notary.asked("query_keys")) for notary in notaries] == [1] * MAX_NOTARIES + [0]
    assert strict() == "Synapse 1.163.2"


MISSING: dict[str, tuple[Any, str]] = {
    "nothing": (None, "cannot resolve gone.example"),
    "missing": (faults.error(404, "M_UNRECOGNIZED", "Unrecognized request"), "server_name is missing"),
    "page": (faults.page(), "text/html instead of a JSON object"),
    "another name": (faults.instead(Answer.of(200, ServerKey("other.example").key_answer())), "server_name is missing"),
    "not signed": (faults.instead(Answer.of(200, {**OURS.key_answer(), "signatures": {}})), "not signed by any"),
    "gateway": (faults.instead(Answer.of(502, {})), "HTTP 502"),
}


@pytest.mark.parametrize("case", MISSING)
def test_the_key_answer_is_missing(names: Names, strict: Try, remote: StartServer, case: str) -> None:
    fault, reason = MISSING[case]
    notary = remote()
    if fault:
        names.own = remote()
        names.own.inject("server_keys", fault)
    with pytest.raises(SigningKeyError) as raised:
        strict(notary)
    assert str(raised.value).startswith(
        "require_key_answer: serve /_matrix/key/v2/server with ed25519:a_stub under gone.example (a static file is"
        " enough) and retry. "
    )
    assert reason in str(raised.value) and not notary.requests


def test_the_key_answer_has_expired_or_the_former_id(own: RemoteServer, strict: Try, remote: StartServer) -> None:
    notary = remote()
    own.remove_faults()
    says(own, keys(OURS, valid_until=PAST))
    with pytest.raises(SigningKeyError, match=r"expired at 2001-09-09 01:46 UTC"):
        strict(notary)
    with pytest.raises(SigningKeyError, match="ed25519:a_other is not published by"):
        strict(notary, key_file=OTHER.key_file)
    assert not notary.requests


def test_remote_servers_know_another_key_under_our_id(own: RemoteServer, strict: Try, remote: StartServer) -> None:
    as_valid, as_old = (
        has_seen(remote(), keys(reused())),
        has_seen(remote(), keys(OTHER, old_verify_keys=reused().verify_keys)),
    )
    unaware, down = has_seen(remote(), keys(OTHER)), remote()
    down.stop()
    with pytest.raises(SigningKeyError) as raised:
        strict(as_valid, unaware, down, as_old)
    assert str(raised.value) == (
        "remote servers know another key as ed25519:a_stub, and reject all requests (401): create a key with a new ID,"
        f" and publish that. Asked: {as_valid.server_name}, {as_old.server_name}"
    )
    assert {request.endpoint for notary in (as_valid, as_old, unaware) for request in notary.requests} == {"query_keys"}


def test_a_server_that_lies_among_honest_ones(own: RemoteServer, strict: Try, remote: StartServer) -> None:
    liars = [has_seen(remote(), keys(reused())) for _number in range(3)]
    strict(*liars, remote())
    strict(remote(), *liars)


def test_the_check_is_not_made_otherwise(own: RemoteServer, attempt: Try, remote: StartServer) -> None:
    notary = has_seen(remote(), keys(reused()))
    attempt(notary)
    assert not notary.requests


@pytest.mark.parametrize("fault", [faults.big(600), faults.page(), faults.trickled(1.0), faults.endless()])
def test_a_server_that_talks_nonsense_does_not_count(
    own: RemoteServer, strict: Try, remote: StartServer, fault: faults.Fault
) -> None:
    faulty = remote()
    faulty.inject("query_keys", fault)
    strict(faulty, timeout=2.0)
    with pytest.raises(SigningKeyError, match="know another key"):
        strict(faulty, has_seen(remote(), keys(reused())), timeout=2.0)


def test_the_same_server_is_asked_once(own: RemoteServer, strict: Try, remote: StartServer) -> None:
    notary = remote()
    strict(*[notary] * 9)
    assert len(notary.requests) == 1


# Input


@pytest.mark.parametrize("text", ["", "ed25519 a_stub\n", "ed25519 a_stub SECRET!\n", "SECRET\n", "\x00SECRET"])
def test_an_invalid_key_file(names: Names, own: RemoteServer, text: str) -> None:
    with (
        pytest.raises(SigningKeyError) as raised,
        connect(OURS.server_name, text, Settings(), [], resolver=names),
    ):
        raise AssertionError("not reached")
    error: BaseException | None = raised.value
    while error is not None:
        assert "SECRET" not in repr(error)
        error = error.__cause__ or error.__context__
    assert not own.requests


def test_an_invalid_server_name(names: Names) -> None:
    with (
        pytest.raises(FederationError, match="is not a server name"),
        connect('a.example",key="x', OURS.key_file, Settings(), [], resolver=names),
    ):
        raise AssertionError("not reached")
