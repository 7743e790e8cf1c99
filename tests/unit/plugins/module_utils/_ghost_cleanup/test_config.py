# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.config import (
    MAX_SIZE,
    Address,
    Config,
    ConfigError,
    parse_config,
    read_config,
)

REQUIRED = {
    "server_name": "gone.example",
    "signing_key_path": "/etc/ghosts/signing.key",
    "key_answer_path": "/etc/ghosts/key.json",
    "state_path": "/var/lib/ghosts/state.db",
}


def test_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(REQUIRED))
    config = read_config(str(path))
    assert config == Config(**REQUIRED)
    assert (config.listen, config.status_listen, config.max_rate) == (("127.0.0.1:8448",), "127.0.0.1:8449", 8)


def test_all_kinds_of_values() -> None:
    config = parse_config(
        {
            **REQUIRED,
            "servers": ["b.example", "c.example:8449", "b.example"],
            "rooms_paths": ["/etc/ghosts/rooms.json"],
            "site_path": "/srv/www",
            "listen": ["192.0.2.1:443", "[::]:443"],
            "tls_certificate": "/etc/tls.crt",
            "tls_certificate_key": "/etc/tls.key",
            "status_listen": None,
            "proxy": "http://user:secret@proxy.example:3128",
            "ip_allowlist": ["10.0.0.0/8"],
            "max_rate": 3,
        }
    )
    assert config.servers == ("b.example", "c.example:8449")
    assert [Address.parse(text) for text in config.listen] == [("192.0.2.1", 443), ("::", 443)]
    assert (config.status_listen, config.max_rate) == (None, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"server_nam": "gone.example"}, "server_nam: no such key"),
        ({"server_name": None}, "server_name is not a string"),
        ({"server_name": "no name"}, "server_name: 'no name' is not a server name"),
        ({"servers": ["b.example", "127.1"]}, "servers: '127.1' is not a server name"),
        ({"servers": ["gone.example"]}, "servers: gone.example is server_name itself"),
        ({"servers": "b.example"}, "servers is not a list of strings"),
        ({"servers": [1]}, "servers is not a list of strings"),
        ({"state_path": "state.db"}, "state_path: state.db is not an absolute path"),
        ({"rooms_paths": ["rooms.json"]}, "rooms_paths: rooms.json is not an absolute path"),
        ({"site_path": "www"}, "site_path: www is not an absolute path"),
        ({"tls_certificate": "tls.crt", "tls_certificate_key": "/tls.key"}, "tls_certificate: tls.crt"),
        ({"tls_certificate": "/tls.crt"}, "set both, or none of them"),
        ({"listen": []}, "listen is empty"),
        ({"listen": ["localhost:8448"]}, "listen: 'localhost:8448' is not an address and a port"),
        ({"listen": ["127.0.0.1:0"]}, "listen: '127.0.0.1:0' is not an address and a port"),
        ({"listen": ["999.0.0.1:80"]}, "listen: '999.0.0.1'"),
        ({"status_listen": "0.0.0.0:8449"}, "status_listen: 0.0.0.0 is no loopback address"),
        ({"status_listen": "127.0.0.1:8448"}, "status_listen: 127.0.0.1:8448 is in listen as well"),
        ({"ip_allowlist": ["here"]}, "ip_allowlist: .*here"),
        ({"proxy": "socks://secret"}, "proxy: set it to a URL"),
        ({"max_rate": 0}, "max_rate is 0: set it to an integer, 1 or more"),
        ({"max_rate": True}, "max_rate is true"),
        ({"timeout": 1.5}, "timeout is 1.5"),
        ({"quiet_days": "30"}, 'quiet_days is "30"'),
    ],
    ids=str,
)
def test_mistakes(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        parse_config({**REQUIRED, **change})
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} is missing"):
        parse_config({name: value for name, value in REQUIRED.items() if name != key})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "is not a JSON object"),
        (" " * (MAX_SIZE + 1), "has more than"),
    ],
    ids=["broken", "deep", "list", "large"],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(str(path))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read: No such file or directory: set --config"):
        read_config(str(tmp_path / "none.json"))
