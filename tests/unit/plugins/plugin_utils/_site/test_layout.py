# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import layout, media
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.site import Room, Site

ROOMS = (
    Room("!b:far.example", ("far.example",), ("#b:old.example",), "Room B"),
    Room("!a:far.example", ("far.example",), ("#a:old.example", "#A:old.example"), "Room A"),
)
SITE = Site("old.example", {"server_name": "old.example"}, ROOMS, 1_700_000_000, "b" * 32)
HOSTILE = "</p><script>alert(1)</script>\" onload='x' {{ 7 * 7 }} \u202e\x1b[31m&amp; \ud800"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = layout.site_path(str(tmp_path / "reports"), "old.example")
    layout.write(path, SITE)
    return path


def store(path: Path, media_id: str, content: bytes = b"png") -> None:
    media.store(layout.media_path(path), media_id, "image/png", io.BytesIO(content), len(content), SITE.boundary)


def files(path: Path) -> list[str]:
    return sorted(each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())


class Page(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(attrs)


def page(site: Site) -> str:
    return layout._page(site, layout.kept_rooms(site))


def test_the_directory_is_beside_the_certificate(tmp_path: Path) -> None:
    assert layout.site_path(str(tmp_path), "old.example") == tmp_path / "old.example-site"
    assert layout.site_path(str(tmp_path), "[::1]:8448").parent == tmp_path


def test_all_files(path: Path) -> None:
    assert files(path) == [
        "Caddyfile",
        "Caddyfile-aliases",
        "README.md",
        "nginx-aliases.conf",
        "nginx.conf",
        "site.json",
        "traefik.yml",
        "www/.well-known/matrix/server",
        "www/.well-known/matrix/support",
        "www/_matrix/federation/v1/version",
        "www/_matrix/key/v2/server",
        "www/index.html",
        "www/rooms/1.json",
        "www/rooms/2.json",
    ]
    assert json.loads((path / "www/_matrix/key/v2/server").read_text()) == SITE.key_answer
    assert json.loads((path / "www/rooms/1.json").read_text()) == {
        "room_id": "!a:far.example",
        "servers": ["far.example"],
    }
    assert {each.stat().st_mode & 0o777 for each in path.rglob("*")} == {0o700, 0o600}


@pytest.mark.parametrize("name", ["old.example:8448", "192.0.2.1", "[2001:db8::1]"])
def test_no_well_known_file_where_no_remote_server_requests_it(tmp_path: Path, name: str) -> None:
    layout.write(tmp_path, replace(SITE, server_name=name))
    assert not (tmp_path / "www/.well-known/matrix/server").exists()
    assert (tmp_path / "www/.well-known/matrix/support").exists()


def test_summary(path: Path) -> None:
    store(path, "a")
    store(path, "b", b"12")
    assert layout.write(path, SITE) == ["site.json"]
    assert layout.read_summary(path) == {
        "server_name": "old.example",
        "host": "old.example",
        "port": None,
        "created": 1_700_000_000,
        "boundary": "b" * 32,
        "rooms": 2,
        "aliases": 3,
        "media_files": 2,
        "media_bytes": 5,
        "sha256": layout.digest(path),
    }


def test_no_summary(tmp_path: Path) -> None:
    assert layout.read_summary(tmp_path) is None
    (tmp_path / "site.json").write_text("[]")
    with pytest.raises(ValueError, match="has no object"):
        layout.read_summary(tmp_path)


def test_a_second_run_changes_nothing(path: Path) -> None:
    times = {name: (path / name).stat().st_mtime_ns for name in files(path)}
    assert layout.changed(path, SITE) == layout.write(path, SITE) == []
    assert {name: (path / name).stat().st_mtime_ns for name in files(path)} == times


def test_changes(path: Path) -> None:
    store(path, "a")
    layout.write(path, SITE)
    site = replace(SITE, rooms=ROOMS[:1], text="Farewell")
    expected = [
        *("Caddyfile-aliases", "nginx-aliases.conf", "site.json", "www/index.html", "www/rooms/1.json"),
        "www/rooms/2.json",
    ]
    before = layout.digest(path)
    assert layout.changed(path, site) == expected
    assert layout.digest(path) == before
    assert layout.write(path, site) == expected
    assert [name for name in files(path) if "rooms/" in name or "media/" in name] == [
        "www/media/a.multipart",
        "www/media/a.png",
        "www/rooms/1.json",
    ]
    assert (layout.read_summary(path) or {})["sha256"] == layout.digest(path) != before


def test_a_file_that_somebody_changed_is_written_again(path: Path) -> None:
    (path / "www/rooms/1.json").write_text("{}")
    (path / "www/rooms/.2.json.new").write_text("{")
    assert layout.write(path, SITE) == ["www/rooms/.2.json.new", "www/rooms/1.json"]
    assert layout.changed(path, SITE) == []


def test_nothing_is_written_where_only_changes_are_asked_for(tmp_path: Path) -> None:
    assert "site.json" in layout.changed(tmp_path / "site", SITE)
    assert list(tmp_path.iterdir()) == []


def test_the_digest_is_what_the_readme_says(path: Path) -> None:
    store(path, "-a")
    layout.write(path, SITE)
    [command] = re.findall(r"^\$ (cd www .*)$", (path / "README.md").read_text(), re.MULTILINE)
    printed = subprocess.run(["bash", "-c", command], cwd=path, capture_output=True, text=True, check=True).stdout
    assert printed.split()[0] == layout.digest(path) == json.loads((path / "site.json").read_text())["sha256"]
    # Unfinished files are no part of the site.
    (path / "www/media/.b.png.new").touch()
    assert printed.split()[0] == layout.digest(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"operator": "The team"},
        {"text": "Farewell"},
        {"contact": "@admin:new.example"},
        {"contact": "admin@new.example"},
        {"contact": "https://new.example/"},
    ],
)
def test_the_page_shows_what_the_operator_chose(changes: dict[str, Any]) -> None:
    [value] = changes.values()
    assert value in page(replace(SITE, **changes)) and value not in page(SITE)
    assert "2023-11-14" in page(SITE)


def test_the_page_lists_rooms_only_if_asked() -> None:
    hidden, shown = page(SITE), page(replace(SITE, list_rooms=True))
    for text in ("Room A", "#a:old.example", "#A:old.example", "Room B", "#b:old.example"):
        assert text in shown and text not in hidden
    assert "!a:far.example" not in shown and "far.example" not in shown
    assert "no longer work" in page(replace(SITE, rooms=())) and "no longer work" not in hidden


def test_the_page_is_safe() -> None:
    rooms = (Room("!a:b", ("b",), (f"#{HOSTILE.replace(':', '')[:60]}:old.example",), HOSTILE),)
    site = replace(SITE, rooms=rooms, operator=HOSTILE, text=HOSTILE, list_rooms=True)
    harmless = replace(SITE, rooms=(replace(rooms[0], name="x"),), operator="x", text="x", list_rooms=True)
    text = page(site)
    assert Page(text).tags == Page(page(harmless)).tags
    assert Page(text).attributes == Page(page(harmless)).attributes
    assert not re.search("[\u202e\x1b\ud800]", text) and "49" not in text
    assert not {"script", "link", "img", "iframe"} & Page(text).tags
    assert not [value for name, value in Page(text).attributes if name in ("src", "href")]
    assert "matrix.to" not in text
    found = Page(page(replace(SITE, contact="https://new.example/?a&b='")))
    assert [value for name, value in found.attributes if name == "href"] == ["https://new.example/?a&b='"]


def test_hostile_names_only_get_into_answers(tmp_path: Path) -> None:
    """No configuration, no path and no README has them."""
    rooms = (Room("!{env.X}$uri`;", ("b",), ('#"; }\n{$HOME} `$uri:old.example',), "{env.X} $uri `"),)
    site = replace(SITE, rooms=rooms, operator="{env.X} $uri `", text="{env.X} $uri `")
    layout.write(tmp_path, site)
    layout.write(tmp_path / "plain", replace(SITE, rooms=(replace(rooms[0], aliases=("#a:old.example",)),)))
    for name in ("nginx.conf", "Caddyfile", "traefik.yml", "README.md"):
        assert (tmp_path / name).read_text() == (tmp_path / "plain" / name).read_text()
    assert (tmp_path / "nginx-aliases.conf").read_text() == (
        '"%23%22%3B+%7D%0A%7B%24HOME%7D+%60%24uri%3Aold.example" 1;\n'
    )


def test_a_digest_of_nothing(tmp_path: Path) -> None:
    assert layout.digest(tmp_path) == hashlib.sha256().hexdigest()
