# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names, IDs and texts of errors are whatever somebody on the internet has made of them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
import unicodedata
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable
from urllib.parse import unquote, urlsplit

import pytest
import responses
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import milestones as store
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.progress import DrainLog
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import KIND, Record, read_record
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import account_data, accounts
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._text import printable
from ansible_collections.matrixops.synapse.plugins.modules import synapse_user_deactivate
from ansible_collections.matrixops.synapse.tests.stubs.helpers import BASE_URL, OPERATOR, SERVER, TOKEN, Json
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

hostile = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
NASTY = st.text(st.characters(), max_size=40) | st.sampled_from(
    [
        "\x1b[2J\x1b]0;owned\x07",
        "\x9b2J",
        "{{ 7*7 }}",
        "../../admin",
        "a/../../b?c=d#e",
        "%2F..%2f%00",
        "a\r\nHost: evil.example",
        "x\u202egnp.exe",
        '"}\n{"result": "parted"}',
        "\ud800",
        "!r:[::1]:8448",
        "@a:evil.example@good.example",
    ]
)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | NASTY, st.lists, max_leaves=5)


def sent_to(client: Client, path: str, *segments: str) -> str:
    with responses.RequestsMock() as mocked:
        mocked.add("GET", re.compile(".*"), json={})
        client.get(path, *segments)
        return str(mocked.calls[0].request.url)


# URLs


@hostile
@given(NASTY)
def test_an_identifier_is_one_segment_of_the_path_and_nothing_else(lone_client: Client, identifier: str) -> None:
    if identifier in ("", ".", "..") or re.search("[\ud800-\udfff]", identifier):
        with pytest.raises(SynapseError, match="is not an identifier"):
            lone_client.get("/before/{}/after", identifier)
        return
    url = sent_to(lone_client, "/before/{}/after", identifier)
    parts = urlsplit(url)
    assert f"{parts.scheme}://{parts.netloc}" == BASE_URL
    assert (parts.query, parts.fragment) == ("", "")
    before, segment, after = parts.path.lstrip("/").split("/")
    assert (before, unquote(segment, errors="strict"), after) == ("before", identifier, "after")
    assert url.isascii() and url.isprintable()


@pytest.mark.parametrize(
    "where", ["https://evil.example/", f"{BASE_URL}.evil.example/", "//evil.example/", "/elsewhere"]
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nobody_that_is_redirected_to_gets_the_token(lone_client: Client, where: str, status: int) -> None:
    with responses.RequestsMock() as mocked:
        mocked.add("GET", f"{BASE_URL}/x", status=status, headers={"Location": where})
        with pytest.raises(SynapseError, match="redirected to"):
            lone_client.get("/x")
        assert len(mocked.calls) == 1


# The terminal


@hostile
@given(NASTY)
@example("żółć 漢字 🦊")
def test_what_is_shown_has_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in shown)
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
    assert printable(shown) == shown
    # What can be read is as it was.
    assert shown == text or not text.isprintable()


@hostile
@given(NASTY, NASTY)
def test_errors_are_shown_so(error: str, errcode: str) -> None:
    with responses.RequestsMock() as mocked, Client(BASE_URL, TOKEN) as client:
        mocked.add("GET", f"{BASE_URL}/x", status=400, json={"error": error, "errcode": errcode})
        with pytest.raises(SynapseError) as caught:
            client.get("/x")
    assert printable(str(caught.value)) == str(caught.value)


@pytest.mark.parametrize("user_id", ["@op\x1b[2J:example.org", "@op:example.org\n", "@op:exa\u202emple.org"])
def test_the_name_of_a_server_can_be_shown(user_id: str) -> None:
    with responses.RequestsMock() as mocked, Client(BASE_URL, TOKEN) as client:
        mocked.add("GET", f"{BASE_URL}/_matrix/client/v3/account/whoami", json={"user_id": user_id})
        with pytest.raises(SynapseError, match="for a user ID"):
            print(client.server_name)


@hostile
@given(st.lists(NASTY, min_size=1, max_size=3), NASTY)
def test_what_a_module_says_is_shown_so(
    run: Callable[..., Json], monkeypatch: pytest.MonkeyPatch, names: list[str], reason: str
) -> None:
    def drain(*arguments: Any, **more: Any) -> Any:
        return synapse_user_deactivate.DrainResult(
            deactivated=dict.fromkeys(names, "active"), failed=dict.fromkeys(names, reason)
        )

    monkeypatch.setattr(synapse_user_deactivate, "drain", drain)
    with responses.RequestsMock() as mocked:
        mocked.add("GET", f"{BASE_URL}/_matrix/client/v3/account/whoami", json={"user_id": OPERATOR})
        result = run("synapse_user_deactivate", {"all_users": True})
    for text in (result["msg"], *result["diff"].values()):
        assert all(printable(line) == line for line in text.split("\n"))
    # But whatever works with it gets it as it is.
    assert {failure["user_id"] for failure in result["failures"]} == set(names)


# The log


@hostile
@given(st.lists(st.tuples(NASTY, NASTY), max_size=5))
def test_each_line_of_the_log_is_one_thing_that_happened(entries: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        with DrainLog(str(log)) as journal:
            for user_id, error in entries:
                journal.write(user_id, "failed", error=error, rooms={user_id: error})
        content = log.read_bytes()
    lines = content.split(b"\n")
    assert lines.pop() == b""
    assert [(line["user_id"], line["error"], line["rooms"]) for line in map(json.loads, lines)] == [
        (user_id, error, {user_id: error}) for user_id, error in entries
    ]
    assert not re.search(rb"[^ -~\n]", content)


# What is read back


@hostile
@given(st.sampled_from(["rooms", "retries", "history", "merged_for"]), st.dictionaries(NASTY, JSON, max_size=5) | JSON)
def test_a_record_that_somebody_has_tampered_with(key: str, content: Any) -> None:
    """It is as good as none, so that it is made anew; it is never an error that ends all polls."""
    text = base64.b64encode(zlib.compress(json.dumps({**Record().as_json(), key: content}).encode())).decode()
    index = {"side": "a", "pieces": 1, "sha256": hashlib.sha256(text.encode()).hexdigest(), "server_name": SERVER}
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked, Client(BASE_URL, TOKEN) as client:
        mocked.add("GET", re.compile(".*/whoami"), json={"user_id": OPERATOR})
        mocked.add("GET", re.compile(f".*/{KIND}$"), json=index)
        mocked.add("GET", re.compile(f".*/{KIND}.a.0$"), json={"text": text, "server_name": SERVER})
        record = read_record(client)
    assert not record.rooms and not record.retries


@hostile
@given(st.dictionaries(st.sampled_from(["side", "sha256"]), JSON, max_size=2), JSON)
def test_an_index_of_the_record_that_makes_no_sense(index: dict[str, Any], text: Any) -> None:
    content = json.dumps({"pieces": 1, **index, "server_name": SERVER})
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked, Client(BASE_URL, TOKEN) as client:
        mocked.add("GET", re.compile(".*/whoami"), json={"user_id": OPERATOR})
        mocked.add("GET", re.compile(f".*/{KIND}$"), body=content)
        mocked.add("GET", re.compile(".*"), body=json.dumps({"text": text, "server_name": SERVER}))
        assert read_record(client) == Record()


@hostile
@given(st.dictionaries(NASTY, JSON, max_size=3), JSON)
def test_an_account_that_makes_no_sense_is_an_error_of_the_server(account: dict[str, Any], token: Any) -> None:
    user = {"name": "@a:example.org", "admin": False, "is_guest": False, "deactivated": False, **account}
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked, Client(BASE_URL, TOKEN) as client:
        mocked.add("GET", re.compile(".*/whoami"), json={"user_id": OPERATOR})
        mocked.add("GET", re.compile(".*/users"), body=json.dumps({"users": [user], "next_token": token}))
        with suppress(SynapseError):
            assert [account["name"] for account in accounts.list_users(client)] == ["@a:example.org"]


@hostile
@given(st.dictionaries(st.sampled_from(store.MILESTONES) | NASTY, JSON, max_size=5) | JSON)
def test_milestones_that_make_no_sense_are_none(milestones: Any) -> None:
    content = json.dumps({"server_name": "example.org", "milestones": milestones})
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked, Client(BASE_URL, TOKEN) as client:
        mocked.add("GET", re.compile(".*/whoami"), json={"user_id": OPERATOR})
        mocked.add("GET", re.compile(f".*/{account_data.ACCOUNT_DATA_TYPE}"), body=content)
        assert all(isinstance(time, int) and time is not True for time in store.read(client).values())
