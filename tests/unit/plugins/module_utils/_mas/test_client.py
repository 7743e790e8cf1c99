# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.client import PAGE_SIZE, MasClient
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.errors import MasFatalError, MasRefusedError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import (
    FatalError,
    RefusedError,
    SynapseError,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Clock
from ansible_collections.matrixops.synapse.tests.stubs.mas import ADMIN_SCOPE, CLIENT_SECRET, LIFETIME, MasStub

Connect = Callable[..., MasClient]


def test_server_name_and_features(mas: MasStub, mas_client: MasClient) -> None:
    assert mas_client.server_name == "example.org"
    assert "/personal-sessions" in mas_client.paths and "/users/{id}/deactivate" in mas_client.paths
    assert mas.log == ["POST token", "GET site-config"]


def test_an_expired_token_is_no_error(mas: MasStub, mas_client: MasClient, clock: Clock) -> None:
    mas_client.get("/version")
    clock.now += LIFETIME + 1
    mas_client.get("/version")
    assert mas.log.count("POST token") == 2
    # Before its time, for example since the service has lost it.
    mas.tokens.clear()
    assert mas_client.get("/version") == {"version": "v1.22.0"}
    assert mas.log.count("POST token") == 3


def test_a_token_is_replaced_before_it_expires(mas: MasStub, mas_client: MasClient, clock: Clock) -> None:
    mas_client.get("/version")
    clock.now += LIFETIME - 30
    mas_client.get("/version")
    assert mas.log == ["POST token", "GET version", "POST token", "GET version"]


def test_a_given_token_is_not_replaced(mas: MasStub, connect: Connect) -> None:
    token = mas.issue_token(ADMIN_SCOPE)
    client = connect(access_token=token)
    assert client.get("/version")
    mas.tokens.clear()
    with pytest.raises(FatalError, match="401: Unknown access token") as refused:
        client.get("/version")
    assert "Set mas_access_token" in refused.value.advice
    assert token not in str(refused.value)


@pytest.mark.parametrize(
    ("prepare", "error", "advice"),
    [
        (lambda mas: setattr(mas, "admin_clients", False), "403: invalid_scope", "admin_clients"),
        (lambda mas: setattr(mas, "down", True), "503", "is running"),
    ],
)
def test_a_service_that_refuses(
    mas: MasStub, mas_client: MasClient, prepare: Callable[[MasStub], Any], error: str, advice: str
) -> None:
    prepare(mas)
    with pytest.raises(FatalError, match=error) as refused:
        mas_client.get("/version")
    assert advice in refused.value.advice


def test_a_wrong_secret(connect: Connect) -> None:
    with pytest.raises(FatalError, match="401: invalid_client") as refused:
        connect(client_secret="wrong-secret").get("/version")
    assert "Correct mas_client_id" in refused.value.advice
    assert "wrong-secret" not in str(refused.value)


def test_a_token_without_the_scope(mas: MasStub, connect: Connect) -> None:
    client = connect(access_token=mas.issue_token("urn:matrix:client:api:*"))
    with pytest.raises(FatalError, match="Missing urn:mas:admin scope"):
        client.get("/version")


def test_a_listener_without_the_admin_api(mas: MasStub, connect: Connect) -> None:
    client = connect(f"{mas.url}elsewhere/")
    with pytest.raises(FatalError, match="404") as refused:
        client.paths  # noqa: B018 reads them
    assert "add the resource adminapi to a listener" in refused.value.advice


def test_tokens_may_be_issued_elsewhere(mas: MasStub, connect: Connect) -> None:
    asked: list[str] = []
    reply = mas._reply

    def without_tokens(request: Any) -> Any:
        if request.path.startswith("/internal/oauth2"):
            asked.append(request.path)
            return 404, "<html></html>"
        request.path = request.path.replace("/internal", "")
        return reply(request)

    mas._reply = without_tokens  # type: ignore[method-assign]
    assert connect(f"{mas.url}internal", token_url=lambda: f"{mas.url}oauth2/token").get("/version")
    assert asked == ["/internal/oauth2/token"]
    with pytest.raises(SynapseError, match="404"):
        connect(f"{mas.url}internal").get("/version")


def test_a_service_that_is_down_for_a_while(
    mas: MasStub, mas_client: MasClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    mas_client.get("/version")
    mas.down = True

    def come_back(seconds: float) -> None:
        clock.sleep(seconds)
        mas.down = len(clock.waits) < 3

    monkeypatch.setattr("time.sleep", come_back)
    assert mas_client.get("/version")
    assert clock.waits == [1.0, 2.0, 4.0]


def test_a_version_that_does_not_say_which_server_it_is_for(mas: MasStub, mas_client: MasClient) -> None:
    mas_client.__dict__["paths"] = mas_client.paths - {"/site-config"}
    with pytest.raises(FatalError, match=r"older than version 1\.3"):
        mas_client.server_name  # noqa: B018 reads it


def test_a_listing_has_each_user_once(mas: MasStub, mas_client: MasClient) -> None:
    for number in range(2 * PAGE_SIZE + 1):
        mas.add_user(f"u{number}")
    added = False
    names = []
    for resource in mas_client.list_all("/users"):
        names.append(resource["attributes"]["username"])
        if not added:
            # What is created meanwhile comes last.
            mas.add_user("late")
            added = True
    assert len(names) == len(set(names)) == 2 * PAGE_SIZE + 3 and names[-1] == "late"
    assert mas.log.count("GET users") == 3


@pytest.mark.parametrize("number", [0, PAGE_SIZE])
def test_the_last_page(mas: MasStub, mas_client: MasClient, number: int) -> None:
    mas.users.clear()
    for name in range(number):
        mas.add_user(f"u{name}")
    assert len(list(mas_client.list_all("/users"))) == number
    assert mas.log.count("GET users") == 1


@pytest.mark.parametrize(
    ("item", "error"),
    [("01000000000000000000000000", "after"), ("../../x", "for an ID"), (7, "no str 'id'")],
)
def test_a_listing_without_end(mas: MasStub, mas_client: MasClient, item: Any, error: str) -> None:
    page = {"data": [{"id": item, "attributes": {}}], "links": {"next": "/again"}}
    mas._page = lambda *_arguments: page  # type: ignore[method-assign]
    with pytest.raises(RefusedError if "ID" in error or "str" in error else FatalError, match=error):
        list(mas_client.list_all("/users"))


def test_no_write_is_sent_without_the_lease(mas: MasStub, connect: Connect) -> None:
    def refuse() -> None:
        raise FatalError("lost the lease")

    client = connect(check_write=refuse)
    client.get("/version")
    with pytest.raises(FatalError, match="lost the lease"):
        client.post("/policy-data", json={"data": {}})
    with pytest.raises(MasRefusedError, match="404"):
        client.post("/personal-sessions/{}/revoke", "01000000000000000000000000", always=True)
    assert mas.policy_data == []


def test_segments_are_encoded(mas: MasStub, mas_client: MasClient) -> None:
    mas.add_user("odd/../name")
    found = mas_client.get("/users/by-username/{}", "odd/../name").object("data").object("attributes")
    assert found["username"] == "odd/../name"


@pytest.mark.parametrize("url", ["localhost:8080", "http://user:pass@mas.test/", "http://mas.test/api/admin/v1"])
def test_urls_that_cannot_be_those_of_a_service(connect: Connect, url: str) -> None:
    with pytest.raises(FatalError, match="mas_url") as refused:
        connect(url)
    assert "pass@" not in str(refused.value)


def test_a_secret_is_in_no_error(mas: MasStub, mas_client: MasClient) -> None:
    def repeat(_request: Any) -> Any:
        return 500, {"errors": [{"title": f"{CLIENT_SECRET} mpt_abc Bearer mat_1"}]}

    mas._reply = repeat  # type: ignore[method-assign]
    with pytest.raises(SynapseError) as error:
        mas_client.get("/version")
    assert CLIENT_SECRET not in str(error.value) and "mpt_abc" not in str(error.value)
    assert isinstance(error.value, (MasFatalError, MasRefusedError))
