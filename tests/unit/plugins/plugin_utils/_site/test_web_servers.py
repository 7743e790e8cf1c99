# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.web_servers import (
    Paths,
    caddy_paths,
    caddyfile,
    nginx_conf,
    nginx_paths,
    traefik_yml,
)

SUMMARY = {"server_name": "old.example", "boundary": "b" * 32}


def named(server_name: str) -> dict[str, Any]:
    return {**SUMMARY, "server_name": server_name}


def lines(text: str, word: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith(word)]


def test_default_paths() -> None:
    text = nginx_conf(SUMMARY)
    for path in (
        "/etc/nginx/old.example-site/nginx-aliases.conf",
        "/var/www/old.example-site",
        "/var/log/nginx/old.example-site-transactions.log",
        "/etc/ssl/old.example-site/fullchain.pem",
        "/etc/ssl/old.example-site/privkey.pem",
    ):
        assert path in text
    text = caddyfile(SUMMARY)
    for path in (
        "/etc/caddy/old.example-site/Caddyfile-aliases",
        "/var/www/old.example-site",
        "/var/log/caddy/old.example-site-transactions.log",
    ):
        assert path in text
    assert lines(text, "tls ") == []


def test_other_paths() -> None:
    paths = Paths(
        www="/srv/www",
        aliases_file="/srv/aliases",
        log_file="/srv/log",
        ports=(18443,),
        certificate="/srv/tls.crt",
        certificate_key="/srv/tls.key",
        addresses=("127.0.0.1", "::1"),
    )
    text = nginx_conf(SUMMARY, paths)
    assert lines(text, "listen") == ["listen 127.0.0.1:18443 ssl;", "listen [::1]:18443 ssl;"]
    assert lines(text, "ssl_certificate") == ["ssl_certificate /srv/tls.crt;", "ssl_certificate_key /srv/tls.key;"]
    assert lines(text, "root") == ["root /srv/www;"]
    text = caddyfile(SUMMARY, paths)
    assert lines(text, "https://") == ["https://old.example:18443 {"]
    assert lines(text, "bind") == ["bind 127.0.0.1 ::1"]
    assert lines(text, "tls ") == ["tls /srv/tls.crt /srv/tls.key"]


@pytest.mark.parametrize(
    ("name", "listen", "addresses"),
    [
        ("old.example", ["443"], "https://old.example {"),
        ("old.example:8448", ["8448", "443"], "https://old.example:8448, https://old.example {"),
        ("old.example:443", ["443"], "https://old.example {"),
        ("192.0.2.1", ["8448", "443"], "https://192.0.2.1:8448, https://192.0.2.1 {"),
        ("[2001:db8::1]:8449", ["8449", "443"], "https://[2001:db8::1]:8449, https://[2001:db8::1] {"),
    ],
)
def test_ports(name: str, listen: list[str], addresses: str) -> None:
    expected = [each for port in listen for each in (f"listen {port} ssl;", f"listen [::]:{port} ssl;")]
    assert lines(nginx_conf(named(name)), "listen") == expected
    assert lines(caddyfile(named(name)), "https://") == [addresses]


def test_without_tls() -> None:
    """Behind Traefik."""
    paths = replace(nginx_paths("old.example"), tls=False, ports=(8080,), addresses=("127.0.0.1",))
    text = nginx_conf(SUMMARY, paths)
    assert lines(text, "listen") == ["listen 127.0.0.1:8080;"] and lines(text, "ssl_") == []
    assert lines(caddyfile(SUMMARY, paths), "http") == ["http://:8080 {"]


def test_nginx_needs_a_certificate() -> None:
    with pytest.raises(ValueError, match="certificate"):
        nginx_conf(SUMMARY, caddy_paths("old.example"))


def test_several_sites_in_one_nginx() -> None:
    """Variables and formats of logs are global, and the size of hashes may be set once."""
    first = nginx_conf(SUMMARY)
    second = nginx_conf(named("older.example"), replace(nginx_paths("older.example"), map_hash=False))
    assert len(lines(first, "map_hash")) == 2 and lines(second, "map_hash") == []
    for word in ("log_format", "map "):
        variables = [
            {line.split()[1 if word == "log_format" else -2] for line in lines(each, word)} for each in (first, second)
        ]
        assert len(variables[0]) in (1, 4) and variables[0].isdisjoint(variables[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"www": "relative"},
        {"www": "/srv/a b"},
        {"aliases_file": "/srv/a;"},
        {"log_file": "/srv/$a"},
        {"certificate": "/srv/{env.X}"},
        {"certificate_key": "/srv/a\n"},
        {"addresses": ("localhost",)},
        {"ports": ()},
        {"ports": (0,)},
        {"ports": (65536,)},
    ],
)
def test_invalid_paths(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|not appear|not ports"):
        replace(nginx_paths("old.example"), **changes)


@pytest.mark.parametrize("changes", [{"server_name": 'a"; }'}, {"server_name": "a b"}, {"boundary": 'x"; }' * 9}])
def test_invalid_summaries(changes: dict[str, Any]) -> None:
    for render in (nginx_conf, caddyfile, traefik_yml):
        with pytest.raises(ValueError, match=r"boundary|not a server name"):
            render({**SUMMARY, **changes})


@pytest.mark.parametrize("name", ["old.example", "[2001:db8::1]:8449"])
def test_traefik(name: str) -> None:
    text = traefik_yml(named(name))
    found = yaml.safe_load(text)["http"]
    [router] = found["routers"].values()
    assert router["rule"] == f"Host(`{'old.example' if name == 'old.example' else '[2001:db8::1]'}`)"
    assert list(found["services"]) == [router["service"]]
    assert ("entry point of port 8449" in text) == (name != "old.example")
