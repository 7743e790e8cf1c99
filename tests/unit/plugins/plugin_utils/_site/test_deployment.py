# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.names import spellings as checked
from ansible_collections.matrixops.synapse.plugins.module_utils._site_release import TASK_OPTIONS
from ansible_collections.matrixops.synapse.plugins.modules import site_deployment as module
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import aliases, deployment, layout, media
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.deployment import read_site
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.site import Room, Site
from ansible_collections.matrixops.synapse.tests.stubs.helpers import SERVER

BOUNDARY = "0123456789abcdef"
KEYS = {"verify_keys": {"ed25519:new": {}}, "old_verify_keys": {"ed25519:old": {}}}
TLS = {"tls_certificate": "/etc/ssl/a.pem", "tls_certificate_key": "/etc/ssl/a.key"}
HOSTILE = "#\n\"{{ 1 }};'/../~*:" + SERVER


def write(directory: Path, *names: str, number_of_media: int = 2, server_name: str = SERVER) -> Path:
    """A site with a room for each alias."""
    path = layout.site_path(str(directory), server_name)
    for number in range(number_of_media):
        media.store(layout.media_path(path), f"m{number}", "image/png", io.BytesIO(bytes(number)), number, BOUNDARY)
    rooms = tuple(Room(f"!{number:02}:x", ("b.example",), (name,)) for number, name in enumerate(names))
    layout.write(path, Site(server_name, KEYS, rooms, 1, BOUNDARY))
    return path


def options(**more: Any) -> dict[str, Any]:
    defaults = {name: option.get("default") for name, option in TASK_OPTIONS.items()}
    return {**defaults, "directory": "x", **TLS, **more}


def test_the_options_are_those_of_the_module() -> None:
    internal = {"release", "size", "number_of_files", "archive", "files", "test", "reload"}
    assert {name: option for name, option in module.OPTIONS.items() if name not in internal} == TASK_OPTIONS
    assert internal < set(module.OPTIONS)


def test_a_site(tmp_path: Path) -> None:
    path = write(tmp_path, f"#lounge:{SERVER}", HOSTILE)
    site = read_site(str(path), SERVER, 20)
    assert site.aliases == {f"#lounge:{SERVER}": "!00:x", HOSTILE: "!01:x"} and site.media == {"m0": 0, "m1": 1}
    assert site.name == path.name == f"{SERVER}-site"
    found = deployment.described(site, options())
    assert found == {
        "server_name": SERVER,
        "path": f"/var/lib/matrix-site/{SERVER}-site",
        "sha256": layout.digest(path),
        "key_id": "ed25519:new",
        "log_path": f"/var/log/nginx/{SERVER}-site-transactions.log",
        "created": 1,
        "rooms": 2,
        "aliases": 2,
        "media_files": 2,
        "media_bytes": 1,
        "sample_aliases": [{"alias": f"#lounge:{SERVER}", "room_id": "!00:x"}, {"alias": HOSTILE, "room_id": "!01:x"}],
        "sample_media": [{"media_id": "m0", "length": 0}, {"media_id": "m1", "length": 1}],
    }
    assert deployment.described(site, options(web_server="none"))["log_path"] is None
    assert deployment.described(site, options(web_server="none", log_path="/x"))["log_path"] == "/x"


def test_a_site_without_aliases_and_media(tmp_path: Path) -> None:
    site = read_site(str(write(tmp_path, number_of_media=0)), None, 20)
    assert (site.aliases, site.media) == ({}, {})


def test_a_sample(tmp_path: Path) -> None:
    path = write(tmp_path, *(f"#{number:02}~:{SERVER}" for number in range(40)), number_of_media=10)
    site = read_site(str(path), None, 4)
    assert list(site.aliases) == [f"#{number:02}~:{SERVER}" for number in (0, 10, 20, 30)]
    assert list(site.media) == ["m0", "m2", "m5", "m7"]


def test_the_spellings_are_those_that_are_checked() -> None:
    for alias in (HOSTILE, f"#a:{SERVER}", f"#é ~*%+:{SERVER}"):
        served = [line.split()[0] for line in aliases.caddy_lines([Room("!r:x", ("b.example",), (alias,))])]
        assert tuple(checked(alias)) == tuple(served[1:])


def test_the_release_depends_on_all_files(tmp_path: Path) -> None:
    """An alias of a room is in no file below www/."""
    path = write(tmp_path, f"#a:{SERVER}")
    first = read_site(str(path), None, 1)
    assert read_site(str(path), None, 1).release == first.release
    layout.write(path, Site(SERVER, KEYS, (Room("!00:x", ("b.example",), (f"#b:{SERVER}",)),), 1, BOUNDARY))
    second = read_site(str(path), None, 1)
    assert (second.summary["sha256"], second.release != first.release) == (first.summary["sha256"], True)


def test_what_is_no_site(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "empty").mkdir()
    for directory in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(ValueError, match=r"has no site\.json: set site_directory to a directory"):
            read_site(str(directory), None, 1)
    with pytest.raises(ValueError, match=r"is the site of example\.org, not of b\.example: correct site_directory"):
        read_site(str(path), "b.example", 1)
    (path / "site.json").write_text("[]")
    with pytest.raises(ValueError, match="has no object"):
        read_site(str(path), None, 1)


@pytest.mark.parametrize("name", ["index.html", "new.html", "media/m0.png"])
def test_a_site_that_was_changed(tmp_path: Path, name: str) -> None:
    path = write(tmp_path)
    (path / "www" / name).write_text("owned")
    with pytest.raises(ValueError, match=r"differ from the digest in site\.json: they were changed later") as error:
        read_site(str(path), None, 1)
    # Its advice.
    digest = str(error.value).rpartition(' to "')[2].partition('"')[0]
    (path / "site.json").write_text(json.dumps({**(layout.read_summary(path) or {}), "sha256": digest}))
    read_site(str(path), None, 1)


def test_a_site_whose_summary_was_changed(tmp_path: Path) -> None:
    """The configuration is made of it."""
    path = write(tmp_path)
    summary = layout.read_summary(path) or {}
    for change in ({"server_name": "a b;"}, {"boundary": '"; }'}):
        (path / "site.json").write_text(json.dumps({**summary, **change}))
        with pytest.raises(ValueError, match=r"not valid|is not a server name|boundary must"):
            deployment.module_options(read_site(str(path), None, 1), options())


def test_an_archive(tmp_path: Path) -> None:
    """It has all files that are published, and what the web server needs; nothing else, and no names of people."""
    path = write(tmp_path, f"#a:{SERVER}")
    (path / "www/media/.m9.png.new").write_text("unfinished")
    (path / "signing.key").write_text("secret")
    site = read_site(str(path), None, 1)
    with (tmp_path / "archive").open("wb") as file:
        deployment.write_archive(site, file)
    with tarfile.open(str(tmp_path / "archive")) as archive:
        entries = archive.getmembers()
    published = {file.relative_to(path).as_posix() for file in (path / "www").rglob("*") if file.is_file()}
    own = {"site.json", "nginx-aliases.conf", "Caddyfile-aliases"}
    assert {entry.name for entry in entries} == own | published - {"www/media/.m9.png.new"}
    assert {(entry.uid, entry.uname, entry.mtime) for entry in entries} == {(0, "", 0)}
    assert (site.number_of_files, site.size) == (len(entries), sum(entry.size for entry in entries))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path = write(tmp_path)
    os.symlink("/etc/passwd", str(path / "www/link"))
    (path / "site.json").write_text(json.dumps({**(layout.read_summary(path) or {}), "sha256": layout.digest(path)}))
    with pytest.raises(ValueError, match="link is neither a file nor a directory: remove it"):
        read_site(str(path), None, 1)


def test_nginx(tmp_path: Path) -> None:
    site = read_site(str(write(tmp_path)), None, 1)
    found = deployment.module_options(site, options(acme_webroot="/var/www/acme"))
    root = f"/var/lib/matrix-site/{SERVER}-site"
    assert found["path"] == root and found["test"] and found["reload"]
    ((path, text),) = found["files"].items()
    assert path == f"/etc/nginx/conf.d/00-{SERVER}-site.conf"
    for part in (f"root {root}/current/www;", f"include {root}/current/nginx-aliases.conf;", "map_hash_max_size"):
        assert part in text
    assert "ssl_certificate /etc/ssl/a.pem;" in text and "ssl_certificate_key /etc/ssl/a.key;" in text
    assert "listen [::]:80;" in text and "root /var/www/acme;" in text

    more = {"map_hash": False, "listen_addresses": ["192.0.2.1", "2001:db8::1"], "log_path": "/log", "path": "/srv/"}
    ((_path, text),) = deployment.module_options(site, options(acme_webroot="/a", **more))["files"].items()
    assert "map_hash_max_size" not in text and "access_log /log " in text and f"root /srv/{SERVER}-site/current" in text
    listens = [line.strip() for line in text.splitlines() if line.strip().startswith("listen")]
    assert listens == [f"listen {host}:{port};" for port in ("443 ssl", 80) for host in ("192.0.2.1", "[2001:db8::1]")]


def test_another_web_server(tmp_path: Path) -> None:
    site = read_site(str(write(tmp_path)), None, 1)
    found = deployment.module_options(site, options(web_server="none"))
    root = f"/var/lib/matrix-site/{SERVER}-site"
    assert list(found["files"]) == [f"{root}/Caddyfile", f"{root}/nginx.conf"] and not found["test"] + found["reload"]
    assert f"root * {root}/current/www" in found["files"][f"{root}/Caddyfile"]
    without = deployment.module_options(site, {**options(web_server="none"), **dict.fromkeys(TLS)})
    assert list(without["files"]) == [f"{root}/Caddyfile"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tls_certificate": None}, "nginx needs a certificate: set site_tls_certificate"),
        ({"acme_webroot": "/a b"}, "acme_webroot is '/a b': set it to an absolute path"),
        ({"path": "relative"}, "path is 'relative'"),
        ({"log_path": "/x;"}, "log_path is '/x;'"),
        ({"tls_certificate": "/x\n"}, "tls_certificate is"),
        ({"listen_addresses": ["0.0.0.0; }"]}, "does not appear to be an IPv4 or IPv6 address"),
    ],
)
def test_what_gets_into_no_configuration(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    site = read_site(str(write(tmp_path)), None, 1)
    with pytest.raises(ValueError, match=message.replace("{", "[{]")):
        deployment.module_options(site, options(**more))
