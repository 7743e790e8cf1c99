# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import re

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import InvalidNameError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.names import (
    MAX_SERVER_NAME,
    ServerName,
    check_event_id,
    check_room_id,
    check_user_id,
    is_room_id,
    is_user_id,
    server_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "host", "port", "is_literal"),
    [
        ("example.org", "example.org", None, False),
        ("Example.ORG", "Example.ORG", None, False),
        ("example.org.", "example.org.", None, False),
        ("localhost:8448", "localhost", 8448, False),
        ("example.org:08448", "example.org", 8448, False),
        ("example.org:1", "example.org", 1, False),
        ("example.org:65535", "example.org", 65535, False),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", None, False),
        ("-a.b-.example", "-a.b-.example", None, False),
        ("1.2.3.4.example", "1.2.3.4.example", None, False),
        ("192.0.2.1", "192.0.2.1", None, True),
        ("192.0.2.1:443", "192.0.2.1", 443, True),
        ("[2001:db8::1]", "2001:db8::1", None, True),
        ("[2001:db8::1]:8448", "2001:db8::1", 8448, True),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1", None, True),
        ("[::]", "::", None, True),
        ("a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 38, None, None, False),
    ],
)
def test_server_names(text: str, host: str | None, port: int | None, is_literal: bool) -> None:
    name = ServerName.parse(text)
    assert (name.host, name.port, name.is_literal) == (host or text, port, is_literal)
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        ":8448",
        "example.org:",
        "example.org:0",
        "example.org:65536",
        "example.org:123456",
        "example.org:-1",
        "example.org:+1",
        "example.org: 1",
        "example.org:8448:8448",
        "example.org:٣",
        "example..org",
        ".example.org",
        "example.org..",
        "a" * 64 + ".example",
        "a." * 115 + "a",
        "exa mple.org",
        " example.org",
        "example.org ",
        "example.org\n",
        "example.org\x00",
        "example_.org",
        "example.org/path",
        "example.org?query",
        "example.org#fragment",
        "user@example.org",
        "user:password@example.org",
        "https://example.org",
        "//example.org",
        "\\example.org",
        "bücher.example",
        "example。org",
        "ex\u0430mple.org",
        "%65xample.org",
        "127.1",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0X7f.1",
        "127.0.0.0x1",
        "127.0.0.0x",
        "127.0.0.1.",
        "256.0.0.1",
        "127.0.0.01",
        "1.2.3.4.5",
        "::1",
        "2001:db8::1",
        "[::1",
        "::1]",
        "[]",
        "[:]",
        "[1]",
        "[127.0.0.1]",
        "[::1%lo]",
        "[fe80::1%25eth0]",
        "[::1]8448",
        "[[::1]]",
        "[:::]",
        "[1:2:3:4:5:6:7:8:9]",
        "[example.org]",
        "[v1.x]",
        "{{ lookup }}",
        "../../etc/passwd",
        "$(id)",
        "\u202eexample.org",
    ],
)
def test_what_is_not_a_server_name(text: str) -> None:
    with pytest.raises(InvalidNameError, match="is not a server name"):
        ServerName.parse(text)


@pytest.mark.parametrize("value", [None, 1, b"example.org", ["example.org"], {}])
def test_a_server_name_of_another_type(value: object) -> None:
    with pytest.raises(InvalidNameError, match="is not a server name"):
        ServerName.parse(value)  # type: ignore[arg-type]


def test_a_long_invalid_name_is_quoted_in_part() -> None:
    with pytest.raises(InvalidNameError) as caught:
        ServerName.parse("a" * 10_000_000)
    assert str(caught.value) == f"'{'a' * 80}…' is not a server name"


@settings(derandomize=True, max_examples=500)
@given(st.one_of(st.text(max_size=260), st.text("ab1.:[]-%x0F", max_size=40)))
def test_any_text_is_parsed_to_something_safe_or_refused(text: str) -> None:
    try:
        name = ServerName.parse(text)
    except InvalidNameError:
        return
    assert str(name) == text
    assert len(text) <= MAX_SERVER_NAME
    assert re.fullmatch(r"[0-9A-Za-z.:\[\]-]+", text)
    assert name.port is None or 0 < name.port < 65536
    if name.is_literal:
        ipaddress.ip_address(name.host)
    else:
        # Python encodes a name before it resolves it, which must not fail.
        assert name.host.encode("idna")
        with pytest.raises(ValueError, match="address"):
            ipaddress.ip_address(name.host)


@settings(derandomize=True)
@given(st.ip_addresses(), st.one_of(st.none(), st.integers(1, 65535)))
def test_every_ip_address_is_a_literal(address: ipaddress.IPv4Address, port: int | None) -> None:
    host = str(address) if address.version == 4 else f"[{address}]"
    name = ServerName.parse(host if port is None else f"{host}:{port}")
    assert (name.host, name.port, name.is_literal) == (str(address), port, True)


@pytest.mark.parametrize(
    "user_id",
    [
        "@alice:example.org",
        "@:example.org",
        "@Alice Ünïcode!/=:example.org",
        "@" + "a" * 242 + ":example.org",
    ],
)
def test_user_ids(user_id: str) -> None:
    assert check_user_id(user_id, "example.org") == user_id


@pytest.mark.parametrize(
    "user_id",
    [
        "alice:example.org",
        "@alice",
        "@alice:Example.org",
        "@alice:example.org:8448",
        "@alice:evil.example:example.org",
        "@alice:example.org ",
        "@al\x00ice:example.org",
        "@al\nice:example.org",
        "@al\u202eice:example.org",
        "@al\ud800ice:example.org",
        "@" + "a" * 243 + ":example.org",
        "@" + "ü" * 125 + ":example.org",
        "",
        "@",
        None,
        ["@alice:example.org"],
    ],
)
def test_what_is_not_a_user_id_of_the_server(user_id: object) -> None:
    with pytest.raises(InvalidNameError, match="is not a user ID"):
        check_user_id(user_id, "example.org")


@pytest.mark.parametrize(
    "text", ["", "alice", "@alice", "@:", "@alice:no server", "@alice:example.org:0", "!a:example.org"]
)
def test_what_is_not_a_user_id(text: str) -> None:
    assert is_user_id("@alice:example.org:8448")
    assert not is_user_id(text)


def test_a_user_id_of_a_server_with_a_port() -> None:
    assert check_user_id("@alice:example.org:8448", "example.org:8448")
    assert server_of("@alice:example.org:8448") == "example.org:8448"
    assert server_of("@alice:[::1]:8448") == "[::1]:8448"


@pytest.mark.parametrize("room_id", ["!room:example.org", "!" + "a" * 43, "!" + "a" * 254])
def test_room_ids(room_id: str) -> None:
    assert check_room_id(room_id) == room_id
    assert is_room_id(room_id)


@pytest.mark.parametrize("room_id", ["#room:example.org", "!", "", "!a\tb", "!" + "a" * 255, "!\x7f", 1, None])
def test_what_is_not_a_room_id(room_id: object) -> None:
    with pytest.raises(InvalidNameError, match="is not a room ID"):
        check_room_id(room_id)
    assert not isinstance(room_id, str) or not is_room_id(room_id)


@pytest.mark.parametrize("event_id", ["$event:example.org", "$" + "a" * 43, "$a/b+c"])
def test_event_ids(event_id: str) -> None:
    assert check_event_id(event_id) == event_id


@pytest.mark.parametrize("event_id", ["event", "$", "", "$\x1b[2J", "$" + "a" * 255, ["$a"], None])
def test_what_is_not_an_event_id(event_id: object) -> None:
    with pytest.raises(InvalidNameError, match="is not an event ID"):
        check_event_id(event_id)
