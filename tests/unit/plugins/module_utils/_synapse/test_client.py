# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Callable

import pytest
import requests
import responses
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError, SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    BASE_URL,
    NOW,
    OPERATOR,
    TOKEN,
    VERSIONS,
    Clock,
    Server,
    Wire,
    http,
    matrix_error,
)

LOGIN = "/_matrix/client/v3/login"
LOGOUT = "/_matrix/client/v3/logout"
PASSWORD_LOGIN = {
    "type": "m.login.password",
    "identifier": {"type": "m.id.user", "user": "op"},
    "password": "secret",
    "initial_device_display_name": "matrixops.synapse",
}
LIMITED = matrix_error("M_LIMIT_EXCEEDED", "Too Many Requests")
TWO_MINUTES = [1, 2, 4, 8, *[16] * 6]

StartWire = Callable[..., Wire]


# What is sent


@pytest.mark.parametrize(
    ("identifier", "sent"),
    [
        ("@alice:example.org", "%40alice%3Aexample.org"),
        ("!room:example.org", "%21room%3Aexample.org"),
        ("#alias:example.org", "%23alias%3Aexample.org"),
        ("a/b", "a%2Fb"),
        ("a/../b", "a%2F..%2Fb"),
        ("a?b", "a%3Fb"),
        ("a%2Fb", "a%252Fb"),
        ("a=b+c.d_e-f~g", "a%3Db%2Bc.d_e-f~g"),
        ("a b&c;d", "a%20b%26c%3Bd"),
        ("żółw", "%C5%BC%C3%B3%C5%82w"),
        ("{}", "%7B%7D"),
    ],
)
def test_identifiers_are_encoded_whole(wire: StartWire, identifier: str, sent: str) -> None:
    started = wire(http())
    with Client(started.url, TOKEN) as client:
        client.get("/before/{}/after", identifier)
    assert started.requests[0].splitlines()[0] == f"GET /before/{sent}/after HTTP/1.1"


@pytest.mark.parametrize("identifier", ["", ".", ".."])
def test_what_would_change_the_path_is_no_identifier(server: Server, fresh_client: Client, identifier: str) -> None:
    with pytest.raises(SynapseError, match=f"^'{re.escape(identifier)}' is not an identifier$"):
        fresh_client.get("/before/{}/after", identifier)
    assert server.methods == []


@pytest.mark.parametrize("token", ["syt_token\n", "syt token", "syt_tökenł", ""])
def test_what_cannot_be_a_token_is_refused_and_not_shown(token: str) -> None:
    with Client(BASE_URL, token) as client, pytest.raises(SynapseError, match="access token") as caught:
        client.get("/path")
    assert "syt" not in str(caught.value)


def test_a_slash_at_the_end_of_base_url_is_dropped(server: Server) -> None:
    server.get("/path")
    with Client(f"{BASE_URL}/", TOKEN) as client:
        client.get("/path")


def test_parameters_are_sent_in_the_query(server: Server, fresh_client: Client) -> None:
    server.get("/path", query={"name": "a&b=c", "empty": ""})
    fresh_client.get("/path", params={"name": "a&b=c", "empty": ""})


def test_each_method_sends_its_body(server: Server, fresh_client: Client) -> None:
    server.post("/path", {"a": 1}, {"n": 1})
    server.post("/path", {}, {"n": 2})
    server.put("/path", {}, {"n": 3})
    server.delete("/path", {"n": 4})
    assert fresh_client.post("/path", json={"a": 1}) == {"n": 1}
    assert fresh_client.post("/path") == {"n": 2}
    assert fresh_client.put("/path", json={}) == {"n": 3}
    assert fresh_client.delete("/path") == {"n": 4}


def test_a_token_for_one_request(server: Server, fresh_client: Client) -> None:
    server.get("/path", token="other")
    server.get("/path")
    fresh_client.get("/path", token="other")
    fresh_client.get("/path")


@pytest.mark.parametrize(("token", "authorization"), [(TOKEN, [f"Bearer {TOKEN}"]), (None, [])])
def test_netrc_is_not_used(
    wire: StartWire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str | None, authorization: list[str]
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    started = wire(http())
    with Client(started.url, token) as client:
        client.get("/path")
    lines = started.requests[0].splitlines()
    assert [line.partition(": ")[2] for line in lines if line.lower().startswith("authorization:")] == authorization


@pytest.mark.parametrize("verify", [False, "/etc/ssl/own.pem"])
def test_the_environment_does_not_change_verification(
    server: Server, monkeypatch: pytest.MonkeyPatch, verify: bool | str
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ssl/other.pem")
    server.get("/path", verify=verify)
    with Client(BASE_URL, TOKEN, verify=verify) as client:
        client.get("/path")


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
def test_redirects_are_not_followed(wire: StartWire, status: str) -> None:
    elsewhere = wire(http())
    started = wire(http(b"", status, f"Location: {elsewhere.url}/login"))
    with Client(started.url, TOKEN) as client, pytest.raises(SynapseError, match="redirected to http") as caught:
        client.get("/path")
    assert caught.value.status == int(status[:3])
    assert f"{elsewhere.url}/login" in str(caught.value)
    assert elsewhere.requests == []


# Sessions


def test_login_and_logout(server: Server) -> None:
    server.post(LOGIN, PASSWORD_LOGIN, {"access_token": "fresh"}, token=None)
    server.get("/path", token="fresh")
    server.post(LOGOUT, {}, token="fresh")
    with Client(BASE_URL) as client:
        assert client.login("op", "secret") == "fresh"
        client.get("/path")


def log_in_and_raise(exception: BaseException) -> None:
    with Client(BASE_URL) as client:
        client.login("op", "secret")
        raise exception


@pytest.mark.parametrize("exception", [ValueError, SystemExit, KeyboardInterrupt])
def test_logout_also_after_an_exception(server: Server, exception: type[BaseException]) -> None:
    server.post(LOGIN, PASSWORD_LOGIN, {"access_token": "fresh"}, token=None)
    server.post(LOGOUT, {}, token="fresh")
    with pytest.raises(exception):
        log_in_and_raise(exception())


def test_a_failing_logout_does_not_hide_what_went_wrong_before(server: Server) -> None:
    server.post(LOGIN, PASSWORD_LOGIN, {"access_token": "fresh"}, token=None)
    server.post(LOGOUT, {}, matrix_error("M_UNKNOWN", "broken"), status=400, token="fresh")
    with pytest.raises(ValueError, match="first"):
        log_in_and_raise(ValueError("first"))


def test_a_failing_logout_is_an_error(server: Server) -> None:
    server.post(LOGIN, PASSWORD_LOGIN, {"access_token": "fresh"}, token=None)
    server.post(LOGOUT, {}, matrix_error("M_UNKNOWN", "broken"), status=400, token="fresh")
    with pytest.raises(SynapseError, match="broken"), Client(BASE_URL) as client:
        client.login("op", "secret")


def test_keep_session(server: Server) -> None:
    server.post(LOGIN, PASSWORD_LOGIN, {"access_token": "fresh"}, token=None)
    with Client(BASE_URL) as client:
        client.login("op", "secret")
        client.keep_session()


def test_a_token_that_was_given_is_not_logged_out(server: Server) -> None:
    server.get("/path")
    with Client(BASE_URL, TOKEN) as client:
        client.get("/path")


def test_logout_happens_once(server: Server) -> None:
    server.post(LOGIN, PASSWORD_LOGIN, {"access_token": "fresh"}, token=None)
    server.post(LOGOUT, {}, token="fresh")
    with Client(BASE_URL) as client:
        client.login("op", "secret")
        assert client.logout()


def test_logout_of_a_dead_token(server: Server, fresh_client: Client) -> None:
    server.post(LOGOUT, {}, matrix_error("M_UNKNOWN_TOKEN", "Invalid"), status=401, token="dead")
    assert not fresh_client.logout("dead")


def test_login_is_not_repeated_when_it_may_have_happened(server: Server, fresh_client: Client, clock: Clock) -> None:
    server.whoami()
    server.post(LOGIN, PASSWORD_LOGIN, requests.exceptions.ReadTimeout())
    assert fresh_client.user_id == OPERATOR
    with pytest.raises(SynapseError, match="no answer within 60 s"):
        fresh_client.login("op", "secret")
    assert clock.waits == []


def test_who_is_asked_once(server: Server, fresh_client: Client) -> None:
    server.whoami("@op:example.org:8448")
    assert fresh_client.user_id == "@op:example.org:8448"
    assert fresh_client.server_name == "example.org:8448"


# The time


def test_the_time_is_the_servers(server: Server, fresh_client: Client) -> None:
    server.date("Mon, 23 Nov 2026 06:40:00 GMT")
    assert fresh_client.time() == datetime(2026, 11, 23, 6, 40, tzinfo=timezone.utc)


@pytest.mark.parametrize("zone", ["", " -0000", " +0000", " GMT"])
def test_a_time_without_a_zone_is_not_the_controllers(server: Server, fresh_client: Client, zone: str) -> None:
    server.date(f"Mon, 23 Nov 2026 06:40:00{zone}")
    time = fresh_client.time()
    assert time.utcoffset() == timedelta(0)
    assert time.timestamp() == NOW


@pytest.mark.parametrize("date", [None, "now", "Mon, 99 Nov 2026 06:40:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_valid_time(server: Server, fresh_client: Client, date: str | None) -> None:
    server.get(VERSIONS, headers={} if date is None else {"Date": date})
    with pytest.raises(SynapseError, match="no valid Date header"):
        fresh_client.time()


def test_a_connection_that_is_hung_up(wire: StartWire, clock: Clock) -> None:
    started = wire(http(), None, None, http(b'{"done": true}'))
    with Client(started.url, TOKEN) as client:
        client.get("/first")
        with pytest.raises(SynapseError, match="connection failed") as caught:
            client.post("/once", repeat=False)
        assert client.get("/again") == {"done": True}
    assert caught.value.unanswered
    assert [request.split()[1] for request in started.requests] == ["/first", "/once", "/again", "/again"]
    assert clock.waits == [1]


def test_a_body_that_breaks_off(wire: StartWire) -> None:
    started = wire(http(), b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", http(b'{"done": true}'))
    with Client(started.url, TOKEN) as client:
        client.get("/first")
        assert client.get("/again") == {"done": True}


def test_a_body_can_be_put_with_a_borrowed_token(server: Server, fresh_client: Client) -> None:
    server.put("/path", {"a": 1}, token="other")
    fresh_client.put("/path", json={"a": 1}, token="other")


def test_requests_are_counted_by_what_they_ask_for(server: Server, fresh_client: Client) -> None:
    server.get("/a/1")
    server.get("/a/2", LIMITED, status=429)
    server.get("/a/2")
    server.get("/b", status=404)
    for number in "12":
        fresh_client.get("/a/{}", number)
    with pytest.raises(SynapseError):
        fresh_client.get("/b")
    assert fresh_client.sent == {"/a/{}": 3, "/b": 1}


def test_nobody_listens(wire: StartWire, clock: Clock) -> None:
    started = wire(http())
    with Client(started.url, TOKEN) as client:
        client.get("/first")
        started.close()
        with pytest.raises(SynapseError, match="connection failed") as caught:
            client.post("/path", repeat=False)
    assert not caught.value.unanswered
    assert isinstance(caught.value, FatalError)
    assert clock.waits == TWO_MINUTES


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"<html></html>", "text/html; charset=utf-8", "answered with text/html, not with a JSON object"),
        (b"[]", "application/json", "answered with application/json, not with a JSON object"),
        (b"null", "application/json", "not with a JSON object"),
        (b'"words"', "application/json", "not with a JSON object"),
        (b'{"cut": ', "application/json", "not with a JSON object"),
        (b"\xff\xfe\xfd", "application/json", "not with a JSON object"),
        (b"", "text/plain", "not with a JSON object"),
    ],
)
@pytest.mark.parametrize("status", [200, 404])
def test_no_json_object(
    server: Server, fresh_client: Client, status: int, body: bytes, content_type: str, words: str
) -> None:
    server.get("/path", body, status=status, content_type=content_type)
    with pytest.raises(SynapseError, match=words) as caught:
        fresh_client.get("/path")
    assert caught.value.status == status


@pytest.mark.parametrize(("status", "body"), [(201, b"{}"), (202, b"{}"), (204, b"")])
def test_only_200_is_success(server: Server, fresh_client: Client, status: int, body: bytes) -> None:
    server.get("/path", body, status=status)
    with pytest.raises(SynapseError) as caught:
        fresh_client.get("/path")
    assert caught.value.status == status


@pytest.mark.parametrize("base_url", ["http://localhost:8008", "http://127.0.0.1:9", "http://[::1]:9"])
def test_no_proxy_for_this_machine(base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
    with responses.RequestsMock() as mock, Client(base_url, TOKEN) as client:
        mock.get(f"{base_url}/path", json={})
        client.get("/path")
        (call,) = mock.calls
    assert not call.request.req_kwargs["proxies"].get("http")


def test_nesting_without_end(server: Server, fresh_client: Client) -> None:
    server.get("/path", b"[" * 100_000)
    with pytest.raises(SynapseError, match="not with a JSON object"):
        fresh_client.get("/path")


def test_an_identifier_that_no_url_can_have(fresh_client: Client) -> None:
    with pytest.raises(SynapseError, match="is not an identifier"):
        fresh_client.get("/path/{}", "\ud800")


def test_ca_certificates_that_are_not_there() -> None:
    client = Client("https://127.0.0.1:9", TOKEN, verify="/nowhere/ca")
    with client, pytest.raises(SynapseError, match="/nowhere/ca"):
        client.get("/path")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_who_is_turned_away_sends_less_at_the_same_time(server: Server, status: int) -> None:
    client = Client(BASE_URL, TOKEN, connections=8)
    for _answer in range(8):
        server.get("/path", {})
        client.get("/path")
    before = client._limiter.limit
    assert before >= 4
    server.get("/path", LIMITED, status=status)
    if status != 500:
        server.get("/path", {})
    with suppress(SynapseError):
        client.get("/path")
    assert client._limiter.limit == before // 2


# The lease


def refuse() -> None:
    raise FatalError("the lease is lost")


def test_each_write_is_checked_before_it_is_sent(server: Server, client: Client) -> None:
    client.before_write = refuse
    writes: list[Callable[[], object]] = [
        lambda: client.post("/path"),
        lambda: client.put("/path", json={}),
        lambda: client.delete("/path"),
        lambda: client.post("/path", token="borrowed"),
    ]
    for write in writes:
        with pytest.raises(FatalError, match="the lease is lost"):
            write()
    server.get("/path")
    server.post(LOGOUT, {})
    server.post(LOGOUT, {}, token="borrowed")
    client.get("/path")
    client.logout()
    client.logout("borrowed")


def test_each_attempt_is_checked(server: Server, client: Client, clock: Clock) -> None:
    checks = []
    client.before_write = lambda: checks.append(clock.now)
    server.put("/path", {}, LIMITED, status=429)
    server.put("/path", {})
    client.put("/path", json={})
    assert checks == [1_000, 1_001]


def test_a_write_is_checked_after_it_has_waited_for_a_slot(server: Server, client: Client) -> None:
    running = []
    client.before_write = lambda: running.append(client._limiter._running)
    server.post("/path", {})
    client.post("/path")
    assert running == [1]


def test_a_sibling(server: Server, client: Client, clock: Clock) -> None:
    """It is independent of the other requests, and sends each request once."""
    client.before_write = refuse
    sibling = client.sibling(7.0)
    assert sibling._limiter is not client._limiter
    client.stop(FatalError("stopped"))
    server.put("/path", {})
    sibling.put("/path", json={})
    for status in (429, 502):
        server.put("/path", {}, LIMITED, status=status)
        with pytest.raises(SynapseError) as caught:
            sibling.put("/path", json={})
        assert caught.value.status == status
    assert clock.waits == []
    assert sibling.user_id == client.user_id
    assert (sibling._timeout, client.sibling(1e9)._timeout) == (7.0, client._timeout)
